"""Convolution and batch normalization whose second derivatives cost what their first ones do.

PyTorch composes the second derivative of batch normalization of some forty passes over the activations, and that
of a convolution with respect to its weight of a convolution with an image-sized kernel. Both have a short
form, which is taken here. The hard sigmoid, which PyTorch differentiates only once, is composed of what it can
differentiate again. On a CPU, convolutions in float32 get their channels last, which with few channels is
several times faster. The functions are the same, to rounding; what does not fit takes its usual road.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pruneviz.scorers.twice_functions import Convolution, Normalized

_CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class fast_second_derivatives(TorchFunctionMode):
    """In this context networks are the same functions and cheaper to differentiate twice; a third time is refused."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Send convolutions and batch normalization to their counterparts here."""
        kwargs = kwargs or {}
        if not {Tensor, nn.Parameter}.issuperset(types):  # tensors of a kind of their own
            return func(*args, **kwargs)
        if func in _CONVOLUTIONS:
            return _convolution(func, *args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func is F.hardsigmoid:
            return _hardsigmoid(*args, **kwargs)
        if func is Tensor.view and _channels_last(args[0]):
            try:
                return func(*args, **kwargs)
            except RuntimeError:  # outside of this context its elements would lie in the order that `view` needs
                return func(args[0].contiguous(), *args[1:], **kwargs)
        return func(*args, **kwargs)


def _convolution(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    dims = _CONVOLUTIONS[func]
    if isinstance(padding, str) or input.dim() != dims + 2 or not input.is_floating_point():
        return func(input, weight, bias, stride, padding, dilation, groups)
    if groups == 1 and input.numel() < weight.numel():
        # Small images with many channels: here it is the usual road that is the faster one, in the usual order.
        input = input.contiguous() if _channels_last(input) else input
        return func(input, weight, bias, stride, padding, dilation, groups)
    if dims == 2 and input.device.type == "cpu" and input.dtype == torch.float32:
        input = input.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
    stride, padding, dilation = (_sizes(size, dims) for size in (stride, padding, dilation))
    result: Tensor = Convolution.apply(input, weight, bias, (stride, padding, dilation, False, [0] * dims, groups))
    return result


def _sizes(size: int | Sequence[int], dims: int) -> list[int]:
    return [size] * dims if isinstance(size, int) else list(size)


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    channels = input.shape[1] if input.dim() > 1 else 0
    count = input.numel() // max(1, channels)
    fits = all(t is None or t.numel() == channels for t in (running_mean, running_var, weight, bias))
    if count < 2 or not fits or (not training and (running_mean is None or running_var is None)):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    dims = [d for d in range(input.dim()) if d != 1]
    shape = [channels if d == 1 else 1 for d in range(input.dim())]
    scale = input.new_ones(shape) if weight is None else weight.view(shape)
    shift = input.new_zeros(shape) if bias is None else bias.view(shape)
    if running_mean is not None and running_var is not None and not training:
        scale = scale * (running_var.view(shape) + eps).rsqrt()
        return torch.addcmul(shift - running_mean.view(shape) * scale, input, scale)
    u, _, mean, variance = Normalized.apply(input, dims, eps)
    for running, batch in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
        if running is not None:
            running.lerp_(batch.flatten(), momentum)
    return torch.addcmul(shift, u, scale)


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    value = F.relu6(input + 3) / 6
    return input.copy_(value) if inplace else value
