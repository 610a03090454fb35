"""The first steps of gradient descent: what the loss does, and what the neural tangent kernel says that it will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_number, check_positive
from pruneviz.masks import Masks
from pruneviz.probes.alignment import as_columns, outputs_of, residual_of
from pruneviz.probes.ntk import NtkResult
from pruneviz.probes.ntk_top import NtkTop
from pruneviz.problem import Problem, Weights


@dataclass(frozen=True, eq=False)
class Descent:
    """The loss along gradient descent on the weights that are kept: measured, and as the kernel predicts it.

    Attributes:
        measured: the loss before and after each step, (steps + 1,).
        first_order: loss - rate * step * r^T K r: what GraSP's criterion looks at.
        linearized: the loss of the network whose outputs are linear in its weights, f - rate * K r with r that of the
            moved outputs (Lee et al. 2019, in discrete time).
        rate: of the steps.
        gradient_norm_squared: |g|^2 over the weights that are kept, measured by differentiating.
        kernel_form: r^T K r, which is the same number; less, where only the largest eigenpairs are known.
    """

    measured: tuple[float, ...]
    first_order: tuple[float, ...]
    linearized: tuple[float, ...]
    rate: float
    gradient_norm_squared: float
    kernel_form: float


def early_descent(
    problem: Problem,
    spectrum: NtkResult | NtkTop,
    masks: Masks | None = None,
    *,
    rate: float,
    steps: int = 1,
) -> Descent:
    """A few steps of gradient descent on the weights that are kept, measured and predicted.

    Args:
        problem: the one of which the spectrum is, left untouched; its loss is summed over batches.
        spectrum: of `ntk` with outputs="full", or of `ntk_top`, which knows only the largest eigenpairs.
        masks: those with which the spectrum was computed.
        rate: the step is rate times the gradient.
        steps: of full-batch gradient descent.

    Returns:
        A `Descent`; its cost is one gradient per step, and one more.

    Raises:
        InputError: a spectrum that is not of this problem and these masks, or a loss that is not finite.
    """
    rate, steps = check_number("rate", rate, above=0), check_positive("steps", steps)
    times = _times(spectrum)
    values = problem.masked_weights(masks)
    masks = {name: mask.to(problem.device) for name, mask in (masks or {}).items()}
    if spectrum.parameters == "all":
        values = {**problem.parameters, **values}
    kept = sum(w.numel() - int((~masks[name]).sum()) if name in masks else w.numel() for name, w in values.items())
    if kept != spectrum.weights:
        raise InputError(f"the spectrum is of {spectrum.weights} weights, these masks keep {kept}: give the same masks")
    with exact_arithmetic():
        measured, norm = _measured(problem, values, masks, rate, steps)
        outputs = outputs_of(problem, values)
        _, residual = residual_of(problem, outputs)
        form = float((residual.double() * times(residual)).sum())
        linearized = [measured[0]]
        for _ in range(steps):
            moves = (rate * times(residual)).to(residual.dtype).split([len(f) for f in outputs])
            outputs = [f - move for f, move in zip(outputs, moves, strict=True)]
            loss, residual = residual_of(problem, outputs)
            linearized.append(loss)
    first_order = tuple(measured[0] - rate * step * form for step in range(steps + 1))
    return Descent(tuple(measured), first_order, tuple(linearized), rate, norm, form)


def _times(spectrum: NtkResult | NtkTop) -> Callable[[Tensor], Tensor]:
    """The kernel, as far as it is known, times an (N, C) target: (N, C), float64."""
    if isinstance(spectrum, NtkResult) and spectrum.outputs != "full":
        raise InputError(f"a kernel with outputs={spectrum.outputs!r} moves no single output; accepted: 'full'")

    def times(target: Tensor) -> Tensor:
        column = as_columns(spectrum, target)
        if isinstance(spectrum, NtkTop):
            vectors = spectrum.eigenvectors
            column = vectors @ (spectrum.eigenvalues.unsqueeze(1) * (vectors.T @ column))
        else:
            column = (spectrum.kernel @ column.to(spectrum.kernel.dtype)).double()
        return column.reshape(target.shape)

    return times


def _measured(problem: Problem, values: Weights, masks: Masks, rate: float, steps: int) -> tuple[list[float], float]:
    """The loss before and after each step, and the first squared gradient norm."""
    losses, norm = [], 0.0
    for step in range(steps + 1):
        loss, gradient = problem.gradient(values)
        losses.append(loss)
        gradient = {name: g.masked_fill(~masks[name], 0) if name in masks else g for name, g in gradient.items()}
        if step == 0:
            norm = sum(float(g.double().square().sum()) for g in gradient.values())
        values = {name: w - rate * gradient[name] for name, w in values.items()}
    return losses, norm
