"""The built book in a real browser: from a disk and from a server, light and dark, on a phone, by keyboard."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser

SITE = Path(__file__).parent.parent / "_build" / "html"
EXPLORER = "notebooks/rq1_prune_before_training.html"
# A window of 640 pixels with two dots each is one of 1280 at a zoom of 200 %.
WAYS = [("file", "light", 360), ("file", "dark", 1280), ("http", "light", 640), ("http", "dark", 360)]

# MathJax typesets after the page has loaded.
SETTLED = "async () => { if (window.MathJax) await window.MathJax.startup.promise; await document.fonts.ready; }"

# What a page must not have; each finding is a line of text.
FINDINGS = """() => {
  const found = [];
  const short = (node) => node.outerHTML.slice(0, 120);
  const article = document.querySelector(".bd-article") || document.body;
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (over > 0) found.push(`the page is ${over} px wider than the window`);
  if (!document.documentElement.lang) found.push("no language");
  for (const image of document.querySelectorAll("img"))
    if (!image.hasAttribute("alt") || (article.contains(image) && !image.alt.trim()))
      found.push(`no alternative text: ${short(image)}`);
  for (const image of article.querySelectorAll("img"))
    if (image.complete && !image.naturalWidth && getComputedStyle(image).display !== "none")
      found.push(`an image is not there: ${short(image)}`);
  for (const figure of article.querySelectorAll("figure"))
    if (!figure.querySelector("figcaption")?.textContent.trim()) found.push(`no caption: ${short(figure)}`);
  for (const picture of article.querySelectorAll("svg[role=img]:not([aria-hidden=true])"))
    if (!picture.getAttribute("aria-label") && !picture.getAttribute("aria-labelledby"))
      found.push(`a picture without a name: ${short(picture)}`);
  for (const early of document.querySelectorAll("[tabindex]"))
    if (early.tabIndex > 0) found.push(`out of the order of the page for the Tab key: ${short(early)}`);
  for (const math of document.querySelectorAll("span.math, div.math"))
    if (!math.querySelector("mjx-container")) found.push(`not typeset: ${math.textContent.slice(0, 60)}`);
  for (const wrong of document.querySelectorAll("mjx-merror")) found.push(`wrong mathematics: ${wrong.textContent}`);
  return found;
}"""

# The contrast of text with what is behind it, by the formula of WCAG 2; below 4.5 it is hard to read.
CONTRAST = """() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(srgb") ? 255 : 1;
    return { rgb: numbers.slice(0, 3).map((v) => v * scale), alpha: numbers.length > 3 ? numbers[3] : 1 };
  };
  const over = (top, under) => top.rgb.map((v, i) => v * top.alpha + under[i] * (1 - top.alpha));
  const behind = (node) => {
    if (!node) return [255, 255, 255];
    const own = parse(getComputedStyle(node).backgroundColor);
    return own.alpha === 1 ? own.rgb : over(own, behind(node.parentElement));
  };
  const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => 0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2]);
  const found = new Set();
  const chosen = "p, a, li, dt, dd, h1, h2, h3, figcaption, caption, td, th, code.literal, label, button, summary";
  for (const node of document.querySelectorAll(".bd-article :is(" + chosen + "), .bd-sidebar-primary a")) {
    if (!node.checkVisibility() || !node.innerText?.trim()) continue;
    if (node.closest("[disabled], [aria-disabled=true]")) continue;
    const under = behind(node);
    const a = light(over(parse(getComputedStyle(node).color), under)), b = light(under);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.add(`contrast ${ratio.toFixed(2)}: <${node.localName} class="${node.className}"> ` +
      node.innerText.trim().slice(0, 40));
  }
  return [...found];
}"""


@pytest.fixture(scope="module")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.skip("the book is not built: make book")
    return SITE


@pytest.fixture(scope="module")
def pages(site: Path) -> list[str]:
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)
    assert EXPLORER in found
    return found


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """The address of a page, from the disk or from a server that has the book below some folder."""
    root = tmp_path_factory.mktemp("server")
    (root / "some").mkdir()
    (root / "some" / "book").symlink_to(site, target_is_directory=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def of(way: str, page: str) -> str:
        if way == "file":
            return (site / page).as_uri()
        return f"http://127.0.0.1:{server.server_port}/some/book/{page}"

    yield of
    server.shutdown()
    server.server_close()


def opened(browser: Browser, scheme: Any, width: int) -> BrowserContext:
    dots = 2 if width == 640 else 1
    size: Any = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=dots)
    context.set_default_timeout(60_000)
    return context


@pytest.mark.slow
@pytest.mark.parametrize(("way", "scheme", "width"), WAYS, ids=lambda value: str(value))
def test_every_page_is_sound(
    browser: Browser, address: Callable[[str, str], str], pages: list[str], way: str, scheme: str, width: int
) -> None:
    context = opened(browser, scheme, width)
    wrong: list[str] = []
    for name in pages:
        page = context.new_page()
        faults = watch(page)
        page.goto(address(way, name))
        if name == "index.html":  # it leads on at once
            page.wait_for_url("**/book/intro.html")
        page.evaluate(SETTLED)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        faults += page.evaluate(FINDINGS)
        faults += page.evaluate(CONTRAST)
        wrong += [f"{name}: {fault}" for fault in faults]
        page.close()
    context.close()
    assert not wrong, "\n".join(wrong)


def test_the_first_page_leads_to_the_introduction(page: Page, address: Callable[[str, str], str]) -> None:
    page.goto(address("file", "index.html"))
    page.wait_for_url("**/book/intro.html")
    assert page.locator(".bd-article h1").inner_text().startswith("Pruning at initialization")
    page.get_by_role("link", name="Bibliography").first.click()
    page.wait_for_url("**/book/bibliography.html")
    assert "preserving gradient flow" in page.locator(".bd-article").inner_text().lower()


@pytest.mark.parametrize("way", ["file", "http"])
def test_search_finds_layer_collapse(page: Page, address: Callable[[str, str], str], way: str) -> None:
    page.goto(address(way, "search.html") + "?q=layer+collapse")
    results = page.locator("#search-results li a")
    for title in ("SynFlow and layer collapse", "Pruning at initialization"):  # they come one by one
        results.filter(has_text=title).first.wait_for()
    results.first.click()
    page.wait_for_load_state()
    assert "collapse" in page.locator(".bd-article").inner_text()


def test_the_theme_switch_turns_the_page_dark_and_remembers(page: Page, address: Callable[[str, str], str]) -> None:
    page.goto(address("http", "book/methods.html"))
    theme = "document.documentElement.dataset.theme"
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    switch = page.locator(".theme-switch-button:visible").first
    for _ in range(3):
        if page.evaluate("document.documentElement.dataset.mode") == "dark":
            break
        switch.click()
    assert page.evaluate(theme) == "dark"
    assert page.evaluate(background) != before
    page.goto(address("http", "book/intro.html"))
    assert page.evaluate(theme) == "dark"


@pytest.mark.parametrize("way", ["file", "http"])
def test_the_slider_changes_the_picture(page: Page, address: Callable[[str, str], str], way: str) -> None:
    page.goto(address(way, EXPLORER))
    widget = page.locator(".pv-widget.pv-ready").first
    slider = widget.locator("input[type=range]")
    slider.wait_for()

    def seen() -> tuple[str, bytes]:
        return widget.locator("tbody").inner_text(), widget.screenshot()

    slider.fill("0")
    dense = seen()
    slider.fill(str(slider.get_attribute("max")))
    sparse = seen()
    assert dense[0] != sparse[0]
    assert dense[1] != sparse[1]
    widget.get_by_role("radio", name="Magnitude").check()
    assert seen()[0] != sparse[0]


def test_the_keyboard_reaches_the_slider_and_moves_it(page: Page, address: Callable[[str, str], str]) -> None:
    page.goto(address("file", EXPLORER))
    slider = page.locator(".pv-widget.pv-ready input[type=range]").first
    slider.wait_for()
    page.locator("#see-it-for-yourself").evaluate("node => { node.tabIndex = -1; node.focus(); }")
    for _ in range(20):
        page.keyboard.press("Tab")
        if slider.evaluate("node => node === document.activeElement"):
            break
    else:
        pytest.fail("Tab never arrived at the slider")
    outline = "node => { const s = getComputedStyle(node); return s.outlineStyle + s.outlineWidth + s.boxShadow; }"
    assert slider.evaluate(outline) != "none0pxnone", "the focus cannot be seen"
    before = slider.input_value()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() != before


def test_without_scripts_the_words_and_the_numbers_are_there(
    browser: Browser, address: Callable[[str, str], str]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address("file", EXPLORER))
    table = page.locator(".pv-widget .pv-fallback table").first
    assert table.is_visible()
    assert len(table.locator("tr").all()) > 2
    context.close()
