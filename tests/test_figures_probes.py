"""Pictures of probes: what is drawn are the results' numbers, nothing is covered, and it reads in light and in dark."""

from __future__ import annotations

import doctest
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import pruneviz as pv
from pruneviz import figures
from pruneviz.figures import scales, style
from pruneviz.probes import LayerCounts

mpl.use("agg")

KEPT = {"Random": 0.3, "SNIP": 0.2, "GraSP": 0.1}  # by hand-made results: one number that tells methods apart
LAYERS = ("conv.weight", "body.fc.weight", "head.weight")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


# Results by hand ------------------------------------------------------------------------------------------


def kernel(scale: float, outputs: str = "full", n: int = 4, c: int = 3) -> pv.NtkResult:
    """Of a random Jacobian, by the definition."""
    j = scale * torch.randn(n, c, 50, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    classes = torch.einsum("nci,mci->cnm", j, j)
    form = {"full": j.flatten(0, 1) @ j.flatten(0, 1).T, "trace": classes.sum(0), "class": classes}[outputs]
    values = torch.linalg.eigvalsh(form).flip(-1)
    one = torch.tensor(1.0)
    trace = float(j.square().sum())
    return pv.NtkResult(form, values, trace, one, one, n, c, outputs, "prunable", 50, (), 0.0, 0)


def top(scale: float, residual: float = 0.0) -> pv.NtkTop:
    result = kernel(scale)
    values, vectors = torch.linalg.eigh(result.kernel)
    errors = torch.full((5,), residual, dtype=torch.float64)
    return pv.NtkTop(values.flip(0)[:5], vectors.flip(1)[:, :5], errors, True, 1, 5, True, 4, 3, "prunable", 50, 0.0, 0)


def density_of(scale: float) -> pv.SpectralDensity:
    nodes = scale * torch.tensor([[1e-12, 0.01, 0.1, 1.0], [1e-12, 0.02, 0.2, 2.0]], dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.2, 0.2, 0.1]] * 2, dtype=torch.float64)
    return pv.SpectralDensity(nodes, weights, 12, 1.0, 0.1, 8, 0.0)


def projection(share: float) -> pv.NtkProjection:
    energy = torch.tensor([share, 0.2, 0.05, 0.01], dtype=torch.float64)
    return pv.NtkProjection(torch.tensor([4.0, 3.0, 2.0, 1.0]), energy, 10.0, 5.0)


def descent(drop: float) -> pv.Descent:
    measured = tuple(2.3 * math.exp(-drop * step) for step in range(4))
    return pv.Descent(measured, (2.3, 2.3 - drop, 2.3 - 2 * drop, 2.3 - 3 * drop), (2.3, 2.1, 1.9, 1.8), 0.1, 1.0, 1.0)


def flow(size: float) -> pv.GradientFlow:
    per_layer = dict(zip(LAYERS, (size, 10 * size, 0.0), strict=True))
    return pv.GradientFlow(11 * size, per_layer, 2.3)


def history(size: float) -> pv.FlowHistory:
    return pv.FlowHistory((0, 5, 10, 15), tuple(flow(size * 2**k) for k in range(4)))


def prediction(size: float) -> pv.GraspPrediction:
    return pv.GraspPrediction(flow(1.0), flow(size), 30 * size, -20 * size, -25 * size, {})


def signal(size: float) -> pv.SignalPropagation:
    values = torch.tensor([[4.0, 1.0], [2.0, 0.5], [3.0, 0.25]], dtype=torch.float64) * size
    five = size * torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    operators = {name: pv.OperatorSpectrum((5, 7), 5, 5 * size, size, values=five) for name in LAYERS[:2]}
    operators[LAYERS[2]] = pv.OperatorSpectrum((99, 99), 99, 7 * size, 2 * size, 0.5 * size, 0.25 * size, False)
    layers = {
        name: pv.LayerSignal(size * 4**-k, size * 100**k, 20, round(20 * size * k)) for k, name in enumerate(LAYERS)
    }
    return pv.SignalPropagation(pv.JacobianSpectrum(values, 0, 0, 0, 0), operators, layers)


def hessian(size: float, density: bool = True) -> pv.HessianSpectrum:
    values = size * torch.tensor([9.0, 5.0, 4.0], dtype=torch.float64)
    grid = torch.linspace(-size, 9 * size, 60, dtype=torch.float64)
    curve = torch.exp(-grid.square()) + 1e-3
    found = (grid, curve) if density else (None, None)
    return pv.HessianSpectrum(100, values, values * 0.01, -size, 0.1 * size, True, *found)


def connected(share: float) -> pv.EffectiveSparsity:
    counts = {LAYERS[0]: LayerCounts(40, round(40 * share), 100), LAYERS[1]: LayerCounts(0, 0, 900)}
    counts[LAYERS[2]] = LayerCounts(60, 60, 100)
    on = round(40 * share) + 60
    return pv.EffectiveSparsity(1 - 100 / 1100, 1 - on / 1100, 100, on, 100 - on, counts, {})


def connected_everywhere(share: float) -> pv.EffectiveSparsity:
    counts = {name: LayerCounts(10, round(10 * share), 100) for name in LAYERS}
    on = 3 * round(10 * share)
    return pv.EffectiveSparsity(0.9, 1 - on / 300, 30, on, 30 - on, counts, {})


def agreed(value: float) -> pv.Agreement:
    one = pv.LayerAgreement(value, value + 0.1, value / 2, None)
    per_layer = {name: pv.LayerAgreement(value / k, 0.9, value / (2 * k), None) for k, name in enumerate(LAYERS, 1)}
    return pv.Agreement(one.jaccard, one.overlap, one.by_chance, None, per_layer)


def pairs(value: float = 0.1) -> dict[tuple[str, str], pv.Agreement]:
    names = itertools.combinations(KEPT, 2)
    return {pair: agreed(value * (1 + index)) for index, pair in enumerate(names)}


Draw = Callable[..., Axes]
#: Every picture of which several results share one axes with a legend: how it is drawn, and of what.
DRAWN: dict[str, tuple[Draw, Callable[[float], Any]]] = {
    "ntk_spectrum": (figures.ntk_spectrum, kernel),
    "ntk_spectrum of the top": (figures.ntk_spectrum, top),
    "ntk_spectrum of classes": (figures.ntk_spectrum, lambda size: kernel(size, "class")),
    "spectral_density": (figures.spectral_density, density_of),
    "label_projection": (figures.label_projection, projection),
    "early_descent": (figures.early_descent, descent),
    "gradient_flow": (figures.gradient_flow, flow),
    "flow_history": (figures.flow_history, history),
    "forward": (lambda given, **o: figures.signal_by_depth(given, "forward", **o), signal),
    "backward": (lambda given, **o: figures.signal_by_depth(given, "backward", **o), signal),
    "dead": (lambda given, **o: figures.signal_by_depth(given, "dead", **o), signal),
    "operators": (lambda given, **o: figures.singular_values(given, "operators", **o), signal),
    "jacobian": (lambda given, **o: figures.singular_values(given, "jacobian", **o), signal),
    "hessian_spectrum": (figures.hessian_spectrum, hessian),
    "effective_sparsity": (figures.effective_sparsity, connected),
    "effective_sparsity with all layers": (figures.effective_sparsity, connected_everywhere),
    "layer_agreement": (figures.layer_agreement, agreed),
}
#: Those that write labels elsewhere.
OTHERS: dict[str, tuple[Draw, Callable[[float], Any]]] = {
    "grasp_prediction": (figures.grasp_prediction, prediction),
    "hessian_spectrum without density": (figures.hessian_spectrum, lambda size: hessian(size, False)),
    "ntk_kernel": (figures.ntk_kernel, kernel),
}
EVERY = DRAWN | OTHERS
every = pytest.mark.parametrize("name", EVERY)


def several(make: Callable[[float], Any]) -> dict[str, Any]:
    return {"Dense": make(1.0), **{label: make(size) for label, size in KEPT.items()}}


def colour_of(label: str) -> str:
    return style.INK if label in ("", "Dense") else style.marks([label])[label].color


def lines(ax: Axes, label: str, linestyle: str = "-") -> list[Line2D]:
    """What is drawn of one label, found by its colour; guides have no data of their own."""
    found = [line for line in ax.lines if line.get_color() == colour_of(label) and len(line.get_xdata())]
    return [line for line in found if line.get_linestyle() == linestyle]


def xy(line: Line2D) -> np.ndarray:
    return np.column_stack(line.get_data()).astype(float)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.findobj(mpl.text.Text) if text.get_text()]


def tick(axis: Any, label: str) -> float:
    return dict(zip([t.get_text() for t in axis.get_ticklabels()], axis.get_majorticklocs(), strict=True))[label]


# All of them ----------------------------------------------------------------------------------------------


@every
def test_one_result_and_several_are_drawn_on_the_axes_that_are_given(name: str) -> None:
    draw, make = EVERY[name]
    _, (left, right) = plt.subplots(1, 2)
    settings = dict(mpl.rcParams)
    assert draw(make(0.5), ax=left) is left
    assert draw(several(make), ax=right) is right
    assert dict(mpl.rcParams) == settings, "matplotlib's settings are put back"
    for label in ("Dense", *KEPT):
        assert any(text == label or text.startswith(f"{label}, ") for text in texts(right)), label
    assert left.get_xlabel()


@pytest.mark.parametrize("name", DRAWN)
def test_methods_have_their_own_colours_and_markers(name: str) -> None:
    draw, make = DRAWN[name]
    ax = draw(several(make))
    legend = ax.get_legend()
    found = {
        text.get_text().split(",")[0]: handle
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    for label in KEPT:
        mark = style.marks([label])[label]
        assert (found[label].get_color(), found[label].get_marker()) == (mark.color, mark.marker)
        assert lines(ax, label)
    assert found["Dense"].get_color() == style.INK


@every
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "several"])
def test_nothing_covers_data_and_nothing_is_cut_off(name: str, alone: bool) -> None:
    draw, make = EVERY[name]
    ax = draw(make(0.5) if alone else several(make))
    figure = ax.figure
    figure.canvas.draw()
    legend = ax.get_legend()
    if legend is not None:
        assert not legend.get_window_extent().overlaps(ax.get_window_extent())
    whole = figure.get_tightbbox()
    assert whole.x0 >= -0.02
    assert whole.y0 >= -0.02
    assert whole.x1 <= figure.bbox_inches.x1 + 0.1
    assert whole.y1 <= figure.bbox_inches.y1 + 0.02
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels = [t for at, t in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True) if low <= at <= high]
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@every
def test_text_has_the_colour_of_the_page(name: str) -> None:
    draw, make = EVERY[name]
    svg = figures.show(draw(several(make)), alt="a", caption="c").svg
    colours = {c.lower() for c in re.findall(r"#[0-9a-fA-F]{6}\b", svg)}
    assert colours <= {c.lower() for c in (*style.PALETTE, style.FAINT)}
    assert not re.search(r"(?:fill|stroke): ?(?:black|white|#000|#fff)\b", svg)
    for text in re.findall(r"<text [^>]*>", svg):
        assert "fill:" not in text or "fill: currentColor" in text


@every
def test_what_cannot_be_drawn_is_refused_in_one_line(name: str) -> None:
    draw, make = EVERY[name]
    for given, says in [
        ({}, "empty"),
        ([make(1.0)], "the result is a list; accepted: "),
        ({"SNIP": 0.9}, "the result of 'SNIP' is a float; accepted: "),
        ({0.9: make(1.0)}, r"the label 0\.9 is not accepted"),
        ({" ": make(1.0)}, "the label ' ' is not accepted"),
    ]:
        with pytest.raises(pv.InputError, match=says) as error:
            draw(given)
        assert "\n" not in str(error.value)
    assert not plt.get_fignums(), "nothing is drawn of what is refused"


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.02, 30], ["0.1", "1", "10"]),
        ([1e-9, 1e3], ["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "1", "10²"]),
        ([2e-7, 9e-7], ["2×10⁻⁷", "5×10⁻⁷", "10⁻⁶"]),
        ([3.1, 3.2], ["3", "3.5"]),
        ([0.0, 1.0, 100.0], ["0", "1", "10", "100"]),
        ([0.0], ["0", "1", "10", "100"]),
    ],
)
def test_logarithmic_ticks_are_few_and_readable(values: list[float], labels: list[str]) -> None:
    _, ax = plt.subplots()
    scales.log_axis(ax.yaxis, values)
    low, high = ax.get_ylim()
    assert [t.get_text() for t in ax.get_yticklabels()] == labels
    assert all(low <= at <= high for at in ax.get_yticks())
    assert all(low < value < high for value in values if value > 0)


def test_scorers_have_their_methods_colours() -> None:
    ax = figures.label_projection({name: projection(0.3) for name in ("snip", "grasp", "mine", "dense")})
    handles = dict(
        zip([t.get_text() for t in ax.get_legend().get_texts()], ax.get_legend().legend_handles, strict=True)
    )
    assert handles["snip"].get_color() == colour_of("SNIP")
    assert handles["grasp"].get_marker() == "D"
    assert handles["dense"].get_color() == style.INK
    assert len({handle.get_marker() for handle in ax.get_legend().legend_handles}) == 4
    both = figures.label_projection({"snip": projection(0.3), "SNIP": projection(0.2)})
    assert len({(h.get_color(), h.get_marker()) for h in both.get_legend().legend_handles}) == 2


# Spectra --------------------------------------------------------------------------------------------------


def test_eigenvalues_are_drawn_by_rank() -> None:
    results = several(kernel)
    ax = figures.ntk_spectrum(results)
    for label, result in results.items():
        (line,) = lines(ax, label)
        assert xy(line)[:, 0] == pytest.approx(range(1, 13))
        assert xy(line)[:, 1] == pytest.approx(result.eigenvalues.numpy())
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_legend().get_title().get_text() == "4 inputs, 3 outputs"


def test_each_class_has_a_line() -> None:
    result = kernel(1.0, "class")
    ax = figures.ntk_spectrum(result)
    drawn = np.array([xy(line)[:, 1] for line in lines(ax, "")])
    assert drawn == pytest.approx(result.eigenvalues.numpy())
    assert ax.get_title(loc="left") == "4 inputs, 3 outputs apart"
    assert "3 outputs, summed over outputs" not in ax.get_title(loc="left")


def test_eigenvalues_that_are_rounding_lie_on_zero() -> None:
    result = kernel(1.0)
    values = result.eigenvalues.clone()
    eps = torch.finfo(torch.float64).eps
    values[-3:] = torch.tensor([13 * eps * values[0], 11 * eps * values[0], -1e-18])
    ax = figures.ntk_spectrum(replace(result, eigenvalues=values))
    above, zero = map(xy, lines(ax, ""))
    assert above[:, 1] == pytest.approx(values[:-2].numpy()), "12 eps of the largest is rounding, 13 is not"
    assert zero == pytest.approx(np.array([[rank, tick(ax.yaxis, "≈ 0")] for rank in (11, 12)]))
    assert zero[0, 1] < above[-1, 1]


def test_residuals_are_bars() -> None:
    exact, rough = top(1.0), top(1.0, residual=2.0)
    ax = figures.ntk_spectrum({"SNIP": exact, "GraSP": rough})
    bars = [c for c in ax.collections if tuple(c.get_edgecolor()[0]) == mpl.colors.to_rgba(colour_of("GraSP"))]
    ends = np.array([segment[:, 1] for bar in bars for segment in bar.get_segments()])
    seen = rough.eigenvalues[rough.eigenvalues > 2]
    assert ends.mean(1) == pytest.approx(seen.numpy())
    assert np.ptp(ends, axis=1) == pytest.approx([4.0] * len(seen))


def test_the_top_stands_beside_a_whole_spectrum() -> None:
    ax = figures.ntk_spectrum({"SNIP": kernel(1.0), "GraSP": top(1.0)})
    assert xy(lines(ax, "GraSP")[0]) == pytest.approx(xy(lines(ax, "SNIP")[0])[:5])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (kernel(1.0, n=5), "mix N: 4 of 'SNIP', 5 of 'GraSP'"),
        (kernel(1.0, c=2), "mix C: 3 of 'SNIP', 2 of 'GraSP'"),
        (kernel(1.0, "trace"), "mix outputs: full of 'SNIP', trace of 'GraSP'"),
    ],
)
def test_kernels_of_different_sizes_are_refused(other: pv.NtkResult, says: str) -> None:
    with pytest.raises(pv.InputError, match=says):
        figures.ntk_spectrum({"SNIP": kernel(1.0), "GraSP": other})
    with pytest.raises(pv.InputError, match=says):
        figures.ntk_spectrum({"SNIP": top(1.0), "GraSP": other})


def test_a_spectrum_that_is_not_finite_is_refused() -> None:
    broken = replace(kernel(1.0), eigenvalues=torch.full((12,), math.nan))
    with pytest.raises(pv.InputError, match="the spectrum of 'SNIP' holds nan"):
        figures.ntk_spectrum({"SNIP": broken})


def test_the_density_is_that_of_the_result_and_its_area_is_what_is_shown() -> None:
    results = several(density_of)
    ax = figures.spectral_density(results, width=0.1)
    for label, result in results.items():
        drawn = xy(lines(ax, label)[0])
        expected = result.at(torch.from_numpy(drawn[:, 0]).log10(), 0.1, decades=True)
        assert drawn[:, 1] == pytest.approx(expected.numpy())
        # Half of each has its nodes far below.
        assert np.trapezoid(drawn[:, 1], np.log10(drawn[:, 0])) == pytest.approx(0.5, abs=0.01)
    assert "SNIP, 50\u00a0% below" in texts(ax)
    alone = figures.spectral_density(density_of(1.0))
    assert alone.get_title(loc="left") == "12 eigenvalues, 50\u00a0% below the axis"
    whole = figures.spectral_density(density_of(1.0), smallest=1e-13)
    assert whole.get_title(loc="left") == "12 eigenvalues"
    assert whole.get_xlim()[0] < 1e-12


@pytest.mark.parametrize(
    ("options", "says"),
    [({"width": 0}, "width 0"), ({"smallest": -1}, "smallest -1"), ({"smallest": 3.0}, "no eigenvalue is above 3")],
)
def test_densities_need_something_to_draw(options: dict[str, float], says: str) -> None:
    with pytest.raises(pv.InputError, match=says):
        figures.spectral_density(density_of(1.0), **options)


def test_densities_of_different_sizes_are_refused() -> None:
    with pytest.raises(pv.InputError, match="mix N C: 12 of 'SNIP', 13 of 'GraSP'"):
        figures.spectral_density({"SNIP": density_of(1.0), "GraSP": replace(density_of(1.0), size=13)})


@pytest.mark.parametrize("density", [True, False])
def test_the_hessians_ends_are_marked(density: bool) -> None:
    results = {label: hessian(size, density) for label, size in KEPT.items()}
    ax = figures.hessian_spectrum(results)
    for label, result in results.items():
        marks = [line for line in lines(ax, label, "None") if line.get_marker() == style.marks([label])[label].marker]
        filled = next(line for line in marks if line.get_fillstyle() == "full")
        hollow = next(line for line in marks if line.get_fillstyle() == "none")
        assert filled.get_xdata() == pytest.approx(result.eigenvalues.numpy())
        assert hollow.get_xdata() == pytest.approx([result.lowest])
        if density:
            curve = next(line for line in lines(ax, label))
            assert xy(curve) == pytest.approx(np.column_stack([result.grid, result.density]))
            assert ax.get_ylim()[0] < filled.get_ydata()[0] < 1.01e-7
    assert "largest" in texts(ax)


def test_only_what_is_far_above_zero_is_drawn_of_a_density() -> None:
    density = torch.tensor([1e-9, 1.0, 1e-6, 1e-8], dtype=torch.float64)
    result = replace(hessian(1.0), grid=torch.arange(4.0).double(), density=density)
    drawn = lines(figures.hessian_spectrum(result), "")[0].get_ydata()
    assert np.isnan(drawn).tolist() == [True, False, False, True]


def test_results_of_very_different_sizes_are_on_a_symmetric_logarithmic_axis() -> None:
    ax = figures.hessian_spectrum({"SNIP": hessian(1.0), "GraSP": hessian(1e4)})
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim()[0] < -1e4 < 9e4 < ax.get_xlim()[1]
    assert "log scale" in ax.get_xlabel()
    assert figures.hessian_spectrum({"SNIP": hessian(1.0), "GraSP": hessian(20.0)}).get_xscale() == "linear"


def test_a_smallest_eigenvalue_that_was_not_found_is_not_drawn() -> None:
    ax = figures.hessian_spectrum(replace(hessian(1.0), lowest=math.nan, lowest_residual=math.inf))
    assert "smallest" not in texts(ax)


def test_a_density_beside_none_is_refused() -> None:
    with pytest.raises(pv.InputError, match="'SNIP' has a density, 'GraSP' has none"):
        figures.hessian_spectrum({"SNIP": hessian(1.0), "GraSP": hessian(1.0, False)})


# Kernels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", ["full", "trace", "class"])
def test_kernels_of_every_form_are_shown_over_inputs(outputs: str) -> None:
    ax = figures.ntk_kernel(kernel(2.0, outputs))
    expected = kernel(2.0, "trace").kernel
    assert np.asarray(ax.images[0].get_array()) == pytest.approx((expected / expected.diagonal().mean()).numpy())


def test_an_outlier_does_not_take_the_scale_of_colours() -> None:
    result = kernel(1.0, "trace", n=40)
    broken = result.kernel.clone()
    broken[0, 1] = broken[1, 0] = 1e6
    ax = figures.ntk_kernel(replace(result, kernel=broken))
    image = ax.images[0]
    assert np.asarray(image.get_array()).max() > 1e3, "it is there"
    assert image.get_clim()[1] < 10
    assert image.colorbar.extend in ("max", "both"), "and said to be beyond"


def test_kernels_share_their_colours_and_do_not_overlap() -> None:
    results = several(kernel)
    ax = figures.ntk_kernel(results)
    assert len(ax.images) == 4
    assert len({image.get_clim() for image in ax.images}) == 1
    extents = [image.get_extent() for image in ax.images]
    for (x0, x1, y1, y0), (left, right, below, above) in itertools.combinations(extents, 2):
        assert x1 < left or right < x0 or y1 < above or below < y0
    for x0, x1, y1, y0 in extents:
        assert min(ax.get_xlim()) <= x0 < x1 <= max(ax.get_xlim())
        assert min(ax.get_ylim()) <= y0 < y1 <= max(ax.get_ylim())


def test_inputs_are_put_in_the_order_of_their_classes() -> None:
    result = kernel(1.0, "trace")
    ax = figures.ntk_kernel(result, labels=torch.tensor([2, 0, 2, 1]))
    order = [1, 3, 0, 2]
    expected = result.kernel[order][:, order]
    assert np.asarray(ax.images[0].get_array()) == pytest.approx((expected / expected.diagonal().mean()).numpy())
    assert {float(line.get_ydata()[0]) for line in ax.lines if np.ptp(line.get_ydata()) == 0} == {1.0, 2.0}
    for labels in ([0, 1], [0.5] * 4, "abcd"):
        with pytest.raises(pv.InputError, match="one whole number for each of the 4 inputs"):
            figures.ntk_kernel(result, labels=labels)


def test_a_kernel_of_nothing_is_refused() -> None:
    with pytest.raises(pv.InputError, match="the kernel of 'SNIP' has a trace of 0"):
        figures.ntk_kernel({"SNIP": kernel(0.0)})
    with pytest.raises(pv.InputError, match="mix N"):
        figures.ntk_kernel({"SNIP": kernel(1.0), "GraSP": kernel(1.0, n=5)})


# Projections and descent ----------------------------------------------------------------------------------


def test_projections_are_cumulative() -> None:
    ax = figures.label_projection({label: projection(size) for label, size in KEPT.items()}, target="residual")
    assert xy(lines(ax, "SNIP")[0]) == pytest.approx(np.array([[1, 20], [2, 40], [3, 45], [4, 46]]))
    assert ax.get_ylabel().startswith("residual")
    nothing = replace(projection(0.1), energy=torch.full((4,), math.nan))
    with pytest.raises(pv.InputError, match="the projection holds nan"):
        figures.label_projection(nothing)


def test_descent_is_drawn_measured_and_predicted() -> None:
    results = {label: descent(size) for label, size in KEPT.items()}
    ax = figures.early_descent(results)
    for label, result in results.items():
        for linestyle, values in {"-": result.measured, "--": result.linearized, ":": result.first_order}.items():
            (line,) = lines(ax, label, linestyle)
            assert line.get_ydata() == pytest.approx(values)
    assert {"measured", "linearized", "first order"} <= set(texts(ax))
    with pytest.raises(pv.InputError, match=r"mix rates: 0\.1 of 'SNIP', 0\.2 of 'GraSP'"):
        figures.early_descent({"SNIP": descent(0.1), "GraSP": replace(descent(0.1), rate=0.2)})


def test_a_loss_that_explodes_does_not_squeeze_the_others() -> None:
    lost = replace(descent(0.1), measured=(2.3, 1e30, math.inf, 2.0))
    assert figures.early_descent({"SNIP": descent(0.1), "GraSP": lost}).get_ylim()[1] < 5


def test_a_wild_prediction_does_not_squeeze_what_is_measured() -> None:
    ax = figures.early_descent(replace(descent(0.1), first_order=(2.3, -50.0, -100.0, -150.0)))
    low, high = ax.get_ylim()
    measured = descent(0.1).measured
    assert low < min(measured) < max(measured) < high
    assert high - low < 2.5 * (max(measured) - min(measured))


# Gradient flow --------------------------------------------------------------------------------------------


def test_flow_is_drawn_before_and_after_by_layer() -> None:
    after = {label: flow(size) for label, size in KEPT.items()}
    ax = figures.gradient_flow(after, before=flow(1.0))
    zero = tick(ax.xaxis, "0")
    for label, size in {"": 1.0, **KEPT}.items():
        layers, total = lines(ax, label)
        assert xy(layers) == pytest.approx(np.array([[size, 0], [10 * size, 1], [zero, 2]]))
        assert xy(total) == pytest.approx(np.array([[11 * size, 3]]))
    assert zero < 0.1
    assert [t.get_text() for t in ax.get_yticklabels()] == ["conv", "body.fc", "head", "all layers"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the input is at the top"
    alone = figures.gradient_flow(flow(0.2), before=flow(1.0))
    assert [t.get_text() for t in alone.get_legend().get_texts()] == ["before masking", "after masking"]


def test_flows_that_do_not_belong_together_are_refused() -> None:
    other = replace(flow(1.0), per_layer={"fc.weight": 1.0})
    with pytest.raises(pv.InputError, match=r"'SNIP' and 'GraSP' have different layers, such as 'body\.fc\.weight'"):
        figures.gradient_flow({"SNIP": flow(1.0), "GraSP": other})
    with pytest.raises(pv.InputError, match="different layers"):
        figures.gradient_flow(flow(1.0), before=other)
    with pytest.raises(pv.InputError, match="before is a float"):
        figures.gradient_flow(flow(1.0), before=1.0)
    with pytest.raises(pv.InputError, match="the gradient flow of 'SNIP' holds nan"):
        figures.gradient_flow({"SNIP": flow(math.nan)})
    with pytest.raises(pv.InputError, match="has no layers"):
        figures.gradient_flow(pv.GradientFlow(0.0, {}, 0.0))


def test_the_history_is_drawn_in_steps_of_training() -> None:
    results = {label: history(size) for label, size in KEPT.items()}
    ax = figures.flow_history(results)
    assert xy(lines(ax, "SNIP")[0]) == pytest.approx(np.array([[0, 2.2], [5, 4.4], [10, 8.8], [15, 17.6]]))
    one = figures.flow_history(results, layer="conv.weight")
    assert lines(one, "SNIP")[0].get_ydata() == pytest.approx([0.2, 0.4, 0.8, 1.6])
    with pytest.raises(pv.InputError, match=r"layer 'conv\.weigt' is not known; did you mean 'conv\.weight'"):
        figures.flow_history(results, layer="conv.weigt")
    with pytest.raises(pv.InputError, match="the history of 'SNIP' has no steps"):
        figures.flow_history({"SNIP": pv.FlowHistory((), ())})


def test_a_diverged_run_ends_in_a_cross() -> None:
    lost = pv.FlowHistory((0, 5, 10), (flow(1.0), flow(9.0), flow(math.nan)))
    ax = figures.flow_history({"SNIP": lost, "GraSP": history(1.0)})
    crosses = [xy(line).tolist() for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert crosses == [[[5, 99]]]
    assert "diverged" in texts(ax)
    assert "diverged" not in texts(figures.flow_history(history(1.0)))
    never = pv.FlowHistory((0, 5), (flow(math.nan), flow(math.nan)))
    ax = figures.flow_history({"SNIP": never, "GraSP": history(1.0)})
    crosses = [line for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [xy(line).tolist() for line in crosses] == [[[0, 0]]]
    assert crosses[0].get_transform() == ax.get_xaxis_transform()  # its height is a share of the axes


@pytest.mark.parametrize("size", [0.2, 50.0], ids=["linear", "logarithmic"])
def test_changes_are_in_percent_of_the_dense_network(size: float) -> None:
    ax = figures.grasp_prediction({"SNIP": prediction(size), "GraSP": prediction(0.1)})
    (error,) = lines(ax, "SNIP")
    percent = [100 * x * size / 11 for x in (30, -20, -25)]
    assert error.get_xdata() == pytest.approx(percent[:2])
    hollow = [line for line in lines(ax, "SNIP", "None") if line.get_markerfacecolor() == "none"]
    filled = [line for line in lines(ax, "SNIP", "None") if line not in hollow and line.get_marker() == "^"]
    bars = [line for line in lines(ax, "SNIP", "None") if line.get_marker() == "|"]
    assert [float(line.get_xdata()[0]) for line in (*hollow, *filled, *bars)] == pytest.approx(percent)
    assert ax.get_xscale() == ("linear" if size < 1 else "symlog")
    assert ax.get_xlim()[0] < min(percent) < max(percent) < ax.get_xlim()[1]
    with pytest.raises(pv.InputError, match="the dense network of 'SNIP' has a gradient of 0"):
        figures.grasp_prediction({"SNIP": replace(prediction(0.1), before=flow(0.0))})


# Signals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "expected"), [("forward", [0.2, 0.05, 0.0125]), ("backward", [0.2, 20, 2000]), ("dead", [0, 20, 40])]
)
def test_signals_are_drawn_by_depth(part: str, expected: list[float]) -> None:
    ax = figures.signal_by_depth({label: signal(size) for label, size in KEPT.items()}, part)
    drawn = xy(lines(ax, "SNIP")[0])
    assert drawn[:, 0] == pytest.approx(expected)
    assert drawn[:, 1] == pytest.approx([0, 1, 2])
    assert ax.get_xscale() == ("linear" if part == "dead" else "log")


def test_singular_values_are_drawn_from_the_smallest_to_the_largest() -> None:
    ax = figures.singular_values({label: signal(size) for label, size in KEPT.items()})
    drawn = [xy(line) for line in lines(ax, "SNIP") if len(line.get_xdata()) == 2]
    thin = [d[:, 0] for d, line in zip(drawn, lines(ax, "SNIP"), strict=False)]
    assert any(x == pytest.approx([0.2, 1.0]) for x in thin), "the ends of a layer of which all are known"
    assert any(x == pytest.approx([0.4, 0.8]) for x in thin), "its middle half"
    assert any(x == pytest.approx([0.4, 1.4]) for x in thin), "the ends of a layer of which only these are known"
    medians = [line for line in lines(ax, "SNIP", "None") if line.get_marker() == "^"]
    assert [float(line.get_xdata()[0]) for line in medians] == pytest.approx([0.6, 0.6])
    colour = mpl.colors.to_rgba(colour_of("SNIP"))
    whiskers = [s[:, 0] for c in ax.collections if tuple(c.get_edgecolor()[0]) == colour for s in c.get_segments()]
    assert sorted(float(np.ptp(w)) for w in whiskers) == pytest.approx([0.1, 0.2])


def test_singular_values_that_are_rounding_lie_on_zero() -> None:
    tiny = torch.tensor([1.0, 0.5, 1e-17], dtype=torch.float64)
    operators = {"a.weight": pv.OperatorSpectrum((3, 9), 3, 1.0, 1e-17, values=tiny)}
    ax = figures.singular_values(pv.SignalPropagation(operators=operators))
    assert lines(ax, "")[0].get_xdata() == pytest.approx([tick(ax.xaxis, "≈ 0"), 1.0])
    assert ax.get_xlim()[0] > 0.05


def test_singular_values_of_jacobians_that_are_rounding_lie_on_zero() -> None:
    values = torch.tensor([[1.0, 3e-7], [1000.0, 2e-4]], dtype=torch.float64)  # in float32, 2 eps is 2.4e-7
    ax = figures.singular_values(pv.SignalPropagation(pv.JacobianSpectrum(values, 0, 0, 0, 0)), "jacobian")
    drawn = next(line for line in lines(ax, "") if len(line.get_xdata()) == 4).get_xdata()
    assert drawn == pytest.approx([tick(ax.xaxis, "≈ 0"), 3e-7, 1.0, 1000.0])


def test_a_lost_layer_has_singular_values_of_zero() -> None:
    lost = {name: pv.OperatorSpectrum((5, 7), 0, 0.0, 0.0, values=torch.zeros(0)) for name in LAYERS}
    ax = figures.singular_values({"SNIP": signal(1.0), "GraSP": pv.SignalPropagation(operators=lost)})
    zero = tick(ax.xaxis, "≈ 0")
    assert all(line.get_xdata() == pytest.approx([zero] * 2) for line in lines(ax, "GraSP"))


def test_the_jacobians_values_are_a_distribution() -> None:
    ax = figures.singular_values({label: signal(size) for label, size in KEPT.items()}, "jacobian")
    drawn = xy(lines(ax, "SNIP")[0])
    assert drawn[:, 0] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
    assert drawn[:, 1] == pytest.approx(100 * np.arange(1, 7) / 6)
    few = signal(1.0)
    fewer = replace(few, jacobian=replace(few.jacobian, values=few.jacobian.values[:2]))
    with pytest.raises(pv.InputError, match=r"\(3, 2\) of 'SNIP', \(2, 2\) of 'GraSP'"):
        figures.singular_values({"SNIP": few, "GraSP": fewer}, "jacobian")


def test_parts_that_were_not_asked_for_are_named() -> None:
    nothing = {"SNIP": pv.SignalPropagation()}
    with pytest.raises(pv.InputError, match="the result of 'SNIP' has no moments"):
        figures.signal_by_depth(nothing)
    for part in ("operators", "jacobian"):
        with pytest.raises(pv.InputError, match=f"the result of 'SNIP' has no {part}"):
            figures.singular_values(nothing, part)
    with pytest.raises(pv.InputError, match="part 'forwards' is not known; did you mean 'forward'"):
        figures.signal_by_depth(signal(1.0), "forwards")
    with pytest.raises(pv.InputError, match="part 'moments' is not known"):
        figures.singular_values(signal(1.0), "moments")


# Agreement and connection ---------------------------------------------------------------------------------


def test_the_matrix_has_every_pair_once_as_a_colour_and_once_as_a_number() -> None:
    ax = figures.agreement(pairs())
    matrix = ax.images[0].get_array()
    names = list(KEPT)
    numbers = {text.get_position(): text.get_text() for text in ax.texts}
    for (a, b), result in pairs().items():
        row, column = names.index(b), names.index(a)
        assert matrix[row, column] == pytest.approx(result.jaccard)
        assert numbers[row, column] == f"{result.jaccard:.2f}\n({result.by_chance:.2f})"
    assert matrix.mask.sum() == 6, "above the diagonal, and on it, there are no colours"
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    turned = figures.agreement({(b, a): result for (a, b), result in pairs().items()}, "overlap")
    order = [t.get_text() for t in turned.get_yticklabels()]
    assert turned.images[0].get_array()[order.index("GraSP"), order.index("SNIP")] == pytest.approx(
        pairs()["SNIP", "GraSP"].overlap
    )


def test_pairs_must_be_whole() -> None:
    given = pairs()
    del given["SNIP", "GraSP"]
    for wrong, says in [
        (given, "the pair of 'SNIP' and 'GraSP' is missing"),
        ({}, "the result is empty"),
        (agreed(0.1), "the result is a Agreement"),
        ({"SNIP": agreed(0.1)}, "the key 'SNIP' is no pair of labels"),
        ({("SNIP", "SNIP"): agreed(0.1)}, "of one method with itself"),
        ({("SNIP", "GraSP"): 0.5}, r"the result of \('SNIP', 'GraSP'\) is a float"),
    ]:
        with pytest.raises(pv.InputError, match=says):
            figures.agreement(wrong)
    with pytest.raises(pv.InputError, match="has no rank_correlation; accepted: an agreement of scores"):
        figures.agreement(pairs(), "rank_correlation")
    with pytest.raises(pv.InputError, match="value 'iou' is not known"):
        figures.agreement(pairs(), "iou")
    assert not plt.get_fignums(), "nothing is drawn of what is refused"


def test_agreement_by_layer_stands_beside_chance() -> None:
    results = {label: agreed(size) for label, size in KEPT.items()}
    ax = figures.layer_agreement(results)
    layers, total = lines(ax, "SNIP")
    assert xy(layers) == pytest.approx(np.array([[0.2, 0], [0.1, 1], [0.2 / 3, 2]]))
    assert xy(total) == pytest.approx(np.array([[0.2, 3]]))
    (chance,) = lines(ax, "SNIP", ":")
    assert chance.get_xdata() == pytest.approx([0.1, 0.05, 0.1 / 3])
    assert not lines(figures.layer_agreement(results, "overlap"), "SNIP", ":")


def test_rank_correlations_may_be_negative() -> None:
    per_layer = {name: pv.LayerAgreement(None, None, None, -0.5) for name in LAYERS}
    one = pv.Agreement(None, None, None, -0.25, per_layer)
    ax = figures.layer_agreement(one, "rank_correlation")
    assert ax.get_xlim()[0] < -1
    nothing = {name: pv.LayerAgreement(None, None, None, math.nan) for name in LAYERS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.layer_agreement(pv.Agreement(None, None, None, math.nan, nothing), "rank_correlation")
    constant = {**per_layer, LAYERS[0]: pv.LayerAgreement(None, None, None, math.nan)}
    ax = figures.layer_agreement(pv.Agreement(None, None, None, -0.25, constant), "rank_correlation")
    assert ax.get_xlim()[0] < -1
    matrix = figures.agreement({("A", "B"): one}, "rank_correlation")
    assert matrix.images[0].get_clim() == (-1, 1)
    assert [text.get_text() for text in matrix.texts] == ["−0.25"]
    with pytest.raises(pv.InputError, match="has no jaccard; accepted: an agreement of masks"):
        figures.layer_agreement(one)


def test_connected_weights_are_a_share_of_those_kept() -> None:
    ax = figures.effective_sparsity({label: connected(size) for label, size in KEPT.items()})
    layers, total = lines(ax, "SNIP")
    drawn = xy(layers)
    assert drawn[[0, 2]] == pytest.approx(np.array([[20, 0], [100, 2]]))
    assert math.isnan(drawn[1, 0])
    assert xy(total) == pytest.approx(np.array([[68, 3]]))
    crosses = [
        xy(line).tolist() for line in lines(ax, "SNIP", "-") + lines(ax, "SNIP", "None") if line.get_marker() == "x"
    ]
    assert crosses == [[[0, 1]]]
    assert "SNIP, 90.91\u00a0% → 93.82\u00a0%" in texts(ax)


# Real results ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> tuple[pv.Problem, dict[str, pv.Masks | None]]:
    data = pv.data.load("digits", fraction=0.2)
    model = pv.models.create("lenet_300_100", input_shape=data.input_shape, width=0.1)
    problem = pv.Problem(model, pv.data.scoring_batches(data, per_class=1))
    masks = {title: pv.prune(problem, name, sparsity=0.9) for name, title in [("snip", "SNIP"), ("grasp", "GraSP")]}
    return problem, {"Dense": None, **masks}


def test_real_results_of_the_kernel_are_drawn(real: tuple[pv.Problem, dict[str, pv.Masks | None]]) -> None:
    problem, masks = real
    kernels = {label: pv.ntk(problem, m, progress=False) for label, m in masks.items()}
    ax = figures.ntk_spectrum(kernels)
    drawn = lines(ax, "Dense")[0].get_ydata()
    assert sum(len(line.get_xdata()) for line in lines(ax, "Dense")) == 100
    assert drawn[0] == pytest.approx(float(kernels["Dense"].eigenvalues[0]))
    tops = {label: pv.ntk_top(problem, 5, m, progress=False) for label, m in masks.items()}
    assert lines(figures.ntk_spectrum(tops), "SNIP")[0].get_ydata() == pytest.approx(
        lines(ax, "SNIP")[0].get_ydata()[:5], rel=1e-3
    )
    image = figures.ntk_kernel(kernels, labels=problem.batches[0][1]).images[0].get_array()
    assert np.trace(image) == pytest.approx(10)
    target = pv.one_hot_labels(problem, 10, centered=True)
    shares = {label: pv.ntk_projection(result, target) for label, result in kernels.items()}
    assert lines(figures.label_projection(shares), "GraSP")[0].get_ydata()[-1] == pytest.approx(100)
    steps = pv.early_descent(problem, kernels["SNIP"], masks["SNIP"], rate=0.01, steps=2)
    assert len(lines(figures.early_descent(steps), "")[0].get_xdata()) == 3
    density = pv.spectral_density(problem, steps=10, vectors=2, progress=False)
    assert np.max(lines(figures.spectral_density(density), "")[0].get_ydata()) > 0


def test_real_results_of_the_network_are_drawn(real: tuple[pv.Problem, dict[str, pv.Masks | None]]) -> None:
    problem, masks = real
    names = list(problem.names)
    pruned = {label: m for label, m in masks.items() if m is not None}
    flows = {label: pv.gradient_flow(problem, m) for label, m in pruned.items()}
    ax = figures.gradient_flow(flows, before=pv.gradient_flow(problem))
    assert [t.get_text() for t in ax.get_yticklabels()][:-1] == [name.removesuffix(".weight") for name in names]
    figures.grasp_prediction({label: pv.grasp_prediction(problem, m) for label, m in pruned.items()})
    signals = {label: pv.signal_propagation(problem, m) for label, m in masks.items()}
    for part in ("forward", "backward", "dead"):
        assert len(lines(figures.signal_by_depth(signals, part), "SNIP")[0].get_xdata()) == len(names)
    figures.singular_values(signals)
    values = lines(figures.singular_values(signals, "jacobian"), "GraSP")[0].get_xdata()
    assert len(values) == 10 * 10
    figures.effective_sparsity({label: pv.effective_sparsity(problem, m) for label, m in pruned.items()})
    both = pv.agreement(pruned["SNIP"], pruned["GraSP"])
    assert figures.agreement({("SNIP", "GraSP"): both}).images[0].get_array()[1, 0] == pytest.approx(both.jaccard)
    figures.layer_agreement(both)
    recorder = pv.FlowRecorder([0])
    recorder(0, problem.model, torch.tensor(1.0))
    figures.flow_history(recorder.history)


def test_the_example_runs(real: tuple[pv.Problem, dict[str, pv.Masks | None]]) -> None:
    text = figures.__doc__ or ""
    example = doctest.DocTestParser().get_examples(text[text.index(">>> import") :])
    known = {"pv": pv, "problem": real[0]}
    for statement in example:
        exec(statement.source, known)
    drawn = known["figure"].axes
    assert len(drawn) == 2
    assert all({"Dense", "SNIP", "GraSP"} <= set(texts(ax)) for ax in drawn)


def test_real_hessians_are_drawn(real: tuple[pv.Problem, dict[str, pv.Masks | None]]) -> None:
    pytest.importorskip("curvlinops")
    problem, masks = real
    result = pv.hessian_spectrum(problem, masks["SNIP"], k=2, density=True, lanczos=8, repeats=1, points=64)
    assert len(lines(figures.hessian_spectrum(result), "")[0].get_xdata()) == 64
