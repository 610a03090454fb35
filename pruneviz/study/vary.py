"""A grid with some of its values exchanged, as a notebook's parameters ask for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pruneviz import baselines
from pruneviz.allocate import SCOPES
from pruneviz.errors import InputError, check_choice
from pruneviz.scorers import scorers as registry
from pruneviz.study.cell import DENSE, METHOD, Cell, check_field


def vary(
    cells: Sequence[Cell],
    *,
    scorers: Iterable[str] | str | None = None,
    sparsities: Iterable[float] | float | str | None = None,
    seeds: Iterable[int] | int | str | None = None,
    **values: Any,
) -> list[Cell]:
    """The cells of a grid with other methods, sparsities, seeds, or other values of single fields.

    What is None stays as the grid has it; if all is None, the cells are the grid's. Otherwise every method is
    run at every sparsity with every seed, and the dense network with every seed if the grid has it.

    Args:
        cells: the grid's.
        scorers: "scorer" for the methods of that scorer that the grid has, or with the scope "global" if it
            has none, in the steps of its card; "scorer:scope" for one scope.
        sparsities: fractions removed.
        seeds: whole numbers. Each of the three is one value, several, or a text such as "0.5,0.9" or
            "[0.5, 0.9]", as a command line gives it.
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
        asked = as_list("scorers", scorers, str)
        steps = given.get("schedule", METHOD)
        named = (cell for text in asked for cell in _named(str(text).strip(), methods, varied[0], steps))
        methods = list(dict.fromkeys(named))
    fractions = [cell.sparsity for cell in pruned] if sparsities is None else as_list("sparsities", sparsities, float)
    numbers = [cell.seed for cell in varied] if seeds is None else as_list("seeds", seeds, int)
    dense = list(dict.fromkeys(replace(cell, seed=0) for cell in varied if cell.scorer == DENSE))
    product = [
        replace(method, seed=seed, sparsity=sparsity)
        for seed in dict.fromkeys(numbers)
        for method in [*dense, *methods]
        for sparsity in ([0.0] if method.scorer == DENSE else dict.fromkeys(fractions))
    ]
    return list(dict.fromkeys(product))


def as_list(what: str, values: Any, kind: Callable[[str], Any] = str) -> list[Any]:
    """A notebook's parameter as a list, which a command line gives as a text: "0.5,0.9", or "[0.5, 0.9]".

    Args:
        what: its name, for the error.
        values: one value, several, or a text of them.
        kind: what each text is read as; one that cannot be read stays a text, for others to refuse.

    Returns:
        The values in their order, at least one.

    Raises:
        InputError: an empty list.
    """
    if isinstance(values, str):
        inner = re.sub(r"^\[(.*)\]$|^\((.*)\)$", r"\1\2", values.strip())
        values = [piece for piece in (piece.strip().strip("'\"") for piece in inner.split(",")) if piece]
    listed = list(values) if isinstance(values, Iterable) else [values]
    if not listed:
        raise InputError(f"{what} is empty; give at least one, or None for the usual ones")
    for index, value in enumerate(listed):
        with suppress(ValueError):
            listed[index] = kind(value) if isinstance(value, str) else value
    return listed


def _named(text: str, methods: Sequence[Cell], like: Cell, schedule: str) -> list[Cell]:
    """The methods that a text names: the grid's own where it has them, else new ones in the setting of `like`."""
    scorer, colon, scope = text.partition(":")
    check_choice("scorer", scorer, (*registry(), *baselines.cards()))
    if colon:
        check_choice("scope", scope, SCOPES)
    found = [cell for cell in methods if cell.scorer == scorer and (not colon or cell.scope == scope)]
    plain = replace(like, options=(), sparsity=0.0, seed=0)
    return found or [replace(plain, scorer=scorer, scope=scope or "global", schedule=schedule)]
