"""Singular values of the derivatives of each example's outputs with respect to its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import InputError
from pruneviz.inputs import examples_in, inputs_of, part_of
from pruneviz.probes.paths import tensors_in
from pruneviz.problem import Problem, Weights


@dataclass(frozen=True)
class JacobianSpectrum:
    """Singular values of the derivatives of each example's outputs with respect to its inputs.

    Attributes:
        values: (N, min(C, D)) for N examples with C outputs and D inputs, falling in each row; float64, on the CPU.
        mean: of all of them.
        std: of all of them, around that mean.
        largest: of all of them.
        smallest: likewise.
    """

    values: Tensor
    mean: float
    std: float
    largest: float
    smallest: float


def jacobian_spectrum(problem: Problem, values: Weights, examples: int | None, budget: int) -> JacobianSpectrum:
    """The Jacobians of the problem's examples, or of the first so many, in parts of at most `budget` bytes.

    Raises:
        InputError: inputs or outputs that have no Jacobian per example, or one larger than the budget.
    """
    found: list[Tensor] = []
    for index, inputs in _examples(problem, examples):
        n, start, size = _count(inputs, index), 0, 1
        _check_independent(problem, values, inputs, index)
        while start < n:
            few = part_of(inputs, slice(start, start + size))
            rows = _rows(problem, values, few, index, budget)
            found.append(torch.linalg.svdvals(rows).cpu())
            start += size
            size = max(1, budget // (8 * rows[0].numel()))
    all_values = torch.cat(found)
    return JacobianSpectrum(
        values=all_values,
        mean=float(all_values.mean()),
        std=float(all_values.std(correction=0)),
        largest=float(all_values.max()),
        smallest=float(all_values.min()),
    )


def _examples(problem: Problem, wanted: int | None) -> Iterator[tuple[int, Any]]:
    """The inputs of the problem's pieces, up to so many examples."""
    left = wanted
    for piece in problem.pieces():
        inputs = inputs_of(problem.model, piece.batch)
        if left is not None:
            n = _count(inputs, piece.index)
            inputs, left = part_of(inputs, slice(0, left)), left - min(n, left)
        yield piece.index, inputs
        if left == 0:
            return


def _count(inputs: Any, index: int) -> int:
    try:
        return examples_in(inputs, index)
    except InputError as error:
        so = "so that no example has a Jacobian of its own; accepted: parts without 'jacobian'"
        raise InputError(f"the inputs of batch {index} differ in length, {so}") from error


def _outputs(problem: Problem, values: Weights, inputs: Any) -> Tensor:
    f = problem.output(values, inputs, batchnorm="eval")
    if not isinstance(f, Tensor) or not f.is_floating_point() or f.dim() == 0:
        raise InputError(
            f"the model's output is a {type(f).__name__}; a Jacobian needs one tensor, (N, ...), of numbers"
        )
    return f.flatten(1) if f.dim() > 1 else f[:, None]


def _check_independent(problem: Problem, values: Weights, inputs: Any, index: int) -> None:
    """Run the first example alone and beside the second one: its outputs must be the same, up to rounding."""
    so = "so that no example has a Jacobian of its own; accepted: parts without 'jacobian'"
    for name, module in problem.model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise InputError(f"batch normalization {name!r} has no running statistics, {so}")
    with torch.no_grad():
        pair, alone = (_outputs(problem, values, part_of(inputs, slice(0, n))) for n in (2, 1))
    if not bool(torch.isfinite(pair).all()):
        raise InputError(f"the outputs are not finite in batch {index}; a Jacobian needs finite ones")
    off = float((pair[:1] - alone).abs().max()) if pair.shape[1:] == alone.shape[1:] else math.inf
    if off > torch.finfo(alone.dtype).eps ** 0.5 * float(pair.abs().max()):
        raise InputError(f"outputs of batch {index} change by {off:.2g} with the example beside it, {so}")


def _rows(problem: Problem, values: Weights, inputs: Any, index: int, budget: int) -> Tensor:
    """The Jacobians of some examples, (n, C, D), in float64: one gradient for each output."""
    inputs = _leaves(inputs)
    leaves = [t for t in tensors_in(inputs) if t.requires_grad]
    if not leaves:
        raise InputError(
            f"batch {index} has no inputs of floating point to differentiate by; accepted: parts without 'jacobian'"
        )
    f = _outputs(problem, values, inputs)
    needed = 8 * f.shape[1] * sum(t[0].numel() for t in leaves)
    if needed > budget:
        raise InputError(f"budget {budget} is less than the Jacobian of one example needs; accepted: at least {needed}")
    rows = []
    for c in range(f.shape[1]):
        more = c + 1 < f.shape[1]
        grads = torch.autograd.grad(f[:, c].sum(), leaves, retain_graph=more, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten(1) for g in grads], 1).double())
    jacobians = torch.stack(rows, 1)
    if not bool(torch.isfinite(jacobians).all()):
        raise InputError(f"derivatives of the outputs with respect to the inputs are not finite in batch {index}")
    return jacobians


def _leaves(inputs: Any) -> Any:
    """Inputs of the same structure, of which derivatives can be taken; integers stay as they are."""
    if isinstance(inputs, Tensor):
        return inputs.detach().requires_grad_() if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {key: _leaves(value) for key, value in inputs.items()}
    return tuple(map(_leaves, inputs)) if isinstance(inputs, tuple | list) else inputs
