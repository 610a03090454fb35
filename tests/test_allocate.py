"""Masks with an exact number of weights: under ties, at every size, in every scope; against sorts and plain loops."""

import itertools
import math
import warnings
from fractions import Fraction

import pytest
import reference
import reference_allocate as twins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pruneviz as pv
from pruneviz.allocate import LayerCollapseWarning, cut
from pruneviz.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::pruneviz.allocate.LayerCollapseWarning")

INF, NAN = float("inf"), float("nan")

shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
        st.tuples(st.integers(1, 9)),
    ),
    min_size=1,
    max_size=6,
)
sparsities = st.one_of(st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 0.98, 0.99]), st.floats(0.0, 0.999))
minima = st.sampled_from([0, 0, 1, 2, 5, 40])
PROPERTY = settings(deadline=None, derandomize=True, max_examples=150)


def random_scores(layers, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}": torch.randn(shape, generator=generator, dtype=dtype) for i, shape in enumerate(layers)}


def constant_scores(layers):
    return {f"layer{i}": torch.ones(shape) for i, shape in enumerate(layers)}


def kept_of(sparsity, n):
    return round((1.0 - sparsity) * n)


def shapes_of(scores):
    return {name: tuple(score.shape) for name, score in scores.items()}


def counts_of(masks):
    return [kept for kept, _ in pv.masks.counts(masks).values()]


# Exact counts --------------------------------------------------------------------------------------------


@PROPERTY
@given(shapes, sparsities, st.sampled_from(pv.SCOPES), minima, st.booleans())
def test_counts_are_exact_with_random_and_with_constant_scores(layers, sparsity, scope, minimum, constant):
    scores = constant_scores(layers) if constant else random_scores(layers)
    if not twins.feasible(layers, sparsity, scope, minimum):
        with pytest.raises(InputError, match=r"keeps 0 of|keeps only|of the convolutions, but|none of the \d layers"):
            pv.allocate(scores, sparsity, scope, minimum)
        return
    masks = pv.allocate(scores, sparsity, scope, minimum)
    assert list(masks) == list(scores)
    for name, score in scores.items():
        assert masks[name].dtype == torch.bool
        assert masks[name].shape == score.shape
        assert int(masks[name].sum()) >= min(minimum, score.numel())
    if scope == "layerwise":
        for mask in masks.values():
            assert int(mask.sum()) == max(kept_of(sparsity, mask.numel()), min(minimum, mask.numel()))
    else:
        assert pv.masks.kept(masks) == kept_of(sparsity, pv.masks.total(masks))


@PROPERTY
@given(shapes, sparsities, st.sampled_from([scope for scope in pv.SCOPES if scope != "global"]), minima)
def test_counts_per_layer_against_a_loop_over_single_weights(layers, sparsity, scope, minimum):
    if not twins.feasible(layers, sparsity, scope, minimum):
        return
    scores = random_scores(layers)
    masks = pv.allocate(scores, sparsity, scope, minimum)
    expected = twins.layer_counts(shapes_of(scores), sparsity, scope, minimum)
    assert {n: k for n, (k, _) in pv.masks.counts(masks).items()} == expected
    for name, mask in masks.items():  # and within a layer, the largest
        assert mask.flatten().tolist() == reference.keep_largest(scores[name].flatten().tolist(), expected[name])


@PROPERTY
@given(shapes, sparsities, minima, st.booleans())
def test_global_is_one_ranking_of_all_weights_after_the_best_of_each_layer(layers, sparsity, minimum, ties):
    scores = random_scores(layers)
    if ties:
        scores = {n: s.round() for n, s in scores.items()}
    if not twins.feasible(layers, sparsity, "global", minimum):
        return
    flat = [s.flatten().tolist() for s in scores.values()]
    masks = pv.allocate(scores, sparsity, minimum=minimum)
    keep = kept_of(sparsity, sum(map(len, flat)))
    assert [m.flatten().tolist() for m in masks.values()] == twins.keep_global(flat, keep, minimum)


@PROPERTY
@given(shapes, st.lists(sparsities, min_size=2, max_size=5), st.sampled_from(pv.SCOPES), minima, st.booleans())
def test_masks_are_nested_in_sparsity(layers, chosen, scope, minimum, constant):
    scores = constant_scores(layers) if constant else random_scores(layers)
    possible = [s for s in sorted(chosen) if twins.feasible(layers, s, scope, minimum)]
    masks = [pv.allocate(scores, s, scope, minimum) for s in possible]
    for larger, smaller in itertools.pairwise(masks):
        for name in scores:
            assert not bool((smaller[name] & ~larger[name]).any()), (scope, name, possible)


@pytest.mark.parametrize("minimum", [0, 1, 9])
@pytest.mark.parametrize("scope", ["global", "uniform", "erk", "smart_ratio", "smart_ratio_vgg"])
def test_one_more_weight_never_takes_one_from_a_layer(scope, minimum):
    """Largest remainders fail here, at 67 and 129 weights (the Alabama paradox of apportionment)."""
    scores = random_scores([(1, 3, 5, 4), (7, 7, 3, 4), (5, 2, 5, 2), (2, 7, 1, 5), (5, 6, 7, 5)])
    n = sum(s.numel() for s in scores.values())
    previous = None
    for keep in range(60 + 4 * minimum, 260):
        masks = pv.allocate(scores, 1 - keep / n, scope, minimum)
        counts = counts_of(masks)
        assert sum(counts) == keep
        assert min(counts) >= minimum
        assert previous is None or all(a <= b for a, b in zip(previous, counts, strict=True))
        previous = counts


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_the_same_scores_give_the_same_masks_and_are_not_changed(scope):
    scores = {n: s.round() for n, s in random_scores([(4, 3), (7, 2, 4)]).items()}
    copies = {n: s.clone() for n, s in scores.items()}
    first, second = (pv.allocate(scores, 0.57, scope, minimum=3) for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in scores)
    assert all(torch.equal(scores[n], copies[n]) for n in scores)


# Scopes --------------------------------------------------------------------------------------------------

RESNET_SHAPES = {
    "conv1": (16, 3, 3, 3),
    **{f"stage1.{i}": (16, 16, 3, 3) for i in range(6)},
    "stage2.0": (32, 16, 3, 3),
    **{f"stage2.{i}": (32, 32, 3, 3) for i in range(1, 6)},
    "stage3.0": (64, 32, 3, 3),
    **{f"stage3.{i}": (64, 64, 3, 3) for i in range(1, 6)},
    "fc": (10, 64),
}


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98, 0.99])
def test_erk_densities_of_a_resnet20_are_the_formulas(sparsity):
    """Evci et al. 2020, section 3: density (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w) epsilon, at most 1."""
    scores = {
        name: torch.rand(shape, generator=torch.Generator().manual_seed(0)) for name, shape in RESNET_SHAPES.items()
    }
    counts = pv.masks.counts(pv.allocate(scores, sparsity, "erk"))
    sizes = [math.prod(shape) for shape in RESNET_SHAPES.values()]
    keep = kept_of(sparsity, sum(sizes))
    wanted = reference.proportional([sum(shape) for shape in RESNET_SHAPES.values()], sizes, keep)
    for (name, (kept, size)), count in zip(counts.items(), wanted, strict=True):
        assert abs(kept - count) < 2, name  # layers of one shape are rounded together
        if count == size:
            assert kept == size
    if sparsity <= 0.9:
        assert counts["fc"] == (640, 640)  # a raw density of 74/640 is the largest of all


def test_erk_by_hand():
    # Shares (sums of shapes) 2 + 4 = 6, 8 + 4 = 12 and 8 + 16 = 24 of sizes 8, 32 and 128; 168 in all.
    scores = random_scores([(2, 4), (8, 4), (8, 16)])
    # Keep 21: half a weight per unit of share: 3, 6, 12.
    assert [k for k, _ in pv.masks.counts(pv.allocate(scores, 1 - 21 / 168, "erk")).values()] == [3, 6, 12]
    # Keep 80: 80/42 per unit would give the first layer 11.4 of its 8. It is dense, and 2 per unit are left: 8, 24, 48.
    assert [k for k, _ in pv.masks.counts(pv.allocate(scores, 1 - 80 / 168, "erk")).values()] == [8, 24, 48]
    # Keep 136: 8, then 128/36 per unit would give the second 42.7 of its 32: 8, 32, 96.
    assert [k for k, _ in pv.masks.counts(pv.allocate(scores, 1 - 136 / 168, "erk")).values()] == [8, 32, 96]


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.97])
def test_uniform_keeps_the_first_layer_dense_and_the_others_equally_dense(sparsity):
    scores = random_scores([(6, 5), (40, 30), (30, 20), (20, 7)])
    masks = pv.allocate(scores, sparsity, "uniform")
    counts = list(pv.masks.counts(masks).values())
    assert counts[0] == (30, 30)
    density = (kept_of(sparsity, 1970) - 30) / 1940
    for kept, size in counts[1:]:
        assert abs(kept - density * size) < 1
    assert pv.masks.kept(masks) == kept_of(sparsity, 1970)


def test_every_scope_of_a_single_convolution_is_global():
    scores = random_scores([(6, 7, 1)])
    expected = pv.allocate(scores, 0.7)["layer0"]
    for scope in pv.SCOPES:
        assert torch.equal(pv.allocate(scores, 0.7, scope)["layer0"], expected)


def test_uniform_that_cannot_keep_its_first_layer_says_so():
    with pytest.raises(
        InputError, match=r"keeps the first layer 'layer0' dense \(30 weights\), but sparsity 0.9 keeps"
    ):
        pv.allocate(random_scores([(6, 5), (4, 4)]), 0.9, "uniform")
    with pytest.raises(InputError, match=r"dense \(30 weights\) and the minimum in the others \(3\), but sparsity 0.3"):
        pv.allocate(random_scores([(6, 5), (4, 4)]), 0.3, "uniform", minimum=3)


def test_smart_ratios_by_hand():
    # L = 4. Densities as 20 : 12 : (linear) : 2, so counts as 20*12 : 12*20 : 2*60 = 2 : 2 : 1, and 0.3 of 10 is 3.
    scores = random_scores([(3, 4, 1), (5, 2, 2), (2, 5), (5, 3, 2, 2)])
    assert counts_of(pv.allocate(scores, 1 - 13 / 102, "smart_ratio")) == [4, 4, 3, 2]
    # 43 are 16 : 16 : 8 and 3; the first layer has only 12, and its 4 go to the others, as 2 : 1.
    assert counts_of(pv.allocate(scores, 1 - 42 / 102, "smart_ratio")) == [12, 18, 3, 9]
    # Over l^2: 20*12 : 12*20/4 : 2*60/16 = 32 : 8 : 1.
    assert counts_of(pv.allocate(scores, 1 - 12 / 102, "smart_ratio_vgg")) == [7, 2, 3, 0]
    # The first layer is full with 12, and 9 are left for 8 : 1.
    assert counts_of(pv.allocate(scores, 1 - 24 / 102, "smart_ratio_vgg")) == [12, 8, 3, 1]


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98, 0.99])
@pytest.mark.parametrize("scope", ["smart_ratio", "smart_ratio_vgg"])
def test_smart_ratios_of_a_resnet20_are_the_formula(scope, sparsity):
    """Su et al. 2020: density c ((L - l + 1)^2 + (L - l + 1)), for VGG over l^2, at most 1; the linear layer 0.3."""
    scores = random_scores(RESNET_SHAPES.values())
    counts = counts_of(pv.allocate(scores, sparsity, scope))
    assert counts.pop() == 192
    sizes = [math.prod(shape) for shape in RESNET_SHAPES.values()][:-1]
    left = [20 - i for i in range(19)]
    shares = [
        size * (k * k + k) / ((21 - k) ** 2 if scope.endswith("vgg") else 1)
        for size, k in zip(sizes, left, strict=True)
    ]
    wanted = reference.proportional(shares, sizes, kept_of(sparsity, sum(sizes) + 640) - 192)
    for count, ideal in zip(counts, wanted, strict=True):
        assert abs(count - ideal) < 1
    densities = [count / size for count, size in zip(counts, sizes, strict=True)]
    assert all(a >= b - 0.001 for a, b in itertools.pairwise(densities))  # deeper is sparser


@pytest.mark.parametrize(
    ("layers", "sparsity", "minimum", "says"),
    [
        ([(4, 5), (5, 2)], 0.5, 0, "among convolutions, and none of the 2 layers is one"),
        ([(5, 2, 2), (20, 9)], 0.8, 0, r"\(54 weights\) and 0 to 20 .* keeps 40 in all; .* of at most 0.73$"),
        ([(5, 2, 2), (20, 9)], 0.1, 0, r"\(54 weights\) and 0 to 20 .* keeps 180 in all; .* of at least 0.63$"),
        ([(5, 2, 2), (20, 9)], 0.7, 7, r"\(54 weights\) and 7 to 20 .* keeps 60 in all; .* of at most 0.695$"),
        ([(5, 2, 2), (20, 9)], 0.7, 20, r"\(54 weights\) and 20 to 20 .* keeps 60 in all; .* of at most 0.63$"),
    ],
)
@pytest.mark.parametrize("scope", ["smart_ratio", "smart_ratio_vgg"])
def test_smart_ratios_that_do_not_go_say_what_would(layers, sparsity, minimum, says, scope):
    with pytest.raises(InputError, match=f"^scope '{scope}' .*{says}") as caught:
        pv.allocate(random_scores(layers), sparsity, scope, minimum)
    assert "\n" not in str(caught.value)
    if "sparsity of at" in says:
        limit = float(str(caught.value).split()[-1])
        beyond = 1e-2 if "at most" in says else -1e-2
        assert pv.allocate(random_scores(layers), limit, scope, minimum)
        with pytest.raises(InputError):
            pv.allocate(random_scores(layers), limit + beyond, scope, minimum)


# A minimum for every layer -------------------------------------------------------------------------------


def test_a_minimum_by_hand():
    scores = {
        "a": torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0]),
        "b": torch.tensor([[3.0, 1.0], [2.0, 3.0]]),
        "c": torch.tensor([-1.0]),
    }
    assert counts_of(cut(scores, 1 - 6 / 11)) == [6, 0, 0]
    masks = cut(scores, 1 - 6 / 11, minimum=2)  # "c" has but one
    assert masks["a"].tolist() == [True, True, True, False, False, False]
    assert masks["b"].tolist() == [[True, False], [False, True]]
    assert masks["c"].tolist() == [True]
    assert counts_of(cut(scores, 1 - 5 / 11, "layerwise")) == [3, 2, 0]
    assert counts_of(cut(scores, 1 - 5 / 11, "layerwise", minimum=2)) == [3, 2, 1]
    # Two are left for the others, 1.6 and 0.4.
    assert counts_of(cut(scores, 1 - 8 / 11, "uniform")) == [6, 2, 0]
    assert counts_of(cut(scores, 1 - 8 / 11, "uniform", minimum=1)) == [6, 1, 1]
    # Shares 6, 4 and 1.
    assert counts_of(cut(scores, 1 - 5 / 11, "erk")) == [3, 2, 0]
    assert counts_of(cut(scores, 1 - 5 / 11, "erk", minimum=1)) == [2, 2, 1]


def test_what_one_layer_must_keep_may_bring_the_next_below_the_minimum():
    """In one ranking "b" keeps 2 of the 6 best; what "c" must keep costs it one, so that it falls short as well."""
    scores = {
        "a": torch.tensor([9.0, 8.0, 7.0, 6.0]),
        "b": torch.tensor([5.0, 4.0, 0.0]),
        "c": torch.tensor([1.0, 2.0]),
    }
    assert counts_of(cut(scores, 1 - 6 / 9)) == [4, 2, 0]
    masks = cut(scores, 1 - 6 / 9, minimum=2)
    assert counts_of(masks) == [2, 2, 2]
    assert masks["b"].tolist() == [True, True, False]


@PROPERTY
@given(shapes, sparsities, st.sampled_from(["uniform", "erk", "smart_ratio", "smart_ratio_vgg"]), minima)
def test_no_exchange_between_two_layers_would_be_fairer(layers, sparsity, scope, minimum):
    """Webster's division with bounds: no layer that could give has less claim than one that could take.

    The claims are share / (count - 1/2) and share / (count + 1/2), and this inequality characterizes the division.
    """
    if not twins.feasible(layers, sparsity, scope, minimum):
        return
    counts = counts_of(cut(random_scores(layers), sparsity, scope, minimum))
    low, high = twins.bounds(layers, scope, minimum)
    shares = [math.prod(shape) for shape in layers]
    if scope == "erk":
        shares = [sum(shape) for shape in layers]
    if scope.startswith("smart_ratio"):
        shares = [share or 0 for share in twins.smart_shares(layers, scope.endswith("vgg"))]
    half = Fraction(1, 2)
    giving = [s / (k - half) for s, k, least in zip(shares, counts, low, strict=True) if k > least]
    taking = [s / (k + half) for s, k, most in zip(shares, counts, high, strict=True) if k < most]
    assert not giving or not taking or min(giving) >= max(taking)


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_a_minimum_that_is_kept_anyway_changes_nothing(scope):
    scores = random_scores([(5, 4, 3, 3), (8, 5, 3, 3), (9, 8)])
    plain = cut(scores, 0.5, scope)
    assert min(counts_of(plain)) >= 20
    for minimum in (0, 1, 20):
        again = cut(scores, 0.5, scope, minimum)
        assert all(torch.equal(plain[n], again[n]) for n in scores)


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_a_removed_weight_comes_back_only_for_a_layer_that_has_nothing_else(scope):
    scores = random_scores([(2, 2, 3), (5, 8), (4, 3, 2)])
    scores["layer1"][:, 1:] = -INF  # five are left
    scores["layer2"][...] = -INF  # none
    masks = cut(scores, 0.75, scope, minimum=3)
    assert masks["layer2"].flatten()[:3].all()
    if scope != "layerwise":  # what removed weights could have taken goes elsewhere
        assert pv.masks.kept(masks) == 19
        assert int(masks["layer2"].sum()) == 3
        assert not masks["layer1"][:, 1:].any()


@pytest.mark.parametrize("minimum", [-1, 1.0, 0.5, NAN, True, "1", None, [1]])
def test_a_minimum_that_is_no_whole_number_is_one_line(minimum):
    with pytest.raises(InputError, match="is not accepted: give a whole number of at least 0") as caught:
        pv.allocate(random_scores([(3, 4)]), 0.5, minimum=minimum)
    assert repr(minimum) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scope", ["global", "layerwise", "erk"])
@pytest.mark.parametrize(("minimum", "needed"), [(6, 18), (7, 20), (10**18, 29)])
def test_minima_that_are_more_than_is_kept_say_what_would_do(scope, minimum, needed):
    scores = random_scores([(3, 4), (2, 3), (11, 1)])  # 29 weights, of which 12 are kept
    with pytest.raises(InputError) as caught:
        pv.allocate(scores, 1 - 12 / 29, scope, minimum)
    says = f"minimum {minimum} keeps {needed} weights in 3 layers, but sparsity {1 - 12 / 29} keeps only 12 of 29; "
    message, limit = str(caught.value).rsplit(" ", 1)
    assert message == f"{says}accepted: a minimum of at most 4, or a sparsity of at most"
    assert pv.allocate(scores, 1 - 12 / 29, scope, 4)
    assert sum(counts_of(pv.allocate(scores, float(limit), scope, minimum))) >= needed
    assert kept_of(float(limit), 29) == needed


def test_a_numpy_number_is_a_minimum():
    numpy = pytest.importorskip("numpy")
    assert min(counts_of(pv.allocate(random_scores([(4, 5), (2, 2)]), 0.5, minimum=numpy.int64(4)))) >= 4


# Layer collapse ------------------------------------------------------------------------------------------


def test_layers_that_lose_all_their_weights_are_named_in_one_warning():
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.rand(5) + 3, "none": torch.empty(0), "c": torch.zeros(2, 1)}
    with pytest.warns(LayerCollapseWarning) as caught:
        pv.allocate(scores, 5 / 9)
    assert [str(w.message) for w in caught] == [
        "all weights of 'a', 'c' are removed (layer collapse): the network's output no longer depends on its input "
        "there; minimum=1 forbids it"
    ]
    assert caught[0].filename == __file__  # the caller's line
    assert issubclass(LayerCollapseWarning, UserWarning)


def test_nothing_is_said_if_every_layer_keeps_a_weight_or_by_cut():
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.rand(5) + 3, "none": torch.empty(0)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pv.allocate(scores, 0.5, minimum=1)
        pv.allocate(scores, 0.0)
        silent = cut(scores, 0.5)
    loud = pv.allocate(scores, 0.5)
    assert all(torch.equal(silent[n], loud[n]) for n in scores)
    assert pv.masks.collapsed(silent) == ["a", "none"]


# Unusual scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_minus_infinity_is_kept_only_if_nothing_else_is_left(scope):
    scores = random_scores([(4, 5, 1), (6, 5, 1), (3, 6, 1)])
    generator = torch.Generator().manual_seed(1)
    gone = {n: torch.rand(s.shape, generator=generator) < 0.3 for n, s in scores.items() if n != "layer0"}
    for name, removed in gone.items():
        scores[name][removed] = -INF
    left = sum(int((s > -INF).sum()) for s in scores.values())
    for keep in (30, left - 5, left):
        masks = pv.allocate(scores, 1 - keep / 68, scope)
        if scope != "layerwise":
            assert pv.masks.kept(masks) == keep
            assert not any(bool((masks[n] & removed).any()) for n, removed in gone.items())
    masks = pv.allocate(scores, 1 - (left + 4) / 68, scope)  # more than are left: some come back, first ones first
    if scope != "layerwise":
        assert pv.masks.kept(masks) == left + 4
    if scope == "global":
        assert all(bool((masks[n] | removed).all()) for n, removed in gone.items())
        back = torch.cat([(masks[n] & gone[n]).flatten()[gone[n].flatten()] for n in gone])
        assert back.tolist() == [True] * 4 + [False] * (len(back) - 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize("scale", [1, 2**14])
def test_any_type_of_scores_keeps_the_same_weights(dtype, scale):
    whole = {"a": torch.tensor([[3, -1], [0, 2]]), "b": torch.tensor([1, -2])}
    masks = pv.allocate({n: (s * scale).to(dtype) for n, s in whole.items()}, 0.5)
    assert masks["a"].tolist() == [[True, False], [False, True]]
    assert masks["b"].tolist() == [True, False]


@pytest.mark.parametrize("scale", [1.5e-45, 1e-39, 3e37])
@pytest.mark.parametrize("scope", pv.SCOPES)
def test_denormal_and_huge_scores_are_told_apart(scale, scope):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).float()
    scores = {"a": (order[:6] * scale).view(2, 3, 1), "b": (order[6:] * scale).view(3, 2, 1)}
    plain = {"a": order[:6].view(2, 3, 1), "b": order[6:].view(3, 2, 1)}
    masks, expected = pv.allocate(scores, 0.5, scope), pv.allocate(plain, 0.5, scope)
    assert all(torch.equal(masks[n], expected[n]) for n in masks)


def test_scores_that_are_views_and_not_contiguous_are_read_in_their_own_order():
    whole = random_scores([(6, 8)])["layer0"]
    strided = {"a": whole.view(4, 3, 4).transpose(0, 2), "b": whole[:, ::2]}
    plain = {n: s.contiguous() for n, s in strided.items()}
    for scope in pv.SCOPES:
        masks, expected = pv.allocate(strided, 0.3, scope), pv.allocate(plain, 0.3, scope)
        assert all(torch.equal(masks[n], expected[n]) for n in masks)


def test_an_empty_layer_takes_nothing():
    for scope in pv.SCOPES:
        masks = pv.allocate({"none": torch.empty(0, 3, 1), "some": torch.rand(4, 2, 2)}, 0.5, scope, minimum=2)
        assert masks["none"].shape == (0, 3, 1)
        assert pv.masks.kept(masks) == 8


# Inputs that cannot be used ------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [NAN, INF, -INF, 1.2, 1.0, -0.1, True, False, "0.5", None, [0.5], 1])
def test_a_sparsity_that_is_no_fraction_is_one_line(sparsity):
    with pytest.raises(
        InputError, match="is not a fraction of weights to remove: accepted is 0 <= sparsity < 1"
    ) as caught:
        pv.allocate(random_scores([(3, 4)]), sparsity)
    assert repr(sparsity) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_not_a_number_is_refused_with_its_layer(scope):
    scores = random_scores([(3, 4), (2, 5)])
    scores["layer1"][1, 2] = NAN
    with pytest.raises(InputError, match="1 of the 10 scores of 'layer1' are NaN"):
        pv.allocate(scores, 0.5, scope)


@pytest.mark.parametrize(
    ("scores", "sparsity", "scope", "says"),
    [
        ({}, 0.5, "global", "scores is empty"),
        ({"a": torch.rand(4)}, 0.9, "global", "sparsity 0.9 keeps 0 of 4 weights"),
        ({"a": torch.rand(4)}, 0.5, "globl", "scope 'globl' is not known; did you mean 'global'\\? accepted: global, "),
        ({"a": torch.rand(4)}, 0.5, None, "scope None is not known"),
        ({"a": [1.0, 2.0]}, 0.5, "global", "the scores of 'a' are a list; a tensor is needed"),
        ({"a": torch.ones(3, dtype=torch.uint64)}, 0.5, "global", "'a' have dtype torch.uint64; accepted: torch.float"),
    ],
)
def test_a_bad_argument_is_one_line(scores, sparsity, scope, says):
    with pytest.raises(InputError, match=says) as caught:
        pv.allocate(scores, sparsity, scope)
    assert "\n" not in str(caught.value)


def test_whole_numbers_and_numpy_numbers_are_sparsities():
    numpy = pytest.importorskip("numpy")
    scores = random_scores([(4, 5)])
    assert pv.masks.kept(pv.allocate(scores, 0)) == 20
    assert pv.masks.kept(pv.allocate(scores, numpy.float64(0.25))) == 15
    assert pv.masks.kept(pv.allocate(scores, numpy.float32(0.25))) == 15
