"""Curves of training: loss or accuracy after each epoch, of runs that lost equally many weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pruneviz.errors import InputError, check_choice, check_positive
from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.style import INK, Mark, legend_above, look, marks, new_axes, percent, runs_phrase

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def curves(
    table: pd.DataFrame,
    sparsity: float,
    *,
    column: str = "train_loss",
    epochs: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A number after each epoch of training, by method, the dense network in the text's colour.

    Thick lines with markers are means over seeds, thin ones single runs. A run that diverged ends its line there, and
    its method has no mean from there on.

    Args:
        table: rows of one setting, with the columns of a table of records.
        sparsity: of the pruned networks, one that the table has.
        column: "train_loss", "validation_loss", or an accuracy, which is drawn in percent.
        epochs: how many of the first ones to draw; None for all.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: an empty table, one that mixes experiments, or a sparsity or curve that it does not have.
    """
    from matplotlib.ticker import MaxNLocator

    named = one_setting(table)
    most = None if epochs is None else check_positive("epochs", epochs)
    pruned = named[named["scorer"] != DENSE]
    found = sorted(set(pruned["sparsity"]))
    if sparsity not in found:
        raise InputError(f"the table has no sparsity {sparsity!r}; it has {', '.join(map(str, found)) or 'none'}")
    at = pruned[pruned["sparsity"] == sparsity]
    dense = named[named["scorer"] == DENSE]
    drawn = {"Dense": Mark(INK, "o")} if len(dense) else {}
    drawn |= marks(pruned_methods(at))
    counts = []
    with look():
        ax = new_axes(3.6, ax)
        for method, mark in drawn.items():
            rows = dense if method == "Dense" else at[at["method"] == method]
            runs = [_curve(text, column)[:most] for text in rows["curves"]]
            counts.append(len(runs))
            for run in runs if len(runs) > 1 else ():
                ax.plot(range(1, len(run) + 1), run, "-", color=mark.color, linewidth=0.6, alpha=0.6, zorder=2)
            mean = np.mean([run[: min(map(len, runs))] for run in runs], axis=0)
            style = {**mark.style, "markersize": 4.5, "linewidth": 1.6}
            ax.plot(range(1, len(mean) + 1), mean, "-", zorder=3, label=method, **style)
        ax.set_xlabel("epoch")
        name = column.replace("_", " ").replace("train ", "training ")
        ax.set_ylabel(f"{name} (%)" if "accuracy" in column else name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        legend_above(ax, f"{percent(sparsity)} removed, means of {runs_phrase(counts)} run{'s' * (max(counts) > 1)}")
    return ax


def _curve(text: str, column: str) -> NDArray[np.float64]:
    """One run's curve, cut where it is no longer finite."""
    every = json.loads(text)
    check_choice("curve", column, every)
    values = np.array([float(value) for value in every[column]])
    finite = np.isfinite(values)
    end = len(values) if finite.all() else int(np.argmin(finite))
    return values[:end] * (100.0 if "accuracy" in column else 1.0)
