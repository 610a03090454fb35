"""A model lent out for one forward pass: with other tensors, in another mode, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untouched(model: nn.Module, values: Mapping[str, Tensor], batchnorm: str, device: torch.device) -> Iterator[None]:
    """The model in evaluation mode with `values` in place of its tensors; all is put back, also after an error.

    Args:
        model: any network.
        values: of parameters and buffers, by name. Of those left out parameters are detached and buffers copied.
        batchnorm: "train" for batch normalization with the statistics of each batch, or "eval".
        device: whose generator of random numbers stays as it is, beside the processor's.
    """
    mode = _evaluation_mode(model, batchnorm)
    with mode, _frozen_random_state(device), _kept_attributes(model), _substituted(model, values):
        yield


@contextmanager
def _substituted(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """The model with `values` in place of its tensors, other parameters detached, other buffers copied; put back.

    What `torch.func.functional_call` does, in one walk over the modules, which a batch of one example notices; and
    each place that holds a tensor exactly once, where that leaves its substitutes behind in a module that it reaches
    under two names. A tensor that several modules share is known by its first name.
    """
    held: list[tuple[dict[str, Any], str, Tensor]] = []
    substitutes: dict[int, Tensor] = {}
    for path, module in model.named_modules():
        for slots, ours in ((module._parameters, Tensor.detach), (module._buffers, Tensor.clone)):
            for key, tensor in slots.items():
                if tensor is None:
                    continue
                if id(tensor) not in substitutes:
                    given = values.get(f"{path}.{key}" if path else key)
                    substitutes[id(tensor)] = ours(tensor) if given is None else given
                held.append((slots, key, tensor))
    try:
        for slots, key, tensor in held:
            slots[key] = substitutes[id(tensor)]
        yield
    finally:
        for slots, key, tensor in held:
            slots[key] = tensor


@contextmanager
def _kept_attributes(model: nn.Module) -> Iterator[None]:
    """Tensors that a forward pass leaves in plain attributes, which hold on to its graph, give way to what was there.

    A network of one's own may keep its features so; and hooks of `torch.nn.utils.prune` and of the older
    `weight_norm` write the weight that they compute there. PyTorch's own layers without hooks keep nothing.
    """
    before = [
        (vars(module), dict(vars(module)))
        for module in model.modules()
        if module._forward_pre_hooks or not type(module).__module__.startswith("torch.nn.")
    ]
    try:
        yield
    finally:
        for now, then in before:
            changed = [key for key, value in now.items() if isinstance(value, Tensor) and value is not then.get(key)]
            for key in changed:
                if key in then:
                    now[key] = then[key]
                else:
                    del now[key]


@contextmanager
def _evaluation_mode(model: nn.Module, batchnorm: str) -> Iterator[None]:
    """Every module in evaluation mode, batch normalization as chosen; the flags are put back one by one."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        _set({module: batchnorm == "train" and isinstance(module, _BatchNorm) for module, _ in flags})
        yield
    finally:
        _set(dict(flags))


def _set(flags: Mapping[nn.Module, bool]) -> None:
    for module, training in flags.items():
        if module.training != training:  # to read is cheap, to set is not
            module.training = training


@contextmanager
def _frozen_random_state(device: torch.device) -> Iterator[None]:
    """A forward pass that draws random numbers leaves the global generators where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
