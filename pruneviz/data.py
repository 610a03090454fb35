"""Data sets as uint8 tensors on one device, their splits, augmentation and scoring batches.

Nothing here loads images one by one: a data set is a handful of tensors (`ImageData`), a batch is an index
into them, and augmentation is one gather for the whole batch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruneviz import sources
from pruneviz.errors import InputError, check_choice, check_positive, check_seed
from pruneviz.split import rank_in_class, split

#: The names that `load` accepts. "digits" needs no download.
DATASETS: tuple[str, ...] = tuple(sources.SOURCES)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in memory: images as uint8, labels as int64, all on one device.

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
        flip: whether augmentation mirrors images left to right.
    """

    name: str
    classes: int
    train_x: Tensor
    train_y: Tensor
    validation_x: Tensor
    validation_y: Tensor
    test_x: Tensor
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
        parts: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **parts)

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
    for everyone. The other data sets are read by torchvision, which checks their checksums and shows the
    progress of a download.

    Args:
        name: one of `DATASETS`.
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
    source = sources.SOURCES[check_choice("data set", name, DATASETS)]
    return from_tensors(
        name,
        *sources.read(name, root, download),
        classes=source.classes,
        pad=source.pad,
        flip=source.flip,
        fraction=fraction,
        validation=validation,
        seed=seed,
    ).to(device)


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
    is_train, is_validation = split(train_y.cpu(), fraction, validation, seed)
    mean, std = channel_statistics(train_x)
    return ImageData(
        name=name,
        classes=classes,
        train_x=train_x[is_train],
        train_y=train_y[is_train],
        validation_x=train_x[is_validation],
        validation_y=train_y[is_validation],
        test_x=test_x,
        test_y=test_y,
        mean=mean,
        std=std,
        pad=pad,
        flip=flip,
    )


def channel_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation per channel of images scaled to [0, 1].

    Args:
        x: (N, C, H, W) uint8.

    Returns:
        Two tuples of C floats. They are exact up to the last rounding: a uint8 image is summed through its
        histogram, in whole numbers.
    """
    means, deviations = [], []
    levels = range(256)
    for channel in x.transpose(0, 1).cpu():
        histogram = torch.bincount(channel.reshape(-1), minlength=256).tolist()
        n = sum(histogram)
        first = sum(v * h for v, h in zip(levels, histogram, strict=True))
        second = sum(v * v * h for v, h in zip(levels, histogram, strict=True))
        means.append(first / n / 255)
        deviations.append(math.sqrt(n * second - first * first) / n / 255)
    return tuple(means), tuple(deviations)


def augment(x: Tensor, *, pad: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Crop and mirror every image of a batch at random, as He et al. 2016 (section 4.2) train on CIFAR-10.

    Each image is padded with `pad` zeros on all sides, cut back to its size at an offset drawn uniformly from
    the (2 pad + 1)^2 possible ones, and mirrored left to right with probability 1/2. All channels of an image
    move together.

    Args:
        x: (N, C, H, W) of any type, on any device; not changed.
        pad: in pixels; 0 means no crop.
        flip: whether to mirror.
        generator: the source of the draws, on any device (fastest on that of `x`).

    Returns:
        A tensor of the shape, type and device of `x`.
    """
    n, _, height, width = x.shape
    device = generator.device
    if pad:
        offset = torch.randint(2 * pad + 1, (2, n), generator=generator, device=device).to(x.device)
        # A view (N, C, 2 pad + 1, 2 pad + 1, H, W) of all crops; the index copies one of each image.
        crops = F.pad(x, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        x = crops[torch.arange(n, device=x.device), :, offset[0], offset[1]]
    if flip:
        mirrored = torch.randint(2, (n, 1, 1, 1), generator=generator, device=device).to(x.device).bool()
        x = torch.where(mirrored, x.flip(3), x)
    return x


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
        chosen = chosen[torch.randperm(len(chosen), generator=generator)].to(data.train_x.device)
        drawn.append((data.normalize(data.train_x[chosen], dtype), data.train_y[chosen]))
    return drawn


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
