"""Inputs in the place of data, for scorers that look at none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pruneviz.errors import InputError
from pruneviz.inputs import Batch, inputs_of
from pruneviz.problem import Problem


def artificial_inputs(problem: Problem, batch: Batch, scorer: str, make: Callable[[Tensor], Tensor]) -> Any:
    """A batch's inputs, of the batch's own structure, with `make(tensor)` in the place of every tensor.

    What is no tensor stays as it is, and what the model does not take is left out, targets among it.

    Raises:
        InputError: an input that is not floating point, naming it: tokens and indices have no such substitute.
    """

    def replace(value: Any, where: str) -> Any:
        if isinstance(value, Mapping):
            return {key: replace(entry, f"{where}[{key!r}]") for key, entry in value.items()}
        if isinstance(value, tuple | list):
            return tuple(replace(entry, f"{where}[{place}]") for place, entry in enumerate(value))
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            raise InputError(
                f"scorer {scorer!r} puts numbers of its own in the place of the data, and {where} has dtype "
                f"{value.dtype}; accepted are floating-point inputs: give a model that takes embeddings, not tokens"
            )
        return make(value)

    return replace(inputs_of(problem.model, batch), "the input")
