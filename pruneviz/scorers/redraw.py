"""Values in the place of a model's own: weights drawn anew, and the statistics of a batch for batch normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import skip_init

from pruneviz.models.init import RULES, Layer
from pruneviz.problem import Problem, Weights


def drawn_values(model: nn.Module, rule: str, generator: torch.Generator) -> Weights:
    """What `pruneviz.models.init.initialize` would put into the model: for the layers that the rule knows.

    Drawn in float64 on the CPU, in model order, so that every device and precision gets the same numbers. Biases are
    zero unless the rule draws them; batch normalization's scales are one and its shifts zero. A weight that several
    modules share is drawn once.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    values: Weights = {}
    for module in model.modules():
        own = {kind: p for kind, p in module._parameters.items() if p is not None and names[id(p)] not in values}
        if isinstance(module, Layer) and "weight" in own:
            layer = _blank(module)
            RULES[rule](layer, generator)
            new = {kind: p.detach() for kind, p in layer.named_parameters()}
        elif isinstance(module, _BatchNorm):
            new = {kind: torch.full_like(p, float(kind == "weight")) for kind, p in own.items()}
        else:
            continue
        values |= {names[id(p)]: new[kind].to(p) for kind, p in own.items()}
    return values


def _blank(module: Layer) -> Layer:
    """A layer of the same shape, its weight waiting to be drawn and its bias zero."""
    bias = module.bias is not None
    if isinstance(module, nn.Linear):
        layer: Layer = skip_init(nn.Linear, module.in_features, module.out_features, bias, dtype=torch.float64)
    else:
        sizes = module.in_channels, module.out_channels, module.kernel_size
        layer = skip_init(nn.Conv2d, *sizes, groups=module.groups, bias=bias, dtype=torch.float64)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def batch_statistics(problem: Problem, values: Mapping[str, Tensor], inputs: Any) -> Weights:
    """Running means and variances of every batch normalization that are those of this one batch.

    Variances are the unbiased ones, as PyTorch tracks them; a layer that is used several times gets the average of its
    uses, weighted by its momentum. One that the model does not use, or whose momentum is 0, keeps its own.

    Args:
        problem: the network.
        values: of parameters, by name; those left out are the model's.
        inputs: one batch.
    """
    # Averages that start from zero have gathered 1 - (1 - momentum)^uses of what they average.
    fresh: Weights = {}
    gathered: dict[_BatchNorm, Weights] = {}
    for path, module in problem.model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            buffers = {name: torch.zeros_like(b) for name, b in module.named_buffers(path, recurse=False)}
            fresh |= buffers
            gathered[module] = buffers
    if not gathered:
        return {}
    with torch.no_grad():
        problem.output({**values, **fresh}, inputs, batchnorm="train")
    statistics: Weights = {}
    for module, buffers in gathered.items():
        (mean_name, mean), (variance_name, variance), *counted = buffers.items()
        uses = int(counted[0][1]) if counted else 1  # without PyTorch's counter, as in old models
        share = float(uses > 0) if module.momentum is None else 1.0 - (1.0 - module.momentum) ** uses
        if share > 0:
            statistics |= {mean_name: mean / share, variance_name: variance / share}
    return statistics
