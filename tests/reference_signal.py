"""Twins of the probes, in float64: loops over examples, entries and positions that call nothing of the library.

Each cites what it writes out. Networks are rebuilt around plain tensors by `reference.Network`.
"""

from __future__ import annotations

import reference
import torch


def flow_change(problem, masks, temperature=1.0) -> tuple[float, float, dict[str, float]]:
    """Wang et al. 2020, section 4.1: the change of the squared gradient norm, true and to first order.

    H is dense. Returns the true change over all weights, the true change over kept ones, the prediction per layer.
    """
    network = reference.Network(problem)
    dense, masked = network.values(None), network.values(masks)
    w, v = reference.flat(dense), reference.flat(masked)
    kept = reference.flat({n: masks[n].double() if n in masks else torch.ones_like(t) for n, t in dense.items()})
    g, after = network.gradient(w, temperature=temperature), network.gradient(v, temperature=temperature)
    change = 2 * (v - w) * (network.hessian(w, temperature=temperature) @ g)
    per_layer = {name: float(part.sum()) for name, part in reference.unflat(change, dense).items()}
    return float(after @ after - g @ g), float((kept * after) @ after - g @ g), per_layer
