"""The empirical neural tangent kernel and its spectrum, of a dense or masked network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_choice, check_number
from pruneviz.masks import Masks
from pruneviz.probes.jacobian import GIB, Jacobian, Part, jacobian
from pruneviz.probes.jacobian_blocks import fill
from pruneviz.problem import Problem

FORMS = ("full", "trace", "class")

_BLOCKS = 8  # of rows of the kernel: it is symmetric, and only those on and below the diagonal are computed


@dataclass(frozen=True, eq=False)
class NtkResult:
    """A neural tangent kernel.

    Attributes:
        kernel: (N C, N C) with rows (n, c), for outputs="full"; (N, N) for "trace"; (C, N, N) for "class". In the
            model's dtype, on its device.
        eigenvalues: descending along the last dimension, in float64; of each class for "class".
        trace: the squared Frobenius norm of the Jacobian, whatever the form of the kernel.
        condition_number: the largest over the smallest eigenvalue; infinite where the smallest is not above
            rounding, side * eps * the largest, with eps of the model's dtype.
        effective_rank: exp(entropy) of the eigenvalues as shares of their sum (Roy and Vetterli 2007).
        n: inputs, N.
        classes: outputs per input, C.
        outputs: the form, "full", "trace" or "class".
        parameters: "prunable" or "all": what was differentiated.
        weights: how many weights that is: those that are kept.
        by_output: parameters without a fast formula here, or in train mode all; exact too, one backward pass per row.
        seconds: wall time.
        peak_memory: bytes held at once, as planned; what is measured stays below.
    """

    kernel: Tensor
    eigenvalues: Tensor
    trace: float
    condition_number: Tensor
    effective_rank: Tensor
    n: int
    classes: int
    outputs: str
    parameters: str
    weights: int
    by_output: tuple[str, ...]
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Plan:
    """How a budget is spent: columns in each pass, examples at once, bytes in all."""

    width: int
    at_once: int
    peak: int


def ntk(
    problem: Problem,
    masks: Masks | None = None,
    *,
    parameters: str = "prunable",
    outputs: str = "full",
    memory: float = 8.0,
    progress: bool = True,
) -> NtkResult:
    r"""The kernel of the problem's inputs, summed over the weights that are kept.

    $$ \Theta_{(n,c),(m,d)} = \sum_{j\,:\,m_j = 1} \frac{\partial f_c(x_n)}{\partial w_j}
       \frac{\partial f_d(x_m)}{\partial w_j} $$

    (Jacot et al. 2018; of masked networks: Liu and Zenke 2020), over the inputs of all batches in order.
    The loss and the labels play no part. The columns of removed weights are never formed; those that are kept are
    formed, multiplied and forgotten in as few passes as the budget allows.

    Where inputs are independent of each other, the cost is one forward and C backward passes, a product for each
    layer, and N^2 C^2 multiplications per weight. With batch statistics (`batchnorm="train"`) an output depends
    on its whole batch, and the cost is N C backward passes of a batch.

    Args:
        problem: model, batches and batch normalization mode; left untouched.
        masks: the weights removed; None for the dense network.
        parameters: "prunable" weights, or "all" parameters (removed weights are never among them).
        outputs: "full"; "trace": summed over pairs of equal outputs; "class": each pair of equal outputs apart.
        memory: budget in GiB for all that is held at once, the model and its batches excluded.
        progress: whether to show a bar on stderr, if that is a terminal.

    Returns:
        An `NtkResult`. Everything is computed in the model's dtype, except the spectrum. In float32 a kernel is right
        to about 1e-5 of its largest entry, as its derivatives are, and to 1e-3 for an input of which some unit is
        within rounding of a ReLU's kink: smaller eigenvalues, and the condition number, need a model in float64.

    Raises:
        InputError: a budget that is too small, saying which would do; a mask that does not fit; outputs that are not
            (N, C); derivatives that are not finite, naming the layer.
    """
    check_choice("outputs", outputs, FORMS)
    budget = check_number("memory", memory, above=0) * GIB
    start = time.perf_counter()
    with exact_arithmetic():
        view = jacobian(problem, masks, parameters)
        plan = _plan(view, outputs, budget)
        with torch.no_grad():
            kernel = _kernel(view, plan, outputs, progress)
            if not math.isfinite(torch.diagonal(kernel, dim1=-2, dim2=-1).sum()):
                raise InputError(f"the kernel's entries are too large for {kernel.dtype}; accepted: a model in float64")
            eigenvalues = torch.stack([_spectrum(block) for block in kernel.view(-1, *kernel.shape[-2:])])
        eigenvalues = eigenvalues if outputs == "class" else eigenvalues[0]
    largest, smallest = eigenvalues[..., 0], eigenvalues[..., -1]
    rounding = eigenvalues.shape[-1] * torch.finfo(kernel.dtype).eps * largest
    shares = eigenvalues.clamp(min=0) / eigenvalues.clamp(min=0).sum(-1, keepdim=True)
    return NtkResult(
        kernel=kernel,
        eigenvalues=eigenvalues,
        trace=float(torch.diagonal(kernel, dim1=-2, dim2=-1).double().sum()),
        condition_number=torch.where(smallest > rounding, largest / smallest, math.inf),
        effective_rank=torch.special.entr(shares).sum(-1).exp(),
        n=view.examples,
        classes=view.outputs,
        outputs=outputs,
        parameters=parameters,
        weights=view.width,
        by_output=tuple(part.name for part in view.parts if part.name not in view.layers),
        seconds=time.perf_counter() - start,
        peak_memory=plan.peak,
    )


def _plan(view: Jacobian, outputs: str, budget: float) -> Plan:
    """Width and number of examples that keep within the budget.

    Raises:
        InputError: if nothing does, with what would.
    """
    size = view.size
    side = view.examples * (view.outputs if outputs == "full" else 1)
    kernel = side**2 * size * (view.outputs if outputs == "class" else 1)
    # One copy that is destroyed, one in float64, and LAPACK's workspace.
    spectrum = side**2 * (8 if size == 8 else 16) + 8 * 64 * side
    fixed = kernel + view.fixed
    column = view.examples * view.outputs * size
    least, at_once = 1 if view.independent else view.at_once, view.at_once
    if view.independent:  # at most half of what is free for what examples hold
        at_once = max(1, min(at_once, int((budget - fixed) / 2 / view.per_example)))
    running = at_once * view.per_example
    width = min(view.width, int((budget - fixed - running) / column))
    if width < 1 or kernel + spectrum > budget:
        needed = max(fixed + least * view.per_example + column * 64, kernel + spectrum)
        smaller = "" if outputs != "full" else ", outputs='trace'"
        raise InputError(
            f"the {outputs} kernel of {view.examples} inputs and {view.outputs} outputs does not fit into "
            f"memory={budget / GIB:g}: give memory={math.ceil(needed / GIB * 1000) / 1000:g} (GiB) or more, fewer "
            f"inputs{smaller}, or use ntk_top, which needs no kernel"
        )
    passes = math.ceil(view.width / width)
    width = math.ceil(view.width / passes)
    return Plan(width, at_once, max(fixed + running + column * width, kernel + spectrum))


def _kernel(view: Jacobian, plan: Plan, outputs: str, progress: bool) -> Tensor:
    n, c = view.examples, view.outputs
    shapes = {"full": (n * c, n * c), "trace": (n, n), "class": (c, n, n)}
    kernel = torch.zeros(shapes[outputs], dtype=view.dtype, device=view.problem.device)
    groups = list(_groups(view.parts, plan.width))
    block = torch.empty(n * c * plan.width, dtype=kernel.dtype, device=kernel.device)
    with tqdm(total=2 * n * len(groups), desc="NTK", unit=" inputs", disable=None if progress else True) as bar:
        for parts in groups:
            width = sum(len(part.entries) for part in parts)
            j = block[: n * c * width].view(n, c, width)
            with torch.enable_grad():
                fill(view, parts, j, plan.at_once, bar.update)
            if outputs == "full":
                _add_product(kernel, j.flatten(0, 1))
            for k in range(c if outputs != "full" else 0):
                _add_product(kernel[k] if outputs == "class" else kernel, j[:, k])
            bar.update(n)
    for square in kernel.view(-1, *kernel.shape[-2:]):
        for rows in _row_blocks(len(square)):
            square[: rows.start, rows] = square[rows, : rows.start].T
    return kernel


def _groups(parts: Sequence[Part], width: int) -> Iterator[list[Part]]:
    """The columns in runs of at most `width`, in order."""
    group: list[Part] = []
    free = width
    for part in parts:
        first = 0
        while first < len(part.entries):
            taken = part.entries[first : first + free]
            group.append(Part(part.name, taken))
            first, free = first + len(taken), free - len(taken)
            if not free:
                yield group
                group, free = [], width
    if group:
        yield group


def _row_blocks(side: int) -> list[slice]:
    size = math.ceil(side / _BLOCKS)
    return [slice(first, min(first + size, side)) for first in range(0, side, size)]


def _add_product(kernel: Tensor, j: Tensor) -> None:
    """Add J J^T on and below the blocks of the diagonal."""
    for rows in _row_blocks(len(j)):
        kernel[rows, : rows.stop].addmm_(j[rows], j[: rows.stop].T)


def _spectrum(kernel: Tensor) -> Tensor:
    ascending: Tensor = torch.linalg.eigvalsh(kernel.double())
    return ascending.flip(-1)
