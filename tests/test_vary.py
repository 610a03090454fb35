"""A grid with some of its values exchanged, as a notebook's parameters ask for it."""

from __future__ import annotations

import re
from typing import Any

import pytest

import pruneviz as pv

GRID = [
    pv.Cell(width=0.25),
    pv.Cell(width=0.25, seed=1),
    pv.Cell(width=0.25, scorer="random", scope="erk", sparsity=0.9),
    pv.Cell(width=0.25, scorer="random", scope="uniform", sparsity=0.9),
    pv.Cell(width=0.25, scorer="snip", sparsity=0.5, seed=1),
]


def methods(cells: list[pv.Cell]) -> set[tuple[str, str]]:
    return {(cell.scorer, cell.scope) for cell in cells}


def test_nothing_asked_is_the_grid_itself() -> None:
    assert pv.study.vary(GRID) == GRID
    assert pv.study.vary(GRID, dataset=None, scorers=None) == GRID


def test_single_fields_change_in_every_cell() -> None:
    cells = pv.study.vary(GRID, dataset="mnist", recipe="cifar_10ep")
    assert {(cell.dataset, cell.recipe) for cell in cells} == {("mnist", "cifar_10ep")}
    assert [(c.scorer, c.scope, c.sparsity, c.seed) for c in cells] == [
        (c.scorer, c.scope, c.sparsity, c.seed) for c in GRID
    ]


def test_every_method_at_every_sparsity_with_every_seed() -> None:
    cells = pv.study.vary(GRID, sparsities=[0.5, 0.9, 0.98], seeds=[3, 4])
    assert len(cells) == len(set(cells)) == 2 * (1 + 3 * 3)
    assert methods(cells) == methods(GRID)
    assert {cell.width for cell in cells} == {0.25}
    assert {cell.sparsity for cell in cells if cell.scorer == "dense"} == {0.0}


@pytest.mark.parametrize(
    ("scorers", "expected"),
    [
        (["snip"], {("snip", "global")}),
        ("snip, grasp", {("snip", "global"), ("grasp", "global")}),
        (["random"], {("random", "erk"), ("random", "uniform")}),
        (["random:erk"], {("random", "erk")}),
        (["random:layerwise", "grasp:erk"], {("random", "layerwise"), ("grasp", "erk")}),
    ],
)
def test_scorers_are_the_grids_own_or_new_ones(scorers: Any, expected: set[tuple[str, str]]) -> None:
    cells = pv.study.vary(GRID, scorers=scorers)
    assert methods(cells) == {("dense", "global")} | expected
    assert {cell.seed for cell in cells} == {0, 1}
    assert {cell.sparsity for cell in cells if cell.scorer != "dense"} == {0.5, 0.9}


def test_single_values_need_no_list() -> None:
    assert pv.study.vary(GRID, sparsities=0.9, seeds=0) == pv.study.vary(GRID, sparsities=[0.9], seeds=[0])


@pytest.mark.parametrize(
    "text",
    [
        {"scorers": "snip,random:erk", "sparsities": "0.5,0.9", "seeds": "0,1"},
        {"scorers": "[snip, random:erk]", "sparsities": "[0.5, 0.9]", "seeds": "[0, 1]"},
        {"scorers": "['snip', \"random:erk\"]", "sparsities": "(0.5, 0.9,)", "seeds": " 0 , 1 "},
        {"scorers": ["snip", "random:erk"], "sparsities": ["0.5", "0.9"], "seeds": ["0", 1]},
    ],
)
def test_lists_may_be_texts_as_a_command_line_gives_them(text: dict[str, Any]) -> None:
    cells = pv.study.vary(GRID, scorers=["snip", "random:erk"], sparsities=[0.5, 0.9], seeds=[0, 1])
    assert pv.study.vary(GRID, **text) == cells
    one = {name: values[0] for name, values in text.items() if isinstance(values, list)}
    assert pv.study.vary(GRID, **one) == pv.study.vary(GRID, **{k: [v] for k, v in one.items()})


@pytest.mark.parametrize("text", ["0.98", 0.98, "[0.98]", ["0.98"], (0.98,)])
def test_a_parameter_of_a_notebook_is_a_list(text: Any) -> None:
    assert pv.study.as_list("sparsities", text, float) == [0.98]
    with pytest.raises(pv.InputError, match="sparsities is empty"):
        pv.study.as_list("sparsities", [])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"scorers": ["snpi"]}, "scorer 'snpi' is not known; did you mean 'snip'?"),
        ({"scorers": ["random:ekr"]}, "scope 'ekr' is not known; did you mean 'erk'?"),
        ({"scorers": []}, "scorers is empty"),
        ({"sparsities": [0.9, 1.2]}, "sparsity 1.2"),
        ({"sparsities": "0.5,1.2"}, "sparsity 1.2"),
        ({"sparsities": "0.5,nan"}, "sparsity nan"),
        ({"sparsities": "half"}, "sparsity 'half'"),
        ({"sparsities": "[]"}, "sparsities is empty"),
        ({"seeds": "0,1.5"}, "seed '1.5'"),
        ({"seeds": ""}, "seeds is empty"),
        ({"scorers": "snip, snpi"}, "scorer 'snpi' is not known; did you mean 'snip'?"),
        ({"seeds": [-1]}, "seed -1"),
        ({"dataset": "cifar"}, "data set 'cifar' is not known"),
        ({"modle": "vgg19_bn"}, "key 'modle' is not known; did you mean 'model'?"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(pv.InputError, match=re.escape(says)) as caught:
        pv.study.vary(GRID, **asked)
    assert "\n" not in str(caught.value)
