"""The loss that needs no labels: its value, its gradient, and that a label changes nothing."""

import math

import networks
import pytest
import torch
import torch.nn.functional as F

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.losses import uniform_cross_entropy


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 5), (3,), (1, 1)])
def test_it_is_cross_entropy_to_equal_probabilities(shape):
    output = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes = output.shape[1] if output.dim() > 1 else output.shape[0]
    expected = F.cross_entropy(output, torch.full_like(output, 1 / classes))
    assert float(uniform_cross_entropy(output, None)) == pytest.approx(float(expected), rel=1e-14)


def test_it_is_minus_the_mean_log_probability_entry_by_entry():
    output = torch.randn((4, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = []
    for row in output.tolist():
        total = math.log(sum(math.exp(entry) for entry in row))
        rows.append(sum(total - entry for entry in row) / 3)
    assert float(uniform_cross_entropy(output)) == pytest.approx(sum(rows) / 4, rel=1e-14)


def test_a_network_without_preferences_is_at_its_minimum():
    output = torch.full((5, 7), 2.5, dtype=torch.float64, requires_grad=True)
    loss = uniform_cross_entropy(output, torch.arange(5))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(7), rel=1e-14)
    assert float(output.grad.abs().max()) < 1e-16
    other = torch.randn((5, 7), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert float(uniform_cross_entropy(other)) > math.log(7) + 0.01


def test_its_gradient_is_the_probabilities_less_equal_ones():
    output = torch.randn((4, 3), generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    uniform_cross_entropy(output).backward()
    torch.testing.assert_close(output.grad, (output.detach().softmax(1) - 1 / 3) / 4, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("scorer", ["snip", "grasp", "force"])
def test_networks_are_pruned_without_labels(scorer):
    model, batches = networks.model("residual"), networks.batches("residual")
    labelled = pv.Problem(model, batches, loss=uniform_cross_entropy)
    unlabelled = pv.Problem(model, [(x, None) for x, _ in batches], loss=uniform_cross_entropy)
    scores = pv.score(scorer, unlabelled)
    assert all(torch.equal(s, scores[n]) for n, s in pv.score(scorer, labelled).items())
    supervised = pv.score(scorer, pv.Problem(model, batches))
    assert not torch.allclose(scores["head.weight"], supervised["head.weight"], rtol=0.1)
    assert pv.masks.kept(pv.prune(unlabelled, scorer, 0.5)) == round(0.5 * sum(s.numel() for s in scores.values()))


def test_batches_without_labels_are_cut_into_micro_batches():
    model, batches = networks.model("transformer"), [(x, None) for x, _ in networks.batches("transformer")]
    whole = pv.Problem(model, batches, loss=uniform_cross_entropy)
    parts = pv.Problem(model, batches, loss=uniform_cross_entropy, micro_batch=4)
    networks.close(pv.score("snip", parts), pv.score("snip", whole), rtol=1e-12)


@pytest.mark.parametrize(
    ("output", "says"),
    [((torch.zeros(2, 3),), "the output is tuple; "), (torch.zeros(()), r"the output is a tensor of shape \(\); ")],
)
def test_an_output_that_is_no_logits_is_one_line(output, says):
    with pytest.raises(InputError, match=says + r"uniform_cross_entropy needs logits of shape \(N, C\)") as caught:
        uniform_cross_entropy(output)
    assert "\n" not in str(caught.value)
