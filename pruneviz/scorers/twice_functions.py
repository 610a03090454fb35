"""A convolution and a normalization as functions of their own, with derivatives of the first and second order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_Gradients = tuple[Tensor | None, ...]


class Convolution(torch.autograd.Function):
    """B(x, w) + b, with B linear in x and in w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, how: tuple[Any, ...]) -> Tensor:
        """`how`: stride, padding, dilation, transposed, output padding, groups."""
        ctx.save_for_backward(x, w)
        ctx.how, ctx.bias_sizes = how, None if b is None else [len(b)]
        result: Tensor = torch.ops.aten.convolution(x, w, b, *how)
        return result

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> _Gradients:
        """The derivatives of <dy, B(x, w) + b>."""
        needed = list(ctx.needs_input_grad[:3])
        return *_ConvolutionBackward.apply(dy, *ctx.saved_tensors, ctx.bias_sizes, ctx.how, needed), None


class _ConvolutionBackward(torch.autograd.Function):
    """The derivatives of <dy, B(x, w) + b> with respect to x, w and b."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, w: Tensor, bias_sizes: Any, how: tuple[Any, ...], needed: list[bool]
    ) -> _Gradients:
        ctx.save_for_backward(dy, x, w)
        ctx.set_materialize_grads(False)
        ctx.how = how
        result: _Gradients = torch.ops.aten.convolution_backward(dy, x, w, bias_sizes, *how, needed)
        return result

    @staticmethod
    def backward(ctx: Any, vx: Tensor | None, vw: Tensor | None, vb: Tensor | None) -> _Gradients:
        """The derivatives of <dy, B(vx, w) + B(x, vw) + vb> with respect to dy, x and w."""
        _refuse_third_derivatives()
        dy, x, w = ctx.saved_tensors
        aten, how = torch.ops.aten, ctx.how
        ddy = dx = dw = None
        if vb is not None:
            ddy = vb.view(-1, *[1] * (dy.dim() - 2)).expand_as(dy)
        if vx is not None:
            part = aten.convolution(vx, w, None, *how)
            ddy = part if ddy is None else ddy + part
            if ctx.needs_input_grad[2]:
                dw = aten.convolution_backward(dy, vx, w, None, *how, [False, True, False])[1]
        if vw is not None:
            part = aten.convolution(x, vw, None, *how)
            ddy = part if ddy is None else ddy + part
            if ctx.needs_input_grad[1]:
                dx = aten.convolution_backward(dy, x, vw, None, *how, [True, False, False])[0]
        return ddy, dx, dw, None, None, None


class Normalized(torch.autograd.Function):
    """u = s (x - mean) with s = 1 / sqrt(variance + eps), means over `dims`; u and s can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: list[int], eps: float) -> tuple[Tensor, ...]:
        """The outputs are u and s, and as constants mean and variance."""
        # Sums of PyTorch's own kernel for channels that come last lose a digit in float32; these do not.
        mean = x.mean(dims, keepdim=True)
        u = x - mean
        variance = u.square().mean(dims, keepdim=True)
        s = (variance + eps).rsqrt()
        u.mul_(s)
        ctx.save_for_backward(u, s)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        ctx.dims, ctx.eps = dims, eps
        return u, s, mean, variance

    @staticmethod
    def backward(ctx: Any, du: Tensor | None, ds: Tensor | None, *_: None) -> _Gradients:
        """The derivatives of <du, u> + <ds, s>."""
        u, s = ctx.saved_tensors
        du = torch.zeros_like(u) if du is None else du
        return _NormalizedBackward.apply(du, ds, u, s, ctx.dims, ctx.eps), None, None


class _NormalizedBackward(torch.autograd.Function):
    """dx = s (du - mean(du) - u mean(du u)) - u s^2 ds / n."""

    @staticmethod
    def forward(ctx: Any, du: Tensor, ds: Tensor | None, u: Tensor, s: Tensor, dims: list[int], eps: float) -> Tensor:
        n = u.numel() // s.numel()
        inner = (du * u).mean(dims, keepdim=True)
        dx = _projected(du, u, s, inner if ds is None else inner + s * ds / n, dims)
        ctx.save_for_backward(u, s, dx, inner)
        ctx.dims, ctx.eps, ctx.n = dims, eps, n
        return dx

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> _Gradients:
        """The derivatives of <v, dx> at ds = 0 with respect to du, u and s.

        What goes along u is handed to s, so that dx, which others keep as well, does in the place of du; exact
        because mean(u) = 0 and mean(u^2) = 1 - eps s^2.
        """
        _refuse_third_derivatives()
        u, s, dx, inner = ctx.saved_tensors
        along = (v * u).mean(ctx.dims, keepdim=True)
        ddu = _projected(v, u, s, along, ctx.dims)
        for_u = (v * (-s * inner)).addcmul_(dx, -along)
        for_s = (v * dx).sum(ctx.dims, keepdim=True) / s + ctx.n * ctx.eps * s.square() * inner * along
        return ddu, None, for_u, for_s, None, None


def _projected(v: Tensor, u: Tensor, s: Tensor, along: Tensor, dims: list[int]) -> Tensor:
    """The part of s v that has mean 0 and, where `along` is mean(v u), almost none along u."""
    return torch.addcmul(-s * v.mean(dims, keepdim=True), v, s).addcmul_(u, -s * along)


def _refuse_third_derivatives() -> None:
    # Not `once_differentiable`: its error lies beside the path to the inputs of `autograd.grad`, which then is silent.
    if torch.is_grad_enabled():
        raise RuntimeError("fast_second_derivatives has no third ones; leave the context, or do without create_graph")
