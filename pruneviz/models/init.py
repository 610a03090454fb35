"""Initializations: how the weights of convolutions and linear layers are drawn.

Notation: for a convolution with k x k kernels from c_in to c_out channels, fan_in = c_in k^2 and
fan_out = c_out k^2; for a linear layer they are its inputs and outputs. N(0, s^2) is a normal distribution of
standard deviation s, U(-b, b) a uniform one. Biases are zero and batch norm starts as the identity (weight 1,
bias 0, running mean 0 and variance 1) unless a function says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import init as nn_init

Layer = nn.Conv2d | nn.Linear
Rule = Callable[[Layer, torch.Generator], None]


def kaiming_normal(layer: Layer, generator: torch.Generator) -> None:
    """N(0, 2 / fan_in), for ReLU networks (He et al. 2015, equation 10)."""
    nn_init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)


def kaiming_uniform(layer: Layer, generator: torch.Generator) -> None:
    """U(-b, b) with b = sqrt(6 / fan_in): the variance of `kaiming_normal` (He et al. 2015, equation 10)."""
    nn_init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)


def xavier_normal(layer: Layer, generator: torch.Generator) -> None:
    """N(0, 2 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 12)."""
    nn_init.xavier_normal_(layer.weight, generator=generator)


def xavier_uniform(layer: Layer, generator: torch.Generator) -> None:
    """U(-b, b) with b = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16)."""
    nn_init.xavier_uniform_(layer.weight, generator=generator)


def torch_default(layer: Layer, generator: torch.Generator) -> None:
    """U(-b, b) with b = sqrt(1 / fan_in), for weights and biases: what PyTorch's own constructors draw."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    nn_init.uniform_(layer.weight, -bound, bound, generator=generator)
    if layer.bias is not None:
        nn_init.uniform_(layer.bias, -bound, bound, generator=generator)


def grasp(layer: Layer, generator: torch.Generator) -> None:
    """Convolutions N(0, 2 / fan_out), linear layers N(0, 0.01^2): the public code of Wang et al. 2020.

    Their program draws this for VGG and ResNet alike, just before it scores; whatever the constructors of its
    networks had drawn is overwritten.
    """
    if isinstance(layer, nn.Linear):
        nn_init.normal_(layer.weight, 0.0, 0.01, generator=generator)
    else:
        nn_init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)


def snip(layer: Layer, generator: torch.Generator) -> None:
    """Variance scaling: variance 1 / fan_in, normal but cut at two deviations (Lee et al. 2019)."""
    # Cutting at two deviations leaves this share of the deviation, so that the result has the stated one.
    left = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    deviation = 1 / math.sqrt(layer.weight[0].numel()) / left
    nn_init.trunc_normal_(layer.weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)


RULES: dict[str, Rule] = {
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "torch": torch_default,
    "grasp": grasp,
    "snip": snip,
}


@torch.no_grad()
def initialize(model: nn.Module, rule: Rule, generator: torch.Generator) -> None:
    """Draw every convolution and linear layer of `model` by `rule`, in the model's order, in place."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if layer.bias is not None:
                nn_init.zeros_(layer.bias)
            rule(layer, generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
