"""Accuracy against the cost of training at a sparsity: with zeros that cost what weights do, and that cost nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from pruneviz.errors import check_choice
from pruneviz.figures.methods import pruned_methods
from pruneviz.figures.report import entry
from pruneviz.figures.style import percent
from pruneviz.figures.summary import summarize
from pruneviz.study.cell import DEFAULTS
from pruneviz.widgets import page
from pruneviz.widgets.settings import CHOSEN_BY, AtSparsity, ByMethod, Setting, how_many, place

if TYPE_CHECKING:
    import pandas as pd

#: Which operations are counted.
COUNTED = ("both", "hardware", "theory")
_HEADER = ("method", "accuracy (%)", "n", "FLOPs, all", "FLOPs, without zeros", "of which scoring")
_NOT_KNOWN = "not known"


class Cost(AtSparsity, ByMethod):
    """Accuracy against the floating-point operations of scoring and training, all methods at one sparsity.

    Each method has two places: as on hardware that gains nothing from zeros, where every weight of a layer is computed
    with, and in theory, where removed weights cost nothing. The sum is of the columns `score_flops` and `train_flops`
    or `train_flops_sparse` of the table, as a mean over the runs; where the cost of scoring is not known, the sum is
    that of training, and is said to be. The accuracy is the mean of the runs with Student's interval for n >= 3, as in
    `pruneviz.figures.accuracy_table`.

    Args:
        table: runs, with the columns of a table of records; any number of settings, also none. Ablated runs are
            left out.
        column: which accuracy, a fraction.
        level: of the intervals.
        title: what is shown, in a few words.
        chosen: values of the state at first, by name.

    Attributes:
        dataset, network, training: the setting that is shown.
        sparsity: the fraction removed; of the setting that is shown, the nearest that it has.
        counted: "hardware", "theory", or "both".
        methods: those that are shown.

    Raises:
        InputError: an accuracy that is not finite, or a value of the state that the table does not have.
    """

    kind = "cost"
    state = (*CHOSEN_BY, "sparsity", "counted", "methods")

    counted = traitlets.Unicode("both").tag(sync=True)

    def fallback(self) -> str:
        """All methods of the setting and sparsity that are shown."""
        now = self.now()
        if now is None:
            return "<p>There are no runs yet.</p>"
        at = min(now["sparsities"], key=lambda entry: abs(entry["sparsity"] - self.sparsity), default=None)
        points = ([now["dense"]] if now["dense"] else []) + (at["points"] if at else [])
        names = ("method", "text", "n", "hardware_text", "theory_text", "score_text")
        removed = f" {at['removed']} removed." if at else ""
        return page.table(
            f"{now['words']}{removed}", _HEADER, [[str(point[name]) for name in names] for point in points]
        )

    @traitlets.validate("counted")
    def _known_count(self, proposal: dict[str, Any]) -> str:
        return check_choice("counted", proposal["value"], COUNTED)

    def _usable(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.loc[list(table["ablation"] == DEFAULTS["ablation"])]

    def _beside(self) -> dict[str, Any]:
        return super()._beside() | {"label": f"{self._column.replace('_', ' ')} (%)", "header": _HEADER}

    def _shown(self, setting: Setting) -> dict[str, Any]:
        rows = setting.pruned
        sparsities = sorted({float(sparsity) for sparsity in rows["sparsity"]})
        dense = self._point("Dense", setting.dense) if len(setting.dense) else None
        return {
            "sparsities": [self._entry(rows[rows["sparsity"] == sparsity], sparsity, dense) for sparsity in sparsities],
            "dense": dense,
        }

    def _entry(self, runs: pd.DataFrame, sparsity: float, dense: Mapping[str, Any] | None) -> dict[str, Any]:
        points = [self._point(method, runs[runs["method"] == method]) for method in pruned_methods(runs)]
        return {
            "sparsity": sparsity,
            "removed": percent(sparsity),
            "points": points,
            "missing": _missing(points),
            "note": how_many([point["n"] for point in ([dense] if dense else []) + points], self._level),
        }

    def _point(self, method: str, runs: pd.DataFrame) -> dict[str, Any]:
        summary = summarize(runs[self._column], level=self._level)
        return {"method": method, **place(summary), "text": entry(summary), "n": summary.n, **_costs(runs)}


def flops_text(flops: float) -> str:
    """A number of operations with three figures: "1.35 × 10¹⁵"."""
    if math.isnan(flops):
        return _NOT_KNOWN
    if flops == 0:
        return "0"
    mantissa, exponent = f"{flops:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _costs(runs: pd.DataFrame) -> dict[str, Any]:
    """What the runs have cost, as means: where they are drawn, and as text."""
    score = float(runs["score_flops"].mean(skipna=False))
    sums = {
        "hardware": float(runs["train_flops"].mean(skipna=False)),
        "theory": float(runs["train_flops_sparse"].mean(skipna=False)),
    }
    sums = {name: flops if math.isnan(score) else flops + score for name, flops in sums.items()}
    places = {name: None if math.isnan(flops) else float(f"{flops:.6g}") for name, flops in sums.items()}
    return places | {
        **{f"{name}_text": flops_text(flops) for name, flops in sums.items()},
        "score_text": flops_text(score),
    }


def _missing(points: Sequence[Mapping[str, Any]]) -> str:
    """What is not known, in sentences."""
    nowhere = [p["method"] for p in points if p["hardware"] is None]
    unscored = [p["method"] for p in points if p["hardware"] is not None and p["score_text"] == _NOT_KNOWN]
    said = [f"The cost is not known: {', '.join(nowhere)}."] if nowhere else []
    said += [f"The cost of scoring is not known and not counted: {', '.join(unscored)}."] if unscored else []
    return " ".join(said)
