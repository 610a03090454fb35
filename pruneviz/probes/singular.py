"""Singular values of a layer's linear operator: exact when it is small, matrix-free when it is large."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruneviz.probes.operators import LayerOperator

BLOCK = 6  # vectors that are iterated on together: clustered singular values converge faster in company
_POWER_STEPS = 3


@dataclass(frozen=True)
class OperatorSpectrum:
    """Singular values of one layer's masked linear operator, without its bias.

    Rows and columns that hold no weight, such as those of removed channels, belong to singular values that are
    trivially zero; these are left out.

    Attributes:
        shape: outputs and inputs of the operator, for one example.
        size: how many singular values are not trivially zero: at most the rows, or columns, that hold a weight.
        largest: never above the true one; 0 if nothing is left of the layer.
        smallest: of those `size`, never below the true one.
        largest_error: a singular value is within this distance of `largest`; 0 where they are exact.
        smallest_error: likewise.
        converged: whether both errors are at most the tolerance times `largest`.
        values: all `size` of them, falling, in float64 on the CPU, if the operator was small enough; else None.
    """

    shape: tuple[int, int]
    size: int
    largest: float
    smallest: float
    largest_error: float = 0.0
    smallest_error: float = 0.0
    converged: bool = True
    values: Tensor | None = None


def spectrum(operator: LayerOperator, budget: int, iterations: int, tolerance: float) -> OperatorSpectrum:
    """The singular values of an operator, in float64.

    Args:
        operator: a layer.
        budget: bytes that its matrix may take; beyond it only the largest and the smallest value are computed, by
            LOBPCG (Knyazev 2001, from scipy) on A^T A or A A^T, whichever is smaller.
        iterations: of LOBPCG at most, for each of the two.
        tolerance: of the two values, relative to the largest.
    """
    weight = operator.weight.detach().double()
    a = LayerOperator(weight, operator.inputs, operator.outputs, operator.function)
    shape = math.prod(a.outputs), math.prod(a.inputs)
    pattern = (weight != 0).double()
    rows = (a.apply(weight.new_ones(1, shape[1]), pattern)[0] > 0.5).nonzero()[:, 0]
    columns = (a.transpose(weight.new_ones(1, shape[0]), pattern)[0] > 0.5).nonzero()[:, 0]
    size = min(len(rows), len(columns))
    if 8 * len(rows) * len(columns) <= budget:
        values = (
            torch.linalg.svdvals(_dense(a, rows, columns, budget)).cpu()
            if size
            else torch.empty(0, device="cpu").double()
        )
        ends = (float(values[0]), float(values[-1])) if size else (0.0, 0.0)
        return OperatorSpectrum(shape, size, *ends, values=values)
    return OperatorSpectrum(shape, size, *_ends(_gram(a, rows, columns), size, weight.device, iterations, tolerance))


def _dense(a: LayerOperator, rows: Tensor, columns: Tensor, budget: int) -> Tensor:
    """The matrix of these rows and columns, or its transpose: the operator on unit vectors, some at a time."""
    ends = (columns, rows) if len(columns) <= len(rows) else (rows, columns)
    act = a.apply if ends[0] is columns else a.transpose
    matrix = a.weight.new_empty(len(ends[0]), len(ends[1]))
    width = math.prod(a.inputs if ends[0] is columns else a.outputs)
    at_once = max(1, budget // (8 * (math.prod(a.inputs) + math.prod(a.outputs))))
    for start in range(0, len(matrix), at_once):
        units = ends[0][start : start + at_once]
        x = a.weight.new_zeros(len(units), width)
        x[torch.arange(len(units), device=x.device), units] = 1
        matrix[start : start + at_once] = act(x)[:, ends[1]]
    return matrix


def _gram(a: LayerOperator, rows: Tensor, columns: Tensor) -> Callable[[Tensor], Tensor]:
    """X -> X A^T A on the columns, or X A A^T on the rows, whichever are fewer; X has one vector in each row."""
    by_columns = len(columns) <= len(rows)
    kept, width = (columns, math.prod(a.inputs)) if by_columns else (rows, math.prod(a.outputs))
    there, back = (a.apply, a.transpose) if by_columns else (a.transpose, a.apply)

    def gram(x: Tensor) -> Tensor:
        return back(there(x.new_zeros(len(x), width).index_copy_(1, kept, x)))[:, kept]

    return gram


def _ends(
    gram: Callable[[Tensor], Tensor], size: int, device: torch.device, iterations: int, tolerance: float
) -> tuple[float, float, float, float, bool]:
    """The largest and the smallest singular value, how far each is off at most, and whether that will do."""
    from scipy.sparse.linalg import LinearOperator, lobpcg

    def product(columns: Any) -> Any:
        return gram(torch.from_numpy(columns.T.astype("float64")).to(device)).T.cpu().numpy()

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(min(BLOCK, size), size, generator=generator, dtype=torch.float64, device="cpu").to(device)
    ahead = start
    for _ in range(_POWER_STEPS):  # which also say how large the operator is
        ahead = torch.linalg.qr(gram(ahead).T).Q.T
    scale = float(_ritz(gram, ahead)[0].max())
    matrix = LinearOperator((size, size), matvec=lambda v: product(v.reshape(-1, 1))[:, 0], matmat=product, dtype=float)
    ends = []
    for largest, begin, limit in ((True, ahead, tolerance), (False, start, tolerance**2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether it has converged is said by the residual, taken anew below
            found = lobpcg(matrix, begin.T.cpu().numpy(), largest=largest, tol=0.5 * limit * scale, maxiter=iterations)[
                1
            ]
        values, residuals = _ritz(gram, torch.from_numpy(found.T.copy()).to(device))
        best = int(values.argmax() if largest else values.argmin())
        sigma, residual = float(values[best].clamp(min=0).sqrt()), float(residuals[best])
        # Some eigenvalue of the Gram matrix is within the residual; a square root moves by at most either of these.
        ends.append((sigma, min(residual / sigma, residual**0.5) if sigma else residual**0.5))
    (top, top_error), (bottom, bottom_error) = ends
    return top, bottom, top_error, bottom_error, max(top_error, bottom_error) <= tolerance * top


def _ritz(gram: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Rayleigh quotients of the rows of x, and the norms of their residuals."""
    x = x / x.norm(dim=1, keepdim=True)
    y = gram(x)
    values = (x * y).sum(1)
    return values, (y - values[:, None] * x).norm(dim=1)
