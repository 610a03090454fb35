"""The registry of scorers: each is one function with one card, found by name.

A scorer of one's own is registered in a few lines, and then works wherever a name does: in `prune`, in cells, in the
mask explorer.

    @pv.register(pv.Card(name="gradient", title="Gradient", effect="Keeps the largest gradients."))
    def gradient(problem, masks=None, *, power=1.0):
        _, gradients = problem.gradient(problem.masked_weights(masks))
        return {name: g.abs() ** power for name, g in gradients.items()}

It is known to the process that ran these lines. Other processes run them too when they are in a module, which
`pruneviz sweep --import mine.py`, the key `import` of a grid or `import_scorers` names, or which an installed package
announces, for every process of its environment:

    [project.entry-points."pruneviz.scorers"]
    mine = "mine"
"""

from __future__ import annotations

import hashlib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_choice
from pruneviz.masks import Masks
from pruneviz.problem import Problem
from pruneviz.schedule import parse

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


@dataclass(frozen=True)
class Source:
    """Which code a scorer from outside the library is, as a record of its results says it.

    Attributes:
        module: the module in which the function is written.
        sha256: of that module's file as it was when the scorer was registered; None where there is no file, as in
            a notebook. What the file imports in turn is not part of it.
    """

    module: str
    sha256: str | None


GROUP = "pruneviz.scorers"
#: What stands where a scorer does in an experiment and is none: no pruning, and `pruneviz.baselines`.
RESERVED = ("dense", "magnitude_after_training", "obd", "lottery", "set", "rigl", "dsr")
_REGISTRY: dict[str, tuple[Card, Scorer, Source | None]] = {}
_PLUGINS: list[str] | None = None


def register(card: Card) -> Callable[[Scorer], Scorer]:
    """Add a scorer under `card.name`; use as a decorator.

    The function takes `(problem, masks=None, **options)` and returns one tensor per prunable weight, larger
    is kept first. It must not change the model: `Problem` gives it everything as values. An option named `seed` gets
    the seed of the experiment.

    Raises:
        InputError: if the name is taken or is none, the schedule is not known, or the function cannot be called as
            `scorer(problem, masks)`.
    """
    if not isinstance(card, Card):
        raise InputError(f"register takes a card, received a {type(card).__name__}: @register(Card(name=..., ...))")
    # Others than identifiers would be no option on a command line, or no file name.
    if not isinstance(card.name, str) or not card.name.isidentifier() or card.name in RESERVED:
        taken = ", ".join(map(repr, RESERVED))
        raise InputError(f"a scorer cannot be named {card.name!r}; accepted are letters, digits and _, but not {taken}")
    parse(card.schedule)

    def add(scorer: Scorer) -> Scorer:
        if card.name in _REGISTRY:
            raise InputError(f"a scorer named {card.name!r} is registered already; choose another name")
        try:
            inspect.signature(scorer).bind(problem=None, masks=None)
        except TypeError as error:
            raise InputError(f"scorer {card.name!r} cannot be called as scorer(problem, masks): {error}") from error
        _REGISTRY[card.name] = (card, scorer, _written_in(scorer))
        return scorer

    return add


def scorers() -> Mapping[str, Card]:
    """Every scorer, those of installed plug-ins included: name to `Card`, in the order of registration."""
    _load_plugins()
    return MappingProxyType({name: entry[0] for name, entry in _REGISTRY.items()})


def source_of(name: str) -> Source | None:
    """Where a scorer comes from; None for the library's own.

    Raises:
        InputError: an unknown scorer.
    """
    return _REGISTRY[check_choice("scorer", name, scorers())][2]


def option_names(name: str) -> tuple[str, ...]:
    """The options that a scorer takes.

    Raises:
        InputError: an unknown scorer.
    """
    scorer = _REGISTRY[check_choice("scorer", name, scorers())][1]
    return tuple(p for p in inspect.signature(scorer).parameters if p not in ("problem", "masks"))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """See that `name` is a scorer that takes these options.

    Raises:
        InputError: naming what is accepted.
    """
    accepted = option_names(name)
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
        One floating-point tensor per prunable weight, of its shape and, unless the scorer says otherwise, its dtype
        and device, in model order. Larger is kept first; the values are raw, never normalized.

    Raises:
        InputError: an unknown scorer or option, a mask that does not fit, a loss or score that is not finite, a
            scorer that does not return what it should.
    """
    check_options(name, options)
    check_problem(problem)
    with exact_arithmetic():
        result = _REGISTRY[name][1](problem, masks, **options)
    scores = _checked(name, result, problem)
    extremes = [float(end) for values in scores.values() if values.numel() for end in torch.aminmax(values)]
    if not all(map(math.isfinite, extremes)):
        layer, bad = next((n, count) for n, values in scores.items() if (count := int((~values.isfinite()).sum())))
        cause = _cause(problem, masks, layer)
        raise InputError(f"scorer {name!r} gave {bad} scores of {layer!r} that are not finite{cause}")
    if not any(extremes):
        warnings.warn(
            f"scorer {name!r} gives every weight the score 0, so that masks follow the order of the weights alone; a "
            "last layer that starts at zero does this",
            stacklevel=2,
        )
    return scores


def check_problem(problem: object) -> None:
    """See that what is to be scored is a problem.

    Raises:
        InputError: anything else, such as a model.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"problem is a {type(problem).__name__}; wrap it: pruneviz.Problem(model, batches)")


def _cause(problem: Problem, masks: Masks | None, layer: str) -> str:
    """Where a score that is not finite comes from, as far as the weights and the gradient of each batch tell."""
    weights = problem.masked_weights(masks)
    broken = [name for name, w in weights.items() if not bool(w.isfinite().all())]
    if broken:
        return f": the weights of {broken[0]!r} are not finite"
    for index, batch in enumerate(problem.batches):
        _, gradient = problem.gradient(weights, batches=[batch])
        if not bool(gradient[layer].isfinite().all()):
            return f": the gradient of batch {index} is not finite there"
    return ""


def snapshot() -> dict[str, Any]:
    """The registry as it is now, for `restore`."""
    return dict(_REGISTRY)


def restore(content: Mapping[str, Any]) -> None:
    """Forget every scorer that was registered since a `snapshot`."""
    for name in _REGISTRY.keys() - content.keys():
        del _REGISTRY[name]


def _checked(name: str, result: Any, problem: Problem) -> Scores:
    """What a scorer returned, detached and in model order, if it has a score for every weight."""
    if not isinstance(result, Mapping):
        raise InputError(
            f"scorer {name!r} returned a {type(result).__name__}; a mapping of parameter names to tensors is needed"
        )
    for layer in problem.names:
        w, given = problem.model.get_parameter(layer), result.get(layer)
        if not isinstance(given, Tensor):
            what = "no scores" if given is None else f"a {type(given).__name__}"
            raise InputError(f"scorer {name!r} returned {what} for {layer!r}; a tensor is needed")
        if given.shape != w.shape:
            shapes = f"{tuple(given.shape)} for {layer!r}; needed is {tuple(w.shape)}"
            raise InputError(f"scorer {name!r} returned scores of shape {shapes}")
        if given.dtype == torch.bool or given.is_complex():
            raise InputError(f"scorer {name!r} returned {given.dtype} for {layer!r}; needed are real numbers")
    scores = {layer: result[layer].detach() for layer in problem.names}
    return {layer: s if s.is_floating_point() else s.double() for layer, s in scores.items()}


def _written_in(scorer: Scorer) -> Source | None:
    module = str(getattr(scorer, "__module__", None) or type(scorer).__module__)
    if module.partition(".")[0] == __name__.partition(".")[0]:
        return None
    try:
        content = Path(inspect.getsourcefile(inspect.unwrap(scorer)) or "").read_bytes()
    except (OSError, TypeError):
        return Source(module, None)
    return Source(module, hashlib.sha256(content).hexdigest())


def _load_plugins() -> None:
    """Import what installed packages announce as scorers, once; one that is broken is warned of and left out."""
    global _PLUGINS
    if _PLUGINS is not None:
        return
    _PLUGINS = []  # also known to a plug-in that asks for the scorers while it is imported
    for plugin in entry_points(group=GROUP):
        try:
            plugin.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            warnings.warn(f"the scorers of the plug-in {plugin.name!r} cannot be used: {reason}", stacklevel=3)
        else:
            _PLUGINS.append(plugin.name)
