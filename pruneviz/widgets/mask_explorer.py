"""The mask explorer: which weights a method keeps, layer by layer, at any sparsity."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import traitlets

from pruneviz.allocate import cut
from pruneviz.errors import InputError, check_choice, check_sparsity
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.scorers import Scores
from pruneviz.widgets.cuts import Cuts
from pruneviz.widgets.interaction import Interaction

# The most that a page should carry inline for one widget, in characters of base64.
MOST_INLINE = 1_000_000
#: The scales of the bars.
SCALES = ("logarithmic", "linear")


class MaskExplorer(Interaction):
    """Choose a method and drag a sparsity; see every layer's density and one layer's mask.

    In a notebook it is live: a method is scored when it is first chosen, and what is chosen can be read, set
    and observed from Python. The same object also shows itself as HTML that works without a kernel, so that an
    executed notebook stays interactive on a page that has `pruneviz.widgets.page.assets()`.

    Args:
        problem: model, batches and loss.
        methods: what can be chosen, "scorer" or "scorer:scope"; the scope is "global" if none is given.
        options: options of scorers, by the scorer's name.
        method: the one chosen first; the first of `methods` if None.
        sparsity: the fraction removed at first. The nearest point of the grid is taken.
        layer: the layer whose mask is shown first; the largest if None.
        scale: of the bars that show each layer's density, "logarithmic" or "linear".
        grid: the sparsities of the slider, increasing, at most 255. None: 0 to 0.999, finer near 1, as far
            as at least one weight is kept.
        title: what is pruned, in a few words.
        static: whether showing it also makes the interactive HTML form, for which all methods are scored.
            None: only if that adds less than 1 MB to the notebook, which is the case up to about 150,000
            weights and 5 methods. Without it the HTML form is a table of the method that is chosen.

    Attributes:
        method, sparsity, layer, scale: what is chosen; traits, which can be set and observed.
        status: what is being computed, or what went wrong, or "".

    Raises:
        InputError: an unknown scorer, scope, option, layer or scale, or a grid that cannot be used. Setting a trait to
            something unknown raises it too.
    """

    kind = "mask_explorer"
    state = ("method", "sparsity", "layer", "scale")

    method = traitlets.Unicode().tag(sync=True)
    sparsity = traitlets.Float().tag(sync=True)
    layer = traitlets.Unicode().tag(sync=True)
    scale = traitlets.Unicode("logarithmic").tag(sync=True)

    def __init__(
        self,
        problem: Problem,
        methods: Sequence[str] = ("random:erk", "magnitude", "snip", "grasp"),
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        method: str | None = None,
        sparsity: float = 0.9,
        layer: str | None = None,
        scale: str = "logarithmic",
        grid: Iterable[float] | None = None,
        title: str | None = None,
        static: bool | None = None,
    ) -> None:
        self._cuts = Cuts(problem, methods, options, grid, self._say)
        self._title = title or ""
        self._static = static
        first = method or next(iter(self._cuts.methods))
        check_choice("method", first, self._cuts.methods)
        self._cuts.levels(first)
        sizes = self._cuts.sizes
        super().__init__(
            data=self._live_data(),
            method=first,
            sparsity=sparsity,
            layer=layer or max(sizes, key=lambda name: sizes[name]),
            scale=scale,
        )
        self.observe(self._on_method, names="method")

    @property
    def problem(self) -> Problem:
        """The problem whose weights are shown."""
        return self._cuts.problem

    @property
    def masks(self) -> Masks:
        """The masks that are shown, exactly those of `pruneviz.allocate`: parameter name to boolean tensor."""
        return cut(self.scores, self.sparsity, self._cuts.methods[self.method][1])

    @property
    def scores(self) -> Scores:
        """The raw scores of the chosen method."""
        return self._cuts.scores(self.method)

    def inline(self) -> dict[str, Any]:
        """The data with all methods, their levels as text."""
        return self._cuts.data(self._title, lambda raw: base64.b64encode(raw).decode("ascii"), self._cuts.methods)

    def fallback(self) -> str:
        """The weights that each layer keeps by each method."""
        return self._cuts.table(self.sparsity, self._cuts.methods)

    def is_light(self) -> bool:
        """Whether the levels of all methods are few enough for a notebook, or were asked for."""
        inline = 4 / 3 * sum(self._cuts.sizes.values()) * len(self._cuts.methods)
        return inline <= MOST_INLINE if self._static is None else self._static

    def brief(self) -> str:
        """The weights that each layer keeps by the method that is chosen."""
        return self._cuts.table(self.sparsity, [self.method])

    @traitlets.validate("method")
    def _known_method(self, proposal: dict[str, Any]) -> str:
        return check_choice("method", proposal["value"], self._cuts.methods)

    @traitlets.validate("sparsity")
    def _on_grid(self, proposal: dict[str, Any]) -> float:
        return self._cuts.nearest(check_sparsity(proposal["value"]))

    @traitlets.validate("layer")
    def _known_layer(self, proposal: dict[str, Any]) -> str:
        return check_choice("layer", proposal["value"], self._cuts.sizes)

    @traitlets.validate("scale")
    def _known_scale(self, proposal: dict[str, Any]) -> str:
        return check_choice("scale", proposal["value"], SCALES)

    def _on_method(self, change: dict[str, Any]) -> None:
        try:
            self._cuts.levels(change["new"])
        except InputError as error:
            # In the browser nobody sees a traceback: the picture says what went wrong, Python code still hears it.
            self.status = str(error)
            raise
        self.status = ""
        sent = {method["id"] for method in self.data["methods"] if method["levels"] is not None}
        if change["new"] not in sent:
            self.data = self._live_data()

    def _live_data(self) -> dict[str, Any]:
        return self._cuts.data(self._title, bytes, self._cuts.known())

    def _say(self, text: str) -> None:
        if "status" in self._trait_values:  # not while the widget is being made
            self.status = text
