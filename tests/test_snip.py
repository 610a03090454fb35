"""SNIP over several batches: derivatives are summed with their signs, or batch by batch without."""

import networks
import pytest
import reference
import torch
from networks import close

import pruneviz as pv
from pruneviz.errors import InputError


def absolute_by_masks(problem, masks=None):
    """The derivative with respect to explicit mask variables, its size taken for each batch alone, then the sum."""
    total = None
    for batch in problem.batches:
        alone = pv.Problem(problem.model, [batch], problem.loss_function, problem.batchnorm)
        scores = reference.snip_by_masks(alone, masks)
        total = scores if total is None else {name: total[name] + s for name, s in scores.items()}
    return total


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", ["mlp_relu", "conv_bn", "tied", "transformer"])
def test_absolute_takes_the_size_of_each_batchs_derivative(name, masked):
    problem = networks.problem(name, sizes=(6, 4, 5))
    masks = networks.random_masks(problem) if masked else None
    close(pv.score("snip", problem, masks=masks, reduce="absolute"), absolute_by_masks(problem, masks))


def squared_error(output, y):
    return 0.5 * (output - y).square().mean()


def test_batches_that_disagree_cancel_only_in_the_signed_sum():
    """Weights 2 and 1, inputs (1, 0) and (1, 1), targets 3 and 2: derivatives (-1, 0) and (1, 1). By hand."""
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 1.0]]))
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[3.0], [2.0]], dtype=torch.float64)
    problem = pv.Problem(model, [(x[:1], y[:1]), (x[1:], y[1:])], squared_error)
    assert pv.score("snip", problem)["weight"].tolist() == [[0.0, 1.0]]
    assert pv.score("snip", problem, reduce="signed")["weight"].tolist() == [[0.0, 1.0]]
    assert pv.score("snip", problem, reduce="absolute")["weight"].tolist() == [[4.0, 1.0]]


@pytest.mark.parametrize("reduce", ["signed", "absolute"])
def test_for_one_batch_both_are_the_same_bit_for_bit(reduce):
    problem = networks.problem("residual", sizes=(6,), dtype=torch.float32)
    _, g = problem.gradient(problem.weights)
    for name, s in pv.score("snip", problem, reduce=reduce).items():
        assert torch.equal(s, (problem.weights[name] * g[name]).abs())


def test_signed_is_the_default_bit_for_bit_and_never_more_than_absolute():
    problem = networks.problem("mlp_relu", sizes=(6, 4, 5))
    _, g = problem.gradient(problem.weights)
    signed, absolute = pv.score("snip", problem), pv.score("snip", problem, reduce="absolute")
    for name, s in signed.items():
        assert torch.equal(s, (problem.weights[name] * g[name]).abs())
        assert bool((s <= absolute[name] * (1 + 1e-12)).all())
    assert not torch.allclose(signed["0.weight"], absolute["0.weight"], rtol=0.1)


@pytest.mark.parametrize("reduce", ["signed", "absolute"])
def test_micro_batches_are_parts_of_a_batch_and_summed_with_their_signs(reduce):
    model, batches = networks.model("mlp_relu"), networks.batches("mlp_relu", sizes=(6, 5))
    whole, parts = pv.Problem(model, batches), pv.Problem(model, batches, micro_batch=2)
    close(pv.score("snip", parts, reduce=reduce), pv.score("snip", whole, reduce=reduce), rtol=1e-12)


def test_a_batch_whose_loss_is_not_finite_is_named():
    problem = networks.problem("mlp_relu", sizes=(6, 4))
    problem.batches[1][0][0, 0] = float("nan")
    for reduce in ("signed", "absolute"):
        with pytest.raises(InputError, match="the loss of batch 1 is nan"):
            pv.score("snip", problem, reduce=reduce)


def test_an_unknown_reduction_is_one_line():
    with pytest.raises(InputError, match=r"reduce 'abs' is not known; .*accepted: signed, absolute"):
        pv.score("snip", networks.problem("mlp_relu"), reduce="abs")
