"""What the neural tangent kernel costs in time and memory, beside plain recipes, and how that grows, in one run.

    python benchmarks/probes.py [--only recipes large widest growth] [--repeats 5] [--threads 1] [--device cpu]
                                [--inputs 32] [--large 1000] [--widest 10000] [--sparsity 0.95] [--memory 14]
                                [--json OUT] [--readme]

The network is ResNet-20 with a random mask, in evaluation mode, with the batch statistics of its inputs. One unit is
the gradient of the dense network on the same inputs with respect to all parameters, in training mode. Work and unit
are timed in turns; printed are the median of the ratios and its quartiles. Memory is the most that tensors take at
once beyond the model and the inputs. The parts "large" and "widest" take CIFAR-10 from the folder that PRUNEVIZ_DATA
names, or random images where that is not set, and time once. `--readme` writes the tables into the page beside this
file.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measure import machine, peak_bytes, quartiles, seconds
from probes_case import resnet20, unit
from probes_large import large, widest
from probes_recipes import DEAR, RECIPES
from scorers import MIB, said, write

from pruneviz.probes import ntk, ntk_top

Row = dict[str, object]
Result = tuple[list[Row], str]


def main() -> None:
    """Measure part by part, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--inputs", type=int, default=32, help="of the comparison with recipes")
    parser.add_argument("--large", type=int, metavar="N", help="inputs of the large kernel: 1000; on a GPU 5000")
    parser.add_argument("--widest", type=int, default=10_000, metavar="N", help="inputs of eigenpairs without a kernel")
    parser.add_argument("--sparsity", type=float, default=0.95, help="of random masks")
    parser.add_argument("--memory", type=float, help="budget of the large kernel, in GiB: 14; on a GPU 100")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--device", nargs="+", default=["cpu"] + ["cuda"] * torch.cuda.is_available())
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--readme", action="store_true", help="write the tables into the page")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for device in options.device:
        for part in options.only:
            where = machine(device)
            rows, table = PARTS[part](options, device)
            text = f"{said(where)}\n\n{table}"
            print(f"{text}\n", flush=True)
            results.append({"part": part, "machine": where, "rows": rows})
            if options.readme:
                write(f"probes: {part} on {device}", text)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


# Beside plain recipes


def recipes(options: argparse.Namespace, device: str) -> Result:
    """ResNet-20 by the library and by recipes, which must give the same kernel."""
    n = options.inputs
    problem, masks = resnet20(n, 1 - options.sparsity, device)
    dense, x = resnet20(n, 1.0, device)[0], problem.batches[0][0]
    works: dict[str, Callable[[], object]] = {
        "`ntk`": lambda: ntk(problem, masks),
        "`ntk`, trace over outputs": lambda: ntk(problem, masks, outputs="trace"),
        "`ntk`, all parameters": lambda: ntk(problem, masks, parameters="all"),
        "`ntk`, dense": lambda: ntk(dense),
        "`ntk_top`, k=20": lambda: ntk_top(problem, 20, masks),
    }
    kernel = ntk(problem, masks).kernel
    for name, recipe in RECIPES.items():
        works[name] = lambda recipe=recipe: recipe(problem.model, x, masks)
        # Not less: in float32, a unit within rounding of a ReLU's kink is on either side of it.
        error = float((recipe(problem.model, x, masks) - kernel).norm() / kernel.norm())
        assert error < 1e-3, f"{name} computes something else: {error:.1e}"
    rows: list[Row] = []
    lines = [f"N={n}, C=10, {options.sparsity:.0%} of the weights removed:", "", "| kernel by | units | MiB | n |"]
    lines.append("|---|---|---|---|")
    for name, work in works.items():
        times = 1 if name in DEAR else options.repeats
        if name in DEAR:  # warm from the comparison above; what the profiler writes down of it takes gigabytes
            cost, peak = (seconds(work, device) / seconds(unit(problem), device),) * 3, None
        else:
            cost, peak = quartiles(work, unit(problem), times, device), peak_bytes(work, device) / MIB
        lines.append(f"| {name} | {spread(cost)} | {'not measured' if peak is None else f'{peak:.0f}'} | {times} |")
        print(lines[-1], flush=True)
        rows.append({"work": name, "units": cost, "peak_mib": peak, "repeats": times})
    return rows, "\n".join(lines)


# How it grows


def growth(options: argparse.Namespace, device: str) -> Result:
    """Time and memory along one variable at a time, and the exponents of fitted power laws."""
    base = {"n": 32, "classes": 10, "width": 1.0, "density": 0.05}
    along: dict[str, tuple[str, list[float]]] = {
        "inputs N": ("n", [16, 32, 64, 128, 256]),
        "outputs C": ("classes", [5, 10, 20, 40, 80]),
        "width": ("width", [0.5, 1.0, 2.0, 4.0]),
        "sparsity, from 80 %": ("density", [0.01, 0.02, 0.05, 0.1, 0.2]),
        "sparsity, to 60 %": ("density", [0.4, 0.6, 1.0]),
    }
    reference = unit(resnet20(32, 0.05, device)[0])
    rows: list[Row] = []
    lines = [
        "One unit is that of N=32, C=10 at width 1; all else is as there, with 95 % of the weights removed; timed "
        f"{options.repeats} {'time' if options.repeats == 1 else 'times'} each:",
        "",
    ]
    lines += ["| along | value | units | MiB |", "|---|---|---|---|"]
    fits = ["| along | exponent of time | exponent of memory |", "|---|---|---|"]
    for title, (key, values) in along.items():
        times, peaks = [], []
        for value in values:
            problem, masks = resnet20(device=device, **{**base, key: value})
            work = lambda p=problem, m=masks: ntk(p, m)  # noqa: E731
            cost, peak = quartiles(work, reference, options.repeats, device), peak_bytes(work, device) / MIB
            times.append(cost[1])
            peaks.append(peak)
            shown = f"{1 - value:.0%}" if key == "density" else f"{value:g}"
            lines.append(f"| {title} | {shown} | {spread(cost)} | {peak:.0f} |")
            print(lines[-1], flush=True)
            rows.append({"along": title, "value": value, "units": cost, "peak_mib": peak})
        of_time, of_memory = (exponent(values, measured) for measured in (times, peaks))
        name = f"{title} (weights that are kept)" if key == "density" else title
        fits.append(f"| {name} | {of_time:.2f} | {of_memory:.2f} |")
        rows.append({"along": title, "exponent of time": of_time, "exponent of memory": of_memory})
    return rows, "\n".join([*lines, "", "Slopes of straight lines through the logarithms:", "", *fits])


def exponent(x: list[float], y: list[float]) -> float:
    """The slope of the least-squares line through logarithms."""
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def at_size(options: argparse.Namespace, device: str) -> Result:
    """The part "large", with what a machine of each kind has room for."""
    n = options.large or (1000 if device == "cpu" else 5000)
    return large(n, options.sparsity, budget(options, device), device)


def without_kernel(options: argparse.Namespace, device: str) -> Result:
    """The part "widest"."""
    return widest(options.widest, options.sparsity, budget(options, device), device)


def budget(options: argparse.Namespace, device: str) -> float:
    """In GiB."""
    return float(options.memory or (14.0 if device == "cpu" else 100.0))


def spread(cost: tuple[float, float, float]) -> str:
    """Median and quartiles."""
    low, middle, high = cost
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


PARTS: dict[str, Callable[[argparse.Namespace, str], Result]] = {
    "recipes": recipes,
    "large": at_size,
    "widest": without_kernel,
    "growth": growth,
}


if __name__ == "__main__":
    main()
