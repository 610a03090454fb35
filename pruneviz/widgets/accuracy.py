"""Accuracy against sparsity, with published numbers beside it: filters, intervals, and the values at a point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from pruneviz.figures.methods import method_names, pruned_methods
from pruneviz.figures.report import accuracy_table, entry
from pruneviz.figures.style import percent
from pruneviz.figures.summary import summarize
from pruneviz.scorers import scorers
from pruneviz.study.cell import DEFAULTS, DENSE
from pruneviz.study.ledger import experiments, runs_behind
from pruneviz.widgets import page
from pruneviz.widgets.settings import CHOSEN_BY, ByMethod, Setting, how_many, place

if TYPE_CHECKING:
    import pandas as pd

_NONE = "none"


class Accuracy(ByMethod):
    """Accuracy against sparsity: choose data set, network, training and methods; point at a value and read it.

    A point is the mean of its runs with Student's interval for n >= 3, as in `pruneviz.figures.accuracy_table`, which
    is also the table below. Published numbers of the same data set and network are hollow; how they were trained
    differs, see `pruneviz.figures.ledger`.

    Args:
        table: runs, with the columns of a table of records; any number of settings, also none. Ablated runs are
            left out.
        published: of `pruneviz.study.read_published`, to be shown beside ours.
        options: column (which accuracy, a fraction; "test_accuracy"), level (of the intervals; 0.95), title (what is
            shown, in a few words), and values of the state at first, by name.

    Attributes:
        dataset, network, training: the setting that is shown.
        methods: those that are shown.
        theirs: whether published numbers are shown.

    Raises:
        InputError: an accuracy that is not finite, or a value of the state that the table does not have.
    """

    kind = "accuracy"
    state = (*CHOSEN_BY, "methods", "theirs")

    theirs = traitlets.Bool(True).tag(sync=True)

    def __init__(self, table: pd.DataFrame, published: pd.DataFrame | None = None, **options: Any) -> None:
        self._published = None if published is None else _known(published)
        super().__init__(table, **options)

    def fallback(self) -> str:
        """The table of the setting that is shown."""
        now = self.now()
        if now is None:
            return "<p>There are no runs yet.</p>"
        return page.table(f"{now['words']} {now['note']}", now["header"], [row["cells"] for row in now["rows"]])

    def _usable(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.loc[list(table["ablation"] == DEFAULTS["ablation"])]

    def _every_method(self) -> list[str]:
        names = super()._every_method()
        if self._published is None or not self._settings:
            return names
        return list(dict.fromkeys([*names, *self._published.loc[self._published["scorer"] != DENSE, "name"]]))

    def _beside(self) -> dict[str, Any]:
        return super()._beside() | {"label": f"{self._column.replace('_', ' ')} (%)"}

    def _shown(self, setting: Setting) -> dict[str, Any]:
        rows = setting.pruned
        by_method = {method: rows[rows["method"] == method] for method in pruned_methods(setting.rows)}
        points = {
            method: [self._point(runs) for _, runs in mine.groupby("sparsity")] for method, mine in by_method.items()
        }
        dense = self._point(setting.dense) if len(setting.dense) else None
        theirs = self._theirs(setting)
        header, lines = self._lines(setting, theirs)
        return {
            "note": how_many([p["n"] for each in points.values() for p in each], self._level),
            "series": [{"method": method, "points": each} for method, each in points.items()],
            "dense": dense,
            "published": theirs,
            "header": header,
            "rows": lines,
        }

    def _point(self, runs: pd.DataFrame) -> dict[str, Any]:
        summary = summarize(runs[self._column], level=self._level)
        lost = runs.loc[runs["diverged"], self._column]
        return {
            "sparsity": float(runs["sparsity"].iloc[0]),
            "removed": percent(float(runs["sparsity"].iloc[0])),
            **place(summary),
            "text": entry(summary),
            "n": summary.n,
            "lost": [round(100 * float(value), 3) for value in lost],
        }

    def _theirs(self, setting: Setting) -> list[dict[str, Any]]:
        """Published numbers of the same data set and network, by paper and method."""
        if self._published is None:
            return []
        row = setting.rows.iloc[0]
        same = self._published
        for column in ("dataset", "model", "width"):
            same = same[same[column] == row[column]]
        return [
            {
                "method": name,
                "paper": paper,
                "points": [_published_point(number) for number in numbers.sort_values("sparsity").to_dict("records")],
            }
            for (paper, name), numbers in same.groupby(["paper", "name"], sort=False)
        ]

    def _lines(self, setting: Setting, theirs: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
        """The table: ours as `accuracy_table` has it, then what was published."""
        ours = accuracy_table(setting.rows, column=self._column, level=self._level)
        other = {p["sparsity"] for each in theirs if each["method"] != "Dense" for p in each["points"]}
        sparsities = sorted({float(s) for s in setting.pruned["sparsity"]} | other)
        with_dense = _NONE in ours.columns or any(each["method"] == "Dense" for each in theirs)
        columns = ["n", *([_NONE] if with_dense else []), *map(percent, sparsities)]
        lines = [
            {"method": str(name), "theirs": False, "cells": [str(name), *(str(row.get(c, "")) for c in columns)]}
            for name, row in ours.iterrows()
        ]
        for each in theirs:
            at = {_NONE if each["method"] == "Dense" else p["removed"]: p["text"] for p in each["points"]}
            at["n"] = ", ".join(dict.fromkeys(p["runs"] for p in each["points"] if p["runs"]))
            name = f"{each['method']}, published: {each['paper']}"
            lines.append({"method": each["method"], "theirs": True, "cells": [name, *(at.get(c, "") for c in columns)]})
        return ["removed", *columns], lines


def _known(published: pd.DataFrame) -> pd.DataFrame:
    """Published numbers of experiments that could be ours, with our names of everything."""
    ours = experiments(published)
    cards = scorers()
    cells = ours.assign(**{name: value for name, value in DEFAULTS.items() if name not in ours.columns})
    cells["schedule"] = [cards[s].schedule if s in cards else DEFAULTS["schedule"] for s in cells["scorer"]]
    cells["options"] = "{}"
    of_number = ["paper", "metric", "value", "std"]
    return ours.assign(name=method_names(cells)).join(published[of_number])


def _published_point(number: Mapping[Any, Any]) -> dict[str, Any]:
    runs = runs_behind(str(number["metric"]))
    spread = None if math.isnan(number["std"]) else f"sd {number['std']:.2f}"
    behind = None if runs is None else f"n = {runs}"
    return {
        "sparsity": float(number["sparsity"]),
        "removed": percent(float(number["sparsity"])),
        "mean": float(number["value"]),
        "text": f"{number['value']:.1f}",
        "runs": "" if runs is None else str(runs),
        "more": ", ".join(filter(None, [spread, behind])),
    }
