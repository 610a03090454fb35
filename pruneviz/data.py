"""Data sets as uint8 tensors on one device, their splits, augmentation and scoring batches.

A data set is a handful of tensors (`ImageData`), a batch is an index into them, and augmentation is one gather for
the whole batch. Only where they do not fit into memory do images stay in their files (`StreamedImages`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pruneviz import sources
from pruneviz.errors import InputError, check_positive, check_seed
from pruneviz.images import augment as augment
from pruneviz.images import channel_statistics as channel_statistics
from pruneviz.split import rank_in_class, split
from pruneviz.stream import IMAGENET_MEAN, IMAGENET_STD, Images, StreamedImages

#: The names that `load` accepts, beside folders. "digits" needs no download.
DATASETS: tuple[str, ...] = tuple(sources.SOURCES)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set: images as uint8, in memory or as a stream of files, labels as int64, all on one device.

    Attributes:
        name: what the data set is called.
        classes: the number of classes; labels are 0 .. classes - 1.
        train_x: (N, C, H, W) uint8 images to train on.
        train_y: (N,) int64 labels.
        validation_x: images cut from the train part, for choices made during a study; can be empty.
        validation_y: their labels.
        test_x: images of the test part, which is never split.
        test_y: their labels.
        mean: per channel, of the images scaled to [0, 1], over the whole train part before it was split.
        std: likewise; the population's (divided by the number of values).
        pad: zero padding of the random crop of `augment`, in pixels; 0 means no crop.
        flip: whether augmentation mirrors images left to right. Of a stream it does, and crops as for ImageNet.
    """

    name: str
    classes: int
    train_x: Images
    train_y: Tensor
    validation_x: Images
    validation_y: Tensor
    test_x: Images
    test_y: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 0
    flip: bool = False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> ImageData:
        """Return the same data with every tensor on `device`."""
        parts: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Images)}
        return replace(self, **parts)

    def epoch(self, batch_size: int, generator: torch.Generator, *, augmented: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """The train part once, in random order: uint8 images and labels, on the device of the data.

        Args:
            batch_size: images per batch; the last one may have fewer.
            generator: the source of the order and of the augmentation, best on the device of the data.
            augmented: whether to crop and mirror at random, as far as the data set has it.
        """
        order = torch.randperm(len(self.train_y), generator=generator, device=generator.device)
        if isinstance(self.train_x, StreamedImages):
            images = self.train_x
            streamed = (
                images.augmented(order, batch_size, generator) if augmented else images.select(order).split(batch_size)
            )
            yield from zip(streamed, self.train_y[order].split(batch_size), strict=True)
            return
        for index in order.split(batch_size):
            x = self.train_x[index]
            yield augment(x, pad=self.pad, flip=self.flip, generator=generator) if augmented else x, self.train_y[index]

    def normalize(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Turn uint8 images into what a network takes: (x / 255 - mean) / std per channel.

        Args:
            x: (N, C, H, W) uint8, on any device.
            dtype: the floating type of the result.
        """
        scale, shift = _affine(self.mean, self.std, dtype, x.device)
        return x.to(dtype).mul_(scale).add_(shift)


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    fraction: float = 1.0,
    validation: float = 0.1,
    seed: int = 0,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> ImageData:
    """Read a data set, cut a validation part from its train part, and put it on a device.

    "digits" are scikit-learn's 1,797 grey images of 8x8 pixels, rescaled from 0..16 to 0..255. They have no
    official test part; here it is 36 images of every class, evenly spaced in scikit-learn's order, the same
    for everyone. CIFAR and MNIST are read by torchvision, which checks their checksums and shows the
    progress of a download.

    The others are folders in `root` with one folder for each class, as torchvision's `ImageFolder` has them:
    "tiny_imagenet" is `tiny-imagenet-200`, as downloaded or with a part of its classes; "imagenet" is `imagenet`,
    whose images stay in their files. "folder:NAME:SIZE" is any such folder, in memory, its images SIZE pixels high
    and wide; "stream:NAME:SIZE" the same without taking memory. Their test part is `val`. Streams are normalized by
    ImageNet's mean and deviation.

    Args:
        name: one of `DATASETS`, or a folder.
        root: the folder that holds the data sets; None means the environment variable PRUNEVIZ_DATA, and
            `data` in the current folder where that is not set.
        fraction: how much of the train part to keep, 0 < fraction <= 1, the same share of every class.
        validation: how much of the train part to set aside, 0 <= validation < 1, the same share of every
            class. It is cut before `fraction` is, so at one seed every fraction has the same validation part,
            and a smaller fraction is a subset of a larger one.
        seed: of the split.
        download: whether torchvision may download what is missing, and replace what is damaged.
        device: where the tensors shall live.

    Raises:
        InputError: for an unknown name, a fraction out of range, and for data that is missing or damaged:
            which, where it was looked for, and the command that gets it.
    """
    source = sources.source_of(name)
    parts = sources.read(name, root, download)
    source = replace(source, classes=source.classes or int(parts[1].max()) + 1)
    return _assemble(name, source, parts, split(parts[1], fraction, validation, seed)).to(device)


def from_tensors(
    name: str,
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    classes: int,
    pad: int = 0,
    flip: bool = False,
    fraction: float = 1.0,
    validation: float = 0.1,
    seed: int = 0,
) -> ImageData:
    """Make an `ImageData` of one's own images: measure mean and deviation, then split.

    Args:
        name: what to call the data.
        train_x: (N, C, H, W) uint8.
        train_y: (N,) int64 labels below `classes`.
        test_x: (M, C, H, W) uint8.
        test_y: (M,) int64.
        classes: the number of classes.
        pad: zero padding of the random crop, in pixels.
        flip: whether augmentation may mirror.
        fraction: as for `load`, and so are `validation` and `seed`.
        validation: see there.
        seed: see there.

    Raises:
        InputError: for shapes, types, labels or fractions that cannot be used.
    """
    _check_images("train", train_x, train_y, classes)
    _check_images("test", test_x, test_y, classes)
    chosen = split(train_y.cpu(), fraction, validation, seed)
    source = sources.Source(classes=classes, pad=pad, flip=flip)
    return _assemble(name, source, (train_x, train_y, test_x, test_y), chosen)


def _assemble(name: str, source: sources.Source, parts: sources.Parts, chosen: tuple[Tensor, Tensor]) -> ImageData:
    train_x, train_y, test_x, test_y = parts
    is_train, is_validation = chosen
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if isinstance(train_x, StreamedImages) else channel_statistics(train_x)
    return ImageData(
        name=name,
        classes=source.classes,
        train_x=_select(train_x, is_train),
        train_y=train_y[is_train],
        validation_x=_select(train_x, is_validation),
        validation_y=train_y[is_validation],
        test_x=test_x,
        test_y=test_y,
        mean=mean,
        std=std,
        pad=source.pad,
        flip=source.flip,
    )


def scoring_batches(
    data: ImageData,
    *,
    per_class: int = 10,
    batches: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> list[tuple[Tensor, Tensor]]:
    """Draw the batches that scorers and probes look at: class-balanced, normalised, not augmented.

    Args:
        data: where to draw from; only its train part is used.
        per_class: how many images of each class are in EACH batch.
        batches: how many batches; no image is in two of them.
        seed: of the draw and of the order within a batch.
        dtype: torch.float32 or torch.float64.

    Returns:
        `batches` pairs (x, y) on the device of `data`: x (per_class * classes, C, H, W), y int64.

    Raises:
        InputError: if a class has fewer than per_class * batches train images, saying how many there are.
    """
    per_class, batches = check_positive("per_class", per_class), check_positive("batches", batches)
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"dtype {dtype} is not accepted: scores are computed in torch.float32 or torch.float64")
    labels = data.train_y.cpu()
    counts = torch.bincount(labels, minlength=data.classes)
    if per_class * batches > int(counts.min()):
        raise InputError(
            f"{batches} x {per_class} images per class are more than there are: "
            f"{data.name!r} has {int(counts.min())} train images of class {int(counts.argmin())}"
        )
    generator = torch.Generator().manual_seed(check_seed(seed))
    rank = rank_in_class(labels, generator)
    drawn = []
    for batch in range(batches):
        chosen = torch.nonzero((rank // per_class) == batch).view(-1)
        chosen = chosen[torch.randperm(len(chosen), generator=generator, device="cpu")].to(data.train_x.device)
        drawn.append((data.normalize(data.train_x[chosen], dtype), data.train_y[chosen]))
    return drawn


def _select(images: Images, chosen: Tensor) -> Images:
    """The images of a boolean mask; those of a stream stay in their files."""
    return images.select(chosen) if isinstance(images, StreamedImages) else images[chosen]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept here may later meet autograd
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scale and shift of `normalize`, (C, 1, 1) each; kept, so that a training step copies nothing to the device."""
    std = tuple(s or 1.0 for s in std)  # a channel that never changes is only shifted
    scale = [1 / (255 * s) for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    both = torch.tensor([scale, shift], dtype=torch.float64).to(device, dtype).view(2, -1, 1, 1)
    return both[0], both[1]


def _check_images(part: str, x: Tensor, y: Tensor, classes: int) -> None:
    if x.ndim != 4 or x.dtype != torch.uint8:
        raise InputError(f"{part}_x is {x.dtype} of shape {tuple(x.shape)}; accepted is torch.uint8 of (N, C, H, W)")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise InputError(
            f"{part}_y is {y.dtype} of shape {tuple(y.shape)}; accepted is torch.int64 of shape ({len(x)},)"
        )
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise InputError(
            f"{part}_y holds labels from {int(y.min())} to {int(y.max())}; accepted are 0 to {classes - 1}"
        )
