"""What a record says of a data set that is a folder of images, which nobody but its owner knows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruneviz.data import ImageData
from pruneviz.folders import parts_of
from pruneviz.sources import data_root, source_of


def describe(name: str, data: ImageData) -> dict[str, Any]:
    """The summary that stands in a record's environment; nothing for a data set that is no folder.

    Args:
        name: of the data set, as `pruneviz.data.load` takes it.
        data: what was loaded.

    Returns:
        {"data": {"classes", "train", "validation", "test", "sha256"}}: how many classes and images of each part the
        cell has seen, and the `digest` of the files, or None if they are gone by now.

    Raises:
        InputError: for a name that is no data set.
    """
    if not source_of(name).folder:
        return {}
    parts = {"train": data.train_y, "validation": data.validation_y, "test": data.test_y}
    counts = {name: len(labels) for name, labels in parts.items()}
    return {"data": {"classes": data.classes, **counts, "sha256": digest(name)}}


def digest(name: str) -> str | None:
    """The SHA-256 of the names and sizes of a folder's files, not of their content, which would take long.

    Of the train part and the test part as `pruneviz.data.load` finds them, hidden files left out, and the same
    wherever the folder is.

    Returns:
        None for a data set that is no folder, and for a folder that cannot be read.

    Raises:
        InputError: for a name that is no data set.
    """
    source = source_of(name)
    if not source.folder:
        return None
    parts = parts_of(data_root() / source.folder)
    try:
        lines = sorted(f"{part.name}/{line}" for part in parts for line in _sizes(part))
    except OSError:
        return None
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _sizes(folder: Path, above: str = "") -> Iterator[str]:
    """Each file below a folder as a line of its relative path and its size in bytes."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _sizes(folder / entry.name, f"{above}{entry.name}/")
            else:
                yield f"{above}{entry.name}\t{entry.stat().st_size}\n"
