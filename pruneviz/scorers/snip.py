"""SNIP: keep the weights whose removal would change the loss most, to first order."""

from __future__ import annotations

from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.scorers.registry import Card, Scores, register

CARD = Card(
    name="snip",
    title="SNIP",
    effect="Keeps the weights whose removal would change the loss most, to first order.",
    equation=r"s_j = \left|\frac{\partial L(m \odot w)}{\partial m_j}\right|_{m=1} = |w_j\, g_j|, \quad g = \nabla_w L",
    source="Lee et al. (2019), equations 4 and 5; batches summed before the absolute value as in Lee et al. (2020)",
    citation="lee2019snip",
    cost="1",
    memory="one gradient",
    disagreements=(
        "The authors score with batch normalization in evaluation mode on its initial statistics, where it does "
        "almost nothing; most re-implementations score in training mode.",
        "The authors also prune biases, and train another draw of the weights than the one they scored.",
        "A popular re-implementation draws new Xavier weights for scoring and trains the old ones.",
        "Divided by its sum or not: the ranking is the same.",
        "Keeping every score at or above a threshold keeps all ties; exact counts need a rule for ties.",
    ),
    deviations=(
        "Weights only, no biases; the weights that are scored are the ones that are trained.",
        "The choice of batch statistics is the problem's `batchnorm`, not hidden in the scorer.",
        "Several batches: signed derivatives are summed, the absolute value is taken last (Lee et al. 2020).",
    ),
)


@register(CARD)
def snip(problem: Problem, masks: Masks | None = None) -> Scores:
    """Connection sensitivity |w * dL/dw|, the loss summed over the batches.

    Args:
        problem: model, batches and loss.
        masks: the weights removed so far: they count as zero, so they score zero.

    Returns:
        One tensor per prunable weight.
    """
    weights = problem.masked_weights(masks)
    _, gradient = problem.gradient(weights)
    return {name: (w * gradient[name]).abs() for name, w in weights.items()}
