"""Second moments of signals and of derivatives, layer by layer, and units that are dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from pruneviz.masks import Masks
from pruneviz.problem import Problem, derivative, leaves_of

_CONNECTIONS = frozenset(
    ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
)
_NORMALIZATIONS = "batch_norm layer_norm group_norm instance_norm rms_norm"
_POINTWISE = (
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish softplus softsign hardtanh hardswish hardsigmoid "
    "hardshrink softshrink tanhshrink threshold logsigmoid sigmoid tanh dropout alpha_dropout"
)
_FOLLOWING = frozenset(f"{_NORMALIZATIONS} {_POINTWISE}".split())


@dataclass(frozen=True)
class LayerSignal:
    """What goes through one layer, over all examples of all batches.

    Attributes:
        forward: the mean square of the layer's output, its bias included, before anything that follows, over examples
            and units.
        backward: the mean square of the derivative of the loss with respect to that output, likewise. The loss is a
            mean over each batch: examples of a batch twice as large have derivatives half as large.
        units: channels of a convolution, features of a linear layer.
        dead: units that are 0 for all examples, and at all positions, after the normalizations and pointwise
            functions that directly follow the layer.
    """

    forward: float
    backward: float
    units: int
    dead: int


class _Sums:
    """What is added up of one layer; on its device, so that nothing waits for it."""

    def __init__(self, y: Tensor, dim: int) -> None:
        self.dim, self.count = dim, 0
        self.forward = self.backward = y.new_zeros((), dtype=torch.float64)
        self.alive = y.new_zeros(y.shape[dim], dtype=torch.bool)
        self.latest = self.alive

    def add_backward(self, g: Tensor) -> None:
        self.backward = self.backward + g.detach().square().sum(dtype=torch.float64)

    def look(self, y: Tensor) -> None:
        dim = y.dim() + self.dim
        self.latest = (y.detach() != 0).movedim(dim, 0).flatten(1).any(1)

    def result(self) -> LayerSignal:
        n, units = self.count, self.alive.numel()
        return LayerSignal(float(self.forward) / n, float(self.backward) / n, units, units - int(self.alive.sum()))


class _Moments(TorchFunctionMode):
    """Inside, the outputs of layers are seen, and what comes back to them in the backward pass.

    Nothing of them is kept but sums. A derivative arrives at a hook on the output itself, which dies with the graph.
    """

    def __init__(self, sums: dict[str, _Sums], leaves: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {id(leaf): name for name, leaf in leaves.items()}
        self.sums, self.uses = sums, dict.fromkeys(leaves, 0)
        self.owners: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.used: dict[str, _Sums] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        spelled = getattr(func, "__name__", "").strip("_")
        if spelled in _CONNECTIONS:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if id(weight) in self.names:
                self._layer(self.names[id(weight)], result, -1 if spelled == "linear" else 1 - weight.dim())
        elif spelled in _FOLLOWING and args and isinstance(args[0], Tensor) and args[0] in self.owners:
            sums = self.owners[args[0]]
            sums.look(result)
            self.owners[result] = sums
        return result

    def _layer(self, name: str, y: Tensor, dim: int) -> None:
        self.uses[name] += 1
        key = name if self.uses[name] == 1 else f"{name} (use {self.uses[name]})"
        sums = self.sums.setdefault(key, _Sums(y, dim))
        sums.forward = sums.forward + y.detach().square().sum(dtype=torch.float64)
        sums.count += y.numel()
        if y.requires_grad:
            y.register_hook(sums.add_backward)
        sums.look(y)
        self.owners[y] = self.used[key] = sums


def moments(problem: Problem, masks: Masks | None) -> dict[str, LayerSignal]:
    """The moments of every layer that a prunable weight is used in, in the order of execution.

    With the problem's own choice of batch statistics, and in its pieces. A weight's second use in one pass stands under
    its name and "(use 2)". Weights inside of attention modules, and those that only other operations use, have none.
    """
    sums: dict[str, _Sums] = {}
    values = problem.masked_weights(masks)
    for piece in problem.pieces():
        leaves = leaves_of(values)
        with _Moments(sums, leaves) as seen:
            loss = problem.piece_loss(leaves, piece)
        derivative(loss, leaves)
        for one in seen.used.values():
            one.alive = one.alive | one.latest
    return {key: one.result() for key, one in sums.items()}
