"""One experiment as a value: everything that determines a run, and the hash that names its record."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property
from numbers import Integral
from typing import Any

from pruneviz import baselines
from pruneviz import schedule as schedules
from pruneviz.allocate import SCOPES
from pruneviz.errors import InputError, check_choice, check_number, check_positive, check_seed, check_sparsity
from pruneviz.evaluate import PRECISIONS
from pruneviz.models import INITS, MODELS
from pruneviz.recipe import RECIPES, Recipe
from pruneviz.scorers import check_options, scorers
from pruneviz.sources import check_name

#: The name that stands for "no pruning" where a scorer is asked for.
DENSE = "dense"

#: The schedule that stands for the one on the scorer's card.
METHOD = "method"

#: What a cell can undo of its pruning before it trains; see `pruneviz.ablations`.
NONE, SHUFFLE, REINITIALIZE, INVERT = "none", "shuffle", "reinitialize", "invert"
ABLATIONS = (NONE, SHUFFLE, REINITIALIZE, INVERT)

#: The largest factor on a model's channels. A hidden layer of "mlp" then takes 66 GB.
WIDEST = 1000

#: The fields that decide which scores can be shared: a shard is a run of cells that agree in them.
SHARD_FIELDS = ("dataset", "fraction", "model", "width", "init", "scorer", "options")


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: keys sorted, no spaces, no NaN. What is hashed and compared is this."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


@dataclass(frozen=True)
class Cell:
    """Everything that determines a run.

    Attributes:
        dataset: one of `pruneviz.data.DATASETS`, or a folder; see `pruneviz.data.load`.
        fraction: the share of the train split to use, 0 < fraction <= 1.
        model: one of `pruneviz.models.MODELS`.
        width: factor on the model's channels, at most `WIDEST`.
        init: one of `pruneviz.models.INITS`.
        scorer: a registered scorer, the name of one of `pruneviz.baselines`, or "dense" for no pruning.
        options: the scorer's own; a mapping is accepted, and kept as pairs sorted by name. An option that is given
            at its default stays, and makes another cell than one that is left out: so are committed records named.
        sparsity: the fraction of weights removed; 0 for "dense".
        scope: where weights compete; see `pruneviz.allocate`. Of no effect for "dense", and then "global". For dynamic
            sparse training, which starts from random masks, it says how many weights each layer has then, and "global"
            is kept as the method's own, such as "erk".
        minimum: weights that every layer keeps at least; see `pruneviz.allocate`. Of no effect for "dense", and then
            0.
        schedule: "one_shot", "exponential:STEPS" or "linear:STEPS", without leading zeros; or "method" for the one on
            the scorer's card, which is then kept in its place, so that both are one cell. Of no effect for "dense" and
            baselines, and then "one_shot".
        ablation: what is undone of the pruning before training, to see whether it mattered: "none"; "shuffle", which
            weights of a layer are kept; "reinitialize", the weights for which they were chosen; "invert", the order
            of the scores (of one-shot cuts). With the cell's seed; see `pruneviz.ablations`. Of no effect for
            "dense", and then "none".
        batchnorm: what batch normalization does while scoring, "train" or "eval".
        per_class: images of each class in each scoring batch.
        batches: how many scoring batches.
        recipe: one of `pruneviz.RECIPES`.
        seed: of the initialization, the scoring batches, the order of training, and of a scorer that draws
            numbers unless its options say otherwise. The validation split is the same for all seeds.
        precision: of the training, "bf16" or "float32"; scores are always float32.

    Raises:
        InputError: for a value that cannot be run, naming what is accepted.
    """

    dataset: str = "digits"
    fraction: float = 1.0
    model: str = "resnet20"
    width: float = 1.0
    init: str = "kaiming_normal"
    scorer: str = DENSE
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    sparsity: float = 0.0
    scope: str = "global"
    minimum: int = 0
    schedule: str = "one_shot"
    ablation: str = NONE
    batchnorm: str = "train"
    per_class: int = 10
    batches: int = 1
    recipe: str = "smoke"
    seed: int = 0
    precision: str = "bf16"

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, check_field(field.name, getattr(self, field.name)))
        if self.scorer in baselines.cards():
            if self.ablation != NONE:
                raise InputError(
                    f"ablation {self.ablation!r} undoes pruning before training, and {self.scorer!r} trains first; "
                    f"accepted is {NONE!r}"
                )
            baselines.check_options(self.scorer, dict(self.options), RECIPES[self.recipe])
            object.__setattr__(self, "scope", baselines.initial_scope(self.scorer, self.scope))
            object.__setattr__(self, "schedule", "one_shot")
            return
        if self.scorer != DENSE:
            check_options(self.scorer, dict(self.options))
            if self.schedule == METHOD:
                object.__setattr__(self, "schedule", _check_schedule(scorers()[self.scorer].schedule))
            if self.ablation == INVERT and self.schedule != "one_shot":
                raise InputError(
                    f"ablation {INVERT!r} turns the scores of one cut around, and schedule {self.schedule!r} cuts "
                    "several times; accepted is schedule 'one_shot'"
                )
            return
        if self.options:
            raise InputError(f"scorer {DENSE!r} takes no options; received {dict(self.options)!r}")
        if self.sparsity:
            raise InputError(f"scorer {DENSE!r} removes nothing: sparsity {self.sparsity!r} must be 0 or left out")
        object.__setattr__(self, "scope", "global")
        object.__setattr__(self, "minimum", 0)
        object.__setattr__(self, "schedule", "one_shot")
        object.__setattr__(self, "ablation", NONE)

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; `Cell(**cell.as_dict())` is the same cell."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"options": dict(self.options)}

    @cached_property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 that names the record.

        Of the fields that differ from their defaults and of the recipe's contents, so that records stay valid
        when a field is added whose default means what was done before, and become another cell's when a
        recipe is changed. The code of a scorer is no part of it, neither the library's nor a user's: the record
        says which it was, and a sweep that finds records of another version of a user's file says so.
        """
        return hash_of(self.as_dict(), RECIPES[self.recipe])

    @property
    def label(self) -> str:
        """The cell in a few words, for progress and messages."""
        words = [self.dataset, self.model, self.scorer]
        words += [f"{name}={value}" for name, value in dict(self.options).items()]
        if self.scorer != DENSE:
            words += [f"{self.sparsity:g}", self.scope]
            words += [f"minimum={self.minimum}"] if self.minimum else []
            words += [] if self.schedule == "one_shot" else [self.schedule]
            words += [] if self.ablation == NONE else [self.ablation]
        return " ".join([*words, f"seed {self.seed}"])

    @property
    def shard(self) -> tuple[Any, ...]:
        """The values of `SHARD_FIELDS`."""
        return tuple(getattr(self, name) for name in SHARD_FIELDS)


def hash_of(cell: Mapping[str, Any], recipe: Recipe) -> str:
    """The hash of all of a cell's fields, as JSON has them, with this recipe; see `Cell.hash`."""
    own = {name: value for name, value in cell.items() if value != DEFAULTS[name]}
    text = canonical_json({"cell": own, "recipe": recipe_contents(recipe)})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_field(name: str, value: object) -> Any:
    """Return `value` as a `Cell` keeps it in the field `name`.

    Raises:
        InputError: for a name that is no field, or a value that the field cannot have.
    """
    return _CHECKS[check_choice("key", name, _CHECKS)](value)


def recipe_contents(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe enters the hash: every field but the name that is not at its default."""
    defaults = {f.name: f.default for f in fields(recipe) if f.default is not MISSING}
    return {
        name: value
        for name, value in asdict(recipe).items()
        if name != "name" and (name not in defaults or value != defaults[name])
    }


def shards(cells: list[Cell]) -> list[list[Cell]]:
    """Cut cells into shards: runs of neighbours that agree in `SHARD_FIELDS`, each sorted by seed.

    Neighbours only, so that the order of a grid is the order of the work.
    """
    groups: list[list[Cell]] = []
    for cell in cells:
        if groups and groups[-1][0].shard == cell.shard:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    return [sorted(group, key=lambda cell: cell.seed) for group in groups]


def _check_fraction(value: object) -> float:
    number = check_number("fraction", value, above=0)
    if number > 1:
        raise InputError(f"fraction {value!r} is not accepted: give a number with 0 < fraction <= 1")
    return number


def _check_width(value: object) -> float:
    number = check_number("width", value, above=0)
    if number > WIDEST:
        raise InputError(f"width {value!r} is not accepted: give a number with 0 < width <= {WIDEST}")
    return number


def _check_minimum(value: object) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    raise InputError(f"minimum {value!r} is not accepted: give a whole number of at least 0")


def _check_schedule(value: object) -> str:
    if value == METHOD:
        return METHOD
    try:
        schedules.parse(str(value))
    except InputError as error:
        raise InputError(f"{error}, {METHOD} (the scorer's own)") from error
    name, colon, steps = str(value).partition(":")
    return f"{name}:{int(steps)}" if colon else name


def _check_options(value: object) -> tuple[tuple[str, Any], ...]:
    try:
        options = dict(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise InputError(f"options {value!r} are not accepted: give a mapping of names to values") from None
    for name, setting in options.items():
        if not isinstance(name, str) or not isinstance(setting, str | int | float | bool):
            raise InputError(
                f"options {options!r} are not accepted: {name!r} must be a name, and its value one text, number or "
                "truth value; several settings are a list of mappings"
            )
        if isinstance(setting, float) and not math.isfinite(setting):
            raise InputError(f"option {name!r} is {setting!r}; a number among the options must be finite")
    # 200 and 200.0 are the same setting and must be the same cell.
    return tuple((n, int(v) if isinstance(v, float) and v.is_integer() else v) for n, v in sorted(options.items()))


def _choice(what: str, accepted: Callable[[], Any]) -> Callable[[object], str]:
    return lambda value: check_choice(what, value, accepted())


_CHECKS: dict[str, Callable[[object], Any]] = {
    "dataset": check_name,
    "fraction": _check_fraction,
    "model": _choice("model", lambda: MODELS),
    "width": _check_width,
    "init": _choice("initialization", lambda: INITS),
    "scorer": _choice("scorer", lambda: (DENSE, *scorers(), *baselines.cards())),
    "options": _check_options,
    "sparsity": check_sparsity,
    "scope": _choice("scope", lambda: SCOPES),
    "minimum": _check_minimum,
    "schedule": _check_schedule,
    "ablation": _choice("ablation", lambda: ABLATIONS),
    "batchnorm": _choice("batchnorm", lambda: ("train", "eval")),
    "per_class": lambda value: check_positive("per_class", value),
    "batches": lambda value: check_positive("batches", value),
    "recipe": _choice("recipe", lambda: RECIPES),
    "seed": check_seed,
    "precision": _choice("precision", lambda: PRECISIONS),
}

#: What a cell is where nothing is said; also one in a record that is older than a field.
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Cell)} | {"options": {}}
