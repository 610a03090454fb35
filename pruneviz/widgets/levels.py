"""All masks of a scorer at once: one byte per weight says up to which sparsity it is kept.

One-shot masks of the same scores are nested: what is kept at a sparsity is kept at every lower one. So the
masks at all sparsities of a grid fit into the number of grid points at which each weight is kept, its level:

    weight i is kept at grid[j]  <=>  level[i] > j

and whoever holds the levels finds every mask and every count by comparing and counting, without rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pruneviz.allocate import cut
from pruneviz.errors import InputError, check_sparsity

# Finer where networks break: steps of 1 % up to 90 %, then 0.5 %, 0.2 % and 0.1 %.
DEFAULT_GRID: tuple[float, ...] = tuple(
    thousandths / 1000
    for thousandths in (*range(0, 900, 10), *range(900, 950, 5), *range(950, 990, 2), *range(990, 1000))
)
MOST_POINTS = 255  # a level fits into one byte


@dataclass(frozen=True)
class Levels:
    """The masks of one scorer and scope at every sparsity of a grid.

    Attributes:
        values: uint8 tensors of the weights' shapes, by parameter name in model order.
        points: how many of the grid's sparsities can be reached; the levels speak of these alone.
        limit: why it goes no further, or "" where it reaches the end of the grid.
    """

    values: dict[str, Tensor]
    points: int
    limit: str = ""

    def masks(self, index: int) -> dict[str, Tensor]:
        """The masks at the grid's sparsity number `index`: exactly those of `allocate`."""
        if not 0 <= index < self.points:
            raise InputError(self.limit or f"grid point {index} does not exist; accepted: 0 to {self.points - 1}")
        return {name: level > index for name, level in self.values.items()}

    def tobytes(self) -> bytes:
        """One byte per weight, in model order."""
        return b"".join(level.cpu().contiguous().numpy().tobytes() for level in self.values.values())


def check_grid(grid: Iterable[float]) -> tuple[float, ...]:
    """Return `grid` as a tuple if it is 1 to 255 sparsities, each larger than the one before.

    Raises:
        InputError: for anything else.
    """
    points = tuple(check_sparsity(sparsity) for sparsity in grid)
    if not 1 <= len(points) <= MOST_POINTS:
        raise InputError(f"the grid has {len(points)} sparsities; accepted are 1 to {MOST_POINTS}")
    for before, after in pairwise(points):
        if after <= before:
            raise InputError(f"the grid has {after} after {before}; accepted are sparsities that increase")
    return points


def default_grid(weights: int) -> tuple[float, ...]:
    """The part of `DEFAULT_GRID` at which at least one of `weights` weights is kept."""
    return tuple(sparsity for sparsity in DEFAULT_GRID if round((1.0 - sparsity) * weights) >= 1)


def levels(
    scores: Mapping[str, Tensor],
    grid: Iterable[float],
    scope: str = "global",
    progress: Callable[[float], None] | None = None,
) -> Levels:
    """Cut the same scores at every sparsity of a grid.

    Args:
        scores: as `allocate` takes them.
        grid: sparsities, as `check_grid` accepts them.
        scope: as in `allocate`.
        progress: called with the fraction done, from 0 to 1.

    Raises:
        InputError: if the first sparsity cannot be reached, or if the masks of this scope are not nested.
    """
    points = check_grid(grid)
    values = {name: torch.zeros(s.shape, dtype=torch.uint8, device=s.device) for name, s in scores.items()}
    for index, sparsity in enumerate(points):
        try:
            masks = cut(scores, sparsity, scope)
        except InputError as error:
            # A dense first layer (scope "uniform") leaves nothing for the others at some sparsity.
            if index == 0:
                raise
            return Levels(values, index, str(error))
        for name, mask in masks.items():
            if bool((values[name][mask] != index).any()):
                raise InputError(
                    f"the masks of scope {scope!r} are not nested: {name!r} keeps weights at sparsity {sparsity} "
                    f"that it removes at {points[index - 1]}; accepted is another scope or a coarser grid"
                )
            values[name] += mask
        if progress is not None:
            progress((index + 1) / len(points))
    return Levels(values, len(points))
