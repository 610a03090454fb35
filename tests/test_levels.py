"""Levels: all masks of a scorer in one byte per weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explorer import small_problem
from hypothesis import given, settings
from hypothesis import strategies as st

import pruneviz as pv
from pruneviz.allocate import cut
from pruneviz.errors import InputError
from pruneviz.widgets.levels import DEFAULT_GRID, check_grid, default_grid, levels

# The smart-ratios keep a fixed part of the linear layers, so they cannot keep everything.
FROM_ZERO = [scope for scope in pv.SCOPES if not scope.startswith("smart_ratio")]


@pytest.fixture
def problem() -> pv.Problem:
    return small_problem()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_levels_are_all_masks_of_allocate(data: st.DataObject) -> None:
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4))
    # Few distinct values: the ties are the hard part.
    scores = {
        f"w{i}": torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=a * b, max_size=a * b))).float().view(a, b)
        for i, (a, b) in enumerate(shapes)
    }
    weights = sum(s.numel() for s in scores.values())
    grid = sorted(data.draw(st.sets(st.sampled_from(default_grid(weights)), min_size=1, max_size=12)))
    scope = data.draw(st.sampled_from(FROM_ZERO))
    grid = [0.0, *(s for s in grid if s > 0)]
    found = levels(scores, grid, scope)
    assert found.points == len(grid) or scope == "uniform"
    for index in range(found.points):
        expected = cut(scores, grid[index], scope)
        assert {n: m.tolist() for n, m in found.masks(index).items()} == {n: m.tolist() for n, m in expected.items()}


def test_levels_of_a_global_cut_follow_from_the_ranks() -> None:
    """Independent of `allocate`: sort once, stably; a weight's level is the number of cuts deeper than its rank."""
    scores = {"a": torch.tensor([3.0, 1.0, 2.0, 2.0]), "b": torch.tensor([[2.0, 0.0], [5.0, 1.0]])}
    grid = (0.0, 0.25, 0.4, 0.5, 0.8)
    flat = np.concatenate([s.flatten().numpy() for s in scores.values()])
    rank = np.empty(8, dtype=int)
    rank[np.argsort(-flat, kind="stable")] = np.arange(8)
    keep = [8, 6, 5, 4, 2]  # round((1 - s) * 8): 4.8 -> 5, 1.6 -> 2
    expected = [sum(r < k for k in keep) for r in rank]
    assert list(levels(scores, grid).tobytes()) == expected


@pytest.mark.parametrize("scope", pv.SCOPES)
def test_every_scope_is_nested_on_a_real_network(problem: pv.Problem, scope: str) -> None:
    if scope not in FROM_ZERO:
        with pytest.raises(InputError, match=f"scope '{scope}'"):
            levels(pv.score("random", problem), DEFAULT_GRID, scope)
        problem = pv.Problem(pv.models.create("resnet20", width=0.25), [(torch.ones(2, 3, 8, 8), torch.tensor([0, 1]))])
    scores = pv.score("random", problem)
    grid = DEFAULT_GRID if scope in FROM_ZERO else DEFAULT_GRID[1:]
    found = levels(scores, grid, scope)
    assert found.points > 20
    for index in range(found.points):
        expected = cut(scores, grid[index], scope)
        assert all(torch.equal(mask, expected[name]) for name, mask in found.masks(index).items())


def test_where_a_scope_cannot_go_the_levels_stop_and_say_why(problem: pv.Problem) -> None:
    found = levels(pv.score("random", problem), DEFAULT_GRID, "uniform")
    assert found.points < len(DEFAULT_GRID)
    assert "first layer" in found.limit
    with pytest.raises(InputError, match="first layer"):
        found.masks(found.points)
    with pytest.raises(InputError, match="first layer"):
        pv.allocate(pv.score("random", problem), DEFAULT_GRID[found.points], "uniform")


def test_masks_that_are_not_nested_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wandering(scores: object, sparsity: float, scope: str) -> dict[str, torch.Tensor]:
        return {"w": torch.tensor([sparsity < 0.5, sparsity >= 0.5])}

    monkeypatch.setattr("pruneviz.widgets.levels.cut", wandering)
    with pytest.raises(InputError, match="not nested"):
        levels({"w": torch.zeros(2)}, (0.2, 0.7))


def test_the_default_grid_has_the_sparsities_that_people_report() -> None:
    assert {0.0, 0.5, 0.8, 0.85, 0.9, 0.95, 0.96, 0.98, 0.99, 0.995, 0.999} <= set(DEFAULT_GRID)
    assert check_grid(DEFAULT_GRID) == DEFAULT_GRID
    assert default_grid(10_000) == DEFAULT_GRID
    assert max(default_grid(1)) == 0.49  # half to even: at 0.5 the only weight goes


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "0 sparsities"),
        ([i / 300 for i in range(256)], "256 sparsities"),
        ([0.5, 0.5], "0.5 after 0.5"),
        ([0.9, 0.5], "0.5 after 0.9"),
        ([0.5, 1.0], "1.0"),
        ([float("nan")], "nan"),
    ],
)
def test_bad_grids_are_refused(grid: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_grid(grid)
