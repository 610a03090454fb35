"""Spectrum, depth, agreement and microscope for every reader: keyboard, contrast, small screens, no scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from explorer import THIN
from measured import KINDS, TITLE, Open, picture, root_of
from test_explorer_reader import CONTRAST

from pruneviz.widgets.interaction import Interaction

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_by_keyboard_and_speaks(page: Page, show: Open, kind: str) -> None:
    show(kind)
    root = root_of(page)
    assert TITLE in str(root.get_attribute("aria-label"))
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + (document.activeElement.type || '')"))
    assert "INPUTrange" in reached
    slider = root.get_by_role("slider")
    slider.focus()
    before = picture(page)
    slider.press("ArrowRight")
    assert picture(page) != before
    assert f"98.0{THIN}% removed" in str(slider.get_attribute("aria-valuetext"))
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.length > 20")
    names = "root => [...root.querySelectorAll('button')].every(b => b.ariaLabel || b.textContent.trim())"
    assert root.evaluate(names)
    tree = root.aria_snapshot()
    assert 'slider "Sparsity' in tree
    assert "table" in tree


def test_the_matrix_by_keyboard(page: Page, show: Open) -> None:
    show("agreement")
    cell = root_of(page).locator(".pv-cell[tabindex='0']")
    assert cell.count() == 1
    assert cell.get_attribute("aria-label").startswith("SNIP and Magnitude: 0.")
    cell.focus()
    page.keyboard.press("ArrowUp")  # the row of Magnitude is above; its own column is not a pair
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Random (ERK) and Magnitude")
    page.keyboard.press("Enter")
    assert root_of(page).locator(".pv-pair").inner_text() == "Random (ERK) and Magnitude"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # the edge, and over the diagonal
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Random (ERK) and Random (uniform)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_stands_out(page: Page, show: Open, kind: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    show(kind)
    ratios = root_of(page).evaluate(CONTRAST)
    assert len(ratios) > 30
    assert ratios[0][0] >= 4.5, ratios[:5]


@pytest.mark.parametrize("kind", KINDS)
def test_it_fits(page: Page, show: Open, kind: str) -> None:
    """At any width, also when it changes: nothing scrolls sideways, nothing is cut, nothing is too small to press."""
    show(kind)
    for width in (1200, 700, 360, 320):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(100)
        fits(page, width)


def fits(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = root_of(page).evaluate(
        """root => [...root.querySelectorAll("td, th, p, label, legend, button, svg")]
          .filter(e => !e.closest(".pv-hidden") && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
          .map(e => e.className + ": " + e.textContent)"""
    )
    assert cut == []
    sizes = root_of(page).evaluate(
        """root => [...root.querySelectorAll(".pv-pill, .pv-rail button, .pv-cell, .pv-scope-step, select, summary")]
          .map(e => e.getBoundingClientRect()).map(r => Math.min(r.width, r.height))"""
    )
    assert min(sizes) >= 24


@pytest.mark.parametrize("kind", KINDS)
def test_without_scripts_there_is_a_table(
    page: Page, interactions: dict[str, tuple[Interaction, str]], kind: str
) -> None:
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(interactions[kind][1])
    table = plain.locator(".pv-fallback table")
    assert table.is_visible()
    assert table.locator("tbody tr").count() >= 4
    context.close()
