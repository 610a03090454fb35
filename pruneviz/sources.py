"""Reading the files of each data set into tensors, and saying in one line what is wrong with them."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pruneviz.errors import InputError, check_choice
from pruneviz.folders import read_folder
from pruneviz.stream import Images

#: Train images and labels, then test images and labels: (N, C, H, W) uint8 and (N,) int64.
Parts = tuple[Images, Tensor, Images, Tensor]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and how its images are augmented."""

    classes: int = 0  # 0: as many as there are folders
    pad: int = 0
    flip: bool = False
    torchvision: str = ""  # the class of torchvision.datasets that reads it
    folder: str = ""  # or the folder with a folder for each class; the embedded digits have neither
    size: int = 0  # to which the images of a folder are brought
    streamed: bool = False  # whether they stay in their files, and are augmented as ImageNet's are


SOURCES = {
    "digits": Source(classes=10),
    "cifar10": Source(classes=10, pad=4, flip=True, torchvision="CIFAR10"),
    "cifar100": Source(classes=100, pad=4, flip=True, torchvision="CIFAR100"),
    "mnist": Source(classes=10, torchvision="MNIST"),
    "tiny_imagenet": Source(pad=4, flip=True, folder="tiny-imagenet-200", size=64),
    "imagenet": Source(flip=True, folder="imagenet", size=224, streamed=True),
}
_FOLDER = re.compile(r"(folder|stream):(\w[\w.-]*):([1-9]\d{0,3})")

_DIGITS_TEST_PER_CLASS = 36  # 360 of the 1,797 images: 20 %, the same number of every class
_ABSENT = "is not there"

# What torchvision and pickle raise for files that are missing, cut short or of another format.
_UNREADABLE = (AssertionError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.PickleError)


def check_name(name: object) -> str:
    """Return `name` if it is a key of `SOURCES`, or names a folder: "folder:NAME:SIZE" or "stream:NAME:SIZE".

    Raises:
        InputError: for anything else.
    """
    if isinstance(name, str) and name.startswith(("folder:", "stream:")):
        if _FOLDER.fullmatch(name):
            return name
        raise InputError(f"data set {name!r} is not known; a folder of images is given as folder:NAME:SIZE in pixels")
    return check_choice("data set", name, SOURCES)


def source_of(name: str) -> Source:
    """Where the data set `name` comes from; for errors see `check_name`."""
    found = _FOLDER.fullmatch(check_name(name))
    if found is None:
        return SOURCES[name]
    streamed = found[1] == "stream"
    return Source(pad=0 if streamed else 4, flip=True, folder=found[2], size=int(found[3]), streamed=streamed)


def read(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Parts:
    """Read the train and the test part of a data set, complete and in its own order.

    Args:
        name: a key of `SOURCES`, or a folder; see `check_name`.
        root: the folder of the data sets; None means the environment variable PRUNEVIZ_DATA, and `data` in
            the current folder where that is not set.
        download: whether torchvision may download what is missing, and replace what is damaged; folders are never.

    Raises:
        InputError: for an unknown name, and for data that is missing or damaged.
    """
    source = source_of(name)
    if not (source.torchvision or source.folder):
        return _read_digits()
    place = data_root(root)
    if source.folder:
        return read_folder(name, place / source.folder, source.size, source.streamed)
    return _read_torchvision(name, source.torchvision, place, download)


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the data sets: the one given, else PRUNEVIZ_DATA, else `data` in the current folder."""
    place = Path(os.environ.get("PRUNEVIZ_DATA") or "data") if root is None else Path(root)
    return place.expanduser().absolute()


def _read_digits() -> Parts:
    """scikit-learn's digits, rescaled to 0..255; each class gives evenly spaced images to the test part."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    y = torch.from_numpy(digits.target).long()
    is_test = torch.zeros_like(y, dtype=torch.bool)
    for label in range(10):
        # No random numbers: these images are the test part in every version of every library.
        own = torch.nonzero(y == label).view(-1)
        is_test[own[torch.arange(_DIGITS_TEST_PER_CLASS, device=y.device) * len(own) // _DIGITS_TEST_PER_CLASS]] = True
    return x[~is_test], y[~is_test], x[is_test], y[is_test]


def _read_torchvision(name: str, kind_name: str, root: Path, download: bool) -> Parts:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, kind_name)
    command = f'python -c "import pruneviz as pv; pv.data.load({name!r}, root={str(root)!r}, download=True)"'
    try:
        if download:
            for path, _ in _faults(kind, root):
                path.unlink(missing_ok=True)  # torchvision takes an MNIST file that is there for a whole one
        parts = [kind(root, train=True, download=download), kind(root, train=False)]
        images = [_as_nchw(part.data) for part in parts]
        labels = [torch.as_tensor(part.targets, dtype=torch.int64) for part in parts]
    except _UNREADABLE as error:
        faults = list(_faults(kind, root))
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if download and faults:
            raise InputError(f"data set {name!r} could not be downloaded to {str(root)!r} ({reason})") from error
        path, what = faults[0] if faults else (root, f"cannot be read ({reason})")
        state = "missing" if what == _ABSENT else "damaged"
        raise InputError(
            f"data set {name!r} is {state}: {str(path)!r} {what} (PRUNEVIZ_DATA names the folder of the data sets); "
            f"get it with: {command}"
        ) from error
    return images[0], labels[0], images[1], labels[1]


def _as_nchw(images: Any) -> Tensor:
    """CIFAR comes as (N, H, W, C), MNIST as (N, H, W)."""
    x = torch.as_tensor(images)
    return x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()


def _faults(kind: Any, root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of a data set that is missing or damaged, and what is wrong with it."""
    if hasattr(kind, "base_folder"):
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        expected = [(root / kind.base_folder / file, md5) for file, md5 in files]
    else:
        # torchvision knows checksums of the packed MNIST files only; the unpacked ones state their own size.
        expected = [(root / kind.__name__ / "raw" / file.removesuffix(".gz"), "") for file, _ in kind.resources]
    for path, md5 in expected:
        try:
            if not path.is_file():
                yield path, _ABSENT
            elif md5 and (found := _md5(path)) != md5:
                yield path, f"has the md5 {found}, the original {md5}"
            elif not md5 and (length := _idx_length(path)) != path.stat().st_size:
                promised = f"its header says {length}" if length else "and not the header of an IDX file"
                yield path, f"has {path.stat().st_size} bytes, {promised}"
        except OSError as error:
            yield path, f"cannot be read ({error.strerror})"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _idx_length(path: Path) -> int | None:
    """The length in bytes that the header of an IDX file of bytes announces; None if it is no such file."""
    with path.open("rb") as file:
        magic = file.read(4)
        dimensions = magic[3] if len(magic) == 4 and magic[:3] == b"\x00\x00\x08" else 0
        sizes = file.read(4 * dimensions)
    if not dimensions or len(sizes) != 4 * dimensions:
        return None
    length = 1
    for size in struct.unpack(f">{dimensions}I", sizes):
        length *= size
    return 4 + 4 * dimensions + length
