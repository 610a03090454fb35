"""What a `Problem` accepts: a model, which of its parameters to prune, and batches that fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from pruneviz.errors import InputError, check_choice

Batch = tuple[Tensor, Tensor]
Prunable = Sequence[str] | Callable[[str, Tensor], bool] | None

_SELECTIONS = "None (every Conv*/Linear weight), names, or a predicate (name, parameter) -> bool"


def check_model(model: nn.Module) -> nn.Module:
    """The model itself, if it is a network of its own in float32 or float64.

    Raises:
        InputError: anything else, also a wrapper for several devices and layers without weights yet.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; a torch.nn.Module is needed")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise InputError(f"model is wrapped in {type(model).__name__}; give the network inside it, model.module")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise InputError(f"{name!r} has no values yet: run the model once on a batch before scoring it")
        if parameter.is_floating_point() and parameter.dtype not in (torch.float32, torch.float64):
            # In half precision most second derivatives are zero, and the masks are decided by the order of ties.
            raise InputError(
                f"{name!r} has dtype {parameter.dtype}; scores are computed in torch.float32 or torch.float64"
            )
    return model


def prunable_names(model: nn.Module, prunable: Prunable) -> tuple[str, ...]:
    """The names of the parameters to prune, in model order; None selects every `Conv*` and `Linear` weight.

    Raises:
        InputError: a name that is no parameter, or a selection that is empty.
    """
    parameters = dict(model.named_parameters())
    if prunable is None:
        layers = {
            id(module.weight)
            for module in model.modules()
            if isinstance(module, _ConvNd | nn.Linear) and isinstance(module.weight, nn.Parameter)
        }
        names = [name for name, parameter in parameters.items() if id(parameter) in layers]
    elif callable(prunable):
        names = [name for name, parameter in parameters.items() if prunable(name, parameter)]
    elif isinstance(prunable, str | Iterable):
        prunable = [prunable] if isinstance(prunable, str) else prunable
        for name in prunable:
            check_choice("prunable parameter", name, parameters)
        names = [name for name in parameters if name in set(prunable)]
    else:
        raise InputError(f"prunable is {prunable!r}; accepted: {_SELECTIONS}")
    if not names:
        raise InputError(
            f"nothing to prune: prunable={prunable!r} selects none of the model's {len(parameters)} parameters "
            f"(a weight that is computed from others is none); accepted: {_SELECTIONS}"
        )
    return tuple(names)


def checked_batches(model: nn.Module, batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """The batches as pairs of tensors that fit the model's device and dtype.

    Raises:
        InputError: naming the first batch that does not.
    """
    if isinstance(batches, Tensor) or not isinstance(batches, Sequence) or not batches:
        raise InputError(f"batches is {_brief(batches)}; a non-empty sequence of (x, y) is needed")
    reference = next(model.parameters())
    for index, batch in enumerate(batches):
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)):
            raise InputError(f"batch {index} is {_brief(batch)}; a pair of tensors (x, y) is needed")
        x = batch[0]
        if x.dim() == 0 or len(x) == 0:
            raise InputError(f"batch {index} holds no examples: x has shape {tuple(x.shape)}")
        for what, tensor in zip("xy", batch, strict=True):
            if tensor.device != reference.device:
                raise InputError(f"{what} of batch {index} is on {tensor.device}, the model is on {reference.device}")
        if x.is_floating_point() and x.dtype != reference.dtype:
            raise InputError(
                f"x of batch {index} has dtype {x.dtype}, the weights {reference.dtype}; they must be equal"
            )
    return tuple((batch[0], batch[1]) for batch in batches)


def _brief(value: object) -> str:
    size = f" of length {len(value)}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"
