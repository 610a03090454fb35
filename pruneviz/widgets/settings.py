"""Tables of results for interactions: one setting at a time, chosen by its data set, its network and its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import traitlets

from pruneviz.errors import InputError, check_choice, check_sparsity
from pruneviz.figures.methods import DENSE, SETTING, one_setting, pruned_methods
from pruneviz.figures.style import marks, percent, runs_phrase
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, Summary
from pruneviz.widgets.interaction import Interaction

if TYPE_CHECKING:
    import pandas as pd

#: What a reader chooses a setting by.
CHOSEN_BY = ("dataset", "network", "training")
# Columns of long texts, which cost time wherever rows are picked.
_NOT_SHOWN = ("hash", "layers", "curves", "device", "torch", "torchvision", "python", "pruneviz", "git_revision")


@dataclass(frozen=True)
class Setting:
    """The rows of one setting.

    Attributes:
        names: what it is chosen by: its data set, network and training.
        rows: of the table, with a column `method`; dense ones first.
    """

    names: dict[str, str]
    rows: pd.DataFrame

    @property
    def dense(self) -> pd.DataFrame:
        """The runs without pruning."""
        return self.rows[self.rows["scorer"] == DENSE]

    @property
    def pruned(self) -> pd.DataFrame:
        """The other runs."""
        return self.rows[self.rows["scorer"] != DENSE]


class BySetting(Interaction):
    """An interaction about a table of results.

    Args:
        table: runs, with the columns of a table of records; any number of settings, also none.
        column: which accuracy, a fraction.
        level: of the intervals.
        title: what is shown, in a few words.
        chosen: values of the state at first, by name.

    Attributes:
        dataset, network, training: the setting that is shown, at first the one with most runs; where there is none that
            has all three, the nearest.

    Raises:
        InputError: a name that is not in the state, a value or a column that the table does not have, or an accuracy
            that is not finite.
    """

    dataset = traitlets.Unicode().tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    training = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        column: str = "test_accuracy",
        level: float = 0.95,
        title: str | None = None,
        **chosen: Any,
    ) -> None:
        for name in chosen:
            check_choice("argument", name, self.state)
        for needed in (*SETTING, "scorer", "ablation", "sparsity"):
            if needed not in table.columns:
                raise InputError(f"the table has no column {needed!r}; accepted is one of pruneviz.study.read_table")
        self._column, self._level = check_choice("column", column, table.columns), level
        self._settings = settings_of(self._usable(table))
        self._known = {name: list(dict.fromkeys(s.names[name] for s in self._settings)) for name in CHOSEN_BY}
        given = {name: value for name, value in chosen.items() if value is not None}
        first = self._largest.names if self._largest else dict.fromkeys(CHOSEN_BY, "")
        beside = self._beside()
        shown = [s.names | {"words": words(s.rows)} | self._shown(s) for s in self._settings]
        super().__init__(data=beside | {"title": title or "", "settings": shown}, **first | self._first() | given)

    def _usable(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that this interaction is about."""
        return table

    def _shown(self, setting: Setting) -> dict[str, Any]:
        """What is shown of one setting."""
        raise NotImplementedError

    def _beside(self) -> dict[str, Any]:
        """What the picture needs beside the settings."""
        return {}

    def _first(self) -> dict[str, Any]:
        """The traits at first, beside the setting."""
        return {}

    @property
    def _largest(self) -> Setting | None:
        """The setting with most runs, which is shown at first."""
        return max(self._settings, key=lambda setting: len(setting.rows), default=None)

    @property
    def setting(self) -> Setting | None:
        """The setting that is shown; None of an empty table."""
        chosen = [getattr(self, name) for name in CHOSEN_BY]
        fits = [[s.names[name] == value for name, value in zip(CHOSEN_BY, chosen, strict=True)] for s in self._settings]
        return self._settings[fits.index(max(fits))] if fits else None

    def now(self) -> Mapping[str, Any] | None:
        """What is shown of the chosen setting."""
        return next(
            (s for s in self.data["settings"] if self.setting and self.setting.names.items() <= s.items()), None
        )

    @traitlets.validate("dataset", "network", "training")
    def _known_name(self, proposal: dict[str, Any]) -> str:
        name = proposal["trait"].name
        known = self._known[name]
        return check_choice(name, proposal["value"], known) if known else ""


class ByMethod(BySetting):
    """An interaction about the methods of a table of results.

    Attributes:
        methods: those that are shown.
    """

    methods = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def _every_method(self) -> list[str]:
        """The methods that can be shown."""
        return list(dict.fromkeys(method for s in self._settings for method in pruned_methods(s.rows)))

    def _beside(self) -> dict[str, Any]:
        self._marks = marks(self._every_method())
        return {"methods": [{"id": name, "color": m.color, "marker": m.marker} for name, m in self._marks.items()]}

    def _first(self) -> dict[str, Any]:
        return super()._first() | {"methods": list(self._marks)}

    @traitlets.validate("methods")
    def _known_methods(self, proposal: dict[str, Any]) -> list[str]:
        for method in proposal["value"]:
            check_choice("method", method, self._marks)
        return [method for method in self._marks if method in proposal["value"]]


class AtSparsity(BySetting):
    """An interaction about a table of results at one sparsity.

    Attributes:
        sparsity: the fraction removed, one that the table has; of the setting that is shown, the nearest.
    """

    sparsity = traitlets.Float().tag(sync=True)

    def _first(self) -> dict[str, Any]:
        if self._largest is None or self._largest.pruned.empty:
            return super()._first()
        # Where most can be compared, and of these the sparsest.
        counts = self._largest.pruned["sparsity"].value_counts()
        return super()._first() | {"sparsity": max(counts.index, key=lambda s: (counts[s], s))}

    @traitlets.validate("sparsity")
    def _in_table(self, proposal: dict[str, Any]) -> float:
        known = {float(s) for setting in self._settings for s in setting.pruned["sparsity"]}
        asked = check_sparsity(proposal["value"])
        return min(known, key=lambda s: (abs(s - asked), s)) if known else 0.0


def settings_of(table: pd.DataFrame) -> list[Setting]:
    """The settings of a table, in its order."""
    if len(table) == 0:
        return []
    table = table[[column for column in table.columns if column not in _NOT_SHOWN]]
    varying = {column for column in SETTING if table[column].nunique() > 1}
    groups = [rows for _, rows in table.groupby(list(SETTING), sort=False)]
    return [Setting(_names(rows.iloc[0].to_dict(), varying), one_setting(rows)) for rows in groups]


def _names(row: Mapping[Any, Any], varying: set[str]) -> dict[str, str]:
    training = [str(row["recipe"])]
    if row["fraction"] != 1:
        training.append(f"{percent(row['fraction'])} of the images")
    training += [str(row[column]) for column in ("init", "precision") if column in varying]
    width = f", width × {row['width']:g}" if row["width"] != 1 else ""
    return {"dataset": str(row["dataset"]), "network": f"{row['model']}{width}", "training": ", ".join(training)}


def words(rows: pd.DataFrame) -> str:
    """What the rows of a setting are runs of, in a line."""
    row = rows.iloc[0]
    epochs = ", ".join(dict.fromkeys(str(n) for n in rows.loc[~rows["diverged"], "epochs"])) or "no"
    runs = f"{len(rows)} run{'s' * (len(rows) != 1)}"
    names = _names(row.to_dict(), set())
    return (
        f"{runs} on {names['dataset']}: {names['network']} with {row['total']:,} prunable weights, "
        f"{row['init']} initialization, {epochs} epochs ({names['training']}, {row['precision']})."
    )


def how_many(counts: list[int], level: float) -> str:
    """What the points of a picture are, given how many runs each of them has."""
    if not counts:
        return ""
    if max(counts) == 1:
        return "Each point is one run: too few for an interval."
    kind = "single runs or means" if min(counts) == 1 else "means"
    means = f"Points are {kind}, {runs_phrase(counts)}".replace(" = ", "\u00a0=\u00a0")
    if max(counts) < LEAST_FOR_INTERVAL:
        return f"{means}: too few for an interval."
    where = f" where n ≥ {LEAST_FOR_INTERVAL}" if min(counts) < LEAST_FOR_INTERVAL else ""
    return f"{means}, with their {percent(level)} intervals{where}."


def place(summary: Summary) -> dict[str, float | None]:
    """Where a mean and its interval are drawn, in percent; what a page prints is text."""
    ends = {name: getattr(summary, name) for name in ("mean", "low", "high")}
    return {name: None if math.isnan(value) else round(100 * value, 3) for name, value in ends.items()}
