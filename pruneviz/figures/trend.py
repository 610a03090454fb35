"""Any measured number against a setting: how a choice such as the size of a batch changes a result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pruneviz.errors import InputError, check_choice
from pruneviz.figures.accuracy import legend_title
from pruneviz.figures.given import label_above, legend_name, probe_marks
from pruneviz.figures.scales import plain_numbers
from pruneviz.figures.style import draw_interval, draw_runs, look, new_axes, plain, side_by_side
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, summarize_by

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCALES = ("even", "linear", "log")


def trend(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    by: str | None = None,
    xlabel: str,
    ylabel: str,
    scale: str = "even",
    percent: bool = False,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """The column `y` against the column `x`, one line per label in the column `by`.

    From three runs on, a point is a mean with its interval (Student's t); fewer runs are shown one by one, with a
    thin line through their means.

    Args:
        table: one row per run.
        x: the setting; numbers, or texts on an even scale, where they keep the table's order.
        y: what was measured, finite.
        by: texts that tell lines apart; None for one line. Names of methods have these methods' colours and markers.
        xlabel: of the axis, with its unit.
        ylabel: likewise.
        scale: of x; "even" puts its values side by side, whatever they are.
        percent: `y` holds fractions that are shown in percent.
        level: of the interval.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: an empty table, a column that it does not have, an unknown scale, numbers that are not finite, or
            that are not positive on a logarithmic scale.
    """
    check_choice("scale", scale, SCALES)
    if len(table) == 0:
        raise InputError("the table has no rows; there is nothing to draw")
    for column in filter(None, (x, y, by)):
        check_choice("column", column, tuple(table.columns))
    named = table.assign(_label="" if by is None else table[by].astype(str))
    values = list(dict.fromkeys(named[x]))
    places = _places(values, scale)
    points = summarize_by(named, y, ["_label", x], level=level)
    labels, counts = list(dict.fromkeys(named["_label"])), list(points["n"])
    factor = 100.0 if percent else 1.0
    with look():
        ax = new_axes(3.4, ax)
        length = _axis(ax, places, scale)
        shifts = side_by_side(labels, length if len(labels) > 1 else 0.0)
        for label, mark in probe_marks(labels).items():
            own = points[points["_label"] == label]
            own = own.assign(_at=[_moved(places[value], shifts[label], scale) for value in own[x]]).sort_values("_at")
            sure = bool((own["n"] >= LEAST_FOR_INTERVAL).all())
            ax.plot(own["_at"], factor * own["mean"], "-", color=mark.color, linewidth=1.4 if sure else 0.8, zorder=2)
            ax.plot([], [], "-", linewidth=1.4, label=legend_name(label), **mark.style)
            for point in own.to_dict("records"):
                if point["n"] >= LEAST_FOR_INTERVAL:
                    mean, low, high = (factor * point[name] for name in ("mean", "low", "high"))
                    draw_interval(ax, point["_at"], mean, low, high, mark)
                else:
                    runs = named.loc[(named["_label"] == label) & (named[x] == point[x]), y]
                    draw_runs(ax, point["_at"], list(factor * runs), mark)
        plain_numbers(ax.yaxis)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        label_above(ax, legend_title(counts, level))
    return ax


def _places(values: list[Any], scale: str) -> dict[Any, float]:
    """Where each value of the setting lies on the axis; texts in the table's order, numbers in their own."""
    texts = any(isinstance(value, str) for value in values)
    if scale == "even":
        return {value: float(at) for at, value in enumerate(values if texts else sorted(values))}
    if texts:
        raise InputError(f"the setting holds texts, which scale {scale!r} cannot place; accepted: scale='even'")
    places = {value: float(value) for value in sorted(values)}
    wrong = [at for at in places.values() if not math.isfinite(at) or (scale == "log" and at <= 0)]
    if wrong:
        raise InputError(f"the setting holds {wrong[0]:g}, which scale {scale!r} cannot place; accepted: scale='even'")
    return places


def _axis(ax: Axes, places: dict[Any, float], scale: str) -> float:
    """Set up x with a label at every value; returns its length, in decades where it is logarithmic."""
    ends = [math.log10(at) if scale == "log" else at for at in places.values()]
    room = 0.12 * (max(ends) - min(ends)) or 0.5
    low, high = min(ends) - room, max(ends) + room
    if scale == "log":
        ax.set_xscale("log")
    ax.set_xlim(*((10.0**low, 10.0**high) if scale == "log" else (low, high)))
    names = [value if isinstance(value, str) else plain(float(value)) for value in places]
    ax.set_xticks(list(places.values()), names)
    ax.set_xticks([], minor=True)
    return high - low


def _moved(at: float, shift: float, scale: str) -> float:
    return at * 10.0**shift if scale == "log" else at + shift
