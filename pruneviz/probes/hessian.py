"""The Hessian of the loss in the weights that are kept: its extreme eigenvalues and its spectral density."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_number, check_positive, check_seed
from pruneviz.masks import Masks
from pruneviz.probes.hessian_operator import MaskedLoss, curvlinops, operator, second_derivatives
from pruneviz.problem import Problem

_DENSE = 256  # a matrix of so many weights is formed
_AT_ONCE = 32  # of its columns


@dataclass(frozen=True)
class HessianSpectrum:
    """Eigenvalues of the Hessian of the problem's loss: a mean over each batch, summed over batches.

    Attributes:
        weights: how many weights it is taken in.
        eigenvalues: the k largest, falling, in float64 on the CPU; fewer if not all of them were found.
        residuals: |H v - λ v| for each: an eigenvalue is within this distance.
        lowest: the smallest one, negative at a saddle; NaN if it was not found.
        lowest_residual: likewise.
        converged: whether all are there with residuals of at most the tolerance times the largest size of any.
        grid: where the density is given, if it was asked for.
        density: of eigenvalues there, smoothed; integrates to about 1.
    """

    weights: int
    eigenvalues: Tensor
    residuals: Tensor
    lowest: float
    lowest_residual: float
    converged: bool
    grid: Tensor | None = None
    density: Tensor | None = None


def hessian_spectrum(
    problem: Problem,
    masks: Masks | None = None,
    k: int = 5,
    *,
    density: bool = False,
    lanczos: int = 64,
    repeats: int = 2,
    points: int = 1024,
    iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> HessianSpectrum:
    """Extreme eigenvalues, and if wanted the density, of the Hessian in the prunable weights that are kept.

    Removed weights are zero and no directions: of the dense network's Hessian at the masked weights their rows and
    columns are left out. The matrix is curvlinops' `HessianLinearOperator`, of this problem's loss, batches and batch
    statistics; eigenvalues are from scipy's `eigsh` (ARPACK), the density is `lanczos_approximate_spectrum` (Papyan
    2020, algorithm 2). Cost: for each product that the bar counts, a Hessian-vector product of about 4 gradients. With
    few weights the matrix is formed and its eigenvalues are exact.

    Args:
        problem: model, batches and loss; left untouched.
        masks: the weights removed; None for the dense network.
        k: how many of the largest eigenvalues.
        density: whether to estimate the density as well, with `repeats` times `lanczos` products.
        lanczos: nodes of its quadrature: more show finer detail.
        repeats: random vectors that it is averaged over.
        points: of its grid.
        iterations: of ARPACK at most, each of some 20 products.
        tolerance: of eigenvalues, relative to the size of the largest.
        seed: of the random vectors. Those of the density are drawn on the model's device.

    Raises:
        InputError: a mask that does not fit or keeps nothing, more eigenvalues or nodes than weights, a loss that is
            not finite, or an operation of the model without second derivative.
        ModuleNotFoundError: without the extra "hessian".
    """
    for what, value in {"k": k, "lanczos": lanczos, "repeats": repeats, "points": points}.items():
        check_positive(what, value)
    check_positive("iterations", iterations)
    tolerance, seed = check_number("tolerance", tolerance, above=0.0), check_seed(seed)
    library = curvlinops()
    with exact_arithmetic(), tqdm(unit="product", leave=False, disable=None) as bar:
        network = MaskedLoss(problem, masks)
        n = sum(w.numel() for w in network.weights)
        if k > n or (density and lanczos > n):
            what, received = ("k", k) if k > n else ("lanczos", lanczos)
            raise InputError(f"{what} {received} is more than the {n} weights that are kept; accepted: at most {n}")
        with second_derivatives():
            matrix = operator(library, network)
            network.tick = bar.update
            few = n <= _DENSE or k == n  # ARPACK finds fewer than all
            values, residuals = _dense(matrix, k) if few else _ends(matrix, k, iterations, tolerance, seed)
            scale = float(values.abs().nan_to_num().max())
            grid = None
            if density:
                grid = _density(library, matrix, values, problem.device, lanczos, repeats, points, seed)
    return HessianSpectrum(
        weights=n,
        eigenvalues=values[:-1],
        residuals=residuals[:-1],
        lowest=float(values[-1]),
        lowest_residual=float(residuals[-1]),
        converged=len(values) == k + 1 and bool((residuals <= tolerance * scale).all()),
        grid=None if grid is None else grid[0],
        density=None if grid is None else grid[1],
    )


def _dense(matrix: Any, k: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues and the smallest, exact but for rounding, with no residual."""
    units = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    full = torch.cat([matrix @ some for some in units.split(_AT_ONCE, 1)], 1).double().cpu()
    values = torch.linalg.eigvalsh((full + full.T) / 2).flip(0)
    return torch.cat([values[:k], values[-1:]]), values.new_zeros(k + 1)


def _ends(matrix: Any, k: int, iterations: int, tolerance: float, seed: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues and the smallest, with residuals; what was not found is left out, or NaN at the end."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    n = matrix.shape[1]
    h = matrix.to_scipy()
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, generator=generator, dtype=torch.float64, device="cpu").numpy()

    def found(shift: float, **options: Any) -> tuple[Tensor, Tensor]:
        moved = LinearOperator(h.shape, matvec=lambda v: h @ v - shift * v, dtype=float)
        try:
            vectors = eigsh(moved, v0=start, maxiter=iterations, tol=tolerance / 10, **options)[1]
        except ArpackNoConvergence as error:
            vectors = error.eigenvectors
        pairs = [(torch.from_numpy(v), torch.from_numpy(h @ v)) for v in vectors.T]
        quotients = _numbers(float(v @ hv / (v @ v)) for v, hv in pairs)
        norms = _numbers(float((hv - q * v).norm() / v.norm()) for (v, hv), q in zip(pairs, quotients, strict=True))
        order = quotients.argsort(descending=True)
        return quotients[order], norms[order]

    top, top_residuals = found(0.0, k=k, which="LA")
    # From the largest one, the smallest is the farthest: what is found is as exact as the whole range asks for.
    low, low_residuals = found(float(top[0]) if len(top) else 0.0, k=1, which="SA")
    if not len(low):
        low, low_residuals = _numbers([math.nan]), _numbers([math.inf])
    return torch.cat([top, low]), torch.cat([top_residuals, low_residuals])


def _numbers(values: Iterable[float]) -> Tensor:
    return torch.tensor([*values], dtype=torch.float64, device="cpu")


def _density(
    library: Any, matrix: Any, ends: Tensor, device: torch.device, nodes: int, repeats: int, points: int, seed: int
) -> tuple[Tensor, Tensor]:
    bounds = tuple(None if math.isnan(end) else end for end in (float(ends[-1]), float(ends[0])))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # curvlinops draws from the global generators
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        grid, density = library.lanczos_approximate_spectrum(
            matrix, nodes, num_points=points, num_repeats=repeats, boundaries=bounds
        )
    if not bool(torch.isfinite(density).all()):
        raise InputError(
            f"lanczos {nodes} is more than this Hessian has different eigenvalues; accepted: less, or no density"
        )
    return grid.double().cpu(), density.double().cpu()
