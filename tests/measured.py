"""The interactions that measure masks, over one small network, and eyes for what a page shows of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from explorer import small_problem
from torch import nn

import pruneviz as pv
from pruneviz.widgets.agreement import Agreement
from pruneviz.widgets.depth import Depth
from pruneviz.widgets.interaction import Interaction
from pruneviz.widgets.microscope import Microscope
from pruneviz.widgets.spectrum import Spectrum

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

KINDS = ("spectrum", "depth", "agreement", "microscope")
Open = Callable[..., Interaction]

METHODS = ("random:erk", "random:uniform", "magnitude", "snip", "synflow")
GRID = (0.0, 0.5, 0.98)
TITLE = "A small network"


def precise_problem() -> pv.Problem:
    """The explorer's network in float64, without its last layer: six classes, small enough for the kernel."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(),
        nn.Linear(16, 6),
    ).double()  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) / max(1, p[0].numel()) ** 0.5)
    x = small_problem().batches[0][0][:12].double()
    return pv.Problem(model, [(x, torch.arange(12) % 6)])


def build(kind: str, problem: pv.Problem | None = None) -> Interaction:
    problem = problem or precise_problem()
    if kind == "spectrum":
        return Spectrum(problem, METHODS, grid=GRID, method="snip", sparsity=0.5, title=TITLE)
    if kind == "depth":
        return Depth(problem, METHODS, grid=GRID, method="snip", sparsity=0.5, title=TITLE)
    if kind == "agreement":
        return Agreement(problem, METHODS, grid=GRID, sparsity=0.5, pair=("snip", "magnitude"), title=TITLE)
    return Microscope(problem, grid=GRID, sparsity=0.5, count=6, title=TITLE)


@cache
def masks_of(method: str, sparsity: float) -> pv.Masks | None:
    """The masks of "scorer:scope" by the public function; None where the scope cannot reach the sparsity."""
    scorer, _, scope = method.partition(":")
    try:
        return pv.prune(precise_problem(), scorer, sparsity, scope=scope or "global")
    except pv.InputError:
        return None


def printed(value: float, digits: int = 4) -> str:
    """What a page must show of a number: its significant digits as Python writes them, in the page's typography."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power, sign = int(exponent), "−" if value < 0 else ""
    if -3 <= power < 6:
        shown = float(f"{mantissa}e{power}")
        return f"{sign}{shown:,.{max(0, digits - 1 - power)}f}"
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{sign}{mantissa}\u202f×\u202f10{raised}"


def ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def root_of(page: Page) -> Locator:
    return page.locator(".pv-explorer").first


def open_at(page: Page, file: str, kind: str, *state: Any) -> None:
    """The page with a state in its address; where it is open already, by a link within it."""
    if page.url.partition("#")[0] != file:
        page.goto(f"{file}#{kind}={','.join(map(str, state))}" if state else file)
        return
    page.evaluate(
        """hash => new Promise(done => {
          if (location.hash === hash) return done();
          addEventListener("hashchange", () => done(), { once: true });
          location.hash = hash;
        })""",
        f"#{kind}={','.join(map(str, state))}",
    )


def facts(page: Page) -> dict[str, list[str]]:
    """The small table's rows: name to cells."""
    rows = root_of(page).evaluate(
        """root => [...root.querySelectorAll(".pv-facts tbody tr")]
          .map(row => [...row.children].map(cell => cell.textContent))"""
    )
    return {name: cells for name, *cells in rows}


def sheet(page: Page) -> list[list[str]]:
    """The chart's table, opened."""
    details = root_of(page).locator(".pv-chart-details")
    details.evaluate("node => { node.open = true; }")
    page.wait_for_function("document.querySelector('.pv-chart-details table tbody tr') !== null")
    return details.evaluate(
        "node => [...node.querySelectorAll('tbody tr')].map(row => [...row.children].map(cell => cell.textContent))"
    )


def picture(page: Page) -> str:
    """All that is drawn and said, as markup."""
    return str(
        root_of(page).evaluate("root => [...root.querySelectorAll('svg, table, .pv-say')].map(e => e.outerHTML).join()")
    )
