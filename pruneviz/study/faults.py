"""Faults of a machine: they end the process, and no cell has failed by them."""

from __future__ import annotations

import torch

from pruneviz.errors import InputError
from pruneviz.study.cell import Cell


class MissingData(InputError):
    """A data set that is missing or damaged."""


class LostDevice(OSError):
    """An accelerator that refuses all further work of this process, whichever cell it is for."""

    def __init__(self, cell: Cell, error: Exception) -> None:
        reason = str(error).partition("\n")[0]
        super().__init__(
            f"the GPU does no more work for this process since {cell.label}: {reason}; the cells left are not failed "
            "but missing, and the same command computes them"
        )


def is_lost(error: Exception) -> bool:
    """Whether the error is one of the accelerator that all later calls of the process repeat.

    One that is full is not lost. Its own error is `torch.OutOfMemoryError` where PyTorch's allocator raises it, and
    an `AcceleratorError` like any other where the driver does.
    """
    return isinstance(error, torch.AcceleratorError) and "out of memory" not in str(error)
