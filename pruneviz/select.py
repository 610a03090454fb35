"""The largest entries of many tensors together, an exact number of them, without a copy of the tensors.

A radix selection: whole numbers in the order of the scores are counted by their leading bits, then those that
share the threshold's leading bits by the next ones, until the few that are left can be compared directly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_DIGIT = 14  # bits counted per pass
_FEW = (1 << 15) - 1  # numbers that may be gathered in one place, or
_SHARE = 64  # this part of all of them, whichever is more
_HELD = 1 << 19  # numbers that are kept in memory from one pass to the next instead of made again

# Entries looked at together: on a CPU what stays in its cache and is too little for torch to share among threads,
# which on a busy machine wait for each other longer than they work.
_CHUNK = {"cpu": 1 << 14}
_CHUNK_ELSEWHERE = 1 << 22


def keep_largest(scores: Tensor, keep: int) -> Tensor:
    """The mask of the `keep` largest entries of one tensor; see `keep_largest_of`."""
    return keep_largest_of([scores], keep)[0]


def keep_largest_of(scores: Sequence[Tensor], keep: int) -> list[Tensor]:
    """The masks of the `keep` largest entries of all tensors together; of equal entries the first ones.

    Time is linear in the number of entries, also if all are equal, and every step is deterministic on every device.
    Memory beyond the masks is a small part of the scores'. A tensor that is not contiguous is copied for as long
    as it is read.

    Args:
        scores: real tensors of any shapes, types and devices, without NaN. -0.0 equals 0.0.
        keep: 0 <= keep <= the number of entries.

    Returns:
        Boolean tensors of the same shapes on the same devices, with exactly `keep` entries True.
    """
    n = sum(score.numel() for score in scores)
    if keep >= n or keep <= 0:
        return [torch.full(score.shape, keep > 0, dtype=torch.bool, device=score.device) for score in scores]
    dtype = functools.reduce(torch.promote_types, (score.dtype for score in scores))
    keys: list[Iterable[Tensor]] = [_Keys(score.detach(), dtype) for score in scores]
    if n <= _HELD:
        keys = [list(parts) for parts in keys]
    bits = 32 if dtype.is_floating_point and dtype != torch.float64 else 64
    threshold, missing = _threshold(keys, bits, keep, n)
    masks = []
    for score, parts in zip(scores, keys, strict=True):
        mask = torch.empty(score.shape, dtype=torch.bool, device=score.device)
        for kept, part in zip(in_parts(mask), parts, strict=True):
            torch.gt(part, threshold, out=kept)
            if missing:
                missing -= _keep_first(kept, part == threshold, missing)
        masks.append(mask)
    return masks


def _threshold(keys: Sequence[Iterable[Tensor]], bits: int, keep: int, n: int) -> tuple[int, int]:
    """The smallest key that is kept, and how many of the keys equal to it are kept."""
    # The threshold is among the `inside` keys that agree with `base` in all but their last `rest` bits.
    base, rest, inside = -(1 << (bits - 1)), bits, n

    def candidates() -> Iterator[Tensor]:
        for parts in keys:
            for part in parts:
                yield part if rest == bits else part.masked_select((part >> rest) == (base >> rest))

    while rest and inside > max(_FEW, n // _SHARE):
        digit = min(_DIGIT, rest)
        shift = rest - digit
        counts = torch.zeros(1 << digit, dtype=torch.int64, device="cpu")
        for part in candidates():
            counts += torch.bincount((part >> shift) - (base >> shift), minlength=1 << digit).cpu()
        at_least = counts.flip(0).cumsum(0)
        place = int(torch.searchsorted(at_least, keep))
        value = len(counts) - 1 - place
        base, rest, inside = base + (value << shift), shift, int(counts[value])
        keep -= int(at_least[place]) - inside
    if rest:
        left = torch.cat([part.cpu() for part in candidates()])
        base = int(left.kthvalue(inside - keep + 1).values)
        keep -= int((left > base).sum())
    return base, keep


def _keep_first(kept: Tensor, ties: Tensor, missing: int) -> int:
    """Set at most `missing` of the ties in `kept`, the first ones, and return how many."""
    found = int(ties.sum())
    if found > missing:
        ties[ties.nonzero().squeeze(1)[missing:]] = False
    kept |= ties
    return min(found, missing)


@dataclass(frozen=True)
class _Keys:
    """Whole numbers that are ordered as the scores are when these are read as `dtype`, part by part."""

    score: Tensor
    dtype: torch.dtype

    def __iter__(self) -> Iterator[Tensor]:
        for part in in_parts(self.score):
            values = part.to(self.dtype)
            if not self.dtype.is_floating_point:
                yield values.long()
                continue
            # The bits of a float are a sign and a magnitude whose order is that of the numbers.
            bits = values.view(torch.int64) if self.dtype == torch.float64 else values.float().view(torch.int32)
            negative_zero = torch.iinfo(bits.dtype).min
            yield torch.where(bits < 0, negative_zero - bits, bits)


def in_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The entries in order, in vectors of limited length."""
    parts: tuple[Tensor, ...] = tensor.reshape(-1).split(_CHUNK.get(tensor.device.type, _CHUNK_ELSEWHERE))
    return parts
