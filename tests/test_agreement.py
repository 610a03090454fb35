"""Agreement by hand, against scipy, against loops over sets, and by what must not change it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pruneviz.allocate import allocate
from pruneviz.errors import InputError
from pruneviz.probes.agreement import _CHUNK, agreement

INF = math.inf


def bits(text):
    return torch.tensor([letter == "1" for letter in text])


def drawn(seed, *, ties=False, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (5, 3, 3), "head": (4, 6)}
    scores = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return {name: ((s * 2).round() if ties else s).to(dtype) for name, s in scores.items()}


def flat(scores):
    return torch.cat([s.flatten() for s in scores.values()]).double().numpy()


def test_masks_by_hand():
    # Layer a: both keep 1, one of 3; layer b: both keep 2 of 2 and 3. In total 3 of 6.
    result = agreement({"a": bits("1100"), "b": bits("110")}, {"a": bits("0110"), "b": bits("111")})
    a, b = result.per_layer["a"], result.per_layer["b"]
    assert (a.jaccard, a.overlap) == (1 / 3, 1 / 2)
    assert (b.jaccard, b.overlap) == (2 / 3, 1.0)
    assert (result.jaccard, result.overlap) == (3 / 6, 3 / 4)
    # By chance layer a shares 2 * 2 / 4 = 1 of 4, layer b 2 * 3 / 3 = 2 of 5.
    assert (a.by_chance, b.by_chance, result.by_chance) == (1 / 3, 2 / 3, 3 / 6)
    assert result.rank_correlation is None
    assert a.rank_correlation is None


def test_masks_that_keep_nothing_agree_with_each_other_and_with_no_other():
    masks = {"none": bits("000"), "one": bits("000")}
    result = agreement(masks, {"none": bits("000"), "one": bits("100")})
    assert (result.per_layer["none"].jaccard, result.per_layer["none"].overlap) == (1.0, 1.0)
    assert (result.per_layer["one"].jaccard, result.per_layer["one"].overlap) == (0.0, 0.0)


def test_what_is_expected_by_chance_is_the_mean_of_shuffled_masks():
    a, b = {"w": torch.arange(2000) < 300}, {"w": torch.arange(2000) < 500}
    generator = torch.Generator().manual_seed(0)
    shuffled = [agreement(a, {"w": b["w"][torch.randperm(2000, generator=generator)]}) for _ in range(50)]
    mean = sum(result.jaccard for result in shuffled) / 50
    assert mean == pytest.approx(shuffled[0].by_chance, abs=0.005)
    assert agreement(a, b).by_chance == shuffled[0].by_chance < agreement(a, b).jaccard


def test_ranks_by_hand():
    # Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4: covariance 3 / 4, variances 4.5 / 4 and 5 / 4.
    result = agreement({"w": torch.tensor([-INF, 1.0, 1.0, 7.0])}, {"w": torch.tensor([0.5, -INF, 2.0, INF])})
    assert result.rank_correlation == pytest.approx(3 / math.sqrt(4.5 * 5), rel=1e-15)
    assert result.jaccard is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_rank_correlation_is_scipys(dtype, ties):
    a, b = drawn(0, ties=ties, dtype=dtype), drawn(1, ties=ties, dtype=dtype)
    b = {name: b[name] + a[name] for name in reversed(b)}  # the order of the layers is the first one's
    result = agreement(a, b)
    assert list(result.per_layer) == list(a)
    for name, layer in result.per_layer.items():
        expected = stats.spearmanr(flat({0: a[name]}), flat({0: b[name]})).statistic
        assert layer.rank_correlation == pytest.approx(expected, rel=1e-12)
    expected = stats.spearmanr(flat(a), flat({name: b[name] for name in a})).statistic
    assert result.rank_correlation == pytest.approx(expected, rel=1e-12)
    assert abs(expected) > 0.1


PAIRS = st.tuples(st.integers(-3, 3), st.sampled_from([-INF, -1.0, -0.0, 0.0, 2.0, INF]))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(PAIRS, min_size=2, max_size=9))
def test_ties_and_infinities_are_ranked_as_scipy_ranks_them(pairs):
    x, y = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    found = agreement({"w": x}, {"w": y}).rank_correlation
    ranks = stats.rankdata(x.numpy()), stats.rankdata(y.numpy())
    if len(set(ranks[0])) == 1 or len(set(ranks[1])) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(stats.pearsonr(*ranks).statistic, abs=1e-12)


def test_scores_at_a_sparsity_are_compared_as_the_masks_that_are_allocated():
    a, b = drawn(0), drawn(1)
    for scope in ("global", "layerwise"):
        result = agreement(a, b, 0.5, scope)
        first, second = allocate(a, 0.5, scope), allocate(b, 0.5, scope)
        kept = [
            {(n, i) for n, m in masks.items() for i in m.flatten().nonzero().flatten().tolist()}
            for masks in (first, second)
        ]
        assert result.jaccard == len(kept[0] & kept[1]) / len(kept[0] | kept[1])
        assert result.overlap == len(kept[0] & kept[1]) / min(map(len, kept))
        assert result.rank_correlation == agreement(a, b).rank_correlation
        assert agreement(first, second).per_layer["head"].jaccard == result.per_layer["head"].jaccard


def test_it_is_symmetric_and_only_the_order_of_scores_matters():
    a, b = drawn(0), drawn(1)
    one, other = agreement(a, b, 0.3), agreement(b, a, 0.3)
    assert (one.jaccard, one.overlap) == (other.jaccard, other.overlap)
    assert one.rank_correlation == pytest.approx(other.rank_correlation, rel=1e-12)
    assert agreement({n: s.exp() for n, s in a.items()}, b, 0.3) == one
    assert agreement(a, a, 0.3).rank_correlation == pytest.approx(1, rel=1e-15)
    assert agreement(a, {n: -s for n, s in a.items()}).rank_correlation == pytest.approx(-1, rel=1e-15)


def test_two_million_scores_keep_the_promised_memory():
    from measure import peak_bytes

    generator = torch.Generator().manual_seed(0)
    a, b = ({"w": torch.randn(2_000_000, generator=generator)} for _ in range(2))
    assert peak_bytes(lambda: agreement(a, b)) <= 22 * 2_000_000 + 34 * _CHUNK


@pytest.mark.parametrize(
    ("a", "b", "options", "said"),
    [
        ({}, {"w": bits("1")}, {}, "the first is empty"),
        ([bits("1")], {"w": bits("1")}, {}, "the first is a list"),
        ({"w": bits("1")}, {"v": bits("1")}, {}, "the first has the layer 'w', the second has not"),
        ({"w": bits("1")}, {"w": bits("1"), "v": bits("1")}, {}, "the second has the layer 'v', the first has not"),
        ({"w": bits("10")}, {"w": bits("1")}, {}, r"'w' has shape \(2,\) and \(1,\)"),
        ({"w": bits("10")}, {"w": torch.ones(2)}, {}, "masks .* are beside scores"),
        ({"w": torch.ones(2)}, {"w": torch.tensor([1.0, math.nan])}, {}, "'w' of the second holds NaN"),
        ({"w": torch.ones(2)}, {"w": 3}, {}, "'w' of the second is a int"),
        ({"w": bits("10")}, {"w": bits("10")}, {"sparsity": 0.5}, "sparsity 0.5 is given with masks"),
        ({"w": torch.ones(2)}, {"w": torch.ones(2)}, {"sparsity": 1.0}, "sparsity 1.0 is not a fraction"),
    ],
)
def test_what_cannot_be_compared_is_one_line(a, b, options, said):
    with pytest.raises(InputError, match=said) as caught:
        agreement(a, b, **options)
    assert "\n" not in str(caught.value)
