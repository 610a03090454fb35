"""The published recipes in plain form: what a scorer costs without any care for its cost.

Each is written from the formulas and from how the public codes go about it, on a deep copy of the model in training
mode (SynFlow: evaluation mode) with batches `(x, y)`. Scores are returned by parameter name, larger is kept first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Batches = Sequence[tuple[Tensor, Tensor]]
Scores = dict[str, Tensor]


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    return {f"{path}.weight": m for path, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def _masked_copy(model: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """A copy whose layers have a second parameter, by which their forward pass multiplies the weight."""
    model = copy.deepcopy(model)

    def conv(self: nn.Conv2d, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)

    def linear(self: nn.Linear, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)

    layers = _layers(model)
    for layer in layers.values():
        layer.mask = nn.Parameter(torch.ones_like(layer.weight))
        layer.weight.requires_grad_(False)
        layer.forward = MethodType(conv if isinstance(layer, nn.Conv2d) else linear, layer)
    return model, layers


def snip(model: nn.Module, batches: Batches) -> Scores:
    """|dL/dm| at m = 1, batches summed before the absolute value (Lee et al. 2019, equation 5)."""
    model, layers = _masked_copy(model)
    for x, y in batches:
        F.cross_entropy(model(x), y).backward()
    return {name: layer.mask.grad.abs() for name, layer in layers.items()}


def force(model: nn.Module, batches: Batches) -> Scores:
    """One step of FORCE on the dense network, where it is SNIP (de Jorge et al. 2021)."""
    return snip(model, batches)


def grasp(model: nn.Module, batches: Batches, temperature: float = 200.0) -> Scores:
    """Two passes over each batch: the gradient, then once more with a graph, to differentiate its product with g."""
    model = copy.deepcopy(model)
    layers = _layers(model)
    weights = [layer.weight for layer in layers.values()]
    total = [torch.zeros_like(w) for w in weights]
    for x, y in batches:
        grads = torch.autograd.grad(F.cross_entropy(model(x) / temperature, y), weights)
        total = [t + g for t, g in zip(total, grads, strict=True)]
    for x, y in batches:
        grads = torch.autograd.grad(F.cross_entropy(model(x) / temperature, y), weights, create_graph=True)
        inner = sum((g * t).sum() for g, t in zip(grads, total, strict=True))
        inner.backward()
    return {name: layer.weight.grad * layer.weight.detach() for name, layer in layers.items()}


def prospr(
    model: nn.Module, batches: Batches, lr: float = 0.5, momentum: float = 0.9, first_order: bool = False
) -> Scores:
    """|dL(theta_M)/dm| through the graph of all steps (Alizadeh et al. 2022), one batch per step and one at the end.

    With `first_order`, the gradient at theta_M takes the place of the meta-gradient.
    """
    model = copy.deepcopy(model)
    names = list(_layers(model))
    masks = {name: torch.ones_like(dict(model.named_parameters())[name]).requires_grad_() for name in names}
    dense = {name: p.detach() for name, p in model.named_parameters()}
    values = {name: p * masks[name] if name in masks else p.clone().requires_grad_() for name, p in dense.items()}
    velocity: Scores = {}
    for x, y in batches[:-1]:
        loss = F.cross_entropy(functional_call(model, values, (x,)), y)
        grads = torch.autograd.grad(loss, list(values.values()), create_graph=not first_order)
        velocity = {n: g + momentum * velocity[n] if velocity else g for n, g in zip(values, grads, strict=True)}
        values = {name: value - lr * velocity[name] for name, value in values.items()}
    x, y = batches[-1]
    loss = F.cross_entropy(functional_call(model, values, (x,)), y)
    return {n: g.abs() for n, g in zip(names, torch.autograd.grad(loss, list(masks.values())), strict=True)}


def synflow(model: nn.Module, batches: Batches) -> Scores:
    """|w * dR/dw| for R the sum of the logits of one image of ones, with every entry of the state at its size."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        signs = {name: value.sign() for name, value in model.state_dict().items()}
        for value in model.state_dict().values():
            value.abs_()
    model(torch.ones_like(batches[0][0][:1])).sum().backward()
    scores = {name: (layer.weight.grad * layer.weight).detach().abs() for name, layer in _layers(model).items()}
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.mul_(signs[name])
    return scores


def ntk_sap(model: nn.Module, batches: Batches, epsilon: float = 0.01, resamples: int = 5) -> Scores:
    """|d/dm ||f(w) - f(w + epsilon n)||^2| on noise, with weights drawn anew each time (Wang et al. 2023)."""
    model, layers = _masked_copy(model)
    for _ in range(resamples):
        for x, _ in batches:
            noise = torch.randn_like(x)
            with torch.no_grad():
                for layer in layers.values():
                    nn.init.kaiming_normal_(layer.weight)
                for module in model.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.momentum = 1.0
                model.train()
                model(noise)
            model.eval()
            moved = {n: w + epsilon * torch.randn_like(w) for n, w in ((n, m.weight) for n, m in layers.items())}
            (model(noise) - functional_call(model, moved, (noise,))).square().sum().backward()
    return {name: layer.mask.grad.abs() for name, layer in layers.items()}


RECIPES: dict[str, Callable[..., Scores]] = {
    function.__name__: function for function in (snip, force, grasp, prospr, synflow, ntk_sap)
}
