"""Score, allocate, repeat: the three together, for one-shot and iterative pruning."""

from __future__ import annotations

from typing import Any

import torch

from pruneviz.allocate import allocate
from pruneviz.errors import InputError
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.schedule import OneShot, Schedule, parse
from pruneviz.scorers import score


def prune(
    problem: Problem,
    scorer: str,
    sparsity: float,
    *,
    scope: str = "global",
    schedule: Schedule | str | None = None,
    **options: Any,
) -> Masks:
    """Masks for `problem` at `sparsity`, in one cut or in the steps of a schedule.

    In each step the network is scored with the weights removed so far at zero, and cut to the step's sparsity;
    a weight that has been removed stays removed. The model itself is left untouched: see `apply`.

    Args:
        problem: model, batches and loss.
        scorer: a registered scorer.
        sparsity: the fraction removed at the end, 0 <= sparsity < 1.
        scope: as in `allocate`.
        schedule: `OneShot()` when None; or its name, such as "exponential:100".
        options: the scorer's own.

    Returns:
        Boolean tensors by parameter name, True = kept, with the exact count of `allocate`.

    Raises:
        InputError: as `score` and `allocate`.
    """
    masks: Masks | None = None
    steps = parse(schedule) if isinstance(schedule, str) else schedule or OneShot()
    for step in steps.sparsities(sparsity):
        scores = score(scorer, problem, masks=masks, **options)
        if masks is not None:
            scores = {name: s.masked_fill(~masks[name], -torch.inf) for name, s in scores.items()}
        masks = allocate(scores, step, scope)
    if masks is None:
        raise InputError(f"the schedule {schedule!r} has no steps")
    return masks
