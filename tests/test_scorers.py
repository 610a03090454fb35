"""Scorers against explicit mask variables, dense Hessians and finite differences, and against exact identities.

The twins (`reference.py`) follow the papers' formulas with loops and never call the library. The identities
need no twin at all: they hold for any network of their kind, to rounding, in float64.
"""

import copy

import networks
import pytest
import reference
import torch
import torch.nn.functional as F
from networks import close
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.scorers import registry

# One evaluation of the loss or gradient per weight: a few networks, smooth ones.
DIFFERENTIABLE = ("bias_free", "depthwise", "conv_transpose", "tied", "transformer")


# Against twins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_snip_is_the_derivative_with_respect_to_explicit_masks(name, batchnorm, masked):
    problem = networks.problem(name, batchnorm=batchnorm)
    masks = networks.random_masks(problem) if masked else None
    close(pv.score("snip", problem, masks=masks), reference.snip_by_masks(problem, masks))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_snip_is_what_the_loss_does_when_one_weight_is_scaled(name):
    problem = networks.problem(name)
    close(pv.score("snip", problem), reference.snip_by_differences(problem), rtol=1e-7)


@pytest.mark.parametrize("scorer", ["snip", "grasp"])
@pytest.mark.parametrize("name", networks.IDS)
def test_float32_scores_are_those_of_float64_to_its_rounding(name, scorer):
    exact = networks.problem(name)
    single = pv.Problem(copy.deepcopy(exact.model).float(), [(x.float(), y) for x, y in exact.batches])
    scores = pv.score(scorer, single)
    assert all(s.dtype == torch.float32 for s in scores.values())
    close({n: s.double() for n, s in scores.items()}, pv.score(scorer, exact), rtol=1e-3)


@pytest.mark.parametrize("scorer", list(pv.scorers()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_scorer_returns_a_score_per_weight_of_its_shape_and_type(scorer, dtype):
    problem = networks.problem("conv_bn", dtype=dtype)
    scores = networks.score(scorer, problem)
    assert list(scores) == list(problem.names)
    for name, w in problem.weights.items():
        assert scores[name].shape == w.shape
        assert scores[name].dtype == dtype
        assert not scores[name].requires_grad
        assert scores[name].data_ptr() != w.data_ptr()


def test_magnitude_entry_by_entry():
    problem = networks.problem("mlp_relu")
    masks = networks.random_masks(problem)
    for given in (None, masks):
        for name, s in pv.score("magnitude", problem, masks=given).items():
            w = problem.weights[name]
            for index in range(w.numel()):
                kept = given is None or bool(masks[name].flatten()[index])
                assert float(s.flatten()[index]) == (abs(float(w.flatten()[index])) if kept else 0.0)


def test_a_layer_without_weights_has_no_scores():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].unused = nn.Linear(0, 2)
    problem = pv.Problem(model, [(torch.ones(1, 3), torch.tensor([0]))])
    assert pv.score("magnitude", problem)["0.unused.weight"].shape == (2, 0)


def test_random_scores_are_uniform_and_follow_their_seed_alone():
    model = nn.Linear(200, 200)
    problem = pv.Problem(model, [(torch.ones(1, 200), torch.tensor([0]))])
    first = pv.score("random", problem)["weight"]
    torch.rand(3)
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(first, pv.score("random", problem, seed=0)["weight"])
    assert not torch.equal(first, pv.score("random", problem, seed=1)["weight"])
    # 40,000 draws: four standard deviations of the mean and of each tenth's share
    assert abs(float(first.mean()) - 0.5) < 4 * (1 / 12 / 40_000) ** 0.5
    shares = torch.histc(first, 10, 0.0, 1.0) / 40_000
    assert float((shares - 0.1).abs().max()) < 4 * (0.09 / 40_000) ** 0.5
    assert float(first.min()) >= 0.0
    assert float(first.max()) <= 1.0


@pytest.mark.parametrize("name", ["lenet_300_100", "resnet20"])
def test_random_scores_do_not_go_with_the_weights_that_the_same_seed_has_drawn(name):
    """A cell has one seed for its network and its scorer; both generators start alike, and must not stay in step."""
    for seed in range(3):
        model = pv.models.create(name, input_shape=(3, 32, 32), classes=10, seed=seed)
        problem = pv.Problem(model, [(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long))])
        for layer, s in pv.score("random", problem, seed=seed).items():
            w = problem.weights[layer].detach().flatten()
            for other in (w, w.abs(), w.roll(1), w.roll(-1)):
                correlation = torch.corrcoef(torch.stack([s.flatten(), other]))[0, 1]
                assert abs(correlation) < 4.5 / len(w) ** 0.5, layer


def test_random_scores_are_the_same_in_every_precision():
    single, double = (networks.problem("mlp_relu", dtype=dtype) for dtype in (torch.float32, torch.float64))
    for name, s in pv.score("random", double).items():
        torch.testing.assert_close(pv.score("random", single)[name], s.float(), rtol=0, atol=0)


# Identities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.SCALE_INVARIANT)
def test_signed_snip_and_grasp_of_a_layer_before_batch_normalization(name):
    """The loss does not change when such a layer is scaled, so <w, g> = 0 and <w, H v> = -<v, g>.

    Exact up to the epsilon of batch normalization, which is 1e-12 here against variances of order 1.
    """
    problem = networks.problem(name)
    _, g = problem.gradient(problem.weights)
    grasp = pv.score("grasp", problem, temperature=1.0)
    for layer in networks.CASES[name].scale_invariant:
        size = float(g[layer].square().sum())
        assert size > 1e-6
        assert float((problem.weights[layer] * g[layer]).sum()) == pytest.approx(0.0, abs=1e-9)
        assert float(grasp[layer].sum()) == pytest.approx(-size, rel=1e-8)
    evaluation = networks.problem(name, batchnorm="eval")
    _, g = evaluation.gradient(evaluation.weights)
    layer = networks.CASES[name].scale_invariant[0]
    assert abs(float((evaluation.weights[layer] * g[layer]).sum())) > 1e-4  # the identity can fail


@pytest.mark.parametrize("name", ["mlp_relu", "residual", "tied", "transformer"])
@pytest.mark.parametrize("c", [3.0, 0.01])
def test_a_scaled_loss_scales_snip_by_c_and_grasp_by_c_squared(name, c):
    plain = networks.problem(name)
    scaled = networks.problem(name, loss=lambda output, y: c * F.cross_entropy(output, y))
    close(pv.score("snip", scaled), {n: c * s for n, s in pv.score("snip", plain).items()}, rtol=1e-12)
    close(pv.score("grasp", scaled), {n: c * c * s for n, s in pv.score("grasp", plain).items()}, rtol=1e-11)


@pytest.mark.parametrize("scorer", ["snip", "grasp"])
def test_masks_do_not_depend_on_the_scale_of_the_loss(scorer):
    # A power of two commutes with rounding, so the order of the scores is the same bit for bit.
    plain = networks.problem("residual", dtype=torch.float32)
    scaled = networks.problem("residual", dtype=torch.float32, loss=lambda o, y: 4.0 * F.cross_entropy(o, y))
    for sparsity in (0.2, 0.5, 0.9):
        masks = [pv.prune(p, scorer, sparsity) for p in (plain, scaled)]
        assert all(torch.equal(masks[0][n], masks[1][n]) for n in masks[0])


@pytest.mark.parametrize("scorer", list(pv.scorers()))
@pytest.mark.parametrize("name", ["conv_bn", "tied", "transformer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_masks_of_ones_change_nothing_bit_for_bit(scorer, name, dtype):
    problem = networks.problem(name, dtype=dtype)
    ones = {n: torch.ones_like(w, dtype=torch.bool) for n, w in problem.weights.items()}
    plain, masked = networks.score(scorer, problem), networks.score(scorer, problem, masks=ones)
    assert all(torch.equal(plain[n], masked[n]) for n in plain)
    partial = networks.score(scorer, problem, masks={problem.names[0]: ones[problem.names[0]]})
    assert all(torch.equal(plain[n], partial[n]) for n in plain)


@pytest.mark.parametrize("scorer", [n for n, card in pv.scorers().items() if n != "random" and not card.revives])
@pytest.mark.parametrize("name", ["conv_bn", "tied"])
def test_a_masked_score_is_that_of_the_network_with_its_weights_zeroed_and_zero_where_removed(scorer, name):
    problem, zeroed = networks.problem(name), networks.problem(name)
    masks = networks.random_masks(problem)
    pv.apply(zeroed.model, masks)
    masked = networks.score(scorer, problem, masks=masks)
    for layer, s in masked.items():
        assert not s[~masks[layer]].any()
    if scorer in ("magnitude", "snip"):
        plain = pv.score(scorer, zeroed)
        assert all(torch.equal(masked[n], plain[n]) for n in masked)
    again = networks.score(scorer, zeroed, masks=masks)
    assert all(torch.equal(masked[n], again[n]) for n in masked)


@pytest.mark.parametrize("scorer", ["magnitude", "snip", "grasp"])
def test_permuted_hidden_units_have_permuted_scores(scorer):
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    plain, permuted = networks.problem("mlp_relu"), networks.problem("mlp_relu")
    with torch.no_grad():
        permuted.model[0].weight.copy_(plain.model[0].weight[order])
        permuted.model[0].bias.copy_(plain.model[0].bias[order])
        permuted.model[2].weight.copy_(plain.model[2].weight[:, order])
    expected = pv.score(scorer, plain)
    expected["0.weight"] = expected["0.weight"][order]
    expected["2.weight"] = expected["2.weight"][:, order]
    close(pv.score(scorer, permuted), expected, rtol=1e-12)


@pytest.mark.parametrize("scorer", ["magnitude", "snip", "grasp"])
def test_permuted_channels_have_permuted_scores(scorer):
    order = torch.tensor([2, 0, 1])
    plain, permuted = networks.problem("conv_bn"), networks.problem("conv_bn")
    with torch.no_grad():
        permuted.model[0].weight.copy_(plain.model[0].weight[order])
        for ours, theirs in zip(permuted.model[1].parameters(), plain.model[1].parameters(), strict=True):
            ours.copy_(theirs[order])
        permuted.model[3].weight.copy_(plain.model[3].weight[:, order])
    expected = pv.score(scorer, plain)
    expected["0.weight"] = expected["0.weight"][order]
    expected["3.weight"] = expected["3.weight"][:, order]
    close(pv.score(scorer, permuted), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["mlp_relu", "transformer"])
def test_batches_are_summed_before_the_absolute_value_is_taken(name):
    problem = networks.problem(name, sizes=(6, 4, 5))
    signed = {n: torch.zeros_like(w) for n, w in problem.weights.items()}
    single = {n: torch.zeros_like(w) for n, w in problem.weights.items()}
    for batch in problem.batches:
        alone = pv.Problem(problem.model, [batch])
        _, g = alone.gradient(alone.weights)
        for n, w in alone.weights.items():
            signed[n] += w * g[n]
            single[n] += pv.score("snip", alone)[n]
    together = pv.score("snip", problem)
    close(together, {n: s.abs() for n, s in signed.items()}, rtol=1e-12)
    assert not torch.allclose(together[problem.names[0]], single[problem.names[0]], rtol=0.01)


@pytest.mark.parametrize("scorer", ["snip", "grasp"])
def test_without_batch_statistics_only_the_sum_of_the_batch_means_counts(scorer):
    """Two equal halves and the whole batch: the halves' means add up to twice the whole's. Not so with batchnorm."""
    for batchnorm, same in (("eval", True), ("train", False)):
        model, ((x, y),) = networks.model("conv_bn"), networks.batches("conv_bn", sizes=(8,))
        halves = pv.Problem(model, [(x[:4], y[:4]), (x[4:], y[4:])], batchnorm=batchnorm)
        whole = pv.Problem(model, [(x, y)], batchnorm=batchnorm)
        factor = 2.0 if scorer == "snip" else 4.0
        a, b = reference.flat(pv.score(scorer, halves)), factor * reference.flat(pv.score(scorer, whole))
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9 * float(b.abs().max())) == same


@pytest.mark.parametrize("scorer", list(pv.scorers()))
def test_scores_are_the_same_twice(scorer):
    problem = networks.problem("residual", dtype=torch.float32)
    first, second = networks.score(scorer, problem), networks.score(scorer, problem)
    assert all(torch.equal(first[n], second[n]) for n in first)


# The registry --------------------------------------------------------------------------------------------


def test_a_scorer_of_ones_own_works_by_name_everywhere(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @pv.register(pv.Card(name="gradient", title="Gradient", effect="Keeps the largest gradients."))
    def gradient(problem, masks=None, *, power=1.0):
        _, grads = problem.gradient(problem.masked_weights(masks))
        return {name: g.abs() ** power for name, g in grads.items()}

    problem = networks.problem("mlp_relu")
    _, g = problem.gradient(problem.weights)
    assert torch.equal(pv.score("gradient", problem, power=2.0)["0.weight"], g["0.weight"].abs() ** 2.0)
    assert pv.masks.kept(pv.prune(problem, "gradient", 0.5, schedule=pv.Linear(2))) == round(0.5 * 69)
    assert pv.scorers()["gradient"].title == "Gradient"
    with pytest.raises(InputError, match="a scorer named 'gradient' is registered already"):
        pv.register(pv.Card(name="gradient", title="", effect=""))(gradient)


def test_scores_that_are_not_finite_are_refused_with_the_layer(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @pv.register(pv.Card(name="broken", title="", effect=""))
    def broken(problem, masks=None):
        scores = {name: torch.ones_like(w) for name, w in problem.weights.items()}
        scores["2.weight"][0, :2] = torch.tensor([float("nan"), float("inf")])
        return scores

    with pytest.raises(InputError, match=r"'broken' gave 2 scores of '2\.weight' that are not finite"):
        pv.score("broken", networks.problem("mlp_relu"))


def test_a_score_that_is_not_finite_names_the_batch_that_made_it_so():
    """The square root has an infinite slope at 0, where the second batch is; both losses are finite."""

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3, bias=False)

        def forward(self, x):
            return self.fc(x).abs().sqrt()

    x, y = torch.ones(2, 4), torch.tensor([0, 1])
    problem = pv.Problem(Root(), [(x, y), (0 * x, y)])
    with pytest.raises(InputError, match=r"scores of 'fc\.weight' that are not finite: the gradient of batch 1 is not"):
        pv.score("snip", problem)
    with torch.no_grad():
        problem.model.fc.weight[0, 0] = torch.inf
    with pytest.raises(InputError, match=r"that are not finite: the weights of 'fc\.weight' are not finite"):
        pv.score("magnitude", problem)


@pytest.mark.parametrize("name", list(pv.scorers()))
def test_every_card_says_what_a_reader_needs(name):
    card = pv.scorers()[name]
    assert card.name == name
    for text in (card.title, card.effect, card.equation, card.source, card.citation, card.cost, card.memory):
        assert text
    assert card.effect.endswith(".")
    for option in card.options:
        registry.check_options(name, {option: None})  # every option on the card is taken by the function


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: pv.score("snpi", p), "scorer 'snpi' is not known; did you mean 'snip'\\? accepted: .*magnitude"),
        (lambda p: pv.score("", p), "scorer '' is not known; accepted:"),
        (
            lambda p: pv.score("magnitude", p, temperature=1.0),
            "scorer 'magnitude' takes no options; received 'temperature'",
        ),
        (lambda p: pv.score("grasp", p, temprature=1.0), "'temprature' is not known; did you mean 'temperature'"),
        (lambda p: pv.score("grasp", p, temperature=0.0), "temperature 0.0 is not accepted: .* greater than 0"),
        (lambda p: pv.score("grasp", p, temperature=float("nan")), "temperature nan is not accepted"),
        (lambda p: pv.score("grasp", p, temperature="hot"), "temperature 'hot' is not accepted"),
        (
            lambda p: pv.score("grasp", p, variant="paprr"),
            "'paprr' is not known; did you mean 'paper'",
        ),
        (lambda p: pv.score("grasp", p, variant="official", seed=-1), "seed -1 is not accepted"),
        (lambda p: pv.score("random", p, seed=1.5), "seed 1.5 is not accepted: give a whole number"),
        (
            lambda p: pv.score("grasp", pv.Problem(p.model, p.batches[:1]), variant="synflow"),
            "variant 'synflow' of grasp needs at least 2 batches, received 1",
        ),
        (
            lambda p: pv.score(
                "grasp", pv.Problem(p.model, [(x, x[:, :3]) for x, _ in p.batches], F.mse_loss), variant="official"
            ),
            r"it needs at least 2 integer labels, received y of shape \(6, 3\) and dtype torch.float64",
        ),
    ],
)
def test_a_bad_name_or_option_is_one_line(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(networks.problem("mlp_relu"))
    assert "\n" not in str(caught.value)
