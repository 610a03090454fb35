"""The figure of operations left: its points are the table's, and it says what it cannot draw."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from results import cells, made_up

import pruneviz as pv
from pruneviz.figures import style

mpl.use("agg")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with operations: SNIP's weights cost twice the average, others as much as it; seeds differ."""
    factor = np.where(table["scorer"] == "snip", 2.0, 1.0) * (1 + 0.05 * table["seed"])
    return table.assign(inference_flops=8e6, inference_flops_sparse=8e6 * factor * (1 - table["sparsity"]))


def means(ax: Axes, method: str) -> list[tuple[float, float]]:
    """The points of a method's line, from left to right."""
    colour = style.marks([method])[method].color
    lines = [line for line in ax.lines if line.get_color() == colour and line.get_marker() == "None"]
    (points,) = [xy for xy in (np.asarray(line.get_xydata()) for line in lines) if len(xy)]
    return [(float(x), float(y)) for x, y in points]


@pytest.mark.parametrize("seeds", [1, 3])
def test_points_are_the_means_of_the_shares(seeds: int) -> None:
    table = counted(made_up(cells(seeds)))
    ax = pv.figures.operations(table)
    middle = 1 + 0.05 * np.mean(range(seeds))
    assert [y for _, y in means(ax, "SNIP")] == pytest.approx([100 * 2 * middle * share for share in (0.5, 0.1, 0.02)])
    assert [y for _, y in means(ax, "GraSP")] == pytest.approx([100 * middle * share for share in (0.5, 0.1, 0.02)])
    intervals = [c for c in ax.collections if len(getattr(c, "get_segments", list)())]
    assert bool(intervals) == (seeds == 3), "from three runs on"


def test_the_dashed_line_is_where_every_weight_costs_the_same() -> None:
    ax = pv.figures.operations(counted(made_up()))
    (dashed,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    x, y = (np.asarray(values, float) for values in dashed.get_data())
    assert y == pytest.approx(100 * 10**-x)
    assert x[0] <= style.remaining(0.5)
    assert x[-1] >= style.remaining(0.98)
    assert "as many as weights" in [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[union-attr]


def test_one_sparsity_has_a_line_too() -> None:
    ax = pv.figures.operations(counted(made_up(cells(3, sparsities=(0.9,)))))
    (dashed,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert np.ptp(np.asarray(dashed.get_xdata())) > 0


def test_what_cannot_be_drawn_is_one_line() -> None:
    table = counted(made_up())
    table.loc[table["scorer"] == "snip", "inference_flops"] = np.nan
    with pytest.raises(pv.InputError, match=r"the operations of 9 of 45 rows are not known; accepted: table\.dropna"):
        pv.figures.operations(table)
    with pytest.raises(pv.InputError, match="no rows"):
        pv.figures.operations(table[table["scorer"] == "dense"])
    with pytest.raises(pv.InputError, match="mixes model"):
        pv.figures.operations(table.assign(model=["resnet20", "resnet32"] * (len(table) // 2)))
    assert not plt.get_fignums(), "nothing is drawn of what is refused"
