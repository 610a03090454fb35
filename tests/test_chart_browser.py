"""The interactions about a table of results in a real browser: what is drawn, and what every control does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from charts import (
    KINDS,
    METHODS,
    PICTURE,
    SEEN,
    of_setting,
    plain,
    published,
    root,
    rows_of_table,
    sample,
    table,
    value_at,
)
from front_end import start

import pruneviz as pv
from pruneviz.widgets import bundle, page
from pruneviz.widgets.accuracy import Accuracy
from pruneviz.widgets.settings import BySetting

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return table()


@pytest.fixture(scope="module")
def shown(made: pd.DataFrame) -> dict[str, BySetting]:
    return sample(made)


@pytest.fixture(scope="module")
def address(shown: dict[str, BySetting], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with one of each, on the disk."""
    path = tmp_path_factory.mktemp("page") / "charts.html"
    page.save(path, "<h1>Results</h1>", *(of_kind.html() for of_kind in shown.values()))
    return path.as_uri()


def picture(page: Page, kind: str) -> str:
    text: str = root(page, kind).evaluate(PICTURE)
    return text


def setting(page: Page, kind: str, label: str, value: str) -> None:
    root(page, kind).get_by_label(label, exact=True).select_option(value)


def points(page: Page, kind: str, across: str = "ArrowRight", down: str = "ArrowDown") -> Iterator[str]:
    """What a screen reader hears of each point, walking through all of them by keyboard."""
    hear = "document.activeElement.getAttribute('aria-label')"
    root(page, kind).locator(".pv-cursor").focus()
    start = None
    while (first := page.evaluate(hear)) != start:
        start, heard = first, None
        while (now := page.evaluate(hear)) != heard:
            yield now
            heard = now
            page.keyboard.press(across)
        page.keyboard.press("Home")
        page.keyboard.press(down)
        page.keyboard.press("Home")


# Numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "model"), [("cifar10", "resnet20"), ("cifar10", "resnet32"), ("cifar100", "resnet20")]
)
def test_the_table_is_the_librarys(page: Page, address: str, made: pd.DataFrame, dataset: str, model: str) -> None:
    page.goto(address)
    setting(page, "accuracy", "Data set", dataset)
    if dataset == "cifar10":
        setting(page, "accuracy", "Network", model)
    header, rows = rows_of_table(page, "accuracy")
    expected = pv.figures.accuracy_table(plain(of_setting(made, dataset, model)))
    ours = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows if "published" not in row[0]}
    assert list(ours) == list(expected.index)
    for name, line in expected.iterrows():
        assert {column: text for column, text in ours[name].items() if text} == {c: t for c, t in line.items() if t}


def test_every_point_says_what_the_table_says(page: Page, address: str, made: pd.DataFrame) -> None:
    page.goto(address)
    expected = pv.figures.accuracy_table(plain(of_setting(made)))
    wanted = {
        f"{method}: {removed} removed, {expected.loc[method, removed]}\u202f%, n = 3"
        for method in METHODS
        for removed in expected.columns[2:]
    }
    lost = next(text for text in wanted if text.startswith("SNIP: 98"))
    wanted = wanted - {lost} | {f"{lost}, 1 diverged"}
    heard = set(points(page, "accuracy"))
    assert wanted <= heard
    theirs = {text for text in heard if "published" in text.split(":")[0]}
    paper = "Cunegatti et al., TMLR 2024 (independent re-run)"
    assert theirs == {
        f"SNIP, published: 60\u00a0% removed, 88.2\u202f%, sd 0.21, n = 3, {paper}",
        f"SNIP, published: 90\u00a0% removed, 84.5\u202f%, sd 0.30, n = 3, {paper}",
        f"RigL (ERK), published: 90\u00a0% removed, 86.0\u202f%, sd 0.10, n = 3, {paper}",
        f"Random (ERK), published: 80\u00a0% removed, 85.0\u202f%, n = 3, {paper}",
    }
    assert heard - wanted - theirs == {"SNIP, diverged: 98\u00a0% removed, one run"}


def test_marks_are_where_the_values_are(page: Page, address: str, made: pd.DataFrame) -> None:
    """Places are read with the axis's own ticks: a mean and both ends of its interval, to half a pixel."""
    page.goto(address)
    seen = root(page, "accuracy").evaluate(SEEN)
    pixel = abs(value_at(seen["down"], 1) - value_at(seen["down"], 0))
    rows = plain(of_setting(made))
    checked = 0
    for index, scorer in enumerate(("random", "random", "magnitude", "snip", "grasp")):
        scope = ("erk", "uniform")[index] if scorer == "random" else "global"
        mine = rows[(rows["scorer"] == scorer) & (rows["scope"] == scope)]
        dots, bars = seen["series"][index]["dots"], seen["series"][index]["bars"]
        for (_, of), dot, bar in zip(mine.groupby("sparsity"), dots, bars, strict=True):
            summary = pv.figures.summarize(100 * of["test_accuracy"])
            assert value_at(seen["down"], dot[1]) == pytest.approx(summary.mean, abs=pixel)  # markers are not square
            assert value_at(seen["down"], bar[1]) == pytest.approx(summary.low, abs=pixel / 2)
            assert value_at(seen["down"], bar[2]) == pytest.approx(summary.high, abs=pixel / 2)
            checked += 1
    assert checked == 15


def test_sparsities_are_spaced_by_what_remains(page: Page, address: str) -> None:
    """From 60 to 98 % the logarithm of what remains falls by 1.301, from 60 to 90 % by 0.602."""
    page.goto(address)
    at = {text: x for x, text in root(page, "accuracy").evaluate(SEEN)["across"]}
    share = (at["90\u202f%"] - at["60\u202f%"]) / (at["98\u202f%"] - at["60\u202f%"])
    assert share == pytest.approx(0.60206 / 1.30103, abs=0.004)


def test_the_ablations_are_the_librarys(page: Page, address: str, made: pd.DataFrame) -> None:
    page.goto(address)
    _, rows = rows_of_table(page, "sanity")
    paired = pv.figures.ablation_table(of_setting(made))
    compared = 0
    for method, name, accuracy, n, *difference in rows:
        key = f"{method}, 90\u00a0%, {name}"
        if key in paired.index:
            line = paired.loc[key]
            assert accuracy.split("\u00a0")[0] == line["ablated"]
            assert [n, *difference] == [line["n"], line["difference"], line["interval"], line["verdict"]]
            compared += 1
        elif name != "as it is":
            assert [accuracy, n] == ["not run", "0"]
    assert compared == 6
    heard = set(points(page, "sanity", across="ArrowDown", down="ArrowRight"))
    line = paired.loc["SNIP, 90\u00a0%, shuffled"]
    assert next(text for text in heard if text.startswith("shuffled: SNIP")).endswith(
        f"n = 3, difference {line['difference']} points, {line['verdict']}"
    )
    assert len(heard) == 5 + 6
    assert root(page, "sanity").evaluate(SEEN)["names"] == list(METHODS)
    assert root(page, "sanity").locator(".pv-missing").inner_text() == "Not run yet, re-initialized: GraSP."


def test_the_costs_are_the_tables(page: Page, address: str, made: pd.DataFrame, shown: dict[str, BySetting]) -> None:
    page.goto(address)
    _, rows = rows_of_table(page, "cost")
    expected = pv.figures.accuracy_table(plain(of_setting(made)))
    assert [row[:3] for row in rows] == [
        ["Dense", expected.loc["Dense", "none"], "3"],
        *([method, expected.loc[method, "90\u00a0%"], "3"] for method in METHODS),
    ]
    runs = plain(of_setting(made)).query("scorer == 'snip' and sparsity == 0.9")
    total = (runs["train_flops_sparse"] + runs["score_flops"]).mean()
    mantissa, exponent = f"{total:.2e}".split("e+")
    assert rows[4][4] == f"{mantissa} × 10{exponent.translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    heard = set(points(page, "cost"))
    assert f"SNIP: without zeros: {rows[4][4]} operations, {rows[4][1]}\u202f%, n = 3" in heard
    assert len(heard) == 2 * 5 + 1
    assert root(page, "cost").locator(".pv-missing").inner_text() == (
        "The cost of scoring is not known and not counted: GraSP."
    )


def test_a_published_dense_network_is_a_line_of_its_own(page: Page, tmp_path: Any, made: pd.DataFrame) -> None:
    """In the legend and in the column of what removes nothing; it goes with the other published numbers."""
    others = published().iloc[:1].assign(paper="GraSP (Wang et al., ICLR 2020)", model="VGG19", metric="top1_%")
    others = pd.concat([others.assign(method="dense", sparsity=0.0, value=94.23, std=float("nan")), others])
    ours = plain(of_setting(made)).assign(model="vgg19_bn")
    page.goto(Accuracy(ours, others.reset_index(drop=True)).save(tmp_path / "dense.html").as_uri())
    legend = root(page, "accuracy").locator(".pv-chart-legend")
    assert "Dense, published: 94.2\u202f%" in legend.inner_text()
    header, rows = rows_of_table(page, "accuracy")
    line = next(row for row in rows if row[0].startswith("Dense, published"))
    assert line[header.index("none")] == "94.2"
    root(page, "accuracy").get_by_role("button", name="published", exact=True).click()
    assert "Dense, published" not in legend.inner_text()


# Pointing ---------------------------------------------------------------------------------------------------


def test_a_point_shows_its_values_under_the_pointer(page: Page, address: str, made: pd.DataFrame) -> None:
    page.goto(address)
    card = root(page, "accuracy").locator(".pv-card")
    assert card.is_hidden()
    dot = root(page, "accuracy").locator(".pv-series").nth(2).locator(".pv-dot").nth(1)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert card.locator("p").first.inner_text() == "90\u00a0% removed: test accuracy (%), n = 3"
    expected = pv.figures.accuracy_table(plain(of_setting(made)))
    lines = {row.split("\t")[0]: row.split("\t")[1:] for row in card.locator("tbody").inner_text().split("\n")}
    assert lines["Magnitude"][0] == expected.loc["Magnitude", "90\u00a0%"]
    assert lines["SNIP"] == [expected.loc["SNIP", "90\u00a0%"], "84.5"]
    assert lines["RigL (ERK)"] == ["", "86.0"]
    assert card.locator(".pv-card-this").inner_text().startswith("Magnitude")
    page.mouse.move(2, 2)
    assert card.is_hidden()


def test_the_keyboard_reaches_every_value_and_leaves_again(page: Page, address: str) -> None:
    page.goto(address)
    cursor = root(page, "accuracy").locator(".pv-cursor")
    root(page, "accuracy").get_by_role("button", name="published").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Random (ERK): 60")
    card = root(page, "accuracy").locator(".pv-card")
    assert card.is_visible()
    page.keyboard.press("End")
    assert cursor.get_attribute("aria-label").startswith("Random (ERK): 98")
    page.keyboard.press("ArrowDown")
    assert cursor.get_attribute("aria-label").startswith("Random (uniform): 98")
    page.keyboard.press("Escape")
    assert card.is_hidden()
    page.keyboard.press("ArrowUp")
    assert card.is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Show as a table"
    assert card.is_hidden()
    page.keyboard.press("Enter")
    root(page, "accuracy").locator(".pv-chart-table").wait_for(state="visible")  # it is made when it is opened


def test_the_card_stays_on_a_small_page(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(address)
    for kind in KINDS:
        root(page, kind).locator(".pv-cursor").focus()
        for key in ("End", "ArrowDown", "Home"):
            page.keyboard.press(key)
            box = root(page, kind).locator(".pv-card").bounding_box()
            assert box["x"] >= 0, (kind, key)
            assert box["x"] + box["width"] <= 360, (kind, key)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


# Controls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_control_changes_the_picture(page: Page, address: str, kind: str) -> None:
    page.goto(address)
    start = picture(page, kind)
    for select in root(page, kind).locator("select:visible").all():
        here = select.input_value()
        others = [value for value in select.evaluate("s => [...s.options].map(o => o.value)") if value != here]
        assert others
        select.select_option(others[0])
        assert picture(page, kind) != start, others[0]
        select.select_option(here)
        assert picture(page, kind) == start
    for legend in root(page, kind).locator("fieldset:visible").all():
        first = legend.locator("input:checked")
        for other in legend.locator("input:not(:checked)").all():
            other.check(force=True)
            assert picture(page, kind) != start
        first_value = first.get_attribute("value")
        assert first_value is not None
    page.goto("about:blank")
    page.goto(address)
    for name in root(page, kind).locator("button.pv-chart-key").all_inner_texts():
        button = root(page, kind).get_by_role("button", name=name, exact=True)
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert picture(page, kind) != start, name
        button.click()
        assert picture(page, kind) == start


def test_only_settings_that_exist_can_be_chosen(page: Page, address: str) -> None:
    """The other data set has one network: its list goes, for it would do nothing, and comes back."""
    page.goto(address)
    network = root(page, "accuracy").get_by_label("Network", exact=True)
    setting(page, "accuracy", "Network", "resnet32")
    setting(page, "accuracy", "Data set", "cifar100")
    assert network.is_hidden()
    assert root(page, "accuracy").get_by_label("Training", exact=True).is_hidden()
    assert "on cifar100: resnet20" in root(page, "accuracy").locator(".pv-words").first.inner_text()
    setting(page, "accuracy", "Data set", "cifar10")
    assert network.is_visible()


def test_the_axis_of_sparsities_stays_when_methods_go(page: Page, address: str) -> None:
    page.goto(address)
    before = root(page, "accuracy").evaluate(SEEN)["across"]
    for method in METHODS[:4]:
        root(page, "accuracy").get_by_role("button", name=method, exact=True).click()
    assert root(page, "accuracy").evaluate(SEEN)["across"] == before
    _, rows = rows_of_table(page, "accuracy")
    assert [row[0] for row in rows if "published" not in row[0]] == ["Dense", "GraSP"]


def test_what_only_others_have_goes_with_the_published_numbers(page: Page, address: str) -> None:
    """Its key, its column and its place on the axis; all come back, and the focus stays."""
    page.goto(address)

    def offered() -> tuple[list[str], list[str], list[str]]:
        keys = root(page, "accuracy").locator("button.pv-chart-key").all_inner_texts()
        across = [text for _, text in root(page, "accuracy").evaluate(SEEN)["across"]]
        return keys, across, rows_of_table(page, "accuracy")[0]

    before = offered()
    root(page, "accuracy").get_by_role("button", name="published", exact=True).click()
    keys, across, header = offered()
    assert keys == [*METHODS, "published"]
    assert set(before[0]) - set(keys) == {"RigL (ERK)"}
    assert set(before[1]) - set(across) == {"80\u202f%"}
    assert set(before[2]) - set(header) == {"80\u00a0%"}
    assert page.evaluate("document.activeElement.textContent") == "published"
    page.keyboard.press("Enter")
    assert offered() == before


def test_without_any_method_it_says_so(page: Page, tmp_path: Any, made: pd.DataFrame) -> None:
    path = Accuracy(made.iloc[:0], title="Nothing yet").save(tmp_path / "nothing.html")
    page.goto(path.as_uri())
    assert "There are no runs yet." in root(page, "accuracy").inner_text()
    assert root(page, "accuracy").locator("select:visible, button:visible, details:visible").count() == 0
    pruned_only = plain(of_setting(made)).query("scorer == 'snip'")
    page.goto(Accuracy(pruned_only).save(tmp_path / "one.html").as_uri())
    root(page, "accuracy").get_by_role("button", name="SNIP").click()
    assert "No method is chosen." in root(page, "accuracy").inner_text()


# Links ------------------------------------------------------------------------------------------------------


CHANGES = {
    "accuracy": "#accuracy=cifar10,resnet32,cifar_10ep,SNIP+GraSP,false",
    "sanity": "#sanity=cifar10,resnet20,cifar_10ep,0.98,none+shuffle",
    "cost": "#cost=cifar10,resnet20,cifar_10ep,0.6,theory,Random%20(ERK)+SNIP",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_restores_the_picture(page: Page, address: str, kind: str) -> None:
    page.goto(address)
    start = picture(page, kind)
    page.goto("about:blank")
    page.goto(f"{address}{CHANGES[kind]}")
    linked = picture(page, kind)
    assert linked != start
    # What is written into the address by the reader's own clicks is read back as the same picture.
    button = root(page, kind).locator("button.pv-chart-key[aria-pressed=true]").first
    button.click()
    page.wait_for_function("start => location.hash !== start", arg=CHANGES[kind])
    changed, here = picture(page, kind), page.url
    assert changed != linked
    page.goto("about:blank")
    page.goto(here)
    assert picture(page, kind) == changed
    page.evaluate("hash => { location.hash = hash; }", CHANGES[kind])
    page.wait_for_function(
        f"([root, wanted]) => ({PICTURE})(root) === wanted", arg=[root(page, kind).element_handle(), linked]
    )


@pytest.mark.parametrize(
    "hash_",
    ["accuracy", "accuracy=", "accuracy=cifar,x,y,SNPI+z,maybe", "accuracy=%,%,%,%,%", "sanity=,,,2,+", "cost=0.9"],
)
def test_an_address_of_something_else_changes_nothing(page: Page, address: str, hash_: str) -> None:
    page.goto(address)
    start = [picture(page, kind) for kind in KINDS]
    page.goto("about:blank")
    page.goto(f"{address}#{hash_}")
    assert [picture(page, kind) for kind in KINDS] == start


def test_a_list_may_be_empty_in_a_link(page: Page, address: str) -> None:
    page.goto(f"{address}#accuracy=cifar10,resnet20,cifar_10ep,,true")
    assert root(page, "accuracy").locator("button.pv-chart-key[aria-pressed=true]").all_inner_texts() == ["published"]


# In a notebook ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_notebooks_module_draws_the_same(
    page: Page, address: str, shown: dict[str, BySetting], made: pd.DataFrame, kind: str
) -> None:
    """The same picture as on a page of the same width, from a kernel's model; new data from the kernel are drawn."""
    page.goto(address)
    width = root(page, kind).evaluate("root => root.clientWidth")
    expected = picture(page, kind)
    live = shown[kind]
    page.goto("about:blank")
    page.evaluate(
        "width => { document.body.style.cssText = `margin: 0; width: ${width}px; font: 16px system-ui`; }", width
    )
    page.add_style_tag(content=bundle.style((kind,)))
    state = {name: getattr(live, name) for name in live.state}
    start(page, live, live.data, **state)
    assert picture(page, kind) == expected
    root(page, kind).locator("button.pv-chart-key").first.click()
    key = {"accuracy": "methods", "sanity": "ablations", "cost": "methods"}[kind]
    assert page.evaluate(f"saved.at(-1).{key}") == getattr(live, key)[1:]
    other = type(live)(of_setting(made, "cifar100")).data
    page.evaluate("data => model.set('data', data)", other)
    assert "on cifar100" in root(page, kind).locator(".pv-words").first.inner_text()
    page.evaluate("model.set('status', 'Reading the table …')")
    assert root(page, kind).get_by_role("status").inner_text() == "Reading the table …"
    page.evaluate("cleanup()")
    assert page.evaluate("listening()") == 0
