"""Sanity ablations: paired differences by hand and against scipy, and what few seeds and small differences decide."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from results import cells, made_up
from scipy.stats import ttest_rel

import pruneviz as pv
from pruneviz.study.cell import Cell

DIFFERENCES = {"shuffle": [-0.03, -0.01, -0.02, -0.04], "reinitialize": [0.02, -0.01, 0.01, -0.02]}
METHODS = (("snip", "global"), ("grasp", "global"))


def given(differences: dict[str, list[float]] | None = None, scatter: float = 0.05) -> pd.DataFrame:
    """Runs of SNIP and GraSP at two sparsities, and their ablations with these differences, seed by seed."""
    differences = DIFFERENCES if differences is None else differences
    seeds = max(map(len, differences.values()))
    plain = [cell for cell in cells(seeds, (0.9, 0.98), METHODS) if cell.scorer != "dense"]
    level = dict(zip(plain, 0.6 + scatter * np.random.default_rng(0).standard_normal(len(plain)), strict=True))
    ablated = [
        (replace(cell, ablation=name), level[cell] + found[cell.seed])
        for name, found in differences.items()
        for cell in plain
        if cell.seed < len(found)
    ]
    every: list[tuple[Cell, float]] = [*level.items(), *ablated]
    return made_up([cell for cell, _ in every]).assign(test_accuracy=[value for _, value in every])


def test_differences_are_taken_seed_by_seed() -> None:
    effects = pv.figures.ablation_effects(given())
    assert list(effects["method"]) == ["SNIP"] * 4 + ["GraSP"] * 4
    assert list(effects["ablation"]) == ["shuffle", "reinitialize"] * 4
    for row in effects.to_dict("records"):
        assert row["differences"] == pytest.approx(DIFFERENCES[row["ablation"]])
        assert row["difference"] == pytest.approx(np.mean(DIFFERENCES[row["ablation"]]))
        assert row["ablated"] - row["plain"] == pytest.approx(row["difference"])
        assert row["n"] == 4


def test_tests_and_intervals_are_those_of_scipy() -> None:
    table = given({"shuffle": [-0.03, 0.01, -0.02, -0.05, 0.0]})
    row = pv.figures.ablation_effects(table, level=0.9).iloc[0]
    runs = table[(table["scorer"] == "snip") & (table["sparsity"] == 0.9)].sort_values("seed")
    one, other = (runs.loc[runs["ablation"] == name, "test_accuracy"] for name in ("shuffle", "none"))
    test = ttest_rel(one, other)
    interval = test.confidence_interval(0.9)
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_holm_corrects_all_rows_together() -> None:
    table = given({"shuffle": [-0.02, -0.021, -0.019, -0.02]})
    alone = pv.figures.ablation_effects(table[(table["scorer"] == "snip") & (table["sparsity"] == 0.9)])
    together = pv.figures.ablation_effects(table)
    assert alone["p_holm"].item() == pytest.approx(alone["p"].item())
    assert together["p_holm"].min() == pytest.approx(4 * together["p"].min())


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-0.03, -0.031, -0.029, -0.03], "lower"),
        ([0.03, 0.031, 0.029, 0.03], "higher"),
        ([0.001, -0.001, 0.0, 0.0005], "alike"),
        ([0.03, -0.03, 0.01, -0.01], "not decided"),
        ([0.0, 0.0, 0.0, 0.0], "alike"),
        ([-0.5, -0.5], "too few"),
    ],
)
def test_no_difference_found_is_not_alike(differences: list[float], verdict: str) -> None:
    effects = pv.figures.ablation_effects(given({"shuffle": differences}))
    assert set(effects["verdict"]) == {verdict}
    assert effects["p"].isna().all() == (verdict == "too few")


def test_the_margin_decides_what_is_alike() -> None:
    table = given({"shuffle": [0.004, -0.004, 0.002, -0.002]})
    assert set(pv.figures.ablation_effects(table, margin=0.02)["verdict"]) == {"alike"}
    assert set(pv.figures.ablation_effects(table, margin=0.005)["verdict"]) == {"not decided"}
    with pytest.raises(pv.InputError, match="margin 0"):
        pv.figures.ablation_effects(table, margin=0.0)


def test_only_seeds_that_both_have_count() -> None:
    effects = pv.figures.ablation_effects(given({"shuffle": [-0.1, -0.2], "reinitialize": [0.1, 0.1, 0.1]}))
    assert list(effects["n"]) == [2, 3] * 4
    assert effects["difference"].tolist() == pytest.approx([-0.15, 0.1] * 4)


def test_runs_without_a_partner_have_no_row() -> None:
    table = given()
    plain, ablated = table[table["ablation"] == "none"], table[table["ablation"] != "none"]
    assert pv.figures.ablation_effects(plain).empty
    assert pv.figures.ablation_effects(ablated).empty
    dense = made_up([cell for cell in cells(2) if cell.scorer == "dense"])
    assert pv.figures.ablation_effects(dense).empty
    with pytest.raises(pv.InputError, match="no ablated runs beside runs of the same method and seed"):
        pv.figures.ablation_table(plain)
    with pytest.raises(pv.InputError, match="mixes model"):
        pv.figures.ablation_effects(table.assign(model=["resnet20", "mlp"] * (len(table) // 2)))
    with pytest.raises(pv.InputError, match="nan among the values of test_accuracy"):
        pv.figures.ablation_effects(table.assign(test_accuracy=math.nan))


def test_the_table_says_what_the_numbers_are() -> None:
    table = given({"shuffle": [-0.03, -0.031, -0.029, -0.03]})
    line = pv.figures.ablation_table(table).loc["SNIP, 98\u00a0%, shuffled"]
    row = pv.figures.ablation_effects(table).query("method == 'SNIP' and sparsity == 0.98").iloc[0]
    assert line["as it is"] == f"{100 * row['plain']:.1f}"
    assert line["difference"] == "\u22123.0"
    assert line["interval"] == "\u22123.1 to \u22122.9"
    assert (line["n"], line["verdict"]) == ("4", "lower")
    assert pv.figures.ablation_table(given({"shuffle": [0.1]}))["interval"].eq("").all()


def lines_of(axes: Axes) -> list[list[float]]:
    """Where each line of a figure goes along x; those that only stand in the legend are left out."""
    return [found for line in axes.lines if (found := np.asarray(line.get_xdata(), dtype=float).tolist())]


def test_points_of_the_figure_are_the_differences() -> None:
    axes = pv.figures.ablations(given(), margin=0.015)
    effects = pv.figures.ablation_effects(given())
    zero, *drawn = lines_of(axes)
    assert zero == [0.0, 0.0]
    assert sorted(line for line in drawn if len(line) == 1) == pytest.approx(np.array([[-2.5]] * 4 + [[0.0]] * 4))
    intervals = 100 * effects[["low", "high"]].sort_values("low").to_numpy()
    assert sorted(line for line in drawn if len(line) == 2) == pytest.approx(intervals)
    (band,) = axes.patches
    assert band.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx((-1.5, 1.5))
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"{method}, {removed}\u00a0%" for removed in (90, 98) for method in ("SNIP", "GraSP")
    ]
    plt.close("all")


def test_few_seeds_are_single_points() -> None:
    axes = pv.figures.ablations(given({"shuffle": [-0.02, 0.01]}))
    _, *drawn = lines_of(axes)
    assert np.array(drawn) == pytest.approx(np.array([[-2.0, 1.0]] * 4))
    legend = axes.get_legend()
    assert legend is not None
    assert "every seed is a point, n = 2" in legend.get_title().get_text()
    plt.close("all")
