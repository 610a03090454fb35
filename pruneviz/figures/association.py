"""Whether two numbers of the same runs go together: rank correlations with their intervals, and the scatter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pruneviz.errors import InputError, check_number
from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.scales import log_axis, placed
from pruneviz.figures.style import FAINT, legend_above, look, marks, new_axes, percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Fewer pairs than this have no interval.
LEAST_FOR_RANKS = 5

_SMALLEST, _LARGEST = 4.2, 9.0  # of a point, by its sparsity


@dataclass(frozen=True)
class RankCorrelation:
    r"""Spearman's rank correlation of some pairs of numbers.

    Attributes:
        n: how many pairs.
        rho: Pearson's correlation of the ranks, ties sharing the mean of theirs, between -1 and 1; NaN for fewer than
            two pairs, or where one of the numbers is the same in all.
        low: the lower end of its interval; NaN for fewer than five pairs, or where |rho| is 1.
        high: the upper end.
    """

    n: int
    rho: float
    low: float
    high: float


def rank_correlation(x: Iterable[float], y: Iterable[float], *, level: float = 0.95) -> RankCorrelation:
    r"""Spearman's rank correlation $\rho$ and its interval.

    The interval is that of Fisher's transform with the variance of Bonett and Wright 2000 ("Sample size requirements
    for estimating Pearson, Kendall and Spearman correlations"), $\tanh(\operatorname{artanh} \rho \pm z
    \sqrt{(1 + \rho^2 / 2) / (n - 3)})$. It takes pairs for independent.

    Args:
        x: finite numbers, one per pair.
        y: likewise.
        level: of the interval, 0 < level < 1.

    Raises:
        InputError: as many x as y are needed, all finite; or a level that is none.
    """
    if check_number("level", level, above=0.0) >= 1.0:
        raise InputError(f"level {level!r} is not accepted: give a number with 0 < level < 1")
    one, other = (np.array([float(v) for v in values]) for values in (x, y))
    if len(one) != len(other):
        raise InputError(f"{len(one)} values of x and {len(other)} of y are no pairs; give as many of each")
    for values in (one, other):
        if not np.isfinite(values).all():
            wrong = values[~np.isfinite(values)][0]
            raise InputError(f"{wrong:g} among the values cannot be ranked; accepted are finite numbers")
    n = len(one)
    if n < 2 or len(set(one)) == 1 or len(set(other)) == 1:
        return RankCorrelation(n, math.nan, math.nan, math.nan)
    from scipy.stats import norm, rankdata

    rho = min(1.0, max(-1.0, float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])))
    if n < LEAST_FOR_RANKS or 1.0 - abs(rho) < 1e-12:
        return RankCorrelation(n, rho, math.nan, math.nan)
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return RankCorrelation(n, rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))


def correlations(table: pd.DataFrame, x: str, *, y: str = "test_accuracy", level: float = 0.95) -> pd.DataFrame:
    """Rank correlations of two columns over pruned runs: at each sparsity, and over all of them.

    Runs of one method are alike and runs of one seed share their weights, so that an interval that takes runs for
    independent is too short. The last columns are of the methods' means over seeds: of as many pairs as there are
    methods, which is how much is known about other methods.

    Args:
        table: rows of one setting, with the columns of a table of records and x.
        x: a column of numbers.
        y: another one.
        level: of the intervals.

    Returns:
        One row per sparsity, rising, and one for all of them, with the columns sparsity (NaN for all); n, rho, low,
        high, over runs; methods, rho_methods, low_methods, high_methods, over means of methods (for the last row:
        of each method at each sparsity).

    Raises:
        InputError: an empty table, one that mixes experiments, one without pruned networks, or numbers that cannot be
            ranked.
    """
    import pandas as pd

    named = _pruned(table, x, y)
    rows = []
    for sparsity, runs in _groups(named):
        each = rank_correlation(runs[x], runs[y], level=level)
        means = runs.groupby(["method", "sparsity"])[[x, y]].mean()
        both = rank_correlation(means[x], means[y], level=level)
        rows.append([sparsity, each.n, each.rho, each.low, each.high, both.n, both.rho, both.low, both.high])
    columns = ["sparsity", "n", "rho", "low", "high", "methods", "rho_methods", "low_methods", "high_methods"]
    return pd.DataFrame(rows, columns=columns)


def correlation_table(table: pd.DataFrame, x: str, *, y: str = "test_accuracy", level: float = 0.95) -> pd.DataFrame:
    """The numbers of `correlations` as a reader's table: "0.42 (0.10 to 0.66)", with how many pairs stand behind them.

    Args:
        table: as for `correlations`.
        x: likewise.
        y: likewise.
        level: likewise.

    Raises:
        InputError: likewise.
    """
    import pandas as pd

    found = correlations(table, x, y=y, level=level)
    lines = {}
    for row in found.to_dict("records"):
        name = "all sparsities" if math.isnan(row["sparsity"]) else f"{percent(row['sparsity'])} removed"
        lines[name] = {
            "runs": f"{row['n']}",
            "over runs": _entry(row["rho"], row["low"], row["high"]),
            "means": f"{row['methods']}",
            "over means of methods": _entry(row["rho_methods"], row["low_methods"], row["high_methods"]),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(columns="rank correlation")


def association(
    table: pd.DataFrame, x: str, *, xlabel: str, y: str = "test_accuracy", log: bool = True, ax: Axes | None = None
) -> Axes:
    """Two numbers of each pruned run: one point per run, methods by colour and marker, sparsities by size.

    The more weights a run has lost, the smaller is its point.

    Args:
        table: rows of one setting, with the columns of a table of records and x.
        x: a column of numbers.
        xlabel: what they are, with their unit.
        y: a column of fractions, drawn in percent.
        log: whether x is on a logarithmic axis, on which numbers that are not positive lie on the line "0".
        ax: where to draw; None for a new figure.

    Raises:
        InputError: as `correlations`.
    """
    named = _pruned(table, x, y)
    sparsities = sorted(set(named["sparsity"]))
    sizes = dict(zip(sparsities, np.linspace(_LARGEST, _SMALLEST, max(2, len(sparsities))), strict=False))
    with look():
        ax = new_axes(3.9, ax)
        zero = log_axis(ax.xaxis, list(named[x])) if log else -math.inf
        for method, mark in marks(pruned_methods(named)).items():
            for sparsity, size in sizes.items():
                runs = named[(named["method"] == method) & (named["sparsity"] == sparsity)]
                at = placed(runs[x].to_numpy(), zero) if log else runs[x].to_numpy()
                ax.plot(at, 100 * runs[y], linestyle="none", alpha=0.85, **{**mark.style, "markersize": size})
            ax.plot([], [], linestyle="none", label=method, **mark.style)
        for sparsity, size in sizes.items() if len(sizes) > 1 else ():
            label = f"{percent(sparsity)} removed"
            ax.plot([], [], "o", color=FAINT, markeredgewidth=0, markersize=size, label=label)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(f"{y.replace('_', ' ')} (%)")
        legend_above(ax, f"every point is a run, n = {len(named)}")
    return ax


def _pruned(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    named = one_setting(table)
    pruned = named[named["scorer"] != DENSE]
    if pruned.empty:
        raise InputError("the table has no pruned networks; there is nothing to correlate")
    for column in (x, y):
        if column not in pruned:
            raise InputError(f"the table has no column {column!r}")
        for value in pruned[column]:
            if not math.isfinite(value):
                raise InputError(f"{value:g} among the values of {column} cannot be ranked; accepted: finite numbers")
    return one_setting(pruned)


def _groups(named: pd.DataFrame) -> Iterator[tuple[float, pd.DataFrame]]:
    for sparsity in sorted(set(named["sparsity"])):
        yield sparsity, named[named["sparsity"] == sparsity]
    yield math.nan, named


def _entry(rho: float, low: float, high: float) -> str:
    if math.isnan(rho):
        return "not defined"
    text = f"{rho:+.2f}" + ("" if math.isnan(low) else f" ({low:+.2f} to {high:+.2f})")
    return text.replace("-", "\u2212")
