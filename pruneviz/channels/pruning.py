"""Scores of whole channels, and networks that are really smaller without the channels with the lowest ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruneviz.allocate import allocate
from pruneviz.arithmetic import exact_arithmetic
from pruneviz.channels.graph import ChannelGraph, tensors_of
from pruneviz.errors import InputError, check_choice, check_sparsity
from pruneviz.inputs import examples_in, inputs_of, part_of
from pruneviz.problem import Problem, Weights
from pruneviz.scorers import Scores, check_options
from pruneviz.scorers.prospr import Prospect, meta_gradient

SCORERS = ("prospr", "snip")
COVERS = ("weights", "channel")

#: Of the size of its terms: a sum that is smaller than this is made of rounding and of normalization's epsilon.
CANCELLED = 1e-4


@dataclass(frozen=True)
class ChannelPruning:
    """A network without some of its channels.

    Attributes:
        model: the smaller network, a copy on the same device and in the same mode; its other weights are untouched.
        kept: for each layer that could lose channels, by its weight's name, the channels it keeps, in order.
        scores: of all channels of these layers, shape (C_out,) each; coupled layers have the same.
        whole: the layers that could not, and why.
        channels_before: how many channels there were to choose from, coupled ones counted once.
        channels_after: how many of them are kept.
        parameters_before: of the whole network.
        parameters_after: of the smaller one.
        macs_before: multiplications with addition for one example, in convolutions and matrix products.
        macs_after: of the smaller network.
    """

    model: nn.Module
    kept: dict[str, Tensor]
    scores: Scores
    whole: dict[str, str]
    channels_before: int
    channels_after: int
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int


def channel_scores(problem: Problem, scorer: str = "prospr", *, covers: str = "weights", **options: Any) -> Scores:
    r"""How much the loss depends on each channel: the size of its mask's derivative, larger is kept first.

    $$ s_c = \Bigl|\frac{\partial L}{\partial m_c}\Bigr|_{m=1} = \Bigl|\sum_{j \in c} w_j a_j\Bigr| $$

    with one mask variable per channel (Alizadeh et al. 2022, structured pruning), `a` the derivative of the scorer's
    loss, and the sum, of signed terms, over all weights that compute the channel. Channels that are added to each
    other, or that a depthwise convolution passes on, share one variable. Layers that compute the output have none.

    Args:
        problem: model, batches and loss.
        scorer: "prospr": the loss after a few steps of training; "snip": the loss as it is.
        covers: what a mask variable multiplies: "weights", as in the paper, or "channel": the biases, scales and
            shifts of normalization as well, which is all that goes with the channel. A layer before batch
            normalization in training mode does not notice its scale, so that SNIP's sum over its weights is zero up
            to normalization's epsilon, which a warning says: take "channel" there.
        options: the scorer's own.

    Returns:
        For each layer that can lose channels, by its weight's name, a tensor of shape (C_out,).

    Raises:
        InputError: as the scorer; another scorer; or if no layer can lose channels.
        ModuleNotFoundError: without torch-pruning, which the extra "channels" installs.
    """
    with _no_traces(problem):
        graph = ChannelGraph(problem, _one_example(problem))
        return _by_layer(graph, _group_scores(problem, graph, scorer, covers, options), problem)


def prune_channels(
    problem: Problem, sparsity: float, scorer: str = "prospr", *, covers: str = "weights", **options: Any
) -> ChannelPruning:
    """A smaller network, without the channels with the lowest scores.

    Of N channels that can be taken out, coupled ones counted once, round((1 - sparsity) N) are kept: in one ranking
    of all layers those with the largest scores, but at least one of each layer. The model itself is left untouched.

    The smaller network computes what the whole one does with these channels at zero, which is checked on an example.
    Layers stay whole if their channels are the network's output or are normalized together (layer and group
    normalization), grouped convolutions, attention's projections, layers that share a weight, and layers coupled
    with one that is not prunable.

    Args:
        problem: model, batches and loss.
        sparsity: the fraction of channels removed, 0 <= sparsity < 1.
        scorer: as in `channel_scores`.
        covers: as in `channel_scores`.
        options: the scorer's own.

    Raises:
        InputError: as `channel_scores`; a sparsity at which some layer would lose all channels; or a network that
            torch-pruning misjudges, so that it would compute something else.
        ModuleNotFoundError: without torch-pruning, which the extra "channels" installs.
    """
    sparsity = check_sparsity(sparsity)
    with _no_traces(problem):
        inputs = _one_example(problem)
        graph = ChannelGraph(problem, inputs)
        scores = _group_scores(problem, graph, scorer, covers, options)
        channels = sum(group.size for group in graph.groups.values())
        if round((1.0 - sparsity) * channels) < len(graph.groups):
            raise InputError(
                f"sparsity {sparsity} keeps {round((1.0 - sparsity) * channels)} of {channels} channels in "
                f"{len(graph.groups)} groups of layers; accepted: one that keeps at least one channel of each"
            )
        masks = allocate(scores, sparsity, minimum=1)
        zeroed = _zeroed(problem, graph, masks)
        smaller = Problem(graph.without(masks), problem.batches[:1], problem.loss_function)
        _check(problem, zeroed, smaller, inputs)
        kept = {name: m.nonzero().flatten() for name, m in _by_layer(graph, masks, problem).items()}
        return ChannelPruning(
            smaller.model,
            kept,
            _by_layer(graph, scores, problem),
            graph.whole,
            channels,
            sum(int(mask.sum()) for mask in masks.values()),
            sum(p.numel() for p in problem.model.parameters()),
            sum(p.numel() for p in smaller.model.parameters()),
            _macs(problem, inputs),
            _macs(smaller, inputs),
        )


def _group_scores(
    problem: Problem, graph: ChannelGraph, scorer: str, covers: str, options: Mapping[str, Any]
) -> Scores:
    """One score per mask variable, by the name of the group."""
    check_choice("scorer of channels", scorer, SCORERS)
    check_choice("covers", covers, COVERS)
    check_options(scorer, options)
    if scorer == "prospr":
        beside = {part.parameter for group in graph.groups.values() for part in group.parts}
        start, slope = meta_gradient(problem, None, Prospect(**options), also=beside)
    else:
        start = problem.parameters
        slope = problem.gradient(start)[1]
    roles = ("weight",) if covers == "weights" else ("weight", "beside")
    scores, cancelled = {}, []
    for name, group in graph.groups.items():
        total, size = (torch.zeros(group.size, dtype=start[name].dtype, device=start[name].device) for _ in range(2))
        for part in group.parts:
            if part.role in roles:
                terms = (start[part.parameter] * slope[part.parameter]).movedim(part.dim, 0)
                terms, channels = terms.reshape(len(terms), -1), part.channels.to(total.device)
                total.index_add_(0, channels, terms.sum(1)[part.slices.to(total.device)])
                size.index_add_(0, channels, terms.abs().sum(1)[part.slices.to(total.device)])
        scores[name] = total.abs()
        if float(scores[name].max()) < CANCELLED * float(size.max()):
            cancelled.append(name)
    if cancelled:
        warnings.warn(
            f"the scores of channels in {', '.join(cancelled)} are sums that cancel, as before batch normalization; "
            "covers='channel' has its scale and shift in them",
            stacklevel=4,
        )
    return scores


def _by_layer(graph: ChannelGraph, values: Mapping[str, Tensor], problem: Problem) -> dict[str, Tensor]:
    """What is known of the groups' channels, for the channels of each layer."""
    layers = {}
    for name, group in graph.groups.items():
        for part in group.parts:
            if part.role == "weight":
                layers[part.parameter] = values[name][part.channels.to(values[name].device)][part.slices.argsort()]
    return {name: layers[name] for name in problem.names if name in layers}


def _zeroed(problem: Problem, graph: ChannelGraph, masks: Mapping[str, Tensor]) -> Weights:
    """The network's own parameters with all that computes, scales or reads a removed channel at zero."""
    values: Weights = {}
    for name, group in graph.groups.items():
        removed = ~masks[name].cpu()
        for part in group.parts:
            old = values.get(part.parameter, problem.parameters[part.parameter])
            gone = part.slices[removed[part.channels]].to(old.device)
            values[part.parameter] = old.index_fill(part.dim, gone, 0)
    return values


@torch.no_grad()
def _check(problem: Problem, zeroed: Weights, smaller: Problem, inputs: Any) -> None:
    """See that the smaller network computes what the whole one does without these channels."""
    advice = "accepted: a network that torch-pruning follows; leave layers out with the problem's `prunable`"
    expected = tensors_of(problem.output(zeroed, inputs, batchnorm="eval"))
    try:
        received = tensors_of(smaller.output({}, inputs, batchnorm="eval"))
    except RuntimeError as error:
        raise InputError(f"without some channels the network no longer runs ({error}); {advice}") from error
    for wanted, got in zip(expected, received, strict=True):
        error_ = float((wanted - got).abs().max()) if wanted.shape == got.shape else float("inf")
        if not error_ <= 1e-3 * float(wanted.abs().max()):
            raise InputError(f"without some channels the network computes something else, by {error_:.2g}; {advice}")


@torch.no_grad()
def _macs(problem: Problem, inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        problem.output({}, inputs, batchnorm="eval")
    return int(counter.get_total_flops()) // 2


def _one_example(problem: Problem) -> Any:
    """The first batch's first example, as the model takes it; the whole batch where nobody knows how to cut it."""
    batch = problem.batches[0]
    try:
        examples_in(batch, 0)
    except InputError:
        return inputs_of(problem.model, batch)
    return inputs_of(problem.model, part_of(batch, slice(0, 1)))


@contextmanager
def _no_traces(problem: Problem) -> Iterator[None]:
    with exact_arithmetic(), torch.random.fork_rng(devices=[problem.device] if problem.device.type == "cuda" else []):
        yield
