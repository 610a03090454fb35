"""Score, allocate, repeat: the three together, for one-shot and iterative pruning."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from pruneviz.allocate import cut, warn_of_collapse
from pruneviz.errors import InputError, check_choice
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.schedule import Schedule, parse
from pruneviz.scorers import Scores, score, scorers
from pruneviz.scorers.registry import check_problem


def prune(
    problem: Problem,
    scorer: str,
    sparsity: float,
    *,
    scope: str = "global",
    schedule: Schedule | str | None = None,
    minimum: int = 0,
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
        schedule: None for the one on the scorer's card; or its name, such as "exponential:100" or "one_shot". Steps
            below the lowest sparsity that the scope can have, as smart-ratios do, are left out.
        minimum: weights that every layer keeps at least, as in `allocate`.
        options: the scorer's own.

    Returns:
        Boolean tensors by parameter name, True = kept, with the exact count of `allocate`.

    Raises:
        InputError: as `score` and `allocate`; what is no schedule, or one that does not rise to `sparsity`.

    Warns:
        LayerCollapseWarning: naming the layers of which nothing is kept at the end.
    """
    check_problem(problem)
    card = scorers()[check_choice("scorer", scorer, scorers())]
    chosen = card.schedule if schedule is None else schedule
    masks: Masks = {}
    for step in _steps(problem, chosen, sparsity, scope, minimum):
        masks = cut(_compete(scorer, problem, masks or None, options), step, scope, minimum)
    warn_of_collapse(masks, stacklevel=3)
    return masks


def _steps(problem: Problem, schedule: Schedule | str, target: float, scope: str, minimum: int) -> list[float]:
    """The sparsities to go through, from the first that the scope can have on: smart-ratios have a lowest one.

    What cannot be reached in the end is refused here, before the work.
    """
    given = parse(schedule) if isinstance(schedule, str) else schedule
    if not hasattr(given, "sparsities"):
        raise InputError(f"schedule {schedule!r} is not known; accepted: one of pruneviz.schedule, or its name as text")
    steps = list(given.sparsities(target))
    if not steps or steps != sorted(steps) or steps[-1] != target:
        raise InputError(
            f"the schedule {schedule!r} has the steps {steps}; accepted: sparsities that never fall, the last of them "
            f"{target}"
        )
    blank = {name: torch.zeros_like(w) for name, w in problem.weights.items()}
    cut(blank, target, scope, minimum)
    while len(steps) > 1:
        with suppress(InputError):
            cut(blank, steps[0], scope, minimum)
            break
        del steps[0]
    return steps


def _compete(scorer: str, problem: Problem, masks: Masks | None, options: Mapping[str, Any]) -> Scores:
    """The scores of a step, minus infinity where a weight has been removed and stays so."""
    scores = score(scorer, problem, masks=masks, **options)
    if masks is None or scorers()[scorer].revives:
        return scores
    return {name: s.masked_fill(~masks[name], -torch.inf) for name, s in scores.items()}
