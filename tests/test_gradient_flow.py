"""Gradient flow by hand, by a loop over entries, and by what a step of gradient descent does to the loss."""

import networks
import pytest
import reference
import torch
from test_grasp import linear_problem, product_problem

import pruneviz as pv
from pruneviz.errors import InputError


def test_linear_model_by_hand():
    # g = [[1, 4], [-1/2, 6]]
    flow = pv.gradient_flow(linear_problem())
    assert flow.norm_squared == pytest.approx(1 + 16 + 0.25 + 36, rel=1e-15)
    assert flow.per_layer == {"weight": flow.norm_squared}
    assert flow.loss == pytest.approx(14.25, rel=1e-15)
    # Without W_01: W C = [[1, 0], [0, 6]], g = [[1, 6], [-1/2, 6]], of which the removed weight does not count.
    masked = pv.gradient_flow(linear_problem(), {"weight": torch.tensor([[True, False], [True, True]])})
    assert masked.norm_squared == pytest.approx(1 + 0.25 + 36, rel=1e-15)
    assert masked.loss == pytest.approx((5 + 36 + 36) / 4, rel=1e-15)


def test_two_layer_linear_network_by_hand():
    # g_a = (3, -1), g_b = (1, 2)
    flow = pv.gradient_flow(product_problem())
    assert flow.per_layer == pytest.approx({"a.weight": 10.0, "b.weight": 5.0}, rel=1e-15)
    assert flow.norm_squared == pytest.approx(15.0, rel=1e-15)
    # Without b_2: g_a = (9, 0), g_b = (3, removed)
    flow = pv.gradient_flow(product_problem(), {"b.weight": torch.tensor([[True, False]])})
    assert flow.per_layer == pytest.approx({"a.weight": 81.0, "b.weight": 9.0}, rel=1e-15)


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_against_a_loop_over_entries(name, batchnorm, masked):
    problem = networks.problem(name, batchnorm=batchnorm)
    masks = networks.random_masks(problem) if masked else None
    flow = pv.gradient_flow(problem, masks)
    expected = reference.gradient_flow(problem, masks)
    assert list(flow.per_layer) == list(expected)
    assert flow.per_layer == pytest.approx(expected, rel=1e-9)
    assert flow.norm_squared == pytest.approx(sum(expected.values()), rel=1e-9)


@pytest.mark.parametrize("name", ["residual", "transformer", "tied"])
def test_it_is_how_fast_gradient_descent_lowers_the_loss(name):
    """Independent of how the norm is summed: dL/dt of w' = -g is -||g||^2, by central differences of the loss."""
    problem = networks.problem(name)
    masks = networks.random_masks(problem)
    weights = problem.masked_weights(masks)
    _, gradient = problem.gradient(weights)
    step = 1e-5
    moved = [{n: w + sign * step * gradient[n] * masks[n] for n, w in weights.items()} for sign in (-1.0, 1.0)]
    fall = (problem.gradient(moved[1])[0] - problem.gradient(moved[0])[0]) / (2 * step)
    assert pv.gradient_flow(problem, masks).norm_squared == pytest.approx(fall, rel=1e-6)


def test_masks_of_ones_change_nothing_and_a_part_of_the_layers_may_be_masked():
    problem = networks.problem("conv_bn", dtype=torch.float32)
    ones = {n: torch.ones_like(w, dtype=torch.bool) for n, w in problem.weights.items()}
    assert pv.gradient_flow(problem, ones) == pv.gradient_flow(problem)
    assert pv.gradient_flow(problem, {"0.weight": ones["0.weight"]}) == pv.gradient_flow(problem)


def test_the_sum_is_taken_in_float64():
    problem = networks.problem("mlp_relu", dtype=torch.float32)
    _, gradient = problem.gradient(problem.weights)
    expected = sum(float(entry) ** 2 for g in gradient.values() for entry in g.flatten())
    assert pv.gradient_flow(problem).norm_squared == pytest.approx(expected, rel=1e-14)


def test_a_pruned_and_an_applied_network_have_the_same_flow_through_their_kept_weights():
    problem, applied = networks.problem("residual"), networks.problem("residual")
    masks = pv.prune(problem, "snip", 0.5)
    pv.apply(applied.model, masks)
    assert pv.gradient_flow(applied, masks) == pv.gradient_flow(problem, masks)
    assert pv.gradient_flow(applied).norm_squared > pv.gradient_flow(applied, masks).norm_squared


def test_it_is_frozen_and_a_mask_that_does_not_fit_is_one_line():
    problem = networks.problem("linear")
    flow = pv.gradient_flow(problem)
    with pytest.raises(AttributeError):
        flow.loss = 0.0
    with pytest.raises(InputError, match="the mask names 'wieght', which is no parameter"):
        pv.gradient_flow(problem, {"wieght": torch.ones(3, 4, dtype=torch.bool)})
