"""Effective sparsity: how many of the weights that are kept are on a path from the input to the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pruneviz.figures.given import label_above, legend_name, probe_marks, results_of
from pruneviz.figures.layers import height_of, layer_axis, same_layers, short, total_below
from pruneviz.figures.style import INK, look, new_axes, percent
from pruneviz.probes import EffectiveSparsity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def effective_sparsity(given: EffectiveSparsity | Mapping[str, EffectiveSparsity], *, ax: Axes | None = None) -> Axes:
    """The share of each layer's kept weights that is connected, and of all layers together.

    The legend gives direct and effective sparsity. A layer of which nothing is kept is a cross at 0.

    Args:
        given: of `pruneviz.effective_sparsity`, or several by label, of one network.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: no result or one of another type, or results of different networks.
    """
    results = results_of(given, EffectiveSparsity)
    layers = same_layers(results, lambda result: result.per_layer)
    with look():
        ax = new_axes(height_of(len(layers) + 1), ax)
        lost = False
        for label, mark in probe_marks(results).items():
            result = results[label]
            counts = [(result.per_layer[n].kept, result.per_layer[n].connected) for n in layers]
            share = np.array(
                [100 * on / kept if kept else np.nan for kept, on in [*counts, (result.kept, result.connected)]]
            )
            style = {**mark.style, "markersize": 4.5, "linewidth": 0.9}
            name = legend_name(label and f"{label}, {_removed(result)}")
            ax.plot(share[:-1], range(len(layers)), "-", clip_on=False, label=name, **style)
            ax.plot(share[-1:], [len(layers)], clip_on=False, **style)
            gone = [row for row, (kept, _) in enumerate(counts) if not kept]
            if gone:  # a line without points would widen the figure to its corner
                ax.plot([0] * len(gone), gone, "x", color=mark.color, markersize=7, clip_on=False, zorder=4)
                lost = True
        if lost:
            ax.plot([], [], "x", color=INK, markersize=7, label="nothing kept")
        total_below(ax, len(layers))
        layer_axis(ax, [*map(short, layers), "all layers"])
        ax.set_xlim(0, 102)
        ax.set_xlabel("kept weights that are connected (%)")
        alone = f": {_removed(results[''])}" if "" in results else ""
        label_above(ax, f"direct → effective sparsity{alone}", columns=1)
    return ax


def _removed(result: EffectiveSparsity) -> str:
    return f"{percent(result.sparsity)} → {percent(result.effective)}"
