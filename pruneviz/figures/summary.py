"""A few runs in four numbers: mean, standard deviation, how many, and an interval for the mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pruneviz.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Fewer runs than this have no interval: with two, Student's factor is 12.7 and the interval says nothing.
LEAST_FOR_INTERVAL = 3


@dataclass(frozen=True)
class Summary:
    """What several runs of the same thing say together.

    Attributes:
        n: how many runs.
        mean: their mean (the geometric mean, if it was asked for).
        sd: the sample's standard deviation, divided by n - 1; NaN for one run. In units of the values, or of
            their natural logarithms for a geometric mean.
        low: the lower end of the interval for the mean; NaN for fewer than three runs.
        high: the upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


def summarize(values: Iterable[float], *, level: float = 0.95, geometric: bool = False) -> Summary:
    r"""Mean and Student's interval $\bar x \pm t_{n-1}\, s / \sqrt n$ of independent runs.

    Args:
        values: one finite number per run.
        level: the interval's coverage, 0 < level < 1, if the values are normally distributed.
        geometric: take mean and interval of the logarithms and transform them back, as fits ratios.

    Raises:
        InputError: no values; a value that is not finite, or not positive for a geometric mean.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise InputError("there are no values to summarize; at least one run is needed")
    if not 0.0 < level < 1.0:
        raise InputError(f"level {level!r} is not accepted: give a number with 0 < level < 1")
    unusable = [x for x in numbers if not math.isfinite(x) or (geometric and x <= 0)]
    if unusable:
        kind = "finite and positive" if geometric else "finite"
        raise InputError(f"{unusable[0]!r} among the values cannot be averaged; accepted are numbers that are {kind}")
    if not geometric:
        return _summarize(numbers, level)
    logs = _summarize([math.log(x) for x in numbers], level)
    return Summary(logs.n, math.exp(logs.mean), logs.sd, math.exp(logs.low), math.exp(logs.high))


def summarize_by(
    table: pd.DataFrame, value: str, by: Sequence[str], *, level: float = 0.95, geometric: bool = False
) -> pd.DataFrame:
    """One row per group: the columns `by` and those of `Summary`, groups in the order of the table.

    Args:
        table: one row per run.
        value: the column to summarize.
        by: the columns that tell groups apart.
        level: as in `summarize`.
        geometric: as in `summarize`.

    Raises:
        InputError: as `summarize`, naming the group.
    """
    import pandas as pd

    rows = []
    for key, values in table.groupby(list(by), sort=False)[value]:
        try:
            summary = summarize(values, level=level, geometric=geometric)
        except InputError as error:
            group = ", ".join(f"{name} {part}" for name, part in zip(by, key, strict=True))
            raise InputError(f"{value} of {group}: {error}") from error
        rows.append(dict(zip(by, key, strict=True)) | asdict(summary))
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "sd", "low", "high"])


def _summarize(numbers: list[float], level: float) -> Summary:
    n = len(numbers)
    mean = math.fsum(numbers) / n
    sd = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (n - 1)) if n > 1 else math.nan
    if n < LEAST_FOR_INTERVAL:
        return Summary(n, mean, sd, math.nan, math.nan)
    from scipy.stats import t

    half = float(t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)
