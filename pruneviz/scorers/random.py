"""Random scores: the baseline that any criterion has to beat."""

from __future__ import annotations

from functools import partial

import torch

from pruneviz.errors import check_seed
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.scorers.registry import Card, Scores, register

CARD = Card(
    name="random",
    title="Random",
    effect="Keeps weights drawn at random; all that it decides is how many each layer keeps, through the scope.",
    equation=r"s_j \sim \mathcal{U}[0, 1)",
    source="the baseline that any criterion must beat; layerwise densities from Evci et al. (2020), section 3",
    citation="evci2020rigl",
    cost="0",
    memory="the scores",
    options={"seed": "seed of the scores (default 0); the same on every device"},
    disagreements=(
        "“Random pruning” may mean one global draw, the same density in every layer, or Erdős–Rényi-Kernel "
        "densities. At high sparsity these train to very different accuracies, so a comparison must say which.",
        "The smart ratios of Su et al. (2020) are a fourth choice of densities, and strong.",
    ),
    deviations=(
        "With scope “uniform” the first layer stays dense, as in Evci et al., but the other layers make up for it, so "
        "that the total is exact; “layerwise” prunes every layer at the same sparsity.",
    ),
    needs_data=False,
)


@register(CARD)
def random(problem: Problem, masks: Masks | None = None, *, seed: int = 0) -> Scores:
    """Independent uniform scores in [0, 1).

    Args:
        problem: only the shapes of its prunable weights are used.
        masks: ignored: a weight's score does not depend on the others.
        seed: of the generator on the CPU, so that every device gets the same scores.

    Returns:
        One tensor per prunable weight.

    Raises:
        InputError: a seed that no generator accepts.
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    draw = partial(torch.rand, generator=generator, dtype=torch.float64, device="cpu")
    return {name: draw(w.shape).to(w) for name, w in problem.weights.items()}
