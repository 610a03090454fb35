"""Class-balanced splits: who trains, who validates, in which order a class is drawn from."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from pruneviz.errors import InputError, check_seed


def split(y: Tensor, fraction: float, validation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Choose which images train and which validate: the same shares of every class.

    The validation part does not depend on `fraction`, and the train part of a smaller fraction is a subset of that
    of a larger one.

    Args:
        y: (N,) int64 labels, on the CPU.
        fraction: the share that trains, of what the validation part leaves; 0 < fraction <= 1.
        validation: the share set aside first; 0 <= validation < 1. Every class keeps at least one train image.
        seed: of the draw.

    Returns:
        Two (N,) boolean masks that do not overlap: train, validation.

    Raises:
        InputError: for a share or a seed that cannot be used.
    """
    if not (_is_number(fraction) and 0 < fraction <= 1):
        raise InputError(f"fraction {fraction!r} is not accepted: give a number with 0 < fraction <= 1")
    if not (_is_number(validation) and 0 <= validation < 1):
        raise InputError(f"validation {validation!r} is not accepted: give a number with 0 <= validation < 1")
    counts = torch.bincount(y).double()
    # At least one train image of a class, however small its share: nobody learns a class that was never seen.
    aside = torch.minimum((counts * validation).round(), (counts - 1).clamp(min=0))
    kept = ((counts - aside) * fraction).round().clamp(min=1)
    rank = rank_in_class(y, torch.Generator().manual_seed(check_seed(seed)))
    return (rank >= aside[y]) & (rank < (aside + kept)[y]), rank < aside[y]


def rank_in_class(y: Tensor, generator: torch.Generator) -> Tensor:
    """Shuffle every class on its own: the place of each image, from 0, among the images of its class.

    Args:
        y: (N,) int64 labels, on the CPU.
        generator: the source of the draw, on the CPU.

    Returns:
        (N,) int64. The images with rank < k are k random ones of every class.
    """
    order = torch.randperm(len(y), generator=generator, device=y.device)
    order = order[torch.argsort(y[order], stable=True)]
    counts = torch.bincount(y)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(y), device=y.device) - starts[y[order]]
    return rank


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
