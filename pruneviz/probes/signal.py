"""Signal propagation: how a network, and each of its layers, stretches what goes through it, forward and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_choice, check_number, check_positive
from pruneviz.inputs import inputs_of
from pruneviz.masks import Masks
from pruneviz.probes.input_jacobian import JacobianSpectrum, jacobian_spectrum
from pruneviz.probes.moments import LayerSignal, moments
from pruneviz.probes.operators import Operators
from pruneviz.probes.singular import OperatorSpectrum, spectrum
from pruneviz.problem import Problem, Weights

PARTS = ("jacobian", "operators", "moments")


@dataclass(frozen=True)
class SignalPropagation:
    """What was asked for; the rest is None or empty.

    Attributes:
        jacobian: of the network from input to output.
        operators: of each layer's masked linear operator, in model order.
        layers: second moments and dead units, in the order of execution.
    """

    jacobian: JacobianSpectrum | None = None
    operators: Mapping[str, OperatorSpectrum] = field(default_factory=dict)
    layers: Mapping[str, LayerSignal] = field(default_factory=dict)


def signal_propagation(
    problem: Problem,
    masks: Masks | None = None,
    parts: Sequence[str] = PARTS,
    *,
    examples: int | None = None,
    budget: int = 2**25,
    iterations: int = 200,
    tolerance: float = 1e-3,
) -> SignalPropagation:
    """How signals propagate through a dense or masked network.

    "jacobian": the singular values of each example's input-output Jacobian (Lee et al. 2020, section 4; dynamical
    isometry is when all are near 1). Batch normalization uses its running statistics here, whatever the problem
    says, so that every example has a Jacobian of its own. Cost: C gradients, and an exact SVD of C x D per example.

    "operators": the singular values of each layer's masked weight as a linear operator: the matrix of a linear layer,
    a convolution (with its stride, padding and groups) on the input size that it has in this network.

    "moments": the mean squares of each layer's output and of the derivatives that come back to it, and dead units,
    with the problem's batches and batch statistics. Cost: one gradient.

    Args:
        problem: model, batches and loss; left untouched.
        masks: the weights removed; None for the dense network.
        parts: any of `PARTS`.
        examples: for "jacobian": only the first so many of the batches' examples.
        budget: bytes for one matrix: operators that take more get only their largest and smallest singular value,
            with errors; Jacobians are computed for as few examples at a time as this needs.
        iterations: for the two values of a large operator, at most for each.
        tolerance: for these values, relative to the largest.

    Raises:
        InputError: a mask that does not fit, an unknown part, no float inputs to differentiate by, outputs that are no
            tensor or that depend on other examples, a budget below one example's Jacobian, or a loss that is
            not finite.
    """
    for part in (parts,) if isinstance(parts, str) else parts:
        check_choice("part of signal_propagation", part, PARTS)
    check_positive("budget", budget)
    check_positive("iterations", iterations)
    tolerance = check_number("tolerance", tolerance, above=0.0)
    wanted = None if examples is None else check_positive("examples", examples)
    values = problem.masked_weights(masks)
    result: dict[str, Any] = {}
    with exact_arithmetic():
        if "jacobian" in parts:
            result["jacobian"] = jacobian_spectrum(problem, values, wanted, budget)
        if "operators" in parts:
            result["operators"] = _spectra(problem, values, budget, iterations, tolerance)
        if "moments" in parts:
            result["layers"] = moments(problem, masks)
    return SignalPropagation(**result)


def _spectra(
    problem: Problem, values: Weights, budget: int, iterations: int, tolerance: float
) -> dict[str, OperatorSpectrum]:
    for name, w in values.items():
        if not bool(torch.isfinite(w).all()):
            raise InputError(f"{name!r} holds weights that are not finite; singular values need finite ones")
    with Operators(values) as seen, torch.no_grad():
        problem.output(values, inputs_of(problem.model, next(problem.pieces()).batch), batchnorm="eval")
    order = sorted(seen.found, key=lambda name: problem.names.index(name.partition(" (use ")[0]))
    bar = tqdm(order, unit="layer", leave=False, disable=None)
    return {name: spectrum(seen.found[name], budget, iterations, tolerance) for name in bar}
