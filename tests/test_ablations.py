"""Sanity ablations really undo what they say, and nothing else: by counting, by statistics, by plain sorts."""

import copy
import itertools
from collections import Counter

import networks
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pruneviz as pv
from pruneviz.ablations import invert, reinitialize, shuffle, transfer_ratios
from pruneviz.errors import InputError

INF, NAN = float("inf"), float("nan")
PROPERTY = settings(deadline=None, derandomize=True, max_examples=100)
MASKED = ("mlp_relu", "conv_bn", "residual", "depthwise", "conv_transpose", "tied")


def random_scores(masks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(mask.shape, generator=generator, dtype=torch.float64) for name, mask in masks.items()}


def equal(one, other):
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


# Shuffle -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("name", MASKED)
def test_a_shuffle_keeps_the_count_of_each_layer_and_moves_the_positions(name, density):
    masks = networks.random_masks(networks.problem(name), density=density)
    before = copy.deepcopy(masks)
    moved = shuffle(masks)
    assert list(moved) == list(masks)
    assert pv.masks.counts(moved) == pv.masks.counts(masks)
    assert all(moved[n].shape == masks[n].shape and moved[n].dtype == torch.bool for n in masks)
    assert not equal(moved, masks)
    assert equal(masks, before)


def test_a_large_layer_shares_no_more_positions_with_its_shuffle_than_chance_has_it():
    """Of k kept among n, two independent draws share k^2 / n on average, with a hypergeometric deviation."""
    n, k = 40_000, 8_000
    masks = {"w": (torch.arange(n) < k).view(200, 200)}  # as structured as a mask can be
    shared = int((shuffle(masks)["w"] & masks["w"]).sum())
    deviation = (k * (k / n) * (1 - k / n) * (n - k) / (n - 1)) ** 0.5
    assert abs(shared - k * k / n) < 5 * deviation


def test_every_choice_of_positions_is_equally_likely():
    masks = {"w": torch.tensor([[True, False], [False, True]])}
    draws = 1200
    seen = Counter(tuple(shuffle(masks, seed)["w"].flatten().tolist()) for seed in range(draws))
    expected = {tuple(i in pair for i in range(4)) for pair in itertools.combinations(range(4), 2)}
    assert set(seen) == expected
    deviation = (draws * (1 / 6) * (5 / 6)) ** 0.5
    assert max(abs(count - draws / 6) for count in seen.values()) < 4 * deviation


def test_layers_of_one_shape_get_positions_of_their_own_and_seeds_repeat():
    masks = {name: torch.arange(400).view(20, 20) < 100 for name in ("a", "b")}
    one = shuffle(masks, seed=3)
    assert not torch.equal(one["a"], one["b"])
    assert equal(one, shuffle(masks, seed=3))
    assert not equal(one, shuffle(masks, seed=4))


def test_a_shuffle_is_independent_of_random_scores_from_the_same_seed():
    """Masks from random scores of seed 0, shuffled with seed 0: they share what two independent draws would share."""
    problem = networks.problem("linear")
    problem.model.weight = nn.Parameter(torch.zeros(200, 200, dtype=torch.float64))
    masks = pv.allocate(pv.score("random", problem, seed=0), 0.8)
    shared = int((shuffle(masks, seed=0)["weight"] & masks["weight"]).sum())
    assert abs(shared - 1600) < 5 * 32


def test_empty_and_full_layers_stay_and_the_random_state_is_left_alone():
    masks = {"none": torch.zeros(3, 4, dtype=torch.bool), "all": torch.ones(5, dtype=torch.bool)}
    state = torch.get_rng_state()
    assert equal(shuffle(masks), masks)
    assert torch.equal(torch.get_rng_state(), state)


# Re-initialization ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet20"])
def test_a_reinitialized_network_has_other_weights_also_with_the_seed_of_the_original(name, seed):
    model = pv.models.create(name, input_shape=(1, 16, 16), seed=seed)
    fresh = reinitialize(model, seed=seed)
    old, new = dict(model.named_parameters()), dict(fresh.named_parameters())
    assert list(old) == list(new)
    for key in (k for k in old if old[k].ndim > 1):
        assert not bool((old[key] == new[key]).any()), key
        cosine = float(torch.cosine_similarity(old[key].detach().flatten(), new[key].detach().flatten(), dim=0))
        assert abs(cosine) < 5 / old[key].numel() ** 0.5, key


@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        ("kaiming_normal", lambda fan_in, fan_out: (2 / fan_in) ** 0.5),
        ("xavier_uniform", lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5),
        ("snip", lambda fan_in, fan_out: (1 / fan_in) ** 0.5),
    ],
)
def test_weights_are_drawn_by_the_rule(init, deviation):
    model = pv.models.create("lenet_300_100", input_shape=(1, 16, 16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(9.0)
    fresh = reinitialize(model, init=init)
    for layer in (fresh.fc1, fresh.fc2):
        fan_out, fan_in = layer.weight.shape
        expected = deviation(fan_in, fan_out)
        assert abs(float(layer.weight.detach().std()) / expected - 1) < 5 / (2 * layer.weight.numel()) ** 0.5
        assert abs(float(layer.weight.detach().mean())) < 5 * expected / layer.weight.numel() ** 0.5
        assert not bool(layer.bias.any())


def test_the_original_is_untouched_and_the_copy_shares_nothing_with_it():
    problem = networks.problem("residual", dtype=torch.float32)
    model = problem.model
    problem.loss(dict(model.named_parameters()), problem.batches[0]).backward()
    before, grads = copy.deepcopy(model.state_dict()), {n: p.grad.clone() for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    model.eval()
    fresh = reinitialize(model, seed=5)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(torch.equal(p.grad, grads[n]) for n, p in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not fresh.training
    assert all(p.grad is None and p.requires_grad for p in fresh.parameters())
    memory = {t.data_ptr() for t in model.state_dict().values()}
    assert not memory & {t.data_ptr() for t in fresh.state_dict().values()}


def test_normalization_starts_anew_and_equal_seeds_give_equal_weights():
    model = networks.model("residual")
    fresh = reinitialize(model)
    for name, buffer in fresh.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            assert bool((buffer == (1.0 if name.endswith("var") else 0.0)).all()), name
    assert bool((fresh.bn1.weight == 1).all())
    assert not bool(fresh.bn1.bias.any())
    again, other = reinitialize(model), reinitialize(model, seed=1)
    assert torch.equal(fresh.conv1.weight, again.conv1.weight)
    assert not torch.equal(fresh.conv1.weight, other.conv1.weight)


def test_layer_group_and_one_dimensional_batch_normalization_start_anew_too():
    layers = [nn.Linear(4, 4), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.Linear(4, 2)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
        model[2].running_mean.fill_(3.0)
    fresh = reinitialize(model)
    for norm in fresh[1:4]:
        assert norm.weight.tolist() == [1.0] * 4
        assert norm.bias.tolist() == [0.0] * 4
    assert fresh[2].running_mean.tolist() == [0.0] * 4


def test_tied_weights_stay_tied():
    fresh = reinitialize(networks.model("tied"))
    assert fresh.encode.weight is fresh.decode.weight
    assert fresh.head is fresh.again


def test_masks_of_the_original_fit_the_copy():
    model = pv.models.create("mlp", input_shape=(1, 4, 4), width=0.1)
    problem = pv.Problem(model, [(torch.randn(20, 1, 4, 4), torch.arange(20) % 10)])
    masks = pv.prune(problem, "snip", 0.8)
    fresh = reinitialize(model)
    pv.apply(fresh, masks)
    parameters = dict(fresh.named_parameters())
    assert {n: int((parameters[n] != 0).sum()) for n in masks} == {n: int(m.sum()) for n, m in masks.items()}


# Inversion -----------------------------------------------------------------------------------------------

finite = st.floats(-1e30, 1e30, allow_nan=False)


@PROPERTY
@given(st.lists(finite, min_size=1, max_size=30, unique=True), st.data())
def test_the_inverse_keeps_exactly_what_would_have_been_removed(values, data):
    keep = data.draw(st.integers(0, len(values)))
    scores = {"w": torch.tensor(values, dtype=torch.float64)}
    best = reference.keep_largest(values, keep)
    ones = {"w": torch.tensor([i < len(values) - keep for i in range(len(values))])}
    assert transfer_ratios(invert(scores), ones)["w"].tolist() == [not kept for kept in best]


@PROPERTY
@given(st.lists(st.one_of(finite, st.just(-INF)), min_size=1, max_size=30))
def test_the_order_is_a_plain_sort_from_the_smallest_with_the_removed_last(values):
    inverted = invert({"w": torch.tensor(values, dtype=torch.float64)})["w"]
    order = torch.argsort(inverted, descending=True, stable=True).tolist()
    assert order == sorted(range(len(values)), key=lambda i: (values[i] == -INF, values[i]))
    assert torch.equal(invert({"w": inverted})["w"], torch.tensor(values, dtype=torch.float64))


def test_zeros_signs_and_removed_weights_by_hand():
    scores = {"w": torch.tensor([[0.0, 2.0], [-3.0, -INF]])}
    inverted = invert(scores)
    assert inverted["w"].tolist() == [[0.0, -2.0], [3.0, -INF]]
    assert scores["w"].tolist() == [[0.0, 2.0], [-3.0, -INF]]
    assert pv.allocate(inverted, 0.5)["w"].tolist() == [[True, False], [True, False]]


def test_weights_removed_earlier_in_a_schedule_do_not_come_back():
    problem = networks.problem("mlp_relu")
    masks = pv.prune(problem, "magnitude", 0.5)
    scores = {n: s.masked_fill(~masks[n], -INF) for n, s in pv.score("magnitude", problem).items()}
    smaller = pv.allocate(invert(scores), 0.8)
    assert all(bool((masks[n] | ~smaller[n]).all()) for n in masks)


# Transfer of layerwise ratios ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKED)
def test_counts_are_those_of_the_masks_and_the_largest_scores_are_kept(name):
    masks = networks.random_masks(networks.problem(name), density=0.4)
    scores = random_scores(masks)
    taken = transfer_ratios(scores, masks)
    assert list(taken) == list(masks)
    assert pv.masks.counts(taken) == pv.masks.counts(masks)
    for layer, score in scores.items():
        expected = reference.keep_largest(score.flatten().tolist(), int(masks[layer].sum()))
        assert taken[layer].flatten().tolist() == expected


def test_a_methods_own_scores_and_counts_give_its_masks_back():
    problem = networks.problem("residual")
    scores = pv.score("grasp", problem)
    for sparsity in (0.3, 0.7, 0.9):
        masks = pv.allocate(scores, sparsity)
        assert equal(transfer_ratios(scores, masks), masks)


def test_ties_go_by_index_and_an_empty_layer_stays_empty():
    masks = {"a": torch.tensor([False, False, True, True]), "b": torch.zeros(3, dtype=torch.bool)}
    taken = transfer_ratios({"b": torch.ones(3), "a": torch.ones(4)}, masks)
    assert list(taken) == ["b", "a"]
    assert taken["a"].tolist() == [True, True, False, False]
    assert taken["b"].tolist() == [False, False, False]


# Bad input -----------------------------------------------------------------------------------------------

MASK = {"w": torch.ones(2, 3, dtype=torch.bool)}
SCORE = {"w": torch.ones(2, 3)}
BAD = {
    "shuffle: a list": (lambda: shuffle([MASK]), "masks is a list; a mapping"),
    "shuffle: floats": (lambda: shuffle(SCORE), r"the mask of 'w' has dtype torch.float32; accepted is .*torch.bool"),
    "shuffle: seed": (lambda: shuffle(MASK, seed=-1), "seed -1 is not accepted"),
    "reinitialize: rule": (
        lambda: reinitialize(nn.Linear(1, 1), "kaiming"),
        "initialization 'kaiming' is not known; did you mean 'kaiming_normal'",
    ),
    "reinitialize: no module": (lambda: reinitialize(MASK), "model is a dict; a torch.nn.Module is needed"),
    "reinitialize: convolution": (
        lambda: reinitialize(networks.model("conv1d")),
        "'0.weight' of a Conv1d would keep its old values; accepted: .*Conv2d and Linear, and those of normalization",
    ),
    "reinitialize: a parameter": (
        lambda: reinitialize(networks.model("transformer")),
        "'scale' of a Transformer would keep its old values",
    ),
    "invert: NaN": (lambda: invert({"w": torch.tensor([0.0, NAN, NAN])}), "2 of the 3 scores of 'w' are NaN"),
    "invert: inf": (lambda: invert({"w": torch.tensor([0.0, INF])}), "'w' has scores of inf, which have no inverse"),
    "invert: integers": (
        lambda: invert({"w": torch.tensor([1, 2])}),
        "the scores of 'w' have dtype torch.int64; a floating-point tensor is needed",
    ),
    "invert: a tensor": (lambda: invert(torch.ones(2)), "scores is a Tensor; a mapping"),
    "transfer: a layer without mask": (
        lambda: transfer_ratios(SCORE | {"v": torch.ones(1)}, MASK),
        "the scores name 'v', the masks do not; both must have the same layers",
    ),
    "transfer: a layer without scores": (
        lambda: transfer_ratios(SCORE, MASK | {"v": MASK["w"]}),
        "the masks name 'v', the scores do not",
    ),
    "transfer: shapes": (
        lambda: transfer_ratios({"w": torch.ones(3, 2)}, MASK),
        r"the scores of 'w' have shape \(3, 2\), its mask \(2, 3\); they must be equal",
    ),
    "transfer: NaN": (
        lambda: transfer_ratios({"w": torch.full((2, 3), NAN)}, MASK),
        "6 of the 6 scores of 'w' are NaN",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case):
    call, says = BAD[case]
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gets_the_same_positions_and_the_same_weights():
    masks = networks.random_masks(networks.problem("residual"))
    on_gpu = shuffle({n: m.cuda() for n, m in masks.items()})
    assert all(m.is_cuda for m in on_gpu.values())
    assert equal({n: m.cpu() for n, m in on_gpu.items()}, shuffle(masks))
    model = networks.model("residual", dtype=torch.float32)
    here = reinitialize(model).state_dict()
    there = reinitialize(copy.deepcopy(model).cuda()).state_dict()
    assert all(t.is_cuda and torch.equal(t.cpu(), here[n]) for n, t in there.items())


@pytest.mark.parametrize("how", ["weight_norm", "pruned"])
def test_a_weight_that_hooks_compute_is_refused_not_kept(how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    if how == "pruned":
        pv.to_torch_prune(model, {"0.weight": torch.arange(20).view(5, 4) % 2 == 0})
    else:
        nn.utils.weight_norm(model[0])
    with torch.no_grad():
        model(torch.randn(2, 4))
    with pytest.raises(InputError, match=r"'0\.weight_.*' of a Linear would keep its old values; accepted: "):
        pv.ablations.reinitialize(model)
