"""Image data sets as folders: one folder for each class, as torchvision's `ImageFolder` reads them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from pruneviz.errors import InputError
from pruneviz.stream import StreamedImages

_LAYOUT = "it is read as train/CLASS/*.jpg and val/CLASS/*.jpg"
_LIMIT = 16 * 2**30
_BATCH = 256


def parts_of(folder: Path) -> tuple[Path, Path]:
    """Where the train part and the test part of a folder of images are; the latter may be called `val` or `test`."""
    return folder / "train", folder / "val" if (folder / "val").is_dir() else folder / "test"


def read_folder(
    name: str, folder: Path, size: int, streamed: bool
) -> tuple[Tensor | StreamedImages, Tensor, Tensor | StreamedImages, Tensor]:
    """The images and labels of the two parts of a data set.

    The classes are the folders of the train part, any number of them, in the order of their names; images of other
    classes in the test part are left out. The test part is `val`, or `test` where there is no `val`. It has a folder
    for each class too, or it is that of the original Tiny-ImageNet: `val/images`, and `val/val_annotations.txt`.

    Args:
        name: what the data set is called, for messages.
        folder: where `train` and `val` are.
        size: height and width of the images. In memory the whole shorter side is seen; a stream takes the middle
            224 of 256 pixels, in proportion.
        streamed: whether to leave the images in their files.

    Raises:
        InputError: for a part that is not there, a class without images, a file that is no image, and images that
            do not fit into memory.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    train, test = parts_of(folder)
    for part in (train, test):
        if not part.is_dir():
            where = folder / "val" if part == test else part
            raise InputError(f"data set {name!r} is missing: {str(where)!r} is not there; {_LAYOUT}")
    try:
        trained = ImageFolder(str(train))
        classes: dict[str, int] = trained.class_to_idx
        annotations = test / "val_annotations.txt"
        tested = (
            _annotated(annotations, classes)
            if annotations.is_file()
            else make_dataset(str(test), classes, IMG_EXTENSIONS)
        )
    except OSError as error:
        raise InputError(f"data set {name!r} is damaged: {' '.join(str(error).split())}; {_LAYOUT}") from error
    counted = Counter(label for _, label in tested)
    for label, number in classes.items():
        if not counted[number]:
            raise InputError(f"data set {name!r} is damaged: {str(test)!r} has no image of class {label!r}")
    resize = round(size * 256 / 224) if streamed else size
    parts = [StreamedImages([path for path, _ in items], size, resize) for items in (trained.samples, tested)]
    labels = [torch.tensor([label for _, label in items]) for items in (trained.samples, tested)]
    if streamed:
        return parts[0], labels[0], parts[1], labels[1]
    needed = sum(part.shape.numel() for part in parts)
    if needed > _LIMIT:
        raise InputError(
            f"data set {name!r} would take {needed / 2**30:.0f} GiB of memory; "
            f"'stream:{folder.name}:{size}' reads it while it trains"
        )
    return _whole(name, parts[0]), labels[0], _whole(name, parts[1]), labels[1]


def _annotated(file: Path, classes: dict[str, int]) -> list[tuple[str, int]]:
    """Path and label of each image of the classes, from lines of a file name, a class and a box."""
    rows = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line)
    found = ((row[0], classes.get(row[1]) if len(row) > 1 else None) for row in rows)
    return sorted((str(file.parent / "images" / image), label) for image, label in found if label is not None)


def _whole(name: str, images: StreamedImages) -> Tensor:
    """All images, decoded once, in the order of their files."""
    whole = torch.empty(images.shape, dtype=torch.uint8)
    done = 0
    with tqdm(total=len(images), desc=f"reading {name}", unit="image", leave=False, disable=None) as bar:
        for batch in images.split(_BATCH):
            whole[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    return whole
