"""What GraSP preserves, in the kernel's terms: how labels and residuals lie along its eigenvectors.

The gradient is g = J^T r with r the derivative of the loss with respect to the outputs, so that |g|^2 = r^T K r is
a sum over the kernel's eigenvectors: how much of r lies along each, times its eigenvalue. That is also how fast the
loss falls (Wang et al. 2020, where GraSP is explained by linearized training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError
from pruneviz.inputs import inputs_of, target_of
from pruneviz.masks import Masks
from pruneviz.probes.ntk import NtkResult
from pruneviz.probes.ntk_top import NtkTop
from pruneviz.problem import Problem, Weights, finite_loss


@dataclass(frozen=True, eq=False)
class NtkProjection:
    """A vector of the outputs' space along a kernel's eigenvectors.

    Attributes:
        eigenvalues: descending, (k,), float64.
        energy: the squared length along each eigenvector as a share of the whole, (k,); for a kernel of outputs="trace"
            summed over outputs.
        norm_squared: the squared length of the vector.
        form: r^T K r for the vector r: the sum of eigenvalue times energy, times norm_squared. From the k largest
            eigenpairs alone it is a lower bound.
    """

    eigenvalues: Tensor
    energy: Tensor
    norm_squared: float
    form: float

    @property
    def remainder(self) -> float:
        """The share that is along none of these eigenvectors."""
        return max(0.0, 1.0 - float(self.energy.sum()))


def one_hot_labels(problem: Problem, classes: int, *, centered: bool = False) -> Tensor:
    """The labels of all batches as (N, C) zeros and ones, float64.

    Args:
        problem: with integer labels, one per input.
        classes: C.
        centered: subtract the mean over inputs, so that an eigenvector that is constant sees nothing.

    Raises:
        InputError: labels that are no whole numbers from 0 to C - 1.
    """
    labels = []
    for index, batch in enumerate(problem.batches):
        y = target_of(batch)
        if not isinstance(y, Tensor) or y.is_floating_point() or y.dim() != 1:
            received = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"the labels of batch {index} are {received}; whole numbers are needed, one per input")
        if int(y.min()) < 0 or int(y.max()) >= classes:
            received = f"labels from {int(y.min())} to {int(y.max())}"
            raise InputError(f"batch {index} has {received}; accepted: 0 to {classes - 1}")
        labels.append(y.long())
    hot = torch.nn.functional.one_hot(torch.cat(labels), classes).double()
    return hot - hot.mean(0) if centered else hot


def loss_residual(problem: Problem, masks: Masks | None = None) -> Tensor:
    """The derivative of the loss with respect to the outputs of all inputs, r = dL/df, (N, C).

    For cross entropy (softmax - one hot) / batch size. The gradient with respect to the weights is J^T r.

    Args:
        problem: model, batches and loss.
        masks: the weights removed; None for the dense network.

    Raises:
        InputError: a mask that does not fit, or a loss that is not finite.
    """
    with exact_arithmetic():
        return residual_of(problem, outputs_of(problem, problem.masked_weights(masks)))[1]


def ntk_projection(spectrum: NtkResult | NtkTop, target: Tensor) -> NtkProjection:
    """How much of a vector, such as the labels or the residual, lies along each eigenvector of a kernel.

    Args:
        spectrum: of `ntk` with outputs "full" or "trace", whose eigenvectors are computed here; or of `ntk_top`.
        target: (N, C).

    Raises:
        InputError: a target of another shape or a kernel for each class apart.
    """
    target = as_columns(spectrum, target)
    if isinstance(spectrum, NtkTop):
        values, vectors = spectrum.eigenvalues, spectrum.eigenvectors
    else:
        values, vectors = _eigenpairs(spectrum.kernel.double())
    squares = (vectors.T @ target).square().sum(1)
    total = float(target.square().sum())
    return NtkProjection(values, squares / total, total, float(values @ squares))


def kernel_alignment(result: NtkResult, target: Tensor, *, centered: bool = False) -> float:
    r"""The cosine of the angle between the kernel and the target's own, between -1 and 1.

    $$ \frac{\langle K, Y Y^\top\rangle_F}{\|K\|_F\,\|Y Y^\top\|_F} $$

    (Cristianini et al. 2001), with Y the target as a vector for outputs="full", and as (N, C) for
    "trace".

    Args:
        result: of `ntk` with outputs "full" or "trace".
        target: (N, C), such as labels or the residual.
        centered: center the kernel and the target over inputs first (Cortes et al. 2012).

    Raises:
        InputError: as `ntk_projection`.
    """
    y = as_columns(result, target)
    kernel = result.kernel.double()
    if centered:
        side, inputs = len(kernel), result.n
        kernel, y = (t.unflatten(0, (inputs, -1)) for t in (kernel, y))
        kernel, y = ((t - t.mean(0)).flatten(0, 1) for t in (kernel, y))
        kernel = kernel.unflatten(1, (inputs, -1))
        kernel = (kernel - kernel.mean(1, keepdim=True)).reshape(side, side)
    return float((y * (kernel @ y)).sum() / (kernel.norm() * (y.T @ y).norm()))


def outputs_of(problem: Problem, values: Weights) -> list[Tensor]:
    """The outputs of each piece of the problem's batches, (n, C), without a graph.

    Raises:
        InputError: for outputs of another form.
    """
    with torch.no_grad():
        found = [problem.output(values, inputs_of(problem.model, piece.batch)) for piece in problem.pieces()]
    for f in found:
        if not isinstance(f, Tensor) or f.dim() != 2:
            received = f"of shape {tuple(f.shape)}" if isinstance(f, Tensor) else f"a {type(f).__name__}"
            raise InputError(f"the model's output is {received}; (N, C), C numbers per input, is needed")
    return found


def residual_of(problem: Problem, outputs: Sequence[Tensor]) -> tuple[float, Tensor]:
    """The loss as a function of the outputs, one tensor per piece, and its derivative, (N, C).

    Raises:
        InputError: if it is not finite.
    """
    total, derivatives = 0.0, []
    for piece, f in zip(problem.pieces(), outputs, strict=True):
        leaf = f.detach().requires_grad_()
        loss = piece.share * finite_loss(problem.loss_function(leaf, target_of(piece.batch)), piece.index)
        derivatives.append(torch.autograd.grad(loss, leaf)[0])
        total += float(loss.detach())
    return total, torch.cat(derivatives)


def _eigenpairs(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and eigenvectors, of a positive semidefinite matrix."""
    # LAPACK gives up on some kernels of which most entries are exactly zero.
    try:
        values, vectors = torch.linalg.eigh(kernel)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        vectors, values, _ = torch.linalg.svd(kernel)
        return values, vectors
    return values.flip(0), vectors.flip(1)


def as_columns(spectrum: NtkResult | NtkTop, target: Tensor) -> Tensor:
    """A target of the outputs, (N, C), as columns that the kernel acts on, float64.

    Raises:
        InputError: a target of another shape, or a kernel for each class apart.
    """
    form = "full" if isinstance(spectrum, NtkTop) else spectrum.outputs
    if form == "class":
        raise InputError("a kernel with outputs='class' has no common eigenvectors; accepted: 'full' and 'trace'")
    if target.shape != (spectrum.n, spectrum.classes):
        raise InputError(
            f"the target has shape {tuple(target.shape)}; the kernel is of {spectrum.n} inputs and "
            f"{spectrum.classes} outputs: ({spectrum.n}, {spectrum.classes})"
        )
    target = target.double()
    return target if form == "trace" else target.reshape(-1, 1)
