"""The picture of a number against a setting: its points are the runs' own means and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

import pruneviz as pv

mpl.use("agg")
AXES: dict[str, Any] = {"xlabel": "images per class", "ylabel": "agreement"}


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def runs(n: int = 3) -> pd.DataFrame:
    sizes, labels = (1, 10, 100), ("SNIP", "GraSP")
    rows = [(size, label, run) for label in labels for size in sizes for run in range(n)]
    table = pd.DataFrame(rows, columns=["size", "method", "run"])
    return table.assign(value=[0.01 * index**1.5 for index in range(len(table))])


def intervals(ax: Axes) -> np.ndarray:
    """(x, low, high) of every error bar, as drawn."""
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    segments = [segment for bar in bars for lines in bar.lines[2] for segment in lines.get_segments()]
    return np.array([[s[0][0], s[0][1], s[1][1]] for s in segments])


def test_points_are_means_with_students_interval() -> None:
    """The expected ends are from the textbook's 4.303, the 97.5 % quantile of t with two degrees of freedom."""
    table = runs()
    ax = pv.figures.trend(table, "size", "value", by="method", scale="log", percent=True, **AXES)
    drawn = intervals(ax)
    groups = [group["value"].to_numpy() for _, group in table.groupby(["method", "size"], sort=False)]
    half = [4.303 * group.std(ddof=1) / math.sqrt(3) for group in groups]
    expected = [(100 * (g.mean() - h), 100 * (g.mean() + h)) for g, h in zip(groups, half, strict=True)]
    assert np.allclose(drawn[:, 1:], expected, rtol=1e-3)
    assert np.allclose(drawn[:3, 0] / drawn[3:, 0], drawn[0, 0] / drawn[3, 0]), "one shift for each line"
    assert drawn[0, 0] < 1 < drawn[3, 0]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["SNIP", "GraSP"]
    assert "n = 3" in legend.get_title().get_text()


def test_two_runs_are_shown_one_by_one() -> None:
    table = runs(2)
    ax = pv.figures.trend(table[table["method"] == "SNIP"], "size", "value", **AXES)
    assert intervals(ax).size == 0
    shown = [y for line in ax.lines if line.get_linestyle() == "None" for y in np.asarray(line.get_ydata())]
    assert np.allclose(shown, table.loc[table["method"] == "SNIP", "value"])


@pytest.mark.parametrize(("scale", "places"), [("even", [0, 1, 2]), ("linear", [1, 10, 100]), ("log", [1, 10, 100])])
def test_every_setting_has_its_label(scale: str, places: list[int]) -> None:
    ax = pv.figures.trend(runs().iloc[::-1], "size", "value", by="method", scale=scale, **AXES)
    assert list(ax.get_xticks()) == places
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "10", "100"]
    assert ax.get_xscale() == ("log" if scale == "log" else "linear")


def test_texts_keep_their_order() -> None:
    table = pd.DataFrame({"init": ["xavier", "he", "xavier", "he"], "value": [1.0, 2.0, 3.0, 4.0]})
    ax = pv.figures.trend(table, "init", "value", xlabel="initialization", ylabel="value")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["xavier", "he"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": "init"}, "column 'init'"),
        ({"scale": "cubic"}, "scale 'cubic'"),
        ({"by": "colour"}, "column 'colour'"),
    ],
)
def test_what_is_not_there_is_named(change: dict[str, str], words: str) -> None:
    with pytest.raises(pv.InputError, match=words):
        pv.figures.trend(**{"table": runs(), "x": "size", "y": "value", **AXES, **change})


def test_what_cannot_be_placed_is_refused() -> None:
    table = runs()
    with pytest.raises(pv.InputError, match="no rows"):
        pv.figures.trend(table.iloc[:0], "size", "value", **AXES)
    with pytest.raises(pv.InputError, match="holds 0"):
        pv.figures.trend(table.assign(size=0), "size", "value", scale="log", **AXES)
    with pytest.raises(pv.InputError, match="texts"):
        pv.figures.trend(table.assign(size="one"), "size", "value", scale="linear", **AXES)
    with pytest.raises(pv.InputError, match="finite"):
        pv.figures.trend(table.assign(value=math.nan), "size", "value", **AXES)
