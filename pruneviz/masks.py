"""Masks as plain dictionaries: parameter name to boolean tensor, True where the weight is kept.

A mask is a value. It is applied once, by zeroing weights; it never lives in a hook, and it is saved as
safetensors, which any program can read without running code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pruneviz.device import pick_device
from pruneviz.errors import InputError
from pruneviz.files import write_atomically

Masks = dict[str, Tensor]


def counts(masks: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Weights kept and weights in total, per layer: `{name: (kept, total)}`."""
    return {name: (int(mask.sum()), mask.numel()) for name, mask in masks.items()}


def densities(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The fraction of weights kept, per layer."""
    return {name: kept_here / of for name, (kept_here, of) in counts(masks).items()}


def kept(masks: Mapping[str, Tensor]) -> int:
    """How many weights all masks keep together."""
    return sum(int(mask.sum()) for mask in masks.values())


def total(masks: Mapping[str, Tensor]) -> int:
    """How many weights all masks cover together."""
    return sum(mask.numel() for mask in masks.values())


def collapsed(masks: Mapping[str, Tensor]) -> list[str]:
    """The layers that keep no weight at all (layer collapse, Tanaka et al. 2020, section 3)."""
    return [name for name, mask in masks.items() if not bool(mask.any())]


def check_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """See that every mask is a boolean tensor of the shape of the parameter it names.

    Raises:
        InputError: naming the first key, dtype or shape that does not fit.
    """
    if not isinstance(masks, Mapping):
        raise InputError(
            f"masks is a {type(masks).__name__}; a mapping of parameter names to boolean tensors is needed"
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in parameters:
            raise InputError(
                f"the mask names {name!r}, which is no parameter of the model; its parameters: " + ", ".join(parameters)
            )
        _check_boolean(name, mask)
        if mask.shape != parameters[name].shape:
            raise InputError(
                f"the mask of {name!r} has shape {tuple(mask.shape)}; "
                f"its parameter has shape {tuple(parameters[name].shape)}"
            )


def _check_boolean(name: str, mask: object) -> None:
    received = f"dtype {mask.dtype}" if isinstance(mask, Tensor) else f"type {type(mask).__name__}"
    if received != "dtype torch.bool":
        raise InputError(f"the mask of {name!r} has {received}; accepted is a tensor of torch.bool, True = kept")


@torch.no_grad()
def apply(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero the removed weights of `model` in place; everything that is kept stays bit for bit.

    Args:
        model: the network; parameters that no mask names are left alone.
        masks: boolean tensors of the parameters' shapes, on any device.

    Raises:
        InputError: if a mask does not fit; the model is then unchanged.
    """
    check_masks(model, masks)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        parameters[name].masked_fill_(~mask.to(parameters[name].device), 0)


def to_torch_prune(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Hand the masks to `torch.nn.utils.prune`, in place, and return the model.

    Each masked parameter `weight` becomes `weight_orig` with a buffer `weight_mask`, as that module's
    own functions leave it; `torch.nn.utils.prune.remove` makes it permanent. A parameter that several modules
    share is masked in each of them and stays shared as `weight_orig`.

    Raises:
        InputError: if a mask does not fit; the model is then unchanged.
    """
    from torch.nn.utils import prune

    check_masks(model, masks)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key, mask in masks.items():
        places = [name.rpartition(".") for name, parameter in parameters.items() if parameter is parameters[key]]
        # As keys of a dictionary, because one module may stand under several names.
        for module, attribute in {(model.get_submodule(owner), attribute): None for owner, _, attribute in places}:
            prune.custom_from_mask(module, attribute, mask.to(parameters[key].device))
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention) and prune.is_pruned(module.out_proj):
            module.register_forward_pre_hook(_mask_projection)
    return model


def _mask_projection(attention: nn.MultiheadAttention, inputs: Any) -> None:
    """What masks `out_proj` runs before its own forward, which attention never calls: it reads the weight alone."""
    for hook in attention.out_proj._forward_pre_hooks.values():
        hook(attention.out_proj, ())


def save_masks(
    path: str | os.PathLike[str], masks: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> None:
    """Write masks and what is known of them to a safetensors file, atomically.

    Args:
        path: the file to write; its folder must exist.
        masks: boolean tensors, on any device.
        meta: anything that JSON can hold (scorer, sparsity, seed, ...).

    Raises:
        InputError: if a mask is not boolean, `meta` is not JSON, or the folder is missing. Nothing is written then.
        OSError: if the file cannot be written; an older one is then still there.
    """
    for name, mask in masks.items():
        _check_boolean(name, mask)
    try:
        described = json.dumps(dict(meta or {}), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"meta {meta!r} cannot be written as JSON: {error}") from error
    # safetensors sorts tensors by size and dtype, so the model's order travels in the header.
    header = {"meta": described, "order": json.dumps(list(masks)), "format": "pruneviz masks 1"}
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {os.fspath(target.parent)!r} to write masks to; make it first")
    # Clones: masks may be views of one tensor, or one mask may stand under two names.
    write_atomically(target, save({name: m.cpu().clone().contiguous() for name, m in masks.items()}, metadata=header))


def load_masks(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> tuple[Masks, dict[str, Any]]:
    """Read what `save_masks` wrote: the masks, in the order in which they were saved, and their `meta`.

    Raises:
        InputError: if the file is missing, damaged, or holds something other than masks; or if the device is not there.
    """
    place = pick_device(device)
    if not Path(path).is_file():
        raise InputError(f"there is no mask file at {os.fspath(path)!r}; masks are written by pruneviz.save_masks")
    try:
        with safe_open(path, framework="pt", device=str(place)) as file:
            header = file.metadata() or {}
            order = json.loads(header.get("order", "null")) or list(file.keys())
            masks = {name: file.get_tensor(name) for name in order}
            meta = json.loads(header.get("meta", "{}"))
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        raise InputError(f"the mask file {os.fspath(path)!r} is damaged or not safetensors: {error}") from error
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise InputError(
                f"{os.fspath(path)!r} holds {name!r} with dtype {mask.dtype}; a mask file holds torch.bool only"
            )
    return masks, meta
