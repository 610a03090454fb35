"""From scores to masks that keep an exact number of weights.

Kept = round((1 - sparsity) * N), rounded half to even. The weights with the largest scores are kept; among
equal scores the one that comes first in model order is kept, so that the same scores always give the same
masks and exactly as many weights as asked for.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from numbers import Integral

import torch
from torch import Tensor

from pruneviz.errors import InputError, check_choice, check_sparsity
from pruneviz.masks import Masks, collapsed
from pruneviz.quotas import QUOTAS, Layer, sparsity_of
from pruneviz.select import in_parts, keep_largest, keep_largest_of

SCOPES = ("global", *QUOTAS)

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class LayerCollapseWarning(UserWarning):
    """All weights of a layer are removed (layer collapse; Tanaka et al. 2020, section 3)."""


def allocate(scores: Mapping[str, Tensor], sparsity: float, scope: str = "global", minimum: int = 0) -> Masks:
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
            "smart_ratio": Su et al. 2020, smart-ratios. Of L layers the l-th, if it is a convolution (a weight
            of three dimensions or more), gets a density proportional to (L - l + 1)^2 + (L - l + 1), at most 1;
            all others keep round(0.3 n_l) at every sparsity. With random scores these are the paper's random
            tickets, with the magnitudes of trained weights its hybrid tickets. Here the total is exact, and what
            a convolution cannot hold goes to all others in proportion; the authors' code rounds each layer down
            and gives what is left over to the first layers.
            "smart_ratio_vgg": the same divided by l^2, the authors' choice for VGG.
        minimum: weights that every layer keeps at least; all of them where a layer has fewer. First each layer
            keeps its best ones, then all others compete as the scope says. The total stays exact, but for
            "layerwise", where layers below the minimum are raised to it. A layer of which fewer are left than
            the minimum takes back removed ones. Forbids layer collapse from 1 on.

    Returns:
        Boolean tensors, True = kept, on the scores' devices, in the scores' order.

    Raises:
        InputError: an unknown scope, a sparsity outside [0, 1), a minimum that is no whole number of at least 0,
            no scores, NaN among the scores (naming the layer), a sparsity at which nothing would be kept, or
            fewer weights than the minimum or the scope demands.

    Warns:
        LayerCollapseWarning: naming the layers of which nothing is kept.
    """
    masks = cut(scores, sparsity, scope, minimum)
    warn_of_collapse(masks, stacklevel=3)
    return masks


def warn_of_collapse(masks: Masks, stacklevel: int = 2) -> None:
    """Warn once of all layers of which nothing is kept; `stacklevel` as in `warnings.warn`."""
    lost = ", ".join(repr(name) for name in collapsed(masks) if masks[name].numel())
    if lost:
        text = f"all weights of {lost} are removed (layer collapse): the network's output no longer depends on its "
        warnings.warn(LayerCollapseWarning(f"{text}input there; minimum=1 forbids it"), stacklevel=stacklevel)


def cut(scores: Mapping[str, Tensor], sparsity: float, scope: str = "global", minimum: int = 0) -> Masks:
    """The masks of `allocate` without its warning, for those who cut many times or show what collapsed."""
    check_choice("scope", scope, SCOPES)
    sparsity = check_sparsity(sparsity)
    _check_scores(scores)
    sizes = [score.numel() for score in scores.values()]
    keep = round((1.0 - sparsity) * sum(sizes))
    if keep == 0:
        raise InputError(f"sparsity {sparsity} keeps 0 of {sum(sizes)} weights; accepted: one that keeps at least 1")
    _check_minimum(minimum, sizes, sparsity, keep)
    floors = {name: min(int(minimum), score.numel()) for name, score in scores.items()}
    if scope == "global":
        return _global(scores, floors, keep)
    layers = [
        Layer(name, tuple(score.shape), score.numel(), int((score > -torch.inf).sum()), floors[name])
        for name, score in scores.items()
    ]
    quota = QUOTAS[scope](layers, sparsity, keep)
    return {name: keep_largest(score, quota[name]) for name, score in scores.items()}


def _global(scores: Mapping[str, Tensor], floors: Mapping[str, int], keep: int) -> Masks:
    """One ranking of all layers, but for those that would get fewer weights than their floor: they keep just it.

    What they get beyond their share is taken from the others, of which further ones may then fall short.
    """
    masks: Masks = {}
    short: set[str] = set()
    while True:
        others = [name for name in scores if name not in short]
        kept = keep_largest_of([scores[name] for name in others], keep - sum(floors[name] for name in short))
        masks |= zip(others, kept, strict=True)
        falling = {name for name in others if floors[name] and int(masks[name].sum()) < floors[name]}
        if not falling:
            break
        short |= falling
    masks |= {name: keep_largest(scores[name], floors[name]) for name in short}
    return {name: masks[name] for name in scores}


def _check_scores(scores: Mapping[str, Tensor]) -> None:
    if not isinstance(scores, Mapping):
        raise InputError(f"scores is a {type(scores).__name__}; a mapping of parameter names to tensors is needed")
    if not scores:
        raise InputError("scores is empty; one tensor per prunable weight is needed, as pruneviz.score returns them")
    for name, score in scores.items():
        if not isinstance(score, Tensor):
            raise InputError(f"the scores of {name!r} are a {type(score).__name__}; a tensor is needed")
        if score.dtype not in (*_FLOATS, *_WHOLE):
            accepted = ", ".join(map(str, (*_FLOATS, *_WHOLE)))
            raise InputError(f"the scores of {name!r} have dtype {score.dtype}; accepted: {accepted}")
        if any(part.numel() and bool(part.max().isnan()) for part in in_parts(score.detach())):
            bad = int(torch.isnan(score).sum())
            raise InputError(f"{bad} of the {score.numel()} scores of {name!r} are NaN; scores must be numbers")


def _check_minimum(minimum: object, sizes: Sequence[int], sparsity: float, keep: int) -> None:
    if not isinstance(minimum, Integral) or isinstance(minimum, bool) or int(minimum) < 0:
        raise InputError(f"minimum {minimum!r} is not accepted: give a whole number of at least 0")

    def needed(least: int) -> int:
        return sum(min(least, size) for size in sizes)

    if needed(int(minimum)) > keep:
        most = bisect_right(range(int(minimum)), keep, key=needed) - 1
        raise InputError(
            f"minimum {minimum} keeps {needed(int(minimum))} weights in {len(sizes)} layers, but sparsity {sparsity} "
            f"keeps only {keep} of {sum(sizes)}; accepted: a minimum of at most {most}, or a sparsity of at most "
            f"{sparsity_of(needed(int(minimum)), sum(sizes), math.floor)}"
        )
