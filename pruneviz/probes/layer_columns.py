"""Columns of the Jacobian, layer by layer: from what went into a layer and what comes back to its output.

For examples that do not influence each other, one backward pass per output gives all examples' derivatives with
respect to the outputs of every layer; a convolution's or linear layer's columns are then products of the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

#: Flat indices into one parameter, ascending.
Entries = range | Tensor

_MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)
_FORWARDS = {kind.forward for kind in (*_MATRICES, *_NORMS)}

# Of a layer's columns: with fewer, each output channel's are gathered; with more, all are formed and some taken.
# Where the two roads of ResNet-20 take equally long on a CPU.
_FEW = 0.3


@dataclass(frozen=True)
class Layer:
    """Where a parameter lives.

    Attributes:
        module: that it belongs to.
        attribute: "weight" or "bias".
        shape: of the module's output, (n, ...).
    """

    module: nn.Module
    attribute: str
    shape: torch.Size


@dataclass
class Call:
    """What is recorded of the calls of one module in one forward pass.

    Attributes:
        times: how often it was called; the rest is of the last call.
        x: its input.
        shape: of its output.
        edge: where derivatives with respect to its output arrive; None if they never do.
        version: of the input when it was read: later writes into it count on.
    """

    times: int = 0
    x: Tensor = field(default_factory=lambda: torch.empty(0))
    shape: torch.Size = field(default_factory=torch.Size)
    edge: GradientEdge | None = None
    version: int = 0

    @property
    def usable(self) -> bool:
        """Called once, on a tensor that nothing has written into since, and part of the graph."""
        return self.times == 1 and self.edge is not None and self.x._version == self.version


def supported(module: nn.Module) -> bool:
    """Whether this module's columns have a formula here: no forward, hooks or statistics of its own kind."""
    plain = type(module).forward in _FORWARDS and not (module._forward_hooks or module._forward_pre_hooks)
    return plain and not (isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None)


@contextmanager
def recorded(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Call]]:
    """Record what goes through `modules`; the hooks are gone afterwards, also on an error."""
    calls = {module: Call() for module in modules}

    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = calls[module]
        call.times += 1
        if len(args) == 1 and isinstance(args[0], Tensor) and isinstance(output, Tensor) and output.requires_grad:
            # The edge and not the output: what is done to the output in place comes after it.
            call.x, call.shape, call.edge = args[0].detach(), output.shape, get_gradient_edge(output)
            call.version = args[0]._version

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def columns(layer: Layer, entries: Entries, x: Tensor, g: Tensor) -> Tensor:
    """The Jacobian's entries for some weights of one layer.

    Args:
        layer: whose weight or bias it is.
        entries: of that parameter.
        x: the layer's input, (n, ...).
        g: derivatives of the C outputs with respect to the layer's, (n, C, ...).

    Returns:
        (n, C, len(entries)).
    """
    module = layer.module
    g = _channels_first(module, g, 2)
    if layer.attribute == "weight" and isinstance(module, _MATRICES):
        return _matrix(module, entries, _windows(module, x.contiguous()), g)
    if layer.attribute == "weight":
        g = g * _channels_first(module, _normalized(module, x), 1).unsqueeze(1)
    return g.sum(3)[:, :, slice(entries.start, entries.stop) if isinstance(entries, range) else entries]


def scratch(layer: Layer, outputs: int, kept: int) -> int:
    """A bound on the numbers that `columns` holds at once per example, its result and `g` included."""
    module, y = layer.module, math.prod(layer.shape[1:])
    if layer.attribute == "bias" or not isinstance(module, _MATRICES):
        return 2 * outputs * y + 2 * y
    total, channels = module.weight.numel(), module.weight.shape[0]
    windows = total // channels * (y // channels) * int(getattr(module, "groups", 1))
    return outputs * y + 2 * windows + outputs * (2 * kept if kept <= _FEW * total else total + kept)


def _matrix(module: nn.Module, entries: Entries, windows: Tensor, g: Tensor) -> Tensor:
    """Sums over positions of (derivative at an output channel) * (input that the weight is multiplied with)."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    channels, row = weight.shape[0], weight[0].numel()
    groups = int(getattr(module, "groups", 1))
    if g.shape[3] == 1 and groups == 1:
        index = entries if isinstance(entries, Tensor) else torch.arange(entries.start, entries.stop, device=g.device)
        return g[:, :, index // row, 0] * windows.flatten(1)[:, None, index % row]
    first, last = int(entries[0]) // row, int(entries[-1]) // row + 1
    if isinstance(entries, Tensor) and len(entries) <= _FEW * row * (last - first):
        return _gathered(entries, weight.shape, groups, windows, g)
    per_group = channels // groups
    blocks = []
    for group in range(first // per_group, (last - 1) // per_group + 1):
        own = slice(max(first, group * per_group), min(last, (group + 1) * per_group))
        inputs = windows.unflatten(1, (groups, -1))[:, group].flatten(1, weight.dim() - 1).flatten(2)
        product = torch.bmm(g[:, :, own].flatten(1, 2), inputs.mT)
        blocks.append(product.unflatten(1, (g.shape[1], -1)).flatten(2))
    formed = blocks[0] if len(blocks) == 1 else torch.cat(blocks, 2)
    if isinstance(entries, range):
        return formed[:, :, entries.start - first * row : entries.stop - first * row]
    return formed.index_select(2, entries - first * row)


def _gathered(index: Tensor, shape: torch.Size, groups: int, windows: Tensor, g: Tensor) -> Tensor:
    """The same for few weights: of each output channel only the inputs that it still sees."""
    row = math.prod(shape[1:])
    channel = index // row
    counts: list[int] = torch.bincount(channel, minlength=shape[0]).tolist()
    inputs = windows.flatten(1, -2)  # a copy: whole rows of it are taken several times as fast as rows of the view
    seen = (index % row + channel // (shape[0] // groups) * row).split(counts)
    pairs = zip(g.unbind(2), seen, strict=True)
    return torch.cat([torch.bmm(own, inputs.index_select(1, inside).mT) for own, inside in pairs if len(inside)], 2)


def _windows(module: nn.Module, x: Tensor) -> Tensor:
    """What each weight of an output channel is multiplied with, (n, in, *kernel, positions); a view.

    The positions of one weight lie in memory in a row where the first stride is 1: they are read again and again.
    """
    if isinstance(module, nn.Linear):
        return x.flatten(1, -2).mT if x.dim() > 2 else x.unsqueeze(2)
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    pads = module._reversed_padding_repeated_twice
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        pads = [size for size in reversed(module.padding) for _ in range(2)]
    x = F.pad(x, pads, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)
    sizes, strides, dilations = module.kernel_size, module.stride, module.dilation
    last = len(sizes) - 1
    for i in range(1, last + 1):
        x = x.unfold(2 + i, dilations[i] * (sizes[i] - 1) + 1, strides[i])[..., :: dilations[i]]
    x = x.permute(0, 1, *range(3 + last, 3 + 2 * last), *range(2, 3 + last))  # (n, in, *other kernel, first, *others)
    across = math.prod(x.shape[3 + last :])
    reach = dilations[0] * (sizes[0] - 1)
    if strides[0] == 1:
        high = x.shape[2 + last] - reach
        x = x.contiguous().flatten(2 + last).unfold(-1, high * across, max(1, dilations[0]) * across)
    else:
        x = x.unfold(2 + last, reach + 1, strides[0])[..., :: dilations[0]]
        x = x.movedim(-1, 2 + last).flatten(3 + last)
    return x.movedim(2 + last, 2)


def _normalized(module: nn.Module, x: Tensor) -> Tensor:
    """What a normalization multiplies its weight with."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(x, module.normalized_shape, eps=module.eps)
    return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)  # type: ignore[arg-type]


def _channels_first(module: nn.Module, t: Tensor, leading: int) -> Tensor:
    """(..., channels, positions) after the leading dimensions, both flattened."""
    if not isinstance(module, nn.Linear | nn.LayerNorm):
        return t.flatten(leading + 1) if t.dim() > leading + 1 else t.unsqueeze(-1)
    own = len(module.normalized_shape) if isinstance(module, nn.LayerNorm) else 1
    t = t.flatten(t.dim() - own)
    return t.flatten(leading, -2).mT if t.dim() > leading + 1 else t.unsqueeze(-1)
