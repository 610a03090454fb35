"""Slow twins of FORCE (de Jorge et al. 2021), from the paper's formulas."""

from __future__ import annotations

import reference
import torch
from reference import Values, flat, unflat


def force_by_masks(problem, masks=None) -> Values:
    """The derivative of L(c * w) with respect to c, at c = the masks, for the dense w: explicit mask variables."""
    network = reference.Network(problem)
    dense = network.values()
    c = {}
    for name, w in dense.items():
        start = torch.ones_like(w) if masks is None or name not in masks else masks[name].to(w.dtype)
        c[name] = start.clone().requires_grad_()
    loss = network.loss({name: c[name] * dense[name] for name in dense})
    slopes = torch.autograd.grad(loss, list(c.values()))
    return {name: slope.abs() for name, slope in zip(dense, slopes, strict=True)}


def force_by_differences(problem, masks, step: float = 1e-5) -> Values:
    """What the loss does when the mask of one weight after the other moves, from 1 or from 0."""
    network = reference.Network(problem)
    dense = network.values()
    mask = flat({name: masks[name].to(w.dtype) for name, w in dense.items()})
    change = torch.zeros_like(mask)
    with torch.no_grad():
        for j in range(len(mask)):
            ends = []
            for sign in (1, -1):
                moved = mask.clone()
                moved[j] += sign * step
                ends.append(float(network.loss(unflat(moved * flat(dense), dense))))
            change[j] = (ends[0] - ends[1]) / (2 * step)
    return unflat(change.abs(), dense)


def prune(problem, densities: list[float]) -> list[dict[str, torch.Tensor]]:
    """Algorithm 1: in each step the saliency |theta * gradient at the pruned theta| of all weights, and the best kept.

    Returns the masks after each step.
    """
    masks, history = None, []
    for density in densities:
        saliency = flat(force_by_masks(problem, masks))
        keep = round(density * len(saliency))
        best = sorted(range(len(saliency)), key=lambda j: (-float(saliency[j]), j))[:keep]
        vector = torch.zeros(len(saliency), dtype=torch.bool)
        vector[best] = True
        masks = unflat(vector, reference.Network(problem).dense)
        history.append(masks)
    return history
