"""The kernel of as many inputs as an experiment has, and its largest eigenpairs with and without it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import scipy.linalg
import torch
from measure import high_water_mark, seconds
from probes_case import resnet20, unit
from probes_recipes import by_torch_func
from torch import Tensor

import pruneviz as pv
from pruneviz.probes import NtkResult, NtkTop, ntk, ntk_top, spectral_density

GIB = 2**30
AT_ONCE = 100  # images per gradient
RECIPE_AT_ONCE = 25  # of the recipe, whose every image takes 60 MiB


class Clock:
    """Times works one by one, once each, and keeps what they gave and what the process held by then."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.rows: list[dict[str, Any]] = []

    def __call__(self, name: str, work: Callable[[], object]) -> object:
        """The result of a work."""
        found: list[object] = []
        taken = seconds(lambda: found.append(work()), self.device)
        plan = getattr(found[0], "peak_memory", None)
        self.rows.append({"work": name, "seconds": taken, "planned_bytes": plan, "held_bytes": held(self.device)})
        print(f"{name}: {taken:.0f} s", flush=True)
        return found[0]


def large(n: int, sparsity: float, memory: float, device: str) -> tuple[list[dict[str, Any]], str]:
    """Rows with all numbers, and a table of them."""
    images = cifar10(n)
    problem, masks = resnet20(n, 1 - sparsity, device, images=images)
    gradient = statistics.median(seconds(unit(problem, AT_ONCE), device) for _ in range(3))
    clock = Clock(device)
    clock(
        "the Jacobian, and one product with it",
        lambda: spectral_density(problem, masks, vectors=1, steps=1, memory=memory),
    )
    pairs = clock("`ntk_top`, k=20", lambda: ntk_top(problem, 20, masks, memory=memory))
    result = clock("`ntk`", lambda: ntk(problem, masks, memory=memory))
    assert isinstance(result, NtkResult)
    assert isinstance(pairs, NtkTop)
    clock("the same 20 eigenvectors from its kernel", lambda: eigenvectors(result.kernel, 20))
    checks: dict[str, object] = {
        "gradient_seconds": gradient,
        "products": pairs.matvecs,
        "converged": pairs.converged,
        "eigenvalues": pairs.eigenvalues.tolist(),
        "residuals": pairs.residuals.tolist(),
        "error": float((pairs.eigenvalues - result.eigenvalues[:20]).abs().max() / result.eigenvalues[0]),
    }
    jacobian = 4 * len(result.kernel) * sum(mask.numel() for mask in masks.values())
    if jacobian <= memory * GIB:
        ((x, _),) = problem.batches
        recipe = clock(
            f"torch.func: vmap(jacrev), {RECIPE_AT_ONCE} images at once",
            lambda: by_torch_func(problem.model, x, masks, RECIPE_AT_ONCE),
        )
        assert isinstance(recipe, Tensor)
        checks["recipe_error"] = float((recipe - result.kernel).norm() / result.kernel.norm())
    what = "random images" if images is None else "images of CIFAR-10"
    lines = [
        f"N={n} {what}, C=10, {sparsity:.0%} of the weights removed, a budget of {memory:g} GiB; a unit, in batches of "
        f"{AT_ONCE}, is {gradient:.1f} s:",
        "",
        *table(clock.rows, gradient),
        "",
        told([row["seconds"] for row in clock.rows], checks),
    ]
    return [*clock.rows, checks], "\n".join(lines)


def widest(n: int, sparsity: float, memory: float, device: str) -> tuple[list[dict[str, Any]], str]:
    """The largest eigenpairs of a kernel that would itself take tens of gigabytes."""
    images = cifar10(n)
    problem, masks = resnet20(n, 1 - sparsity, device, images=images)
    few = resnet20(AT_ONCE, 1 - sparsity, device)[0]
    gradient = n / AT_ONCE * statistics.median(seconds(unit(few), device) for _ in range(3))
    clock = Clock(device)
    top = clock("`ntk_top`, k=20", lambda: ntk_top(problem, 20, masks, memory=memory))
    assert isinstance(top, NtkTop)
    (row,) = clock.rows
    what, entries = "random images" if images is None else "images of CIFAR-10", (n * top.classes) ** 2
    row |= {"gradient_seconds": gradient, "products": top.matvecs, "converged": top.converged, "formed": top.formed}
    row |= {"eigenvalues": top.eigenvalues.tolist(), "residuals": top.residuals.tolist()}
    text = (
        f"N={n} {what}, C={top.classes}, {sparsity:.0%} of the weights removed, a budget of {memory:g} GiB: "
        f"`ntk_top` with k=20 takes {row['seconds']:.0f} s, {row['seconds'] / gradient:.1f} units of {gradient:.0f} s, "
        f"{row['planned_bytes'] / GIB:.1f} GiB as planned and {row['held_bytes'] / GIB:.1f} GiB held by the process at "
        f"most. It holds the Jacobian: {top.formed}; converged: {top.converged}, after {top.matvecs} products with a "
        f"vector. The kernel alone would take {4 * entries / GIB:.0f} GiB."
    )
    return [row], text


def table(rows: list[dict[str, Any]], gradient: float) -> list[str]:
    """What each work took; a gradient takes so many seconds."""
    lines = [
        "| | seconds | units | planned, GiB | held by the process until then, GiB |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        planned = "" if row["planned_bytes"] is None else f"{row['planned_bytes'] / GIB:.2f}"
        taken, held = row["seconds"], row["held_bytes"] / GIB
        lines.append(f"| {row['work']} | {taken:.0f} | {taken / gradient:.1f} | {planned} | {held:.2f} |")
    return lines


def told(spent: list[Any], checks: dict[str, Any]) -> str:
    """The ratios of the times, and how good the pairs are."""
    one, top, whole, vectors, *recipe = spent
    shown = ", ".join(f"{v:.2e} ({r:.0e})" for v, r in zip(checks["eigenvalues"], checks["residuals"], strict=True))
    said = (
        f"`ntk_top` takes {top / one:.2f} times as long as the Jacobian and one product; `ntk` {whole / top:.1f} times "
        f"as long as `ntk_top`, and with the eigenvectors {(whole + vectors) / top:.1f} times. "
    )
    if recipe:
        said += (
            f"The recipe, which forms all columns and stops at the kernel, takes {recipe[0] / whole:.1f} times as long "
            f"as `ntk` and {recipe[0] / top:.1f} times as long as `ntk_top`; its kernel differs from that of `ntk` by "
            f"{checks['recipe_error']:.0e} of its norm. "
        )
    return said + (
        f"`ntk_top` made {checks['products']} products with a vector; converged: {checks['converged']}; its "
        f"eigenvalues differ from those of `ntk` by at most {checks['error']:.0e} of the largest. Eigenvalues "
        f"(residuals): {shown}."
    )


def eigenvectors(kernel: Tensor, k: int) -> object:
    """Of the k largest eigenvalues: by LAPACK for these alone; on a GPU for all, as PyTorch cannot do less."""
    if kernel.is_cuda:
        return torch.linalg.eigh(kernel.double())
    n = len(kernel)
    return scipy.linalg.eigh(kernel.double().numpy().T, subset_by_index=(n - k, n - 1), overwrite_a=True)


def held(device: str) -> int:
    """The most bytes that the process has held: of all memory on a CPU, of tensors on a GPU."""
    if device == "cpu":
        return high_water_mark()
    return int(torch.cuda.max_memory_allocated(device))


def cifar10(n: int) -> Tensor | None:
    """The first N training images, normalized; None where there are none."""
    if "PRUNEVIZ_DATA" not in os.environ:
        return None
    data = pv.data.load("cifar10")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    return (data.train_x[:n].float() / 255 - mean) / std
