"""The ledger: only what we ran, only the same experiment, with the numbers of the table of results."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from results import cells, made_up

import pruneviz as pv
from pruneviz.figures.style import FAINT
from pruneviz.recipe import RECIPES
from pruneviz.study.cell import Cell
from pruneviz.study.ledger import PUBLISHED, runs_behind
from pruneviz.study.protocols import CUNEGATTI, GRASP, differences, protocol

ROOT = Path(__file__).resolve().parents[1]
METRIC = "top1_test_acc_% (mean of 3)"


def number(**changes: Any) -> dict[str, Any]:
    """A published number that `made_up()` has runs for: SNIP on a ResNet-20, 90 % removed."""
    row: dict[str, Any] = {
        "paper": CUNEGATTI,
        "table": "t",
        "dataset": "CIFAR-10",
        "model": "Resnet-20",
        "method": "snip",
    }
    row |= {"sparsity": 0.9, "metric": METRIC, "value": 87.0, "std": 0.5, "source": "somewhere", "trust": "primary"}
    return row | changes


def published(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(PUBLISHED))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_up()


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pv.study.read_published(ROOT / "book" / "data" / "published.csv")


def test_a_row_has_both_numbers_and_what_they_rest_on(table: pd.DataFrame) -> None:
    (row,) = pv.figures.ledger(table, published(number())).to_dict("records")
    runs = table[(table["scorer"] == "snip") & (table["sparsity"] == 0.9)]["test_accuracy"]
    ours = pv.figures.summarize(runs)
    assert (row["ours"], row["low"], row["high"]) == pytest.approx((100 * ours.mean, 100 * ours.low, 100 * ours.high))
    assert row["n"] == ours.n == 3
    assert row["difference"] == pytest.approx(100 * runs.mean() - 87.0)
    assert (row["published"], row["std"], row["runs"]) == (87.0, 0.5, 3)
    assert (row["trust"], row["source"], row["method"], row["recipe"]) == ("primary", "somewhere", "SNIP", "cifar_10ep")


def test_the_level_is_that_of_the_interval(table: pd.DataFrame) -> None:
    wide, narrow = (pv.figures.ledger(table, published(number()), level=level).iloc[0] for level in (0.99, 0.5))
    assert wide["high"] - wide["low"] > 5 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sparsity": 0.91}, "not run"),
        ({"sparsity": 0.9001}, "not run"),
        ({"dataset": "CIFAR-100"}, "not run"),
        ({"model": "Resnet-32"}, "not run"),
        ({"method": "prospr"}, "not run"),
        ({"paper": GRASP, "model": "ResNet32"}, "not run"),
        ({"model": "ResNet-20"}, "network not ours, or its width not known"),
        ({"paper": "Rare Gems (NeurIPS 2022)", "model": "ResNet-20"}, "network not ours, or its width not known"),
        ({"dataset": "SVHN"}, "data set not ours"),
        ({"dataset": "tinyimagenet"}, "data set not ours"),
        ({"method": "er"}, "method not ours"),
        ({"method": "magnitude"}, "method not ours"),
        ({"metric": "top1 drop, points"}, "another quantity"),
        ({"metric": "acc after reinit %"}, "another quantity"),
        ({"sparsity": math.nan}, "sparsity not stated"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_is_not_the_same_experiment_has_no_row(table: pd.DataFrame, changes: dict[str, Any], reason: str) -> None:
    numbers = published(number(), number(**changes))
    assert len(pv.figures.ledger(table, numbers)) == 1
    (left,) = pv.study.not_run(table, numbers, each=True).to_dict("records")
    assert left["reason"] == reason
    assert left["method"] == changes.get("method", "snip")


@pytest.mark.parametrize(
    "changes",
    [
        *({"width": 2.0}, {"width": 0.5}, {"scope": "erk"}, {"sparsity": 0.95}, {"model": "resnet32"}),
        *(
            {"dataset": "cifar100"},
            {"fraction": 0.5},
            {"init": "orthogonal"},
            {"minimum": 1},
            {"ablation": "shuffle"},
            {"per_class": 1},
        ),
        *({"batches": 2}, {"batchnorm": "eval"}, {"schedule": "exponential:5"}, {"options": '{"signed":true}'}),
    ],
    ids=str,
)
def test_a_run_of_another_experiment_is_not_taken(table: pd.DataFrame, changes: dict[str, Any]) -> None:
    numbers = published(number())
    assert pv.figures.ledger(table.assign(**changes), numbers).empty
    assert list(pv.study.not_run(table.assign(**changes), numbers)["numbers"]) == [1]


def test_scopes_of_random_pruning_are_methods_of_their_own() -> None:
    """What Cunegatti et al. call uniform takes any weight of any layer; ours of that name leaves the first dense."""
    scopes = ("erk", "uniform", "global")
    table = made_up(cells(2, (0.9,), [("random", scope) for scope in scopes]))
    rows = pv.figures.ledger(table, published(*(number(method=name) for name in ("erk", "uniform", "random"))))
    assert list(rows["method"]) == ["Random (ERK)", "Random", "Random"]
    for row, scope in zip(rows.to_dict("records"), ("erk", "global", "global"), strict=True):
        same = table[(table["scorer"] == "random") & (table["scope"] == scope)]
        assert row["ours"] == pytest.approx(100 * same["test_accuracy"].mean())


def test_a_mask_that_is_known_to_be_found_differently_is_said_to_be(table: pd.DataFrame) -> None:
    rows = pv.figures.ledger(table, published(number(), number(method="grasp"), number(method="erk")))
    assert ["drawn anew" in text for text in rows["scoring"]] == [False, True, False]
    assert ["drawn anew" in text for text in rows["protocol"]] == [False, True, False]
    assert rows["scoring"].iloc[2] == ""


def test_masks_that_empty_a_layer_are_counted_and_said(table: pd.DataFrame) -> None:
    whole = pv.figures.ledger(table, published(number())).iloc[0]
    assert whole["emptied"] == 0
    assert "without a weight" not in whole["explanation"]
    hurt = table.copy()
    place = hurt.index[(hurt["scorer"] == "snip") & (hurt["seed"] == 0)]
    counts = {
        name: [0 if at == 1 else kept, total] for at, (name, (kept, total)) in enumerate(layers_of(hurt, place[0]))
    }
    hurt.loc[place, "layers"] = json.dumps(counts)
    row = pv.figures.ledger(hurt, published(number())).iloc[0]
    assert row["emptied"] == 1
    assert f"In 1 of {row['n']} of our runs the mask leaves whole layers without a weight." in row["explanation"]
    assert "seem to fail" not in row["explanation"]
    deep = {"model": "Resnet-32", "value": 24.8}
    for change, shown in (({"std": 25.6}, True), ({"std": 9.9}, False), ({"std": 25.6, "sparsity": 0.98}, False)):
        beside = published(number(), number(**{**deep, **change}), number(method="grasp", **{**deep, "std": 30.0}))
        row = pv.figures.ledger(hurt, beside).iloc[0]
        assert ("seem to fail likewise: Resnet-32 at 90" in row["explanation"]) is shown
        assert ("seem to fail" in row["explanation"]) is shown


def layers_of(table: pd.DataFrame, place: int) -> list[tuple[str, list[int]]]:
    return list(json.loads(str(table.loc[place, "layers"])).items())


def test_grasps_resnet_is_met_by_double_width_only() -> None:
    cell = Cell(dataset="cifar10", model="resnet32", width=2.0, scorer="grasp", sparsity=0.9, recipe="cifar_10ep")
    wide = made_up([cell])
    theirs = published(
        number(paper=GRASP, model="ResNet32", method="GraSP"), number(model="Resnet-32", method="grasp", value=80.0)
    )
    assert list(pv.figures.ledger(wide, theirs)["paper"]) == [GRASP]
    assert list(pv.figures.ledger(wide.assign(width=1.0), theirs)["paper"]) == [CUNEGATTI]


def test_options_that_a_method_leaves_open_are_kept_apart() -> None:
    lottery = [
        Cell(dataset="cifar10", model="vgg19_bn", scorer="lottery", options=o, sparsity=0.9, recipe="cifar_10ep")
        for o in ({"rounds": 5}, {"rounds": 3, "rewind": 0}, {"rounds": 5, "rewind": 1})
    ]
    rows = pv.figures.ledger(
        made_up(lottery), published(number(paper=GRASP, model="VGG19", method="LT (original init)"))
    )
    assert sorted(rows["options"]) == ['{"rewind":0,"rounds":3}', '{"rounds":5}']


def test_every_published_name_of_a_method_is_a_cell_that_can_be_run() -> None:
    """Each name that the ledger knows is met by the cell that a grid would have for it."""
    chosen: dict[str, dict[str, Any]] = {"erk": {"scorer": "random", "scope": "erk"}, "uniform": {"scorer": "random"}}
    chosen |= {name: {"scorer": name} for name in ("snip", "grasp", "rigl", "set", "dsr", "obd")}
    chosen |= {"synflow": {"scorer": "synflow", "schedule": "method"}, "prospr": {"scorer": "prospr", "batches": 4}}
    chosen |= {"Magnitude(init)": {"scorer": "magnitude"}, "LT (original init)": {"scorer": "lottery"}}
    run = made_up([Cell(dataset="cifar10", recipe="cifar_10ep", sparsity=0.9, **of) for of in chosen.values()])
    rows = pv.figures.ledger(run, published(*(number(method=name) for name in chosen)))
    assert len(rows) == len(chosen)
    assert rows["ours"].to_numpy() == pytest.approx(100 * run["test_accuracy"].to_numpy())


def test_runs_that_were_trained_differently_are_not_averaged(table: pd.DataFrame) -> None:
    longer = made_up(cells()).assign(recipe="cifar_20ep", test_accuracy=lambda t: t["test_accuracy"] + 0.03)
    rows = pv.figures.ledger(pd.concat([table, longer]), published(number(value=99.0)))
    assert list(rows["recipe"]) == ["cifar_10ep", "cifar_20ep"]
    assert list(rows["n"]) == [3, 3]
    short, long = rows["explanation"]
    assert "10 of 160 epochs; cifar_20ep, of 20 epochs, changed ours by +3.0 points (n = 3 and 3)" in short
    assert "20 of 160 epochs; how much of the difference that is has not been measured" in long


def test_one_run_has_no_interval_and_is_warned_of() -> None:
    rows = pv.figures.ledger(made_up(cells(1)), published(number(), number(sparsity=0.98)))
    assert list(rows["n"]) == [1, 1]
    assert rows[["low", "high"]].isna().all(axis=None)
    assert all("n = 1" in text for text in rows["explanation"])
    assert "All numbers rest on fewer than 3 runs (n = 1)" in pv.figures.few_runs(rows["n"])
    assert pv.figures.few_runs([3, 5]) == pv.figures.few_runs([]) == ""
    assert "2 of 3 numbers rest on fewer than 3 runs (n = 1–2)" in pv.figures.few_runs([1, 3, 2])


@pytest.mark.parametrize(
    ("value", "says", "says_not"),
    [
        (99.0, "Trained for 10 of 160 epochs", "lies in our interval"),
        (10.0, "Ours is not lower although", "Trained for"),
    ],
)
def test_the_explanation_goes_no_further_than_the_numbers(
    table: pd.DataFrame, value: float, says: str, says_not: str
) -> None:
    (text,) = pv.figures.ledger(table, published(number(value=value)))["explanation"]
    assert says in text
    assert says_not not in text


def test_a_value_inside_our_interval_is_said_to_be(table: pd.DataFrame) -> None:
    mean = pv.figures.ledger(table, published(number()))["ours"].iloc[0]
    (text,) = pv.figures.ledger(table, published(number(value=mean + 0.01)))["explanation"]
    assert text.startswith("The published value lies in our interval.")


def test_the_spread_of_the_published_runs_is_seen(table: pd.DataFrame) -> None:
    """Student's factor for n = 3 at 95 % is 4.303: a deviation of 2 around three runs is ± 4.97."""
    ours = pv.figures.ledger(table, published(number()))["ours"].iloc[0]
    inside, outside, unknown = (
        pv.figures.ledger(table, published(number(value=ours + off, std=2.0, metric=metric)))["explanation"].iloc[0]
        for off, metric in ((4.9, METRIC), (5.1, METRIC), (4.9, "top1_%"))
    )
    assert "Ours lies in the interval of the published mean, ± 5.0" in inside
    assert "interval of the published mean" not in outside + unknown


def test_the_best_test_epoch_is_named() -> None:
    vgg = made_up([Cell(dataset="cifar10", model="vgg19_bn", scorer="snip", sparsity=0.9, recipe="grasp_cifar_vgg19")])
    theirs = number(paper=GRASP, model="VGG19", method="SNIP", metric="top1_%", value=99.0, std=math.nan)
    (row,) = pv.figures.ledger(vgg, published(theirs)).to_dict("records")
    assert "best epoch on the test images" in row["explanation"]
    assert "epochs;" not in row["explanation"]
    assert math.isnan(row["runs"])
    assert row["protocol"].startswith("reported epoch best, ours last; not known of theirs (ours): share")


def test_differences_in_protocol_are_those_of_the_recipe() -> None:
    said = differences(number(method="erk"), "cifar_10ep")
    assert said == [
        *("epochs 160, ours 10", "schedule step, ours cosine", "weight decay 0.0001, ours 0.0005"),
        "share trained on 1.0, ours 0.9",
    ]
    assert differences(number(method="erk"), "open_lth_cifar") == said[-1:]
    assert "test images cropped yes, ours no" in differences(number(dataset="CIFAR-100"), "cifar_10ep")
    assert differences(number(dataset="SVHN", method="erk"), "cifar_10ep") == [
        "how the published network was trained is not known"
    ]
    with pytest.raises(pv.InputError, match="recipe 'none'"):
        differences(number(), "none")


@pytest.mark.parametrize(("model", "recipe"), [("VGG19", "grasp_cifar_vgg19"), ("ResNet32", "grasp_cifar_resnet32")])
def test_protocols_agree_with_the_recipes_made_from_the_same_source(model: str, recipe: str) -> None:
    theirs, ours = protocol(number(paper=GRASP, model=model)), RECIPES[recipe]
    assert theirs is not None
    for name in ("epochs", "batch_size", "lr", "weight_decay", "schedule", "augment"):
        assert getattr(theirs, name) == getattr(ours, name), name


def test_our_share_of_the_training_images_is_that_of_the_split() -> None:
    from pruneviz.study.protocols import TRAINED_ON

    data = pv.data.load("digits")
    trained, aside = len(data.train_y), len(data.validation_y)
    assert trained / (trained + aside) == pytest.approx(TRAINED_ON, abs=0.01)


def test_runs_behind_a_number() -> None:
    assert [runs_behind(text) for text in (METRIC, "top1_test_acc_% (mean of 12 runs)", "top1_%")] == [3, 12, None]


# The committed table --------------------------------------------------------------------------------------


def test_the_committed_numbers_are_sound(committed: pd.DataFrame) -> None:
    assert set(committed["trust"]) == {"primary", "secondary", "ocr"}
    assert committed["value"].between(0, 100).all()
    assert (committed["std"].isna() | (committed["std"] >= 0)).all()
    assert not committed.duplicated(["paper", "table", "dataset", "model", "method", "sparsity", "metric"]).any()
    assert committed[["paper", "source", "metric"]].notna().all(axis=None)
    assert (ROOT / "book" / "data" / "published.csv").stat().st_size < 400_000


def test_every_committed_number_is_in_the_ledger_or_listed_as_not_run(
    table: pd.DataFrame, committed: pd.DataFrame
) -> None:
    rows = pv.figures.ledger(table, committed)
    groups = pv.study.not_run(table, committed)
    assert len(rows) + groups["numbers"].sum() == len(committed)
    assert len(pv.study.not_run(table, committed, each=True)) == groups["numbers"].sum()
    assert {tuple(pair) for pair in rows[["paper", "model"]].to_numpy()} == {(CUNEGATTI, "Resnet-20")}
    # SNIP, GraSP and random masks by ERK at the two sparsities that both have; 0.5 was not published.
    assert len(rows) == 6


def test_nothing_is_in_the_ledger_of_an_empty_table(table: pd.DataFrame, committed: pd.DataFrame) -> None:
    assert pv.figures.ledger(table.iloc[:0], committed).empty
    assert pv.study.not_run(table.iloc[:0], committed)["numbers"].sum() == len(committed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read as a table"),
        ("paper,table\na,b\n", "it has no column 'dataset'"),
        (",".join(PUBLISHED) + "\na,b,c,d,e,0.9,f,high,,g,h\n", "no numbers in the column 'value'"),
    ],
)
def test_what_is_no_table_of_published_numbers_is_said(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "published.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(pv.InputError, match=re.escape(says)):
        pv.study.read_published(path)


# For readers ----------------------------------------------------------------------------------------------


def test_the_readers_table_has_the_ledgers_numbers(table: pd.DataFrame) -> None:
    rows = pv.figures.ledger(table, published(number(std=math.nan), number(sparsity=0.98, value=99.0)))
    frame = pv.figures.ledger_table(rows)
    assert [name.replace("\u00a0", " ") for name in frame.index] == ["SNIP, 90 %", "SNIP, 98 %"]
    assert list(frame["published ± sd"].str.replace("\u00a0", " ")) == ["87.0", "99.0 ± 0.50"]
    first = rows.iloc[0]
    ours = f"{first['ours']:.1f} ± {(first['high'] - first['low']) / 2:.1f}"
    assert frame["ours ± interval"].iloc[0].replace("\u00a0", " ") == ours
    assert frame["ours − published"].iloc[1] == f"\u2212{-rows['difference'].iloc[1]:.1f}"
    assert list(frame["our n"]) == list(frame["its n"]) == ["3", "3"]
    single = pv.figures.ledger_table(pv.figures.ledger(made_up(cells(1)), published(number(metric="top1_%"))))
    assert "±" not in single["ours ± interval"].iloc[0]
    assert single["its n"].iloc[0] == "not stated"


def test_the_readers_protocol_has_theirs_and_ours(table: pd.DataFrame) -> None:
    frame = pv.figures.protocol_table(pv.figures.ledger(table, published(number())))
    assert list(frame.loc["epochs"]) == ["160", "10"]
    assert list(frame.loc["batch size"]) == ["128", "128"]
    assert list(frame.loc["share trained on"]) == ["1.0", "0.9"]
    vgg = made_up([Cell(dataset="cifar10", model="vgg19_bn", scorer="snip", sparsity=0.9, recipe="cifar_10ep")])
    rows = pv.figures.ledger(vgg, published(number(paper=GRASP, model="VGG19", method="SNIP")))
    assert list(pv.figures.protocol_table(rows).loc["share trained on"]) == ["not known", "0.9"]
    assert list(rows["protocol_source"]) == ["Wang et al. (2020), code"]


def test_the_figure_shows_both_numbers_on_each_line(table: pd.DataFrame) -> None:
    rows = pv.figures.ledger(table, published(number(), number(method="grasp", value=60.0), number(sparsity=0.98)))
    axes = pv.figures.published_and_ours(rows)
    labels = [label.get_text().replace("\u00a0", " ") for label in axes.get_yticklabels()]
    assert labels == ["90 % removed", "SNIP, n = 3", "GraSP, n = 3", "98 % removed", "SNIP, n = 3"]
    joined = np.array([line.get_xdata() for line in axes.lines if line.get_color() == FAINT])
    assert joined == pytest.approx(rows[["published", "ours"]].to_numpy())


@pytest.mark.parametrize("show", [pv.figures.ledger_table, pv.figures.protocol_table, pv.figures.published_and_ours])
def test_nothing_and_mixtures_are_refused(table: pd.DataFrame, show: Any) -> None:
    rows = pv.figures.ledger(table, published(number()))
    with pytest.raises(pv.InputError, match="no rows"):
        show(rows.iloc[:0])
    with pytest.raises(pv.InputError, match="mix recipe cifar_10ep, cifar_20ep"):
        show(pd.concat([rows, rows.assign(recipe="cifar_20ep")]))


def run(notebook: Path, **parameters: Any) -> list[Any]:
    """Execute a notebook's cells in order, in this process; returns what it displays and its cells' last values."""
    shown: list[Any] = []
    scope: dict[str, Any] = {"display": shown.append}
    for cell in nbformat.read(notebook, as_version=4).cells:  # type: ignore[no-untyped-call]
        if cell.cell_type == "code":
            body = ast.parse(cell.source).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), cell.id, "exec"), scope)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), cell.id, "eval"), scope))
            if "parameters" in cell.metadata.get("tags", []):
                scope |= parameters
    return shown


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_the_page_follows_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seeds: int
) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    pv.study.write_table(made_up(cells(seeds)), tmp_path / "results")
    theirs = published(number(), number(method="grasp"), number(method="snip", sparsity=0.98), number(sparsity=0.7))
    theirs.to_csv(tmp_path / "published.csv", index=False)
    both = {"results": tmp_path / "results.parquet", "published": tmp_path / "published.csv"}
    shown = run(ROOT / "notebooks" / "reference_ledger.ipynb", **both)
    text = "\n".join(thing.data if hasattr(thing, "data") else "" for thing in shown)
    assert capsys.readouterr().err == ""
    assert f"Of 4 published numbers, {3 if seeds else 0} have runs of ours." in text
    assert ("There is nothing to compare yet" in text) == (seeds == 0)
    assert ("fewer than 3 runs" in text) == (seeds == 1)
    assert ("of 1 pairs are in the published order" in text) == (seeds > 0)
    sheets = [thing for thing in shown if isinstance(thing, pv.figures.Sheet)]
    assert [len(sheet.frame) for sheet in sheets] == ([3, 9, 1] if seeds else [1])
    assert sheets[-1].frame["numbers"].iloc[0] == ("1" if seeds else "4")
    assert sum(isinstance(thing, pv.figures.Picture) for thing in shown) == (seeds > 0)
