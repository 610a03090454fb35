"""LeNet-5 as the Caffe examples define it and SNIP prunes it (Lee et al. 2019, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

#: Channels of the two convolutions and units of the hidden linear layer.
WIDTHS = (20, 50, 500)

#: Twice a 5x5 convolution without padding and a maximum over 2x2 must leave one pixel.
SMALLEST = 16


class LeNet5(nn.Module):
    """Two 5x5 convolutions, each followed by a maximum over 2x2 pixels, and two linear layers.

    The only ReLU is behind the first linear layer, as in Caffe's network and SNIP's public code. With an image
    of 1x28x28 and 10 classes it has 430,500 weights.

    Args:
        input_shape: (C, H, W), at least 16 pixels high and wide.
        classes: the number of logits.
        widths: channels of the convolutions and units of the hidden layer; the papers' are in `WIDTHS`.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        in_channels, height, width = input_shape
        self.conv1 = nn.Conv2d(in_channels, widths[0], 5)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5)
        self.fc1 = nn.Linear(widths[1] * _pixels_left(height) * _pixels_left(width), widths[2])
        self.fc2 = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        logits: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return logits


def _pixels_left(side: int) -> int:
    """How many pixels of a side two convolutions and two maxima leave: 28 to 24, 12, 8, 4."""
    return ((side - 4) // 2 - 4) // 2
