"""The top of the kernel's spectrum, and its density, against the kernel itself, on every road."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import networks
import numpy as np
import pytest
import torch
from measure import peak_bytes
from scipy.sparse.linalg import LinearOperator, eigsh
from test_ntk import Terminal, medium, of_model, random
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.probes import kernel_product
from pruneviz.probes.jacobian import GIB
from pruneviz.probes.ntk import ntk
from pruneviz.probes.ntk_density import spectral_density
from pruneviz.probes.ntk_top import NtkTop, ntk_top

ROADS = ("formed", "forward", "twice backward")


def take(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply by the kernel in one of the three ways, whatever fits."""
    constructor = kernel_product.KernelProduct.__init__

    def chosen(self, view, budget, width):
        constructor(self, view, budget, width)
        self.formed = road == "formed"
        self._forward_mode = road == "forward"

    monkeypatch.setattr(kernel_product.KernelProduct, "__init__", chosen)
    if road == "forward":
        monkeypatch.setattr(kernel_product, "_twice_backward", None)
    if road == "twice backward":
        monkeypatch.setattr(kernel_product, "_forward", None)


def agrees(top: NtkTop, kernel: Tensor, rtol: float = 1e-9) -> None:
    """The eigenvalues of the kernel, and vectors that are its eigenvectors."""
    exact = torch.linalg.eigvalsh(kernel.double()).flip(0)[: len(top.eigenvalues)]
    torch.testing.assert_close(top.eigenvalues, exact, rtol=0, atol=rtol * float(exact[0]))
    residuals = (kernel.double() @ top.eigenvectors - top.eigenvectors * top.eigenvalues).norm(dim=0)
    torch.testing.assert_close(top.residuals, residuals, rtol=0, atol=rtol * float(exact[0]))
    assert top.converged


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("name", networks.IDS)
def test_it_is_the_top_of_the_kernel_on_every_network_and_road(name, batchnorm, road, monkeypatch):
    problem = networks.problem(name, batchnorm=batchnorm, sizes=(3, 2))
    masks = networks.random_masks(problem)
    take(road, monkeypatch)
    top = ntk_top(problem, 4, masks, block=4, tolerance=1e-8)
    agrees(top, ntk(problem, masks).kernel)
    assert top.formed == (road == "formed")


@pytest.mark.parametrize("road", ROADS)
def test_all_parameters_and_pieces_of_inputs(road, monkeypatch):
    problem = networks.problem("residual", batchnorm="eval", sizes=(20, 30))
    take(road, monkeypatch)
    monkeypatch.setattr(kernel_product, "_AT_ONCE", 7)
    top = ntk_top(problem, 6, parameters="all", tolerance=1e-8)
    agrees(top, ntk(problem, parameters="all").kernel)
    assert (top.n, top.classes, top.parameters, top.weights) == (
        50,
        3,
        "all",
        sum(map(torch.numel, problem.parameters.values())),
    )


def test_scipy_finds_the_same_from_the_kernel():
    problem = networks.problem("conv_bn", batchnorm="eval", sizes=(20,))
    kernel = ntk(problem).kernel
    operator = LinearOperator(kernel.shape, matvec=lambda v: (kernel @ torch.from_numpy(v.copy())).numpy(), dtype=float)
    values = eigsh(operator, 5, v0=np.ones(len(kernel)), return_eigenvectors=False)
    top = ntk_top(problem, 5, tolerance=1e-9)
    torch.testing.assert_close(top.eigenvalues, torch.from_numpy(np.sort(values)[::-1].copy()), rtol=1e-10, atol=0)


def test_a_linear_model_has_every_eigenvalue_once_per_output():
    x = torch.linalg.qr(random(8, 8))[0] * torch.arange(8.0, 0, -1, dtype=torch.float64).unsqueeze(1)
    top = ntk_top(of_model(nn.Linear(8, 3).double(), x), 7, block=3)
    expected = torch.tensor([64.0, 64, 64, 49, 49, 49, 36], dtype=torch.float64)
    torch.testing.assert_close(top.eigenvalues, expected, rtol=1e-10, atol=0)


def test_float32_converges_to_what_float32_can_tell():
    problem, masks = medium(0.05)
    top = ntk_top(problem, 10, masks)
    assert top.converged
    assert (top.formed, top.weights) == (True, pv.masks.kept(masks))
    kernel = ntk(problem, masks).kernel
    agrees(top, kernel, rtol=1e-5)


def test_one_seed_gives_one_result_and_another_the_same_eigenvalues():
    problem = networks.problem("residual", batchnorm="eval", sizes=(20,))
    first, again, other = (ntk_top(problem, 4, seed=seed, tolerance=1e-9) for seed in (0, 0, 1))
    assert torch.equal(first.eigenvectors, again.eigenvectors)
    assert not torch.equal(first.eigenvectors, other.eigenvectors)
    torch.testing.assert_close(first.eigenvalues, other.eigenvalues, rtol=1e-9, atol=0)


def test_too_few_iterations_are_admitted():
    problem = networks.problem("residual", batchnorm="eval", sizes=(30,))
    top = ntk_top(problem, 6, block=2, iterations=1, tolerance=1e-10)
    assert not top.converged
    assert (top.iterations, top.matvecs) == (3, 6)
    assert float(top.residuals.max()) > 0


class NoForward(torch.autograd.Function):
    """An operation that has no forward derivatives, as custom ones often have not."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].cos()


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NoForward.apply(x)


def test_an_operation_without_forward_derivatives_is_differentiated_twice(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 5), Sine(), nn.Linear(5, 2)).double()
    problem = of_model(model, random(6, 4))
    take("forward", monkeypatch)
    with pytest.raises(TypeError, match="NoneType"):
        ntk_top(problem, 3)  # the other road is blocked
    monkeypatch.undo()
    constructor = kernel_product.KernelProduct.__init__

    def not_formed(self, view, budget, width):
        constructor(self, view, budget, width)
        self.formed = False

    monkeypatch.setattr(kernel_product.KernelProduct, "__init__", not_formed)
    agrees(ntk_top(problem, 3, tolerance=1e-9), ntk(problem).kernel)


def test_another_error_of_the_model_is_not_taken_for_a_missing_derivative(monkeypatch):
    take("forward", monkeypatch)

    def broken(*args: object) -> Tensor:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(kernel_product, "_forward", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        ntk_top(networks.problem("linear"), 2)


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("memory", [8.0, 0.02], ids=["formed", "not formed"])
def test_what_is_held_stays_within_the_plan_and_the_plan_within_the_budget(memory, iterations):
    problem, masks = medium(0.5)
    results = []
    options = {"block": 2, "iterations": iterations, "tolerance": 1.0 if iterations == 1 else 1e-15, "memory": memory}
    peak = peak_bytes(lambda: results.append(ntk_top(problem, 2, masks, **options)))
    assert results[0].formed == (memory == 8.0)
    assert peak <= results[0].peak_memory <= memory * GIB


def test_no_bar_is_shown_where_nobody_watches(capfd):
    ntk_top(networks.problem("linear"), 2)
    spectral_density(networks.problem("linear"), vectors=1, steps=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("road", ["formed", "forward"])
def test_on_a_terminal_bars_count_inputs_and_vectors(road, monkeypatch):
    problem = networks.problem("residual", batchnorm="eval", sizes=(20, 20))
    take(road, monkeypatch)
    monkeypatch.setattr(sys, "stderr", Terminal())
    top = ntk_top(problem, 5, block=5)
    shown = sys.stderr.getvalue()
    assert ("Jacobian: 100%" in shown) == ("| 40/40 [" in shown) == (road == "formed")
    assert f"Lanczos: {top.matvecs} vectors [" in shown
    monkeypatch.setattr(sys, "stderr", Terminal())
    ntk_top(problem, 5, block=5, progress=False)
    assert sys.stderr.getvalue() == ""


def test_forward_derivatives_do_it_without_a_warning(capfd, monkeypatch, recwarn):
    take("forward", monkeypatch)
    ntk_top(networks.problem("residual", batchnorm="eval"), 2)
    assert not recwarn.list
    assert capfd.readouterr().err == ""


# The density


def test_the_density_has_the_kernels_trace_and_integrates_to_one():
    problem = networks.problem("residual", batchnorm="eval", sizes=(40,))
    exact = ntk(problem)
    density = spectral_density(problem, vectors=30, steps=20)
    assert density.size == 120
    assert abs(density.trace - exact.trace) < 4 * density.trace_error
    assert density.trace_error < 0.2 * exact.trace
    torch.testing.assert_close(density.weights.sum(1), torch.ones(30, dtype=torch.float64))
    grid = torch.linspace(-1, 2, 4001, dtype=torch.float64) * float(exact.eigenvalues[0])
    width = 0.02 * float(exact.eigenvalues[0])
    assert float(torch.trapezoid(density.at(grid, width), grid)) == pytest.approx(1, abs=1e-6)
    logs = torch.linspace(-30, 10, 4001, dtype=torch.float64)
    assert float(torch.trapezoid(density.at(logs, 0.1, decades=True), logs)) <= 1 + 1e-6


def test_the_fraction_below_a_point_is_that_of_the_eigenvalues():
    problem = networks.problem("residual", batchnorm="eval", sizes=(40,))
    exact = ntk(problem).eigenvalues
    density = spectral_density(problem, vectors=60, steps=40)
    points = torch.tensor([float(exact[i]) * 1.0001 for i in (5, 15, 30, 50)])
    expected = (exact <= points.unsqueeze(1)).double().mean(1)
    torch.testing.assert_close(density.below(points), expected, rtol=0, atol=0.06)
    assert float(density.below(torch.tensor(float(exact[0]) * 1.01))) == pytest.approx(1)


def test_masks_move_the_density():
    problem = networks.problem("residual", batchnorm="eval", sizes=(20,))
    masks = networks.random_masks(problem, density=0.3)
    density = spectral_density(problem, masks, vectors=20, steps=20)
    exact = ntk(problem, masks).trace
    assert abs(density.trace - exact) < 4 * density.trace_error
    assert density.trace < 0.8 * ntk(problem).trace
    assert math.isnan(spectral_density(problem, vectors=1, steps=2).trace_error)


# Bad input


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "too many": (lambda: ntk_top(networks.problem("linear"), 31), "31 eigenvalues of a kernel with 10 x 3 = 30 rows"),
    "none": (lambda: ntk_top(networks.problem("linear"), 0), "k 0 is not accepted"),
    "no block": (lambda: ntk_top(networks.problem("linear"), 2, block=0), "block 0 is not accepted"),
    "no tolerance": (lambda: ntk_top(networks.problem("linear"), 2, tolerance=0), "tolerance 0 is not accepted"),
    "no seed": (lambda: ntk_top(networks.problem("linear"), 2, seed=-1), "seed -1 is not accepted"),
    "no memory": (lambda: ntk_top(networks.problem("residual"), 2, memory=1e-6), "give more memory"),
    "mask": (
        lambda: ntk_top(networks.problem("linear"), 2, {"weight": torch.ones(2, 2, dtype=torch.bool)}),
        "shape (2, 2)",
    ),
    "width": (lambda: spectral_density(networks.problem("linear")).at(torch.zeros(1), 0), "width 0 is not accepted"),
    "steps": (lambda: spectral_density(networks.problem("linear"), steps=0), "steps 0 is not accepted"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    work, expected = BAD[case]
    with pytest.raises(InputError) as caught:
        work()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_derivatives_that_are_not_finite_are_refused_on_the_road_without_a_jacobian_too(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[1].weight[0, 0] = math.inf
    for road in ROADS:
        take(road, monkeypatch)
        with pytest.raises(InputError, match=r"'0\.weight' are not finite in batch 0"):
            ntk_top(of_model(model, random(5, 3)), 2)
        monkeypatch.undo()
