"""Products of the loss's Hessian with a vector: exactly, by differentiating the gradient along it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError
from pruneviz.inputs import Batch
from pruneviz.problem import Problem, Weights, derivative, leaves_of
from pruneviz.scorers.twice import fast_second_derivatives

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

    One graph of a gradient is alive at a time, of one batch or micro-batch. A direction that depends on the gradient
    of several needs a pass over all of them first, whose last graph is used at once.

    Args:
        problem: the loss, and how its batches are cut.
        values: where to differentiate, of any parameters, by name; what is not named is a constant of the model.
        direction: v, one tensor for each of `values`; or a function that is given the gradient and returns v.
        batches: other batches than the problem's own.
        temperature: the output is divided by it.

    Raises:
        InputError: a loss that is not finite, or an operation of the model that has no second derivative.
    """
    *others, last = problem.pieces(batches)
    first_pass = others if callable(direction) else []
    total, gradient, product = 0.0, Weights(), Weights()
    rounds = [(piece, False) for piece in first_pass] + [(piece, True) for piece in (last, *others)]
    with exact_arithmetic(), fast_second_derivatives():
        for number, (piece, twice) in enumerate(tqdm(rounds, desc="H v", leave=False, disable=None, delay=5.0)):
            leaves = leaves_of(values)
            loss = problem.piece_loss(leaves, piece, temperature)
            first = derivative(loss, leaves, create_graph=twice)
            if number <= len(others):  # each piece's first time
                total += float(loss.detach())
                add_up(gradient, leaves, first)
            if twice:
                v = direction = direction(gradient) if callable(direction) else direction
                add_up(product, leaves, _along(first, v, leaves))
    return HessianProduct(total, gradient, product)


def _along(gradient: Sequence[Tensor], direction: Mapping[str, Tensor], leaves: Weights) -> Sequence[Tensor]:
    """The derivative of <gradient, v>, zero where it does not depend on a weight."""
    curved = [(g, v) for g, v in zip(gradient, (direction[name] for name in leaves), strict=True) if g.requires_grad]
    if not curved:
        return [torch.zeros_like(w) for w in leaves.values()]
    outputs, vectors = zip(*curved, strict=True)
    try:
        return torch.autograd.grad(outputs, list(leaves.values()), vectors, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise InputError(
            f"a Hessian product needs second derivatives, and the model has an operation without: {error}"
        ) from error


def add_up(sums: Weights, names: Iterable[str], parts: Iterable[Tensor], factor: float = 1.0) -> None:
    """Add tensors to sums by name; never in place, because autograd may hand out one tensor twice."""
    for name, part in zip(names, parts, strict=True):
        scaled = part.detach() if factor == 1.0 else part.detach() * factor
        sums[name] = sums[name] + scaled if name in sums else scaled
