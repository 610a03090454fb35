"""Masks with an exact number of weights: under ties, at every size, in every scope; against sorts and plain loops."""

import itertools
import math

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pruneviz as pv
from pruneviz.allocate import keep_largest
from pruneviz.errors import InputError

INF, NAN = float("inf"), float("nan")
TINY = torch.finfo(torch.float32).tiny

# Scores with many ties, infinities, denormals and both zeros among them.
entries = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, -3.0, 1e30, -1e30, TINY / 4, TINY / 8, INF, -INF])
vectors = st.lists(entries, min_size=1, max_size=40)
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
PROPERTY = settings(deadline=None, derandomize=True, max_examples=150)


def random_scores(layers, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}": torch.randn(shape, generator=generator, dtype=dtype) for i, shape in enumerate(layers)}


def constant_scores(layers):
    return {f"layer{i}": torch.ones(shape) for i, shape in enumerate(layers)}


def kept_of(sparsity, n):
    return round((1.0 - sparsity) * n)


def feasible(layers, sparsity, scope):
    """Whether the scope can keep that many: at least one weight, and "uniform" the whole first layer."""
    sizes = [math.prod(shape) for shape in layers]
    keep = kept_of(sparsity, sum(sizes))
    return keep >= (sizes[0] if scope == "uniform" and len(sizes) > 1 else 1)


# One vector ----------------------------------------------------------------------------------------------


@PROPERTY
@given(vectors, st.data(), st.sampled_from([torch.float32, torch.float64]))
def test_keep_largest_is_a_stable_sort(values, data, dtype):
    keep = data.draw(st.integers(0, len(values)))
    scores = torch.tensor(values, dtype=dtype)
    mask = keep_largest(scores, keep)
    assert mask.dtype == torch.bool
    assert mask.tolist() == reference.keep_largest(scores.tolist(), keep)
    order = torch.argsort(scores, descending=True, stable=True)
    assert sorted(mask.nonzero().flatten().tolist()) == sorted(order[:keep].tolist())


def test_of_equal_scores_the_first_are_kept():
    assert keep_largest(torch.tensor([1.0, 5.0, 1.0, 1.0, 0.0]), 3).tolist() == [True, True, True, False, False]
    assert keep_largest(torch.tensor([0.0, -0.0, 0.0]), 2).tolist() == [True, True, False]
    assert keep_largest(torch.tensor([-INF, 3.0, -INF]), 2).tolist() == [True, True, False]


def test_a_long_vector_of_ties_and_of_neighbouring_floats():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 3, (100_000,), generator=generator).float()
    scores = torch.where(scores == 1, torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)), scores.clamp(max=1.0))
    for keep in (1, 33_333, 50_000, 66_667, 99_999):
        order = torch.argsort(scores, descending=True, stable=True)[:keep]
        expected = torch.zeros(100_000, dtype=torch.bool)
        expected[order] = True
        assert torch.equal(keep_largest(scores, keep), expected)


# Exact counts --------------------------------------------------------------------------------------------


@PROPERTY
@given(shapes, sparsities, st.sampled_from(pv.SCOPES), st.booleans())
def test_counts_are_exact_with_random_and_with_constant_scores(layers, sparsity, scope, constant):
    scores = constant_scores(layers) if constant else random_scores(layers)
    if not feasible(layers, sparsity, scope):
        with pytest.raises(InputError, match=r"keeps 0 of|keeps only"):
            pv.allocate(scores, sparsity, scope)
        return
    masks = pv.allocate(scores, sparsity, scope)
    assert list(masks) == list(scores)
    for name, score in scores.items():
        assert masks[name].dtype == torch.bool
        assert masks[name].shape == score.shape
    n = pv.masks.total(masks)
    if scope == "layerwise":
        for mask in masks.values():
            assert int(mask.sum()) == kept_of(sparsity, mask.numel())
    else:
        assert pv.masks.kept(masks) == kept_of(sparsity, n)


@PROPERTY
@given(shapes, sparsities, st.sampled_from(["layerwise", "uniform", "erk"]))
def test_counts_per_layer_against_a_loop_over_single_weights(layers, sparsity, scope):
    if not feasible(layers, sparsity, scope):
        return
    scores = random_scores(layers)
    masks = pv.allocate(scores, sparsity, scope)
    expected = reference.layer_counts({n: tuple(s.shape) for n, s in scores.items()}, sparsity, scope)
    assert {n: k for n, (k, _) in pv.masks.counts(masks).items()} == expected
    for name, mask in masks.items():  # and within a layer, the largest
        assert mask.flatten().tolist() == reference.keep_largest(scores[name].flatten().tolist(), expected[name])


@PROPERTY
@given(shapes, sparsities)
def test_global_is_one_ranking_of_all_weights(layers, sparsity):
    scores = random_scores(layers)
    if not feasible(layers, sparsity, "global"):
        return
    flat = torch.cat([s.flatten() for s in scores.values()])
    masks = pv.allocate(scores, sparsity)
    assert torch.cat([m.flatten() for m in masks.values()]).tolist() == reference.keep_largest(
        flat.tolist(), kept_of(sparsity, len(flat))
    )


@PROPERTY
@given(shapes, st.lists(sparsities, min_size=2, max_size=5), st.sampled_from(pv.SCOPES), st.booleans())
def test_masks_are_nested_in_sparsity(layers, chosen, scope, constant):
    scores = constant_scores(layers) if constant else random_scores(layers)
    possible = [s for s in sorted(chosen) if feasible(layers, s, scope)]
    masks = [pv.allocate(scores, s, scope) for s in possible]
    for larger, smaller in itertools.pairwise(masks):
        for name in scores:
            assert not bool((smaller[name] & ~larger[name]).any()), (scope, name, possible)


@pytest.mark.parametrize("scope", ["uniform", "erk"])
def test_one_more_weight_never_takes_one_from_a_layer(scope):
    """Largest remainders fail here, at 67 and 129 weights (the Alabama paradox of apportionment)."""
    scores = random_scores([(1, 3, 5, 4), (7, 7, 3, 4), (5, 2, 5, 2), (2, 7, 1, 5), (5, 6, 7, 5)])
    n = sum(s.numel() for s in scores.values())
    previous = None
    for keep in range(60, n + 1):
        masks = pv.allocate(scores, 1 - keep / n, scope)
        counts = [k for k, _ in pv.masks.counts(masks).values()]
        assert sum(counts) == keep
        assert previous is None or all(a <= b for a, b in zip(previous, counts, strict=True))
        previous = counts


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_the_same_scores_give_the_same_masks_and_are_not_changed(scope):
    scores = {n: s.round() for n, s in random_scores([(8, 9), (7, 8)]).items()}
    copies = {n: s.clone() for n, s in scores.items()}
    first, second = (pv.allocate(scores, 0.37, scope) for _ in range(2))
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


def test_uniform_and_erk_of_a_single_layer_are_global():
    scores = random_scores([(6, 7)])
    expected = pv.allocate(scores, 0.7)["layer0"]
    for scope in ("layerwise", "uniform", "erk"):
        assert torch.equal(pv.allocate(scores, 0.7, scope)["layer0"], expected)


def test_uniform_that_cannot_keep_its_first_layer_says_so():
    with pytest.raises(
        InputError, match=r"keeps the first layer 'layer0' dense \(30 weights\), but sparsity 0.9 keeps"
    ):
        pv.allocate(random_scores([(6, 5), (4, 4)]), 0.9, "uniform")


# Unusual scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_minus_infinity_is_kept_only_if_nothing_else_is_left(scope):
    scores = random_scores([(4, 5), (6, 5), (3, 6)])
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
    scores = {"a": (order[:6] * scale).view(2, 3), "b": (order[6:] * scale).view(3, 2)}
    plain = {"a": order[:6].view(2, 3), "b": order[6:].view(3, 2)}
    masks, expected = pv.allocate(scores, 0.5, scope), pv.allocate(plain, 0.5, scope)
    assert all(torch.equal(masks[n], expected[n]) for n in masks)


def test_scores_that_are_views_and_not_contiguous_are_read_in_their_own_order():
    whole = random_scores([(6, 8)])["layer0"]
    strided = {"a": whole.t(), "b": whole[:, ::2]}
    plain = {"a": whole.t().contiguous(), "b": whole[:, ::2].contiguous()}
    for scope in pv.SCOPES:
        masks, expected = pv.allocate(strided, 0.2, scope), pv.allocate(plain, 0.2, scope)
        assert all(torch.equal(masks[n], expected[n]) for n in masks)


def test_an_empty_layer_takes_nothing():
    for scope in ("global", "layerwise", "erk"):
        masks = pv.allocate({"none": torch.empty(0, 3), "some": torch.rand(4, 4)}, 0.5, scope)
        assert masks["none"].shape == (0, 3)
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
