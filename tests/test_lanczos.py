"""Lanczos on matrices whose spectra are known: by construction, by the law of large random matrices, and by SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from pruneviz.probes.lanczos import largest, quadrature


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(values: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with these eigenvalues and random eigenvectors, and the eigenvectors."""
    basis = torch.linalg.qr(random(len(values), len(values), seed=seed))[0]
    return (basis * values) @ basis.T, basis


SPECTRA = {
    "decay": 0.8 ** torch.arange(80.0, dtype=torch.float64),
    "harmonic": 1 / torch.arange(1.0, 81, dtype=torch.float64),
    "close to each other": torch.linspace(2, 1, 80, dtype=torch.float64),
    "low rank": torch.tensor([5.0, 4, 3, 2, 1] + 75 * [0.0], dtype=torch.float64),
    "four times each": torch.arange(20.0, 0, -1, dtype=torch.float64).repeat_interleave(4),
    "identity": torch.ones(80, dtype=torch.float64),
    "zero": torch.zeros(80, dtype=torch.float64),
    "outlier": torch.cat([torch.tensor([1e6]), torch.linspace(1, 0.5, 79)]).double(),
}


@pytest.mark.parametrize("block", [1, 4, 10])
@pytest.mark.parametrize("name", SPECTRA)
def test_it_finds_a_spectrum_that_was_built_in(name, block):
    values = SPECTRA[name]
    if block == 1 and name == "four times each":
        pytest.skip("single vectors see one of several equal eigenvalues: the next test")
    matrix, _ = with_spectrum(values)
    top = largest(lambda v: matrix @ v, random(80, block, seed=1), 8, tolerance=1e-9, floor=1e-13, iterations=100)
    assert top.converged
    torch.testing.assert_close(top.values, values[:8], rtol=1e-10, atol=1e-10 * max(1e-3, float(values[0])))
    torch.testing.assert_close(top.vectors.T @ top.vectors, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-11)


def test_equal_eigenvalues_are_found_as_often_as_they_are_there_if_the_block_is_as_wide():
    values = SPECTRA["four times each"]
    matrix, _ = with_spectrum(values)

    def top(block: int) -> Tensor:
        found = largest(lambda v: matrix @ v, random(80, block, seed=1), 8, tolerance=1e-9, floor=0, iterations=100)
        return found.values.round()

    assert top(4).tolist() == [20, 20, 20, 20, 19, 19, 19, 19]
    assert top(1).tolist() == [20, 19, 18, 17, 16, 15, 14, 13]


def test_residuals_are_those_of_the_pairs_and_bound_the_error():
    matrix, _ = with_spectrum(SPECTRA["harmonic"])
    top = largest(lambda v: matrix @ v, random(80, 3, seed=1), 6, tolerance=0.05, floor=0, iterations=100)
    torch.testing.assert_close(top.residuals, (matrix @ top.vectors - top.vectors * top.values).norm(dim=0))
    assert bool((top.residuals <= 0.05 * top.values).all())
    distances = (SPECTRA["harmonic"].unsqueeze(0) - top.values.unsqueeze(1)).abs().min(1).values
    assert bool((distances <= top.residuals).all())
    assert float(top.residuals.max()) > 1e-6, "nothing to bound: stopped too late"


def test_it_says_when_it_was_stopped_early():
    matrix, _ = with_spectrum(SPECTRA["close to each other"])
    top = largest(lambda v: matrix @ v, random(80, 4, seed=1), 8, tolerance=1e-9, floor=0, iterations=3)
    assert not top.converged
    assert (top.iterations, top.products) == (3, 12)
    assert float(top.residuals.max()) > 1e-3


def test_an_error_in_the_product_shows_in_the_residual():
    """The residual is computed from the products: it cannot be smaller than what a wrong operator leaves."""
    matrix, _ = with_spectrum(SPECTRA["decay"])
    noise = 1e-4 * random(80, 80, seed=3)
    top = largest(lambda v: (matrix + noise) @ v, random(80, 4, seed=1), 4, tolerance=1e-9, floor=0, iterations=20)
    assert not top.converged


def test_all_eigenpairs_of_a_small_matrix():
    values = torch.tensor([3.0, 2.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    matrix, _ = with_spectrum(values)
    top = largest(lambda v: matrix @ v, random(5, 2), 5, tolerance=1e-10, floor=1e-13, iterations=1)
    torch.testing.assert_close(top.values, values, rtol=0, atol=1e-13)
    assert top.products == 5


def test_an_invariant_start_is_left_for_the_rest_of_the_space():
    """The zero operator: every subspace is invariant, and all n vectors are asked for."""
    top = largest(torch.zeros_like, random(40, 3, seed=1), 40, tolerance=1e-9, floor=0, iterations=1)
    assert top.values.tolist() == [0.0] * 40
    torch.testing.assert_close(top.vectors.T @ top.vectors, torch.eye(40, dtype=torch.float64))


def test_nothing_square_is_made():
    """A square matrix of this side would take 720 GB; it was made once for vectors that are seldom needed."""
    values = torch.rand(300_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[:4] = torch.tensor([9.0, 7.0, 5.0, 3.0])
    start = random(300_000, 4, seed=1)
    top = largest(lambda v: values[:, None] * v, start, 4, tolerance=1e-6, floor=0, iterations=30)
    assert top.converged
    torch.testing.assert_close(top.values, values[:4], rtol=1e-8, atol=0)


def test_products_are_counted():
    matrix, _ = with_spectrum(SPECTRA["decay"])
    seen = []

    def product(v: Tensor) -> Tensor:
        seen.append(v.shape[1])
        return matrix @ v

    top = largest(product, random(80, 5), 8, tolerance=1e-6, floor=0, iterations=100)
    assert (top.iterations, top.products) == (len(seen), sum(seen))
    assert set(seen) == {5}


@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_the_same(seed):
    j = random(120, 300, seed=seed)
    matrix = j @ j.T
    operator = LinearOperator((120, 120), matvec=lambda v: (matrix @ torch.from_numpy(v.copy())).numpy(), dtype=float)
    values, vectors = eigsh(operator, 6, v0=np.ones(120))
    order = np.argsort(values)[::-1].copy()
    top = largest(lambda v: matrix @ v, random(120, 4, seed=9), 6, tolerance=1e-10, floor=1e-14, iterations=100)
    torch.testing.assert_close(top.values, torch.from_numpy(values[order]), rtol=1e-12, atol=0)
    overlaps = (top.vectors.T @ torch.from_numpy(vectors[:, order].copy())).abs()
    torch.testing.assert_close(overlaps, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_quadrature_is_exact_for_polynomials_of_degree_below_twice_its_steps(steps):
    matrix, _ = with_spectrum(SPECTRA["harmonic"] + 0.3)
    start = torch.nn.functional.normalize(random(80, 3), dim=0)
    nodes, weights = quadrature(lambda v: matrix @ v, start, steps)
    powers, errors = start, []
    for degree in range(2 * steps + 1):
        expected = (start * powers).sum(0)
        found = (weights * nodes**degree).sum(1)
        errors.append(float(((found - expected) / expected).abs().max()))
        powers = matrix @ powers
    assert max(errors[: 2 * steps]) < 1e-12
    assert errors[2 * steps] > 20 * max(errors[: 2 * steps]), "one degree more is no longer exact"


def test_with_as_many_steps_as_eigenvalues_the_nodes_are_the_eigenvalues():
    values = torch.tensor([0.5, 1.0, 2.0, 5.0, 9.0], dtype=torch.float64)
    matrix, vectors = with_spectrum(values)
    start = torch.nn.functional.normalize(random(5, 2), dim=0)
    nodes, weights = quadrature(lambda v: matrix @ v, start, 5)
    torch.testing.assert_close(nodes, values.expand(2, 5))
    torch.testing.assert_close(weights, (vectors.T @ start).square().T)


def test_a_process_that_ends_early_keeps_its_quadrature():
    """One start is an eigenvector, the other sees two eigenvalues; neither may stop the third."""
    values = torch.linspace(1, 6, 20, dtype=torch.float64)
    matrix, vectors = with_spectrum(values)
    two = (vectors[:, 3] * 0.6 + vectors[:, 8] * 0.8).unsqueeze(1)
    start = torch.cat([vectors[:, [5]], two, torch.nn.functional.normalize(random(20, 1), dim=0)], 1)
    nodes, weights = quadrature(lambda v: matrix @ v, start, 6)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    for degree in range(4):
        expected = torch.stack([(s @ torch.linalg.matrix_power(matrix, degree) @ s) for s in start.T])
        torch.testing.assert_close((weights * nodes**degree).sum(1), expected)
    assert float(weights[0].max()) == pytest.approx(1)
    assert sorted(weights[1].tolist())[-2:] == pytest.approx([0.36, 0.64])


def test_a_large_random_kernel_has_the_density_of_marchenko_and_pastur():
    """J J^T / p of a Gaussian J, (n, p): the fraction of eigenvalues below a point is known as n and p grow."""
    n, p = 600, 1200
    j = random(n, p)
    start = torch.nn.functional.normalize(random(n, 4, seed=1), dim=0)
    nodes, weights = quadrature(lambda v: j @ (j.T @ v) / p, start, 30)
    ratio = n / p
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    points = torch.linspace(low, high, 4001, dtype=torch.float64)
    law = ((high - points) * (points - low)).clamp(min=0).sqrt() / (2 * math.pi * ratio * points)
    cumulative = torch.cumulative_trapezoid(law, points)
    assert float(cumulative[-1]) == pytest.approx(1, abs=1e-4)
    for at in (500, 1000, 2000, 3000):
        found = float((weights * (nodes <= points[at + 1])).sum(1).mean())
        assert found == pytest.approx(float(cumulative[at]), abs=0.05)
    assert low - 0.02 < float(nodes.min())
    assert float(nodes.max()) < high + 0.05
