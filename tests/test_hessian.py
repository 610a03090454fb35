"""The Hessian's spectrum against a dense Hessian row by row, a known one, and what must hold of any."""

import math
import subprocess
import sys
from pathlib import Path

import networks
import pytest
import reference
import torch
from test_grasp import half_squares
from test_problem import Fuse, snapshot, unusual
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.probes import hessian
from pruneviz.probes.hessian import hessian_spectrum

pytest.importorskip("curvlinops")


def dense_eigenvalues(problem, masks=None):
    """Of the twin's Hessian without the rows and columns of removed weights, falling."""
    network = reference.Network(problem)
    values = network.values(masks)
    full = network.hessian(reference.flat(values))
    ones = {n: torch.ones_like(v, dtype=torch.bool) for n, v in values.items()}
    kept = reference.flat(ones | (masks or {}))
    return torch.linalg.eigvalsh(full[kept][:, kept]).flip(0)


@pytest.fixture
def matrix_free(monkeypatch):
    monkeypatch.setattr(hessian, "_DENSE", 0)


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", ["linear", "conv_bn", "residual", "tied", "attention", "buffers"])
def test_eigenvalues_against_a_dense_hessian(name, batchnorm):
    problem = networks.problem(name, batchnorm=batchnorm)
    masks = networks.random_masks(problem)
    masks.pop(problem.names[-1])  # a layer without a mask is kept
    expected = dense_eigenvalues(problem, masks)
    found = hessian_spectrum(problem, masks, k=3, tolerance=1e-6)
    scale = float(expected.abs().max())
    assert found.weights == len(expected)
    assert found.converged
    torch.testing.assert_close(found.eigenvalues, expected[:3], rtol=0, atol=1e-6 * scale)
    assert found.lowest == pytest.approx(float(expected[-1]), abs=1e-6 * scale)
    assert found.density is None


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", ["mlp_relu", "conv_bn"])
@pytest.mark.usefixtures("matrix_free")
def test_without_the_matrix_eigenvalues_are_within_their_residuals(name, masked):
    problem = networks.problem(name)
    masks = networks.random_masks(problem) if masked else None
    expected = dense_eigenvalues(problem, masks)
    for tolerance in (1e-2, 1e-6):
        found = hessian_spectrum(problem, masks, k=3, tolerance=tolerance)
        assert found.converged
        for value, residual in zip(found.eigenvalues, found.residuals, strict=True):
            assert float((expected - value).abs().min()) <= float(residual) + 1e-10
        assert abs(found.lowest - float(expected[-1])) <= max(tolerance * float(expected.abs().max()), 1e-10)
    torch.testing.assert_close(found.eigenvalues, expected[:3], rtol=1e-5, atol=1e-9)


@pytest.mark.usefixtures("matrix_free")
def test_the_hessian_of_a_linear_model_is_known():
    """1/2 |W x - y|^2: for each output the second moment of x, here of 4 points along the axes, over 4 outputs."""
    x = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])).double()
    model = nn.Linear(4, 4, bias=False).double()
    problem = pv.Problem(model, [(x, x), (2 * x, x)], loss=half_squares)  # a sum over batches
    found = hessian_spectrum(problem, k=5, tolerance=1e-10)
    torch.testing.assert_close(found.eigenvalues, torch.tensor([20.0, 20, 20, 20, 11.25]).double())
    assert found.lowest == pytest.approx(1.25, rel=1e-9)
    masks = {"weight": torch.tensor([[True, True, True, False]] * 4)}  # without the last input
    assert float(hessian_spectrum(problem, masks, k=1).eigenvalues[0]) == pytest.approx(11.25, rel=1e-6)


def test_a_layer_that_is_removed_as_a_whole_is_zero_and_no_direction():
    problem = networks.problem("conv1d")
    masks = networks.random_masks(problem)
    masks["0.weight"] = torch.zeros_like(masks["0.weight"])
    expected = dense_eigenvalues(problem, masks)
    found = hessian_spectrum(problem, masks, k=2)
    assert found.weights == len(expected) == int(masks["4.weight"].sum())
    torch.testing.assert_close(found.eigenvalues, expected[:2], rtol=1e-9, atol=1e-12)


def test_micro_batches_have_the_same_hessian():
    model, batches = networks.model("conv_bn"), networks.batches("conv_bn")
    whole = hessian_spectrum(pv.Problem(model, batches, batchnorm="eval"), k=3)
    cut = hessian_spectrum(pv.Problem(model, batches, batchnorm="eval", micro_batch=4), k=3)
    torch.testing.assert_close(cut.eigenvalues, whole.eigenvalues, rtol=1e-10, atol=1e-12)
    assert cut.lowest == pytest.approx(whole.lowest, rel=1e-8)


def test_the_density_integrates_to_one_and_has_the_mean_of_the_eigenvalues():
    problem = networks.problem("bias_free")
    expected = dense_eigenvalues(problem)
    found = hessian_spectrum(problem, density=True, lanczos=20, repeats=8)
    step = float(found.grid[1] - found.grid[0])
    assert len(found.grid) == len(found.density) == 1024
    assert float(found.density.sum()) * step == pytest.approx(1, abs=0.02)
    width = float(expected[0] - expected[-1])
    mean = float((found.grid * found.density).sum()) * step
    assert mean == pytest.approx(float(expected.mean()), abs=0.05 * width)
    assert float(found.grid[0]) < float(expected[-1]) < float(expected[0]) < float(found.grid[-1])
    one, again, other = (
        hessian_spectrum(networks.problem("linear"), density=True, lanczos=6, seed=s).density for s in (0, 0, 1)
    )
    assert again.equal(one)
    assert not other.equal(one)


@pytest.mark.parametrize("name", ["conv_bn", "attention"])
def test_nothing_of_the_model_changes_also_when_the_forward_raises(name):
    problem = unusual(name)
    fuse = Fuse()
    list(problem.model.children())[-1].register_forward_hook(lambda module, inputs, output: fuse(output))
    before = snapshot(problem.model)
    fuse.left = 2
    with pytest.raises(RuntimeError, match="blown"):
        hessian_spectrum(problem)
    assert snapshot(problem.model) == before
    fuse.left = None
    problem = unusual(name)
    before = snapshot(problem.model)
    hessian_spectrum(problem, networks.random_masks(problem), density=True, lanczos=5)
    assert snapshot(problem.model) == before


def test_what_cannot_be_used_is_one_line():
    problem = networks.problem("linear")
    with pytest.raises(InputError, match="k 13 is more than the 12 weights that are kept; accepted: at most 12"):
        hessian_spectrum(problem, k=13)
    with pytest.raises(InputError, match="lanczos 64 is more than the 12 weights"):
        hessian_spectrum(problem, density=True)
    with pytest.raises(InputError, match="the masks keep no weight"):
        hessian_spectrum(problem, {"weight": torch.zeros(3, 4, dtype=torch.bool)})
    with pytest.raises(InputError, match="is no parameter"):
        hessian_spectrum(problem, {"no": torch.ones(1, dtype=torch.bool)})
    with torch.no_grad():
        problem.model.weight[0, 0] = math.nan
    with pytest.raises(InputError, match="the loss of batch 0 is nan"):
        hessian_spectrum(problem)


class Opaque(torch.autograd.Function):
    """An operation of a user's own that can be differentiated once."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def test_an_operation_without_second_derivative_is_one_line():
    class Model(nn.Linear):
        def forward(self, x):
            return Opaque.apply(super().forward(x))

    problem = pv.Problem(Model(4, 3).double(), networks.batches("linear"))
    with pytest.raises(InputError, match=r"the Hessian needs second derivatives.*autograd\.Function") as caught:
        hessian_spectrum(problem)
    assert "\n" not in str(caught.value)


def test_it_is_silent():
    code = "import networks; from pruneviz.probes.hessian import hessian_spectrum as h; h(networks.problem('linear'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_without_curvlinops_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs 'curvlinops': pip install 'pruneviz\[hessian\]'"):
        hessian_spectrum(networks.problem("linear"))


def test_all_eigenvalues_of_a_larger_network_are_found():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(19, 12), nn.Tanh(), nn.Linear(12, 3)).double()  # 264 weights, above _DENSE
    problem = pv.Problem(model, [(torch.randn(8, 19, dtype=torch.float64), torch.arange(8) % 3)])
    every, most = (hessian_spectrum(problem, k=k).eigenvalues for k in (264, 263))
    assert len(every) == 264
    torch.testing.assert_close(every[:20], most[:20], rtol=1e-6, atol=1e-9)
