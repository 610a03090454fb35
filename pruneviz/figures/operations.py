"""Operations left: what a mask saves in theory, which depends on where in the network the weights are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruneviz.errors import InputError
from pruneviz.figures.accuracy import legend_title
from pruneviz.figures.means import draw_means
from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.style import (
    INK,
    legend_above,
    look,
    marks,
    new_axes,
    plain,
    side_by_side,
    sparsity_axis,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def operations(table: pd.DataFrame, *, level: float = 0.95, ax: Axes | None = None) -> Axes:
    """The share of a forward pass's operations that is left when removed weights are never multiplied.

    A weight of a convolution is used once for each place of its output, so that equally many weights can cost
    differently much. On the dashed line every weight costs the same. Means have an interval (Student's t) from three
    runs on, and fewer runs are shown one by one.

    Args:
        table: rows of one setting, with the columns of a table of records.
        level: of the interval.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: an empty table, one that mixes experiments, one without pruned networks, or rows whose operations
            are not known.
    """
    named = one_setting(table)
    named = one_setting(named[named["scorer"] != DENSE])
    share = 100 * named["inference_flops_sparse"] / named["inference_flops"]
    if share.isna().any():
        raise InputError(
            f"the operations of {int(share.isna().sum())} of {len(share)} rows are not known; "
            "accepted: table.dropna(subset='inference_flops')"
        )
    named = named.assign(share=share)
    methods = pruned_methods(named)
    with look():
        ax = new_axes(3.8, ax)
        length = sparsity_axis(ax, list(named["sparsity"]))
        at = max(ax.get_xlim()[0], 0.0), ax.get_xlim()[1]
        ax.plot(at, [100 * 10**-x for x in at], "--", color=INK, linewidth=1.2, zorder=1, label="as many as weights")
        shifts = side_by_side(methods, length)
        counts: list[int] = []
        for method, mark in marks(methods).items():
            counts += draw_means(ax, named[named["method"] == method], "share", level, mark, shifts[method])
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        steps = (1, 2, 5) if high < 300 * low else (1,)
        ticks = [m * 10.0**e for e in range(-6, 3) for m in steps if low <= m * 10.0**e <= high]
        ax.set_yticks(ticks, [plain(tick) for tick in ticks])
        ax.set_yticks([], minor=True)
        ax.set_ylim(low, high)
        ax.set_ylabel("operations left (%, log scale)")
        legend_above(ax, legend_title(counts, level))
    return ax
