"""Pairs of methods at one sparsity, compared seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, summarize

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["sparsity", "better", "worse", "n", "difference", "low", "high", "p", "p_holm", "decided"]


def compare(table: pd.DataFrame, *, column: str = "test_accuracy", level: float = 0.95) -> pd.DataFrame:
    r"""Every pair of methods at each sparsity: the paired difference over seeds, and whether it decides.

    Runs with the same seed start from the same random network, so methods are compared by the differences
    $d_i$ at the seeds that both have: Student's t test and interval of their mean, which assume normally
    distributed differences. The p values of all pairs at one sparsity are corrected together by Holm's method,
    so that the chance of any false decision at that sparsity is at most 1 - `level`. Pairs with fewer than three
    common seeds have NaN and are not decided; they do not count in the correction.

    Args:
        table: rows of one setting, with the columns of a table of records.
        column: which accuracy, a fraction.
        level: of the intervals, and 1 minus the level of the tests.

    Returns:
        One row per pair, with the columns sparsity; better, worse (the methods, by their mean over the common
        seeds); n (common seeds); difference (mean of better - worse, a fraction); low, high (the interval of
        this difference alone); p (two-sided, of this pair alone); p_holm; decided.

    Raises:
        InputError: an empty table, one that mixes experiments, or an accuracy that is not finite.
    """
    import pandas as pd

    named = one_setting(table)
    methods = pruned_methods(named)
    rows: list[dict[str, Any]] = []
    for sparsity, runs in named[named["scorer"] != DENSE].groupby("sparsity"):
        by_seed = {name: rows_.groupby("seed")[column].mean() for name, rows_ in runs.groupby("method")}
        pairs = []
        for one, other in combinations([name for name in methods if name in by_seed], 2):
            seeds = by_seed[one].index.intersection(by_seed[other].index)
            pairs.append(_pair(one, other, list(by_seed[one][seeds] - by_seed[other][seeds]), level))
        tested = [pair for pair in pairs if not math.isnan(pair["p"])]
        for pair, corrected in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
            pair["p_holm"] = corrected
        rows += [{"sparsity": sparsity, **pair, "decided": pair["p_holm"] <= 1.0 - level} for pair in pairs]
    return pd.DataFrame(rows, columns=_COLUMNS)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p values, in the given order: the k-th smallest of m times m - k + 1, never falling.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def _pair(one: str, other: str, differences: list[float], level: float) -> dict[str, Any]:
    nan = math.nan
    if not differences:
        nothing = dict.fromkeys(("difference", "low", "high", "p", "p_holm"), nan)
        return {"better": one, "worse": other, "n": 0, **nothing}
    if sum(differences) < 0:
        one, other, differences = other, one, [-d for d in differences]
    s = summarize(differences, level=level)
    p = p_value(s.mean, s.sd, s.n) if s.n >= LEAST_FOR_INTERVAL else nan
    pair = {"better": one, "worse": other, "n": s.n, "difference": s.mean, "low": s.low, "high": s.high}
    return {**pair, "p": p, "p_holm": nan}


def p_value(mean: float, sd: float, n: int) -> float:
    """Two-sided, of a mean of zero, by Student's t test: from the sample's mean and standard deviation."""
    from scipy.stats import t

    if sd == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * t.sf(abs(mean) / sd * math.sqrt(n), n - 1))
