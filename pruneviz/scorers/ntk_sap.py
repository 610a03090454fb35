"""NTK-SAP: keep the weights to which the spectrum of the neural tangent kernel is most sensitive, weights redrawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pruneviz.errors import InputError, check_choice, check_number, check_positive, check_seed
from pruneviz.inputs import Batch, inputs_of
from pruneviz.masks import Masks
from pruneviz.models.init import RULES
from pruneviz.problem import Problem, derivative, leaves_of
from pruneviz.scorers.artificial import artificial_inputs
from pruneviz.scorers.redraw import batch_statistics, drawn_values
from pruneviz.scorers.registry import Card, Scores, register

CARD = Card(
    name="ntk_sap",
    title="NTK-SAP",
    effect="Keeps the weights to which the trace of the neural tangent kernel is most sensitive, on noise in the place "
    "of data and averaged over initial weights.",
    equation=r"s_j = \left|\frac{\partial}{\partial m_j} \sum_{r,\,x} \bigl\| f(x;\, m \odot \theta_r) - "
    r"f(x;\, m \odot (\theta_r + \epsilon n_r)) \bigr\|^2\right|, \quad x, n_r \sim \mathcal{N}(0, 1)",
    source="Wang et al. (2023), section 5 and algorithm 1, with a new input and a new weight each time",
    citation="wang2023ntksap",
    cost="about 2.3 for each resample of each of 20 steps, so about 11 for a step with 5 resamples",
    memory="one gradient, and the graphs of two forward passes",
    options={
        "epsilon": "size of the perturbation of the weights (default 0.01)",
        "resamples": "draws of weights, inputs and perturbations per batch (default 5)",
        "init": "rule by which weights are drawn, such as kaiming_normal (default); none keeps the model's own",
        "batch_size": "examples in one batch of noise; by default batches of noise are shaped like the problem's",
        "seed": "of everything that is drawn (default 0)",
    },
    disagreements=(
        "The authors' code draws once by default and 5 times in its script for CIFAR-10 with ResNet-20, in 20 steps; "
        "100 steps are reported for CIFAR-100 and Tiny-ImageNet.",
        "Their noise comes in the batches of a loader of 10 examples per class, 256 to a batch.",
        "After scoring, their network holds the last draw of the weights and statistics of noise, and training starts "
        "from there; with group normalization the code fails.",
    ),
    deviations=(
        "The model keeps its weights and statistics: what is drawn here is used here only.",
        "Derivatives of all draws are summed and their size is taken last, as in their code.",
        "Kernel and perturbation are those of the prunable weights. Biases of layers that are drawn are zero and batch "
        "normalization's scales and shifts are those of the start; all other parameters are the model's.",
        "Layers that the rule does not know keep their weights.",
        "Batch normalization runs in evaluation mode on the statistics of the whole batch of noise, as theirs does. "
        "A layer whose momentum is 0 keeps its own statistics; one that is used several times gets an average.",
        "The number of weights removed so far enters the seed, so that each step of a schedule has draws of its own.",
    ),
    needs_data=False,
    schedule="exponential:20",
)


@register(CARD)
def ntk_sap(
    problem: Problem,
    masks: Masks | None = None,
    *,
    epsilon: float = 0.01,
    resamples: int = 5,
    init: str = "kaiming_normal",
    batch_size: int | None = None,
    seed: int = 0,
) -> Scores:
    """Sensitivity of the kernel's trace, by one finite difference per draw.

    For small epsilon the squared difference is epsilon^2 ||J n||^2 with J the Jacobian of the outputs; over n its mean
    is epsilon^2 times the trace of the neural tangent kernel J J^T.

    Args:
        problem: the model, and its batches for their shapes: neither data nor labels nor the loss are used. With
            `micro_batch` set, the differences are taken in parts, on the statistics of the whole batch of noise.
        masks: the weights removed so far: they are zero, are not perturbed, and score zero.
        epsilon: the perturbation is this times a standard normal.
        resamples: draws per batch; each has its own weights, inputs and perturbation.
        init: a name of `pruneviz.models.init.RULES`, or "none" for the model's own weights.
        batch_size: None: one batch of noise for each of the problem's, of its shape. A number: a single one of so
            many examples.
        seed: drawn are, each time, the weights in model order, the inputs and the perturbations in model order.

    Returns:
        One tensor per prunable weight.

    Raises:
        InputError: an option out of range, an input that is not floating point, an output that is no tensor or not
            finite.
    """
    check_choice("init", init, ("none", *RULES))
    epsilon = check_number("epsilon", epsilon, above=0.0)
    shapes: list[tuple[Batch, int | None]] = [(batch, None) for batch in problem.batches]
    if batch_size is not None:
        shapes = [(problem.batches[0], check_positive("batch_size", batch_size))]
    scores = {name: torch.zeros_like(w) for name, w in problem.masked_weights(masks).items()}
    removed = sum(int((~mask).sum()) for mask in (masks or {}).values())
    generator = torch.Generator().manual_seed((check_seed(seed) + 1_000_003 * removed) % 2**63)
    for batch, size in shapes * check_positive("resamples", resamples):
        values = {} if init == "none" else drawn_values(problem.model, init, generator)
        inputs = _noise(problem, batch, size, generator)
        weights = {name: _masked(values.pop(name, w), name, masks) for name, w in problem.weights.items()}
        noise = {name: epsilon * _normal(w.shape, w, generator) for name, w in weights.items()}
        moved = {name: w + _masked(noise[name], name, masks) for name, w in weights.items()}
        values |= batch_statistics(problem, {**values, **weights}, inputs)
        for piece in problem.cut((inputs, None)):
            x = inputs_of(problem.model, piece.batch)
            m = leaves_of({name: torch.ones_like(w) for name, w in weights.items()})
            plain, other = (
                problem.output({**values, **{name: m[name] * w for name, w in point.items()}}, x, "eval")
                for point in (weights, moved)
            )
            for name, slope in zip(m, derivative(_squared_distance(plain, other), m), strict=True):
                scores[name] += slope
    return {name: score.abs_() for name, score in scores.items()}


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn in float64 on the CPU, so that every device and precision gets the same numbers."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(like)


def _noise(problem: Problem, batch: Batch, size: int | None, generator: torch.Generator) -> Any:
    return artificial_inputs(
        problem, batch, "ntk_sap", lambda like: _normal((size or len(like), *like.shape[1:]), like, generator)
    )


def _masked(value: Tensor, name: str, masks: Masks | None) -> Tensor:
    return value if masks is None or name not in masks else value.masked_fill(~masks[name].to(value.device), 0)


def _squared_distance(plain: Any, other: Any) -> Tensor:
    if not isinstance(plain, Tensor):
        raise InputError(f"the model's output is a {type(plain).__name__}; ntk_sap needs one tensor")
    distance: Tensor = (plain - other).square().sum()
    if not bool(torch.isfinite(distance)):
        raise InputError(f"the outputs for noise differ by {float(distance.detach())}; ntk_sap needs finite outputs")
    return distance
