"""The numbers of figures and tables: means and intervals, what was run, and what few runs do not establish."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import METHODS, cells, made_up

import pruneviz as pv
from pruneviz.figures import style


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_up()


# Statistics -----------------------------------------------------------------------------------------------


def test_summary_of_three_by_hand() -> None:
    summary = pv.figures.summarize([1.0, 2.0, 6.0])
    assert (summary.n, summary.mean) == (3, 3.0)
    assert summary.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    # Student's distribution with 2 degrees of freedom has a quantile in closed form.
    p = 0.975
    t = (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    assert summary.high - summary.mean == pytest.approx(t * summary.sd / math.sqrt(3))
    assert summary.mean - summary.low == pytest.approx(summary.high - summary.mean)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=20), st.floats(0.5, 0.99))
def test_summary_is_that_of_scipy(values: list[float], level: float) -> None:
    from scipy import stats

    summary = pv.figures.summarize(values, level=level)
    assert summary.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert summary.sd == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-9)
    error = stats.sem(values)
    if error > 1e-6:
        low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
        assert (summary.low, summary.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(5.0, 2.0, (4000, 3))
    covered = [s.low <= 5.0 <= s.high for s in map(pv.figures.summarize, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_one_and_two_runs_have_no_interval() -> None:
    one, two = pv.figures.summarize([0.5]), pv.figures.summarize([0.5, 0.7])
    assert math.isnan(one.sd)
    assert two.sd == pytest.approx(math.sqrt(0.02))
    assert all(math.isnan(end) for s in (one, two) for end in (s.low, s.high))


def test_geometric_mean_is_the_mean_of_logarithms() -> None:
    summary = pv.figures.summarize([0.1, 1.0, 100.0], geometric=True)
    logs = pv.figures.summarize(np.log([0.1, 1.0, 100.0]))
    assert summary.mean == pytest.approx(10 ** (1 / 3))
    assert (summary.low, summary.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))
    assert summary.low > 0


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        ([], {}, "no values"),
        ([1.0, math.nan], {}, "nan"),
        ([1.0, math.inf], {}, "inf"),
        ([1.0, 0.0], {"geometric": True}, "positive"),
        ([1.0], {"level": 1.0}, "level 1.0"),
    ],
)
def test_what_cannot_be_summarized_is_said(values: list[float], options: dict[str, object], says: str) -> None:
    with pytest.raises(pv.InputError, match=re.escape(says)):
        pv.figures.summarize(values, **options)


def test_groups_are_named_when_they_fail(table: pd.DataFrame) -> None:
    broken = table.assign(test_accuracy=table["test_accuracy"].where(table["scorer"] != "snip", math.nan))
    with pytest.raises(pv.InputError, match=r"test_accuracy of scorer snip, sparsity 0\.5: nan"):
        pv.figures.summarize_by(broken, "test_accuracy", ["scorer", "sparsity"])
    summary = pv.figures.summarize_by(table, "test_accuracy", ["scorer", "scope", "sparsity"])
    row = summary[(summary["scorer"] == "snip") & (summary["sparsity"] == 0.9)].iloc[0]
    values = table[(table["scorer"] == "snip") & (table["sparsity"] == 0.9)]["test_accuracy"]
    assert (row["n"], row["mean"]) == (3, pytest.approx(values.mean()))


# Tables ---------------------------------------------------------------------------------------------------


def test_the_accuracy_table_has_the_numbers(table: pd.DataFrame) -> None:
    frame = pv.figures.accuracy_table(table)
    assert list(frame.index) == ["Dense", "Random (ERK)", "Random (uniform)", "Magnitude", "SNIP", "GraSP"]
    assert [name.replace("\u00a0", " ") for name in frame.columns] == ["n", "none", "50 %", "90 %", "98 %"]
    rows = table[(table["scorer"] == "snip") & (table["sparsity"] == 0.9)]["test_accuracy"]
    summary = pv.figures.summarize(rows)
    expected = f"{100 * rows.mean():.1f} ± {50 * (summary.high - summary.low):.1f}"
    assert frame.loc["SNIP", "90\u00a0%"].replace("\u00a0", " ") == expected
    assert frame.loc["SNIP", "none"] == ""
    single = pv.figures.accuracy_table(made_up(cells(1)))
    assert "±" not in single.to_string()
    assert set(single["n"]) == {"1"}


def test_what_was_run_comes_from_the_rows(table: pd.DataFrame) -> None:
    said = pv.figures.what_was_run(table)["what was run"]
    assert said["recipe"] == "cifar_10ep: 10 epochs, bf16"
    assert said["seeds"] == "0, 1, 2"
    assert said["runs"] == str(len(table))
    assert said["device"] == "one GPU"
    assert said["code revision"] == "0123456789ab-dirty"
    other = table.assign(
        device=["CPU", *["one GPU"] * (len(table) - 1)], epochs=7, diverged=[True, *[False] * (len(table) - 1)]
    )
    said = pv.figures.what_was_run(other)["what was run"]
    assert said["device"] == "CPU, one GPU"
    assert "7 epochs" in said["recipe"]
    assert said["runs"].endswith("of which 1 diverged")


def test_few_runs_establish_nothing(table: pd.DataFrame) -> None:
    assert "not established" in pv.figures.how_sure(made_up(cells(1)))
    assert "not established" in pv.figures.how_sure(made_up(cells(2)))
    assert "not established" not in pv.figures.how_sure(table)
    assert "nothing is compared" in pv.figures.how_sure(table[table["scorer"].isin(["dense", "snip"])])


def test_intervals_that_do_not_overlap_are_counted() -> None:
    table = made_up(cells(3, (0.9,)))
    level = {method: 0.5 + 0.1 * i for i, method in enumerate(METHODS)}
    level["magnitude", "global"] = level["snip", "global"]
    place = [level.get((s, scope), 0.95) for s, scope in zip(table["scorer"], table["scope"], strict=True)]
    sharp = table.assign(test_accuracy=np.array(place) + 0.001 * table["seed"])
    pairs = len(METHODS) * (len(METHODS) - 1) // 2
    assert f"{pairs - 1} of {pairs} at 90\u00a0% removed" in pv.figures.how_sure(sharp)


def test_a_table_on_a_page_is_escaped_and_has_headings(table: pd.DataFrame) -> None:
    html = pv.figures.show_table(pv.figures.accuracy_table(table), caption="a < b")._repr_html_()
    assert "<figcaption>a &lt; b</figcaption>" in html
    assert html.count('scope="row"') == 6
    assert html.count('scope="col"') == 6
    one = pv.figures.show_table(pd.DataFrame({"what": {"device": "<GPU>"}}), caption="c")._repr_html_()
    assert "&lt;GPU&gt;" in one
    assert "<thead>" not in one


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.9, "90 %"), (0.985, "98.5 %"), (0.98, "98 %"), (1.0, "100 %"), (0.0, "0 %"), (1 / 3, "33.33 %")],
)
def test_percentages(fraction: float, text: str) -> None:
    assert pv.figures.percent(fraction) == text.replace(" ", "\u00a0")


def test_numbers_are_plain() -> None:
    assert [style.plain(x) for x in (1e-5, 0.1, 1.0, 20.0, 1000.0)] == ["0.00001", "0.1", "1", "20", "1000"]
