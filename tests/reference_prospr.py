"""Slow twins of ProsPr (Alizadeh et al. 2022, algorithm 1), in float64: explicit masks, loops, and differences.

Nothing here calls the library; see `reference.py` for the copy of the model that takes any tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from reference import Network, Values, flat, unflat
from torch import Tensor


class Training:
    """A problem's network whose prunable and trained parameters are all given from outside."""

    def __init__(self, problem, masks: Mapping[str, Tensor] | None = None) -> None:
        parameters = dict(problem.model.named_parameters())
        self.trained = [name for name, p in parameters.items() if p.requires_grad]
        names = [name for name in parameters if name in self.trained or name in problem.names]
        view = SimpleNamespace(model=problem.model, names=names, loss_function=problem.loss_function)
        view.batchnorm, view.batches = problem.batchnorm, problem.batches
        self.network, self.prunable = Network(view), problem.names
        self.start = self.network.values(masks)
        self.kept = {name: mask.double() for name, mask in (masks or {}).items()}

    def steps(self, values: Values, batches, lr: float, momentum: float, order: str = "exact") -> Values:
        """SGD as in its textbook form. `order`: which gradients are functions of the start, and which constants."""
        velocity = {name: torch.zeros_like(values[name]) for name in self.trained}
        for number, batch in enumerate(batches):
            if not values[next(iter(values))].requires_grad:
                values = {name: value.detach().requires_grad_() for name, value in values.items()}
            moved = [values[name] for name in self.trained]
            loss = self.network.loss_of_batch(values, batch)
            gradients = torch.autograd.grad(loss, moved, create_graph=True, allow_unused=True)
            values = dict(values)
            for name, g in zip(self.trained, gradients, strict=True):
                g = torch.zeros_like(values[name]) if g is None else g
                if order == "none" or (order == "all but the first" and number == 0):
                    g = g.detach()
                velocity[name] = momentum * velocity[name] + g * self.kept.get(name, 1.0)
                values[name] = values[name] - lr * velocity[name]
        return values

    def loss_after(self, values: Values, inner, outer, lr: float, momentum: float) -> float:
        """l_M(theta_M) from this start."""
        end = self.steps(values, inner, lr, momentum, "none")
        return float(self.network.loss_of_batch(end, outer).detach())


def shares(problem, steps: int, new_data: bool = True):
    """The inner batches and the outer one."""
    inner = problem.batches[:steps] if new_data else [problem.batches[0]] * steps
    return inner, problem.batches[steps] if new_data else problem.batches[-1]


def prospr(
    problem, masks=None, *, steps=3, lr=0.5, momentum=0.9, first_order=False, new_data=True, variant="paper"
) -> Values:
    """Algorithm 1 with one explicit mask variable per weight: its derivative at 1, then its size."""
    training = Training(problem, masks)
    inner, outer = shares(problem, steps, new_data)
    c = {name: torch.ones_like(value).requires_grad_() for name, value in training.start.items()}
    values = {name: c[name] * value for name, value in training.start.items()}
    cut = variant == "official" and momentum != 0
    order = "none" if first_order else "all but the first" if cut else "exact"
    values = training.steps(values, inner, lr, momentum, order)
    loss = training.network.loss_of_batch(values, outer)
    wanted = [c[name] for name in problem.names]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return {name: g.abs() for name, g in zip(problem.names, gradients, strict=True)}


def with_one_mask(problem, factors, *, masks=None, steps=3, lr=0.5, momentum=0.9) -> list[list[float]]:
    """For each prunable weight in turn, the loss after the steps with its mask at each of the factors."""
    training = Training(problem, masks)
    inner, outer = shares(problem, steps)
    prunable = {name: training.start[name] for name in problem.names}
    vector, losses = flat(prunable), []
    for j in range(len(vector)):
        losses.append([])
        for factor in factors:
            scaled = vector.clone()
            scaled[j] *= factor
            values = training.start | unflat(scaled, prunable)
            losses[-1].append(training.loss_after(values, inner, outer, lr, momentum))
    return losses


def prospr_by_differences(problem, *, masks=None, step=1e-5, **options) -> Values:
    """What the loss after the steps does when one mask moves away from 1: no second derivative anywhere."""
    losses = with_one_mask(problem, (1 + step, 1 - step), masks=masks, **options)
    change = torch.tensor([(up - down) / (2 * step) for up, down in losses], dtype=torch.float64)
    training = Training(problem, masks)
    return unflat(change.abs(), {name: training.start[name] for name in problem.names})


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors without ties."""
    ranks = torch.stack([v.argsort().argsort().double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


# Whole channels ------------------------------------------------------------------------------------------

Channels = list[
    list[tuple[str, int]]
]  # for each group the parameters that hold its channels, and along which dimension


def _scaled(start: Values, groups: Channels, masks: list[Tensor]) -> Values:
    """Every parameter times its channels' mask variables."""
    values = dict(start)
    for group, c in zip(groups, masks, strict=True):
        for name, dim in group:
            shape = [1] * start[name].dim()
            shape[dim] = -1
            values[name] = values[name] * c.reshape(shape)
    return values


def of_channels(problem, groups: Channels, *, steps=3, lr=0.5, momentum=0.9) -> list[Tensor]:
    """One explicit mask variable per channel: the size of the loss's derivative at 1; `steps=0` is SNIP.

    SNIP sums over all batches; ProsPr takes one for each step and one for the loss.
    """
    training = Training(problem)
    masks = [torch.ones(training.start[group[0][0]].shape[group[0][1]]).double().requires_grad_() for group in groups]
    values = _scaled({name: w.requires_grad_() for name, w in training.start.items()}, groups, masks)
    if steps == 0:
        loss = torch.stack([training.network.loss_of_batch(values, batch) for batch in problem.batches]).sum()
    else:
        inner, outer = shares(problem, steps)
        loss = training.network.loss_of_batch(training.steps(values, inner, lr, momentum), outer)
    return [g.abs() for g in torch.autograd.grad(loss, masks)]


def of_channels_by_differences(problem, groups: Channels, *, lr=0.5, momentum=0.9, step=1e-5) -> list[Tensor]:
    """What the loss after three steps does when one channel's mask moves away from 1."""
    training = Training(problem)
    inner, outer = shares(problem, 3)
    changes = []
    for number, group in enumerate(groups):
        size = training.start[group[0][0]].shape[group[0][1]]
        changes.append(torch.zeros(size, dtype=torch.float64))
        for channel in range(size):
            ends = []
            for factor in (1 + step, 1 - step):
                masks = [torch.ones(training.start[g[0][0]].shape[g[0][1]]).double() for g in groups]
                masks[number][channel] = factor
                values = _scaled(training.start, groups, masks)
                ends.append(training.loss_after(values, inner, outer, lr, momentum))
            changes[-1][channel] = abs(ends[0] - ends[1]) / (2 * step)
    return changes
