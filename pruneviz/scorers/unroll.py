"""Meta-gradients: the gradient of a loss after a few steps of SGD, with respect to where the steps began.

Two roads lead to the same number. One keeps the graph of all steps and differentiates it. The other keeps the
parameters of each step only and goes back through the steps with one Hessian-vector product each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from pruneviz.errors import InputError
from pruneviz.problem import Piece, Problem, Weights, derivative, finite_loss, leaves_of
from pruneviz.scorers.hvp import hessian_product
from pruneviz.scorers.twice import fast_second_derivatives


@dataclass(frozen=True)
class Unrolled:
    r"""A few steps of SGD with momentum and without weight decay, then one loss.

    $$ v_{t+1} = \mu v_t + \nabla\ell_t(\theta_t), \quad \theta_{t+1} = \theta_t - \eta v_{t+1}, \quad
       L = \ell_M(\theta_M) $$

    Attributes:
        problem: the loss and the batches.
        start: theta_0, by name; what is not named is a constant of the model.
        moved: the names among them that SGD moves.
        inner: for each step the place of its batch among the problem's.
        outer: the place of the batch of the last loss.
        lr: the step size, eta.
        momentum: mu.
        removed: by name, True for entries that are never updated.
        constant_first: whether the first step's gradient counts as a constant when the steps are differentiated.
    """

    problem: Problem
    start: Weights
    moved: Sequence[str]
    inner: Sequence[int]
    outer: int
    lr: float
    momentum: float
    removed: Mapping[str, Tensor] = field(default_factory=dict)
    constant_first: bool = False

    def through_graph(self) -> Weights:
        """The derivative with respect to theta_0, from the graph of all steps, which grows with their number."""
        with fast_second_derivatives(), _twice_differentiable():
            start = leaves_of(self.start)
            values, velocity = start, Weights()
            for step in _bar(range(len(self.inner)), "inner steps"):
                gradient = self._gradient(values, step, create_graph=True)
                if step == 0 and self.constant_first:
                    gradient = {name: g.detach() for name, g in gradient.items()}
                values, velocity = self._moved_on(values, velocity, gradient)
            pieces = self.problem.cut(self.problem.batches[self.outer], self.outer)
            loss = torch.stack([self._loss(values, piece, len(self.inner)) for piece in pieces]).sum()
            return dict(zip(start, derivative(loss, start), strict=True))

    def in_reverse(self) -> Weights:
        """The same from one Hessian-vector product per step: one graph at a time, and the parameters of each step.

        With a the derivative with respect to theta_t and u that with respect to v_t, each through the later steps:
        u <- u - lr a, then a <- a + H_t u, then u <- momentum u.
        """
        states = self._states()
        slope = self._outer_gradient(states.pop())
        push = {name: torch.zeros_like(self.start[name]) for name in self.moved}
        still = {name: torch.zeros_like(w) for name, w in self.start.items() if name not in push}
        for step in _bar(reversed(range(len(self.inner))), "steps in reverse"):
            values = states.pop()
            push = self._kept({name: (self.momentum * u).sub_(slope[name], alpha=self.lr) for name, u in push.items()})
            if step == 0 and self.constant_first:
                break
            batch = self.problem.batches[self.inner[step]]
            product = hessian_product(self.problem, values, push | still, batches=[batch]).product
            slope = {name: a + product[name] for name, a in slope.items()}
        return slope

    def at_the_end(self) -> Weights:
        """The derivative with respect to theta_M: to first order, with every step's gradient a constant, the same."""
        return self._outer_gradient(self._states(last=True).pop())

    def _states(self, last: bool = False) -> list[Weights]:
        """theta_0 to theta_M, or theta_M alone."""
        values, velocity = self.start, Weights()
        states = [values]
        for step in _bar(range(len(self.inner)), "inner steps"):
            values, velocity = self._moved_on(values, velocity, self._gradient(values, step))
            if last:
                states.clear()
            states.append(values)
        return states

    def _gradient(self, values: Weights, step: int, create_graph: bool = False) -> Weights:
        """What SGD follows in a step: the gradient with respect to what it moves."""
        index = self.inner[step]
        moved = {name: values[name] for name in self.moved}
        sums: Weights = {}
        for piece in self.problem.cut(self.problem.batches[index], index):
            leaves = moved if create_graph else leaves_of(moved)
            loss = self._loss(values | leaves, piece, step)
            gradient = _differentiated(loss, list(leaves.values()), create_graph)
            sums = {name: sums[name] + g if sums else g for name, g in zip(leaves, gradient, strict=True)}
        return self._kept(sums)

    def _moved_on(self, values: Weights, velocity: Weights, gradient: Weights) -> tuple[Weights, Weights]:
        """One update as `torch.optim.SGD` does it."""
        if velocity and self.momentum:
            gradient = {name: g.add(velocity[name], alpha=self.momentum) for name, g in gradient.items()}
        return values | {name: values[name].sub(v, alpha=self.lr) for name, v in gradient.items()}, gradient

    def _outer_gradient(self, values: Weights) -> Weights:
        sums = {name: torch.zeros_like(w) for name, w in values.items()}
        for piece in self.problem.cut(self.problem.batches[self.outer], self.outer):
            leaves = leaves_of(values)
            for name, g in zip(leaves, derivative(self._loss(leaves, piece, len(self.inner)), leaves), strict=True):
                sums[name] += g
        return sums

    def _kept(self, values: Weights) -> Weights:
        return {n: v.masked_fill(self.removed[n], 0) if n in self.removed else v for n, v in values.items()}

    def _loss(self, values: Weights, piece: Piece, step: int) -> Tensor:
        """What a piece adds to the loss after so many steps."""
        loss = self.problem.loss(values, piece.batch, index=piece.index)
        if step and isinstance(loss, Tensor) and loss.numel() == 1 and not bool(torch.isfinite(loss)):
            raise InputError(
                f"the loss of batch {piece.index} is {float(loss.detach())} after {step} of {len(self.inner)} inner "
                f"steps with lr {self.lr:g} and momentum {self.momentum:g}, which diverge; accepted: a smaller lr"
            )
        return finite_loss(loss, piece.index) if piece.share == 1.0 else piece.share * finite_loss(loss, piece.index)


def _differentiated(loss: Tensor, at: list[Tensor], create_graph: bool) -> Sequence[Tensor]:
    """The gradient, zero and without a warning where there is none: the derivative at the end warns, once."""
    if not at or not loss.requires_grad:
        return [torch.zeros_like(w) for w in at]
    return torch.autograd.grad(loss, at, create_graph=create_graph, allow_unused=True, materialize_grads=True)


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise InputError(
            f"a meta-gradient needs second derivatives, and the model has an operation without: {error}"
        ) from error


def _bar(steps: Iterable[int], what: str) -> Iterable[int]:
    return tqdm(list(steps), desc=what, leave=False, disable=None)
