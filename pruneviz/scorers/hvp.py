"""Products of the loss's Hessian with a vector, by differentiating the gradient's inner product with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError
from pruneviz.inputs import Batch
from pruneviz.problem import Piece, Problem, Weights, derivative, leaves_of

#: The vector v of H v, or a function that makes it from the gradient.
Direction = Mapping[str, Tensor] | Callable[[Weights], Weights]


@dataclass(frozen=True)
class HessianProduct:
    """What one Hessian-vector product computes on its way.

    Attributes:
        loss: summed over the batches.
        gradient: of that loss, by name.
        product: H v, by name.
    """

    loss: float
    gradient: Weights
    product: Weights


def hessian_product(
    problem: Problem,
    values: Mapping[str, Tensor],
    direction: Direction,
    *,
    batches: Sequence[Batch] | None = None,
    temperature: float = 1.0,
) -> HessianProduct:
    """H v, with H the Hessian of the loss summed over batches, in exact arithmetic.

    Args:
        problem: the loss; cut into its micro-batches, of which the graph of one is alive at a time.
        values: where to differentiate, of any parameters, by name; what is not named is a constant of the model.
        direction: v, one tensor for each of `values`; or a function that is given the gradient and returns v.
        batches: other batches than the problem's own.
        temperature: the output is divided by it.

    Raises:
        InputError: a loss that is not finite, or an operation of the model that has no second derivative.
    """
    with exact_arithmetic():
        pieces = list(problem.pieces(batches))
        if callable(direction) and len(pieces) > 1:
            direction = direction(problem.gradient(values, batches=batches, temperature=temperature)[1])
        total = 0.0
        gradient = {name: torch.zeros_like(w) for name, w in values.items()}
        product = {name: torch.zeros_like(w) for name, w in values.items()}
        for piece in pieces:
            loss, first, second = _one_piece(problem, values, direction, piece, temperature)
            total += loss
            for name, g, h in zip(values, first, second, strict=True):
                gradient[name] += g
                product[name] += h
    return HessianProduct(total, gradient, product)


def _one_piece(
    problem: Problem, values: Mapping[str, Tensor], direction: Direction, piece: Piece, temperature: float
) -> tuple[float, list[Tensor], list[Tensor]]:
    """Loss, gradient and H v of one piece; a function of the gradient reads it off the graph that is differentiated."""
    leaves = leaves_of(values)
    loss = problem.piece_loss(leaves, piece, temperature)
    gradient = derivative(loss, leaves, create_graph=True)
    constants = [g.detach() for g in gradient]
    along = direction(dict(zip(leaves, constants, strict=True))) if callable(direction) else direction
    inner = torch.stack([(g * along[name]).sum() for name, g in zip(leaves, gradient, strict=True)]).sum()
    try:
        second = derivative(inner, leaves)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise InputError(
            f"a Hessian product needs second derivatives, and the model has an operation without: {error}"
        ) from error
    return float(loss.detach()), constants, second
