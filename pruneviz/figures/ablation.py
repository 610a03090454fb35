"""Sanity ablations: what a method loses, seed by seed, when one of its decisions is undone before training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pruneviz.errors import InputError, check_number
from pruneviz.figures.compare import holm, p_value
from pruneviz.figures.methods import ABLATIONS, DENSE, method_names, one_setting, pruned_methods
from pruneviz.figures.style import (
    BLUE,
    FAINT,
    INK,
    OLIVE,
    VERMILION,
    WIDTH,
    Mark,
    legend_above,
    look,
    percent,
    runs_phrase,
)
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, summarize
from pruneviz.study.cell import NONE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = ["method", "sparsity", "ablation", "n", "plain", "ablated", "difference", "low", "high"]
_COLUMNS += ["differences", "p", "p_holm"]
#: How each ablation is drawn everywhere.
MARKS = {"shuffle": Mark(BLUE, "o"), "reinitialize": Mark(VERMILION, "D"), "invert": Mark(OLIVE, "v")}


def ablation_effects(
    table: pd.DataFrame, *, column: str = "test_accuracy", margin: float = 0.01, level: float = 0.95
) -> pd.DataFrame:
    r"""What each ablation changes: the paired difference over seeds, ablated minus as the method is.

    Runs with the same seed see the same images in the same order, so that the differences $d_i$ at the seeds that both
    have are looked at: Student's t test and interval of their mean, as in `compare`. The p values of all rows are
    corrected together by Holm's method.

    That a difference is not found does not make two things equal. Whether they are alike is another question, and needs
    a margin that is chosen before looking: an interval of level $1 - \alpha$ that lies inside $\pm$ `margin` rejects,
    in two one-sided tests at $\alpha / 2$, that the difference is as large as the margin (Schuirmann 1987, "A
    comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of average
    bioavailability"). These tests are not corrected for their number.

    Args:
        table: rows of one setting, with the columns of a table of records.
        column: which accuracy, a fraction.
        margin: differences smaller than this, a fraction, are counted as alike.
        level: of the intervals, and 1 minus the level of the tests.

    Returns:
        One row for each method, sparsity and ablation, with the columns method (its name without the ablation);
        sparsity; ablation; n (common seeds); plain, ablated (means over these); difference (its mean; a fraction); low,
        high (the interval of this difference alone; NaN for n < 3, as are both p values); differences (one per seed);
        p; p_holm; verdict:
        "lower", "higher", "alike" (not shown to differ, and the interval is inside the margin), "not decided", or
        "too few" (n < 3).

    Raises:
        InputError: an empty table, one that mixes experiments, an accuracy that is not finite, or a margin that is not
            positive.
    """
    import pandas as pd

    check_number("margin", margin, above=0.0)
    named = one_setting(table)
    named = named[named["scorer"] != DENSE].assign(
        method=lambda rows: method_names(rows.assign(ablation=NONE)),
        ablation=lambda rows: rows["ablation"].astype(str),
    )
    rows = [
        {"method": method, "sparsity": sparsity, "ablation": ablation, **_paired(runs, ablation, column, level)}
        for method in (pruned_methods(named) if len(named) else [])
        for sparsity, runs in named[named["method"] == method].groupby("sparsity")
        for ablation in ABLATIONS
        if ablation in set(runs["ablation"]) and NONE in set(runs["ablation"])
    ]
    rows = [row for row in rows if row["n"]]
    tested = [row for row in rows if not math.isnan(row["p"])]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = corrected
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return frame.assign(verdict=[_verdict(row, margin, level) for row in rows])


def ablation_table(
    table: pd.DataFrame, *, column: str = "test_accuracy", margin: float = 0.01, level: float = 0.95
) -> pd.DataFrame:
    """`ablation_effects` as a reader's table of texts; accuracies in percent, differences in points.

    Args:
        table: as for `ablation_effects`, which says the rest.
        column: which accuracy, a fraction.
        margin: what counts as alike.
        level: of the intervals and tests.

    Raises:
        InputError: as `ablation_effects`, or a table without ablations.
    """
    import pandas as pd

    rows = _effects(table, column, margin, level).to_dict("records")
    lines = [
        {
            "what": f"{row['method']}, {percent(row['sparsity'])}, {ABLATIONS[row['ablation']]}",
            "as it is": f"{100 * row['plain']:.1f}",
            "ablated": f"{100 * row['ablated']:.1f}",
            "difference": _points(row["difference"]),
            "interval": "" if math.isnan(row["low"]) else f"{_points(row['low'])} to {_points(row['high'])}",
            "n": str(row["n"]),
            "verdict": row["verdict"],
        }
        for row in rows
    ]
    return pd.DataFrame(lines).set_index("what").rename_axis(index=None, columns="method, removed, ablation")


def ablations(
    table: pd.DataFrame,
    *,
    column: str = "test_accuracy",
    margin: float = 0.01,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """The paired difference that each ablation makes, with its interval; at zero nothing is lost.

    From three seeds on a point is a mean with its interval; fewer are drawn one by one. The grey band is the margin.

    Args:
        table: as for `ablation_effects`, which says the rest.
        column: which accuracy, a fraction.
        margin: what counts as alike.
        level: of the intervals.
        ax: where to draw; None for a new figure, as high as it has lines.

    Raises:
        InputError: as `ablation_table`.
    """
    rows = _effects(table, column, margin, level).to_dict("records")
    groups = list(dict.fromkeys((row["sparsity"], row["method"]) for row in rows))
    with look():
        if ax is None:
            import matplotlib.pyplot as plt

            height = 1.15 + 0.17 * len(rows) + 0.2 * len(groups)
            _, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        ax.axvspan(-100 * margin, 100 * margin, color=FAINT, alpha=0.25, linewidth=0, zorder=0)
        ax.axvline(0.0, color=INK, linewidth=0.8, linestyle="--", zorder=1)
        y, ticks = 0.0, []
        for sparsity, method in sorted(groups, key=lambda group: group[0]):
            mine = [row for row in rows if (row["sparsity"], row["method"]) == (sparsity, method)]
            for place, row in enumerate(mine):
                _draw(ax, y + place, row)
            ticks.append((y + (len(mine) - 1) / 2, f"{method}, {percent(sparsity)}"))
            y += len(mine) + 1.2
        ax.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(y - 1.2, -1.0)
        ax.set_xlabel(f"difference in {column.replace('_', ' ')} (points)")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "\u2212") if value else "0")
        for name in ABLATIONS:
            if any(row["ablation"] == name for row in rows):
                ax.plot([], [], linestyle="none", label=ABLATIONS[name], **MARKS[name].style)
        legend_above(ax, _title([row["n"] for row in rows], level), columns=3)
    return ax


def _effects(table: pd.DataFrame, column: str, margin: float, level: float) -> pd.DataFrame:
    found = ablation_effects(table, column=column, margin=margin, level=level)
    if found.empty:
        raise InputError("the table has no ablated runs beside runs of the same method and seed as it is")
    return found


def _by_seed(runs: pd.DataFrame, ablation: str, column: str) -> pd.DataFrame:
    """Accuracies of one method at one sparsity: the seeds that both have down; as it is and ablated across."""
    both = runs[runs["ablation"].isin([NONE, ablation])]
    return both.pivot_table(index="seed", columns="ablation", values=column)[[NONE, ablation]].dropna()


def _paired(runs: pd.DataFrame, ablation: str, column: str, level: float) -> dict[str, Any]:
    unusable = [value for value in runs[column] if not math.isfinite(value)]
    if unusable:
        raise InputError(
            f"{unusable[0]!r} among the values of {column} cannot be averaged; accepted are finite numbers"
        )
    values = _by_seed(runs, ablation, column)
    if values.empty:
        return {"n": 0}
    s = summarize(values[ablation] - values[NONE], level=level)
    return {
        "n": s.n,
        "plain": float(values[NONE].mean()),
        "ablated": float(values[ablation].mean()),
        "difference": s.mean,
        "low": s.low,
        "high": s.high,
        "differences": list(values[ablation] - values[NONE]),
        "p": p_value(s.mean, s.sd, s.n) if s.n >= LEAST_FOR_INTERVAL else math.nan,
        "p_holm": math.nan,
    }


def _verdict(row: Mapping[str, Any], margin: float, level: float) -> str:
    if row["n"] < LEAST_FOR_INTERVAL:
        return "too few"
    if row["p_holm"] <= 1.0 - level:
        return "lower" if row["difference"] < 0 else "higher"
    return "alike" if -margin < row["low"] and row["high"] < margin else "not decided"


def _draw(ax: Axes, y: float, row: Mapping[Any, Any]) -> None:
    mark = MARKS[row["ablation"]]
    values = [100 * value for value in row["differences"]]
    if row["n"] >= LEAST_FOR_INTERVAL:
        mean, ends = 100 * row["difference"], (100 * row["low"], 100 * row["high"])
        ax.plot(ends, [y, y], color=mark.color, linewidth=1.2, zorder=2)
        values = [mean]
    ax.plot(values, [y] * len(values), linestyle="none", zorder=3, **mark.style)


def _title(counts: list[int], level: float) -> str:
    what = f"mean and {percent(level)} interval"
    if max(counts) < LEAST_FOR_INTERVAL:
        what = "every seed is a point"
    elif min(counts) < LEAST_FOR_INTERVAL:
        what += f" where n \u2265 {LEAST_FOR_INTERVAL}, else every seed"
    return f"ablated \u2212 as it is: {what}, {runs_phrase(counts)}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "\u2212")
