"""Rank correlations against closed forms, another library and coverage; and what the scatter and the curves draw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from results import cells, made_up
from scipy import stats

import pruneviz as pv
from pruneviz.figures import style

mpl.use("agg")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    made = made_up()
    return made.assign(ratio=made["gradient_norm_squared"] / made["gradient_norm_squared_dense"])


# Rank correlations ----------------------------------------------------------------------------------------


def test_without_ties_it_is_the_sum_of_squared_differences_of_ranks() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 4.0, 3.0, 6.0, 50.0]
    found = pv.figures.rank_correlation(x, y)
    # rho = 1 - 6 sum d^2 / (n (n^2 - 1)); the ranks of y are 2, 1, 4, 3, 5, 6, so that sum d^2 = 4.
    assert found.n == 6
    assert found.rho == pytest.approx(1 - 6 * 4 / (6 * 35))
    assert found.low < found.rho < found.high


def test_ties_are_as_in_scipy() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 5, 40).astype(float), generator.integers(0, 5, 40).astype(float)
    assert pv.figures.rank_correlation(x, y).rho == pytest.approx(stats.spearmanr(x, y).statistic)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of normal pairs with correlation r, Spearman's is 6 / pi arcsin(r / 2)."""
    generator, r = np.random.default_rng(0), 0.6
    truth, hits, many = 6 / math.pi * math.asin(r / 2), 0, 400
    for _ in range(many):
        x = generator.normal(size=20)
        y = r * x + math.sqrt(1 - r**2) * generator.normal(size=20)
        found = pv.figures.rank_correlation(x, y, level=0.9)
        hits += found.low <= truth <= found.high
    assert hits / many == pytest.approx(0.9, abs=0.05)


def test_what_has_no_interval_says_so() -> None:
    assert math.isnan(pv.figures.rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]).low)
    perfect = pv.figures.rank_correlation(range(9), range(9))
    assert perfect.rho == 1
    assert math.isnan(perfect.low)
    assert math.isnan(pv.figures.rank_correlation(range(9), [1] * 9).rho)
    assert math.isnan(pv.figures.rank_correlation([], []).rho)


@pytest.mark.parametrize(
    ("x", "y", "level", "said"),
    [
        ([1, 2], [1, 2, 3], 0.95, "2 values of x and 3 of y"),
        ([1, math.inf], [1, 2], 0.95, "inf among the values"),
        ([1, 2], [1, 2], 1.0, "level 1.0 is not accepted"),
    ],
)
def test_what_cannot_be_ranked_is_refused(x: list[float], y: list[float], level: float, said: str) -> None:
    with pytest.raises(pv.InputError, match=said):
        pv.figures.rank_correlation(x, y, level=level)


def test_a_table_is_correlated_at_each_sparsity_and_over_all(table: pd.DataFrame) -> None:
    found = pv.figures.correlations(table, "ratio")
    assert list(found["sparsity"][:3]) == [0.5, 0.9, 0.98]
    assert math.isnan(found["sparsity"][3])
    pruned = table[table["scorer"] != "dense"]
    assert list(found["n"]) == [15, 15, 15, 45]
    assert list(found["methods"]) == [5, 5, 5, 15]
    assert found["rho"][3] == pytest.approx(stats.spearmanr(pruned["ratio"], pruned["test_accuracy"]).statistic)
    at = pruned[pruned["sparsity"] == 0.9]
    means = at.groupby(["scorer", "scope"])[["ratio", "test_accuracy"]].mean()
    assert found["rho_methods"][1] == pytest.approx(stats.spearmanr(means["ratio"], means["test_accuracy"]).statistic)


def test_the_readers_table_has_these_numbers(table: pd.DataFrame) -> None:
    text = pv.figures.correlation_table(table, "ratio")
    found = pv.figures.correlations(table, "ratio")
    assert list(text.index) == ["50\u00a0% removed", "90\u00a0% removed", "98\u00a0% removed", "all sparsities"]
    assert text.loc["all sparsities", "over runs"].startswith(f"{found['rho'][3]:+.2f} (")
    constant = pv.figures.correlation_table(table.assign(ratio=1.0), "ratio")
    assert set(constant["over runs"]) == {"not defined"}


# Pictures -------------------------------------------------------------------------------------------------


def test_every_run_is_a_point_where_its_numbers_are(table: pd.DataFrame) -> None:
    ax = pv.figures.association(table, "ratio", xlabel="gradient flow, after / before masking (log scale)")
    colour = style.marks(["GraSP"])["GraSP"].color
    drawn = [line.get_xydata() for line in ax.lines if line.get_color() == colour and len(line.get_xdata())]
    rows = table[table["scorer"] == "grasp"]
    expected = np.column_stack([rows["ratio"], 100 * rows["test_accuracy"]])
    assert np.sort(np.vstack(drawn), axis=0) == pytest.approx(np.sort(expected, axis=0))
    sizes = [line.get_markersize() for line in ax.lines if line.get_color() == colour and len(line.get_xdata())]
    assert sizes == sorted(sizes, reverse=True), "the more is removed, the smaller is the point"
    assert len(set(sizes)) == 3


def test_a_number_that_is_zero_has_a_place_on_the_logarithmic_axis(table: pd.DataFrame) -> None:
    lost = table.assign(ratio=table["ratio"].where(table["scorer"] != "snip", 0.0))
    ax = pv.figures.association(lost, "ratio", xlabel="ratio")
    assert ax.get_xticklabels()[0].get_text() == "0"
    x = np.concatenate([line.get_xdata() for line in ax.lines if line.get_linestyle() == "None"])
    assert (x > 0).all()


def test_curves_are_means_over_seeds_and_their_runs(table: pd.DataFrame) -> None:
    made = [json.dumps({"train_loss": [1.0 + seed, 0.5 + seed, 0.25]}) for seed in table["seed"]]
    ax = pv.figures.curves(table.assign(curves=made), 0.9, epochs=2)
    colour = style.marks(["SNIP"])["SNIP"].color
    (mean,) = [line for line in ax.lines if line.get_color() == colour and line.get_marker() == "^"]
    assert list(mean.get_ydata()) == [2.0, 1.5]
    thin = [list(line.get_ydata()) for line in ax.lines if line.get_color() == colour and line.get_marker() == "None"]
    assert thin == [[1.0, 0.5], [2.0, 1.5], [3.0, 2.5]]
    assert "Dense" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_run_that_diverged_ends_its_line_and_its_methods_mean() -> None:
    two = made_up(cells(seeds=2, sparsities=[0.9], methods=[("snip", "global")]))
    pruned = two["scorer"] == "snip"
    texts = [{"train_accuracy": [0.5, 0.6]}, {"train_accuracy": [0.7, "nan"]}]
    two.loc[pruned, "curves"] = [json.dumps(text) for text in texts]
    ax = pv.figures.curves(two[pruned], 0.9, column="train_accuracy")
    drawn = sorted(list(line.get_ydata()) for line in ax.lines)
    assert drawn == [pytest.approx([50.0, 60.0]), pytest.approx([60.0]), pytest.approx([70.0])]


def test_what_is_not_there_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(pv.InputError, match=r"no sparsity 0\.7; it has 0\.5, 0\.9, 0\.98"):
        pv.figures.curves(table, 0.7)
    with pytest.raises(pv.InputError, match="no column 'flow'"):
        pv.figures.correlations(table, "flow")
    with pytest.raises(pv.InputError, match="no pruned networks"):
        pv.figures.association(table[table["scorer"] == "dense"], "ratio", xlabel="ratio")
    with pytest.raises(pv.InputError, match="nan among the values of ratio"):
        pv.figures.correlations(table.assign(ratio=math.nan), "ratio")
