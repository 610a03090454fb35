"""Which entries of a network's tensors a path from the input leads to, and which lead to the output.

The network runs as it is, on signals in the place of values: 1 where a path from the input leads, 0 elsewhere. Each
operation is replaced by what it does to paths. After every sum a signal becomes [x > 0] on the way forward and
[g > 0] on the way back, so that nothing overflows or vanishes at any depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneviz.errors import InputError

ACCEPTED = "convolutions, linear layers, normalization, pointwise functions, softmax, pooling, sums and reshaping"


class Paths(TorchFunctionMode):
    """Inside, operations on signals follow paths; one that is not known is refused.

    A signal is told from a constant by requires_grad, also where the network itself computes without gradients.

    Args:
        edges: the prunable weights as leaves, 1 where an edge is and 0 elsewhere, by name.
        tokens: whether inputs are whole numbers, so that paths begin at what is looked up by them in a table.

    Attributes:
        begun: whether paths have begun at a table.
    """

    def __init__(self, edges: Mapping[str, Tensor], tokens: bool = False) -> None:
        super().__init__()
        self.names = {id(leaf): name for name, leaf in edges.items()}
        self.tokens, self.begun = tokens, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        spelled = getattr(func, "__name__", str(func))
        name = spelled.strip("_")
        signals = [t for t in tensors_in((args, kwargs)) if t.requires_grad]
        rule = _RULES.get(name)
        if rule is _looked_up and self.tokens and not signals:
            self.begun = True
            with torch.enable_grad():
                return torch.ones_like(func(*args, **kwargs)).requires_grad_().clone()
        if not signals or rule is _asked or (name == "get" and not isinstance(func(*args), Tensor)):
            return func(*args, **kwargs)
        weights = [self.names[id(t)] for t in signals if id(t) in self.names]
        if rule is None or (weights and rule is not _connection):
            raise InputError(_unknown(f"{name!r} on the weight {weights[0]!r}" if weights else repr(name)))
        with torch.enable_grad():
            result = rule(func, *args, **kwargs)
            if not all(t.requires_grad for t in tensors_in(result)):
                raise InputError(_unknown(f"{name!r}, which cuts them,"))
            in_place = spelled.endswith("_") and not spelled.endswith("__")
            if in_place or kwargs.get("inplace"):
                return (args[0] if args else kwargs["input"]).copy_(result)
        return result


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(entry)


class _Reached(torch.autograd.Function):
    """From the number of paths to whether there is one; numbers are whole up to rounding, hence the 0.5."""

    @staticmethod
    def forward(ctx: Any, count: Tensor) -> Tensor:
        return (count > 0.5).to(count)

    @staticmethod
    def backward(ctx: Any, count: Tensor) -> Tensor:
        return (count > 0.5).to(count)


def _reached(count: Tensor) -> Tensor:
    result: Tensor = _Reached.apply(count)
    return result


def _signal(tensor: Tensor) -> Tensor:
    """The tensor itself if it is a signal; no path leads from the input to a constant."""
    return tensor if tensor.requires_grad else torch.zeros_like(tensor)


def _unknown(operation: str) -> str:
    return f"paths through the operation {operation} are not known; accepted: networks of {ACCEPTED}"


# One rule for each kind of operation: func is the operation itself, the rest its arguments.


def _asked(func: Any, *args: Any, **kwargs: Any) -> Any:
    """What is asked of a signal but its values: a shape, or a constant of its shape."""
    return func(*args, **kwargs)


def _connection(func: Any, input: Tensor, weight: Tensor, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    """The weights are the edges; those that are not prunable are all there."""
    if not weight.is_leaf:
        raise InputError(_unknown(f"{func.__name__!r} with weights that are computed"))
    edges = weight if weight.requires_grad else torch.ones_like(weight)
    return _reached(func(_signal(input), edges.to(input.dtype), None, *args, **kwargs))


def _same(func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Each entry depends on the one at its place; other operands are settings."""
    return input.clone()


def _linked(func: Any, input: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Each entry depends on all along a dimension."""
    along = dim if dim is not None else 0 if input.dim() in (0, 1, 3) else 1  # PyTorch's own choice
    return _reached(input.sum(along, keepdim=True)).expand_as(input)


def _looked_up(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    raise InputError(_unknown(f"{func.__name__!r} with a table that is a signal or prunable"))


def _detached(func: Any, input: Tensor) -> Tensor:
    """What autograd is not to see is a path all the same; the result shares the memory, as it does there."""
    return input.view_as(input)


def _copied(func: Any, input: Tensor, other: Tensor, *args: Any) -> Tensor:
    """What was there is overwritten."""
    return _signal(other).expand_as(input)


def _union(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Each entry depends on those of all operands at its place."""
    first, *others = map(_signal, tensors_in((args, kwargs)))
    return _reached(sum(others, start=first))


def _total(func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Each entry depends on all that it is taken over."""
    return _reached(torch.sum(input, *args, **kwargs))


def _moved(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Entries are copied to other places."""
    return func(*args, **kwargs)


def _joined(func: Any, tensors: Iterable[Tensor], *args: Any, **kwargs: Any) -> Any:
    return func([_signal(t) for t in tensors], *args, **kwargs)


def _padded(func: Any, input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    return F.pad(input, pad, mode)


def _averaged(
    func: Any,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Each entry depends on its window: the mean over it, times its size so that one path counts at least 1."""
    dims = int(func.__name__[-2])
    sides = [kernel_size] if isinstance(kernel_size, int) else [*kernel_size]
    mean = getattr(F, f"avg_pool{dims}d")(input, kernel_size, stride or kernel_size, padding, ceil_mode)
    return _reached(mean * math.prod(sides * (dims // len(sides))))


def _maximum(
    func: Any,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if dilation not in (1, (1,), (1, 1), (1, 1, 1)):
        raise InputError(_unknown(f"{func.__name__!r} with dilation {dilation}"))
    return _averaged(func, input, kernel_size, stride, padding, ceil_mode)


def _adaptive(func: Any, input: Tensor, output_size: Any, *args: Any, **kwargs: Any) -> Tensor:
    dims = int(func.__name__[-2])
    mean = getattr(F, f"adaptive_avg_pool{dims}d")(input, output_size)
    return _reached(mean * math.prod(input.shape[-dims:]))


# By the names of functions and methods, without the underscores of their other spellings.
_OPERATIONS: dict[Callable[..., Any], str] = {
    _asked: "size dim ndimension numel nelement len stride is_floating_point is_complex is_contiguous get_device "
    "zeros_like ones_like empty_like full_like new_zeros new_ones new_empty new_full new_tensor",
    _connection: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear",
    _same: "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish softplus softsign hardtanh hardswish "
    "hardsigmoid hardshrink softshrink tanhshrink threshold log_sigmoid sigmoid tanh abs neg exp log sqrt square pow "
    "sin cos erf clamp clip batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm normalize "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout clone",
    _linked: "softmax log_softmax softmin",
    _looked_up: "embedding embedding_bag",
    _detached: "detach",
    _copied: "copy",
    _union: "add sub rsub subtract mul multiply div divide true_divide rdiv maximum minimum",
    _total: "sum mean amax amin",
    _moved: "view view_as reshape reshape_as flatten unflatten squeeze unsqueeze permute transpose t movedim swapaxes "
    "contiguous expand expand_as repeat chunk split split_with_sizes unbind narrow select index_select getitem flip "
    "roll pixel_shuffle pixel_unshuffle channel_shuffle get to float double type_as",
    _joined: "cat concat concatenate stack hstack vstack",
    _padded: "pad",
    _averaged: "avg_pool1d avg_pool2d avg_pool3d",
    _maximum: "max_pool1d max_pool2d max_pool3d",
    _adaptive: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d",
}
_RULES = {name: rule for rule, names in _OPERATIONS.items() for name in names.split()}
