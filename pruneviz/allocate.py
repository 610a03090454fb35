"""From scores to masks that keep an exact number of weights.

Kept = round((1 - sparsity) * N), rounded half to even. The weights with the largest scores are kept; among
equal scores the one that comes first in model order is kept, so that the same scores always give the same
masks and exactly as many weights as asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.errors import InputError, check_choice, check_sparsity
from pruneviz.masks import Masks

SCOPES = ("global", "layerwise", "uniform", "erk")


def allocate(scores: Mapping[str, Tensor], sparsity: float, scope: str = "global") -> Masks:
    r"""Keep the weights with the largest scores.

    Args:
        scores: one tensor per prunable weight, of the weight's shape; larger is kept first. Minus infinity
            marks a weight that is kept only if nothing else is left to keep; NaN is not accepted.
        sparsity: the fraction removed, 0 <= sparsity < 1.
        scope: where weights compete with each other.
            "global": all layers in one ranking.
            "layerwise": each layer alone, keeping round((1 - sparsity) * n_l) of its n_l weights, so that the
            total is exact only up to those roundings.
            "uniform": as Evci et al. 2020, section 3: the first layer stays dense, all others get the same
            density, and the total is exact.
            "erk": Erdos-Renyi-Kernel (Evci et al. 2020, section 3, after Mocanu et al. 2018): the density of
            a layer is proportional to (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w), layers that would
            exceed 1 are dense, and the total is exact.

    Returns:
        Boolean tensors, True = kept, on the scores' devices, in the scores' order.

    Raises:
        InputError: an unknown scope, a sparsity outside [0, 1), no scores, NaN among the scores (naming the
            layer), or a sparsity at which nothing would be kept.
    """
    check_choice("scope", scope, SCOPES)
    sparsity = check_sparsity(sparsity)
    _check_scores(scores)
    sizes = {name: score.numel() for name, score in scores.items()}
    keep = round((1.0 - sparsity) * sum(sizes.values()))
    if keep == 0:
        raise InputError(
            f"sparsity {sparsity} keeps 0 of {sum(sizes.values())} weights; accepted: one that keeps at least 1"
        )
    if scope == "global":
        flat = torch.cat([score.reshape(-1) for score in scores.values()])
        parts = keep_largest(flat, keep).split_with_sizes(list(sizes.values()))
        return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
    layers = [_Layer(name, tuple(s.shape), s.numel(), int((s > -torch.inf).sum())) for name, s in scores.items()]
    quota = _QUOTAS[scope](layers, sparsity, keep)
    return {name: keep_largest(score.reshape(-1), quota[name]).view(score.shape) for name, score in scores.items()}


def keep_largest(scores: Tensor, keep: int) -> Tensor:
    """The mask of the `keep` largest entries of a vector; of equal entries the first ones.

    Linear in the length: one selection for the threshold, and an index search among its ties only.

    Args:
        scores: shape (N,), without NaN.
        keep: 0 <= keep <= N.

    Returns:
        A boolean tensor of shape (N,) with exactly `keep` entries True.
    """
    n = scores.numel()
    if keep >= n or keep <= 0:
        return torch.full_like(scores, keep > 0, dtype=torch.bool)
    threshold = scores.kthvalue(n - keep + 1).values
    mask = scores > threshold
    missing = keep - int(mask.sum())
    ties = (scores == threshold).nonzero().squeeze(1)
    mask[ties[:missing]] = True
    return mask


def _check_scores(scores: Mapping[str, Tensor]) -> None:
    if not scores:
        raise InputError("scores is empty; one tensor per prunable weight is needed, as pruneviz.score returns them")
    for name, score in scores.items():
        bad = int(torch.isnan(score).sum())
        if bad:
            raise InputError(f"{bad} of the {score.numel()} scores of {name!r} are NaN; scores must be numbers")


@dataclass(frozen=True)
class _Layer:
    name: str
    shape: tuple[int, ...]
    size: int
    available: int  # weights that earlier steps of a schedule have not removed


def _layerwise(layers: Sequence[_Layer], sparsity: float, keep: int) -> dict[str, int]:
    return {layer.name: round((1.0 - sparsity) * layer.size) for layer in layers}


def _uniform(layers: Sequence[_Layer], sparsity: float, keep: int) -> dict[str, int]:
    first, *others = layers
    if not others:
        return {first.name: keep}
    if keep < first.size:
        raise InputError(
            f"scope 'uniform' keeps the first layer {first.name!r} dense ({first.size} weights), but sparsity "
            f"{sparsity} keeps only {keep} in all; accepted: a lower sparsity, or scope 'layerwise'"
        )
    density = (keep - first.size) / sum(layer.size for layer in others)
    wanted = [density * layer.size for layer in others]
    return {first.name: first.size} | _round_to_total(wanted, others, keep - first.size)


def _erk(layers: Sequence[_Layer], sparsity: float, keep: int) -> dict[str, int]:
    raw = {layer.name: sum(layer.shape) / layer.size for layer in layers}
    dense: set[str] = set()
    while True:
        budget = keep - sum(layer.size for layer in layers if layer.name in dense)
        others = [layer for layer in layers if layer.name not in dense]
        weight = sum(raw[layer.name] * layer.size for layer in others)
        epsilon = budget / weight if others else 0.0
        over = [layer.name for layer in others if epsilon * raw[layer.name] > 1.0]
        if not over:
            break
        # Only the densest is fixed in a round: fixing it lowers epsilon, which may bring the others below 1.
        dense.add(max(over, key=lambda name: raw[name]))
    wanted = [float(layer.size) if layer.name in dense else epsilon * raw[layer.name] * layer.size for layer in layers]
    return _round_to_total(wanted, layers, keep)


def _round_to_total(wanted: Sequence[float], layers: Sequence[_Layer], total: int) -> dict[str, int]:
    """Whole numbers near `wanted` that add up to `total`, none above what its layer has (largest remainders)."""
    quota = {layer.name: min(int(value), layer.available) for layer, value in zip(layers, wanted, strict=True)}
    remainder = {layer.name: value - quota[layer.name] for layer, value in zip(layers, wanted, strict=True)}
    missing = total - sum(quota.values())
    while missing > 0:
        room = [layer.name for layer in layers if quota[layer.name] < layer.available]
        for name in sorted(room, key=lambda n: -remainder[n])[:missing]:
            quota[name] += 1
            missing -= 1
        if not room:  # fewer weights are left than are to be kept: removed ones come back, lowest index first
            layer = max(layers, key=lambda one: one.size - quota[one.name])
            quota[layer.name] += missing
            missing = 0
    return quota


_QUOTAS: dict[str, Callable[[Sequence[_Layer], float, int], dict[str, int]]] = {
    "layerwise": _layerwise,
    "uniform": _uniform,
    "erk": _erk,
}
