"""Networks with kinks, held on the smooth piece that one set of weights lies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneviz.errors import InputError

#: Where an activation bends, and the polynomial c0 + c1 x + c2 x^2 on each piece from left to right.
_Pieces = tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]


def _rectifier(inplace: bool = False) -> _Pieces:
    return (0.0,), ((0.0,), (0.0, 1.0))


def _leaky(negative_slope: float = 0.01, inplace: bool = False) -> _Pieces:
    return (0.0,), ((0.0, negative_slope), (0.0, 1.0))


def _clipped(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> _Pieces:
    return (min_val, max_val), ((min_val,), (0.0, 1.0), (max_val,))


def _hard_sigmoid(inplace: bool = False) -> _Pieces:
    return (-3.0, 3.0), ((0.0,), (0.5, 1 / 6), (1.0,))


def _hard_swish(inplace: bool = False) -> _Pieces:
    return (-3.0, 3.0), ((0.0,), (0.0, 0.5, 1 / 6), (0.0, 1.0))


_BENT: dict[Any, Callable[..., _Pieces]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _rectifier),
    F.leaky_relu: _leaky,
    F.hardtanh: _clipped,
    F.relu6: lambda inplace=False: _clipped(0.0, 6.0),
    F.hardsigmoid: _hard_sigmoid,
    F.hardswish: _hard_swish,
}
_POOLS = {F.max_pool2d, torch.max_pool2d}


def _polynomial(x: Tensor, c0: float, c1: float = 0.0, c2: float = 0.0) -> Tensor:
    if not c1 and not c2:
        return x.new_tensor(c0)
    value = x if (c1, c2) == (1.0, 0.0) else (c1 + c2 * x) * x if c2 else c1 * x
    return value + c0 if c0 else value


class held_kinks(TorchFunctionMode):
    """A context that notes on which piece each activation lies and where each pooling window has its maximum.

    Given the notes, it repeats those decisions instead, whatever the weights are now. It knows ReLU, its leaky and
    clipped kinds, hard sigmoid and hard swish, and `max_pool2d`; other kinks are free.

    Args:
        decisions: the `decisions` of another such context, in which the same network ran.
    """

    def __init__(self, decisions: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.decisions: list[Tensor] = []
        self._given: Iterator[Tensor] | None = None if decisions is None else iter(decisions)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let activations and pooling windows decide as they did."""
        kwargs = kwargs or {}
        if func in _BENT:
            return self._activation(func, *args, **kwargs)
        if func in _POOLS and not kwargs.get("return_indices"):
            return self._max_pool2d(*args, **kwargs)
        return func(*args, **kwargs)

    def _activation(self, func: Callable[..., Any], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        bends, polynomials = _BENT[func](*args, **kwargs)

        def decide() -> Tensor:
            piece = torch.zeros_like(input, dtype=torch.uint8)  # in the input's order of memory
            for bend in bends:
                piece += input.detach() > bend
            return piece

        inplace = bool(kwargs.get("inplace")) or func.__name__.endswith("_")
        piece = self._decision(decide, input)
        x = input.clone() if inplace else input  # a derivative may need it as it was
        # Products with whole numbers: `torch.where` and Boolean factors take several times as long on a CPU.
        parts = [
            _polynomial(x, *coefficients)
            * (piece if len(bends) == number == 1 else (piece == number).view(torch.uint8))
            for number, coefficients in enumerate(polynomials)
            if any(coefficients)
        ]
        result = reduce(torch.add, parts)
        return input.copy_(result) if inplace else result

    def _max_pool2d(self, input: Tensor, *how: Any, return_indices: bool = False, **more: Any) -> Tensor:
        def decide() -> Tensor:
            with torch.no_grad():
                return F.max_pool2d_with_indices(input, *how, **more)[1].to(torch.int32)

        places = self._decision(decide, input)
        return input.flatten(-2).gather(-1, places.flatten(-2).long()).view(places.shape)

    def _decision(self, decide: Callable[[], Tensor], input: Tensor) -> Tensor:
        if self._given is None:
            self.decisions.append(decide())
            return self.decisions[-1]
        decision = next(self._given, None)
        if decision is None or decision.shape[:2] != input.shape[:2]:
            raise InputError(
                "a Hessian product by differences needs a network that runs the same operations at weights close to "
                "each other, and this one does not; accepted: the exact product"
            )
        return decision
