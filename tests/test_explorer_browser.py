"""The mask explorer in a real browser: its numbers and its picture, on a page and as a notebook's module."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from explorer import METHODS, SWEEP, THIN, choose, first, shown
from front_end import start
from torch import nn

import pruneviz as pv
from pruneviz.widgets import bundle
from pruneviz.widgets.mask_explorer import MaskExplorer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_every_count_on_the_page_is_that_of_allocate(page: Page, file: str, explorer: MaskExplorer) -> None:
    """All methods, all points of the slider, all layers; and the total is the rounded one where scopes promise it."""
    page.goto(file)
    weights = sum(layer["size"] for layer in explorer.data["layers"])
    for method in METHODS:
        first(page).locator(f"input[value='{method}']").check(force=True)
        scorer, _, scope = method.partition(":")
        scores = pv.score(scorer, explorer.problem)
        for sparsity, seen in zip(explorer.data["grid"], first(page).evaluate(SWEEP), strict=True):
            where = (method, sparsity)
            try:
                counts = pv.masks.counts(pv.allocate(scores, sparsity, scope or "global"))
            except pv.InputError:
                assert scope == "uniform", where
                assert "Not possible" in seen["notes"], where
                assert seen["layers"] == [None] * len(scores), where
                continue
            kept = [k for k, _ in counts.values()]
            assert seen["layers"] == kept, where
            assert seen["kept"] == sum(kept), where
            assert float(seen["sparsity"].split(THIN)[0]) / 100 == pytest.approx(sparsity, abs=1e-9), where
            assert seen["collapsed"] == [k == 0 for k in kept], where
            assert ("Layer collapse" in seen["notes"]) == (0 in kept), where
            assert seen["warned"] == (0 in kept), where
            asked = round((1 - sparsity) * weights)
            assert (sum(kept) != asked) == ("Each layer is cut alone" in seen["notes"]), where
            if scope != "layerwise":
                assert sum(kept) == asked, where


def test_the_sample_has_collapse_and_layerwise_rounding(explorer: MaskExplorer) -> None:
    """So that the test above is not empty."""
    scores = pv.score("snip", explorer.problem)
    cuts = [pv.allocate(scores, s) for s in explorer.data["grid"]]
    assert any(pv.masks.collapsed(masks) for masks in cuts)
    assert not pv.masks.collapsed(cuts[50])
    total = pv.masks.total(cuts[0])
    assert any(
        pv.masks.kept(pv.allocate(scores, s, "layerwise")) != round((1 - s) * total) for s in explorer.data["grid"]
    )


def test_rounding_is_pythons(page: Page) -> None:
    source = (Path(bundle.__file__).parent / "levels.js").read_text(encoding="utf-8")
    values = [k / 2 for k in range(40)] + [
        (1 - s / 1000) * n for s in range(0, 1000, 7) for n in (5, 60, 67_600, 272_474)
    ]
    rounded = page.evaluate(
        """async ([source, values]) => {
          const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
          return values.map(module.roundHalfEven);
        }""",
        [source, values],
    )
    assert rounded == [round(v) for v in values]


@pytest.mark.parametrize("index", range(4))
def test_the_picture_is_the_mask(page: Page, file: str, explorer: MaskExplorer, index: int) -> None:
    """Each weight's square, found from its place alone, has the colour of its mask."""
    page.goto(file)
    choose(page, "Magnitude")
    name = list(explorer.scores)[index]
    mask = pv.allocate(pv.score("magnitude", explorer.problem), 0.9)[name]
    first(page).locator(f"button[title='{name}']").click()
    picture = (
        first(page)
        .locator("canvas")
        .evaluate(
            """canvas => {
          const { width, height } = canvas;
          const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
          const color = getComputedStyle(canvas).color.match(/\\d+/g).map(Number);
          const is = at => color.every((c, k) => data[4 * at + k] === c);
          return { width, height, kept: Array.from({ length: width * height }, (_, at) => is(at) ? 1 : 0) };
        }"""
        )
    )
    image = np.array(picture["kept"]).reshape(picture["height"], picture["width"])
    out, into, *kernel = mask.shape
    kh, kw = kernel or (1, 1)
    turned = out * kh > 1.5 * into * kw
    tiles = mask.reshape(out, into, kh, kw).numpy()
    tiles = tiles.transpose(1, 0, 2, 3) if turned else tiles
    rows, cols = tiles.shape[:2]
    pitch_y, pitch_x = (picture["height"] + 3) // rows, (picture["width"] + 3) // cols  # a gap is at most 2 wide
    for r, c, y, x in np.ndindex(*tiles.shape):
        at = (int(r * pitch_y + (y + 0.5) * (pitch_y - 2) / kh), int(c * pitch_x + (x + 0.5) * (pitch_x - 2) / kw))
        assert image[at] == tiles[r, c, y, x], (r, c, y, x)
    cell = round(math.sqrt(image.sum() / max(1, tiles.sum())))
    assert image.sum() == tiles.sum() * cell * cell
    empty = int((mask.flatten(1).sum(1) == 0).sum())
    label = first(page).locator("canvas").get_attribute("aria-label")
    assert f"; {empty or 'none'} of its {out} outputs left without a weight" in label
    assert f"{int(mask.sum()):,} of {mask.numel():,} kept" in label


def test_a_large_layer_is_drawn_as_densities(page: Page, tmp_path: Path) -> None:
    """Columns pruned in bands: the picture has the bands, and its caption says what a square is."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1200, 600, bias=False))
    with torch.no_grad():
        model[1].weight.fill_(0.001)
        model[1].weight[:, :600] = 1.0
    problem = pv.Problem(model, [(torch.zeros(1, 1200), torch.zeros(1, dtype=torch.long))])
    path = MaskExplorer(problem, ("magnitude",), sparsity=0.5).save(tmp_path / "large.html")
    page.goto(path.as_uri())
    halves = (
        first(page)
        .locator("canvas")
        .evaluate(
            """canvas => {
          const { width, height } = canvas;
          const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
          const colors = [0, 1].map(half => new Set());
          for (let at = 0; at < width * height; at++) {
            const x = at % width;
            if (x !== Math.floor(width / 2)) colors[x < width / 2 ? 0 : 1].add(data.slice(4 * at, 4 * at + 4).join());
          }
          return { colors: colors.map(c => [...c]), width };
        }"""
        )
    )
    assert [len(colors) for colors in halves["colors"]] == [1, 1]
    assert halves["colors"][0] != halves["colors"][1]
    assert halves["width"] < 400
    assert "the stronger, the more is kept" in first(page).locator(".pv-legend").inner_text()


# The levels of each method as a kernel sends them, in bytes; one method's come later. Keys that escape are counted.
BYTES = """([levels, missing]) => {
  const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const withLevels = (data, without) => ({
    ...data,
    methods: data.methods.map(m => ({ ...m, levels: m.id === without ? null : bytes(levels[m.id]) })),
  });
  window.revive = data => withLevels(data, missing);
  window.arrive = () => window.model.set("data", withLevels(window.model.get("data"), null));
  window.escaped = 0;
  document.body.addEventListener("keydown", () => { window.escaped += 1; });
}"""


@pytest.fixture
def live(page: Page, explorer: MaskExplorer) -> Callable[[str], None]:
    """Render the explorer's own module against a model with binary levels, all but those of one method."""
    explorer.html()  # all methods
    levels = {m: base64.b64encode(explorer._cuts.levels(m).tobytes()).decode() for m in METHODS}
    data = explorer._cuts.data("", lambda raw: None, METHODS)

    def started(missing: str) -> None:
        page.goto("about:blank")
        page.add_style_tag(content=bundle.style())
        page.evaluate(BYTES, [levels, missing])
        state = {"method": "snip", "sparsity": 0.9, "layer": next(iter(explorer.scores)), "scale": "logarithmic"}
        start(page, explorer, data, **state)

    return started


def test_the_notebooks_module_counts_the_same(page: Page, live: Callable[[str], None], explorer: MaskExplorer) -> None:
    live("grasp")
    scores = pv.score("snip", explorer.problem)
    for sparsity, seen in zip(explorer.data["grid"], first(page).evaluate(SWEEP), strict=True):
        assert seen["layers"] == [k for k, _ in pv.masks.counts(pv.allocate(scores, sparsity)).values()]


def test_a_method_without_levels_waits_for_the_kernel(
    page: Page, live: Callable[[str], None], explorer: MaskExplorer
) -> None:
    live("grasp")
    choose(page, "GraSP")
    layer = next(iter(explorer.scores))
    chosen = {"method": "grasp", "sparsity": 0.9, "layer": layer, "scale": "logarithmic"}
    assert page.evaluate("saved.at(-1)") == chosen
    page.evaluate("model.set('status', 'Scoring the weights with GraSP …')")
    assert first(page).get_by_role("status").inner_text() == "Scoring the weights with GraSP …"
    assert shown(page)["layers"] == [None] * 4
    page.evaluate("model.set('status', ''); arrive()")
    expected = pv.masks.counts(pv.allocate(pv.score("grasp", explorer.problem), 0.9))
    assert shown(page)["layers"] == [k for k, _ in expected.values()]
    page.evaluate("model.set('sparsity', 0.5)")  # from Python
    assert shown(page)["kept"] == round(0.5 * sum(n for _, n in expected.values()))
    page.evaluate("cleanup()")
    assert page.evaluate("listening()") == 0


def test_a_notebook_does_not_take_the_keys(page: Page, live: Callable[[str], None]) -> None:
    live("")
    slider = first(page).get_by_role("slider")
    before = int(slider.input_value())
    for key in ("ArrowRight", "ArrowUp", "Enter", "a"):
        slider.press(key)
    assert int(slider.input_value()) == before + 2
    assert page.evaluate("escaped") == 0
    slider.press("Control+s")  # saving is the notebook's
    assert page.evaluate("escaped") == 2  # the key and its modifier
