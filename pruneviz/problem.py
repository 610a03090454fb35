"""A functional view of a model, its loss and a few batches: what every scorer and probe is a function of.

A `Problem` never changes its model. Weights go in as a dictionary, losses come out; buffers that a forward
pass would update are copied first, mode flags are put back, and the random state stays where it was, also
when the forward pass raises.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import InputError, check_choice
from pruneviz.inputs import Batch, Prunable, check_model, checked_batches, prunable_names
from pruneviz.masks import check_masks

Weights = dict[str, Tensor]


class Problem:
    r"""The function whose derivatives tell which weights matter.

    $$ L(w) = \sum_{b} \ell\bigl(f(x_b; w),\, y_b\bigr) $$

    with the loss `l` a mean over each batch, summed over the batches in the order given. `w` are the
    prunable weights; every other parameter is a constant.

    Args:
        model: any network whose forward takes `x`; it may be in any mode and have any hooks.
        batches: a sequence of `(x, y)` on the model's device, `x` of the model's dtype if floating point.
        loss: `loss(output, y) -> scalar`, mean over the batch.
        batchnorm: "train": batch normalization uses the statistics of each batch, so that how the examples
            are cut into batches is part of the loss; "eval": it uses the running statistics. Everything
            else (dropout, stochastic depth) is always in evaluation mode: a score is deterministic.
        prunable: None for the weight of every `Conv*` and `Linear` module, which leaves out parameters of other
            modules (the packed projection of `nn.MultiheadAttention`) and weights that are computed from others;
            or parameter names; or a predicate `(name, parameter) -> bool`. A parameter shared by several modules
            counts once, by its first name.

    Raises:
        InputError: a model that is not a module in float32 or float64; no batches; a batch on another device or
            of another dtype than the model; a name that is no parameter; nothing to prune.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        batchnorm: str = "train",
        prunable: Prunable = None,
    ) -> None:
        if not callable(loss):
            raise InputError(f"loss is {loss!r}; a function loss(output, y) -> scalar is needed")
        self.model = model
        self.loss_function = loss
        self.batchnorm = check_choice("batchnorm", batchnorm, ("train", "eval"))
        self.names = prunable_names(check_model(model), prunable)
        self.batches = checked_batches(model, batches)

    @property
    def weights(self) -> Weights:
        """The prunable weights as they are now, detached, in model order; they share the model's memory."""
        parameters = dict(self.model.named_parameters())
        return {name: parameters[name].detach() for name in self.names}

    @property
    def device(self) -> torch.device:
        """Where the model's first prunable weight lives."""
        return self.weights[self.names[0]].device

    def masked_weights(self, masks: Mapping[str, Tensor] | None) -> Weights:
        """The prunable weights with the removed ones at zero; without masks the weights themselves.

        Raises:
            InputError: a mask that does not fit the model, or that names a weight that is not prunable here.
        """
        weights = self.weights
        if masks is None:
            return weights
        check_masks(self.model, masks)
        strangers = [name for name in masks if name not in weights]
        if strangers:
            raise InputError(f"the mask names {strangers[0]!r}, not a prunable weight: {', '.join(weights)}")
        return {
            name: w.masked_fill(~masks[name].to(w.device), 0) if name in masks else w for name, w in weights.items()
        }

    def output(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The network's output f(x; weights), differentiable in `weights`; the model is left untouched.

        Args:
            weights: values of the prunable weights; those left out are taken from the model.
            x: one batch of inputs.
        """
        values = {id(p): weights.get(name, p.detach()) for name, p in self.model.named_parameters()}
        values.update({id(b): b.clone() for b in self.model.buffers()})
        # Each place that holds a tensor exactly once: torch leaves its substitutes behind in a module that it
        # reaches under two names.
        state: Weights = {}
        for path, module in self.model.named_modules():
            for name, p in module.named_parameters(path, recurse=False, remove_duplicate=False):
                state[name] = values[id(p)]
            for name, b in module.named_buffers(path, recurse=False, remove_duplicate=False):
                state[name] = values[id(b)]
        with _evaluation_mode(self.model, self.batchnorm), _frozen_random_state(self.device):
            result: Tensor = functional_call(self.model, state, (x,), tie_weights=False)
        return result

    def loss(self, weights: Mapping[str, Tensor], batch: Batch, temperature: float = 1.0) -> Tensor:
        """The loss of one batch with the output divided by `temperature`: a scalar, differentiable."""
        x, y = batch
        output = self.output(weights, x)
        return self.loss_function(output if temperature == 1.0 else output / temperature, y)

    def gradient(
        self,
        weights: Mapping[str, Tensor],
        *,
        batches: Sequence[Batch] | None = None,
        temperature: float = 1.0,
    ) -> tuple[float, Weights]:
        """The loss summed over batches, and its gradient with respect to `weights`, in exact arithmetic.

        Args:
            weights: where to differentiate; they need not require grad, and their `.grad` is not touched.
            batches: other batches than the problem's own.
            temperature: the output is divided by it.

        Raises:
            InputError: if the loss of a batch is not finite, naming the batch.
        """
        with exact_arithmetic():
            total, sums = 0.0, {name: torch.zeros_like(w) for name, w in weights.items()}
            for index, batch in enumerate(self.batches if batches is None else batches):
                leaves = leaves_of(weights)
                loss = finite_loss(self.loss(leaves, batch, temperature), index)
                for name, g in zip(leaves, derivative(loss, leaves), strict=True):
                    sums[name] += g
                total += float(loss.detach())
        return total, sums


def leaves_of(weights: Mapping[str, Tensor]) -> Weights:
    """The same values as new leaves of the graph that require grad; nothing is copied."""
    return {name: w.detach().requires_grad_() for name, w in weights.items()}


def derivative(value: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Derivatives of a scalar, one tensor per weight; 0, with a warning, where it does not depend on it."""
    if not value.requires_grad:
        grads: tuple[Tensor | None, ...] = (None,) * len(weights)
    else:
        grads = torch.autograd.grad(value, list(weights.values()), create_graph=create_graph, allow_unused=True)
    unreached = [name for name, g in zip(weights, grads, strict=True) if g is None]
    if unreached:
        warnings.warn(f"the loss does not depend on {', '.join(unreached)}: its derivative is taken as 0", stacklevel=3)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights.values(), grads, strict=True)]


def finite_loss(loss: Tensor, index: int) -> Tensor:
    """`loss` itself if it is one finite number.

    Raises:
        InputError: naming the batch otherwise.
    """
    if not isinstance(loss, Tensor):
        raise InputError(
            f"the loss of batch {index} is a {type(loss).__name__}; a tensor that can be differentiated is needed"
        )
    if loss.numel() != 1:
        raise InputError(
            f"the loss of batch {index} has shape {tuple(loss.shape)}; a scalar is needed (a mean over the batch)"
        )
    if not bool(torch.isfinite(loss)):
        raise InputError(f"the loss of batch {index} is {float(loss.detach())}; scores need a finite loss")
    return loss


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Gradients on, no autocast, no TF32, repeatable and twice differentiable kernels; all put back afterwards."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        repeatable_kernels(),
        sdpa_kernel(SDPBackend.MATH),  # the fused kernels of attention have no second derivative
        _full_precision(),
    ):
        yield


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Convolutions on a GPU give the same bits every time; the flags are put back afterwards."""
    flags = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags


@contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 is float32 in every backend.

    Set backend by backend: PyTorch refuses to read its older, common switch once one of these was used.
    """
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn
    backends = (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    reduced = [(b, b.fp32_precision) for b in backends if b.fp32_precision not in ("ieee", "none")]
    try:
        for backend, _ in reduced:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in reduced:
            backend.fp32_precision = precision


@contextmanager
def _evaluation_mode(model: nn.Module, batchnorm: str) -> Iterator[None]:
    """Every module in evaluation mode, batch normalization as chosen; the flags are put back one by one."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = batchnorm == "train" and isinstance(module, _BatchNorm)
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _frozen_random_state(device: torch.device) -> Iterator[None]:
    """A forward pass that draws random numbers leaves the global generators where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
