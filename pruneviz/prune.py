"""Score, allocate, repeat: the three together, for one-shot and iterative pruning."""

from __future__ import annotations

from typing import Any

import torch

from pruneviz.allocate import allocate
from pruneviz.errors import InputError, check_choice
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.schedule import Schedule, parse
from pruneviz.scorers import score, scorers


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

    In each step the network is scored with the weights removed so far at zero, and cut to the step's sparsity. A
    weight that has been removed stays removed (iterative pruning as of Tanaka et al. 2020, and of "Iterative SNIP",
    Verdenius et al. 2020 and de Jorge et al. 2021), unless the scorer's card says that it `revives`: then all weights
    compete anew in each step, and what was removed may come back ("FORCE", de Jorge et al. 2021, section 4).
    The model itself is left untouched: see `apply`.

    Args:
        problem: model, batches and loss.
        scorer: a registered scorer.
        sparsity: the fraction removed at the end, 0 <= sparsity < 1.
        scope: as in `allocate`.
        schedule: None for the one on the scorer's card; or its name, such as "exponential:100" or "one_shot".
        options: the scorer's own.

    Returns:
        Boolean tensors by parameter name, True = kept, with the exact count of `allocate`.

    Raises:
        InputError: as `score` and `allocate`.
    """
    card = scorers()[check_choice("scorer", scorer, scorers())]
    masks: Masks | None = None
    chosen = card.schedule if schedule is None else schedule
    steps = parse(chosen) if isinstance(chosen, str) else chosen
    for step in steps.sparsities(sparsity):
        scores = score(scorer, problem, masks=masks, **options)
        if masks is not None and not card.revives:
            scores = {name: s.masked_fill(~masks[name], -torch.inf) for name, s in scores.items()}
        masks = allocate(scores, step, scope)
    if masks is None:
        raise InputError(f"the schedule {schedule!r} has no steps")
    return masks
