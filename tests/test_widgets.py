"""The mask explorer without a browser: its traits, and the live and the HTML form of one object."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from explorer import METHODS, small_problem
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.widgets import cuts, page
from pruneviz.widgets.mask_explorer import MaskExplorer


@pytest.fixture
def problem() -> pv.Problem:
    return small_problem()


def test_masks_are_those_of_allocate_and_can_be_observed(problem: pv.Problem) -> None:
    explorer = MaskExplorer(problem, METHODS, sparsity=0.8)
    seen: list[tuple[str, object]] = []
    explorer.observe(lambda change: seen.append((change["name"], change["new"])), names=["method", "sparsity", "layer"])
    explorer.method, explorer.sparsity, explorer.layer = "snip", 0.95, "0.weight"
    assert seen == [("method", "snip"), ("sparsity", 0.95), ("layer", "0.weight")]
    expected = pv.allocate(pv.score("snip", problem), 0.95)
    assert all(torch.equal(explorer.masks[name], mask) for name, mask in expected.items())
    assert all(torch.equal(explorer.scores[n], s) for n, s in pv.score("snip", problem).items())


def test_a_method_is_scored_when_first_chosen(problem: pv.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def counting(name: str, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        called.append(name)
        return pv.score(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cuts, "score", counting)
    explorer = MaskExplorer(problem, METHODS)
    status: list[str] = []
    explorer.observe(lambda change: status.append(change["new"]), names="status")
    assert called == ["random"]
    explorer.method = "random:uniform"  # the same scores, cut otherwise
    assert called == ["random"]
    explorer.set_state({"method": "snip"})  # as a browser chooses
    explorer.method = "random:erk"
    explorer.method = "snip"
    assert called == ["random", "snip"]
    assert any("SNIP" in text for text in status)
    assert explorer.status == ""
    known = {m["id"] for m in explorer.data["methods"] if m["levels"] is not None}
    assert known == {"random:erk", "random:uniform", "snip"}


def test_a_method_that_only_the_html_form_has_needed_is_sent_when_chosen(problem: pv.Problem) -> None:
    explorer = MaskExplorer(problem, METHODS)
    explorer.html()
    explorer.set_state({"method": "snip"})
    assert "snip" in {m["id"] for m in explorer.data["methods"] if m["levels"] is not None}


def test_the_live_data_hold_bytes_that_count_like_allocate(problem: pv.Problem) -> None:
    explorer = MaskExplorer(problem, ("magnitude",))
    state = explorer.get_state()
    data = state["data"]
    raw = np.frombuffer(data["methods"][0]["levels"], dtype=np.uint8)
    assert raw.size == sum(layer["size"] for layer in data["layers"])
    scores = pv.score("magnitude", problem)
    for index, sparsity in enumerate(data["grid"]):
        assert int((raw > index).sum()) == pv.masks.kept(pv.allocate(scores, sparsity))


def test_sparsity_goes_to_the_nearest_point_of_the_grid(problem: pv.Problem) -> None:
    explorer = MaskExplorer(problem, ("magnitude",), grid=(0.0, 0.5, 0.9), sparsity=0.6)
    assert explorer.sparsity == 0.5
    explorer.sparsity = 0.99
    assert explorer.sparsity == 0.9
    assert pv.masks.kept(explorer.masks) == round(0.1 * pv.masks.total(explorer.masks))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("snpi",)}, "did you mean 'snip'"),
        ({"methods": ("random:globl",)}, "did you mean 'global'"),
        ({"methods": ()}, "methods is empty"),
        ({"method": "grasp", "methods": ("snip",)}, "method 'grasp'"),
        ({"layer": "conv1"}, "layer 'conv1'"),
        ({"scale": "liner"}, "did you mean 'linear'"),
        ({"sparsity": 1.2}, "1.2"),
        ({"options": {"grasp": {"temprature": 2.0}}}, "did you mean 'temperature'"),
    ],
)
def test_bad_arguments_are_named(problem: pv.Problem, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MaskExplorer(problem, **arguments)


def test_bad_values_of_traits_are_named(problem: pv.Problem) -> None:
    explorer = MaskExplorer(problem, ("magnitude",))
    for name, value in (("method", "snip"), ("layer", "x"), ("sparsity", -0.1), ("scale", "log")):
        with pytest.raises(InputError, match=str(value)):
            setattr(explorer, name, value)


def test_a_scorer_that_fails_says_so_in_the_picture(problem: pv.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        if name == "snip":
            raise InputError("the loss of batch 0 is nan; scores need a finite loss")
        return pv.score(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cuts, "score", failing)
    explorer = MaskExplorer(problem, ("magnitude", "snip"))
    with pytest.raises(InputError, match="batch 0"):
        explorer.method = "snip"
    assert "batch 0" in explorer.status
    explorer.method = "magnitude"
    assert explorer.status == ""


def test_looking_changes_nothing(problem: pv.Problem) -> None:
    before = {n: p.clone() for n, p in problem.model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    explorer = MaskExplorer(problem, METHODS)
    explorer.html()
    assert all(torch.equal(p, before[n]) for n, p in problem.model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(p.grad is None for p in problem.model.parameters())


def test_titles_say_the_scope_where_it_matters() -> None:
    assert [cuts.title(m) for m in ("snip", "random:erk", "random", "snip:layerwise")] == [
        "SNIP", "Random (ERK)", "Random (global)", "SNIP (layerwise)",
    ]  # fmt: skip


def test_axes_are_named_by_what_the_layer_is() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.ConvTranspose2d(8, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    problem = pv.Problem(model, [(torch.zeros(1, 4, 4, 4), torch.zeros(1, dtype=torch.long))])
    layers = cuts.Cuts(problem, ("magnitude",)).data("", bytes, ())["layers"]
    assert [layer["axes"] for layer in layers] == [
        ["outputs", "inputs per group"], ["inputs", "outputs"], ["outputs", "inputs"],
    ]  # fmt: skip


class Reader(HTMLParser):
    """A browser's view of a fragment: what the JSON script holds, and all other text."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.json, self.text = "", ""
        self.feed(fragment)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and not self.json:
            self.json = data
        else:
            self.text += data


def test_one_bundle_holds_both_forms(problem: pv.Problem) -> None:
    shown, _ = MaskExplorer(problem, METHODS)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert 'data-pv-widget="mask_explorer"' in shown["text/html"]
    assert shown["text/plain"].startswith("MaskExplorer(method='random:erk'")


def test_the_inline_data_count_like_allocate(problem: pv.Problem) -> None:
    """Every method at every grid point, from the fragment alone."""
    reader = Reader(MaskExplorer(problem, METHODS, sparsity=0.9).html())
    data = json.loads(reader.json)
    state = {"method": "random:erk", "sparsity": 0.9, "layer": "5.weight", "scale": "logarithmic"}
    assert data["state"] == state
    starts = np.cumsum([0] + [layer["size"] for layer in data["layers"]])
    for method in data["methods"]:
        raw = np.frombuffer(base64.b64decode(method["levels"]), dtype=np.uint8)
        scores = pv.score(method["id"].partition(":")[0], problem)
        for index, sparsity in enumerate(data["grid"][: method["points"]]):
            expected = pv.masks.counts(pv.allocate(scores, sparsity, method["scope"]))
            kept = [int((raw[a:b] > index).sum()) for a, b in pairwise(starts)]
            assert kept == [k for k, _ in expected.values()], (method["id"], sparsity)


def test_the_fallback_table_has_the_numbers(problem: pv.Problem) -> None:
    explorer = MaskExplorer(problem, ("magnitude", "random:uniform"), sparsity=0.9)
    counts = pv.masks.counts(pv.allocate(pv.score("magnitude", problem), 0.9))
    text = Reader(explorer.html()).text
    for kept, total in counts.values():
        assert f"{kept:,} of {total:,} ({kept / total:.2%})" in text
    explorer.sparsity = 0.999
    assert "not possible" in Reader(explorer.html()).text


def test_nothing_in_the_data_can_end_the_script() -> None:
    title = "</script><script>alert(1)</script><!-- & ]]>"
    reader = Reader(page.embed("mask_explorer", {"title": title}, page.table("c", ["<b>"], [["<i>", "&"]])))
    assert json.loads(reader.json) == {"title": title}
    assert reader.scripts == [{"type": "application/json"}]
    assert "b" not in reader.tags
    assert "i" not in reader.tags


def test_what_cannot_be_embedded_is_named() -> None:
    with pytest.raises(InputError, match="mask_explorer"):
        page.embed("mask_explorr", {})
    with pytest.raises(InputError, match="JSON"):
        page.embed("mask_explorer", {"x": float("nan")})


def test_a_page_stays_light_up_to_a_hundred_thousand_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(250, 380), nn.Linear(380, 13))
    problem = pv.Problem(model, [(torch.zeros(2, 250), torch.zeros(2, dtype=torch.long))])
    explorer = MaskExplorer(problem, ("random:erk", "random:uniform", "magnitude", "random", "magnitude:layerwise"))
    assert sum(p.numel() for p in problem.weights.values()) > 99_000
    assert len(explorer.html()) < 1_000_000


def test_heavy_networks_get_the_table_alone_unless_asked(problem: pv.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruneviz.widgets.mask_explorer.MOST_INLINE", 100)
    called: list[str] = []
    monkeypatch.setattr(cuts, "score", lambda name, *a, **k: called.append(name) or pv.score(name, *a, **k))
    shown, _ = MaskExplorer(problem, METHODS)._repr_mimebundle_()
    assert "<table>" in shown["text/html"]
    assert "data-pv-widget" not in shown["text/html"]
    assert called == ["random"]
    forced, _ = MaskExplorer(problem, METHODS, static=True)._repr_mimebundle_()
    assert "data-pv-widget" in forced["text/html"]


def test_save_writes_one_file_that_needs_nothing_else(problem: pv.Problem, tmp_path: Path) -> None:
    path = MaskExplorer(problem, ("magnitude",), title="A <b>small</b> network").save(tmp_path / "e.html")
    text = path.read_text(encoding="utf-8")
    assert "<title>A &lt;b&gt;small&lt;/b&gt; network</title>" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
