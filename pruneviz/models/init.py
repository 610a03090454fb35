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
    """Variance scaling: variance 1 / fan_in, normal but cut at two deviations (Lee et al. 2019). The same as `vs_l`."""
    vs_l(layer, generator)


def vs_l(layer: Layer, generator: torch.Generator) -> None:
    """VS-L: variance 1 / fan_in (LeCun et al. 1998), normal but cut at two deviations.

    The three variance scalings that Lee et al. 2020 compare are drawn as TensorFlow's initializer draws them. The
    program released with that paper does not cut: uncut, VS-G is `xavier_normal` and VS-H is `kaiming_normal`.
    """
    _cut_normal(layer, _fans(layer)[0], generator)


def vs_g(layer: Layer, generator: torch.Generator) -> None:
    """VS-G: variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010), normal but cut at two deviations; see `vs_l`."""
    _cut_normal(layer, sum(_fans(layer)) / 2, generator)


def vs_h(layer: Layer, generator: torch.Generator) -> None:
    """VS-H: variance 2 / fan_in (He et al. 2015), normal but cut at two deviations; see `vs_l`."""
    _cut_normal(layer, _fans(layer)[0] / 2, generator)


def orthogonal(layer: Layer, generator: torch.Generator) -> None:
    """Orthogonal matrices; for convolutions delta-orthogonal kernels (Xiao et al. 2018, algorithm 2).

    Only the centre of such a kernel, entry floor((k - 1) / 2) along each axis, is not zero: it is a c_out x c_in
    matrix drawn uniformly, one for each group of channels. At stride 1 with circular padding the layer keeps the
    norm of every input if c_out >= c_in; if c_out < c_in, which the authors refuse, it is the transposed map, the one
    of the backward pass, that keeps norms. The same holds for linear layers. A score with the weight as a factor is
    zero off the centre, for 8 of 9 weights of a 3 x 3 kernel: `orthogonal_full` has no such zeros.
    """
    _draw_orthogonal(layer, generator, _delta_kernel)


def orthogonal_full(layer: Layer, generator: torch.Generator) -> None:
    """Orthogonal matrices; for convolutions orthogonal kernels that are not zero off the centre.

    The kernels of Xiao et al. 2018, algorithm 1, which the program of Lee et al. 2020 draws: an orthogonal matrix
    times k - 1 factors P + (1 - P) z for each axis, with z the shift by one pixel and P the projection onto a
    random half of the channels. The norms that are kept are those of `orthogonal`.
    """
    _draw_orthogonal(layer, generator, _full_kernel)


def _fans(layer: Layer) -> tuple[int, int]:
    """fan_in and fan_out; with groups, fan_out counts the outputs of all groups, as PyTorch does."""
    weight = layer.weight
    return weight[0].numel(), weight[:, 0].numel()


def _cut_normal(layer: Layer, fan: float, generator: torch.Generator) -> None:
    """Variance 1 / fan, normal but cut at two deviations."""
    # Cutting at two deviations leaves this share of the deviation, so that the result has the stated one.
    left = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    deviation = 1 / math.sqrt(fan) / left
    nn_init.trunc_normal_(layer.weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)


Kernel = Callable[[torch.Size, torch.Generator], torch.Tensor]


@torch.no_grad()
def _draw_orthogonal(layer: Layer, generator: torch.Generator, kernel: Kernel) -> None:
    if isinstance(layer, nn.Linear):
        nn_init.orthogonal_(layer.weight, generator=generator)
    else:
        for block in layer.weight.chunk(layer.groups):
            block.copy_(kernel(block.shape, generator))


def _delta_kernel(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    kernel = torch.zeros(shape, device="cpu")
    row, column = ((size - 1) // 2 for size in shape[2:])
    kernel[:, :, row, column] = nn_init.orthogonal_(torch.empty(shape[:2], device="cpu"), generator=generator)
    return kernel


def _full_kernel(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    # A square kernel first: without some of its inputs, or of its outputs, it is an isometry from the other side.
    channels = max(shape[:2])

    def rotation() -> torch.Tensor:
        blank = torch.empty(channels, channels, dtype=torch.float64, device="cpu")
        return nn_init.orthogonal_(blank, generator=generator)

    kernel = rotation()[:, :, None, None]
    for axis, size in enumerate(shape[2:], start=2):
        for _ in range(size - 1):
            basis = rotation()[:, torch.rand(channels, generator=generator, device="cpu") < 0.5]
            projected = torch.einsum("op,ip,icyx->ocyx", basis, basis, kernel)
            edge = torch.zeros_like(kernel.narrow(axis, 0, 1))
            kernel = torch.cat([projected, edge], axis) + torch.cat([edge, kernel - projected], axis)
    return kernel[: shape[0], : shape[1]]


RULES: dict[str, Rule] = {
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "torch": torch_default,
    "grasp": grasp,
    "snip": snip,
    "vs_l": vs_l,
    "vs_g": vs_g,
    "vs_h": vs_h,
    "orthogonal": orthogonal,
    "orthogonal_full": orthogonal_full,
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
