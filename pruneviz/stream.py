"""Images as files that are decoded when they are asked for: what a data set of ImageNet's size is trained from."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from pruneviz.errors import InputError

#: Mean and deviation per channel of ImageNet's training images, scaled to [0, 1], as torchvision's networks have them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_ITEM_BATCH = 256


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Files in the place of a (N, 3, size, size) uint8 tensor: indexed, split into batches, moved to a device.

    An image is resized so that its shorter side has `resize` pixels, and its centre of size x size pixels is cut out.

    Attributes:
        files: paths of images that Pillow reads.
        size: height and width of what comes out, in pixels.
        resize: the shorter side before the cut, at least `size`.
        device: where batches are put.
    """

    files: Sequence[str]
    size: int
    resize: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size, size)."""
        return torch.Size((len(self.files), 3, self.size, self.size))

    def to(self, device: torch.device | str) -> StreamedImages:
        """The same images, decoded to `device`."""
        return replace(self, device=torch.device(device))

    def select(self, chosen: Tensor) -> StreamedImages:
        """The images of a (N,) boolean mask or of a tensor of indices; nothing is decoded."""
        index = torch.arange(len(self))[chosen.cpu()].tolist()
        return replace(self, files=[self.files[i] for i in index])

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """Decode the images of a mask, of indices or of a slice: (n, 3, size, size) uint8."""
        index = torch.arange(len(self))[chosen.cpu() if isinstance(chosen, Tensor) else chosen]
        parts = list(self.select(index).split(_ITEM_BATCH))
        return torch.cat(parts) if parts else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)

    def split(self, batch_size: int) -> Iterator[Tensor]:
        """All images in their order, in batches, decoded ahead of their use.

        Raises:
            InputError: when a batch is due in which a file is no image; so do the other ways to decode.
        """
        return self._decode([(file, None) for file in self.files], batch_size)

    def augmented(self, order: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """The images in `order`, in batches, each a random part of random shape, resized, and mirrored or not.

        A share of the image's area from U(0.08, 1), of a ratio of width to height whose logarithm is from
        U(log 3/4, log 4/3), at a random place, mirrored with probability 1/2: what networks for ImageNet have
        been trained with since Szegedy et al. (2015, section 6). The draws follow `generator` alone, and not the
        number of processes that decode.
        """
        seeds = torch.randint(2**62, (len(order),), generator=generator, device=generator.device).tolist()
        chosen = zip(order.tolist(), seeds, strict=True)
        return self._decode([(self.files[index], seed) for index, seed in chosen], batch_size)

    def _decode(self, items: list[tuple[str, int | None]], batch_size: int) -> Iterator[Tensor]:
        threads = torch.get_num_threads()  # a sweep gives each job its share of the cores this way
        batches = math.ceil(len(items) / batch_size)
        loader = DataLoader(
            _Decoder(items, self.size, self.resize),
            batch_size=batch_size,
            num_workers=min(threads, batches) if threads > 1 and batches > 1 else 0,
            collate_fn=_collated,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # or it draws from the global one
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch.to(self.device, non_blocking=True)


def _collated(images: list[Tensor | InputError]) -> Tensor | InputError:
    """The images as one batch, or the first error among them."""
    errors = [image for image in images if isinstance(image, InputError)]
    if errors:
        return errors[0]
    batch: Tensor = default_collate(images)
    return batch


class _Decoder(Dataset[Tensor | InputError]):
    """Files, each with the seed of its augmentation or None, as (3, size, size) uint8.

    A file that cannot be read is an error in the place of its image: one that a process of its own raises would arrive
    with its traceback as its message.
    """

    def __init__(self, items: list[tuple[str, int | None]], size: int, resize: int) -> None:
        self.items, self.size, self.resize = items, size, resize

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor | InputError:
        from PIL import Image

        file, seed = self.items[index]
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as Pillow has it for damage
            return InputError(f"image {file!r} cannot be read: {' '.join(str(error).split())}")
        bilinear = Image.Resampling.BILINEAR
        if seed is None:
            shorter = min(image.size)
            width, height = (int(self.resize * side / shorter) for side in image.size)
            left, top = round((width - self.size) / 2), round((height - self.size) / 2)
            image = image.resize((width, height), bilinear).crop((left, top, left + self.size, top + self.size))
        else:
            draw = random.Random(seed)
            left, top, width, height = random_part(*image.size, draw)
            image = image.crop((left, top, left + width, top + height)).resize((self.size, self.size), bilinear)
            if draw.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def random_part(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random part of an image; see `StreamedImages.augmented`.

    Where ten draws do not fit into the image, it is the largest part of an accepted ratio, from the centre.
    """
    for _ in range(_ATTEMPTS):
        area = width * height * draw.uniform(*_AREA)
        ratio = math.exp(draw.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return draw.randint(0, width - w), draw.randint(0, height - h), w, h
    w, h = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


Images = Tensor | StreamedImages
