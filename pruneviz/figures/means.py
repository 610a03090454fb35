"""A method against sparsity on a logarithmic axis: means with intervals, or every run where there are too few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruneviz.figures.style import Mark, draw_interval, draw_runs, remaining
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, summarize

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def draw_means(
    ax: Axes, rows: pd.DataFrame, column: str, level: float, mark: Mark, shift: float, *, zero: float | None = None
) -> list[int]:
    """Draw one method, with its name for the legend.

    Args:
        ax: with a logarithmic y axis, or one that will be.
        rows: of the method, with its name in the column `method`; one row per run.
        column: what is drawn, finite and not negative.
        level: of the intervals.
        mark: the method's colour and marker.
        shift: of its points along x.
        zero: for ratios, whose means are geometric: where runs that are 0 lie, at whose sparsity there is no mean.

    Returns:
        How many runs each point has.
    """
    line, counts = [], []
    for sparsity, values in rows.sort_values("sparsity").groupby("sparsity")[column]:
        at = remaining(float(sparsity)) + shift  # type: ignore[arg-type]
        counts.append(len(values))
        if zero is not None and bool((values == 0).any()):
            draw_runs(ax, at, list(values.where(values > 0, zero)), mark)
            continue
        point = summarize(values, level=level, geometric=zero is not None)
        line.append((at, point.mean))
        if point.n >= LEAST_FOR_INTERVAL and point.low > 0:  # else its end has no place on the axis
            draw_interval(ax, at, point.mean, point.low, point.high, mark)
        else:
            draw_runs(ax, at, list(values), mark)
    width = 1.4 if min(counts) >= LEAST_FOR_INTERVAL else 0.8
    ax.plot([x for x, _ in line], [y for _, y in line], "-", color=mark.color, linewidth=width, zorder=2)
    ax.plot([], [], "-", linewidth=1.4, label=str(rows["method"].iloc[0]), **mark.style)
    return counts
