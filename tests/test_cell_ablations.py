"""Cells that undo a part of their pruning: what is trained then, against the same steps by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pruneviz as pv
from pruneviz.figures import method_names
from pruneviz.study import record
from pruneviz.study.cell import Cell
from pruneviz.study.run import compute, masks_of
from pruneviz.study.scored import untrained

CELL = Cell(model="lenet_300_100", width=0.1, fraction=0.2, scorer="snip", sparsity=0.8, per_class=2, seed=3)


@pytest.fixture(scope="module")
def data() -> pv.data.ImageData:
    return pv.data.load("digits", fraction=CELL.fraction, seed=0)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The record of each ablation, of one shard, in an order in which one could disturb the next."""
    store = tmp_path_factory.mktemp("store")
    cells = [replace(CELL, ablation=name) for name in ("reinitialize", "shuffle", "invert", "none")]
    compute(cells, store, device="cpu", progress=False)
    found = {cell.ablation: record.find(Path(store), cell) for cell in cells}
    return {name: content for name, content in found.items() if content is not None}


def problem_of(data: pv.data.ImageData) -> pv.Problem:
    return pv.Problem(untrained(CELL, data), pv.data.scoring_batches(data, per_class=2, batches=1, seed=3))


def by_hand(data: pv.data.ImageData, ablation: str) -> tuple[pv.Problem, pv.masks.Masks]:
    problem = problem_of(data)
    scores = pv.score("snip", problem)
    if ablation == "invert":
        return problem, pv.allocate({name: -score for name, score in scores.items()}, CELL.sparsity)
    masks = pv.allocate(scores, CELL.sparsity)
    if ablation == "shuffle":
        return problem, pv.ablations.shuffle(masks, seed=3)
    if ablation == "reinitialize":
        return pv.Problem(pv.ablations.reinitialize(problem.model, seed=3), problem.batches), masks
    return problem, masks


@pytest.mark.parametrize("ablation", ["none", "shuffle", "reinitialize", "invert"])
@pytest.mark.filterwarnings("ignore::pruneviz.LayerCollapseWarning")
def test_what_is_trained_is_what_one_would_train_by_hand(
    ablation: str, records: dict[str, dict[str, object]], data: pv.data.ImageData
) -> None:
    problem, masks = by_hand(data, ablation)
    found = masks_of(replace(CELL, ablation=ablation), device="cpu")
    assert all(torch.equal(found[name], masks[name]) for name in masks)
    got = records[ablation]
    assert got["gradient_norm_squared"] == pv.gradient_flow(problem, masks).norm_squared
    assert got["gradient_norm_squared_dense"] == pv.gradient_flow(problem).norm_squared
    result = pv.train(problem.model, masks, data, pv.RECIPES[CELL.recipe], seed=3, precision="bf16", device="cpu")
    assert got["result"]["train_loss"] == list(result.train_loss)  # type: ignore[index]
    assert got["result"]["test_accuracy"] == result.test_accuracy  # type: ignore[index]


def test_every_ablation_changes_what_it_says_and_nothing_else(records: dict[str, dict[str, object]]) -> None:
    plain = records["none"]
    assert records["shuffle"]["layers"] == records["reinitialize"]["layers"] == plain["layers"]
    assert records["invert"]["layers"] != plain["layers"]
    dense = {name: content["gradient_norm_squared_dense"] for name, content in records.items()}
    assert dense["shuffle"] == dense["invert"] == dense["none"] != dense["reinitialize"]
    assert len({content["gradient_norm_squared"] for content in records.values()}) == 4


def test_an_ablation_has_a_name_and_a_column(records: dict[str, dict[str, object]], tmp_path: Path) -> None:
    for content in records.values():
        record.write(tmp_path, content)
    table = pv.study.make_table(tmp_path).set_index("ablation")
    assert list(table.index) == ["invert", "none", "reinitialize", "shuffle"]
    assert list(method_names(table.reset_index())) == [
        "SNIP (inverted)",
        "SNIP",
        "SNIP (re-initialized)",
        "SNIP (shuffled)",
    ]


def test_an_iterative_method_is_shuffled_after_its_last_cut(data: pv.data.ImageData) -> None:
    cell = replace(CELL, scorer="synflow", schedule="exponential:3", ablation="shuffle")
    masks = pv.prune(problem_of(data), "synflow", CELL.sparsity, schedule=pv.Exponential(3))
    found = masks_of(cell, device="cpu")
    assert all(torch.equal(found[n], mask) for n, mask in pv.ablations.shuffle(masks, seed=3).items())
