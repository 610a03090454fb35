"""The interactions about a table of results for every reader: contrast, small screens, screen readers, no scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from charts import KINDS, of_setting, plain, root, rows_of_table, sample
from explorer import CONTRAST

import pruneviz as pv
from pruneviz.widgets import page

if TYPE_CHECKING:
    import pandas as pd
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    from charts import table

    return table()


@pytest.fixture(scope="module")
def address(made: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "charts.html"
    page.save(path, "<h1>Results</h1>", *(shown.html() for shown in sample(made).values()))
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_stands_out(page: Page, address: str, kind: str, scheme: str) -> None:
    """With a card shown, an entry of the legend off and the table open."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    rows_of_table(page, kind)
    root(page, kind).locator("button.pv-chart-key").first.click()
    root(page, kind).locator(".pv-cursor").focus()
    ratios = root(page, kind).evaluate(CONTRAST)
    texts = {text for _, text in ratios}
    assert len(ratios) > 30
    assert {"Show as a table", root(page, kind).locator(".pv-card p").first.inner_text()} <= texts
    assert ratios[0][0] >= 4.5, ratios[:5]


# The contrast of each mark's colour to the page, as a browser has mixed it: [ratio, label].
MARKS = """root => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const bytes = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = color => [0.2126, 0.7152, 0.0722].reduce((sum, w, k) => sum + w * linear(color[k] / 255), 0);
  const paper = light(bytes(getComputedStyle(document.body).backgroundColor));
  return [...root.querySelectorAll(".pv-chart-key")].map(key => {
    const style = getComputedStyle(key.querySelector(".pv-dot, .pv-line"));
    const mark = light(bytes(style.stroke === "none" || style.strokeWidth === "1px" ? style.fill : style.stroke));
    const [a, b] = [mark, paper].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), key.textContent];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_mark_stands_out(page: Page, address: str, scheme: str) -> None:
    """At least 3, what WCAG asks of graphics."""
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    for kind, least in (("accuracy", 8), ("sanity", 5), ("cost", 7)):
        ratios = sorted(root(page, kind).evaluate(MARKS))
        assert len(ratios) >= least
        assert ratios[0][0] >= 3, ratios[:3]


def test_the_chart_follows_the_theme(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(address)
    line = root(page, "accuracy").locator(".pv-series .pv-line").nth(3)
    colour = "node => getComputedStyle(node).stroke"
    light = line.evaluate(colour)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert line.evaluate(colour) != light


@pytest.mark.parametrize("width", [320, 360, 560, 1400])
def test_it_fits(page: Page, address: str, width: int) -> None:
    """Nothing makes the page scroll sideways, tables scroll inside themselves, and no two ticks touch."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(address)
    for kind in KINDS:
        rows_of_table(page, kind)
        seen = root(page, kind).evaluate(
            """root => {
              const box = node => node.getBoundingClientRect();
              const ticks = [...root.querySelectorAll("text.pv-chart-tick[text-anchor=middle]")].map(box);
              const texts = [...root.querySelectorAll(".pv-chart-svg text")].map(box);
              return {
                ticks: ticks.map(b => [b.left, b.right]).sort((a, b) => a[0] - b[0]),
                texts: texts.map(b => [b.left, b.right]),
                cut: [...root.querySelectorAll("p, label, legend, button, summary, caption span")]
                  .filter(e => !e.closest(".pv-hidden") && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
                  .map(e => e.textContent),
              };
            }"""
        )
        assert seen["cut"] == [], kind
        assert all(left >= 0 and right <= width for left, right in seen["texts"]), kind
        assert len(seen["ticks"]) >= 2, kind
        gaps = [b[0] - a[1] for a, b in zip(seen["ticks"], seen["ticks"][1:], strict=False)]
        assert all(gap > 0 for gap in gaps), (kind, gaps)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_drawn_again_when_its_width_changes(page: Page, address: str) -> None:
    page.goto(address)
    wide = root(page, "accuracy").locator(".pv-chart-svg").get_attribute("viewBox")
    page.set_viewport_size({"width": 420, "height": 800})
    page.wait_for_function(
        "wide => document.querySelector('.pv-accuracy .pv-chart-svg').getAttribute('viewBox') !== wide", arg=wide
    )
    right = root(page, "accuracy").locator(".pv-chart-svg").get_attribute("viewBox").split()[2]
    assert float(right) == root(page, "accuracy").locator(".pv-chart-stage").evaluate("stage => stage.clientWidth")


def test_what_is_pressed_is_large_enough(page: Page, address: str) -> None:
    """At least 24 by 24, the least that WCAG 2.2 asks for."""
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(address)
    for kind in KINDS:
        sizes = root(page, kind).evaluate(
            """root => [...root.querySelectorAll(".pv-pill, button.pv-chart-key, select, summary")]
              .map(e => e.getBoundingClientRect()).filter(r => r.width).map(r => Math.min(r.width, r.height))"""
        )
        assert len(sizes) > 4
        assert min(sizes) >= 24, kind


def test_nothing_moves_for_those_who_asked(page: Page, address: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(address)
    moving = (
        "root => [...root.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    )
    for kind in KINDS:
        assert root(page, kind).evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert root(page, "accuracy").evaluate(moving) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_screen_reader_finds_its_way(page: Page, address: str, kind: str) -> None:
    page.goto(address)
    tree = root(page, kind).aria_snapshot()
    assert 'combobox "Data set"' in tree
    assert 'combobox "Network"' in tree
    name = {"accuracy": "SNIP", "sanity": "shuffled", "cost": "SNIP"}[kind]
    assert f'button "{name}" [pressed]' in tree
    assert 'application "test accuracy in percent' in tree
    if kind != "accuracy":
        assert 'group "Weights removed"' in tree
    if kind == "cost":
        assert 'radio "both" [checked]' in tree
    # Axes and marks are not read out one by one: the arrow keys and the table are for that.
    for label in root(page, kind).locator("text.pv-chart-label").all_text_contents():
        assert label
        assert label not in tree


def test_it_speaks_once_the_reader_has_stopped(page: Page, address: str) -> None:
    page.goto(address)
    region = root(page, "accuracy").locator("[aria-live=polite]")
    for method in ("SNIP", "GraSP"):
        root(page, "accuracy").get_by_role("button", name=method, exact=True).click()
    assert region.text_content() == ""
    page.wait_for_function("document.querySelector('.pv-accuracy [aria-live=polite]').textContent !== ''")
    assert region.text_content() == "cifar10, resnet20: 3 of 5 methods shown."


def test_an_entry_of_the_legend_keeps_the_focus(page: Page, address: str) -> None:
    page.goto(address)
    button = root(page, "accuracy").get_by_role("button", name="Magnitude")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Magnitude"
    assert button.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"


def test_a_focused_point_outlives_a_new_drawing(page: Page, address: str) -> None:
    """The width changes under the reader: the same point is still in focus, and its card is beside it."""
    page.goto(address)
    root(page, "accuracy").locator(".pv-cursor").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    label = "document.activeElement.getAttribute('aria-label')"
    before = page.evaluate(label)
    place = root(page, "accuracy").locator(".pv-cursor").get_attribute("cx")
    page.set_viewport_size({"width": 500, "height": 800})
    page.wait_for_function(
        "place => document.querySelector('.pv-accuracy .pv-cursor').getAttribute('cx') !== place", arg=place
    )
    assert page.evaluate(label) == before
    assert root(page, "accuracy").locator(".pv-card").is_visible()


def test_without_scripts_there_are_tables(browser: Browser, address: str, made: pd.DataFrame) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    tables = page.locator(".pv-fallback table")
    assert tables.count() == 3
    entry = pv.figures.accuracy_table(plain(of_setting(made))).loc["SNIP", "90\u00a0%"]
    for index in range(3):
        assert tables.nth(index).is_visible()
        assert entry in tables.nth(index).inner_text()
    context.close()


def test_texts_are_texts(page: Page, made: pd.DataFrame, tmp_path: Path) -> None:
    """A title or a name never becomes markup."""
    from pruneviz.widgets.accuracy import Accuracy

    name = "</script><img src=x onerror=alert(1)>"
    shown = Accuracy(of_setting(made, "cifar100").assign(dataset=name), title=name)
    page.goto(shown.save(tmp_path / "t.html").as_uri())
    assert root(page, "accuracy").locator(".pv-title").inner_text() == name
    assert name in root(page, "accuracy").locator(".pv-words").inner_text()
    assert page.locator("img").count() == 0
