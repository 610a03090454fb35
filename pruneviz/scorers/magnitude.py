"""Magnitude: keep the largest weights."""

from __future__ import annotations

from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.scorers.registry import Card, Scores, register

CARD = Card(
    name="magnitude",
    title="Magnitude",
    effect="Keeps the weights that are largest in absolute value.",
    equation=r"s_j = |w_j|",
    source="Han et al. (2015), section 3, there after training; at initialization a baseline of Frankle et al. (2021)",
    citation="han2015learning",
    cost="0",
    memory="the scores",
    disagreements=(
        "A common implementation keeps weights strictly above a threshold and so prunes one more than asked for.",
        "Some default configurations leave the output layer out of the ranking.",
    ),
    deviations=(
        "At initialization the size of a weight says mostly how wide its layer is: with Kaiming initialization a "
        "global ranking prunes wide layers first. Compare it with scope “layerwise”.",
    ),
    needs_data=False,
)


@register(CARD)
def magnitude(problem: Problem, masks: Masks | None = None) -> Scores:
    """Score |w|, zero for weights that `masks` removes.

    Args:
        problem: only its prunable weights are used.
        masks: the weights removed so far.

    Returns:
        One tensor per prunable weight.
    """
    return {name: w.abs() for name, w in problem.masked_weights(masks).items()}
