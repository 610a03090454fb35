"""How heavy each page of the built book is, and how soon its first picture is there.

    python benchmarks/pages.py [--site _build/html] [--repeats 5] [--readme]

Weight is what a page brings beside the theme's own files: its HTML, its images, the widgets' script and style. Time is
from the start of the navigation until the first image of the article is decoded or the first widget is drawn, in a
Chromium that opens the page from the disk with an empty cache; for scale, the same of a page with nothing but a word.
It is the wall clock's, as a reader's patience is: on a machine that does something else as well it is longer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from measure import machine
from playwright.sync_api import Browser, sync_playwright
from scorers import said, write

from pruneviz.widgets.page import assets

ROOT = Path(__file__).resolve().parents[1]
HEAVIEST = 12  # rows of the table

# Of the page's own clock, which starts with the navigation.
WATCH = """
window.firstPicture = new Promise((found) => {
  const look = () => {
    const images = [...document.querySelectorAll(".bd-article img, .bd-article svg.pv-ways")];
    const drawn = images.some((image) => image.complete !== false && image.getBoundingClientRect().height > 20);
    if (drawn || document.querySelector(".pv-widget.pv-ready")) found(performance.now());
    else requestAnimationFrame(look);
  };
  addEventListener("DOMContentLoaded", look);
});
"""


class Images(HTMLParser):
    """The addresses of a page's images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.widgets = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element is."""
        given = dict(attrs)
        if tag == "img" and (address := given.get("src")):
            self.found.append(address)
        self.widgets += "data-pv-widget" in given


def weight(page: Path) -> tuple[int, int, int]:
    """Bytes of a page's own files, its images and its widgets."""
    images = Images(page.read_text(encoding="utf-8"))
    paths = {(page.parent / unquote(urlsplit(address).path)).resolve() for address in images.found}
    own = [page, *(path for path in paths if "_images" in path.parts)]
    served = [page.parents[1] / "_static" / name for name in assets()]
    return sum(path.stat().st_size for path in [*own, *served]), len(own) - 1, images.widgets


def first_picture(browser: Browser, address: str, repeats: int) -> list[float]:
    """Seconds until the first picture, each time in a fresh context."""
    found = []
    for _ in range(repeats):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        found.append(page.evaluate("window.firstPicture") / 1000)
        context.close()
    return found


def measure(site: Path, repeats: int) -> str:
    """The table."""
    chosen = sorted(path for folder in ("book", "notebooks") for path in (site / folder).glob("*.html"))
    weights = {path: weight(path) for path in chosen}
    shown = sorted((path for path in chosen if weights[path][1] + weights[path][2]), key=lambda path: -weights[path][0])
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.html"
        dot = '<svg viewBox="0 0 1 1" class="pv-ways" width="99"><rect width="1" height="1"/></svg>'
        empty.write_text(f'<!doctype html><div class="bd-article">{dot}</div>', encoding="utf-8")
        path = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM") or "chromium", "google-chrome"))), None)
        if path is None:
            sys.exit("pages.py: no Chromium found; install one, or name it: CHROMIUM=/path/to/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        floor = statistics.median(first_picture(browser, empty.as_uri(), repeats))
        for path in shown[:HEAVIEST]:
            times = first_picture(browser, path.as_uri(), repeats)
            size, images, widgets = weights[path]
            middle = statistics.median(times)
            rows.append(
                f"| {path.stem} | {size / 1e6:.2f} | {images} | {widgets} | {middle:.2f} ({min(times):.2f} to "
                f"{max(times):.2f}) |"
            )
        browser.close()
    packed = (site / "pruneviz-book.zip").stat().st_size
    head = ["| page | MB | images | widgets | seconds to the first picture |", "|---|---|---|---|---|"]
    words = (
        f"The {len(rows)} heaviest of {len(chosen)} pages, medians of {repeats} with least and most; a page with one "
        f"drawing and nothing else takes {floor:.2f} s. The whole site, packed, has {packed / 1e6:.1f} MB."
    )
    return "\n".join([words, "", *head, *rows])


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--readme", action="store_true", help="write the table into the page beside this file")
    options = parser.parse_args()
    if not (options.site / "pruneviz-book.zip").is_file():
        sys.exit(f"pages.py: {options.site} has no built book: make book")
    text = f"{said(machine() | {'clock': 'wall'})}\n\n{measure(options.site, options.repeats)}"
    print(text)
    if options.readme:
        write("pages", text)


if __name__ == "__main__":
    main()
