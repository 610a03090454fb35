"""Live controls: change the network, its initialization, the scoring batch or the seed, and see it computed again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import traitlets
from torch import nn

from pruneviz import models
from pruneviz.data import ImageData, load, scoring_batches
from pruneviz.errors import InputError, check_choice, check_positive, check_seed
from pruneviz.problem import Problem
from pruneviz.widgets.interaction import Interaction
from pruneviz.widgets.progress import Cancelled, listening

INITS: tuple[str, ...] = ("kaiming_normal", "xavier_normal", "orthogonal")
#: A network of one's own: `make(input_shape=..., classes=..., init=..., seed=...)`, as `models.create` without a name.
Maker = Callable[..., nn.Module]


@dataclass(frozen=True)
class Setting:
    """What is computed: a network's name, an initialization, images per class in the scoring batch, and a seed."""

    network: str
    init: str
    per_class: int
    seed: int

    def __str__(self) -> str:
        """In words, as the controls say them."""
        images = f"{self.per_class} image{'s' * (self.per_class > 1)} per class"
        return f"{self.network}, {self.init}, {images}, seed {self.seed}"


def live(
    kind: type[Interaction],
    data: ImageData | str = "digits",
    *,
    networks: Sequence[str] | Mapping[str, Maker] = ("lenet_300_100", "mlp"),
    inits: Sequence[str] = INITS,
    per_class: Sequence[int] = (5, 1, 2, 10, 20),
    seed: int = 0,
    problem: Mapping[str, Any] | None = None,
    **options: Any,
) -> Live:
    """An interaction with controls above it that change what it is computed from; for JupyterLab.

    A change is computed in the background, with a bar that shows how far it is and a button that cancels it. Until it
    is done, and if it is cancelled or fails, the last picture stays. Where an executed notebook is a page, the
    interaction stands alone, because controls need a kernel. For example:

        pv.widgets.live(pv.widgets.Spectrum, seed=3)

    The seed draws the network's weights and the images of the scoring batch. While something is computed, code that
    draws from torch's global random state in other cells may find it put back.

    Args:
        kind: `MaskExplorer`, `Spectrum`, `Depth`, `Agreement` or `Microscope`, or another class whose first argument
            is a problem.
        data: what the scoring batches are drawn from; a name is loaded, see `pruneviz.data.load`.
        networks: names of `pruneviz.models.MODELS`; or networks of your own by name, as functions that take the
            keywords input_shape, classes, init and seed. The first one is computed at once.
        inits: initializations to choose from, names of `pruneviz.models.INITS`.
        per_class: images of each class in the scoring batch, to choose from; the first one is computed at once.
        seed: the first one.
        problem: further arguments of `pruneviz.Problem`, such as batchnorm.
        options: arguments of `kind`. Its title may be a function from the `Setting` to a text.

    Raises:
        InputError: an unknown name, nothing to choose from, or whatever the first computation raises. Later ones say
            in one line what is wrong.
    """
    images = load(data) if isinstance(data, str) else data
    if not isinstance(networks, Mapping):
        networks = {check_choice("model", name, models.MODELS): _of_the_papers(name) for name in networks}
    choices: dict[str, list[Any]] = {
        "networks": list(networks),
        "inits": [check_choice("initialization", init, models.INITS) for init in inits],
        "per_class": [check_positive("per_class", number) for number in per_class],
    }
    for name, known in choices.items():
        if not known:
            raise InputError(f"{name} is empty; accepted is at least one to choose")
    makers = dict(networks)

    def make(setting: Setting, state: Mapping[str, Any]) -> Interaction:
        shape = {"input_shape": images.input_shape, "classes": images.classes}
        network = makers[setting.network](**shape, init=setting.init, seed=setting.seed)
        parameter = next(network.parameters())
        batches = scoring_batches(images, per_class=setting.per_class, seed=setting.seed, dtype=parameter.dtype)
        title = options.get("title")
        given = options | ({"title": title(setting)} if callable(title) else {})
        made = kind(Problem(network.to(batches[0][0].device), batches, **(problem or {})), **given)
        restore(made, state)
        return made

    first = Setting(choices["networks"][0], choices["inits"][0], choices["per_class"][0], check_seed(seed))
    return Live(make, first, **choices)


def restore(interaction: Interaction, state: Mapping[str, Any]) -> None:
    """Show what was chosen in another interaction, as far as this one has it."""
    for name, value in state.items():
        try:
            setattr(interaction, name, value)
        except (InputError, traitlets.TraitError):
            continue  # a layer of another network


def chosen_in(interaction: Interaction) -> dict[str, Any]:
    """What is chosen in an interaction, by name."""
    return {name: getattr(interaction, name) for name in interaction.state}


class Live(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Controls, and the interaction that was last computed with them; made by `live`.

    Attributes:
        interaction: what is shown.
        shown: the `Setting` that it was computed with.
        error: what went wrong last, or "".
    """

    def __init__(
        self,
        make: Callable[[Setting, Mapping[str, Any]], Interaction],
        first: Setting,
        networks: Sequence[str],
        inits: Sequence[str],
        per_class: Sequence[int],
    ) -> None:
        self._make, self.shown, self.error = make, first, ""
        self._run: _Run | None = None
        self._lock = threading.RLock()  # a run ends, or is cancelled, but never both
        self.interaction = make(first, {})
        wide = {"style": {"description_width": "initial"}, "layout": {"width": "auto"}}
        self.network = ipywidgets.Dropdown(options=networks, description="Network", **wide)
        self.init = ipywidgets.Dropdown(options=inits, description="Initialization", **wide)
        self.per_class = ipywidgets.Dropdown(options=per_class, description="Images per class", **wide)
        self.seed = ipywidgets.BoundedIntText(
            first.seed, min=0, max=2**31 - 1, description="Seed", **wide | {"layout": {"width": "8em"}}
        )
        self.compute = ipywidgets.Button(description="Compute", icon="refresh", disabled=True)
        self.cancel = ipywidgets.Button(description="Cancel", icon="times", disabled=True)
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "12em", "display": "none"})
        self.message = ipywidgets.Label(f"Shown: {first}")
        self._inputs = (self.network, self.init, self.per_class, self.seed)
        for control in self._inputs:
            control.observe(self._changed, names="value")
        self.compute.on_click(lambda _: self._changed())
        self.cancel.on_click(lambda _: self.stop())
        flow = ipywidgets.Layout(flex_flow="row wrap", grid_gap="0.25em 1em")
        self._head = (
            ipywidgets.HBox(self._inputs, layout=flow),
            ipywidgets.HBox((self.compute, self.cancel, self.bar, self.message), layout=flow),
        )
        super().__init__((*self._head, self.interaction))

    @property
    def setting(self) -> Setting:
        """What the controls say."""
        return Setting(*(control.value for control in self._inputs))

    def stop(self) -> None:
        """Cancel what is being computed, if anything is; the last picture stays."""
        with self._lock:
            run = self._run
            if run is not None and run.is_wanted():
                run.cancelled.set()
                self._finish(f"Cancelled. Shown: {self.shown}")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is computed any more, at most so many seconds; whether that is so."""
        run = self._run
        if run is not None:
            run.thread.join(timeout)
        return run is None or not run.thread.is_alive()

    def _changed(self, _: Any = None) -> None:
        with self._lock:
            before, setting = self._run, self.setting
            if before is not None:
                before.cancelled.set()
            self._run = _Run(self, setting, before)
            self.error = ""
            self.bar.value, self.bar.layout.display = 0.0, None
            self.compute.disabled, self.cancel.disabled = True, False
            self.message.value = f"Computing {setting} …"
            self._run.thread.start()

    def _show(self, made: Interaction, setting: Setting) -> None:
        last, self.interaction, self.shown = self.interaction, made, setting
        restore(made, chosen_in(last))  # what was chosen meanwhile
        self.children = (*self._head, made)
        last.close()
        self._finish(f"Shown: {setting}")

    def _finish(self, text: str, error: str = "") -> None:
        self.error = error
        self.compute.disabled, self.cancel.disabled = self.setting == self.shown, True
        self.bar.layout.display, self.message.value = "none", text

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        shown = super()._repr_mimebundle_(**kwargs)
        if shown is not None:
            # A page has no kernel: it gets the interaction alone, without controls that would do nothing.
            shown["text/html"] = self.interaction._repr_mimebundle_(**kwargs)[0]["text/html"]
        return shown

    def __repr__(self) -> str:
        """What is shown, in one line."""
        return f"Live({self.interaction!r}: {self.shown})"


class _Run:
    """One computation in a thread of its own, which waits for the one before to end.

    What it tells of its progress goes to the controls. Once `cancelled` is set it ends at its next step, and what it
    has made until then is dropped.
    """

    def __init__(self, owner: Live, setting: Setting, before: _Run | None) -> None:
        self.owner, self.setting, self.before = owner, setting, before
        self.cancelled, self.over = threading.Event(), False
        self.thread = threading.Thread(target=self._work, name=f"pruneviz: {setting}", daemon=True)

    def is_wanted(self) -> bool:
        """Whether it is at work, and nobody has cancelled it."""
        return not self.over and not self.cancelled.is_set()

    def _work(self) -> None:
        if self.before is not None:
            self.before.thread.join()
            self.before = None
        owner = self.owner
        try:
            with listening(self._heard):
                self._heard(0.0, "Making the network")
                made = owner._make(self.setting, chosen_in(owner.interaction))
        except Cancelled:
            return
        except Exception as error:  # whatever it is, the reader sees one line, and the last picture
            said = " ".join(str(error).split()) or type(error).__name__
            self._end(lambda: owner._finish(f"Not computed: {said}", said))
            return
        if not self._end(lambda: owner._show(made, self.setting)):
            made.close()

    def _end(self, say: Callable[[], None]) -> bool:
        """Say what has come of it, if anybody still wants to know; whether that was so."""
        with self.owner._lock:
            wanted = self.is_wanted()
            self.over = True
            if wanted:
                say()
            return wanted

    def _heard(self, done: float | None, what: str) -> None:
        with self.owner._lock:
            if self.cancelled.is_set():
                raise Cancelled
            if done is not None:
                self.owner.bar.value = done
            self.owner.message.value = f"{what} …"


def _of_the_papers(name: str) -> Maker:
    return lambda **keywords: models.create(name, **keywords)
