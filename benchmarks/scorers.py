"""What each scorer costs, in gradient units, measured in one run on this machine.

    python benchmarks/scorers.py [--model resnet20] [--batch 100] [--batches 1] [--repeats 15] [--device cpu]

One unit is a forward and backward pass of the same network over the same batches, in training mode, without any
of the library's care. Scorers and units are timed in turns, and the median of the ratios is printed with its
quartiles, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import pruneviz as pv


def main() -> None:
    """Print a table, one row per registered scorer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20", choices=pv.models.MODELS)
    parser.add_argument("--batch", type=int, default=100, help="images per batch, 3x32x32")
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    model = pv.models.create(options.model, seed=0).to(options.device)
    batches = [
        (
            torch.randn(options.batch, 3, 32, 32, generator=generator).to(options.device),
            (torch.arange(options.batch) % 10).to(options.device),
        )
        for _ in range(options.batches)
    ]
    problem = pv.Problem(model, batches)

    def unit() -> None:
        for x, y in batches:
            torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))

    print(f"{options.model}, {options.batches} x {options.batch} images, {options.device}, torch {torch.__version__}")
    print(f"{'scorer':12} {'median':>8} {'quartiles':>15}   (gradient units, n = {options.repeats})")
    for name in pv.scorers():
        low, middle, high = quartiles(lambda name=name: pv.score(name, problem), unit, options.repeats, options.device)
        print(f"{name:12} {middle:8.2f} {low:7.2f}-{high:<7.2f}")


def quartiles(
    work: Callable[[], object], unit: Callable[[], object], repeats: int, device: str
) -> tuple[float, float, float]:
    """Quartiles of the time of `work` over that of `unit`, timed in turns after one warm-up of each."""
    seconds(unit, device), seconds(work, device)
    ratios = [seconds(work, device) / seconds(unit, device) for _ in range(repeats)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return low, middle, high


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall time of one call, with everything that it started on the device finished."""
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
