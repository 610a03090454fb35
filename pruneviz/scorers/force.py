"""FORCE: SNIP's criterion on the pruned network, in which weights that were removed may come back."""

from __future__ import annotations

from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.scorers.registry import Card, Scores, register

CARD = Card(
    name="force",
    title="FORCE",
    effect="Keeps the weights that matter most to the loss of the pruned network, not of the dense one; a weight that "
    "was removed comes back when it would matter in what is left.",
    equation=r"s_j = \left|\frac{\partial L(m \odot w)}{\partial m_j}\right| = |w_j\, g_j|, "
    r"\quad g = \nabla L \;\text{at}\; m \odot w",
    source="de Jorge et al. (2021), section 4: FORCE, 60 steps with exponentially falling density",
    citation="dejorge2021force",
    cost="1 for each of 60 steps",
    memory="one gradient",
    disagreements=(
        "The same paper's Iterative SNIP gives removed weights the lowest score, so that they stay removed: that is "
        'scorer `snip` with schedule="exponential:60".',
        "The authors draw new batches in every step: 1 batch of 128 for CIFAR-10, 10 for CIFAR-100, 20 for "
        "Tiny-ImageNet and 40 for ImageNet.",
        "Their code also has a method called GRASP-It, which scores the squared gradient: it has no Hessian and is "
        "not GraSP.",
        "Keeping every score at or above a threshold keeps all ties; exact counts need a rule for ties.",
    ),
    deviations=(
        "Every step uses the problem's batches, all of them: the masks are a function of the problem.",
        "Batches are summed, not averaged: the ranking is the same.",
        "The choice of batch statistics is the problem's `batchnorm`; the authors use training mode.",
        "Removed weights score whatever the schedule: in one shot, without masks, this is SNIP.",
    ),
    schedule="exponential:60",
    revives=True,
)


@register(CARD)
def force(problem: Problem, masks: Masks | None = None) -> Scores:
    """The mask's derivative |w * dL/dw| with w the dense weights and dL/dw taken at the pruned ones.

    Args:
        problem: model, batches and loss; the model's weights are the dense ones.
        masks: the weights removed so far: they are zero where the loss is differentiated, and score like all others.

    Returns:
        One tensor per prunable weight, also for those that the masks remove.

    Raises:
        InputError: a loss that is not finite, naming the batch.
    """
    _, gradient = problem.gradient(problem.masked_weights(masks))
    return {name: (w * gradient[name]).abs() for name, w in problem.weights.items()}
