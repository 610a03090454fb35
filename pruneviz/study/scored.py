"""The network of a cell before it is trained: its scores, what they cost, and the masks that they are cut to."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import nn

from pruneviz import baselines, models
from pruneviz.ablations import invert, reinitialize, shuffle
from pruneviz.allocate import LayerCollapseWarning, cut
from pruneviz.data import ImageData, scoring_batches
from pruneviz.flops import counted
from pruneviz.masks import Masks
from pruneviz.probes import gradient_flow
from pruneviz.problem import Problem
from pruneviz.prune import prune
from pruneviz.scorers import Scores, score
from pruneviz.scorers.registry import option_names, source_of
from pruneviz.study.cell import DENSE, INVERT, REINITIALIZE, SHUFFLE, Cell

T = TypeVar("T")

#: Floating-point operations of scoring, by all that they depend on.
Costs = dict[tuple[Any, ...], int]


class Scored:
    """A network before training, its gradient's norm, and its scores, computed when first asked for."""

    def __init__(self, cell: Cell, data: ImageData, device: torch.device, costs: Costs) -> None:
        model = untrained(cell, data).to(device)
        batches = scoring_batches(data, per_class=cell.per_class, batches=cell.batches, seed=cell.seed)
        self.problem = Problem(model, batches, batchnorm=cell.batchnorm)
        self.flow = gradient_flow(self.problem).norm_squared
        self._costs = costs
        self._scores: tuple[Scores, float, int] | None = None

    def cut(self, cell: Cell) -> tuple[Masks | None, float, int]:
        """The cell's masks, its ablation done, and the seconds and FLOPs that scoring and cutting took or had taken.

        Collapsed layers are not warned of: the masks and the records say which they are.

        Returns:
            The masks, None for "dense"; the seconds; the floating-point operations.
        """
        began = time.perf_counter()
        if cell.scorer == DENSE:
            return None, 0.0, 0
        options = scorer_options(cell)
        if cell.schedule != "one_shot":
            masks, flops = self._counted(cell, lambda: self._prune(cell, options))
            return self._ablated(cell, masks), time.perf_counter() - began, flops
        if self._scores is None:
            scores, flops = self._counted(cell, lambda: score(cell.scorer, self.problem, **options))
            self._scores = (scores, time.perf_counter() - began, flops)
            began = time.perf_counter()
        scores, seconds, flops = self._scores
        scores = invert(scores) if cell.ablation == INVERT else scores
        masks = self._ablated(cell, cut(scores, cell.sparsity, cell.scope, cell.minimum))
        return masks, seconds + time.perf_counter() - began, flops

    def start(self, cell: Cell) -> tuple[Problem, float]:
        """The problem of the network that is trained, and its squared gradient norm before the masks.

        It is the network that was scored, unless the cell draws its weights anew.
        """
        if cell.ablation != REINITIALIZE:
            return self.problem, self.flow
        fresh = reinitialize(self.problem.model, cell.init, seed=cell.seed)
        problem = Problem(fresh, self.problem.batches, batchnorm=cell.batchnorm)
        return problem, gradient_flow(problem).norm_squared

    @staticmethod
    def _ablated(cell: Cell, masks: Masks) -> Masks:
        return shuffle(masks, seed=cell.seed) if cell.ablation == SHUFFLE else masks

    def _prune(self, cell: Cell, options: dict[str, Any]) -> Masks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LayerCollapseWarning)
            return prune(
                self.problem,
                cell.scorer,
                cell.sparsity,
                scope=cell.scope,
                schedule=cell.schedule,
                minimum=cell.minimum,
                **options,
            )

    def _counted(self, cell: Cell, compute: Callable[[], T]) -> tuple[T, int]:
        """What `compute` returns and what it costs; counted once where it is known to depend on shapes alone.

        Raises:
            RuntimeError: for an `OSError` of somebody's own scorer, which is its fault and not that of the machine.
        """
        if source_of(cell.scorer) is not None:
            compute = _own(cell.scorer, compute)
        key = (cell.shard, cell.per_class, cell.batches, cell.batchnorm, cell.schedule)
        if key in self._costs and source_of(cell.scorer) is None:
            return compute(), self._costs[key]  # to look at every operation takes longer than small ones do
        with counted() as counter:
            result = compute()
        self._costs[key] = counter.get_total_flops()
        return result, self._costs[key]


def _own(scorer: str, compute: Callable[[], T]) -> Callable[[], T]:
    def told() -> T:
        try:
            return compute()
        except OSError as error:
            raise RuntimeError(f"scorer {scorer!r} raised {type(error).__name__}: {error}") from error

    return told


def untrained(cell: Cell, data: ImageData) -> nn.Module:
    """The cell's network as its seed initializes it, on the CPU."""
    return models.create(
        cell.model,
        input_shape=data.input_shape,
        classes=data.classes,
        width=cell.width,
        init=cell.init,
        seed=cell.seed,
    )


def scorer_options(cell: Cell) -> dict[str, Any]:
    """The options that the cell's scorer is called with: its own, and the cell's seed if it draws numbers."""
    options = dict(cell.options)
    if "seed" in option_names(cell.scorer):
        options.setdefault("seed", cell.seed)
    return options


def provenance(cell: Cell) -> dict[str, Any]:
    """What a record says of a scorer that the library did not bring: its module and the hash of its file."""
    source = None if cell.scorer in (DENSE, *baselines.cards()) else source_of(cell.scorer)
    return {} if source is None else {"scorer": asdict(source)}
