"""What the neural tangent kernel costs in time and memory, beside plain recipes, and how that grows, in one run.

    python benchmarks/ntk.py [--inputs 32] [--sparsity 0.95] [--repeats 7] [--slow] [--threads 1] [--json OUT]
    python benchmarks/ntk.py --growth [--repeats 5] [--threads 1] [--device cpu] [--json OUT]
    python benchmarks/ntk.py --large 1000 [--sparsity 0.95] [--memory 16] [--threads 2] [--device cpu] [--json OUT]

One unit is the gradient of the same network on the same inputs with respect to all parameters; "train" and "eval"
say how its batch normalization runs meanwhile (the kernel's is "eval"). Work and unit are timed in turns; printed
are quartiles of the ratios. Memory is the most that tensors take at once beyond the model and the inputs. `--large`
takes CIFAR-10 from the folder that PRUNEVIZ_DATA names, or random images where that is not set, and times once.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import clock, machine, peak_bytes, quartiles, seconds
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import pruneviz as pv
from pruneviz.probes import ntk, ntk_top

MIB = 2**20
Row = dict[str, object]


def main() -> None:
    """Print one of the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--sparsity", type=float, default=0.95, help="of random masks")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--slow", action="store_true", help="recipes with one backward pass per row, too")
    parser.add_argument("--growth", action="store_true", help="how the cost grows, with fitted exponents")
    parser.add_argument("--large", type=int, metavar="N", help="kernel and largest eigenpairs of N inputs, once")
    parser.add_argument("--memory", type=float, default=16.0, help="budget of --large, in GiB")
    parser.add_argument("--json", type=Path, help="write what is printed there too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = machine(options.device)
    print(f"torch {facts['torch']}, {facts['device']}, {facts['threads']} threads, load {facts['load']}")
    if options.large:
        rows = large(options.large, options.sparsity, options.memory, options.device)
    elif options.growth:
        rows = growth(options.repeats, options.device)
    else:
        rows = recipes(options.inputs, options.sparsity, options.repeats, options.slow, options.device)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


# Beside plain recipes


def recipes(n: int, sparsity: float, repeats: int, slow: bool, device: str) -> list[Row]:
    """ResNet-20 by the library and by three recipes, in units of its gradient in either mode."""
    problem, masks = resnet20(n, 1 - sparsity, device)
    x = problem.batches[0][0]
    works: dict[str, Callable[[], object]] = {
        "ntk": lambda: ntk(problem, masks),
        "ntk, trace": lambda: ntk(problem, masks, outputs="trace"),
        "ntk, all parameters": lambda: ntk(problem, masks, parameters="all"),
        "ntk, dense": lambda: ntk(problem),
        "ntk_top, k=20": lambda: ntk_top(problem, 20, masks),
    }
    plain = {"torch.func: vmap(jacrev)": by_torch_func, "hooks": by_hooks}
    plain |= {"row by row": by_rows, "curvlinops: J^T I": by_curvlinops} if slow else {}
    kernel = ntk(problem, masks).kernel
    for name, recipe in plain.items():
        works[name] = lambda recipe=recipe: recipe(problem.model, x, masks)
        # Not less: in float32, a unit within rounding of a ReLU's kink is on either side of it.
        error = float((recipe(problem.model, x, masks).detach() - kernel).norm() / kernel.norm())
        assert error < 1e-3, f"{name} computes something else: {error:.1e}"
    title = f"N={n}, C=10"
    print(f"\n{title:26} {'units, train':>22} {'units, eval':>22} {'MiB':>8}   ({clock(device)} time)")
    rows: list[Row] = []
    for name, work in works.items():
        times = 1 if name in ("row by row", "curvlinops: J^T I") else repeats
        train, evaluation = (quartiles(work, unit(problem, mode), times, device) for mode in (True, False))
        peak = peak_bytes(work, device) / MIB
        print(f"{name:26} {spread(train):>22} {spread(evaluation):>22} {peak:8.0f}", flush=True)
        rows.append({"work": name, "train": train, "eval": evaluation, "peak_mib": peak})
    return rows


def by_torch_func(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """The recipe of PyTorch's own tutorial: per-example Jacobians of a functional model, all columns, then masks."""
    weights = {n: p.detach() for n, p in model.named_parameters() if n in masks}
    model.eval()

    def one(values: dict[str, Tensor], example: Tensor) -> Tensor:
        return functional_call(model, values, (example.unsqueeze(0),)).squeeze(0)

    masked = {n: w * masks[n] for n, w in weights.items()}
    found = vmap(jacrev(one), (None, 0))(masked, x)
    j = torch.cat([(found[n] * masks[n]).flatten(2) for n in masked], 2).flatten(0, 1)
    return j @ j.T


Recipe = Callable[[nn.Module, Tensor, pv.Masks], Tensor]


def on_zeroed_weights(recipe: Recipe) -> Recipe:
    """For a recipe that takes a model as it is: removed weights are zero for as long as it runs."""

    @functools.wraps(recipe)
    def run(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        try:
            pv.apply(model, masks)
            return recipe(model, x, masks)
        finally:
            with torch.no_grad():
                for n, p in model.named_parameters():
                    p.copy_(before[n])

    return run


@on_zeroed_weights
def by_hooks(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """Inputs and output derivatives of every layer from hooks, one backward pass per output, all columns by unfold."""
    model.eval()
    layers = {n: model.get_submodule(n.removesuffix(".weight")) for n in masks}
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name], outputs[name] = args[0].detach(), output

        return hook

    handles = [layer.register_forward_hook(keep(n)) for n, layer in layers.items()]
    try:
        f = model(x)
    finally:
        for handle in handles:
            handle.remove()
    for n, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            inputs[n] = F.unfold(inputs[n], layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    rows = []
    for c in range(f.shape[1]):
        grads = torch.autograd.grad(f[:, c].sum(), list(outputs.values()), retain_graph=True)
        columns = []
        for (n, layer), g in zip(layers.items(), grads, strict=True):
            conv = isinstance(layer, nn.Conv2d)
            j = g.flatten(2) @ inputs[n].mT if conv else g.unsqueeze(2) * inputs[n].unsqueeze(1)
            columns.append((j.view(len(x), *layer.weight.shape) * masks[n]).flatten(1))
        rows.append(torch.cat(columns, 1))
    j = torch.stack(rows, 1).flatten(0, 1)
    return j @ j.T


def by_rows(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """One backward pass of the whole batch per row: what is left where inputs depend on each other."""
    model.eval()
    leaves = {n: (p.detach() * masks[n]).requires_grad_() for n, p in model.named_parameters() if n in masks}
    f = functional_call(model, leaves, (x,))
    rows = []
    for entry in f.flatten():
        grads = torch.autograd.grad(entry, list(leaves.values()), retain_graph=True)
        rows.append(torch.cat([g[masks[n]] for n, g in zip(leaves, grads, strict=True)]))
    j = torch.stack(rows)
    return j @ j.T


@on_zeroed_weights
def by_curvlinops(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """The transposed Jacobian of the library curvlinops times the identity: its rows for the whole batch."""
    from curvlinops import TransposedJacobianLinearOperator

    model.eval()
    named = dict(model.named_parameters())
    data = [(x, torch.zeros(len(x), dtype=torch.long, device=x.device))]
    transposed = TransposedJacobianLinearOperator(model, [named[n] for n in masks], data, check_deterministic=False)
    rows = transposed @ torch.eye(transposed.shape[1], dtype=x.dtype, device=x.device)
    rows = rows[torch.cat([mask.flatten() for mask in masks.values()])]
    return rows.T @ rows


# How it grows


def growth(repeats: int, device: str) -> list[Row]:
    """Time and memory along one variable at a time, and the exponents of fitted power laws."""
    base = {"n": 32, "classes": 10, "width": 1.0, "density": 0.05}
    lines: dict[str, tuple[str, list[float]]] = {
        "inputs N": ("n", [16, 32, 64, 128, 256]),
        "outputs C": ("classes", [5, 10, 20, 40, 80]),
        "width": ("width", [0.5, 1.0, 2.0, 4.0]),
        "density, to 10 %": ("density", [0.01, 0.02, 0.05, 0.1]),
        "density, from 20 %": ("density", [0.2, 0.5, 1.0]),
    }
    reference = unit(resnet20(32, 0.05, device)[0], True)
    rows: list[Row] = []
    for title, (key, values) in lines.items():
        times, peaks = [], []
        print(f"\n{title:20} {'units of N=32, C=10':>22} {'MiB':>8}")
        for value in values:
            problem, masks = resnet20(device=device, **{**base, key: value})
            work = lambda p=problem, m=masks: ntk(p, m)  # noqa: E731
            low, middle, high = quartiles(work, reference, repeats, device)
            peak = peak_bytes(work, device) / MIB
            times.append(middle)
            peaks.append(peak)
            print(f"{value:20g} {spread((low, middle, high)):>22} {peak:8.0f}", flush=True)
            rows.append({"along": title, "value": value, "units": (low, middle, high), "peak_mib": peak})
        exponents = [exponent(values, measured) for measured in (times, peaks)]
        print(f"{'exponent':20} {exponents[0]:22.2f} {exponents[1]:8.2f}")
        rows.append({"along": title, "exponent of time": exponents[0], "exponent of memory": exponents[1]})
    return rows


def exponent(x: list[float], y: list[float]) -> float:
    """The slope of the least-squares line through logarithms."""
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


# At the size of an experiment


def large(n: int, sparsity: float, memory: float, device: str) -> list[Row]:
    """The kernel of N CIFAR-10 images, its twenty largest eigenpairs from it, and those from `ntk_top`."""
    problem, masks = resnet20(n, 1 - sparsity, device, images=cifar10(n))
    chosen = masks if sparsity else None
    gradient = min(seconds(unit(problem, True), device) for _ in range(2))
    print(f"N={n}, C=10, {sparsity:.0%} sparse, budget {memory:g} GiB; one gradient of all inputs: {gradient:.1f} s\n")
    start = time.perf_counter()
    result = ntk(problem, chosen, memory=memory)
    kernel = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    print(f"ntk: {kernel:.0f} s, planned peak {result.peak_memory / 2**30:.1f} GiB, process {used:.1f} GiB", flush=True)
    start = time.perf_counter()
    top = ntk_top(problem, 20, chosen, memory=memory)
    top_seconds = time.perf_counter() - start
    print(
        f"ntk_top(k=20): {top_seconds:.0f} s, planned peak {top.peak_memory / 2**30:.1f} GiB, {top.matvecs} products, "
        f"converged: {top.converged}, Jacobian held: {top.formed}"
    )
    start = time.perf_counter()
    vectors = torch.linalg.eigh(result.kernel.double())
    pairs = time.perf_counter() - start
    error = float(((top.eigenvalues - vectors.eigenvalues.flip(0)[:20]) / result.eigenvalues[0]).abs().max())
    print(f"eigenvectors of the kernel: {pairs:.0f} s more; eigenvalues differ by {error:.0e} of the largest")
    print(f"ntk_top is {kernel / top_seconds:.1f} times cheaper than the kernel and its eigenvalues,")
    print(f"{(kernel + pairs) / top_seconds:.1f} times cheaper than the kernel and its eigenpairs")
    names = {"ntk": kernel, "eigenpairs of the kernel": pairs, "ntk_top": top_seconds, "gradient": gradient}
    return [{"work": name, "seconds": value} for name, value in names.items()]


# What is measured


def resnet20(
    n: int, density: float, device: str, classes: int = 10, width: float = 1.0, images: Tensor | None = None
) -> tuple[pv.Problem, pv.Masks]:
    """ResNet-20 on N images of 32 x 32, and random masks of one density everywhere."""
    generator = torch.Generator().manual_seed(0)
    model = pv.models.create("resnet20", classes=classes, width=width, seed=0).to(device)
    x = torch.randn(n, 3, 32, 32, generator=generator) if images is None else images
    problem = pv.Problem(model, [(x.to(device), (torch.arange(n) % classes).to(device))], batchnorm="eval")
    masks = {name: torch.rand(w.shape, generator=generator) < density for name, w in problem.weights.items()}
    return problem, {name: mask.to(device) for name, mask in masks.items()}


def unit(problem: pv.Problem, train: bool) -> Callable[[], object]:
    """One gradient with respect to all parameters, as anybody would write it."""
    ((x, y),) = problem.batches
    model = problem.model

    def gradient() -> None:
        model.train(train)
        torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))

    return gradient


def cifar10(n: int) -> Tensor | None:
    """The first N training images, normalized; None where there are none."""
    if "PRUNEVIZ_DATA" not in os.environ:
        return None
    data = pv.data.load("cifar10")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    return (data.train_x[:n].float() / 255 - mean) / std


def spread(quartiles: tuple[float, float, float]) -> str:
    """Median and quartiles."""
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
