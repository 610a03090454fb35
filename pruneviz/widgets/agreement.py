"""Agreement of methods: which weights two of them both keep, and whether they rank them alike, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import traitlets

from pruneviz.errors import InputError, check_choice
from pruneviz.masks import Masks, counts
from pruneviz.probes import LayerAgreement, agreement
from pruneviz.problem import Problem
from pruneviz.widgets import page
from pruneviz.widgets.cuts import title as title_of
from pruneviz.widgets.methods import METHODS, Methods, decimals
from pruneviz.widgets.on_grid import OnGrid
from pruneviz.widgets.progress import steps

#: What can be shown of each pair.
MEASURES: dict[str, str] = {"jaccard": "Weights both keep (Jaccard)", "rank": "Order of all scores (Spearman)"}


class Agreement(OnGrid):
    """Choose a sparsity and a pair of methods; see how far all pairs agree, and the chosen one in each layer.

    Everything is measured when it is made, by `pruneviz.agreement`: of masks for each pair and sparsity, of scores for
    each pair of methods that prune in one shot.

    Args:
        problem: model, batches and loss.
        methods: two or more, "scorer" or "scorer:scope"; masks are those of `pruneviz.prune`.
        options: options of scorers, by the scorer's name.
        grid: the sparsities that can be chosen, increasing; None: 0, 0.5, 0.8, 0.9, 0.95, 0.98 and 0.99.
        sparsity: the one shown first, or the nearest of the grid.
        measure: "jaccard", the weights that both keep over those that at least one keeps; or "rank", Spearman's
            correlation of the scores, which knows no sparsity.
        pair: the two methods whose layers are shown first; the first two of `methods` if None.
        title: what is compared, in a few words.

    Attributes:
        sparsity, measure, first, second: what is shown; traits, which can be set and observed.

    Raises:
        InputError: an unknown name, fewer than two methods, or a grid that cannot be used.
    """

    kind = "agreement"
    state = ("measure", "sparsity", "first", "second")

    measure = traitlets.Unicode().tag(sync=True)
    first = traitlets.Unicode().tag(sync=True)
    second = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        problem: Problem,
        methods: Sequence[str] = METHODS,
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        grid: Iterable[float] | None = None,
        sparsity: float = 0.9,
        measure: str = "jaccard",
        pair: tuple[str, str] | None = None,
        title: str = "",
    ) -> None:
        made = Methods(problem, methods, options, grid)
        if len(made.methods) < 2:
            raise InputError(f"methods {list(made.methods)} cannot be compared; accepted are at least two")
        first, second = (check_choice("method", name, made.methods) for name in pair or list(made.methods)[:2])
        check_choice("measure", measure, MEASURES)
        data = measured(made) | {"title": title}
        super().__init__(made, data, sparsity=sparsity, measure=measure, first=first, second=second)

    def fallback(self) -> str:
        """The matrix of the chosen measure at the chosen sparsity."""
        methods = list(self._methods.methods)
        found = {frozenset((p["first"], p["second"])): p for p in self.data["pairs"]}

        def cell(a: str, b: str) -> str:
            if a == b:
                return "1"
            value = _shown(found[frozenset((a, b))], self.measure, self._index)
            return "not possible" if value is None else f"{value:.3f}"

        where = f" when {self.sparsity:.1%} of the weights are removed" if self.measure == "jaccard" else ""
        rows = [[title_of(a), *(cell(a, b) for b in methods)] for a in methods]
        return page.table(f"{MEASURES[self.measure]}{where}", ["method", *map(title_of, methods)], rows)

    @traitlets.validate("measure")
    def _known_measure(self, proposal: dict[str, Any]) -> str:
        return check_choice("measure", proposal["value"], MEASURES)

    @traitlets.validate("first", "second")
    def _known_method(self, proposal: dict[str, Any]) -> str:
        return check_choice("method", proposal["value"], self._methods.methods)


def measured(methods: Methods) -> dict[str, Any]:
    """The data of the interaction: all pairs at all sparsities, printed digits only."""
    cells = [(method, sparsity) for method in methods.methods for sparsity in methods.grid]
    masks = {cell: methods.attempt(*cell) for cell in steps(cells, _cutting)}
    pairs = list(combinations(methods.methods, 2))
    return {
        "methods": [
            known
            | {
                "one_shot": methods.in_one_shot(known["id"]),
                "kept": [_kept(masks[known["id"], s]) for s in methods.grid],
            }
            for known in methods.described()
        ],
        "grid": list(methods.grid),
        "layers": [{"name": name, "size": size} for name, size in methods.sizes.items()],
        "measures": [{"id": name, "title": heading} for name, heading in MEASURES.items()],
        "pairs": [_pair(methods, a, b, masks) for a, b in steps(pairs, _comparing)],
    }


def _pair(methods: Methods, a: str, b: str, masks: Mapping[tuple[str, float], Masks | str]) -> dict[str, Any]:
    """One pair: the correlation of its scores, if both have scores that decide, and its masks at all sparsities."""
    cuts: list[dict[str, Any]] = []
    for sparsity in methods.grid:
        first, second = masks[a, sparsity], masks[b, sparsity]
        if isinstance(first, str) or isinstance(second, str):
            cuts.append({"limit": first if isinstance(first, str) else second})
            continue
        found = agreement(first, second)
        cuts.append(_ratios(found) | {"layers": [_ratios(layer) for layer in found.per_layer.values()]})
    rank = None
    if methods.in_one_shot(a) and methods.in_one_shot(b):
        scores = agreement(methods.scores(a), methods.scores(b))
        rank = {
            "all": decimals(scores.rank_correlation),
            "layers": [decimals(layer.rank_correlation) for layer in scores.per_layer.values()],
        }
    return {"first": a, "second": b, "rank": rank, "cuts": cuts}


def _ratios(found: LayerAgreement) -> dict[str, float | None]:
    return {"jaccard": decimals(found.jaccard), "chance": decimals(found.by_chance)}


def _kept(masks: Masks | str) -> list[int] | None:
    return None if isinstance(masks, str) else [kept for kept, _ in counts(masks).values()]


def _shown(pair: Mapping[str, Any], measure: str, index: int) -> float | None:
    """What the matrix holds of a pair; None where there is nothing."""
    value: float | None = (pair["rank"] or {}).get("all") if measure == "rank" else pair["cuts"][index].get("jaccard")
    return value


def _cutting(cell: tuple[str, float]) -> str:
    return f"Masks of {title_of(cell[0])} at {cell[1]:.1%}"


def _comparing(pair: tuple[str, str]) -> str:
    return f"{title_of(pair[0])} against {title_of(pair[1])}"
