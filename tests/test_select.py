"""The largest entries of many tensors: against stable sorts, to the last bit, in little memory."""

from unittest import mock

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import peak_bytes

from pruneviz import select
from pruneviz.select import keep_largest, keep_largest_of

INF = float("inf")
TINY = torch.finfo(torch.float32).tiny

# Scores with many ties, infinities, denormals and both zeros among them.
entries = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, -3.0, 1e30, -1e30, TINY / 4, TINY / 8, INF, -INF])
vectors = st.lists(entries, min_size=1, max_size=40)
# How many scores are read at once, may be gathered, and are held: many pieces, and bit by bit to the end.
sizes = st.sampled_from([(1 << 14, 1 << 15, 1 << 19), (3, 1 << 15, 0), (3, 4, 1 << 19), (1 << 14, 0, 0), (5, 0, 100)])
PROPERTY = settings(deadline=None, derandomize=True, max_examples=150)

WHOLE = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def in_pieces(chunk, few, held):
    return mock.patch.multiple(select, _CHUNK={"cpu": chunk}, _FEW=few, _SHARE=1 << 40, _HELD=held)


def stable_sort(tensors, keep):
    """The masks by one stable sort of everything, as double precision numbers or as whole ones."""
    flat = torch.cat([t.flatten().double() if t.is_floating_point() else t.flatten().long() for t in tensors])
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[torch.argsort(flat, descending=True, stable=True)[:keep]] = True
    parts = mask.split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def assert_equal(masks, expected):
    for mask, wanted in zip(masks, expected, strict=True):
        assert mask.dtype == torch.bool
        assert torch.equal(mask, wanted)


@PROPERTY
@given(vectors, st.data(), st.sampled_from([torch.float32, torch.float64]), sizes)
def test_keep_largest_is_a_stable_sort(values, data, dtype, how):
    keep = data.draw(st.integers(0, len(values)))
    scores = torch.tensor(values, dtype=dtype)
    with in_pieces(*how):
        mask = keep_largest(scores, keep)
    assert mask.tolist() == reference.keep_largest(scores.tolist(), keep)
    assert_equal([mask], stable_sort([scores], keep))


@PROPERTY
@given(st.lists(st.lists(entries, max_size=12), min_size=1, max_size=5), st.data(), sizes)
def test_many_tensors_are_one_ranking(values, data, how):
    tensors = [torch.tensor(v) for v in values]
    keep = data.draw(st.integers(0, sum(map(len, values))))
    with in_pieces(*how):
        masks = keep_largest_of(tensors, keep)
    assert sum(int(mask.sum()) for mask in masks) == keep
    assert_equal(masks, stable_sort(tensors, keep))


def test_of_equal_scores_the_first_are_kept():
    assert keep_largest(torch.tensor([1.0, 5.0, 1.0, 1.0, 0.0]), 3).tolist() == [True, True, True, False, False]
    assert keep_largest(torch.tensor([0.0, -0.0, 0.0]), 2).tolist() == [True, True, False]
    assert keep_largest(torch.tensor([-INF, 3.0, -INF]), 2).tolist() == [True, True, False]
    first, second = keep_largest_of([torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, -0.0])], 2)
    assert (first.tolist(), second.tolist()) == ([[True, True]], [False, False])


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE], ids=str)
@pytest.mark.parametrize("how", [(1 << 14, 1 << 15, 1 << 19), (1000, 16, 0), (1 << 14, 0, 1 << 19)], ids=str)
def test_every_type_at_its_extremes(dtype, how):
    """All bit patterns of two bytes and as many of longer types, the largest, the smallest and both signs."""
    generator = torch.Generator().manual_seed(0)
    limits = torch.iinfo(dtype) if dtype in WHOLE else torch.finfo(dtype)
    raw = torch.randint(-(2**63), 2**63 - 1, (2**14,), generator=generator)
    values = raw.view(dtype)[: 2**14]
    values = values[~values.isnan()]
    edges = torch.tensor([limits.max, limits.min, 0, limits.max, limits.min], dtype=dtype)
    tensors = [values[:5001], edges, values[5001:]]
    n = sum(map(len, tensors))
    with in_pieces(*how):
        for keep in (1, 2, n // 3, n // 2, n - 3, n - 1):
            assert_equal(keep_largest_of(tensors, keep), stable_sort(tensors, keep))


@pytest.mark.parametrize("few", [1 << 17, 1 << 15, 0])
def test_a_long_vector_of_ties_and_of_neighbouring_floats(few):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 3, (100_000,), generator=generator).float()
    scores = torch.where(scores == 1, torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)), scores.clamp(max=1.0))
    with in_pieces(1 << 14, few, 1 << 19):
        for keep in (1, 33_333, 50_000, 66_667, 99_999):
            assert_equal([keep_largest(scores, keep)], stable_sort([scores], keep))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scores", ["normal", "constant"])
def test_half_a_million_and_more_are_counted_by_their_bits(dtype, scores):
    """More scores than are held or gathered at once, with the module's own sizes."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 7), (700, 900), (0, 4), (100,)]
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    if scores == "constant":
        tensors = [torch.full_like(t, -1.5) for t in tensors]
    for keep in (1, 12_345, 400_000, sum(t.numel() for t in tensors) - 1):
        assert_equal(keep_largest_of(tensors, keep), stable_sort(tensors, keep))


def test_tensors_of_different_types_are_compared_as_in_one_tensor():
    """2^53 + 1 has no double and 1/3 no single precision twin: all are compared in the type that holds them all."""
    third = torch.tensor([1 / 3], dtype=torch.float64)
    single = torch.tensor([1 / 3], dtype=torch.float32)  # a little larger
    assert [m.tolist() for m in keep_largest_of([third, single], 1)] == [[False], [True]]
    assert [m.tolist() for m in keep_largest_of([-single, -third], 1)] == [[False], [True]]
    whole = torch.tensor([2**53 + 1, 2**53])
    assert [m.tolist() for m in keep_largest_of([whole], 1)] == [[True, False]]
    mixed = [torch.tensor([3, -2, 0]), torch.tensor([0.5, -2.5]), torch.tensor([2.0], dtype=torch.bfloat16)]
    assert [m.tolist() for m in keep_largest_of(mixed, 3)] == [[True, False, False], [True, False], [True]]


def test_what_is_read_is_not_changed_and_may_be_a_strided_view_that_wants_a_gradient():
    whole = torch.randn(60, 50, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = whole.detach().clone()
    views = [whole.t()[:, ::2], whole[1::2, 7:], whole[0, 0]]
    assert_equal(keep_largest_of(views, 700), stable_sort([v.detach().contiguous() for v in views], 700))
    assert torch.equal(whole, before)
    assert whole.grad is None


def test_nothing_and_everything():
    tensors = [torch.zeros(2, 3), torch.zeros(0), torch.zeros(())]
    assert not any(bool(mask.any()) for mask in keep_largest_of(tensors, 0))
    assert all(bool(mask.all()) for mask in keep_largest_of(tensors, 7))
    assert keep_largest_of([], 0) == []


@pytest.mark.parametrize("scores", ["normal", "constant"])
def test_no_second_copy_of_the_scores_is_made(scores):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1000, 600, generator=generator) for _ in range(4)]
    if scores == "constant":
        tensors = [torch.ones_like(t) for t in tensors]
    n = sum(t.numel() for t in tensors)
    plain = peak_bytes(lambda: torch.cat([t.flatten() for t in tensors]).kthvalue(n // 2))
    ours = peak_bytes(lambda: keep_largest_of(tensors, n // 10))
    assert plain >= 4 * n  # the copy alone
    assert ours <= n + 4 * n / 8  # the masks, one byte per weight, and little else


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_gpu_keeps_the_same_entries_also_where_only_deterministic_operations_are_allowed(dtype):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in [(1500, 900), (7,), (40, 3, 3, 3)]]
    tensors.append(torch.zeros(50_000, dtype=dtype))
    n = sum(t.numel() for t in tensors)
    torch.use_deterministic_algorithms(True)
    try:
        for keep in (1, n // 10, n // 2, n - 1):
            masks = keep_largest_of([t.cuda() for t in tensors], keep)
            assert all(mask.is_cuda for mask in masks)
            assert_equal([mask.cpu() for mask in masks], keep_largest_of(tensors, keep))
            split = keep_largest_of([tensors[0].cuda(), *tensors[1:]], keep)  # layers of one network on two devices
            assert_equal([mask.cpu() for mask in split], keep_largest_of(tensors, keep))
    finally:
        torch.use_deterministic_algorithms(False)
