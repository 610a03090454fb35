"""One small network in the mask explorer, and hands and eyes for a page that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import pruneviz as pv
from pruneviz.widgets.mask_explorer import MaskExplorer

if TYPE_CHECKING:
    from playwright.sync_api import Page

METHODS = ("random:erk", "random:uniform", "magnitude", "snip", "grasp", "snip:layerwise")
THIN = "\u202f"  # between a number and its percent sign

# What the page shows of the state it is in, read from its text as a reader would.
SHOWN = """root => {
  const number = text => text === "–" ? null : Number(text.replaceAll(",", ""));
  const rows = [...root.querySelectorAll("tbody tr")];
  return {
    sparsity: root.querySelector(".pv-readout label strong").textContent,
    kept: number(root.querySelector(".pv-readout p strong").textContent),
    layers: rows.map(row => number(row.querySelector(".pv-col-kept span").textContent)),
    shares: rows.map(row => row.querySelector(".pv-col-share").textContent),
    collapsed: rows.map(row => row.querySelector(".pv-icon-alert") !== null),
    notes: root.querySelector(".pv-notes").textContent,
    warned: root.querySelector(".pv-note-alert") !== null,
  };
}"""
# The same at every point of the slider, in one call: [per point].
SWEEP = """root => {
  const shown = SHOWN;
  const slider = root.querySelector("input[type=range]");
  return Array.from({ length: Number(slider.max) + 1 }, (_, index) => {
    slider.value = index;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    return shown(root);
  });
}""".replace("SHOWN", SHOWN)

# The contrast of each text to what is behind it, the least first: [ratio, text].
CONTRAST = """root => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const bytes = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = color => [0.2126, 0.7152, 0.0722].reduce((sum, w, k) => sum + w * linear(color[k] / 255), 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = bytes(getComputedStyle(node).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.getClientRects().length) continue;
    if (node.closest(".pv-hidden, [aria-disabled=true]")) continue;
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(bytes(ink)), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), text.data]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""


def small_problem() -> pv.Problem:
    """Four layers that keep all their shapes apart: 1 and 6 inputs, kernels, two matrices."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 24),
        nn.Linear(24, 10),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5)
    x = torch.randn(20, 1, 8, 8, generator=generator)
    return pv.Problem(model, [(x, torch.arange(20) % 10)])


def first(page: Page) -> Any:
    return page.locator(".pv-explorer").first


def shown(page: Page) -> dict[str, Any]:
    return first(page).evaluate(SHOWN)


def choose(page: Page, title: str) -> None:
    first(page).get_by_role("radio", name=title, exact=True).check(force=True)


def slide(page: Page, sparsity: float, explorer: MaskExplorer) -> None:
    first(page).get_by_role("slider").fill(str(explorer.data["grid"].index(sparsity)))
