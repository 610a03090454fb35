"""Accuracy against sparsity: what is lost by pruning before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.style import (
    FAINT,
    INK,
    Mark,
    draw_interval,
    draw_runs,
    legend_above,
    look,
    marks,
    new_axes,
    percent,
    remaining,
    runs_phrase,
    side_by_side,
    sparsity_axis,
)
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, summarize, summarize_by

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def accuracy(
    table: pd.DataFrame, *, column: str = "test_accuracy", level: float = 0.95, ax: Axes | None = None
) -> Axes:
    """Accuracy against sparsity, one line per method, the dense network as a horizontal line.

    From three runs on, a point is a mean with its interval (Student's t); fewer runs are shown one by one, with
    a thin line through their means. A run that diverged is one of the runs, marked by a cross.

    Args:
        table: rows of one setting, with the columns of a table of records.
        column: which accuracy, a fraction.
        level: of the interval.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: an empty table, or one that mixes experiments.
    """
    from matplotlib.ticker import MaxNLocator

    named = one_setting(table)
    methods = pruned_methods(named)
    counts = {str(method): list(rows.groupby("sparsity").size()) for method, rows in named.groupby("method")}
    everywhere = [count for each in counts.values() for count in each]
    same = len(set(everywhere)) == 1
    labels = {method: method if same else f"{method}, {runs_phrase(each)}" for method, each in counts.items()}
    with look():
        ax = new_axes(3.6, ax)
        length = sparsity_axis(ax, list(named.loc[named["scorer"] != DENSE, "sparsity"]) or [0.0])
        shifts = side_by_side(methods, length)
        for method, mark in marks(methods).items():
            _draw_method(ax, named[named["method"] == method], column, level, mark, shifts[method], labels[method])
        _draw_dense(ax, named[named["scorer"] == DENSE], column, level, labels)
        if bool(named["diverged"].any()):
            ax.plot([], [], "x", color=INK, label="diverged")
        ax.set_ylabel(f"{column.replace('_', ' ')} (%)")
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        ax.set_ylim(top=min(ax.get_ylim()[1], 101.0))
        legend_above(ax, legend_title(everywhere, level))
    return ax


def legend_title(counts: list[int], level: float, mean: str = "mean") -> str:
    """What the points of a figure are, given how many runs each of them has."""
    how_many = f" of {runs_phrase(counts)} run{'s' * (max(counts) > 1)}"
    if min(counts) >= LEAST_FOR_INTERVAL:
        return f"{mean}{how_many} and its {percent(level)} interval"
    if max(counts) < LEAST_FOR_INTERVAL:
        return f"every run is a point, {runs_phrase(counts)}: too few for an interval"
    return f"{mean} and {percent(level)} interval where n ≥ {LEAST_FOR_INTERVAL}, else every run"


def _draw_method(ax: Axes, rows: pd.DataFrame, column: str, level: float, mark: Mark, shift: float, label: str) -> None:
    summary = summarize_by(rows, column, ["method", "sparsity"], level=level).sort_values("sparsity")
    x = [remaining(sparsity) + shift for sparsity in summary["sparsity"]]
    sure = bool((summary["n"] >= LEAST_FOR_INTERVAL).all())
    ax.plot(x, 100 * summary["mean"], "-", color=mark.color, linewidth=1.4 if sure else 0.8, zorder=2)
    ax.plot([], [], "-", linewidth=1.4, label=label, **mark.style)
    for at, point in zip(x, summary.to_dict("records"), strict=True):
        runs = rows[rows["sparsity"] == point["sparsity"]]
        if point["n"] >= LEAST_FOR_INTERVAL:
            draw_interval(ax, at, 100 * point["mean"], 100 * point["low"], 100 * point["high"], mark)
        else:
            draw_runs(ax, at, list(100 * runs[column]), mark)
        lost = runs[runs["diverged"]]
        ax.plot([at] * len(lost), 100 * lost[column], "x", color=INK, markersize=8, zorder=4)


def _draw_dense(ax: Axes, rows: pd.DataFrame, column: str, level: float, labels: dict[str, str]) -> None:
    if rows.empty:
        return
    dense = summarize(rows[column], level=level)
    sure = dense.n >= LEAST_FOR_INTERVAL
    if sure:
        ax.axhspan(100 * dense.low, 100 * dense.high, color=FAINT, alpha=0.25, linewidth=0, zorder=0)
    for value in [dense.mean] if sure else rows[column]:
        ax.axhline(100 * value, color=INK, linewidth=1.2, linestyle="--", zorder=1)
    ax.plot([], [], color=INK, linewidth=1.2, linestyle="--", label=labels["Dense"])
