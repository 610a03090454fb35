"""What the mask explorer shows: one problem's masks by several methods, each computed when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from pruneviz.allocate import SCOPES
from pruneviz.errors import InputError, check_choice
from pruneviz.masks import counts
from pruneviz.problem import Problem
from pruneviz.scorers import Scores, check_options, score, scorers
from pruneviz.widgets import page
from pruneviz.widgets.levels import Levels, check_grid, default_grid, levels
from pruneviz.widgets.progress import tell

Say = Callable[[str], None]


class Cuts:
    """Methods on a problem: their scores, their levels on a grid of sparsities, and the form a page takes.

    Args:
        problem: model, batches and loss.
        methods: "scorer" or "scorer:scope"; the scope is "global" if none is given.
        options: options of scorers, by the scorer's name.
        grid: sparsities as `levels.check_grid` accepts them; None: `levels.default_grid`.
        say: told what is being computed, and "" when it is done.

    Raises:
        InputError: an unknown scorer, scope or option, or a grid that cannot be used.
    """

    def __init__(
        self,
        problem: Problem,
        methods: Sequence[str],
        options: Mapping[str, Mapping[str, Any]] | None = None,
        grid: Iterable[float] | None = None,
        say: Say | None = None,
    ) -> None:
        self.problem = problem
        self.methods = {spec: _parsed(spec) for spec in ([methods] if isinstance(methods, str) else methods)}
        if not self.methods:
            raise InputError("methods is empty; accepted are names of scorers, as in ('snip', 'random:erk')")
        self.options = {name: dict(given) for name, given in (options or {}).items()}
        for name in {scorer for scorer, _ in self.methods.values()} | set(self.options):
            check_options(name, self.options.get(name, {}))
        self.sizes = {name: weight.numel() for name, weight in problem.weights.items()}
        self.grid = default_grid(sum(self.sizes.values())) if grid is None else check_grid(grid)
        self._said = say
        self._scores: dict[str, Scores] = {}
        self._levels: dict[str, Levels] = {}

    def scores(self, method: str) -> Scores:
        """The raw scores of a method; methods that differ in scope only share them."""
        scorer, _ = self.methods[method]
        if scorer not in self._scores:
            self._say(f"Scoring the weights with {title(method)} …")
            try:
                self._scores[scorer] = score(scorer, self.problem, **self.options.get(scorer, {}))
            finally:
                self._say("")
        return self._scores[scorer]

    def levels(self, method: str) -> Levels:
        """The masks of a method at every sparsity of the grid."""
        if method not in self._levels:
            scores, scope = self.scores(method), self.methods[method][1]
            what = f"Cutting {title(method)} at {len(self.grid)} sparsities"
            try:
                # Told in tenths: each word of progress is a message to the notebook.
                told = [-1]

                def progress(done: float) -> None:
                    if int(10 * done) > told[0]:
                        told[0] = int(10 * done)
                        self._say(f"{what}: {10 * told[0]}\u202f%")

                self._levels[method] = levels(scores, self.grid, scope, progress)
            finally:
                self._say("")
        return self._levels[method]

    def _say(self, text: str) -> None:
        """Tell whoever shows a status, and whoever listens to long work."""
        if self._said is not None:
            self._said(text)
        if text:
            tell(None, text.removesuffix(" …"))

    def known(self) -> list[str]:
        """The methods whose levels have been computed."""
        return [method for method in self.methods if method in self._levels]

    def nearest(self, sparsity: float) -> float:
        """The grid's sparsity nearest to the one given; the lower one of two equally near."""
        return min(self.grid, key=lambda point: abs(point - sparsity))

    def data(self, heading: str, encode: Callable[[bytes], Any], methods: Iterable[str]) -> dict[str, Any]:
        """What the explorer's script takes; `methods` are those whose levels go with it."""
        with_levels = set(methods)
        return {
            "title": heading,
            "layers": [
                {
                    "name": name,
                    "shape": list(weight.shape),
                    "size": weight.numel(),
                    "axes": _axes(self.problem.model, name),
                }
                for name, weight in self.problem.weights.items()
            ],
            "grid": list(self.grid),
            "methods": [self._method(method, encode, method in with_levels) for method in self.methods],
        }

    def _method(self, method: str, encode: Callable[[bytes], Any], with_levels: bool) -> dict[str, Any]:
        known = {"id": method, "title": title(method), "scope": self.methods[method][1]}
        if not with_levels:
            return known | {"levels": None, "points": len(self.grid), "limit": ""}
        found = self.levels(method)
        return known | {"levels": encode(found.tobytes()), "points": found.points, "limit": found.limit}

    def table(self, sparsity: float, methods: Iterable[str]) -> str:
        """A plain HTML table of the weights that each layer keeps."""
        index = self.grid.index(sparsity)
        columns: dict[str, dict[str, tuple[int, int]]] = {}
        for method in methods:
            found = self.levels(method)
            columns[title(method)] = counts(found.masks(index)) if index < found.points else {}
        rows = [[name, *(_share(column.get(name)) for column in columns.values())] for name in self.sizes]
        totals = [
            (sum(kept for kept, _ in column.values()), sum(self.sizes.values())) if column else None
            for column in columns.values()
        ]
        rows.append(["all layers", *(_share(total) for total in totals)])
        return page.table(f"Weights kept when {sparsity:.1%} are removed", ["layer", *columns], rows)


def title(method: str) -> str:
    """What readers call "scorer:scope": the scorer's title, with the scope if it is not global."""
    scorer, scope = _parsed(method)
    words = {"erk": "ERK", "smart_ratio": "smart-ratios", "smart_ratio_vgg": "smart-ratios for VGG"}
    named = scorers()[scorer].title
    # A random score is the same everywhere: its scope is all that tells random masks apart.
    return named if scope == "global" and scorer != "random" else f"{named} ({words.get(scope, scope)})"


def _parsed(method: str) -> tuple[str, str]:
    scorer, _, scope = method.partition(":")
    return check_choice("scorer", scorer, scorers()), check_choice("scope", scope or "global", SCOPES)


def _share(count: tuple[int, int] | None) -> str:
    return "not possible" if count is None else f"{count[0]:,} of {count[1]:,} ({count[0] / count[1]:.2%})"


def _axes(model: nn.Module, name: str) -> list[str]:
    """What the first two axes of a weight are called."""
    module = model.get_submodule(name.rpartition(".")[0])
    inputs = "inputs" if getattr(module, "groups", 1) == 1 else "inputs per group"
    outputs = "outputs" if getattr(module, "groups", 1) == 1 else "outputs per group"
    return ["inputs", outputs] if isinstance(module, _ConvTransposeNd) else ["outputs", inputs]
