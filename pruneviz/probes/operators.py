"""Layers as linear operators on the input that they get in a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
)


@dataclass(frozen=True)
class LayerOperator:
    """A layer as a linear map of one example's input.

    Attributes:
        weight: as it is in the network, removed entries at zero.
        inputs: the shape of one example's input.
        outputs: of one example's output.
        function: from a batch of inputs and a weight to a batch of outputs; linear in both.
    """

    weight: Tensor
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    function: Callable[[Tensor, Tensor], Tensor]

    def apply(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """A x for each row x of a matrix; `weight` in the place of the layer's own."""
        w = self.weight if weight is None else weight
        return self.function(x.unflatten(1, self.inputs), w).flatten(1)

    def transpose(self, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """A^T y for each row y of a matrix: the derivative of <y, A x> with respect to x."""
        with torch.enable_grad():
            x = y.new_zeros(len(y), math.prod(self.inputs)).requires_grad_()
            return torch.autograd.grad(self.apply(x, weight), x, y)[0]


class Operators(TorchFunctionMode):
    """Inside, the convolutions of a network are seen with their settings and the size of their input.

    Args:
        weights: the tensors that the network computes with, by name.

    Attributes:
        found: what the weights are; matrices from the start, convolutions once they were seen. A second use of a
            weight with other settings or on another size stands under its name and "(use 2)".
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {id(w): name for name, w in weights.items()}
        self.found = {
            n: LayerOperator(w, w.shape[1:], w.shape[:1], F.linear) for n, w in weights.items() if w.dim() == 2
        }
        self.padded: dict[int, tuple[Tensor, Tensor, tuple[Any, ...]]] = {}
        self.seen: dict[str, list[Any]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.pad:
            self._pad(result, *args, **kwargs)
        elif func in _CONVOLUTIONS:
            self._convolution(func, result, *args, **kwargs)
        return result

    def _pad(self, result: Tensor, input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> None:
        if mode != "constant" or not value:
            self.padded[id(result)] = result, input, (tuple(pad), mode)

    def _convolution(
        self, func: Any, result: Tensor, input: Tensor, weight: Tensor, bias: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        name = self.names.get(id(weight))
        if name is None:
            return
        _, source, pad = self.padded.get(id(input), (None, input, None))
        dims = weight.dim() - 1

        def function(x: Tensor, w: Tensor) -> Tensor:
            # The padding before it is part of the layer: padding modes other than zeros are written so.
            y: Tensor = func(x if pad is None else F.pad(x, *pad), w, None, *args, **kwargs)
            return y

        how = (func, source.shape[-dims:], pad, args, sorted(kwargs.items()))
        uses = self.seen.setdefault(name, [])
        if how not in uses:
            uses.append(how)
            name = name if len(uses) == 1 else f"{name} (use {len(uses)})"
            self.found[name] = LayerOperator(weight, source.shape[-dims:], result.shape[-dims:], function)
