"""The registry of scorers: each is one function with one card, found by name.

A scorer of one's own is registered in a few lines and then works wherever a name does in the same process, in
`prune` and in the mask explorer among them:

    @pv.register(pv.Card(name="gradient", title="Gradient", effect="Keeps the largest gradients."))
    def gradient(problem, masks=None):
        _, grads = problem.gradient(problem.masked_weights(masks))
        return {name: g.abs() for name, g in grads.items()}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_choice
from pruneviz.masks import Masks
from pruneviz.problem import Problem

Scores = dict[str, Tensor]
Scorer = Callable[..., Scores]


@dataclass(frozen=True)
class Card:
    """What a reader must know of a method before trusting its masks; the book's method pages are made from it.

    Attributes:
        name: the name by which it is called.
        title: the name by which the field knows it.
        effect: what it keeps, in one sentence.
        equation: the score, in LaTeX, larger is kept first.
        source: paper, section and equation.
        citation: the key in the book's bibliography.
        cost: in gradient units (one forward and backward pass over the same batches).
        memory: what it holds beside the model.
        options: what each option means.
        disagreements: where published implementations differ from each other.
        deviations: where this one differs from the paper or its authors' code, and why.
        needs_data: whether it looks at the batches.
        schedule: the steps in which its authors prune with it; `prune` follows it unless told otherwise.
        revives: whether weights that an earlier step removed compete again; if not, they stay removed.
    """

    name: str
    title: str
    effect: str
    equation: str = ""
    source: str = ""
    citation: str = ""
    cost: str = ""
    memory: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    disagreements: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    needs_data: bool = True
    schedule: str = "one_shot"
    revives: bool = False


_REGISTRY: dict[str, tuple[Card, Scorer]] = {}


def register(card: Card) -> Callable[[Scorer], Scorer]:
    """Add a scorer under `card.name`; use as a decorator.

    The function takes `(problem, masks=None, **options)` and returns one tensor per prunable weight, larger
    is kept first. It must not change the model: `Problem` gives it everything as values.

    Raises:
        InputError: if the name is taken.
    """

    def add(scorer: Scorer) -> Scorer:
        if card.name in _REGISTRY:
            raise InputError(f"a scorer named {card.name!r} is registered already; choose another name")
        _REGISTRY[card.name] = (card, scorer)
        return scorer

    return add


def scorers() -> Mapping[str, Card]:
    """Every registered scorer: name to `Card`, in the order of registration."""
    return MappingProxyType({name: card for name, (card, _) in _REGISTRY.items()})


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """See that `name` is a scorer that takes these options.

    Raises:
        InputError: naming what is accepted.
    """
    _, scorer = _REGISTRY[check_choice("scorer", name, _REGISTRY)]
    accepted = [p for p in inspect.signature(scorer).parameters if p not in ("problem", "masks")]
    for option in options:
        if not accepted:
            raise InputError(f"scorer {name!r} takes no options; received {option!r}")
        check_choice(f"option of scorer {name!r}", option, accepted)


def score(name: str, problem: Problem, *, masks: Masks | None = None, **options: Any) -> Scores:
    """Score every prunable weight of a problem.

    Args:
        name: a registered scorer; see `scorers()`.
        problem: model, batches and loss. Parameters, buffers, `.grad`, modes, hooks and the random state stay
            byte for byte as they were, also when the forward pass raises.
        masks: the weights removed so far; the network is scored with them at zero.
        options: the scorer's own; see its card.

    Returns:
        One tensor per prunable weight, of its shape, dtype and device, in model order. Larger is kept first;
        the values are raw, never normalized.

    Raises:
        InputError: an unknown scorer or option, a mask that does not fit, a loss or score that is not finite.
    """
    check_options(name, options)
    if not isinstance(problem, Problem):
        raise InputError(f"problem is a {type(problem).__name__}; wrap it: pruneviz.Problem(model, batches)")
    with exact_arithmetic():
        result = _REGISTRY[name][1](problem, masks, **options)
    scores = {layer: result[layer].detach() for layer in problem.names}
    for layer, values in scores.items():
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputError(f"scorer {name!r} gave {bad} scores of {layer!r} that are not finite")
    return scores
