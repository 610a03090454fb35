"""Krylov subspaces of a symmetric positive semidefinite operator: its largest eigenpairs, and its spectral density.

Own code and not SciPy's `eigsh` or `lobpcg`, for two reasons. A product with several vectors at once passes over a
Jacobian in memory once, which is what a product costs; and blocks find eigenvalues with their multiplicity: the
kernel of a linear model has every one of them C times. SciPy's are the second opinion in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: The operator times a block of vectors, (n, b) to (n, b), float64.
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Ritz:
    """Approximate eigenpairs.

    Attributes:
        values: descending, (k,).
        vectors: orthonormal, (n, k).
        residuals: the norms of A v - value v, (k,), from the products that were computed and not from a recurrence.
        converged: whether each is below its bound.
        iterations: products with a block.
        products: products with a vector.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: bool
    iterations: int
    products: int


def largest(product: Product, start: Tensor, k: int, *, tolerance: float, floor: float, iterations: int) -> Ritz:
    """The k largest eigenpairs by block Lanczos with full reorthogonalization (Golub and Underwood 1977).

    The basis grows by a block in each iteration and is never cut back; eigenpairs are those of the operator on the
    whole basis (Rayleigh-Ritz), so that losing the three-term recurrence to rounding does no harm.

    Args:
        product: the operator.
        start: (n, b) random vectors.
        k: at most n.
        tolerance: a pair has converged when its residual is at most this times its value,
        floor: or at most this times the largest value: the rounding of `product`.
        iterations: at most so many products with a block, and as many as it takes to have k vectors.
    """
    n = len(start)
    block = torch.linalg.qr(start)[0]
    basis, images = start.new_empty(n, 0), start.new_empty(n, 0)
    done = 0
    while True:
        images = torch.cat([images, product(block)], 1)
        basis = torch.cat([basis, block], 1)
        done += 1
        small = basis.T @ images
        values, turn = torch.linalg.eigh((small + small.T) / 2)
        values, turn = values.flip(0)[:k], turn.flip(1)[:, :k]
        if basis.shape[1] >= k:
            vectors = basis @ turn
            residuals = (images @ turn - vectors * values).norm(dim=0)
            converged = bool((residuals <= torch.maximum(tolerance * values, floor * values[0])).all())
            if converged or done >= iterations or basis.shape[1] == n:
                return Ritz(values, vectors, residuals, converged, done, basis.shape[1])
        block = _orthonormal(basis, images[:, -block.shape[1] :], start)


def _orthonormal(basis: Tensor, images: Tensor, start: Tensor) -> Tensor:
    """What the images add to the basis; where that is nothing, because it is invariant, other vectors."""
    for candidates in _candidates(basis, images, start):
        rest, scale = candidates, candidates.norm(dim=0).max()
        for _ in range(2):  # once is not enough in floating point, twice is (Kahan; Parlett 1980, section 6.9)
            rest = rest - basis @ (basis.T @ rest)
        left, size, _ = torch.linalg.svd(rest, full_matrices=False)
        new = left[:, size > len(basis) * torch.finfo(basis.dtype).eps * scale]
        if new.shape[1]:
            new = new[:, : min(start.shape[1], len(basis) - basis.shape[1])]
            orthonormal: Tensor = torch.linalg.qr(new - basis @ (basis.T @ new))[0]
            return orthonormal
    return basis[:, :0]


def _candidates(basis: Tensor, images: Tensor, start: Tensor) -> Iterator[Tensor]:
    """The images, the vectors of the start, and the unit vectors that are furthest from the basis."""
    yield images
    yield start
    distances = 1 - basis.square().sum(1)
    units = torch.zeros_like(start)
    units[distances.topk(start.shape[1]).indices, torch.arange(start.shape[1], device=start.device)] = 1
    yield units


def quadrature(product: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    r"""Nodes and weights of Gauss quadratures of the spectrum as seen from each vector (Golub and Meurant 1994).

    $$ v^\top q(A)\, v = \sum_i w_i\, q(\theta_i) \quad\text{for every polynomial q of degree below 2 steps} $$

    Args:
        product: the operator.
        start: (n, b) vectors of length 1, each of which starts a Lanczos process of its own.
        steps: of each process, at most n.

    Returns:
        Nodes and weights, (b, steps) each; the weights of each process sum to 1.
    """
    n, count = start.shape
    bases = start.new_zeros(count, n, steps)
    tridiagonal = start.new_zeros(count, steps, steps)
    vector = start
    for step in range(steps):
        bases[:, :, step] = vector.T
        image = product(vector)
        tridiagonal[:, step, step] = (vector * image).sum(0)
        rest = image.T.unsqueeze(2)
        for _ in range(2):
            rest = rest - bases @ (bases.mT @ rest)
        length = rest.squeeze(2).norm(dim=1)
        # An invariant subspace: the process ends, and what would follow has weight zero.
        length = length.where(length > n * torch.finfo(start.dtype).eps * image.norm(dim=0), 0)
        if step + 1 < steps:
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = length
        vector = torch.where(length > 0, rest.squeeze(2).T / length, 0)
    nodes, vectors = torch.linalg.eigh(tridiagonal)
    return nodes, vectors[:, 0].square()
