"""Products of the loss's Hessian with a vector by a central difference of gradients: the memory of one gradient.

The Hessian of automatic differentiation is that of the smooth piece of the network on which the weights lie: a ReLU
has no second derivative, not even where it bends. A difference that crosses such kinks is something else, so they are
held: each ReLU and each pooling window decides at the displaced weights as it did at the weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.inputs import Batch
from pruneviz.problem import Piece, Problem, Weights, derivative, leaves_of
from pruneviz.scorers.hvp import Direction, HessianProduct, add_up
from pruneviz.scorers.kinks import held_kinks
from pruneviz.scorers.twice import fast_second_derivatives


def difference_product(
    problem: Problem,
    values: Mapping[str, Tensor],
    direction: Direction,
    *,
    batches: Sequence[Batch] | None = None,
    temperature: float = 1.0,
) -> HessianProduct:
    r"""H v by a central difference of two gradients, with the network's kinks held where they are.

    $$ H v \approx \frac{\nabla L(w + e v) - \nabla L(w - e v)}{2 e}, \qquad
       e = \frac{\sqrt[3]{\varepsilon}}{100}\, \min_l \frac{\lVert w_l \rVert}{\lVert v_l \rVert} $$

    with the machine epsilon of the weights' dtype and the smallest ratio of any tensor l. The cube root balances
    rounding against truncation; the hundredth is for how fast the Hessian of a network with batch normalization
    turns. Kinks other than those of `held_kinks` (absolute values, `clamp`) are crossed, and add noise.

    Args:
        problem: as in `hessian_product`, and so are the others.
        values: where to differentiate.
        direction: v, or a function of the gradient that returns it.
        batches: other batches than the problem's own.
        temperature: the output is divided by it.

    Raises:
        InputError: a loss that is not finite, or a network that runs other operations at the displaced weights.
    """
    *others, last = problem.pieces(batches)
    total, gradient, product = 0.0, Weights(), Weights()
    with exact_arithmetic(), fast_second_derivatives(), _bar(4 * len(others) + 3) as bar:
        for piece in (*others, last):
            leaves = leaves_of(values)
            with held_kinks() as kinks:
                loss = problem.piece_loss(leaves, piece, temperature)
            add_up(gradient, leaves, derivative(loss, leaves))
            total += float(loss.detach())
            bar.update()
        v = direction(gradient) if callable(direction) else direction
        step = _step(values, v)
        for piece in (last, *others):
            if piece is not last:
                with held_kinks() as kinks, torch.no_grad():
                    problem.piece_loss(values, piece, temperature)
                bar.update()
            for e in (step, -step):
                moved = {name: torch.add(w, v[name], alpha=e) for name, w in values.items()}
                with held_kinks(kinks.decisions):
                    add_up(product, moved, _gradient(problem, moved, piece, temperature), 0.5 / e)
                bar.update()
    return HessianProduct(total, gradient, product)


def _gradient(problem: Problem, values: Weights, piece: Piece, temperature: float) -> Sequence[Tensor]:
    leaves = leaves_of(values)
    loss = problem.piece_loss(leaves, piece, temperature)
    if not loss.requires_grad:
        return [torch.zeros_like(w) for w in leaves.values()]
    return torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)


def _step(values: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> float:
    """The length e of the step: a small part of the norm of the tensor that v changes most for its size."""
    norms = [(torch.linalg.vector_norm(w), torch.linalg.vector_norm(direction[name])) for name, w in values.items()]
    ratios = [float(size / change) for size, change in norms if size > 0 and change > 0]
    epsilon = max(torch.finfo(w.dtype).eps for w in values.values())
    return float(0.01 * epsilon ** (1 / 3) * min(ratios, default=1.0))


def _bar(steps: int) -> tqdm[Any]:
    return tqdm(total=steps, desc="H v", leave=False, disable=None, delay=5.0)
