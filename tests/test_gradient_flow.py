"""Gradient flow by hand, by a loop over entries, and by what a step of gradient descent does to the loss.

GraSP's prediction of its change by hand, by a dense Hessian and by differences of the flow itself; the recorder by
a training loop written out, and by what it must not change.
"""

import math

import networks
import numpy as np
import pytest
import reference
import reference_signal
import torch
from test_grasp import linear_problem, product_problem
from test_train import HUGE, convolutional, equal, recipe, some_masks, state, toy

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.probes.gradient_flow import grasp_prediction
from pruneviz.probes.recorder import FlowRecorder


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


# What GraSP predicts --------------------------------------------------------------------------------------


def test_grasps_prediction_by_hand():
    # a = (1, 2), b = (3, -1), f = r = 1, g = (3, -1; 1, 2). Without b_2, delta = 1 there, where
    # H g = grad f <grad f, g> + r (g_b; g_a) is 2 * 15 - 1 = 29. Then f = 3, g = (9, 0; 3, 6).
    result = grasp_prediction(product_problem(), {"b.weight": torch.tensor([[True, False]])})
    assert result.per_layer == pytest.approx({"a.weight": 0.0, "b.weight": 2 * 29.0}, rel=1e-14)
    assert result.predicted == pytest.approx(58.0, rel=1e-14)
    assert result.actual == pytest.approx(81 + 9 + 36 - 15, rel=1e-14)
    assert result.actual_kept == pytest.approx(81 + 9 - 15, rel=1e-14)
    assert (result.before.loss, result.after.loss) == pytest.approx((0.5, 4.5), rel=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", ["mlp_relu", "residual", "tied", "transformer"])
def test_grasps_prediction_against_a_dense_hessian(name, temperature):
    problem = networks.problem(name)
    masks = networks.random_masks(problem)
    masks.pop(problem.names[0])  # a layer without a mask is kept
    result = grasp_prediction(problem, masks, temperature)
    actual, kept, per_layer = reference_signal.flow_change(problem, masks, temperature)
    assert result.per_layer == pytest.approx(per_layer, rel=1e-8, abs=1e-10)
    assert result.per_layer[problem.names[0]] == 0.0
    assert (result.actual, result.actual_kept) == pytest.approx((actual, kept), rel=1e-8)
    assert result.predicted == pytest.approx(sum(result.per_layer.values()), rel=1e-12)
    if temperature == 1.0:
        assert result.before == pv.gradient_flow(problem)
        assert result.after == pv.gradient_flow(problem, masks)


def test_grasps_prediction_is_the_slope_of_the_flow_towards_the_masked_network():
    """Independent of any second derivative: central differences of the squared norm along delta."""
    problem = networks.problem("conv_bn")
    masks = networks.random_masks(problem)
    weights, masked, step = problem.weights, problem.masked_weights(masks), 1e-5

    def flow(t):
        _, gradient = problem.gradient({n: w + t * (masked[n] - w) for n, w in weights.items()})
        return sum(float(g.square().sum()) for g in gradient.values())

    slope = (flow(step) - flow(-step)) / (2 * step)
    assert grasp_prediction(problem, masks).predicted == pytest.approx(slope, rel=1e-6)


def test_grasps_prediction_is_the_sum_of_the_scores_that_it_removes():
    problem = networks.problem("bias_free")
    masks = pv.prune(problem, "grasp", 0.5)
    scores = pv.score("grasp", problem)
    removed = sum(float(s[~masks[n]].sum()) for n, s in scores.items())
    assert grasp_prediction(problem, masks, 200.0).predicted == pytest.approx(-2 * removed, rel=1e-9)


def test_masks_of_ones_change_nothing_and_bad_input_is_one_line():
    problem = networks.problem("conv_bn", dtype=torch.float32)
    ones = {n: torch.ones_like(w, dtype=torch.bool) for n, w in problem.weights.items()}
    result = grasp_prediction(problem, ones)
    assert (result.predicted, result.actual, result.actual_kept) == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="temperature 0 is not accepted"):
        grasp_prediction(problem, ones, 0)


# Along training -------------------------------------------------------------------------------------------


def trained(record=None, masks=None, **changes):
    model = convolutional()
    of = recipe(epochs=2, **changes)
    return model, pv.train(model, masks, toy(), of, 3, precision="float32", progress=False, record=record)


def test_the_recorder_sees_the_gradient_of_each_step_before_it_is_taken():
    masks = some_masks(convolutional())
    steps, expected = [], []

    def written_out(step, model, loss):
        assert all(not model.get_parameter(n).grad[~mask].any() for n, mask in masks.items())
        steps.append(step)
        weights = {n: model.get_parameter(n) for n in ("0.weight", "3.weight", "7.weight")}
        expected.append((float(loss), {n: sum(float(g) ** 2 for g in w.grad.flatten()) for n, w in weights.items()}))

    trained(written_out, masks)
    recorder = FlowRecorder()
    trained(recorder, masks)
    history = recorder.history
    assert history.steps == tuple(steps) == tuple(range(8))  # 32 images in batches of 8, twice
    for flow, (loss, per_layer) in zip(history.flows, expected, strict=True):
        assert flow.per_layer == pytest.approx(per_layer, rel=1e-12)
        assert flow.norm_squared == pytest.approx(sum(per_layer.values()), rel=1e-12)
        assert flow.loss == loss
    assert len({flow.norm_squared for flow in history.flows}) == 8


def test_the_recorder_of_a_problem_is_its_flow_at_that_step_and_leaves_training_alone():
    masks = some_masks(convolutional())
    data, of = toy(), recipe(epochs=2)
    x, y = data.normalize(data.train_x[:6]), data.train_y[:6]
    without, result = trained(None, masks)
    for problem_steps in ([0, 5, 99], []):
        model = convolutional()
        recorder = FlowRecorder(problem_steps, pv.Problem(model, [(x, y)]), masks)
        again = pv.train(model, masks, data, of, 3, precision="float32", progress=False, record=recorder)
        assert equal(state(model), state(without))
        assert again.train_loss == result.train_loss
        assert recorder.history.steps == tuple(s for s in problem_steps if s < 8)
    untrained = convolutional()
    expected = pv.gradient_flow(pv.Problem(untrained, [(x, y)]), masks)
    recorder = FlowRecorder(100, pv.Problem(untrained, [(x, y)]), masks)
    pv.train(untrained, masks, data, of, 3, precision="float32", progress=False, record=recorder)
    (flow,) = recorder.history.flows
    assert flow.norm_squared == pytest.approx(expected.norm_squared, rel=1e-5)  # channels lie in another order


def test_recording_costs_one_gradient_of_the_problem_per_recorded_step_and_nothing_otherwise(monkeypatch):
    calls = []
    gradient = pv.Problem.gradient
    monkeypatch.setattr(pv.Problem, "gradient", lambda self, *a, **k: calls.append(1) or gradient(self, *a, **k))
    trained(FlowRecorder(1))
    assert not calls
    model, data = convolutional(), toy()
    problem = pv.Problem(model, [(data.normalize(data.train_x[:6]), data.train_y[:6])])
    pv.train(model, None, data, recipe(epochs=2), progress=False, record=FlowRecorder(3, problem))
    assert len(calls) == 3  # steps 0, 3 and 6 of 8


def test_a_run_that_diverges_is_recorded_to_its_end():
    model, data = convolutional(), toy()
    problem = pv.Problem(model, [(data.normalize(data.train_x[:6]), data.train_y[:6])])
    recorders = [FlowRecorder(), FlowRecorder(1, problem)]

    def both(*arguments):
        for recorder in recorders:
            recorder(*arguments)

    result = pv.train(model, None, data, recipe(lr=HUGE), 0, precision="float32", progress=False, record=both)
    assert result.diverged
    for recorder in recorders:
        assert not math.isfinite(recorder.history.flows[-1].norm_squared)
        assert math.isfinite(recorder.history.flows[0].norm_squared)


def test_a_recorder_that_cannot_work_is_one_line():
    model, data = convolutional(), toy()
    problem = pv.Problem(convolutional(), [(data.normalize(data.train_x[:6]), data.train_y[:6])])
    with pytest.raises(InputError, match="another model than the one that is trained"):
        pv.train(model, None, data, recipe(), progress=False, record=FlowRecorder(1, problem))
    with pytest.raises(InputError, match="steps 0 is not accepted"):
        FlowRecorder(0)
    with pytest.raises(InputError, match="step -1 is not accepted"):
        FlowRecorder([0, -1])
    with pytest.raises(InputError, match="masks without a problem"):
        FlowRecorder(1, masks=some_masks(model))
    with pytest.raises(InputError, match="is no parameter"):
        FlowRecorder(1, problem, {"no": torch.ones(1, dtype=torch.bool)})


def test_the_recorder_takes_steps_of_numpy():
    given = FlowRecorder(steps=np.arange(0, 5, 2))
    model = torch.nn.Linear(2, 2)
    for step in range(5):
        given(step, model, torch.zeros(()))
    assert given.history.steps == (0, 2, 4)
