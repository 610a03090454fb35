"""What is kept of a cell that raised, and the faults of a machine, which end the process and by which no cell fails."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

from pruneviz.errors import InputError
from pruneviz.files import write_atomically
from pruneviz.study import record
from pruneviz.study.cell import Cell
from pruneviz.study.status import failure

Version = tuple[int, int] | None
"""Which of all the files that a cell's `.error` has been, one after the other; None while there is none."""


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


def keep(store: Path, cell: Cell, error: Exception) -> str:
    """Write the cell's `.error`; returns the error's type and message."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    text = f"{cell.label}: {reason}\n{cell.as_dict()}\n\n{''.join(traceback.format_exception(error))}"
    write_atomically(record.error_path(store, cell.hash), text.encode())
    return reason


def version(store: Path, cell: Cell) -> Version:
    """The version of the cell's `.error`; no clock is asked, for machines that share a folder differ in theirs."""
    try:
        found = record.error_path(store, cell.hash).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def kept_since(store: Path, cell: Cell, before: Version) -> str | None:
    """The type and message of the error that was kept since the version `before`; None if none was."""
    first_line = failure(store, cell) if version(store, cell) != before else None
    return None if first_line is None else first_line.removeprefix(f"{cell.label}: ")
