"""How long and how much: times as ratios within one run, and the exact peak of what torch allocates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]


def seconds(work: Work, device: str = "cpu") -> float:
    """Wall time of one call, with everything that it started on the device finished."""
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def quartiles(work: Work, unit: Work, repeats: int, device: str = "cpu") -> tuple[float, float, float]:
    """Quartiles of the time of `work` over that of `unit`, timed in turns after one warm-up of each.

    In turns, because the speed of a shared machine drifts.
    """
    seconds(unit, device), seconds(work, device)
    ratios = [seconds(work, device) / seconds(unit, device) for _ in range(repeats)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return low, middle, high


def peak_bytes(work: Work, device: str = "cpu") -> int:
    """The most bytes of tensors alive at once during `work`, over what was alive before.

    On a CPU every allocation is counted by torch's profiler, so that the number does not depend on the machine's
    load; scratch memory inside other libraries' kernels is not in it.
    """
    if device != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    alive = peak = 0
    for event in recorded.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak
