"""Sanity ablations: what is left of a method when its masks are shuffled, or its weights drawn anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from pruneviz.errors import check_choice, check_number
from pruneviz.figures.ablation import MARKS, ablation_table
from pruneviz.figures.methods import ABLATIONS, method_names, pruned_methods
from pruneviz.figures.report import entry
from pruneviz.figures.style import percent
from pruneviz.figures.summary import summarize
from pruneviz.study.cell import NONE
from pruneviz.widgets import page
from pruneviz.widgets.settings import CHOSEN_BY, AtSparsity, Setting, how_many, place

if TYPE_CHECKING:
    import pandas as pd

_AS_IT_IS = "as it is"
_NOT_RUN = "not run"
# A table that has none of these says so; the others are shown where there are runs.
_EXPECTED = ("shuffle", "reinitialize")
# What these keep is random already: nothing is undone by shuffling it, and nobody waits for such a run.
_RANDOM = {"random"}
_HEADER = ("method", "masks", "accuracy (%)", "n", "difference (points)", "its interval", "verdict")


class Sanity(AtSparsity):
    """Each method's accuracy as it is, with shuffled masks, and with its weights drawn anew.

    A method whose accuracy survives both owes it to how many weights it keeps in each layer, and not to which. The
    points are means of all runs with Student's interval for n >= 3; the differences are those of
    `pruneviz.figures.ablation_table`, paired over the seeds that both have.

    Args:
        table: runs, with the columns of a table of records; any number of settings, also none.
        margin: differences smaller than this, a fraction, are counted as alike.
        options: column (which accuracy, a fraction; "test_accuracy"), level (of the intervals; 0.95), title (what is
            shown, in a few words), and values of the state at first, by name.

    Attributes:
        dataset, network, training: the setting that is shown.
        sparsity: the fraction removed; of the setting that is shown, the nearest that it has.
        ablations: those that are shown, "none" being the method as it is.

    Raises:
        InputError: an accuracy that is not finite, or a value of the state that the table does not have.
    """

    kind = "sanity"
    state = (*CHOSEN_BY, "sparsity", "ablations")

    ablations = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, table: pd.DataFrame, *, margin: float = 0.01, **options: Any) -> None:
        self._margin = check_number("margin", margin, above=0.0)
        found = set(table["ablation"]) if "ablation" in table.columns else set()
        self._kinds = [NONE, *(name for name in ABLATIONS if name in _EXPECTED or name in found)]
        super().__init__(table, **options)

    def fallback(self) -> str:
        """All values of the setting and sparsity that are shown."""
        now = self.now()
        if now is None:
            return "<p>There are no runs yet.</p>"
        if not now["sparsities"]:
            return f"<p>{now['words']}</p>"
        at = min(now["sparsities"], key=lambda entry: abs(entry["sparsity"] - self.sparsity))
        rows = [_row(of["method"], kind, value) for of in at["methods"] for kind, value in of["values"].items()]
        return page.table(f"{now['words']} {at['removed']} removed. {at['note']}", _HEADER, rows)

    @traitlets.validate("ablations")
    def _known_ablations(self, proposal: dict[str, Any]) -> list[str]:
        for name in proposal["value"]:
            check_choice("ablation", name, self._kinds)
        return [name for name in self._kinds if name in proposal["value"]]

    def _first(self) -> dict[str, Any]:
        return super()._first() | {"ablations": self._kinds}

    def _beside(self) -> dict[str, Any]:
        looks = {NONE: {"color": "", "marker": "s"}}
        looks |= {name: {"color": mark.color, "marker": mark.marker} for name, mark in MARKS.items()}
        kinds = [{"id": name, "label": _named(name), **looks[name]} for name in self._kinds]
        return {"ablations": kinds, "label": f"{self._column.replace('_', ' ')} (%)", "header": _HEADER}

    def _shown(self, setting: Setting) -> dict[str, Any]:
        rows = setting.pruned.assign(method=lambda t: method_names(t.assign(ablation=NONE)))
        dense = summarize(setting.dense[self._column], level=self._level) if len(setting.dense) else None
        texts = self._paired(rows)
        sparsities = sorted({float(sparsity) for sparsity in rows["sparsity"]})
        return {
            "sparsities": [self._entry(rows[rows["sparsity"] == sparsity], sparsity, texts) for sparsity in sparsities],
            "dense": place(dense) | {"text": entry(dense), "n": dense.n} if dense else None,
        }

    def _paired(self, rows: pd.DataFrame) -> Mapping[Any, Any]:
        """The rows of `ablation_table`, by its index."""
        as_it_is = rows["ablation"] == NONE
        both = [
            set(zip(of["method"], of["sparsity"], of["seed"], strict=True)) for of in (rows[as_it_is], rows[~as_it_is])
        ]
        if not both[0] & both[1]:
            return {}
        column, margin, level = self._column, self._margin, self._level
        return ablation_table(rows, column=column, margin=margin, level=level).to_dict("index")

    def _entry(self, runs: pd.DataFrame, sparsity: float, texts: Mapping[Any, Any]) -> dict[str, Any]:
        """One sparsity: every method with its values by ablation, and what is missing."""
        removed = percent(sparsity)
        values: dict[str, dict[str, dict[str, Any] | None]] = {}
        for method in pruned_methods(runs):
            mine = runs[runs["method"] == method]
            values[method] = {}
            for kind in self._kinds:
                of_kind = mine.loc[mine["ablation"] == kind, self._column]
                paired = texts.get(f"{method}, {removed}, {ABLATIONS.get(kind, '')}", {})
                if len(of_kind) or not set(mine["scorer"]) <= _RANDOM:
                    values[method][kind] = self._value(of_kind, paired) if len(of_kind) else None
        known = [value for by_kind in values.values() for value in by_kind.values() if value]
        return {
            "sparsity": sparsity,
            "removed": removed,
            "methods": [{"method": method, "values": by_kind} for method, by_kind in values.items()],
            "missing": self._missing(values),
            "note": how_many([value["n"] for value in known], self._level),
        }

    def _value(self, runs: pd.Series, paired: Mapping[str, str]) -> dict[str, Any]:
        summary = summarize(runs, level=self._level)
        return {
            **place(summary),
            "text": entry(summary),
            "n": summary.n,
            **{name: paired.get(name, "") for name in ("difference", "interval", "verdict")},
        }

    def _missing(self, values: Mapping[str, Mapping[str, object]]) -> str:
        """Which ablations of which methods have no run."""
        said = []
        for kind in (NONE, *_EXPECTED):
            without = [method for method, by_kind in values.items() if by_kind.get(kind, True) is None]
            if without:
                everyone = [method for method, by_kind in values.items() if kind in by_kind]
                said.append(f"{_named(kind)}: {'all methods' if without == everyone else ', '.join(without)}")
        return f"Not run yet, {'; '.join(said)}." if said else ""


def _row(method: str, kind: str, value: Mapping[str, Any] | None) -> list[str]:
    if value is None:
        return [method, _named(kind), _NOT_RUN, "0", "", "", ""]
    return [method, _named(kind), *(str(value[k]) for k in ("text", "n", "difference", "interval", "verdict"))]


def _named(kind: str) -> str:
    return ABLATIONS.get(kind, _AS_IT_IS)
