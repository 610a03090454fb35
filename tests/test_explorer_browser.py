"""The mask explorer in a real browser, as a page's script and as a notebook's module."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.widgets import bundle
from pruneviz.widgets import page as static
from pruneviz.widgets.mask_explorer import MaskExplorer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
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


@pytest.fixture(scope="module")
def problem() -> pv.Problem:
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


@pytest.fixture(scope="module")
def explorer(problem: pv.Problem) -> MaskExplorer:
    return MaskExplorer(problem, METHODS, method="snip", sparsity=0.9, title="A small network")


@pytest.fixture(scope="module")
def file(explorer: MaskExplorer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with two explorers of the same network, on the disk."""
    path = tmp_path_factory.mktemp("page") / "two.html"
    static.save(path, "<h1>Two</h1>", explorer.html(), explorer.html())
    return path.as_uri()


def first(page: Page) -> Any:
    return page.locator(".pv-explorer").first


def shown(page: Page) -> dict[str, Any]:
    return first(page).evaluate(SHOWN)


def choose(page: Page, title: str) -> None:
    first(page).get_by_role("radio", name=title, exact=True).check(force=True)


def slide(page: Page, sparsity: float, explorer: MaskExplorer) -> None:
    first(page).get_by_role("slider").fill(str(explorer.data["grid"].index(sparsity)))


# ------------------------------------------------------------------------------------------------- numbers


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


# ------------------------------------------------------------------------- the module as a notebook uses it

LIVE = """async ([source, state, levels, missing]) => {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { render } = (await import(address)).default;
  const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const withLevels = without => ({
    ...state.data,
    methods: state.data.methods.map(m => ({ ...m, levels: m.id === without ? null : bytes(levels[m.id]) })),
  });
  const values = { ...state, data: withLevels(missing) };
  const listeners = [];
  window.saved = [];
  window.model = {
    get: name => values[name],
    set(name, value) {
      values[name] = value;
      listeners.filter(([event]) => event === `change:${name}`).forEach(([, f]) => f());
    },
    on: (event, f) => listeners.push([event, f]),
    off(event, f) { listeners.splice(listeners.findIndex(([e, g]) => e === event && g === f), 1); },
    save_changes() { window.saved.push({ method: values.method, sparsity: values.sparsity, layer: values.layer }); },
  };
  window.arrive = () => window.model.set("data", withLevels(null));
  window.listening = () => listeners.length;
  window.escaped = 0;
  document.body.addEventListener("keydown", () => { window.escaped += 1; });
  const el = document.body.appendChild(document.createElement("div"));
  window.cleanup = render({ model: window.model, el });
}"""


@pytest.fixture
def live(page: Page, explorer: MaskExplorer) -> Callable[[str], None]:
    """Render the explorer's own module against a model with binary levels, as a kernel sends them."""
    explorer.html()  # all methods
    levels = {m: base64.b64encode(explorer._cuts.levels(m).tobytes()).decode() for m in METHODS}
    data = explorer._cuts.data("", lambda raw: None, METHODS)

    def start(missing: str) -> None:
        page.goto("about:blank")
        page.add_style_tag(content=bundle.style())
        state = {"data": data, "method": "snip", "sparsity": 0.9, "layer": next(iter(explorer.scores)), "status": ""}
        page.evaluate(LIVE, [str(explorer._esm), state, levels, missing])

    return start


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
    assert page.evaluate("saved.at(-1)") == {"method": "grasp", "sparsity": 0.9, "layer": next(iter(explorer.scores))}
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


# ---------------------------------------------------------------------------------------------- the address


def test_the_address_follows_the_reader(page: Page, file: str, explorer: MaskExplorer) -> None:
    page.goto(file)
    assert page.evaluate("location.hash") == ""
    choose(page, "GraSP")
    slide(page, 0.98, explorer)
    first(page).locator("button[title='2.weight']").click()
    page.wait_for_function("location.hash === '#mask-explorer=grasp,0.98,2.weight'")
    second = page.locator(".pv-explorer").nth(1)
    second.get_by_role("button", name="Remove more weights").click()
    layer = list(explorer.scores)[2]
    expected = f"#mask-explorer=grasp,0.98,2.weight&mask-explorer-2=snip,0.905,{layer}"
    page.wait_for_function("expected => location.hash === expected", arg=expected)
    assert page.evaluate("history.length") == 2  # the blank page and this one: no entry per move
    here = page.url
    page.goto("about:blank")
    page.goto(here)
    assert shown(page)["sparsity"] == f"98.0{THIN}%"
    assert first(page).get_by_role("radio", name="GraSP").is_checked()
    assert first(page).locator("button[title='2.weight']").get_attribute("aria-pressed") == "true"
    assert second.evaluate(SHOWN)["sparsity"] == f"90.5{THIN}%"


def test_a_link_in_the_text_sets_the_picture(page: Page, file: str) -> None:
    page.goto(file)
    page.evaluate("location.hash = '#mask-explorer=random:erk,0.5,0.weight'")
    page.wait_for_function("document.querySelector('.pv-readout strong').textContent.startsWith('50')")
    assert first(page).get_by_role("radio", name="Random (ERK)").is_checked()


@pytest.mark.parametrize("hash_", ["two", "mask-explorer=snpi,2,x", "mask-explorer=%,%,%", "mask-explorer=", "a=b&c"])
def test_an_address_of_something_else_changes_nothing(page: Page, file: str, hash_: str) -> None:
    page.goto(f"{file}#{hash_}")
    assert shown(page)["sparsity"] == f"90.0{THIN}%"
    assert first(page).get_by_role("radio", name="SNIP", exact=True).is_checked()


# --------------------------------------------------------------------------------------- for every reader


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
    const [a, b] = [light(bytes(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), text.data]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""


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
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(100)
    after = canvas.evaluate(pixel)
    assert before != after
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_timeout(100)
    assert canvas.evaluate(pixel) == before


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


def test_texts_are_texts(page: Page, problem: pv.Problem, tmp_path: Path) -> None:
    """A title or a layer's name never becomes markup."""
    title = "</script><img src=x onerror=alert(1)> & co"
    page.goto(MaskExplorer(problem, ("magnitude",), title=title).save(tmp_path / "t.html").as_uri())
    assert first(page).locator(".pv-title").inner_text() == title
    assert page.locator("img").count() == 0
    assert json.loads(page.locator("script[type='application/json']").text_content())["title"] == title
