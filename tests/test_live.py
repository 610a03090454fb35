"""Live controls without a browser: what they compute, what cancelling leaves, and what a page gets of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from measured import KINDS
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.widgets.interaction import Interaction
from pruneviz.widgets.live_controls import Live

KIND: dict[str, type[Interaction]] = {
    "mask_explorer": pv.widgets.MaskExplorer,
    "spectrum": pv.widgets.Spectrum,
    "depth": pv.widgets.Depth,
    "agreement": pv.widgets.Agreement,
    "microscope": pv.widgets.Microscope,
}
OPTIONS: dict[str, dict[str, Any]] = {"microscope": {"count": 2}, "mask_explorer": {"grid": (0.0, 0.5, 0.9)}}
SECONDS = 60.0


def small(**keywords: Any) -> nn.Module:
    return pv.models.create("mlp", width=0.06, **keywords)


def options_of(kind: str) -> dict[str, Any]:
    measured = {} if kind == "microscope" else {"methods": ("snip", "magnitude"), "grid": (0.0, 0.5, 0.9)}
    return measured | OPTIONS.get(kind, {})


@pytest.fixture(scope="module")
def data() -> pv.data.ImageData:
    return pv.data.load("digits")


def live(kind: str, data: pv.data.ImageData, **more: Any) -> Live:
    return pv.widgets.live(
        KIND[kind], data, **{"networks": {"small": small}, "per_class": (1, 2, 1000)} | options_of(kind) | more
    )


def directly(kind: str, data: pv.data.ImageData, init: str, per_class: int, seed: int) -> Interaction:
    """The same without controls."""
    model = small(input_shape=data.input_shape, classes=data.classes, init=init, seed=seed)
    problem = pv.Problem(model, pv.data.scoring_batches(data, per_class=per_class, seed=seed))
    return KIND[kind](problem, **options_of(kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KIND)
def test_each_kind_is_computed_anew_from_what_the_controls_say(data: pv.data.ImageData, kind: str) -> None:
    shown = live(kind, data)
    assert shown.interaction.data == directly(kind, data, "kaiming_normal", 1, 0).data
    first = shown.interaction
    shown.init.value = "orthogonal"
    assert shown.wait(SECONDS)
    shown.per_class.value = 2
    assert shown.wait(SECONDS)
    shown.seed.value = 7
    assert shown.wait(SECONDS)
    assert shown.error == ""
    assert shown.interaction is not first
    assert shown.children[-1] is shown.interaction
    assert shown.interaction.data == directly(kind, data, "orthogonal", 2, 7).data
    assert shown.interaction.data != first.data
    assert shown.message.value == "Shown: small, orthogonal, 2 images per class, seed 7"
    assert (shown.cancel.disabled, shown.compute.disabled, shown.bar.layout.display) == (True, True, "none")


def test_what_was_chosen_stays_chosen(data: pv.data.ImageData) -> None:
    networks = {"small": small, "lenet": lambda **keywords: pv.models.create("lenet_300_100", width=0.05, **keywords)}
    shown = live("mask_explorer", data, networks=networks, layer="fc1.weight")
    shown.interaction.set_state({"method": "magnitude", "sparsity": 0.5})
    shown.network.value = "lenet"
    assert shown.wait(SECONDS)
    assert (shown.interaction.method, shown.interaction.sparsity) == ("magnitude", 0.5)
    assert len(shown.interaction.data["layers"]) == 3


class Gate:
    """A network that is not made before it is opened, so that a test decides how long a computation takes."""

    def __init__(self) -> None:
        self.open, self.reached, self.made = threading.Event(), threading.Event(), 0

    def __call__(self, **keywords: Any) -> nn.Module:
        self.made += 1
        if self.made > 1:
            self.reached.set()
            assert self.open.wait(SECONDS)
        return small(**keywords)


def test_cancelling_leaves_the_last_picture(data: pv.data.ImageData) -> None:
    gate = Gate()
    shown = live("depth", data, networks={"slow": gate})
    before = shown.interaction
    shown.seed.value = 1
    assert gate.reached.wait(SECONDS)
    assert (shown.cancel.disabled, shown.bar.layout.display) == (False, None)
    assert not shown.wait(0.01)
    shown.cancel.click()
    said = shown.message.value
    assert said == "Cancelled. Shown: slow, kaiming_normal, 1 image per class, seed 0"
    assert (shown.cancel.disabled, shown.compute.disabled) == (True, False)
    gate.open.set()
    assert shown.wait(SECONDS)
    assert shown.interaction is before
    assert shown.children[-1] is before
    assert before.comm is not None
    assert shown.message.value == said  # nothing is said after the end
    assert shown.shown.seed == 0
    shown.compute.click()  # what the controls say, after all
    assert shown.wait(SECONDS)
    assert shown.shown.seed == 1
    assert before.comm is None  # closed, or the kernel would keep each picture


def test_the_last_change_wins(data: pv.data.ImageData) -> None:
    gate = Gate()
    shown = live("depth", data, networks={"slow": gate})
    shown.seed.value = 1
    assert gate.reached.wait(SECONDS)
    shown.seed.value = 2
    shown.seed.value = 3
    gate.open.set()
    assert shown.wait(SECONDS)
    assert shown.shown.seed == 3
    assert gate.made == 3  # the first one, seed 1 which had begun, and seed 3; seed 2 was never begun


def test_an_error_is_one_line_and_leaves_the_last_picture(data: pv.data.ImageData) -> None:
    shown = live("depth", data)
    before = shown.interaction
    shown.per_class.value = 1000
    assert shown.wait(SECONDS)
    assert shown.message.value.startswith("Not computed: 1 x 1000 images per class are more than there are")
    assert shown.error in shown.message.value
    assert shown.interaction is before
    assert (shown.compute.disabled, shown.cancel.disabled) == (False, True)

    def broken(**keywords: Any) -> nn.Module:
        if keywords["seed"]:
            raise RuntimeError("two\nlines")
        return small(**keywords)

    shown = live("depth", data, networks={"broken": broken})
    shown.seed.value = 1
    assert shown.wait(SECONDS)
    assert shown.message.value == "Not computed: two lines"
    shown.seed.value = 0
    assert shown.wait(SECONDS)
    assert shown.error == ""


def test_progress_goes_forward(data: pv.data.ImageData) -> None:
    shown = live("depth", data)
    bars: list[float] = []
    words: list[str] = []
    shown.bar.observe(lambda change: bars.append(change["new"]), names="value")
    shown.message.observe(lambda change: words.append(change["new"]), names="value")
    shown.seed.value = 1
    assert shown.wait(SECONDS)
    assert bars == sorted(bars)
    assert len(bars) == 6  # the dense network is at 0, where the bar was; then two methods at three sparsities
    assert any("SNIP at 50.0%" in text for text in words)


def test_a_page_gets_the_interaction_and_no_controls(data: pv.data.ImageData) -> None:
    shown = live("depth", data)
    bundle: Mapping[str, str] = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/html"] == shown.interaction.html()
    assert "Initialization" not in bundle["text/html"]
    assert repr(shown).startswith("Live(Depth(measure='gradient'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"networks": ("lenet_300_101",)}, "did you mean 'lenet_300_100'"),
        ({"networks": {}}, "networks is empty"),
        ({"inits": ("kaiming",)}, "initialization 'kaiming'"),
        ({"per_class": (0,)}, "per_class 0"),
        ({"seed": -1}, "seed -1"),
        ({"measure": "x"}, "measure 'x'"),
    ],
)
def test_bad_arguments_are_named(data: pv.data.ImageData, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        live("depth", data, **arguments)


def test_all_kinds_over_a_problem_are_here() -> None:
    """So that a new one is tested too."""
    assert set(KIND) == {"mask_explorer", *KINDS}


def test_a_title_can_follow_what_is_shown(data: pv.data.ImageData) -> None:
    shown = live("depth", data, title=lambda setting: f"{setting.network}, seed {setting.seed}")
    assert shown.interaction.data["title"] == "small, seed 0"
    shown.seed.value = 4
    assert shown.wait(SECONDS)
    assert shown.interaction.data["title"] == "small, seed 4"
    assert "small, seed 4" in shown.interaction.html()
