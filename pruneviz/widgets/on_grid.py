"""The interactions in which the reader chooses one of the sparsities that were measured."""

from __future__ import annotations

from typing import Any

import traitlets

from pruneviz.errors import check_choice, check_sparsity
from pruneviz.problem import Problem
from pruneviz.widgets.cuts import Cuts
from pruneviz.widgets.interaction import Interaction


class OnGrid(Interaction):
    """An interaction over methods and a grid of sparsities, all of it measured when it is made.

    Attributes:
        sparsity: the fraction removed; a value between two points of the grid becomes the nearest one.
    """

    sparsity = traitlets.Float().tag(sync=True)

    def __init__(self, methods: Cuts, data: dict[str, Any], **state: Any) -> None:
        self._methods = methods
        super().__init__(data=data, **state)

    @property
    def problem(self) -> Problem:
        """The problem that was measured."""
        return self._methods.problem

    @traitlets.validate("sparsity")
    def _on_grid(self, proposal: dict[str, Any]) -> float:
        return self._methods.nearest(check_sparsity(proposal["value"]))

    @property
    def _index(self) -> int:
        return self._methods.grid.index(self.sparsity)


class OfMethod(OnGrid):
    """An interaction that shows one method at a time.

    Attributes:
        method: the one that is shown.
    """

    method = traitlets.Unicode().tag(sync=True)

    @traitlets.validate("method")
    def _known_method(self, proposal: dict[str, Any]) -> str:
        return check_choice("method", proposal["value"], self._methods.methods)
