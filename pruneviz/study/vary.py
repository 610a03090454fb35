"""A grid with some of its values exchanged, as a notebook's parameters ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pruneviz.allocate import SCOPES
from pruneviz.errors import InputError, check_choice
from pruneviz.scorers import scorers as registry
from pruneviz.study.cell import DENSE, Cell, check_field


def vary(
    cells: Sequence[Cell],
    *,
    scorers: Iterable[str] | str | None = None,
    sparsities: Iterable[float] | float | None = None,
    seeds: Iterable[int] | int | None = None,
    **values: Any,
) -> list[Cell]:
    """The cells of a grid with other methods, sparsities, seeds, or other values of single fields.

    What is None stays as the grid has it; if all is None, the cells are the grid's. Otherwise every method is
    run at every sparsity with every seed, and the dense network with every seed if the grid has it.

    Args:
        cells: the grid's.
        scorers: "scorer" for the methods of that scorer that the grid has, or with the scope "global" if it
            has none; "scorer:scope" for one scope. Also as one text, separated by commas.
        sparsities: fractions removed.
        seeds: whole numbers.
        values: one value for a field of `Cell` in every cell: `dataset="mnist"`.

    Raises:
        InputError: an empty list, or a value that a cell cannot have.
    """
    given = {name: check_field(name, value) for name, value in values.items() if value is not None}
    varied = [replace(cell, **given) for cell in cells]
    if scorers is None and sparsities is None and seeds is None:
        return list(dict.fromkeys(varied))
    pruned = [cell for cell in varied if cell.scorer != DENSE]
    methods = list(dict.fromkeys(replace(cell, sparsity=0.0, seed=0) for cell in pruned))
    if scorers is not None:
        asked = _listed("scorers", scorers.split(",") if isinstance(scorers, str) else scorers)
        methods = list(dict.fromkeys(cell for text in asked for cell in _named(str(text).strip(), methods, varied[0])))
    fractions = [cell.sparsity for cell in pruned] if sparsities is None else _listed("sparsities", sparsities)
    numbers = [cell.seed for cell in varied] if seeds is None else _listed("seeds", seeds)
    dense = list(dict.fromkeys(replace(cell, seed=0) for cell in varied if cell.scorer == DENSE))
    product = [
        replace(method, seed=seed, sparsity=sparsity)
        for seed in dict.fromkeys(numbers)
        for method in [*dense, *methods]
        for sparsity in ([0.0] if method.scorer == DENSE else dict.fromkeys(fractions))
    ]
    return list(dict.fromkeys(product))


def _listed(what: str, values: Any) -> list[Any]:
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    if not listed:
        raise InputError(f"{what} is empty; give at least one, or None for those of the grid")
    return listed


def _named(text: str, methods: Sequence[Cell], like: Cell) -> list[Cell]:
    """The methods that a text names: the grid's own where it has them, else new ones in the setting of `like`."""
    scorer, colon, scope = text.partition(":")
    check_choice("scorer", scorer, registry())
    if colon:
        check_choice("scope", scope, SCOPES)
    found = [cell for cell in methods if cell.scorer == scorer and (not colon or cell.scope == scope)]
    return found or [replace(like, scorer=scorer, options=(), sparsity=0.0, seed=0, scope=scope or "global")]
