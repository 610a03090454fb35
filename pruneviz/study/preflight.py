"""What can be known of a grid before anything is run: what is done, and that data, networks and cuts are possible."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from pruneviz import baselines
from pruneviz.allocate import cut
from pruneviz.data import ImageData, load, scoring_batches
from pruneviz.errors import InputError
from pruneviz.problem import Problem
from pruneviz.scorers import score
from pruneviz.scorers.registry import source_of
from pruneviz.study import record
from pruneviz.study.cell import DENSE, Cell
from pruneviz.study.data_files import digest
from pruneviz.study.run import provenance, scorer_options, untrained


def not_done(cells: Iterable[Cell], store: Path, say: Callable[[str], None]) -> list[Cell]:
    """The cells without a record.

    Says which records are damaged, and which another version of a scorer, or another content of a folder of images,
    has made.
    """
    pending: list[Cell] = []
    others: dict[str, list[Cell]] = {}
    files: dict[str, str | None] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", record.DamagedRecordWarning)
        for cell in cells:
            content = record.find(store, cell)
            if content is None:
                pending.append(cell)
                continue
            environment = content["environment"]
            if (now := provenance(cell)) and environment.get("scorer") != now["scorer"]:
                others.setdefault(f"another version of scorer {cell.scorer!r}", []).append(cell)
            if before := environment.get("data", {}).get("sha256"):
                if cell.dataset not in files:
                    files[cell.dataset] = digest(cell.dataset)
                if files[cell.dataset] not in (before, None):
                    others.setdefault(f"another content of data set {cell.dataset!r}", []).append(cell)
    for warning in caught:
        say(f"warning: {warning.message}")
    for what, made in others.items():
        names = [record.path_of(store, cell.hash).name for cell in made]
        say(
            f"warning: {what} has made {len(names)} of the records, which stay as they are; remove them to have them "
            f"computed again: {' '.join(names)}"
        )
    return pending


def check(cells: Iterable[Cell]) -> None:
    """See that every cell can be run, at the cost of loading each part of a data set and making each network once.

    A scorer from outside the library scores each of its networks once, on two images of each class.

    Raises:
        InputError: for a data set that is missing or damaged, a network that its images do not fit, an option
            that its scorer refuses, a scorer of one's own that raises anything, a sparsity that leaves nothing or
            less than the minimum, or more scoring images than there are. The message names the cell.
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
    seen.add(images)
    if cell.scorer == DENSE:
        return
    counts = (network, cell.sparsity, cell.scope, cell.minimum)
    if counts not in seen:
        cut(weights[network], *counts[1:])
    seen.add(counts)
    if cell.scorer in baselines.cards():
        return  # the cell has checked its options
    own = source_of(cell.scorer) is not None
    trial = (cell.scorer, cell.options, cell.batches, (network, cell.batchnorm) if own else None)
    if trial not in seen:
        (_try_own if own else _try_scorer)(cell, data)
    seen.add(trial)


def _weights(cell: Cell, data: ImageData) -> dict[str, torch.Tensor]:
    image = torch.zeros(1, *data.input_shape)
    return Problem(untrained(cell, data), [(image, torch.zeros(1, dtype=torch.int64))]).weights


def _try_own(cell: Cell, data: ImageData) -> None:
    """Score the cell's network: of a scorer that nobody has tested yet, nothing less is known to work."""
    batches = scoring_batches(data, per_class=min(2, cell.per_class), batches=cell.batches)
    problem = Problem(untrained(cell, data), batches, batchnorm=cell.batchnorm)
    try:
        score(cell.scorer, problem, **scorer_options(cell))
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"scorer {cell.scorer!r} raised {type(error).__name__}: {reason}") from error


def _try_scorer(cell: Cell, _: ImageData) -> None:
    """Score a layer of eight weights, so that the scorer sees the values of its options."""
    weights = torch.linspace(-1, 1, 8).reshape(2, 4)
    layer = nn.Linear(4, 2, bias=False)
    layer.load_state_dict({"weight": weights})
    batch = (weights.flip(0) + 0.5, torch.tensor([0, 1]))
    score(cell.scorer, Problem(layer, [batch] * cell.batches), **scorer_options(cell))
