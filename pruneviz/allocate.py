"""From scores to masks that keep an exact number of weights.

Kept = round((1 - sparsity) * N), rounded half to even. The weights with the largest scores are kept; among
equal scores the one that comes first in model order is kept, so that the same scores always give the same
masks and exactly as many weights as asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

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
            "uniform": the first layer stays dense, all others get the same density (Evci et al. 2020, section
            3; there that density is the target itself, here what makes the total exact).
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
    if not isinstance(scores, Mapping):
        raise InputError(f"scores is a {type(scores).__name__}; a mapping of parameter names to tensors is needed")
    if not scores:
        raise InputError("scores is empty; one tensor per prunable weight is needed, as pruneviz.score returns them")
    for name, score in scores.items():
        if not isinstance(score, Tensor):
            raise InputError(f"the scores of {name!r} are a {type(score).__name__}; a tensor is needed")
        if score.dtype == torch.bool or score.is_complex():
            raise InputError(f"the scores of {name!r} have dtype {score.dtype}; real numbers are needed")
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
    return {first.name: first.size} | _divide([layer.size for layer in others], others, keep - first.size)


def _erk(layers: Sequence[_Layer], sparsity: float, keep: int) -> dict[str, int]:
    # Density proportional to (sum of the shape) / size means a count proportional to the sum of the shape.
    return _divide([sum(layer.shape) for layer in layers], layers, keep)


def _divide(shares: Sequence[int], layers: Sequence[_Layer], total: int) -> dict[str, int]:
    """Counts proportional to `shares`, none above what its layer has, that add up to `total`.

    Fractions are rounded to the nearest count at one common scale (Webster's method of apportionment). Unlike
    the rounding by largest remainders, a larger total never takes a weight away from a layer, so that masks
    are nested in sparsity.
    """
    room = [layer.available for layer in layers]
    if sum(room) < total:  # fewer weights are left than are to be kept: removed ones have to come back
        room = [layer.size for layer in layers]
    scale = _common_scale(shares, room, total)
    half = Fraction(1, 2)  # exact fractions: equal claims must compare equal
    count = [min(most, math.floor(scale * share + half)) for share, most in zip(shares, room, strict=True)]
    while sum(count) < total:
        takers = [i for i in range(len(count)) if count[i] < room[i]]
        count[max(takers, key=lambda i: shares[i] / (count[i] + half))] += 1
    while sum(count) > total:
        givers = [i for i in reversed(range(len(count))) if count[i] > 0]
        count[min(givers, key=lambda i: shares[i] / (count[i] - half))] -= 1
    return {layer.name: n for layer, n in zip(layers, count, strict=True)}


def _common_scale(shares: Sequence[int], room: Sequence[int], total: int) -> Fraction:
    """The factor at which the shares, each cut off at its room, add up to `total`."""
    full: set[int] = set()
    while True:
        rest = [i for i in range(len(shares)) if i not in full and shares[i]]
        if not rest:  # any scale that fills every layer
            return max((Fraction(r, s) for r, s in zip(room, shares, strict=True) if s), default=Fraction(0))
        scale = Fraction(total - sum(room[i] for i in full), sum(shares[i] for i in rest))
        # What a layer cannot hold raises the scale for the others, so a layer that is full stays full.
        over = {i for i in rest if scale * shares[i] > room[i]}
        if not over:
            return scale
        full |= over


_QUOTAS: dict[str, Callable[[Sequence[_Layer], float, int], dict[str, int]]] = {
    "layerwise": _layerwise,
    "uniform": _uniform,
    "erk": _erk,
}
