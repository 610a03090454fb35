"""Every interaction on every page of the built book: each control does something, and a link brings a view back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

SITE = Path(__file__).parent.parent / "_build" / "html"
KINDS = {"accuracy", "agreement", "cost", "depth", "mask_explorer", "microscope", "sanity", "spectrum"}


def pages_with_widgets() -> list[Path]:
    found = sorted((SITE / "notebooks").glob("*.html"))
    return [path for path in found if "data-pv-widget=" in path.read_text(encoding="utf-8")]


# Where the Tab key must stop in a widget, in this order; of a group of radio buttons it is at the chosen one.
STOPS = """(widget) => {
  const able = "a[href], button, input, select, summary, [tabindex='0']";
  const group = (node) => [...widget.querySelectorAll(`input[type=radio][name="${node.name}"]`)];
  const isStop = (node) => !node.disabled && node.tabIndex >= 0 && node.checkVisibility() &&
    (node.type !== "radio" || node.checked || (!group(node).some((one) => one.checked) && group(node)[0] === node));
  window.stops = [...widget.querySelectorAll(able)].filter(isStop);
  widget.tabIndex = -1;
  widget.focus();
  const box = (node) => (node.closest("label") || node).getBoundingClientRect();
  const back = window.stops.slice(1).filter((node, i) => {
    const before = box(window.stops[i]);
    return box(node).bottom <= before.top && box(node).left < before.right;
  });
  return { count: window.stops.length, back: back.map((node) => node.outerHTML.slice(0, 120)) };
}"""
# Where a stop is drawn, with room for its outline, once it is in sight.
BOX = """(index) => {
  const node = window.stops[index];
  const shown = node.closest("label") || node;
  shown.scrollIntoView({ block: "center", behavior: "instant" });
  const box = shown.getBoundingClientRect();
  return { x: Math.max(0, box.left - 8), y: box.top - 8, width: box.width + 16, height: box.height + 16 };
}"""
# The place of what has the focus among the stops, and what it is.
FOCUSED = "() => [window.stops.indexOf(document.activeElement), document.activeElement.outerHTML.slice(0, 120)]"


every = pytest.mark.parametrize("path", pages_with_widgets(), ids=lambda path: path.stem)


def test_every_kind_of_interaction_is_in_the_book() -> None:
    if not SITE.is_dir():
        pytest.skip("the book is not built: make book")
    text = "".join(path.read_text(encoding="utf-8") for path in pages_with_widgets())
    assert {kind for kind in KINDS if f'data-pv-widget="{kind}"' in text} == KINDS


def widgets_of(page: Page, path: Path, link: str = "") -> Iterator[Locator]:
    page.goto(path.as_uri() + link)
    widgets = page.locator(".pv-widget")
    for index in range(widgets.count()):
        widget = widgets.nth(index)
        widget.locator(":scope > div").first.wait_for()
        assert "pv-ready" in (widget.get_attribute("class") or ""), "a widget did not start"
        yield widget


def seen(widget: Locator) -> str:
    """All that a widget draws and says, with what is chosen, as text.

    What is spoken a moment later is left out, and names that are drawn anew each time.
    """
    text = widget.evaluate(
        """(node) => [
          ...[...node.querySelectorAll("svg, canvas, table, p:not([aria-live]), output")].map((part) =>
            part.localName === "canvas" ? part.toDataURL() : part.outerHTML),
          ...[...node.querySelectorAll("input, select")].map((part) => `${part.value} ${part.checked}`),
        ].join(" ")"""
    )
    return re.sub(r"pv-[a-z0-9]{8}\b", "", str(text))


def settled(widget: Locator) -> str:
    """The same once it no longer changes: what waits for fonts or for room is drawn a moment later."""
    last, now = "", seen(widget)
    while now != last:
        widget.page.wait_for_timeout(100)
        last, now = now, seen(widget)
    return now


def moves(widget: Locator) -> list[tuple[str, Locator, str]]:
    """Every control with something that it does not show yet: (what, control, value)."""
    found: list[tuple[str, Locator, str]] = []
    for kind in ("radio", "checkbox"):
        inputs = widget.locator(f"input[type={kind}]")
        states = inputs.evaluate_all("nodes => nodes.map((node) => [node.checked, node.disabled])")
        for index, (checked, disabled) in enumerate(states):
            if not disabled and not (kind == "radio" and checked):
                found.append((kind, inputs.nth(index), "" if checked else "on"))
    ranges = widget.locator("input[type=range]")
    for index in range(ranges.count()):
        found += [("range", ranges.nth(index), end) for end in ("min", "max")]
    selects = widget.locator("select")
    options = "nodes => nodes.filter((node) => !node.selected && !node.disabled).map((node) => node.value)"
    for index in range(selects.count()):
        others = selects.nth(index).locator("option").evaluate_all(options)
        found += [("select", selects.nth(index), value) for value in others[:3]]
    keys = widget.locator("button.pv-chart-key:visible")
    return found + [("button", keys.nth(index), "press") for index in range(min(3, keys.count()))]


def move(what: str, control: Locator, value: str) -> bool:
    """Do it, as a reader would; False where it is there already, or where an earlier move left no such choice."""
    if what == "select":
        if not control.is_visible() or not control.locator(f'option[value="{value}"]').count():
            return False
        control.select_option(value)
    elif what == "range":
        target = str(control.get_attribute(value))
        if not control.is_visible() or control.input_value() == target:
            return False
        control.fill(target)
    elif what == "button":
        if not control.is_visible():
            return False
        control.click()
    elif value == "on" and control.is_checked():
        return False
    else:
        # The input itself is hidden behind its label, which is what a reader clicks on.
        control.evaluate("node => (node.closest('label') || node).click()")
    return True


@every
def test_every_control_changes_the_picture(page: Page, path: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    count = 0
    for widget in widgets_of(page, path):
        # Sliders first: of two measures one may have no use for them.
        for what, control, value in sorted(moves(widget), key=lambda one: one[0] != "range"):
            before = seen(widget)
            if move(what, control, value):
                page.wait_for_function("() => true")
                assert seen(widget) != before, f"{what} {control.get_attribute('value')} {value} does nothing"
                count += 1
    assert count >= 2, "a page with widgets has something to move"


@every
def test_a_link_brings_a_view_back(page: Page, path: Path) -> None:
    for widget in widgets_of(page, path):
        kind = str(widget.get_attribute("data-pv-widget")).replace("_", "-")
        first = seen(widget)
        for what, control, value in moves(widget)[:2]:
            move(what, control, value)
        page.wait_for_function("kind => location.hash.includes(`${kind}=`)", arg=kind)
        chosen, link = settled(widget), page.evaluate("location.hash")
        assert chosen != first
        page.goto("about:blank")
        for again in widgets_of(page, path, link):
            if str(again.get_attribute("data-pv-widget")).replace("_", "-") == kind:
                assert settled(again) == chosen
                break
        break  # the link of the first one; that several share an address is tested with the widgets


@every
def test_tab_goes_through_every_control_in_reading_order_and_on(page: Page, path: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    for widget in widgets_of(page, path):
        stops = widget.evaluate(STOPS)
        assert stops["count"] >= 2
        assert stops["back"] == [], "the focus would jump back"
        for expected in range(stops["count"]):
            box = page.evaluate(BOX, expected)
            before = page.screenshot(clip=box)
            page.keyboard.press("Tab")
            place, node = page.evaluate(FOCUSED)
            assert place == expected, node
            assert page.screenshot(clip=box) != before, f"nobody sees that it has the focus: {node}"
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED)[0] == -1, "the focus is caught in the widget"
