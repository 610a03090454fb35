"""What can be known of a grid before anything is run: the data are there, the networks fit, the cuts are possible."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from pruneviz import models
from pruneviz.allocate import allocate
from pruneviz.data import load
from pruneviz.errors import InputError
from pruneviz.problem import Problem
from pruneviz.scorers import score
from pruneviz.study.cell import DENSE, Cell
from pruneviz.study.run import scorer_options


def check(cells: Iterable[Cell]) -> None:
    """See that every cell can be run, at the cost of loading each data set and making each network once.

    Raises:
        InputError: for a data set that is missing or damaged, a network that its images do not fit, an option
            that its scorer refuses, a sparsity that leaves nothing, or more scoring images than there are.
            The message names the cell.
    """
    cells = list(cells)
    shapes = {}
    for name in dict.fromkeys(cell.dataset for cell in cells):
        data = load(name)
        shapes[name] = (data.input_shape, data.classes)
    weights: dict[object, dict[str, torch.Tensor]] = {}
    seen: set[object] = set()
    for cell in cells:
        network = (cell.dataset, cell.model, cell.width, cell.init)
        try:
            if network not in weights:
                weights[network] = _weights(cell, *shapes[cell.dataset])
            cut = (network, cell.sparsity, cell.scope)
            if cell.scorer != DENSE and cut not in seen:
                allocate(weights[network], cell.sparsity, cell.scope)
            if cell.scorer != DENSE and (cell.scorer, cell.options) not in seen:
                _try_scorer(cell)
            seen |= {cut, (cell.scorer, cell.options)}
        except InputError as error:
            raise InputError(f"cell {cell.label}: {error}") from error


def _weights(cell: Cell, shape: tuple[int, int, int], classes: int) -> dict[str, torch.Tensor]:
    model = models.create(cell.model, input_shape=shape, classes=classes, width=cell.width, init=cell.init)
    return Problem(model, [(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))]).weights


def _try_scorer(cell: Cell) -> None:
    """Score a layer of eight weights, so that the scorer sees the values of its options."""
    weights = torch.linspace(-1, 1, 8).reshape(2, 4)
    layer = nn.Linear(4, 2, bias=False)
    layer.load_state_dict({"weight": weights})
    batch = (weights.flip(0) + 0.5, torch.tensor([0, 1]))
    score(cell.scorer, Problem(layer, [batch]), **scorer_options(cell))
