"""Agreement between methods: a matrix of all pairs, or layer by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pruneviz.errors import InputError, check_choice
from pruneviz.figures.given import label_above, legend_name, probe_marks, results_of
from pruneviz.figures.layers import LETTERS, height_of, layer_axis, same_layers, short, total_below
from pruneviz.figures.style import FAINT, INK, look, new_axes
from pruneviz.probes import Agreement, LayerAgreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VALUES = {
    "jaccard": "weights that both keep / that either keeps",
    "overlap": "weights that both keep / that the sparser keeps",
    "rank_correlation": "rank correlation of the scores",
}


def agreement(given: Mapping[tuple[str, str], Agreement], value: str = "jaccard", *, ax: Axes | None = None) -> Axes:
    """The agreement of every pair of methods: colours below the diagonal, the same numbers above it.

    For the Jaccard index there is, in brackets, what chance alone gives with these densities of layers.

    Args:
        given: of `pruneviz.agreement`, by pairs of labels: one for each pair, in either order.
        value: "jaccard" or "overlap" of masks, or "rank_correlation" of scores.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: no pairs, keys that are no pairs, a pair that is missing, results of another type, or that do not
            have this value.
    """
    check_choice("value", value, _VALUES)
    pairs = _pairs(given)
    labels = list(dict.fromkeys(label for pair in given for label in pair))
    side = len(labels)
    matrix, notes = np.full((side, side), math.nan), {}
    for column, row in itertools.combinations(range(side), 2):
        result = pairs.get(frozenset((labels[row], labels[column])))
        if result is None:
            raise InputError(f"the pair of {labels[column]!r} and {labels[row]!r} is missing; give all pairs")
        number = matrix[row, column] = _value_of(result, value, f"{labels[column]!r} and {labels[row]!r}")
        chance = f"\n({result.by_chance:.2f})" if value == "jaccard" else ""
        notes[row, column] = "–" if math.isnan(number) else f"{number:.2f}{chance}".replace("-", "−")
    with look():
        ax = new_axes(0.9 + 0.62 * side, ax)
        for at, note in notes.items():
            ax.text(*at, note, color=INK, ha="center", va="center", fontsize=8.5)
        low = -1.0 if value == "rank_correlation" and bool((matrix < 0).any()) else 0.0
        image = ax.imshow(np.ma.masked_invalid(matrix), vmin=low, vmax=1.0, cmap="cividis", aspect="auto")
        ax.set_xticks(range(side), labels, rotation=30, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(side), labels)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        bar = ax.get_figure().colorbar(image, ax=ax, aspect=25)  # type: ignore[union-attr]
        bar.set_label(_VALUES[value].replace(" / ", " /\n"))
        bar.outline.set_visible(False)
        label_above(ax, "in brackets: by chance" if value == "jaccard" else "")
    return ax


def layer_agreement(
    given: Agreement | Mapping[str, Agreement], value: str = "jaccard", *, ax: Axes | None = None
) -> Axes:
    """The agreement of two methods in every layer, from the input down, and in all of them together.

    For the Jaccard index a dotted line beside each is what chance alone gives with as many weights in each layer.

    Args:
        given: of `pruneviz.agreement`, or several by label, of one network.
        value: "jaccard" or "overlap" of masks, or "rank_correlation" of scores.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: no result or one of another type, one that does not have this value, or results of different
            networks.
    """
    check_choice("value", value, _VALUES)
    results = results_of(given, Agreement)
    layers = same_layers(results, lambda result: result.per_layer)
    with look():
        rows = {label: [*(result.per_layer[name] for name in layers), result] for label, result in results.items()}
        values = {label: [_value_of(one, value, label) for one in row] for label, row in rows.items()}
        ax = new_axes(height_of(len(layers) + 1), ax)
        for label, mark in probe_marks(results).items():
            style = {**mark.style, "markersize": 4.5, "linewidth": 0.9}
            ax.plot(values[label][:-1], range(len(layers)), "-", clip_on=False, label=legend_name(label), **style)
            ax.plot(values[label][-1:], [len(layers)], clip_on=False, **style)
            if value == "jaccard":
                chance = [math.nan if one.by_chance is None else one.by_chance for one in rows[label]]
                ax.plot(chance[:-1], range(len(layers)), ":", color=mark.color, linewidth=1.2)
                ax.plot(chance[-1:], [len(layers)], "|", color=mark.color, markersize=8, markeredgewidth=1.2)
        if value == "jaccard":
            ax.plot([], [], ":", color=INK, marker="|", markersize=8, linewidth=1.2, label="by chance")
        total_below(ax, len(layers))
        layer_axis(ax, [*map(short, layers), "all layers"])
        low = -1.02 if value == "rank_correlation" and any(v < 0 for row in values.values() for v in row) else 0.0
        ax.set_xlim(low, 1.02)
        if low < 0:
            ax.axvline(0.0, color=FAINT, linewidth=0.8, zorder=1)
        ax.set_xlabel(_VALUES[value])
        label_above(ax, "", letters=LETTERS)
    return ax


def _pairs(given: Mapping[tuple[str, str], Agreement]) -> dict[frozenset[str], Agreement]:
    """The results by unordered pairs."""
    accepted = "a dict of pairs of labels to Agreement"
    if not isinstance(given, Mapping) or not given:
        received = "empty" if isinstance(given, Mapping) else f"a {type(given).__name__}"
        raise InputError(f"the result is {received}; accepted: {accepted}")
    for pair, result in given.items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(label, str) for label in pair)):
            raise InputError(f"the key {pair!r} is no pair of labels; accepted: {accepted}")
        if not isinstance(result, Agreement):
            raise InputError(f"the result of {pair!r} is a {type(result).__name__}; accepted: {accepted}")
        if pair[0] == pair[1]:
            raise InputError(f"the pair {pair!r} is of one method with itself; accepted: pairs of two")
    return {frozenset(pair): result for pair, result in given.items()}


def _value_of(result: LayerAgreement, value: str, label: str) -> float:
    number = getattr(result, value)
    if number is None:
        kind = "scores" if value == "rank_correlation" else "masks, or of scores with a sparsity"
        raise InputError(
            f"the result{f' of {label}' if label else ''} has no {value}; accepted: an agreement of {kind}"
        )
    return float(number)
