"""Losses beyond those of PyTorch, for `Problem(model, batches, loss=...)`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import InputError


def uniform_cross_entropy(output: Tensor, target: Any = None) -> Tensor:
    r"""Cross entropy to the uniform distribution over the classes: pruning without labels (Lee et al. 2020).

    $$ \ell(f) = -\frac{1}{C} \sum_{c=1}^{C} \log \operatorname{softmax}(f)_c \;\ge\; \log C $$

    averaged over the batch, and over all positions where the output has more dimensions. It is log C for a network that
    prefers no class, so its gradient is that of what the network prefers before it has seen a label.

    Args:
        output: logits of shape (N, C) or (N, C, ...), as for cross entropy; (C,) for one example.
        target: ignored, and may be None: batches are then `(x, None)`.

    Raises:
        InputError: an output that is no tensor of logits.
    """
    if not isinstance(output, Tensor) or output.dim() == 0:
        received = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"the output is {received}; uniform_cross_entropy needs logits of shape (N, C) or (N, C, ...)")
    return -F.log_softmax(output, dim=min(1, output.dim() - 1)).mean()
