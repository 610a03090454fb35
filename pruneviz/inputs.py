"""What a `Problem` accepts: a model, which of its parameters to prune, and batches that fit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from pruneviz.errors import InputError, check_choice

Batch = tuple[Any, ...] | Mapping[str, Any]
Prunable = Sequence[str] | Callable[[str, Tensor], bool] | None

#: The parameters of a module that are matrices of connections; the last four are attention's projections.
_CONNECTIONS: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (_ConvNd, ("weight",)),
    (nn.Linear, ("weight",)),
    (nn.MultiheadAttention, ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")),
)
_SELECTIONS = (
    "None (the weights of every Conv*, Linear and MultiheadAttention), names, or a predicate (name, parameter) -> bool"
)
_KINDS = "a tuple (x, y), a longer one (*inputs, y), or a dict"


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
    """The names of the parameters to prune, in model order; None selects the weights of all connections.

    Raises:
        InputError: a name that is no parameter, or a selection that is empty.
    """
    parameters = dict(model.named_parameters())
    if prunable is None:
        connections = {
            id(module._parameters[attribute])  # not by getattr, which computes a parametrized weight anew
            for module in model.modules()
            for kind, attributes in _CONNECTIONS
            if isinstance(module, kind)
            for attribute in attributes
            if module._parameters.get(attribute) is not None
        }
        names = [name for name, parameter in parameters.items() if id(parameter) in connections]
    elif callable(prunable):
        names = [name for name, parameter in parameters.items() if prunable(name, parameter)]
    elif isinstance(prunable, str | Iterable):
        chosen = [prunable] if isinstance(prunable, str) else list(prunable)
        for name in chosen:
            check_choice("prunable parameter", name, parameters)
        names = [name for name in parameters if name in chosen]
    else:
        raise InputError(f"prunable is {prunable!r}; accepted: {_SELECTIONS}")
    if not names:
        raise InputError(
            f"nothing to prune: prunable={prunable!r} selects none of the model's {len(parameters)} parameters "
            f"(a weight that is computed from others is none); accepted: {_SELECTIONS}"
        )
    return tuple(names)


def checked_batches(model: nn.Module, batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """The batches as tuples and dictionaries whose tensors fit the model's device and dtype.

    Raises:
        InputError: naming the first batch that does not.
    """
    if isinstance(batches, Tensor | Mapping) or not isinstance(batches, Sequence) or not batches:
        raise InputError(f"batches is {_brief(batches)}; a non-empty sequence of batches is needed, each {_KINDS}")
    reference = next(model.parameters())
    checked = []
    for index, batch in enumerate(batches):
        if isinstance(batch, Mapping):
            one: Batch = dict(batch)
        elif isinstance(batch, tuple | list) and len(batch) >= 2:
            one = tuple(batch)
        else:
            raise InputError(f"batch {index} is {_brief(batch)}; accepted: {_KINDS}")
        _check_tensors(one, inputs_of(model, one), index, reference)
        checked.append(one)
    return tuple(checked)


def _check_tensors(batch: Batch, inputs: Any, index: int, reference: Tensor) -> None:
    named = dict(_tensors(batch))
    plain = not isinstance(batch, Mapping) and any(isinstance(entry, int | float | str) for entry in batch)
    if plain or not any(_tensors(inputs)):
        kinds = ", ".join(type(e).__name__ for e in (batch.values() if isinstance(batch, Mapping) else batch))
        raise InputError(f"batch {index} is {_brief(batch)} of {kinds}; accepted: {_KINDS}, of tensors")
    given = {id(t) for _, t in _tensors(inputs)}
    for where, tensor in named.items():
        if (tensor.dim() == 0 and id(tensor) in given) or (tensor.dim() > 0 and len(tensor) == 0):
            raise InputError(f"batch {index} holds no examples: {where} has shape {tuple(tensor.shape)}")
        if tensor.device != reference.device:
            raise InputError(f"{where} of batch {index} is on {tensor.device}, the model is on {reference.device}")
        if id(tensor) in given and tensor.is_floating_point() and tensor.dtype != reference.dtype:
            raise InputError(
                f"{where} of batch {index} has dtype {tensor.dtype}, the weights {reference.dtype}; they must be equal"
            )


def inputs_of(model: nn.Module, batch: Batch) -> Any:
    """What the model is called with: a tuple's entries but the last, or those of a dictionary that it takes.

    Raises:
        InputError: a dictionary of which the model's forward takes nothing.
    """
    if not isinstance(batch, Mapping):
        return batch[0] if len(batch) == 2 else tuple(batch[:-1])
    accepted = inspect.signature(model.forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in accepted):
        return dict(batch)
    names = [p.name for p in accepted if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    taken = {name: batch[name] for name in names if name in batch}
    if not taken:
        raise InputError(
            f"a batch has the keys {', '.join(map(repr, batch))}; the model's forward takes {', '.join(names)}"
        )
    return taken


def target_of(batch: Batch) -> Any:
    """What the loss is called with beside the output: a tuple's last entry, or the whole dictionary."""
    return batch if isinstance(batch, Mapping) else batch[-1]


def examples_in(batch: Batch, index: int) -> int:
    """How many examples a batch holds: the common length of its tensors.

    Raises:
        InputError: if its tensors differ in length, so that nobody knows how to cut it.
    """
    lengths = {where: len(t) if t.dim() else 0 for where, t in _tensors(batch)}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        said = ", ".join(f"{where} {length}" for where, length in lengths.items())
        raise InputError(
            f"batch {index} cannot be cut into micro-batches: its tensors must have one entry per example, but their "
            f"lengths are {said}"
        )
    return next(iter(lengths.values()))


def part_of(batch: Any, which: slice | Tensor) -> Any:
    """Some examples of a batch, of the batch's own structure; what is no tensor stays as it is."""
    if isinstance(batch, Tensor):
        return batch[which]
    if isinstance(batch, Mapping):
        return {key: part_of(value, which) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(part_of(value, which) for value in batch)
    return batch


def _tensors(value: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a batch, with the name by which its owner knows it: x and y of a pair, else its key or place."""
    if isinstance(value, Tensor):
        yield where or "x", value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(entry, f"{where}[{key!r}]" if where else repr(key))
    elif isinstance(value, tuple | list):
        for place, entry in enumerate(value):
            top = "xy"[place] if len(value) == 2 else f"entry {place}"
            yield from _tensors(entry, f"{where}[{place}]" if where else top)


def _brief(value: object) -> str:
    size = f" of length {len(value)}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"
