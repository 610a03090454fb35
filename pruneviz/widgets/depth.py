"""Gradients and signals by depth: what each layer gets, and passes on, before and after weights are removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import traitlets

from pruneviz.errors import check_choice
from pruneviz.masks import Masks, counts
from pruneviz.probes import GradientFlow, LayerSignal, gradient_flow, signal_propagation
from pruneviz.problem import Problem
from pruneviz.widgets import page
from pruneviz.widgets.cuts import title as title_of
from pruneviz.widgets.methods import METHODS, Methods, figures
from pruneviz.widgets.on_grid import OfMethod

Probes = tuple[GradientFlow, Mapping[str, LayerSignal]]

#: What can be shown of each layer.
MEASURES: dict[str, str] = {
    "gradient": "Squared gradient norm",
    "forward": "Forward signal",
    "backward": "Backward signal",
    "dead": "Dead units",
}


class Depth(OfMethod):
    """Choose what is measured, a method and a sparsity; see every layer of the masked network before the dense one's.

    Measured when it is made, for each method and sparsity: `pruneviz.gradient_flow`, and the moments of
    `pruneviz.signal_propagation`, together two gradients.

    Args:
        problem: model, batches and loss.
        methods: what can be chosen, "scorer" or "scorer:scope"; masks are those of `pruneviz.prune`.
        options: options of scorers, by the scorer's name.
        grid: the sparsities that can be chosen, increasing; None: 0, 0.5, 0.8, 0.9, 0.95, 0.98 and 0.99.
        method: the one shown first; the first of `methods` if None.
        sparsity: the one shown first, or the nearest of the grid.
        measure: "gradient", the squared norm of the loss's gradient over the weights that a layer keeps; "forward" and
            "backward", the mean squares of a layer's output and of the loss's derivative by it; or "dead", the share
            of its units that are 0 for all inputs.
        title: what is measured, in a few words.

    Attributes:
        method, sparsity, measure: what is shown; traits, which can be set and observed.

    Raises:
        InputError: an unknown name, a grid that cannot be used, or a loss that is not finite.
    """

    kind = "depth"
    state = ("measure", "method", "sparsity")

    measure = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        problem: Problem,
        methods: Sequence[str] = METHODS,
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        grid: Iterable[float] | None = None,
        method: str | None = None,
        sparsity: float = 0.9,
        measure: str = "gradient",
        title: str = "",
    ) -> None:
        made = Methods(problem, methods, options, grid)
        check_choice("method", first := method or next(iter(made.methods)), made.methods)
        check_choice("measure", measure, MEASURES)
        super().__init__(made, measured(made) | {"title": title}, method=first, sparsity=sparsity, measure=measure)

    def fallback(self) -> str:
        """The chosen measure of each layer, dense and by every method, at the chosen sparsity."""
        which = self.measure
        names = self.data["layers" if which == "gradient" else "uses"]
        columns = {"Dense": self.data["dense"]} | {
            title_of(method): self.data["entries"][method][self._index] for method in self._methods.methods
        }
        rows = [
            [name, *("not possible" if "limit" in entry else f"{entry[which][row]:.4g}" for entry in columns.values())]
            for row, name in enumerate(names)
        ]
        caption = f"{MEASURES[which]} by layer when {self.sparsity:.1%} of the weights are removed"
        return page.table(caption, ["layer", *columns], rows)

    @traitlets.validate("measure")
    def _known_measure(self, proposal: dict[str, Any]) -> str:
        return check_choice("measure", proposal["value"], MEASURES)


def measured(methods: Methods) -> dict[str, Any]:
    """The data of the interaction: every measure of all methods at all sparsities, printed digits only."""
    problem = methods.problem

    def of(dense: Probes, masks: Masks, _: float) -> dict[str, Any]:
        flow, layers = _probes(problem, masks)
        before = dense[0].norm_squared
        return _entry(flow, layers, masks) | {"share": figures(flow.norm_squared / before) if before else None}

    (flow, layers), entries = methods.measure("Signals of", lambda: _probes(problem, None), of)
    return {
        "uses": list(layers),
        "units": [layer.units for layer in layers.values()],
        "dense": _entry(flow, layers, None),
        "layers": list(methods.sizes),
        "sizes": list(methods.sizes.values()),
        "methods": methods.described(),
        "grid": list(methods.grid),
        "measures": [{"id": name, "title": heading} for name, heading in MEASURES.items()],
        "entries": entries,
    }


def _probes(problem: Problem, masks: Masks | None) -> Probes:
    return gradient_flow(problem, masks), signal_propagation(problem, masks, ("moments",)).layers


def _entry(flow: GradientFlow, layers: Mapping[str, LayerSignal], masks: Masks | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "total": figures(flow.norm_squared),
        "loss": figures(flow.loss),
        "gradient": [figures(norm) for norm in flow.per_layer.values()],
        "forward": [figures(layer.forward) for layer in layers.values()],
        "backward": [figures(layer.backward) for layer in layers.values()],
        "dead": [layer.dead for layer in layers.values()],
    }
    return entry if masks is None else entry | {"kept": [kept for kept, _ in counts(masks).values()]}
