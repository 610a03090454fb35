"""Interactions about a table of results, without a browser: what they show is what the library's tables say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from charts import METHODS, SPARSITIES, of_setting, plain, published, table
from results import cells, made_up

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.study.ledger import experiments, matches
from pruneviz.widgets.accuracy import Accuracy
from pruneviz.widgets.cost import Cost, flops_text
from pruneviz.widgets.sanity import Sanity
from pruneviz.widgets.settings import how_many, settings_of

KINDS = (Accuracy, Sanity, Cost)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return table()


def inline(shown: Any) -> Any:
    """The data that a page gets, from its fragment."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', shown.html(), re.DOTALL).group(1))


# What is shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "model"), [("cifar10", "resnet20"), ("cifar10", "resnet32"), ("cifar100", "resnet20")]
)
def test_accuracies_are_those_of_the_table(made: pd.DataFrame, dataset: str, model: str) -> None:
    """Three, two and one seeds: the texts are accuracy_table's, and the places are the means of the rows."""
    now = Accuracy(made, dataset=dataset, network=model).now()
    rows = plain(of_setting(made, dataset, model))
    expected = pv.figures.accuracy_table(rows)
    assert now["header"] == ["removed", *expected.columns]
    assert [line["cells"] for line in now["rows"]] == [[name, *line] for name, line in expected.iterrows()]
    scorers = dict(zip(METHODS, ("random:erk", "random:uniform", "magnitude", "snip", "grasp"), strict=True))
    for series in now["series"]:
        scorer, _, scope = scorers[series["method"]].partition(":")
        mine = rows[(rows["scorer"] == scorer) & (rows["scope"] == (scope or "global"))]
        for point in series["points"]:
            runs = mine[mine["sparsity"] == point["sparsity"]]
            assert point["mean"] == pytest.approx(100 * runs["test_accuracy"].mean(), abs=6e-4)
            assert point["n"] == len(runs)
            assert point["text"] == expected.loc[series["method"], point["removed"]]
            assert (point["low"] is None) == (len(runs) < 3)
            assert len(point["lost"]) == runs["diverged"].sum()


def test_published_numbers_stand_beside_the_same_network_only(made: pd.DataFrame) -> None:
    shown = Accuracy(made, published())
    lines = {(p["method"], point["removed"]): point for p in shown.now()["published"] for point in p["points"]}
    assert {key: (p["mean"], p["text"], p["more"]) for key, p in lines.items()} == {
        ("SNIP", "60\u00a0%"): (88.25, "88.2", "sd 0.21, n = 3"),
        ("SNIP", "90\u00a0%"): (84.5, "84.5", "sd 0.30, n = 3"),
        ("RigL (ERK)", "90\u00a0%"): (86.04, "86.0", "sd 0.10, n = 3"),
        ("Random (ERK)", "80\u00a0%"): (85.0, "85.0", "n = 3"),
    }
    assert shown.now()["header"] == ["removed", "n", "none", "60\u00a0%", "80\u00a0%", "90\u00a0%", "98\u00a0%"]
    assert "RigL (ERK)" in shown.methods
    shown.network = "resnet32"
    assert shown.now()["published"] == []
    assert Accuracy(made).now()["published"] == []


def test_published_experiments_are_those_that_runs_are_matched_to() -> None:
    """Every number that `matches` finds runs for is known beforehand, as the experiment that these runs are."""
    others, ours = published(), plain(table())
    known = experiments(others)
    assert list(known.index) == [0, 1, 2, 3]
    found = dict(matches(ours, others))
    assert sorted(found) == [0, 1]
    for name, runs in found.items():
        for column in ("dataset", "model", "width", "scorer", "scope", "batches", "sparsity"):
            assert set(runs[column]) == {known.loc[name, column]}


def test_ablations_are_those_of_the_table(made: pd.DataFrame) -> None:
    rows = of_setting(made)
    paired = pv.figures.ablation_table(rows)
    shown = Sanity(made)
    checked = 0
    for at in shown.now()["sparsities"]:
        everyone = pv.figures.accuracy_table(plain(rows))
        for line in at["methods"]:
            assert line["values"]["none"]["text"] == everyone.loc[line["method"], at["removed"]]
            for kind, name in (("shuffle", "shuffled"), ("reinitialize", "re-initialized"), ("invert", "inverted")):
                value = line["values"].get(kind)
                key = f"{line['method']}, {at['removed']}, {name}"
                assert (value is not None) == (key in paired.index), key
                if value is not None:
                    expected = paired.loc[key]
                    assert [value[k] for k in ("difference", "interval", "verdict")] == list(
                        expected[["difference", "interval", "verdict"]]
                    )
                    # Each is run with the seeds of the method as it is, so that the means are those of the pairs.
                    assert value["text"].split("\u00a0")[0] == expected["ablated"]
                    checked += 1
    assert checked == 6 * 2


def test_what_was_not_run_is_said(made: pd.DataFrame) -> None:
    shown = Sanity(made)
    nothing, *some = [at["missing"] for at in shown.now()["sparsities"]]
    assert nothing == "Not run yet, shuffled: all methods; re-initialized: all methods."
    # Random masks are not waited for: shuffling them undoes nothing.
    assert some == ["Not run yet, re-initialized: GraSP."] * 2
    shown.dataset = "cifar100"
    assert shown.now()["sparsities"][0]["missing"] == "Not run yet, shuffled: all methods; re-initialized: all methods."
    assert "not run" in shown.fallback()


def test_inverted_masks_are_no_part_of_a_table_without_them(made: pd.DataFrame) -> None:
    assert Sanity(made).ablations == ["none", "shuffle", "reinitialize", "invert"]
    assert Sanity(plain(made)).ablations == ["none", "shuffle", "reinitialize"]


def test_costs_are_sums_of_the_columns(made: pd.DataFrame) -> None:
    rows = plain(of_setting(made))
    expected = pv.figures.accuracy_table(rows)
    for at in Cost(made).now()["sparsities"]:
        for point in at["points"]:
            assert point["text"] == expected.loc[point["method"], at["removed"]]
        snip = next(point for point in at["points"] if point["method"] == "SNIP")
        runs = rows[(rows["scorer"] == "snip") & (rows["sparsity"] == at["sparsity"])]
        assert snip["hardware"] == pytest.approx((runs["train_flops"] + runs["score_flops"]).mean(), rel=1e-5)
        assert snip["theory"] == pytest.approx((runs["train_flops_sparse"] + runs["score_flops"]).mean(), rel=1e-5)
        assert snip["hardware_text"] == flops_text((runs["train_flops"] + runs["score_flops"]).mean())
        grasp = next(point for point in at["points"] if point["method"] == "GraSP")
        runs = rows[(rows["scorer"] == "grasp") & (rows["sparsity"] == at["sparsity"])]
        assert grasp["theory"] == pytest.approx(runs["train_flops_sparse"].mean(), rel=1e-5)
        assert grasp["score_text"] == "not known"
        assert at["missing"] == "The cost of scoring is not known and not counted: GraSP."


def test_a_cost_that_is_not_known_has_no_place(made: pd.DataFrame) -> None:
    unknown = plain(made).assign(train_flops=np.nan, train_flops_sparse=np.nan, score_flops=np.nan)
    at = Cost(unknown).now()["sparsities"][0]
    assert [(p["hardware"], p["theory"], p["hardware_text"]) for p in at["points"]] == [(None, None, "not known")] * 5
    assert at["missing"] == f"The cost is not known: {', '.join(METHODS)}."


@pytest.mark.parametrize(
    ("flops", "text"), [(1.349e15, "1.35 × 10¹⁵"), (9.999e9, "1.00 × 10¹⁰"), (0.0, "0"), (float("nan"), "not known")]
)
def test_operations_have_three_figures(flops: float, text: str) -> None:
    assert flops_text(flops) == text


# Seeds, settings and what is chosen -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_table_says_so(made: pd.DataFrame, kind: type) -> None:
    shown = kind(made.iloc[:0])
    assert shown.setting is None
    assert inline(shown)["settings"] == []
    assert "There are no runs yet." in shown.html()


@pytest.mark.parametrize("kind", KINDS)
def test_dense_runs_alone_are_shown(kind: type) -> None:
    shown = kind(made_up([cell for cell in cells(3) if cell.scorer == "dense"]))
    assert shown.now()["dense"]["n"] == 3
    assert shown.html()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([1, 1], "Each point is one run: too few for an interval."),
        ([1, 2], "Points are single runs or means, n\u00a0=\u00a01–2: too few for an interval."),
        ([2, 2], "Points are means, n\u00a0=\u00a02: too few for an interval."),
        ([3, 1], "Points are single runs or means, n\u00a0=\u00a01–3, with their 95\u00a0% intervals where n ≥ 3."),
        ([3, 3], "Points are means, n\u00a0=\u00a03, with their 95\u00a0% intervals."),
        ([2, 5], "Points are means, n\u00a0=\u00a02–5, with their 95\u00a0% intervals where n ≥ 3."),
        ([], ""),
    ],
)
def test_how_sure_points_are_is_said(counts: list[int], words: str) -> None:
    assert how_many(counts, 0.95) == words


def test_dense_runs_count_where_they_are_a_point() -> None:
    """In the costs; the accuracies' line has its own n in the legend."""
    dense, pruned = ([cell for cell in cells(2) if (cell.scorer == "dense") is wanted] for wanted in (True, False))
    made = made_up([*dense, *(cell for cell in pruned if cell.seed == 0)])
    assert Accuracy(made).now()["note"] == "Each point is one run: too few for an interval."
    assert Accuracy(made).now()["dense"]["n"] == 2
    assert [at["note"] for at in Cost(made).now()["sparsities"]] == [how_many([1, 2], 0.95)] * 3


def test_settings_are_named_by_what_tells_them_apart() -> None:
    """Two trainings, two widths and a part of the images: no two settings have the same names, and no row is lost."""
    base = plain(table()).query("model == 'resnet20' and dataset == 'cifar10'")
    variants = [
        {"recipe": "other"},
        {"width": 2.0},
        {"fraction": 0.1},
        {"init": "orthogonal"},
        {"precision": "float32"},
    ]
    made = pd.concat([base, *(base.assign(**change) for change in variants)], ignore_index=True)
    found = settings_of(made)
    names = [tuple(setting.names.values()) for setting in found]
    assert len(set(names)) == len(names) == 6
    assert sum(len(setting.rows) for setting in found) == len(made)
    assert ("cifar10", "resnet20, width × 2", "cifar_10ep, kaiming_normal, bf16") in names
    assert ("cifar10", "resnet20", "cifar_10ep, 10\u00a0% of the images, kaiming_normal, bf16") in names


def test_the_setting_with_most_runs_is_shown_at_first(made: pd.DataFrame) -> None:
    """Whatever comes first in the table."""
    for kind in KINDS:
        shown = kind(made.iloc[::-1])
        assert (shown.dataset, shown.network) == ("cifar10", "resnet20")


def test_where_there_is_no_such_setting_the_nearest_is_shown(made: pd.DataFrame) -> None:
    shown = Accuracy(made, dataset="cifar100", network="resnet32")
    assert shown.setting.names == {"dataset": "cifar100", "network": "resnet20", "training": "cifar_10ep"}


@pytest.mark.parametrize("kind", [Sanity, Cost])
def test_the_sparsity_is_one_that_the_table_has(made: pd.DataFrame, kind: type) -> None:
    assert kind(plain(made)).sparsity == 0.98  # all three have as many runs
    shown = kind(made, sparsity=0.7)
    assert shown.sparsity == 0.6
    shown.sparsity = 0.96
    assert shown.sparsity == 0.95  # of another setting; this one shows its nearest
    assert "98" in shown.fallback()


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (Accuracy, "dataset", "cifar1", "did you mean 'cifar10'"),
        (Accuracy, "methods", ["SNPI"], "did you mean 'SNIP'"),
        (Accuracy, "metods", ["SNIP"], "did you mean 'methods'"),
        (Sanity, "ablations", ["shufle"], "did you mean 'shuffle'"),
        (Sanity, "sparsity", 1.5, "1.5"),
        (Cost, "counted", "theori", "did you mean 'theory'"),
        (Cost, "network", "vgg", "network 'vgg'"),
        (Cost, "column", "test_acuracy", "did you mean 'test_accuracy'"),
        (Sanity, "level", 1.5, "level 1.5"),
        (Sanity, "margin", -1.0, "-1.0"),
    ],
)
def test_what_the_table_does_not_have_is_named(
    made: pd.DataFrame, kind: type, name: str, value: object, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        kind(of_setting(made, model="resnet32"), **{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Accuracy, "dataset", "cifar1"),
        (Sanity, "ablations", ["invert"]),
        (Cost, "counted", "theori"),
        (Cost, "sparsity", 1),
    ],
)
def test_a_trait_refuses_what_the_table_does_not_have(made: pd.DataFrame, kind: type, name: str, value: object) -> None:
    shown = kind(of_setting(made, "cifar100"))
    with pytest.raises(InputError):
        setattr(shown, name, value)


def test_methods_keep_their_order(made: pd.DataFrame) -> None:
    shown = Accuracy(made, methods=["GraSP", "SNIP"])
    assert shown.methods == ["SNIP", "GraSP"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_something_else_is_named(made: pd.DataFrame, kind: type) -> None:
    with pytest.raises(InputError, match="no column 'ablation'"):
        kind(made.drop(columns="ablation"))


def test_another_accuracy_and_level_can_be_shown(made: pd.DataFrame) -> None:
    other = of_setting(made.assign(validation_accuracy=made["test_accuracy"] / 2))
    shown = Accuracy(other, column="validation_accuracy", level=0.5)
    expected = pv.figures.accuracy_table(plain(other), column="validation_accuracy", level=0.5)
    assert [line["cells"][1:] for line in shown.now()["rows"]] == expected.to_numpy().tolist()
    assert shown.data["label"] == "validation accuracy (%)"
    assert "50 % intervals" in shown.now()["note"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_accuracy_that_is_no_number_is_named(made: pd.DataFrame, kind: type) -> None:
    with pytest.raises(InputError, match="cannot be averaged"):
        kind(made.assign(test_accuracy=np.nan))


# The page ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_table_gives_the_same_page(made: pd.DataFrame, kind: type) -> None:
    before = made.copy()
    one, two = kind(made).html(), kind(table()).html()
    assert one == two
    pd.testing.assert_frame_equal(made, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_in_the_page_in_the_order_of_links(made: pd.DataFrame, kind: type) -> None:
    shown = kind(made)
    assert list(inline(shown)["state"]) == list(shown.state)
    assert inline(shown)["state"] == {name: getattr(shown, name) for name in shown.state}


@pytest.mark.parametrize("kind", KINDS)
def test_one_bundle_holds_both_forms(made: pd.DataFrame, kind: type) -> None:
    shown = kind(of_setting(made, "cifar100"))
    forms, _ = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in forms
    assert forms["text/html"] == shown.html()
    assert forms["text/plain"].startswith(f"{kind.__name__}(dataset='cifar100'")


def test_a_front_end_chooses(made: pd.DataFrame) -> None:
    shown = Accuracy(of_setting(made, "cifar100"))
    seen: list[object] = []
    shown.observe(lambda change: seen.append(change["new"]), names="methods")
    shown.set_state({"methods": ["SNIP"]})  # as a browser does
    assert (shown.methods, seen) == (["SNIP"], [["SNIP"]])
    assert inline(shown)["state"]["methods"] == ["SNIP"]


def test_the_fallback_has_the_numbers(made: pd.DataFrame) -> None:
    entry = pv.figures.accuracy_table(plain(of_setting(made))).loc["SNIP", "98\u00a0%"]
    for kind in KINDS:
        assert entry in kind(made).fallback()


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_table_stays_light(kind: type) -> None:
    """What one network, five methods, three ablations and three sparsities weigh, ten times: less than half a page."""
    pruned = [cell for cell in cells(1, SPARSITIES) if cell.scorer != "dense"]
    one = made_up([replace(cell, ablation=a) for cell in pruned for a in ("none", "shuffle", "reinitialize", "invert")])
    empty = len(kind(one.iloc[:0]).html())
    assert 1_000 < len(kind(one).html()) - empty < 100_000
