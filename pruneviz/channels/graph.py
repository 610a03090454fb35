"""Which channels of a network go together, and taking them out, by the dependency graph of torch-pruning."""

from __future__ import annotations

import copy
import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruneviz.errors import InputError
from pruneviz.problem import Problem

# Operations that look at the products of channels: what torch-pruning takes for elementwise mixes them here.
_MIXING = ("bmm", "softmax", "scaleddotproduct", "einsum")

UNSEEN = "torch-pruning does not see its channels"


@dataclass(frozen=True)
class Part:
    """Slices of a parameter that belong to channels.

    Attributes:
        parameter: its name.
        role: "weight" that computes the channels, "beside" it (bias, scale and shift), or "reader" of the channels.
        dim: along which the slices are cut.
        slices: their places.
        channels: for each slice the channel of the group that it belongs to.
    """

    parameter: str
    role: str
    dim: int
    slices: Tensor
    channels: Tensor


@dataclass(frozen=True)
class Group:
    """Layers whose channels can be taken out together only: added to each other, or depthwise convolved.

    Attributes:
        size: the number of its channels.
        parts: of the parameters that hold them.
        root: the module and function by which torch-pruning knows it.
    """

    size: int
    parts: tuple[Part, ...]
    root: tuple[nn.Module, Any]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the weights that compute its channels; empty for a weight that is itself computed."""
        return tuple(part.parameter for part in self.parts if part.role == "weight")


class ChannelGraph:
    """The groups of channels that a problem's network can lose, and a copy of it that loses them.

    Attributes:
        groups: by the name of their first layer's weight, in model order.
        whole: why other layers keep all their channels, by the name of their weight.

    Raises:
        ModuleNotFoundError: without torch-pruning.
        InputError: if there are no channels that can be taken out.
    """

    def __init__(self, problem: Problem, inputs: Any) -> None:
        self._library = _torch_pruning()
        self.model = _unfrozen_copy(problem.model)
        uses = Counter(id(p) for module in self.model.modules() for p in module.parameters(recurse=False))
        self._shared = {identity for identity, count in uses.items() if count > 1}
        self._names = {id(p): name for name, p in self.model.named_parameters()}
        self._frozen = {name for name, p in problem.model.named_parameters() if not p.requires_grad}
        self.whole: dict[str, str] = {}
        found: dict[str, Group] = {}
        try:
            self._graph = self._traced(inputs)
            for raw in self._graph.get_all_groups():
                group = Group(len(raw[0].idxs), tuple(self._parts(raw)), (raw[0].dep.target.module, raw[0].dep.handler))
                reason = self._refusal(raw, group, problem)
                if reason is None:
                    found[min(group.layers, key=problem.names.index)] = group
                else:
                    self.whole |= {layer: reason for layer in group.layers if layer}
        except Exception as error:  # whatever a network makes torch-pruning stumble over
            raise InputError(
                f"torch-pruning cannot follow {type(problem.model).__name__}: {type(error).__name__}: {error}"
            ) from error
        self._restore(problem.model)
        self.groups = {name: found[name] for name in problem.names if name in found}
        seen = {layer for group in found.values() for layer in group.layers}
        self.whole |= {name: UNSEEN for name in problem.names if name not in seen and name not in self.whole}
        if not self.groups:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.whole.items())
            raise InputError(f"no layer of {type(problem.model).__name__} can lose channels ({reasons})")

    def without(self, kept: Mapping[str, Tensor]) -> nn.Module:
        """The copy of the network with the channels taken out of it that the masks of the groups remove; once."""
        for name, group in self.groups.items():
            removed = (~kept[name]).nonzero().flatten().tolist()
            if removed:
                self._graph.get_pruning_group(*group.root, removed).prune(record_history=False)
        for name, parameter in self.model.named_parameters():
            if name in self._frozen:
                parameter.requires_grad_(False)
        return self.model

    def _restore(self, original: nn.Module) -> None:
        """What tracing may have changed in the copy: modes and buffers."""
        for module, as_it_was in zip(self.model.modules(), original.modules(), strict=True):
            module.training = as_it_was.training
        with torch.no_grad():
            for buffer, value in zip(self.model.buffers(), original.buffers(), strict=True):
                buffer.copy_(value)

    def _traced(self, inputs: Any) -> Any:
        def forward(model: nn.Module, given: Any) -> list[Tensor]:
            if isinstance(given, Mapping):
                output = model(**given)
            else:
                output = model(*given) if isinstance(given, tuple) else model(given)
            # A last operation of its own: torch-pruning knows an output by that no layer ends there.
            return [1.0 * tensor for tensor in tensors_of(output) if tensor.requires_grad]

        graph = self._library.DependencyGraph()
        return graph.build_dependency(self.model, inputs, forward_fn=forward, verbose=False)

    def _parts(self, raw: Any) -> Iterator[Part]:
        for item in raw:
            module = item.dep.target.module
            if not isinstance(module, _ConvNd | nn.Linear | _BatchNorm | nn.PReLU) or module.weight is None:
                continue
            slices, channels = torch.tensor(item.idxs, device="cpu"), torch.tensor(item.root_idxs, device="cpu")
            dense = isinstance(module, _ConvNd | nn.Linear)
            out = self._graph.is_out_channel_pruning_fn(item.dep.handler)
            dim = int(out == isinstance(module, _ConvTransposeNd)) if dense else 0
            role = ("weight" if out else "reader") if dense else "beside"
            yield Part(self._names.get(id(module.weight), ""), role, dim, slices, channels)
            if out and getattr(module, "bias", None) is not None:
                yield Part(self._names.get(id(module.bias), ""), "beside", 0, slices, channels)

    def _refusal(self, raw: Any, group: Group, problem: Problem) -> str | None:
        """Why a group stays whole, if it does."""
        kinds, modules = self._library.ops.OPTYPE, [item.dep.target.module for item in raw]
        of = {item.dep.target.type for item in raw}
        if kinds.OUTPUT in of:
            return "its channels are the network's output"
        if of & {kinds.LN, kinds.GN}:
            return "its channels are normalized together"
        known = {kinds.CONV, kinds.DEPTHWISE_CONV, kinds.LINEAR, kinds.BN, kinds.PRELU, kinds.CONCAT, kinds.ELEMENTWISE}
        if not of <= known | {kinds.RESHAPE} or any(m in repr(op).lower() for op in modules for m in _MIXING):
            return "an operation mixes its channels"
        if any(isinstance(m, _ConvNd) and 1 < m.groups < max(m.in_channels, m.out_channels) for m in modules):
            return "a grouped convolution has it"
        if any(id(p) in self._shared for m in modules for p in m.parameters(recurse=False)):
            return "a layer shares its weight with another one"
        if not set(group.layers) <= set(problem.names):
            return "not all layers that it is coupled with are prunable"
        made = [i.dep.target.module for i in raw if self._graph.is_out_channel_pruning_fn(i.dep.handler)]
        if not any(isinstance(m, nn.Linear) or (isinstance(m, _ConvNd) and m.groups == 1) for m in made):
            return "its channels are the network's input"
        if list(self._graph.get_pruning_group(*group.root, [0])[0].idxs) != [0]:  # does one drag others along?
            return "its channels cannot be taken out one by one"
        return None


def _unfrozen_copy(model: nn.Module) -> nn.Module:
    """A copy whose output depends on all parameters: that is what tracing follows."""
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return copied


def tensors_of(value: Any) -> list[Tensor]:
    """The floating-point tensors in a network's output, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        return [tensor for entry in value.values() for tensor in tensors_of(entry)]
    if isinstance(value, tuple | list):
        return [tensor for entry in value for tensor in tensors_of(entry)]
    return []


def _torch_pruning() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"channels are taken out with {error.name!r}: pip install 'pruneviz[channels]'", name=error.name
        ) from error
