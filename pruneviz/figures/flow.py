"""Gradient flow: layer by layer, along training, and as GraSP predicts its change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pruneviz.errors import InputError, check_choice
from pruneviz.figures.given import check_finite, label_above, legend_name, probe_marks, results_of
from pruneviz.figures.layers import LETTERS, height_of, layer_axis, same_layers, short, total_below
from pruneviz.figures.scales import log_axis, placed, spaced, symlog_axis
from pruneviz.figures.style import FAINT, INK, Mark, look, new_axes
from pruneviz.probes import FlowHistory, GradientFlow, GraspPrediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BEFORE = "before masking"
_FAR = 1000.0  # percent of change, beyond which the axis is logarithmic


def gradient_flow(
    given: GradientFlow | Mapping[str, GradientFlow], *, before: GradientFlow | None = None, ax: Axes | None = None
) -> Axes:
    """The squared gradient norm of every layer, from the input down, and of all layers together.

    A layer without gradient lies on the line "0".

    Args:
        given: of `pruneviz.gradient_flow`, or several by label, of one network.
        before: that of the dense network, drawn in the text's colour.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: no result or one of another type, results of different networks or that are not finite.
    """
    results = results_of(given, GradientFlow)
    if before is not None:
        if not isinstance(before, GradientFlow):
            raise InputError(f"before is a {type(before).__name__}; accepted: GradientFlow")
        results = {label or "after masking": result for label, result in results.items()}
    drawn = probe_marks(results)
    if before is not None:
        results, drawn = {_BEFORE: before, **results}, {_BEFORE: Mark(INK, "o"), **drawn}
    layers = same_layers(results, lambda result: result.per_layer)
    values = {
        label: np.array([*(result.per_layer[name] for name in layers), result.norm_squared])
        for label, result in results.items()
    }
    check_finite(values, "the gradient flow")
    with look():
        ax = new_axes(height_of(len(layers) + 1), ax)
        zero = log_axis(ax.xaxis, np.concatenate(list(values.values())))
        for label, row in values.items():
            at = placed(row, zero)
            style = {**drawn[label].style, "markersize": 4.5, "linewidth": 0.9}
            ax.plot(at[:-1], range(len(layers)), "-", label=legend_name(label), **style)
            ax.plot(at[-1:], [len(layers)], **style)
        total_below(ax, len(layers))
        layer_axis(ax, [*map(short, layers), "all layers"])
        ax.set_xlabel("squared gradient norm (log scale)")
        label_above(ax, "", letters=LETTERS)
    return ax


def flow_history(
    given: FlowHistory | Mapping[str, FlowHistory], *, layer: str | None = None, ax: Axes | None = None
) -> Axes:
    """The squared gradient norm along training.

    A line ends in a cross where training has diverged.

    Args:
        given: the `history` of a `FlowRecorder`, or several by label.
        layer: one layer, by its parameter's name; None for all of them together.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: no result or one of another type, a history without steps, or a layer that is not in it.
    """
    results = results_of(given, FlowHistory)
    for label, result in results.items():
        if not result.steps:
            raise InputError(f"the history{f' of {label!r}' if label else ''} has no steps; nothing was recorded")
        if layer is not None:
            check_choice("layer", layer, result.flows[0].per_layer)
    values = {
        label: np.array([flow.norm_squared if layer is None else flow.per_layer[layer] for flow in result.flows])
        for label, result in results.items()
    }
    with look():
        ax = new_axes(3.4, ax)
        zero = log_axis(ax.yaxis, np.concatenate(list(values.values())))
        lost = False
        for number, (label, mark) in enumerate(probe_marks(results).items()):
            steps, row = np.array(results[label].steps), placed(values[label], zero)
            shown = spaced(len(row), number)
            style = {**mark.style, "markersize": 4.5, "linewidth": 1.2}
            ax.plot(steps, row, "-", markevery=shown, label=legend_name(label), **style)
            finite = np.isfinite(row)
            if not finite.all():
                last = max(int(np.argmin(finite)) - 1, 0)
                at, base = (row[last], ax.transData) if finite[0] else (0.0, ax.get_xaxis_transform())
                ax.plot(steps[last], at, "x", color=INK, markersize=8, zorder=4, clip_on=False, transform=base)
                lost = True
        if lost:
            ax.plot([], [], "x", color=INK, label="diverged")
        ax.set_xlabel("training step")
        ax.set_ylabel("squared gradient norm (log scale)")
        label_above(ax, "all layers" if layer is None else f"layer {short(layer)}")
    return ax


def grasp_prediction(given: GraspPrediction | Mapping[str, GraspPrediction], *, ax: Axes | None = None) -> Axes:
    """The change of the squared gradient norm by masking that GraSP's expansion predicts, beside the true one.

    In percent of the dense network's, one row for each result. The prediction and what it approximates, the norm over
    all prunable weights, are joined by a line, which is the expansion's error; the bar is the norm over the weights
    that are kept, which can't fall below -100 %. The axis is logarithmic beyond 100 % if a change is above 1,000 %.

    Args:
        given: of `pruneviz.grasp_prediction`, or several by label.
        ax: where to draw; None for a new figure.

    Raises:
        InputError: no result or one of another type, or a dense network without gradient.
    """
    results = results_of(given, GraspPrediction)
    changes = {}
    for label, result in results.items():
        norm = result.before.norm_squared
        if not norm > 0:
            raise InputError(f"the dense network{f' of {label!r}' if label else ''} has a gradient of {norm:g}")
        changes[label] = [100 * x / norm for x in (result.predicted, result.actual, result.actual_kept)]
    check_finite(changes, "the prediction")
    with look():
        ax = new_axes(1.75 + 0.3 * len(results), ax)
        for row, (label, mark) in enumerate(probe_marks(results).items()):
            predicted, actual, kept = changes[label]
            ax.plot([predicted, actual], [row, row], "-", color=mark.color, linewidth=1.0, zorder=2)
            _draw_mark(ax, predicted, row, mark, fill=False)
            _draw_mark(ax, actual, row, mark, fill=True)
            ax.plot([kept], [row], "|", color=mark.color, markersize=12, markeredgewidth=1.6, zorder=3)
        ax.plot([], [], "o", color=INK, fillstyle="none", markeredgewidth=1.2, label="predicted")
        ax.plot([], [], "o", color=INK, label="true, all weights")
        ax.plot([], [], "|", color=INK, markersize=10, markeredgewidth=1.6, label="true, kept weights")
        ax.axvline(0.0, color=FAINT, linewidth=0.8, zorder=1)
        ax.set_yticks(range(len(results)), list(results))
        ax.set_ylim(len(results) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        numbers = [x for row in changes.values() for x in row]
        ax.set_xlabel("change of the squared gradient norm (%)")
        if max(map(abs, numbers)) > _FAR:
            symlog_axis(ax.xaxis, [-100.0, *numbers], 100.0)
            ax.set_xlabel("change of the squared gradient norm\n(%, log scale beyond 100)")
        label_above(ax, "")
    return ax


def _draw_mark(ax: Axes, x: float, y: float, mark: Mark, *, fill: bool) -> None:
    hollow = {} if fill else {"markerfacecolor": "none", "markeredgewidth": 1.2, "markeredgecolor": mark.color}
    ax.plot([x], [y], linestyle="none", zorder=3, **{**mark.style, **hollow})
