"""A real browser for the tests that need one, and the mask explorer's sample, on a page."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from measured import Open
    from playwright.sync_api import Browser, Page

    from pruneviz.widgets.interaction import Interaction
    from pruneviz.widgets.mask_explorer import MaskExplorer

# One thread for each process of tests: networks as small as theirs gain nothing from a second one, and several
# processes share the cores. It is read by torch when it is first imported, also in what the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HERE = {"127.0.0.1", "localhost", "::1"}


def find_chromium() -> str:
    """The browser's path; CHROMIUM in the environment overrides it. Missing: a skip, or a failure where CI is set."""
    for name in (os.environ.get("CHROMIUM"), *NAMES):
        if name and (path := shutil.which(name)):
            return path
    message = "no Chromium found: `apt-get install chromium`, or set CHROMIUM to the path of one"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def watch(page: Page) -> list[str]:
    """What goes wrong on a page from now on: a list that grows."""
    faults: list[str] = []

    def of_request(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in HERE:
            faults.append(f"request to another host: {url}")

    page.on("console", lambda m: faults.append(f"console {m.type}: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    page.on("requestfailed", lambda r: faults.append(f"request failed: {r.url} ({r.failure})"))
    page.on("request", lambda r: of_request(r.url))
    page.on("websocket", lambda w: of_request(w.url))
    page.on("response", lambda r: faults.append(f"status {r.status}: {r.url}") if r.status >= 400 else None)
    return faults


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module's tests; not for the whole run, because its event loop would block other tests'."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page of 1100 x 800; the test fails if anything went wrong on it, or if it asked another host."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    faults = watch(page)
    yield page
    context.close()
    assert not faults, "\n".join(faults)


@pytest.fixture
def registry_afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test registers and imports from a folder of its own is gone after it."""
    from pruneviz.scorers import imports, registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(imports, "_IMPORTED", {})
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or file.startswith(tempfile.gettempdir()):
            del sys.modules[name]


@pytest.fixture(scope="module")
def explorer() -> MaskExplorer:
    from explorer import METHODS, small_problem

    from pruneviz.widgets.mask_explorer import MaskExplorer

    return MaskExplorer(small_problem(), METHODS, method="snip", sparsity=0.9, title="A small network")


@pytest.fixture(scope="module")
def file(explorer: MaskExplorer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with two explorers of the same network, on the disk."""
    from pruneviz.widgets import page

    path = tmp_path_factory.mktemp("page") / "two.html"
    page.save(path, "<h1>Two</h1>", explorer.html(), explorer.html())
    return path.as_uri()


@pytest.fixture(scope="session")
def interactions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Interaction, str]]:
    """The interactions that measure masks, by kind, with the addresses of their pages."""
    from measured import KINDS, build

    folder = tmp_path_factory.mktemp("kinds")
    made = {kind: build(kind) for kind in KINDS}
    return {kind: (one, one.save(folder / f"{kind}.html").as_uri()) for kind, one in made.items()}


@pytest.fixture
def show(page: Page, interactions: dict[str, tuple[Interaction, str]]) -> Open:
    """Open a kind's page, with a state in its address or without."""
    from measured import open_at

    def opened(kind: str, *state: object) -> Interaction:
        interaction, file = interactions[kind]
        open_at(page, file, kind, *state)
        return interaction

    return opened
