"""The Hessian of the loss in the weights that are kept, as a linear operator of curvlinops."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pruneviz.errors import InputError
from pruneviz.masks import Masks
from pruneviz.problem import Problem, Weights

_NO_DERIVATIVE = ("not implemented", "forward AD", "autograd.Function")


class MaskedLoss(nn.Module):
    """The loss of a piece as a module with the kept weights for parameters, as curvlinops wants it."""

    def __init__(self, problem: Problem, masks: Masks | None) -> None:
        super().__init__()
        self.problem = problem
        self.tick: Callable[[float], object] = lambda part: None
        self.whole = problem.masked_weights(masks)
        self.kept = {n: masks[n].to(w.device) for n, w in self.whole.items() if masks is not None and n in masks}
        parts = {n: w[self.kept[n]] if n in self.kept else w for n, w in self.whole.items()}
        self.names = [n for n, w in parts.items() if w.numel()]
        if not self.names:
            raise InputError("the masks keep no weight, so there is nothing to take a Hessian in")
        self.places = {n: mask.flatten().nonzero()[:, 0] for n, mask in self.kept.items()}
        self.weights = nn.ParameterList(nn.Parameter(parts[n]) for n in self.names)

    def forward(self, x: Mapping[str, Any]) -> Tensor:
        """What the piece `x["piece"]` adds to the problem's loss."""
        values: Weights = dict(self.whole)
        for name, w in zip(self.names, self.weights, strict=True):
            if name in self.kept:
                whole = values[name]
                w = whole.new_zeros(whole.numel()).index_copy(0, self.places[name], w).view_as(whole)
            values[name] = w
        self.tick(x["piece"].share / len(self.problem.batches))
        return self.problem.piece_loss(values, x["piece"])


class _Value(nn.Module):
    """The loss is computed by the network already; "sum" so that curvlinops weighs no batch."""

    reduction = "sum"

    def forward(self, loss: Tensor, y: Tensor) -> Tensor:
        """The loss itself; there is no target beside it."""
        return loss


@contextmanager
def second_derivatives() -> Iterator[None]:
    """What a model's operations say when they have no second derivative becomes one line."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        if not any(phrase in said for phrase in _NO_DERIVATIVE):
            raise
        raise InputError(f"the Hessian needs second derivatives, and the model prevents them: {said[:200]}") from error


def curvlinops() -> Any:
    """The library, silently, or what to install.

    Raises:
        ModuleNotFoundError: without the extra "hessian".
    """
    with warnings.catch_warnings():
        # Of what curvlinops imports, and of what torch loads with its first derivative in forward mode.
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        try:
            library = importlib.import_module("curvlinops")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"pruneviz.hessian_spectrum needs {error.name!r}: pip install 'pruneviz[hessian]'", name=error.name
            ) from error
        torch.func.jvp(torch.sin, (torch.zeros((), device="cpu"),), (torch.zeros((), device="cpu"),))
    return library


def operator(library: Any, network: MaskedLoss) -> Any:
    """H as curvlinops' operator on vectors of the kept weights; not checked for determinism, which `Problem` gives."""
    data = [({"piece": piece}, torch.zeros(1, device="cpu")) for piece in network.problem.pieces()]
    return library.HessianLinearOperator(
        network, _Value(), list(network.weights), data, check_deterministic=False, batch_size_fn=lambda _: 1
    )
