"""The identity |g|^2 = r^T K r, projections and alignments by hand, and the loss along the first steps."""

from __future__ import annotations

from collections.abc import Callable

import networks
import pytest
import torch
import torch.nn.functional as F
from test_ntk import of_model, random
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.probes.alignment import kernel_alignment, loss_residual, ntk_projection, one_hot_labels
from pruneviz.probes.descent import early_descent
from pruneviz.probes.ntk import NtkResult, ntk
from pruneviz.probes.ntk_top import NtkTop, ntk_top


def squared_error(output: Tensor, y: Tensor) -> Tensor:
    return (output - F.one_hot(y, output.shape[1])).square().sum(1).mean()


# The residual, and the identity


def test_the_residual_of_cross_entropy_is_softmax_minus_one_hot_over_the_batch_size():
    problem = networks.problem("residual", batchnorm="eval")
    expected = []
    for x, y in problem.batches:
        f = problem.output({}, x)
        expected.append((f.softmax(1) - F.one_hot(y, 3)) / len(y))
    torch.testing.assert_close(loss_residual(problem), torch.cat(expected).detach())


def test_the_residual_is_the_slope_of_the_loss_along_each_output():
    problem = networks.problem("mlp_relu", loss=squared_error)
    masks = networks.random_masks(problem)
    values = problem.masked_weights(masks)
    residual = loss_residual(problem, masks)
    outputs = torch.cat([problem.output(values, x) for x, _ in problem.batches]).detach()

    def loss(f: Tensor) -> float:
        parts = f.split([len(y) for _, y in problem.batches])
        return sum(float(squared_error(part, y)) for part, (_, y) in zip(parts, problem.batches, strict=True))

    for place in [(0, 0), (3, 2), (6, 1), (9, 0)]:
        step = torch.zeros_like(outputs)
        step[place] = 1e-5
        slope = (loss(outputs + step) - loss(outputs - step)) / 2e-5
        assert float(residual[place]) == pytest.approx(slope, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("name", networks.IDS)
def test_the_squared_gradient_is_the_kernels_form_of_the_residual(name, batchnorm, masked):
    problem = networks.problem(name, batchnorm=batchnorm)
    masks = networks.random_masks(problem) if masked else None
    projection = ntk_projection(ntk(problem, masks), loss_residual(problem, masks))
    assert projection.form == pytest.approx(pv.gradient_flow(problem, masks).norm_squared, rel=1e-10)


def test_it_is_so_with_micro_batches_and_their_shares():
    problem = networks.problem("conv_bn", batchnorm="train", sizes=(7,))
    problem.micro_batch = 3
    projection = ntk_projection(ntk(problem), loss_residual(problem))
    assert projection.form == pytest.approx(pv.gradient_flow(problem).norm_squared, rel=1e-10)


# Projections and alignments


def with_eigenpairs(values: Tensor, n: int, classes: int) -> tuple[pv.Problem, Tensor]:
    """A linear model whose kernel is diag(values) x I: each input has its own eigenvalue, once per output."""
    return of_model(nn.Linear(n, classes).double(), torch.diag(values.sqrt())), values


def test_a_vector_along_one_eigenvector_has_all_its_energy_there():
    problem, _ = with_eigenpairs(torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64), 3, 2)
    target = torch.zeros(3, 2, dtype=torch.float64)
    target[1] = torch.tensor([3.0, -4.0])
    projection = ntk_projection(ntk(problem), target)
    assert projection.eigenvalues.tolist() == pytest.approx([9, 9, 4, 4, 1, 1])
    assert float(projection.energy[2:4].sum()) == pytest.approx(1)
    assert projection.norm_squared == pytest.approx(25)
    assert projection.form == pytest.approx(4 * 25)
    assert projection.remainder == pytest.approx(0, abs=1e-14)


def test_the_trace_kernel_takes_the_outputs_side_by_side():
    problem, _ = with_eigenpairs(torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64), 3, 2)
    target = torch.tensor([[1.0, 0.0], [0.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    projection = ntk_projection(ntk(problem, outputs="trace"), target)
    assert projection.eigenvalues.tolist() == pytest.approx([18, 8, 2])  # both outputs' kernels together
    assert projection.energy.tolist() == pytest.approx([1 / 25, 4 / 25, 20 / 25])


def test_the_largest_pairs_leave_a_remainder_and_a_lower_bound():
    problem = networks.problem("residual", batchnorm="eval", sizes=(12,))
    residual = loss_residual(problem)
    whole = ntk_projection(ntk(problem), residual)
    top = ntk_projection(ntk_top(problem, 5, tolerance=1e-10), residual)
    torch.testing.assert_close(top.energy, whole.energy[:5], rtol=1e-6, atol=1e-9)
    assert float(whole.energy.sum()) == pytest.approx(1)
    assert top.remainder == pytest.approx(float(whole.energy[5:].sum()), abs=1e-9)
    assert 0 < top.form < whole.form


def test_labels_are_one_hot_and_centered_on_request():
    problem = networks.problem("linear")
    hot = one_hot_labels(problem, 3)
    assert torch.equal(hot.argmax(1), torch.cat([y for _, y in problem.batches]))
    assert torch.equal(hot.sum(1), torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(one_hot_labels(problem, 3, centered=True).mean(0), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("form", ["full", "trace"])
@pytest.mark.parametrize("centered", [False, True])
def test_alignment_is_the_cosine_by_the_formula(form, centered):
    problem = networks.problem("residual", batchnorm="eval")
    result, target = ntk(problem, outputs=form), one_hot_labels(problem, 3)
    kernel = result.kernel
    y = target if form == "trace" else target.reshape(-1, 1)
    if centered:
        h = torch.eye(10, dtype=torch.float64) - 0.1
        h = h if form == "trace" else torch.kron(h, torch.eye(3, dtype=torch.float64))
        kernel, y = h @ kernel @ h, h @ y
    expected = (kernel * (y @ y.T)).sum() / (kernel.norm() * (y @ y.T).norm())
    assert kernel_alignment(result, target, centered=centered) == pytest.approx(float(expected), rel=1e-12)


def test_labels_without_a_column_are_one_line() -> None:
    for label in (-100, 3):
        problem = pv.Problem(nn.Linear(2, 3), [(torch.randn(2, 2), torch.tensor([1, label]))])
        with pytest.raises(InputError, match=rf"labels from {min(1, label)} to {max(1, label)}; accepted: 0 to 2$"):
            one_hot_labels(problem, 3)


def test_a_kernel_of_the_labels_is_aligned_and_one_without_them_is_not():
    labels = torch.tensor([0, 0, 1, 1])
    x = F.one_hot(labels, 2).double()  # inputs that are the labels: K = Y Y^T x I
    aligned = pv.Problem(nn.Linear(2, 2).double(), [(x, labels)], batchnorm="eval")
    result = ntk(aligned, outputs="trace")
    assert kernel_alignment(result, one_hot_labels(aligned, 2)) == pytest.approx(1)
    assert kernel_alignment(result, one_hot_labels(aligned, 2), centered=True) == pytest.approx(1)
    across = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert kernel_alignment(result, across) == pytest.approx(0, abs=1e-15)


# The first steps


def test_a_linear_model_does_what_the_kernel_says_at_every_step():
    problem = networks.problem("linear", loss=squared_error)
    masks = networks.random_masks(problem)
    descent = early_descent(problem, ntk(problem, masks), masks, rate=0.05, steps=10)
    assert descent.linearized == pytest.approx(descent.measured, rel=1e-12)
    assert descent.measured[10] < 0.9 * descent.measured[0]
    assert descent.kernel_form == pytest.approx(descent.gradient_norm_squared, rel=1e-12)


@pytest.mark.parametrize("parameters", ["prunable", "all"])
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_predictions_meet_the_measured_loss_with_the_square_of_the_rate(name, parameters):
    """Of one step, first order and linearized are off by O(rate^2), and of two steps too."""
    problem = networks.problem(name, batchnorm="train" if name == "residual" else "eval")
    masks = networks.random_masks(problem)
    spectrum = ntk(problem, masks, parameters=parameters)
    errors: dict[str, list[float]] = {"first_order": [], "linearized": []}
    for rate in (2e-3, 1e-3):
        descent = early_descent(problem, spectrum, masks, rate=rate, steps=2)
        assert descent.gradient_norm_squared == pytest.approx(descent.kernel_form, rel=1e-9)
        for kind, found in errors.items():
            found.append(abs(getattr(descent, kind)[2] - descent.measured[2]))
        decrease = descent.measured[0] - descent.measured[2]
        assert errors["first_order"][-1] < 0.2 * decrease
    for coarse, fine in errors.values():
        assert 3 < coarse / fine < 5


def test_the_measured_loss_is_that_of_a_loop_over_steps():
    problem = networks.problem("conv_bn", batchnorm="train")
    masks = networks.random_masks(problem)
    descent = early_descent(problem, ntk(problem, masks), masks, rate=0.1, steps=3)
    weights, losses = problem.masked_weights(masks), []
    for _ in range(4):
        leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
        loss = sum(F.cross_entropy(problem.output(leaves, x), y) for x, y in problem.batches)
        grads = torch.autograd.grad(loss, list(leaves.values()))
        losses.append(float(loss.detach()))
        weights = {n: (w - 0.1 * g * masks[n]).detach() for (n, w), g in zip(leaves.items(), grads, strict=True)}
    assert descent.measured == pytest.approx(losses, rel=1e-12)


def test_all_eigenpairs_predict_what_the_kernel_predicts_and_few_predict_less():
    problem = networks.problem("residual", batchnorm="eval", sizes=(8,))
    kernel, top, few = ntk(problem), ntk_top(problem, 24, tolerance=1e-10), ntk_top(problem, 2)
    whole, same, part = (early_descent(problem, s, rate=0.01, steps=2) for s in (kernel, top, few))
    assert same.linearized == pytest.approx(whole.linearized, rel=1e-10)
    assert same.first_order == pytest.approx(whole.first_order, rel=1e-10)
    assert whole.kernel_form > part.kernel_form > 0
    assert part.gradient_norm_squared == whole.gradient_norm_squared


def test_the_problem_is_left_as_it_was():
    problem = networks.problem("residual")
    before = {n: p.clone() for n, p in problem.model.state_dict().items()}
    early_descent(problem, ntk(problem), rate=0.1, steps=2)
    assert all(torch.equal(p, before[n]) for n, p in problem.model.state_dict().items())
    assert all(p.grad is None for p in problem.model.parameters())


# Bad input


def linear() -> tuple[pv.Problem, NtkResult, NtkTop]:
    problem = networks.problem("linear")
    return problem, ntk(problem), ntk_top(problem, 2)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "target of another shape": (
        lambda: ntk_projection(linear()[1], torch.zeros(3, 3)),
        "the target has shape (3, 3); the kernel is of 10 inputs and 3 outputs: (10, 3)",
    ),
    "each class apart": (
        lambda: ntk_projection(ntk(networks.problem("linear"), outputs="class"), torch.zeros(10, 3)),
        "accepted: 'full' and 'trace'",
    ),
    "trace in a descent": (
        lambda: early_descent(networks.problem("linear"), ntk(networks.problem("linear"), outputs="trace"), rate=1.0),
        "accepted: 'full'",
    ),
    "rate": (lambda: early_descent(*linear()[:2], rate=0), "rate 0 is not accepted"),
    "steps": (lambda: early_descent(*linear()[:2], rate=1, steps=0), "steps 0 is not accepted"),
    "other masks": (
        lambda: early_descent(*linear()[:2], networks.random_masks(linear()[0]), rate=1.0),
        "the spectrum is of 12 weights",
    ),
    "label too large": (lambda: one_hot_labels(networks.problem("linear"), 2), "labels from 0 to 2"),
    "labels that are numbers": (
        lambda: one_hot_labels(pv.Problem(nn.Linear(2, 1), [(torch.zeros(3, 2), torch.zeros(3))], F.mse_loss), 1),
        "float32 of shape (3,)",
    ),
    "images out": (
        lambda: loss_residual(of_model(nn.Conv2d(1, 2, 3).double(), random(2, 1, 4, 4))),
        "of shape (2, 2, 2, 2); (N, C)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    work, expected = BAD[case]
    with pytest.raises(InputError) as caught:
        work()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_projection_does_without_lapacks_eigenvectors_where_it_gives_none(monkeypatch):
    """A kernel of one network made LAPACK fail; which ones do depends on the machine, so that here every one does."""
    problem = networks.problem("mlp_relu")
    kernel, target = ntk(problem, progress=False), one_hot_labels(problem, 3)
    expected = ntk_projection(kernel, target)

    def fail(_: Tensor) -> None:
        raise torch.linalg.LinAlgError("failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    found = ntk_projection(kernel, target)
    torch.testing.assert_close(found.eigenvalues, expected.eigenvalues)
    assert found.form == pytest.approx(expected.form)
    assert float(found.energy.sum()) == pytest.approx(1)
