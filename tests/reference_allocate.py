"""Slow twins of allocation: sorts of Python numbers, and weights given to layers one at a time.

They call nothing of the library and are independent of the order in which it looks at scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction


def apportion(shares: Sequence[Fraction], low: Sequence[int], high: Sequence[int], total: int) -> list[int]:
    """Webster's method with bounds: from the floors on, one weight after the other to the largest claim."""
    count = list(low)
    for _ in range(total - sum(low)):
        open_ = [i for i in range(len(count)) if count[i] < high[i]]
        count[max(open_, key=lambda i: (Fraction(shares[i]) / (2 * count[i] + 1), -i))] += 1
    return count


def smart_shares(shapes: Sequence[tuple[int, ...]], vgg: bool) -> list[Fraction | None]:
    """Su et al. 2020, smart-ratios: density (L - l + 1)^2 + (L - l + 1), for VGG over l^2; None for a linear layer."""
    depth = len(shapes)
    shares: list[Fraction | None] = []
    for i, shape in enumerate(shapes):
        number = i + 1
        density = Fraction((depth - number + 1) ** 2 + (depth - number + 1))
        if vgg:
            density /= number**2
        shares.append(density * math.prod(shape) if len(shape) >= 3 else None)
    return shares


def bounds(shapes: Sequence[tuple[int, ...]], scope: str, minimum: int = 0) -> tuple[list[int], list[int]]:
    """The fewest and the most weights that a scope can give to each layer, at any sparsity."""
    sizes = [math.prod(shape) for shape in shapes]
    low, high = [min(minimum, size) for size in sizes], list(sizes)
    if scope == "uniform" and len(sizes) > 1:
        low[0] = sizes[0]
    if scope.startswith("smart_ratio"):
        for i, shape in enumerate(shapes):
            if len(shape) < 3:
                low[i] = high[i] = max(low[i], round(Fraction(3 * sizes[i], 10)))
    return low, high


def feasible(shapes: Sequence[tuple[int, ...]], sparsity: float, scope: str, minimum: int = 0) -> bool:
    """Whether the scope can keep exactly what the sparsity asks for."""
    keep = round((1.0 - sparsity) * sum(math.prod(shape) for shape in shapes))
    if keep == 0 or sum(bounds(shapes, "global", minimum)[0]) > keep:
        return False
    if scope.startswith("smart_ratio") and all(len(shape) < 3 for shape in shapes):
        return False
    low, high = bounds(shapes, scope, minimum)
    return sum(low) <= keep <= sum(high)


def layer_counts(
    shapes: Mapping[str, tuple[int, ...]], sparsity: float, scope: str, minimum: int = 0
) -> dict[str, int]:
    """How many weights each layer keeps under a scope that decides this without looking at the scores."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    low, high = bounds(list(shapes.values()), scope, minimum)
    if scope == "layerwise":
        own = [max(round((1.0 - sparsity) * size), least) for size, least in zip(sizes, low, strict=True)]
        return dict(zip(shapes, own, strict=True))
    shares: list[Fraction | None] = [Fraction(size) for size in sizes]
    if scope == "erk":
        shares = [Fraction(sum(shape)) for shape in shapes.values()]
    if scope.startswith("smart_ratio"):
        shares = smart_shares(list(shapes.values()), vgg=scope.endswith("vgg"))
    keep = round((1.0 - sparsity) * sum(sizes))
    counts = apportion([Fraction(0) if share is None else share for share in shares], low, high, keep)
    return dict(zip(shapes, counts, strict=True))


def keep_global(scores: Sequence[Sequence[float]], keep: int, minimum: int = 0) -> list[list[bool]]:
    """First the `minimum` best of each layer, then the best of all others; among equal ones the first."""
    kept: set[tuple[int, int]] = set()
    for layer, values in enumerate(scores):
        order = sorted(range(len(values)), key=lambda i, values=values: (-values[i], i))
        kept |= {(layer, i) for i in order[:minimum]}
    others = [(layer, i) for layer, values in enumerate(scores) for i in range(len(values)) if (layer, i) not in kept]
    others.sort(key=lambda place: (-scores[place[0]][place[1]], place))
    kept |= set(others[: keep - len(kept)])
    return [[(layer, i) in kept for i in range(len(values))] for layer, values in enumerate(scores)]
