"""Networks of linear layers: a small MLP, and LeNet-300-100 (LeCun et al. 1998)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

#: The small MLP: three hidden layers of one width, so that its layers can be compared with each other.
MLP_HIDDEN = (128, 128, 128)

#: LeNet-300-100: 266,200 weights for an image of 1x28x28 and 10 classes.
LENET_300_100_HIDDEN = (300, 100)


class MLP(nn.Module):
    """Linear layers fc1, fc2, ... with ReLU between them, on the flattened image.

    Args:
        input_shape: (C, H, W).
        hidden: units of the hidden layers.
        classes: the number of logits.
    """

    def __init__(self, input_shape: tuple[int, int, int], hidden: Sequence[int], classes: int) -> None:
        super().__init__()
        sizes = [math.prod(input_shape), *hidden, classes]
        self.names = [f"fc{layer}" for layer in range(1, len(sizes))]
        for name, size_in, size_out in zip(self.names, sizes[:-1], sizes[1:], strict=True):
            self.add_module(name, nn.Linear(size_in, size_out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        x = x.flatten(1)
        for name in self.names[:-1]:
            x = F.relu(self.get_submodule(name)(x))
        logits: Tensor = self.get_submodule(self.names[-1])(x)
        return logits
