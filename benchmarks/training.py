"""Images per second of the training loop, beside the plain published one, and what each difference between them gains.

    python benchmarks/training.py [--model resnet20] [--width 1] [--steps 20] [--repeats 5] [--threads 2] [--workers 2]
                                  [--device cpu] [--json OUT] [--readme]

The published loop is the one that the papers' programs share: images are decoded, cropped and flipped one by one by the
workers of a DataLoader, weights and arithmetic are float32, masks multiply gradients in hooks, and the loss is read by
`.item()` in every step. Then its parts are exchanged one after the other for those of `pv.train`. All loops train the
same network on the same number of images, in turns; printed are medians of the ratios to the published loop, with
quartiles. Neither starting the workers nor compiling is timed. Images are noise in the size of CIFAR's: their values
cost nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import machine
from scorers import write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import pruneviz as pv
from pruneviz.images import augment

BATCH = 128
VALIDATION = 0.1  # what is cut from the train split and not trained on
Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Loop:
    """A training loop between the published one and ours; each flag exchanges one of its parts."""

    name: str
    tensors: bool = False  # the data set as tensors on the device, augmented by one gather for a whole batch
    channels_last: bool = False
    bf16: bool = False
    quiet: bool = False  # no `.item()` in a step, gradients masked in place without hooks, one fused optimizer step
    compiled: bool = False  # by `torch.compile`, before the clock starts


LOOPS = (
    Loop("the published loop"),
    Loop("… data as tensors on the device", tensors=True),
    Loop("… and channels last", tensors=True, channels_last=True),
    Loop("… and bf16 autocast", tensors=True, channels_last=True, bf16=True),
    Loop("… and no waiting, hooks or unfused steps", tensors=True, channels_last=True, bf16=True, quiet=True),
    Loop("… and `torch.compile`", tensors=True, channels_last=True, bf16=True, quiet=True, compiled=True),
)


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: decoded and augmented one at a time."""

    def __init__(self, data: pv.data.ImageData, count: int) -> None:
        assert isinstance(data.train_x, Tensor)
        self.x, self.y, self.count = data.train_x, data.train_y, count
        steps = [transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.x[index % len(self.x)]), int(self.y[index % len(self.y)])


def noise(images: int) -> pv.data.ImageData:
    """Random images in the form of CIFAR-10."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    y = torch.arange(images) % 10
    return pv.data.from_tensors(
        "noise", x, y, x[:BATCH], y[:BATCH], classes=10, pad=4, flip=True, validation=VALIDATION
    )


def loaded(data: pv.data.ImageData, steps: int, workers: int) -> Batches:
    """Batches from a DataLoader, whose workers are up before the first one is asked for."""
    loader = DataLoader(OneByOne(data, (steps + 1) * BATCH), BATCH, shuffle=True, num_workers=workers)
    batches = iter(loader)
    next(batches)
    return batches


def gathered(data: pv.data.ImageData, steps: int) -> Batches:
    """Batches as `pv.train` takes them."""
    generator = torch.Generator(data.train_x.device).manual_seed(0)
    for _ in range(steps):
        index = torch.randint(len(data.train_y), (BATCH,), generator=generator, device=data.train_x.device)
        x = augment(data.train_x[index], pad=data.pad, flip=data.flip, generator=generator)
        yield data.normalize(x), data.train_y[index]


def seconds(
    loop: Loop, network: Callable[[], nn.Module], data: pv.data.ImageData, options: argparse.Namespace
) -> float:
    """Time of `--steps` steps of a loop."""
    device = torch.device(options.device)
    model = network().to(device)
    if loop.channels_last:
        model = model.to(memory_format=torch.channels_last)
    masks = pv.allocate({n: torch.rand_like(p) for n, p in model.named_parameters() if p.dim() > 1}, sparsity=0.9)
    pv.apply(model, masks)
    kept = [(p, masks[n]) for n, p in model.named_parameters() if n in masks]
    if not loop.quiet:
        for parameter, mask in kept:
            parameter.register_hook(lambda g, mask=mask: g * mask)
    sgd = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, fused=True if loop.quiet else None)
    where = data.to(device) if loop.tensors else data
    forward = torch.compile(model) if loop.compiled else model
    if loop.compiled:
        for x, y in gathered(where, 1):
            F.cross_entropy(outputs(forward, x, loop), y).backward()
    batches = gathered(where, options.steps) if loop.tensors else loaded(data, options.steps, options.workers)
    began, total, losses = time.perf_counter(), 0.0, torch.zeros((), device=device)
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        loss = F.cross_entropy(outputs(forward, x, loop), y)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        if loop.quiet:
            for parameter, mask in kept:
                parameter.grad.masked_fill_(~mask, 0)  # type: ignore[union-attr]
            losses += loss.detach()
        else:
            total += loss.item()
        sgd.step()
    float(losses)
    return time.perf_counter() - began


def outputs(forward: Callable[[Tensor], Tensor], x: Tensor, loop: Loop) -> Tensor:
    """In float32, computed in the loop's precision."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=loop.bf16):
        return forward(x).float()


def ours(network: Callable[[], nn.Module], data: pv.data.ImageData, options: argparse.Namespace) -> float:
    """Time that `pv.train` says the same number of images took it."""
    model = network()
    masks = pv.allocate({n: torch.rand_like(p) for n, p in model.named_parameters() if p.dim() > 1}, sparsity=0.9)
    recipe = pv.Recipe("benchmark", epochs=1, batch_size=BATCH)
    result = pv.train(model, masks, data, recipe, device=options.device, progress=False)
    return float(options.steps * BATCH / result.images_per_second)


@dataclass(frozen=True)
class Row:
    """What was measured of a loop: quartiles of how many times as fast as the published one it is."""

    loop: str
    ratio: tuple[float, float, float]
    images_per_second: float
    n: int


def measure(options: argparse.Namespace) -> list[Row]:
    """All loops in turns; a row for each."""
    data = noise(round(options.steps * BATCH / (1 - VALIDATION)))

    def network() -> nn.Module:
        return pv.models.create(options.model, width=options.width, seed=0)

    ways: dict[str, Callable[[], float]] = {loop.name: partial(seconds, loop, network, data, options) for loop in LOOPS}
    ways["`pv.train`"] = lambda: ours(network, data, options)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(options.repeats + 1):
        for name, way in ways.items():
            taken = way()
            if repeat:  # the first round warms up
                times[name].append(taken)
    rows = []
    for name, own in times.items():
        ratios = [first / taken for first, taken in zip(times[LOOPS[0].name], own, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        speed = options.steps * BATCH / statistics.median(own)
        rows.append(Row(name, (low, middle, high), speed, len(own)))
    return rows


def table(rows: list[Row], options: argparse.Namespace) -> str:
    """The rows as Markdown, with a line on the machine."""
    where = machine(options.device)
    lines = [
        f"{where['device']}, {where['cores']} cores, {where['threads']} threads, {options.workers} workers, torch "
        f"{where['torch']}, load {where['load']} when it ended; {options.model} of width {options.width:g}, "
        f"{options.steps} steps of {BATCH} images, wall clock.",
        "",
        "| loop | times as fast | images/s | n |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, middle, high = row.ratio
        lines.append(f"| {row.loop} | {middle:.2f} ({low:.2f}-{high:.2f}) | {row.images_per_second:.0f} | {row.n} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="on the CPU")
    parser.add_argument("--workers", type=int, default=2, help="of the published loop's DataLoader")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--readme", action="store_true", help="write the result into the page")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure(options)
    text = table(rows, options)
    print(text)
    if options.json:
        content = {
            "machine": machine(options.device),
            "rows": [asdict(row) for row in rows],
            "loops": [asdict(loop) for loop in LOOPS],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.readme:
        write(f"training on {options.device}", text)


if __name__ == "__main__":
    main()
