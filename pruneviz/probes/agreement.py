"""Agreement of two masks, or of two scorers' scores: which weights both keep, and whether they rank them alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.allocate import cut
from pruneviz.errors import InputError
from pruneviz.masks import Masks

_Ratios = tuple[float | None, float | None, float | None]

_CHUNK = 1 << 20  # entries whose products are held at once


@dataclass(frozen=True)
class LayerAgreement:
    """How far two masks, or two tensors of scores, agree in one layer or in all of them together.

    Attributes:
        jaccard: weights that both keep over weights that at least one keeps; 1 if neither keeps any. None where
            there are no masks to compare.
        overlap: weights that both keep over those that the sparser one keeps (Szymkiewicz-Simpson); 1 if neither
            keeps any, 0 if only one does.
        by_chance: the Jaccard index of masks that keep as many weights per layer in random places, as the ratio
            of the expected counts. What two methods share beyond it is more than their layerwise densities.
        rank_correlation: Spearman's, ties sharing their mean rank; NaN if one side is constant. None for masks.
    """

    jaccard: float | None
    overlap: float | None
    by_chance: float | None
    rank_correlation: float | None


@dataclass(frozen=True)
class Agreement(LayerAgreement):
    """The agreement over all layers, where every weight counts once, and layer by layer.

    Attributes:
        per_layer: the same four numbers for each layer, in the first argument's order.
    """

    per_layer: Mapping[str, LayerAgreement]


@dataclass(frozen=True)
class _Counts:
    """Weights that both masks keep, that each keeps, and that both would keep by chance."""

    both: int = 0
    first: int = 0
    second: int = 0
    chance: float = 0.0

    def __add__(self, other: _Counts) -> _Counts:
        both, chance = self.both + other.both, self.chance + other.chance
        return _Counts(both, self.first + other.first, self.second + other.second, chance)

    def ratios(self) -> _Ratios:
        either, smaller = self.first + self.second, min(self.first, self.second)
        overlap = self.both / smaller if smaller else float(either == 0)
        if not either:
            return 1.0, overlap, 1.0
        return self.both / (either - self.both), overlap, self.chance / (either - self.chance)


def agreement(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], sparsity: float | None = None, scope: str = "global"
) -> Agreement:
    """Compare two masks, or two sets of scores.

    Args:
        a: masks or scores, one tensor per layer, by parameter name.
        b: of the same kind, layers and shapes, on any device.
        sparsity: for scores: they are cut to masks at this sparsity, which are compared as well.
        scope: of that cut, as in `pruneviz.allocate`.

    Returns:
        An `Agreement`. Minus infinity is the lowest score, and equal to itself. Ranking takes about 22 bytes of
        memory per weight, beyond the scores.

    Raises:
        InputError: masks beside scores, layers or shapes that differ, NaN among the scores, a sparsity for masks, or
            one that does not fit.
    """
    are_masks = _checked(a, b)
    if are_masks:
        if sparsity is not None:
            raise InputError(f"sparsity {sparsity!r} is given with masks, which have their own; accepted: None")
        masks: tuple[Masks, Masks] | None = dict(a), dict(b)
    else:
        masks = None if sparsity is None else (cut(a, sparsity, scope), cut(b, sparsity, scope))
    ratios: dict[str, _Ratios] = dict.fromkeys(a, (None, None, None))
    total: _Ratios = (None, None, None)
    if masks is not None:
        counts = {name: _count(mask, masks[1][name]) for name, mask in masks[0].items()}
        ratios = {name: count.ratios() for name, count in counts.items()}
        total = sum(counts.values(), start=_Counts()).ratios()
    per_layer = {
        name: LayerAgreement(*ratios[name], None if are_masks else _spearman([t], [b[name]])) for name, t in a.items()
    }
    together = None if are_masks else _spearman(list(a.values()), [b[name] for name in a])
    return Agreement(*total, together, per_layer)


def _checked(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether both are masks; they are of one kind and shape then."""
    for which, given in (("first", a), ("second", b)):
        if not isinstance(given, Mapping) or not given:
            received = "empty" if isinstance(given, Mapping) else f"a {type(given).__name__}"
            raise InputError(f"the {which} is {received}; a mapping of parameter names to masks or scores is needed")
        for name, t in given.items():
            if not isinstance(t, Tensor) or t.is_complex():
                received = f"dtype {t.dtype}" if isinstance(t, Tensor) else f"a {type(t).__name__}"
                raise InputError(
                    f"{name!r} of the {which} is {received}; a tensor of booleans or real numbers is needed"
                )
            if t.is_floating_point() and t.numel() and bool(t.max().isnan()):
                raise InputError(f"{name!r} of the {which} holds NaN; scores must be numbers")
    if set(a) != set(b):
        name = next(iter([n for n in a if n not in b] or [n for n in b if n not in a]))
        has, lacks = ("first", "second") if name in a else ("second", "first")
        raise InputError(f"the {has} has the layer {name!r}, the {lacks} has not; both must have the same layers")
    for name, t in a.items():
        if t.shape != b[name].shape:
            raise InputError(f"{name!r} has shape {tuple(t.shape)} and {tuple(b[name].shape)}; they must be equal")
    kinds = {t.dtype == torch.bool for given in (a, b) for t in given.values()}
    if len(kinds) > 1:
        raise InputError("masks (torch.bool) are beside scores; accepted: two masks, or two sets of scores")
    return kinds.pop()


def _count(a: Tensor, b: Tensor) -> _Counts:
    b = b.to(a.device)
    both, first, second = int((a & b).sum()), int(a.sum()), int(b.sum())
    return _Counts(both, first, second, first * second / a.numel() if a.numel() else 0.0)


def _spearman(a: list[Tensor], b: list[Tensor]) -> float:
    """Pearson's correlation of mean ranks, summed in float64 from whole numbers."""
    n = sum(t.numel() for t in a)
    first, second = _twice_ranks(a), _twice_ranks(b).to(a[0].device)
    xx = yy = xy = 0.0
    for x, y in zip(first.split(_CHUNK), second.split(_CHUNK), strict=True):
        x, y = x.double() - (n + 1), y.double() - (n + 1)
        xx, yy, xy = xx + float(x @ x), yy + float(y @ y), xy + float(x @ y)
    return max(-1.0, min(1.0, xy / math.sqrt(xx) / math.sqrt(yy))) if xx > 0 and yy > 0 else math.nan


def _twice_ranks(tensors: list[Tensor]) -> Tensor:
    """Twice the mean ranks, counted from 1: how many are less, and how many are not more, and 1. Whole numbers."""
    ordered, places = torch.cat([t.detach().flatten().to(tensors[0].device) for t in tensors]).sort()
    ranks = torch.empty_like(places, dtype=torch.int32 if 2 * len(places) < 2**31 else torch.int64)
    for values, where in zip(ordered.split(_CHUNK), places.split(_CHUNK), strict=True):
        less, not_more = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
        ranks[where] = (less + not_more + 1).to(ranks.dtype)
    return ranks
