"""The Jacobian's entries, written block by block: layer by layer where a layer has a formula, else row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from pruneviz.errors import InputError
from pruneviz.probes.jacobian import Jacobian, Part, Rows, few
from pruneviz.probes.layer_columns import columns, recorded


def fill(view: Jacobian, parts: Sequence[Part], out: Tensor, at_once: int, tick: Callable[[int], object]) -> None:
    """Write the columns of `parts` into `out`, (N, C, their width).

    Args:
        view: the Jacobian.
        parts: of its columns, possibly only some entries of each.
        out: is overwritten.
        at_once: the most examples in one pass, where they are independent.
        tick: is called with a number of examples whenever so many are done.

    Raises:
        InputError: a derivative that is not finite, naming the layer.
    """
    stops = list(accumulate(len(part.entries) for part in parts))
    places = {part.name: slice(stop - len(part.entries), stop) for part, stop in zip(parts, stops, strict=True)}
    layered = [part for part in parts if part.name in view.layers]
    for rows in view.cut(at_once):
        block = out[rows.start : rows.start + rows.count]
        done = view.layers if layered and _by_layer(view, layered, places, rows, block) else {}
        rest = [part for part in parts if part.name not in done]
        for one in few(rows, 1 if view.independent else rows.count) if rest else ():
            _by_output(view, rest, places, one, out[one.start : one.start + one.count])
        for part in parts:
            check_finite(block[:, :, places[part.name]], part, rows)
        tick(rows.count)


def check_finite(derivatives: Tensor, part: Part, rows: Rows) -> None:
    """See that derivatives are finite: their sum is not if one of them is not, and is cheaper than looking at each.

    Raises:
        InputError: naming the layer.
    """
    if not math.isfinite(derivatives.sum()):
        raise InputError(
            f"derivatives of the outputs with respect to {part.name!r} are not finite in batch {rows.batch}; a kernel "
            "needs finite ones: try smaller weights or inputs, or float64"
        )


def _by_layer(view: Jacobian, parts: Sequence[Part], places: Mapping[str, slice], rows: Rows, block: Tensor) -> bool:
    """Columns from one backward pass per output; False where the layers are not used as in the survey."""
    of_module: dict[nn.Module, list[Part]] = {}
    for part in parts:
        of_module.setdefault(view.layers[part.name].module, []).append(part)
    with recorded(of_module) as calls:
        f = view.output(view.leaves(parts), rows)
    if not f.requires_grad or not all(call.usable and len(call.x) == rows.count for call in calls.values()):
        return False
    edges = [call.edge for call in calls.values() if call.edge is not None]
    passes = [
        list(torch.autograd.grad(f[:, c].sum(), edges, retain_graph=c + 1 < view.outputs, allow_unused=True))
        for c in range(view.outputs)
    ]
    for own in of_module.values():
        arrived = [derivatives.pop(0) for derivatives in passes]  # so that none is kept longer than needed
        g = block.new_empty(rows.count, view.outputs, *view.layers[own[0].name].shape[1:])
        for c, derivative in enumerate(arrived):
            g[:, c] = 0 if derivative is None else derivative
        for part in own:
            layer = view.layers[part.name]
            block[:, :, places[part.name]] = columns(layer, part.entries, calls[layer.module].x, g)
    return True


def _by_output(view: Jacobian, parts: Sequence[Part], places: Mapping[str, slice], rows: Rows, block: Tensor) -> None:
    """Columns from one backward pass per example and output."""
    leaves = view.leaves(parts)
    f = view.output(leaves, rows)
    wanted = [leaves[part.name] for part in parts]
    for n in range(rows.count):
        for c in range(view.outputs):
            found: Sequence[Tensor | None] = [None] * len(parts)
            if f.requires_grad:
                found = torch.autograd.grad(f[n, c], wanted, retain_graph=True, allow_unused=True)
            for part, g in zip(parts, found, strict=True):
                block[n, c, places[part.name]] = 0 if g is None else part.of(g)
