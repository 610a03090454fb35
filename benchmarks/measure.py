"""How long and how much: times as ratios within one run, and the exact peak of what torch allocates."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]


def clock(device: str = "cpu") -> str:
    """Which time `seconds` takes: with one thread on a CPU the processor's, which what else it does leaves alone."""
    return "processor" if device == "cpu" and torch.get_num_threads() == 1 else "wall"


def seconds(work: Work, device: str = "cpu") -> float:
    """Time of one call by that clock, with everything that it started on the device finished."""
    now = time.process_time if clock(device) == "processor" else time.perf_counter
    start = now()
    work()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return now() - start


def quartiles(work: Work, unit: Work, repeats: int, device: str = "cpu") -> tuple[float, float, float]:
    """Quartiles of the time of `work` over that of `unit`, timed in turns after one warm-up of each.

    In turns, because the speed of a shared machine drifts.
    """
    seconds(unit, device), seconds(work, device)
    ratios = [seconds(work, device) / seconds(unit, device) for _ in range(repeats)]
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def machine(device: str = "cpu") -> dict[str, str | int | float]:
    """What a measurement depends on, as it is now."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else ""
    if not name:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        numbers = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
        name = f"{facts.get('model name', platform.processor())} ({numbers})"
    return {
        "device": name,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
        "clock": clock(device),
    }


def high_water_mark() -> int:
    """The most bytes of memory that this process has held at once (Linux), the interpreter and torch included."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


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
