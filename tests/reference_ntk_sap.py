"""Slow twins of NTK-SAP (Wang, Li and Sun 2023), from the paper's formulas; nothing here calls the library.

What is random comes from a generator that is used in the documented order: weights in model order, the inputs, the
perturbations in model order, all in float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Values = dict[str, Tensor]
BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def generator_of(seed: int, masks: Mapping[str, Tensor] | None) -> torch.Generator:
    removed = sum(int((~mask).sum()) for mask in (masks or {}).values())
    return torch.Generator().manual_seed(seed + 1_000_003 * removed)


def redraw(model: nn.Module, generator: torch.Generator) -> None:
    """He et al. 2015 for convolutions of images and linear layers, biases zero, batch normalization as at its start."""
    done = set()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and id(module.weight) not in done:
            done.add(id(module.weight))
            noise = torch.randn(module.weight.shape, generator=generator, dtype=torch.float64)
            module.weight.data = noise * math.sqrt(2 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, BATCHNORM):
            module.weight.data.fill_(1.0)
            module.bias.data.zero_()


def run(model: nn.Module, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The output with tensors in the place of parameters, wherever a parameter is used."""
    names = {id(p): name for name, p in model.named_parameters()}
    places = [
        (module, attribute, p, names[id(p)])
        for module in model.modules()
        for attribute, p in list(module._parameters.items())
        if p is not None and names[id(p)] in values
    ]
    for module, attribute, _, _ in places:
        del module._parameters[attribute]
    try:
        for module, attribute, _, name in places:
            setattr(module, attribute, values[name])
        return model(x)
    finally:
        for module, attribute, p, _ in places:
            if attribute in module.__dict__:
                delattr(module, attribute)
            module._parameters[attribute] = p


def draws(problem, masks, *, epsilon, resamples, seed, redrawn, batch_size=None):
    """Each draw as (model with its statistics set, weights, perturbed weights, inputs)."""
    generator = generator_of(seed, masks)
    shapes = [(len(x), *x.shape[1:]) for x, _ in problem.batches]
    if batch_size is not None:
        shapes = [(batch_size, *shapes[0][1:])]
    for _ in range(resamples):
        for shape in shapes:
            model = copy.deepcopy(problem.model).eval()
            if redrawn:
                redraw(model, generator)
            x = torch.randn(shape, generator=generator, dtype=torch.float64)
            weights = {n: p.detach().clone() for n, p in model.named_parameters() if n in problem.names}
            noise = {n: torch.randn(w.shape, generator=generator, dtype=torch.float64) for n, w in weights.items()}
            moved = {n: w + epsilon * noise[n] for n, w in weights.items()}
            kept = {n: torch.ones_like(w) if n not in (masks or {}) else masks[n].double() for n, w in weights.items()}
            for module in model.modules():  # as in the authors' code: momentum 1, one pass in training mode
                if isinstance(module, BATCHNORM):
                    module.momentum = 1.0
                    module.reset_running_stats()
                    module.train()
            with torch.no_grad():
                run(model, {n: kept[n] * w for n, w in weights.items()}, x)
            yield model.eval(), weights, moved, x


def objective(problem, m: Mapping[str, Tensor], masks=None, **options) -> Tensor:
    """The summed squared distance at mask variables m, statistics being those of the masks."""
    total = torch.zeros((), dtype=torch.float64)
    for model, weights, moved, x in draws(problem, masks, **options):
        plain, other = (run(model, {n: m[n] * w for n, w in of.items()}, x) for of in (weights, moved))
        for row, other_row in zip(plain, other, strict=True):
            total = total + (row - other_row).norm() ** 2
    return total


def ntk_sap(problem, masks=None, *, epsilon=0.01, resamples=1, seed=0, redrawn=True, batch_size=None) -> Values:
    """Algorithm 1's score with explicit mask variables, zero where the mask is."""
    options = {"epsilon": epsilon, "resamples": resamples, "seed": seed, "redrawn": redrawn, "batch_size": batch_size}
    parameters = dict(problem.model.named_parameters())
    m = {n: torch.ones(parameters[n].shape, dtype=torch.float64) for n in problem.names}
    for name in masks or {}:
        m[name] = masks[name].double()
    for value in m.values():
        value.requires_grad_()
    slopes = torch.autograd.grad(objective(problem, m, masks, **options), list(m.values()))
    return {n: (slope * (m[n] != 0)).abs().detach() for n, slope in zip(m, slopes, strict=True)}


def ntk_sap_by_differences(problem, step: float = 1e-5, **options) -> Values:
    """What the objective does when the mask of one weight after the other moves away from 1."""
    parameters = dict(problem.model.named_parameters())
    ones = {n: torch.ones(parameters[n].shape, dtype=torch.float64) for n in problem.names}
    scores = {n: torch.zeros_like(value) for n, value in ones.items()}
    for name, value in ones.items():
        for j in range(value.numel()):
            ends = []
            for sign in (1, -1):
                moved = value.clone()
                moved.view(-1)[j] += sign * step
                with torch.no_grad():
                    ends.append(float(objective(problem, {**ones, name: moved}, **options)))
            scores[name].view(-1)[j] = abs(ends[0] - ends[1]) / (2 * step)
    return scores


def trace_slopes(function: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
    """d/dm at m = 1 of the squared norm of the Jacobian of f(m * w) with respect to w, m inside: the kernel's trace.

    Perturbing w by n moves m * w by m * n, so that the Jacobian is that with respect to m * w, times m.
    """
    m = torch.ones_like(weights).requires_grad_()
    point = m * weights
    jacobian = torch.autograd.functional.jacobian(function, point, create_graph=True)
    trace = (jacobian * m).square().sum()
    return torch.autograd.grad(trace, m)[0]
