"""What a Jacobian is of: rows (n, c) for the outputs, one column per weight that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruneviz.errors import InputError, check_choice
from pruneviz.inputs import examples_in, inputs_of, part_of
from pruneviz.masks import Masks
from pruneviz.probes.layer_columns import Entries, Layer, scratch
from pruneviz.probes.survey import laid_out, survey
from pruneviz.problem import Problem, Weights

GIB = 2**30
PARAMETERS = ("prunable", "all")


@dataclass(frozen=True)
class Part:
    """Some entries of one parameter: a run of columns."""

    name: str
    entries: Entries

    def of(self, tensor: Tensor) -> Tensor:
        """These entries of a tensor of the parameter's shape, (width,)."""
        own = self.entries
        return tensor.flatten()[slice(own.start, own.stop) if isinstance(own, range) else own]

    def into(self, values: Tensor, shape: torch.Size) -> Tensor:
        """A tensor of the parameter's shape with these entries, and 0 elsewhere."""
        own, whole = self.entries, values.new_zeros(shape)
        whole.view(-1)[slice(own.start, own.stop) if isinstance(own, range) else own] = values
        return whole


@dataclass(frozen=True)
class Rows:
    """Examples that are evaluated at once: a run of rows.

    Attributes:
        inputs: what the model is called with.
        start: the first example's place among all.
        count: of examples.
        batch: the index of the problem's batch that they come from.
    """

    inputs: Any
    start: int
    count: int
    batch: int


@dataclass(frozen=True)
class Jacobian:
    """What is differentiated with respect to what.

    Attributes:
        problem: whose outputs f, (N, C), are differentiated.
        values: the parameters, removed weights at zero.
        parts: the columns: of every parameter the entries that are kept.
        rows: the examples, N in all.
        examples: N.
        outputs: C.
        layers: the parameters whose columns are formed layer by layer; all others are differentiated output by
            output, which is exact as well, and slower.
        independent: whether an example's outputs depend on that example alone.
        channels_last: whether images are handed over with their channels last, which is faster on a CPU.
        numbers: numbers that are held per example while columns are formed, at most.
    """

    problem: Problem
    values: Weights
    parts: tuple[Part, ...]
    rows: tuple[Rows, ...]
    examples: int
    outputs: int
    layers: Mapping[str, Layer]
    independent: bool
    channels_last: bool
    numbers: int

    @property
    def width(self) -> int:
        """How many columns there are: the weights that are kept."""
        return sum(len(part.entries) for part in self.parts)

    @property
    def dtype(self) -> torch.dtype:
        """Of its entries."""
        return self.values[self.parts[0].name].dtype

    @property
    def size(self) -> int:
        """Bytes per entry."""
        return self.dtype.itemsize

    @property
    def per_example(self) -> int:
        """Bytes held per example while columns are formed, at most."""
        return self.numbers * self.size

    @property
    def fixed(self) -> int:
        """Bytes held all the time: masked copies of weights, and which of their entries are kept."""
        kept = sum(8 * len(part.entries) for part in self.parts if isinstance(part.entries, Tensor))
        return kept + 2 * self.size * sum(w.numel() for w in self.values.values())

    @property
    def at_once(self) -> int:
        """Examples in one pass that forms columns: more would leave a CPU's caches, fewer would leave a GPU idle."""
        most = max(rows.count for rows in self.rows)
        return min(most, 16 if self.problem.device.type == "cpu" else 128) if self.independent else most

    def leaves(self, parts: Sequence[Part]) -> Weights:
        """All values, of which those of the parts require grad."""
        wanted = {part.name for part in parts}
        return {name: value.detach().requires_grad_(name in wanted) for name, value in self.values.items()}

    def cut(self, at_once: int) -> Iterator[Rows]:
        """The rows, at most `at_once` examples at a time; as they are if examples depend on each other."""
        for rows in self.rows:
            yield from few(rows, at_once) if self.independent else [rows]

    def output(self, values: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The outputs of these rows, (count, C).

        Raises:
            InputError: if it has another shape.
        """
        f: Tensor = self.problem.output(values, laid_out(rows.inputs, self.channels_last))
        if f.shape != (rows.count, self.outputs):
            raise InputError(
                f"the model's output for {rows.count} examples of batch {rows.batch} has shape {tuple(f.shape)}; "
                f"({rows.count}, {self.outputs}) was expected after the first examples"
            )
        return f


def jacobian(problem: Problem, masks: Masks | None = None, parameters: str = "prunable") -> Jacobian:
    """See what there is to differentiate, and how.

    Args:
        problem: model, batches and batch normalization mode.
        masks: the weights removed: they are zero, and no columns.
        parameters: "prunable", or "all" for biases and normalizations as well.

    Raises:
        InputError: a mask that does not fit, masks that keep nothing, or an output that is not (N, C).
    """
    check_choice("parameters", parameters, PARAMETERS)
    values = problem.masked_weights(masks)
    if parameters == "all":
        values = {**problem.parameters, **values}
    parts = tuple(part for name, w in values.items() if len((part := _kept(name, w, masks)).entries))
    if not parts:
        raise InputError("the masks keep no weight, so there is nothing to differentiate with respect to")
    rows, can_be_cut = _rows(problem, values)
    found = survey(problem, values, max(rows, key=lambda r: r.count).inputs, can_be_cut)
    sizes = {part.name: len(part.entries) for part in parts}
    layers = {name: layer for name, layer in found.layers.items() if name in sizes}
    held = found.numbers + max((scratch(layer, found.outputs, sizes[n]) for n, layer in layers.items()), default=0)
    return Jacobian(
        problem=problem,
        values=values,
        parts=parts,
        rows=rows,
        examples=sum(r.count for r in rows),
        outputs=found.outputs,
        layers=layers,
        independent=found.independent,
        channels_last=found.channels_last,
        numbers=held,
    )


def _kept(name: str, value: Tensor, masks: Masks | None) -> Part:
    if masks is None or name not in masks or bool(masks[name].all()):
        return Part(name, range(value.numel()))
    return Part(name, masks[name].flatten().nonzero()[:, 0].to(value.device))


def _rows(problem: Problem, values: Weights) -> tuple[tuple[Rows, ...], bool]:
    """The problem's pieces as runs of rows, and whether they can be cut further."""
    rows: list[Rows] = []
    start, can_be_cut = 0, True
    for piece in problem.pieces():
        inputs = inputs_of(problem.model, piece.batch)
        try:
            count = examples_in(inputs, piece.index)
        except InputError:  # one input for all examples, such as an attention mask: the outputs say how many there are
            f = problem.output(values, inputs)
            can_be_cut, count = False, len(f) if isinstance(f, Tensor) and f.dim() else 0
        rows.append(Rows(inputs, start, count, piece.index))
        start += count
    return tuple(rows), can_be_cut


def few(rows: Rows, at_once: int) -> Iterator[Rows]:
    """The rows, at most `at_once` examples at a time."""
    for first in range(0, rows.count, at_once):
        count = min(at_once, rows.count - first)
        yield Rows(part_of(rows.inputs, slice(first, first + count)), rows.start + first, count, rows.batch)
