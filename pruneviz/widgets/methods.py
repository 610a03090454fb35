"""What the interactions that measure masks have in common: methods on a problem, and a short grid of sparsities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from pruneviz.allocate import LayerCollapseWarning, cut
from pruneviz.errors import InputError
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.prune import prune
from pruneviz.scorers import scorers
from pruneviz.widgets.cuts import Cuts, title
from pruneviz.widgets.progress import steps

T = TypeVar("T")

#: Where most experiments of the field are: the dense network, and from half of the weights to one in a hundred.
GRID: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
METHODS: tuple[str, ...] = ("random:erk", "magnitude", "snip", "grasp")
DIGITS = 4  # of a printed number that is no count: more would be read by nobody


class Methods(Cuts):
    """Methods on a problem and their masks, exactly those of `pruneviz.prune`.

    A method whose card names a schedule is pruned along it, anew for each sparsity; the others are scored once.

    Args:
        problem: model, batches and loss.
        methods: "scorer" or "scorer:scope"; the scope is "global" if none is given.
        options: options of scorers, by the scorer's name.
        grid: the sparsities that can be chosen, increasing.

    Raises:
        InputError: an unknown scorer, scope or option, or a grid that cannot be used.
    """

    def __init__(
        self,
        problem: Problem,
        methods: Sequence[str],
        options: Mapping[str, Mapping[str, Any]] | None = None,
        grid: Iterable[float] | None = None,
    ) -> None:
        super().__init__(problem, methods, options, GRID if grid is None else grid)

    def in_one_shot(self, method: str) -> bool:
        """Whether the method scores once and cuts once."""
        return scorers()[self.methods[method][0]].schedule == "one_shot"

    def masks(self, method: str, sparsity: float) -> Masks:
        """The masks of a method at any sparsity.

        Raises:
            InputError: if the scope cannot reach it.
        """
        scorer, scope = self.methods[method]
        if self.in_one_shot(method):
            return cut(self.scores(method), sparsity, scope)
        if sparsity == 0:
            return {name: torch.ones_like(w, dtype=torch.bool) for name, w in self.problem.weights.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LayerCollapseWarning)  # the interactions say what has collapsed
            return prune(self.problem, scorer, sparsity, scope=scope, **self.options.get(scorer, {}))

    def attempt(self, method: str, sparsity: float) -> Masks | str:
        """The masks, or why there are none."""
        try:
            return self.masks(method, sparsity)
        except InputError as error:
            return str(error)

    def measure(
        self, what: str, dense: Callable[[], T], of: Callable[[T, Masks, float], dict[str, Any]]
    ) -> tuple[T, dict[str, list[dict[str, Any]]]]:
        """What is measured of the dense network, and of every method's masks at every sparsity; its progress is told.

        Args:
            what: is measured, for those who listen: "Kernel of".
            dense: measures the dense network.
            of: measures masks, given what `dense` has measured and their sparsity.

        Returns:
            What `dense` gives; and for each method a list along the grid: what `of` gives, or {"limit": why there are
            no masks}.
        """
        cells = [(method, sparsity) for method in self.methods for sparsity in self.grid]
        names = ["the dense network", *(f"{title(method)} at {sparsity:.1%}" for method, sparsity in cells)]
        told = steps(names, lambda name: f"{what} {name}")
        next(told)
        whole = dense()
        found: dict[str, list[dict[str, Any]]] = {method: [] for method in self.methods}
        for (method, sparsity), _ in zip(cells, told, strict=True):
            masks = self.attempt(method, sparsity)
            found[method].append({"limit": masks} if isinstance(masks, str) else of(whole, masks, sparsity))
        return whole, found

    def described(self) -> list[dict[str, str]]:
        """The methods as an interaction's data name them."""
        return [{"id": method, "title": title(method), "scope": self.methods[method][1]} for method in self.methods]


def figures(value: float, digits: int = DIGITS) -> float | None:
    """A number as it is printed, with so many significant digits; None where it is not finite."""
    return float(f"{value:.{digits}g}") + 0.0 if math.isfinite(value) else None


def decimals(value: float | None, digits: int = 3) -> float | None:
    """A number as it is printed, with so many decimals and without a negative zero; None where it is not finite."""
    return round(value, digits) + 0.0 if value is not None and math.isfinite(value) else None
