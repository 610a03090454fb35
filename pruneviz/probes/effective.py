"""Effective sparsity: weights that are kept but on no path from the input to the output count as removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError
from pruneviz.inputs import inputs_of, part_of
from pruneviz.masks import Masks
from pruneviz.probes.paths import Paths, tensors_in
from pruneviz.problem import Problem


@dataclass(frozen=True)
class LayerCounts:
    """One layer's weights: those kept, those of them that are connected, and all."""

    kept: int
    connected: int
    total: int


@dataclass(frozen=True)
class EffectiveSparsity:
    """How sparse a masked network is when weights without effect count as removed.

    Attributes:
        sparsity: the fraction of the prunable weights that the masks remove (direct sparsity).
        effective: the fraction removed or disconnected; never below `sparsity`.
        kept: weights that the masks keep.
        connected: kept weights on a path from the input to the output.
        disconnected: kept weights on no such path.
        per_layer: the counts of each prunable weight, in model order.
        masks: masks of the connected weights alone, one for each prunable weight.
    """

    sparsity: float
    effective: float
    kept: int
    connected: int
    disconnected: int
    per_layer: Mapping[str, LayerCounts]
    masks: Masks


def effective_sparsity(problem: Problem, masks: Mapping[str, Tensor] | None = None) -> EffectiveSparsity:
    """Count the weights that are kept but on no path from the input to the output (Vysogorets and Kempe 2023).

    A weight is connected if it is kept, a path of kept weights leads from an input to where it starts, and another
    from where it ends to an output. The graph has a node for every unit at every position, at the shape of the first
    batch's inputs: a tap of a kernel that sees only padding (all but the middle of 3x3 on one pixel) is disconnected
    at that size. A weight that is used in several places is connected if it is in one of them.

    Biases, shifts of normalization and activations that are not 0 at 0 make constants, to which no path leads from the
    input; a product is reached through each factor; the statistics of a normalization link nothing, a softmax links all
    that it is taken over. Where an input is whole numbers, paths begin at every embedding, one of positions too. So a
    network without such constants, with running statistics, has the same output when the disconnected weights are
    removed too; in others this may change constants and batch statistics.

    Cost: about two gradients at batch size 1, whatever the problem's batches hold.

    Args:
        problem: a feed-forward network of convolutions, linear layers, normalization, pointwise functions and pooling,
            with any branches; left untouched. Values, labels and loss do not matter.
        masks: boolean tensors by parameter name, True = kept; a layer without one is kept. None for the dense network.

    Returns:
        An `EffectiveSparsity`; its masks are on the devices of the given ones.

    Raises:
        InputError: a mask that does not fit; an operation through which paths are not known, by name: attention,
            matrix products, recurrent layers; inputs that no path begins at.
    """
    weights = problem.masked_weights(masks)  # which sees that the masks fit
    given = {} if masks is None else masks
    kept = {n: given.get(n, torch.ones_like(w, dtype=torch.bool)) for n, w in weights.items()}
    with exact_arithmetic():
        edges = {n: mask.to(weights[n]).requires_grad_() for n, mask in kept.items()}
        values = problem.parameters | edges
        inputs = _reached(part_of(inputs_of(problem.model, problem.batches[0]), slice(0, 1)))
        kinds = {t.dtype for t in tensors_in(inputs)} - {torch.bool}  # booleans say where to look, not what is there
        numbers = any(kind.is_floating_point for kind in kinds)
        with Paths(edges, tokens=not all(kind.is_floating_point for kind in kinds)) as paths:
            output = problem.output(values, inputs, batchnorm="eval")
        if not numbers and not paths.begun:
            raise InputError(
                "no input is of floating point, and none is looked up in an embedding, so that no path begins; "
                "accepted: a network with either"
            )
        ends = [t.sum() for t in tensors_in(output) if t.requires_grad]
        found = torch.autograd.grad(ends, list(edges.values()), allow_unused=True, materialize_grads=True)
    connected = {
        name: mask & (paths > 0.5).to(mask.device) for (name, mask), paths in zip(kept.items(), found, strict=True)
    }
    per_layer = {n: LayerCounts(int(m.sum()), int(connected[n].sum()), m.numel()) for n, m in kept.items()}
    n_kept = sum(layer.kept for layer in per_layer.values())
    n_connected = sum(layer.connected for layer in per_layer.values())
    total = sum(layer.total for layer in per_layer.values())
    return EffectiveSparsity(
        sparsity=1 - n_kept / total,
        effective=1 - n_connected / total,
        kept=n_kept,
        connected=n_connected,
        disconnected=n_kept - n_connected,
        per_layer=per_layer,
        masks=connected,
    )


def _reached(inputs: Any) -> Any:
    """Inputs of the same structure that are 1 everywhere; integers stay as they are."""
    if isinstance(inputs, Tensor):
        return torch.ones_like(inputs).requires_grad_().clone() if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {key: _reached(value) for key, value in inputs.items()}
    return tuple(map(_reached, inputs)) if isinstance(inputs, tuple | list) else inputs
