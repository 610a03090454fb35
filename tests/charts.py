"""A made-up table of several settings in the interactions that show results, and eyes for their charts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from results import cells, made_up

from pruneviz.study.cell import Cell
from pruneviz.widgets.accuracy import Accuracy
from pruneviz.widgets.cost import Cost
from pruneviz.widgets.sanity import Sanity
from pruneviz.widgets.settings import BySetting

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

KINDS = ("accuracy", "sanity", "cost")
SPARSITIES = (0.6, 0.9, 0.98)
METHODS = ("Random (ERK)", "Random (uniform)", "Magnitude", "SNIP", "GraSP")

# What a chart has drawn, read from its marks alone: places in pixels, ticks as [place, text].
SEEN = """root => {
  const frame = root.querySelector(".pv-chart-svg").getBoundingClientRect();
  const middle = node => {
    const box = node.getBoundingClientRect();
    return [box.left + box.width / 2 - frame.left, box.top + box.height / 2 - frame.top];
  };
  const ticks = [...root.querySelectorAll("text.pv-chart-tick")];
  const upright = ticks.filter(node => node.getAttribute("text-anchor") === "end");
  return {
    down: upright.map(node => [Number(node.getAttribute("y")) - 4, node.textContent]),
    across: ticks.filter(n => !upright.includes(n)).map(n => [Number(n.getAttribute("x")), n.textContent]),
    series: [...root.querySelectorAll(".pv-series")].map(group => ({
      dots: [...group.querySelectorAll(".pv-dot")].map(middle),
      bars: [...group.querySelectorAll(".pv-interval")].map(n => n.getAttribute("d").match(/[-.\\d]+/g).map(Number)),
    })),
    names: [...root.querySelectorAll("text.pv-chart-name")].map(node => node.textContent),
  };
}"""
# The picture as text, without names that differ from one drawing to the next.
PICTURE = """root => root.querySelector(".pv-chart-svg > g").innerHTML.replace(/#pv-\\w+|id="pv-\\w+"/g, "")"""


def table() -> pd.DataFrame:
    """Two data sets and two networks, three, two and one seeds, ablations of some, costs, and a run that diverged."""
    three = cells(3, SPARSITIES)
    other = [replace(cell, model="resnet32") for cell in cells(2, (0.6, 0.9))]
    single = [replace(cell, dataset="cifar100") for cell in cells(1, (0.9, 0.95))]
    made = made_up([*three, *_ablated(three), *other, *single])
    generator = np.random.default_rng(1)
    made["train_flops"] = 4.1e12 * made["epochs"]
    made["train_flops_sparse"] = made["train_flops"] * made["density"] * generator.uniform(1.0, 1.6, len(made))
    dense = made["scorer"] == "dense"
    made.loc[dense, "train_flops_sparse"] = made.loc[dense, "train_flops"]
    made["score_flops"] = np.where(dense, 0.0, 3.3e10)
    made.loc[made["scorer"] == "grasp", "score_flops"] = np.nan  # of records that are older than this count
    made.loc[made["ablation"] == "invert", "test_accuracy"] -= 0.2
    made.loc[(made["scorer"] == "snip") & (made["sparsity"] == 0.98) & (made["seed"] == 1), "diverged"] = True
    return made


def _ablated(plain: list[Cell]) -> list[Cell]:
    """At all sparsities but the lowest: GraSP is only shuffled, random masks are left alone, SNIP's inverted too."""
    kinds = {
        "snip": ("shuffle", "reinitialize", "invert"),
        "magnitude": ("shuffle", "reinitialize"),
        "grasp": ("shuffle",),
    }
    return [
        replace(cell, ablation=kind) for cell in plain for kind in kinds.get(cell.scorer, ()) if cell.sparsity > 0.6
    ]


def published() -> pd.DataFrame:
    """Made-up numbers of others, in a published table's columns: of a network that is ours, and of one that is not."""
    paper = "Cunegatti et al., TMLR 2024 (independent re-run)"
    metric = "top1_test_acc_% (mean of 3)"
    rows = [
        [paper, "1", "CIFAR-10", "Resnet-20", method, sparsity, metric, value, std, "somewhere", "primary"]
        for method, sparsity, value, std in (
            ("snip", 0.6, 88.25, 0.21),
            ("snip", 0.9, 84.5, 0.3),
            ("rigl", 0.9, 86.04, 0.1),
            ("erk", 0.8, 85.0, float("nan")),
        )
    ]
    rows.append([paper, "1", "CIFAR-10", "CONV-6", "snip", 0.9, metric, 70.0, 0.1, "somewhere", "primary"])
    columns = ["paper", "table", "dataset", "model", "method", "sparsity", "metric", "value", "std", "source", "trust"]
    return pd.DataFrame(rows, columns=columns)


def sample(made: pd.DataFrame) -> dict[str, BySetting]:
    """One interaction of each kind, all of the same table."""
    accuracy = Accuracy(made, published(), title="A small study")
    return {"accuracy": accuracy, "sanity": Sanity(made, sparsity=0.9), "cost": Cost(made, sparsity=0.9)}


def of_setting(made: pd.DataFrame, dataset: str = "cifar10", model: str = "resnet20") -> pd.DataFrame:
    return made[(made["dataset"] == dataset) & (made["model"] == model)]


def plain(made: pd.DataFrame) -> pd.DataFrame:
    """Without ablated runs."""
    return made[made["ablation"] == "none"]


def root(page: Page, kind: str) -> Locator:
    return page.locator(f".pv-{kind}").first


def rows_of_table(page: Page, kind: str) -> tuple[list[str], list[list[str]]]:
    """The heading and the rows of the table under a chart, opened if it is not."""
    root(page, kind).locator("details").evaluate("details => { details.open = true; }")
    opened = root(page, kind).locator(".pv-chart-table")
    opened.wait_for()
    texts: list[list[str]] = opened.evaluate(
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return texts[0], texts[1:]


def value_at(ticks: list[list[Any]], place: float) -> float:
    """The value at a place, from the ticks' places and texts: a line through the first and the last."""
    number = {at: float(text.replace("−", "-")) for at, text in ticks}
    first, last = min(number), max(number)
    return number[first] + (place - first) * (number[last] - number[first]) / (last - first)
