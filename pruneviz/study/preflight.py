"""What can be known of a grid before anything is run: the data are there, the networks fit, the cuts are possible."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from pruneviz import models
from pruneviz.allocate import allocate
from pruneviz.data import ImageData, load, scoring_batches
from pruneviz.errors import InputError
from pruneviz.problem import Problem
from pruneviz.scorers import score
from pruneviz.study.cell import DENSE, Cell
from pruneviz.study.run import scorer_options


def check(cells: Iterable[Cell]) -> None:
    """See that every cell can be run, at the cost of loading each part of a data set and making each network once.

    Raises:
        InputError: for a data set that is missing or damaged, a network that its images do not fit, an option
            that its scorer refuses, a sparsity that leaves nothing, or more scoring images than there are.
            The message names the cell.
    """
    parts: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        parts.setdefault((cell.dataset, cell.fraction), []).append(cell)
    weights: dict[object, dict[str, torch.Tensor]] = {}
    seen: set[object] = set()
    for (dataset, fraction), mates in parts.items():
        data = load(dataset, fraction=fraction, seed=0)
        for cell in mates:
            try:
                _check_cell(cell, data, weights, seen)
            except InputError as error:
                raise InputError(f"cell {cell.label}: {error}") from error


def _check_cell(cell: Cell, data: ImageData, weights: dict[object, dict[str, torch.Tensor]], seen: set[object]) -> None:
    """Check one cell; `weights` and `seen` hold what earlier cells had in common with it."""
    network = (cell.dataset, cell.model, cell.width, cell.init)
    if network not in weights:
        weights[network] = _weights(cell, data)
    images = (cell.dataset, cell.fraction, cell.per_class, cell.batches)
    if images not in seen:  # also for a dense cell: its gradient is measured on them
        scoring_batches(data, per_class=cell.per_class, batches=cell.batches)
    cut, trial = (network, cell.sparsity, cell.scope), (cell.scorer, cell.options, cell.batches)
    if cell.scorer != DENSE and cut not in seen:
        allocate(weights[network], cell.sparsity, cell.scope)
    if cell.scorer != DENSE and trial not in seen:
        _try_scorer(cell)
    seen |= {images, cut, trial}


def _weights(cell: Cell, data: ImageData) -> dict[str, torch.Tensor]:
    shape = data.input_shape
    model = models.create(cell.model, input_shape=shape, classes=data.classes, width=cell.width, init=cell.init)
    return Problem(model, [(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))]).weights


def _try_scorer(cell: Cell) -> None:
    """Score a layer of eight weights, so that the scorer sees the values of its options."""
    weights = torch.linspace(-1, 1, 8).reshape(2, 4)
    layer = nn.Linear(4, 2, bias=False)
    layer.load_state_dict({"weight": weights})
    batch = (weights.flip(0) + 0.5, torch.tensor([0, 1]))
    score(cell.scorer, Problem(layer, [batch] * cell.batches), **scorer_options(cell))
