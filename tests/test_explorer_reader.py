"""The mask explorer for every reader: links, keyboard, screen reader, contrast, small screens, no scripts."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from explorer import CONTRAST, SHOWN, THIN, choose, first, shown, slide, small_problem

import pruneviz as pv
from pruneviz.widgets.mask_explorer import MaskExplorer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def test_the_address_follows_the_reader(page: Page, file: str, explorer: MaskExplorer) -> None:
    page.goto(file)
    assert page.evaluate("location.hash") == ""
    choose(page, "GraSP")
    slide(page, 0.98, explorer)
    first(page).locator("button[title='2.weight']").click()
    page.wait_for_function("location.hash === '#mask-explorer=grasp,0.98,2.weight,logarithmic'")
    scale = first(page).get_by_role("button", name="Density")
    scale.click()
    assert "linear scale" in scale.inner_text()
    second = page.locator(".pv-explorer").nth(1)
    second.get_by_role("button", name="Remove more weights").click()
    layer = list(explorer.scores)[2]
    expected = f"#mask-explorer=grasp,0.98,2.weight,linear&mask-explorer-2=snip,0.905,{layer},logarithmic"
    page.wait_for_function("expected => location.hash === expected", arg=expected)
    assert page.evaluate("history.length") == 2  # the blank page and this one: no entry per move
    here = page.url
    page.goto("about:blank")
    page.goto(here)
    assert shown(page)["sparsity"] == f"98.0{THIN}%"
    assert first(page).get_by_role("radio", name="GraSP").is_checked()
    assert first(page).locator("button[title='2.weight']").get_attribute("aria-pressed") == "true"
    assert "linear scale" in scale.inner_text()
    assert second.evaluate(SHOWN)["sparsity"] == f"90.5{THIN}%"


def test_a_link_in_the_text_sets_the_picture(page: Page, file: str) -> None:
    page.goto(file)
    page.evaluate("location.hash = '#mask-explorer=random:erk,0.5,0.weight'")
    page.wait_for_function("document.querySelector('.pv-readout strong').textContent.startsWith('50')")
    assert first(page).get_by_role("radio", name="Random (ERK)").is_checked()
    assert "log scale" in first(page).get_by_role("button", name="Density").inner_text()  # a link of before it had one


@pytest.mark.parametrize("hash_", ["two", "mask-explorer=snpi,2,x", "mask-explorer=%,%,%", "mask-explorer=", "a=b&c"])
def test_an_address_of_something_else_changes_nothing(page: Page, file: str, hash_: str) -> None:
    page.goto(f"{file}#{hash_}")
    assert shown(page)["sparsity"] == f"90.0{THIN}%"
    assert first(page).get_by_role("radio", name="SNIP", exact=True).is_checked()


def test_it_works_by_keyboard_alone(page: Page, file: str, explorer: MaskExplorer) -> None:
    page.goto(file)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # from SNIP to GraSP
    assert first(page).get_by_role("radio", name="GraSP").is_checked()
    page.keyboard.press("Tab")  # the button that removes fewer
    page.keyboard.press("Enter")
    assert shown(page)["sparsity"] == f"89.0{THIN}%"
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert shown(page)["sparsity"] == f"99.9{THIN}%"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "pv-row-button":
            break
    names = list(explorer.scores)
    assert page.evaluate("document.activeElement.title") == names[2]
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.title") == names[3]
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.title") == names[0]
    assert first(page).locator(".pv-layer-name strong").inner_text() == names[0].removesuffix(".weight")


def test_a_layer_named_in_a_warning_can_be_shown(page: Page, file: str, explorer: MaskExplorer) -> None:
    page.goto(file)
    slide(page, 0.999, explorer)
    link = first(page).locator(".pv-note-alert button").first
    label = link.inner_text()
    link.click()
    assert first(page).locator(".pv-layer-name strong").inner_text() == label
    assert page.evaluate("document.activeElement.title") == f"{label}.weight"
    assert "0 of" in first(page).locator("canvas").get_attribute("aria-label")


def test_it_speaks(page: Page, file: str, explorer: MaskExplorer) -> None:
    page.goto(file)
    slider = first(page).get_by_role("slider")
    assert slider.get_attribute("aria-valuetext").startswith(f"90.0{THIN}% removed, ")
    region = first(page).locator("[aria-live=polite]")
    assert region.text_content() == ""  # nothing has happened yet
    for sparsity in (0.95, 0.96, 0.999):
        slide(page, sparsity, explorer)
    assert region.text_content() == ""  # not while the slider moves
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent !== ''")
    text = region.text_content()
    assert text.startswith(f"SNIP, 99.9{THIN}% removed: ")
    assert "layers keep no weight" in text
    tree = first(page).aria_snapshot()
    assert 'group "Weights are scored by"' in tree
    assert 'slider "Sparsity' in tree
    assert 'rowheader "0"' in tree
    assert 'img "Mask of' in tree
    assert "collapsed: none" in tree
    # Whatever can be operated has a name.
    assert first(page).evaluate(
        "root => [...root.querySelectorAll('button')].every(b => b.ariaLabel || b.textContent.trim())"
    )


def test_where_no_mask_is_possible_nothing_else_is_shown_or_said(page: Page, file: str, explorer: MaskExplorer) -> None:
    page.goto(file)
    choose(page, "Random (uniform)")
    canvas, line = first(page).locator("canvas"), "cell => getComputedStyle(cell, '::after').content"
    average = first(page).locator("tbody .pv-col-bar").first
    assert canvas.is_visible()
    assert average.evaluate(line) != "none"
    slide(page, 0.999, explorer)
    valuetext = str(first(page).get_by_role("slider").get_attribute("aria-valuetext"))
    assert valuetext.endswith(first(page).locator(".pv-readout p").inner_text())
    assert "to keep" in valuetext
    assert canvas.is_hidden()
    assert average.evaluate(line) == "none"
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent !== ''")
    spoken = first(page).locator("[aria-live=polite]").text_content()
    assert spoken == f"Random (uniform): {first(page).locator('.pv-notes').inner_text()}"
    slide(page, 0.5, explorer)
    assert canvas.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page: Page, file: str, explorer: MaskExplorer, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(file)
    slide(page, 0.999, explorer)
    ratios = first(page).evaluate(CONTRAST)
    assert len(ratios) > 30
    assert ratios[0][0] >= 4.5, ratios[:5]


def test_the_picture_follows_the_theme(page: Page, file: str) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(file)
    pixel = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join()"
    canvas = first(page).locator("canvas")
    before = canvas.evaluate(pixel)
    differs = f"([c, before]) => ({pixel})(c) !== before"
    same = f"([c, before]) => ({pixel})(c) === before"
    handle = canvas.element_handle()
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(differs, arg=[handle, before])
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_function(same, arg=[handle, before])


@pytest.mark.parametrize("width", [320, 360, 560, 800, 1400])
def test_it_fits(page: Page, file: str, width: int) -> None:
    """Nothing makes the page scroll sideways, and no text is cut but layer names."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(file)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = first(page).evaluate(
        """root => [...root.querySelectorAll("td, th, p, label, legend, button")]
          .filter(e => !e.closest(".pv-hidden, .pv-row-button") && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
          .map(e => e.className + ": " + e.textContent)"""
    )
    assert cut == []
    ticks = first(page).evaluate(
        """root => [...root.querySelectorAll(".pv-ticks span")].filter(s => s.getClientRects().length)
          .map(s => s.getBoundingClientRect()).map(r => [r.left, r.right]).sort((a, b) => a[0] - b[0])"""
    )
    assert all(left[1] <= right[0] for left, right in pairwise(ticks))


def test_the_captions_lines_stand_below_each_other(page: Page, file: str) -> None:
    """Also where the book's theme sets its rule for captions."""
    page.goto(file)
    page.add_style_tag(content="figure figcaption p { display: inline-block; }")
    lines = first(page).locator(".pv-picture figcaption p")
    ends = lines.evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect()).map(({ top, bottom }) => [top, bottom])"
    )
    assert len(ends) == 4
    assert all(above[1] <= below[0] for above, below in pairwise(ends))


def test_what_is_pressed_is_large_enough(page: Page, file: str) -> None:
    """At least 24 by 24, the least that WCAG 2.2 asks for."""
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(file)
    sizes = first(page).evaluate(
        """root => [...root.querySelectorAll(".pv-pill, .pv-rail button, tbody tr, input[type=range]")]
          .map(e => e.getBoundingClientRect()).map(r => Math.min(r.width, r.height))"""
    )
    assert min(sizes) >= 24


def test_nothing_moves_for_those_who_asked(page: Page, file: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(file)
    moving = (
        "root => [...root.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    )
    assert first(page).evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert first(page).evaluate(moving) > 0


def test_the_page_below_does_not_jump(page: Page, file: str, explorer: MaskExplorer) -> None:
    """While the slider moves, nothing under it changes its place."""
    page.goto(file)
    tops = set()
    for sparsity in (0.0, 0.5, 0.9, 0.98, 0.999):
        slide(page, sparsity, explorer)
        tops.add(tuple(first(page).locator(part).bounding_box()["y"] for part in (".pv-panes", "canvas")))
    assert len(tops) == 1


def test_without_scripts_there_is_a_table(browser: Browser, file: str, explorer: MaskExplorer) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file)
    table = page.locator(".pv-fallback table").first
    assert table.is_visible()
    kept, total = pv.masks.counts(pv.allocate(pv.score("snip", explorer.problem), 0.9))["0.weight"]
    assert f"{kept} of {total}" in table.inner_text()
    context.close()


def test_with_scripts_the_table_is_gone(page: Page, file: str) -> None:
    page.goto(file)
    assert page.locator(".pv-explorer").count() == 2
    assert page.locator(".pv-fallback").count() == 0


def test_texts_are_texts(page: Page, tmp_path: Path) -> None:
    """A title or a layer's name never becomes markup."""
    title = "</script><img src=x onerror=alert(1)> & co"
    page.goto(MaskExplorer(small_problem(), ("magnitude",), title=title).save(tmp_path / "t.html").as_uri())
    assert first(page).locator(".pv-title").inner_text() == title
    assert page.locator("img").count() == 0
    assert json.loads(page.locator("script[type='application/json']").text_content())["title"] == title
