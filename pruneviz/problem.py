"""A functional view of a model, its loss and a few batches: what every scorer and probe is a function of.

A `Problem` never changes its model. Weights go in as a dictionary, losses come out; buffers that a forward
pass would update are copied first, mode flags are put back, and the random state stays where it was, also
when the forward pass raises.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_choice, check_positive
from pruneviz.inputs import (
    Batch,
    Prunable,
    check_model,
    checked_batches,
    examples_in,
    inputs_of,
    part_of,
    prunable_names,
    target_of,
)
from pruneviz.masks import check_masks
from pruneviz.untouched import untouched

Weights = dict[str, Tensor]
IGNORED_LABEL = -100  # what torch's cross entropy leaves out of its mean


@dataclass(frozen=True)
class Piece:
    """A batch, or the part of it that is evaluated at once.

    Attributes:
        batch: of the same structure as the batch that it is part of.
        share: its examples over those of the batch; 1 for a whole batch.
        index: the batch's place among the problem's batches.
    """

    batch: Batch
    share: float
    index: int


class Problem:
    r"""The function whose derivatives tell which weights matter.

    $$ L(w) = \sum_{b} \ell\bigl(f(x_b; w),\, y_b\bigr) $$

    with the loss `l` a mean over each batch, summed over the batches in the order given. `w` are the
    prunable weights; every other parameter is a constant.

    Args:
        model: any network; it may be in any mode and have any hooks.
        batches: a sequence of batches on the model's device, inputs of the model's dtype if floating point. A batch is
            a tuple `(x, y)` or `(*inputs, y)`, for `model(*inputs)`, or a dictionary, of which the model gets as
            keywords what its forward takes. The x of a pair may be a tuple or list, for `model(*x)`, or a dictionary,
            for `model(**x)`; a model that takes one of these as its argument is called by keyword, `({"name": x}, y)`.
        loss: `loss(output, y) -> scalar`, or `loss(output, batch)` where batches are dictionaries; a mean over the
            batch.
        batchnorm: "train": batch normalization uses the statistics of each batch, so that how the examples
            are cut into batches is part of the loss; "eval": it uses the running statistics. Everything
            else (dropout, stochastic depth) is always in evaluation mode: a score is deterministic.
        prunable: None for the weight of every `Conv*` and `Linear` module and the projections of every
            `nn.MultiheadAttention`, frozen ones too, but not weights that are computed from others; or parameter
            names; or a predicate `(name, parameter) -> bool`. A parameter shared by several modules counts once, by
            its first name.
        micro_batch: the most examples that are evaluated at once; None for whole batches. Bounds the memory. The
            loss is then the mean over the parts of a batch, weighted by their examples, which for a mean over
            examples is the same number; with batch statistics it is another loss, because each part has its own.

    Raises:
        InputError: a model that is not a module in float32 or float64; no batches; a batch on another device or
            of another dtype than the model, or one that cannot be cut; a name that is no parameter; nothing to prune.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
        batchnorm: str = "train",
        prunable: Prunable = None,
        micro_batch: int | None = None,
    ) -> None:
        if not callable(loss):
            raise InputError(f"loss is {loss!r}; a function loss(output, y) -> scalar is needed")
        self.model = model
        self.loss_function = loss
        self.batchnorm = check_choice("batchnorm", batchnorm, ("train", "eval"))
        self.names = prunable_names(check_model(model), prunable)
        self.batches = checked_batches(model, batches)
        self.micro_batch = None if micro_batch is None else check_positive("micro_batch", micro_batch)
        list(self.pieces())  # a batch that cannot be cut is refused here, not in the middle of the work

    @property
    def weights(self) -> Weights:
        """The prunable weights as they are now, detached, in model order; they share the model's memory."""
        return {name: self.model.get_parameter(name).detach() for name in self.names}

    @property
    def parameters(self) -> Weights:
        """All floating-point parameters as they are now, prunable or not, detached; they share the model's memory."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.is_floating_point()}

    @property
    def device(self) -> torch.device:
        """Where the model's first prunable weight lives."""
        return self.model.get_parameter(self.names[0]).device

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

    def cut(self, batch: Batch, index: int = 0) -> list[Piece]:
        """One batch as pieces of at most `micro_batch` examples, in order.

        Raises:
            InputError: a batch whose tensors differ in length.
        """
        if self.micro_batch is None:
            return [Piece(batch, 1.0, index)]
        n = examples_in(batch, index)
        if n <= self.micro_batch:
            return [Piece(batch, 1.0, index)]
        ends = [(start, min(start + self.micro_batch, n)) for start in range(0, n, self.micro_batch)]
        return [Piece(part_of(batch, slice(start, stop)), (stop - start) / n, index) for start, stop in ends]

    def pieces(self, batches: Sequence[Batch] | None = None) -> Iterator[Piece]:
        """The batches, or others in their place, in order and cut: the loss is the sum of share * loss(piece)."""
        for index, batch in enumerate(self.batches if batches is None else batches):
            yield from self.cut(batch, index)

    def output(self, values: Mapping[str, Tensor], inputs: Any, batchnorm: str | None = None) -> Any:
        """The network's output f(inputs; values), differentiable in `values`; the model is left untouched.

        Args:
            values: of parameters and buffers, by name; those left out are the model's. A buffer given here belongs
                to the caller, and a forward pass in training mode updates it in place.
            inputs: a tensor, a tuple of positional or a dictionary of keyword arguments.
            batchnorm: "train" or "eval" in the place of the problem's own choice.
        """
        keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
        positional = () if keywords else tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        with untouched(self.model, values, batchnorm or self.batchnorm, self.device):
            return self.model(*positional, **keywords)

    def loss(
        self, values: Mapping[str, Tensor], batch: Batch, temperature: float = 1.0, *, index: int | None = None
    ) -> Tensor:
        """The loss of one batch with the output divided by `temperature`: a scalar, differentiable.

        Args:
            values: as in `output`.
            batch: as the problem's own.
            temperature: the output is divided by it.
            index: the batch's place, for messages.

        Raises:
            InputError: a label that cross entropy has no logit for; a target that is no tensor; an output that is no
                tensor, for cross entropy or a temperature.
        """
        output, target = self.output(values, inputs_of(self.model, batch)), target_of(batch)
        if temperature != 1.0:
            if not isinstance(output, Tensor):
                raise InputError(
                    f"the model's output is a {type(output).__name__}, which temperature {temperature:g} cannot "
                    "divide; accepted: temperature=1.0, or a model whose output is a tensor"
                )
            output = output / temperature
        if self.loss_function is F.cross_entropy:
            _check_tensors(output, target)
            _check_labels(output, target, index)
        return self.loss_function(output, target)

    def piece_loss(self, values: Mapping[str, Tensor], piece: Piece, temperature: float = 1.0) -> Tensor:
        """What a piece adds to the loss: its share times its mean, differentiable.

        Raises:
            InputError: as `loss`, and if it is not one finite number; the batch is named.
        """
        loss = finite_loss(self.loss(values, piece.batch, temperature, index=piece.index), piece.index)
        return loss if piece.share == 1.0 else piece.share * loss

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
            for piece in self.pieces(batches):
                leaves = leaves_of(weights)
                loss = self.piece_loss(leaves, piece, temperature)
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


def _check_tensors(output: Any, y: Any) -> None:
    """What cross entropy compares."""
    for what, given in (("model's output", output), ("target", y)):
        if not isinstance(given, Tensor):
            raise InputError(
                f"the {what} is a {type(given).__name__}, which the default loss, cross entropy, does not take; "
                "accepted: a tensor, or a loss of your own, loss=function(output, y)"
            )


def _check_labels(output: Tensor, y: Tensor, index: int | None) -> None:
    """Cross entropy's labels: on a GPU one without a logit would end the process's use of the device."""
    if y.is_floating_point() or output.dim() == 0:
        return
    classes = output.shape[1] if output.dim() > 1 else output.shape[0]
    wrong = y[(y != IGNORED_LABEL) & ((y < 0) | (y >= classes))]
    if wrong.numel():
        where = "a batch" if index is None else f"batch {index}"
        raise InputError(
            f"{where} has the label {int(wrong[0])}; the model has {classes} outputs: accepted is 0 to {classes - 1}"
        )
