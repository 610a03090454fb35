"""Gradient flow: the squared norm of the loss's gradient, which GraSP sets out to preserve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pruneviz.masks import Masks
from pruneviz.problem import Problem


@dataclass(frozen=True)
class GradientFlow:
    """The squared gradient norm of a (masked) network.

    Attributes:
        norm_squared: the sum of squared derivatives over all weights that are kept; the loss is a mean over
            each batch and summed over batches.
        per_layer: the same sum, layer by layer.
        loss: the loss itself, summed over batches.
    """

    norm_squared: float
    per_layer: Mapping[str, float]
    loss: float


def gradient_flow(problem: Problem, masks: Masks | None = None) -> GradientFlow:
    r"""Measure $\|m \odot \nabla L(m \odot w)\|^2$ (Wang et al. 2020, equation 5), at a cost of one gradient.

    To first order it is how fast gradient descent lowers the loss of the masked network. Only prunable
    weights that are kept count: a removed weight has no gradient to follow.

    Args:
        problem: model, batches and loss; left untouched.
        masks: the weights removed; None for the dense network.

    Returns:
        A `GradientFlow`; sums are taken in float64.

    Raises:
        InputError: a mask that does not fit, or a loss that is not finite.
    """
    loss, gradient = problem.gradient(problem.masked_weights(masks))
    per_layer = {}
    for name, g in gradient.items():
        kept = g if masks is None or name not in masks else g.masked_fill(~masks[name].to(g.device), 0)
        per_layer[name] = float(kept.double().square().sum())
    return GradientFlow(norm_squared=sum(per_layer.values()), per_layer=per_layer, loss=loss)
