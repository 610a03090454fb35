"""All records of a store as one table, the same bytes for the same records."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruneviz.errors import InputError
from pruneviz.files import write_atomically
from pruneviz.recipe import RECIPES
from pruneviz.study import record
from pruneviz.study.cell import DEFAULTS, Cell, canonical_json, hash_of
from pruneviz.study.costs import COLUMNS as COSTS
from pruneviz.study.costs import costs

if TYPE_CHECKING:
    import pandas as pd

_CELL = [field.name for field in fields(Cell)]
_CURVES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
_PLACE = ("device", "threads", "torch", "torchvision", "python", "pruneviz")
_TYPES = {
    "hash": "str",
    **{f.name: {"float": "float64", "int": "int64"}.get(str(f.type), "str") for f in fields(Cell)},
    "kept": "int64",
    "total": "int64",
    "density": "float64",
    "diverged": "bool",
    "epochs": "int64",
    "test_accuracy": "float64",
    "test_loss": "float64",
    "validation_accuracy": "float64",
    "validation_loss": "float64",
    "train_accuracy": "float64",
    "train_loss": "float64",
    "gradient_norm_squared": "float64",
    "gradient_norm_squared_dense": "float64",
    **dict.fromkeys(COSTS, "float64"),
    "layers": "str",
    "curves": "str",
    "device": "str",
    "threads": "int64",
    "torch": "str",
    "torchvision": "str",
    "python": "str",
    "pruneviz": "str",
    "git_revision": "str",
}

# Columns that tables of earlier versions do not have: all of their cells have the default, and no cost is known.
_LATER = {name: DEFAULTS[name] for name in ("minimum", "ablation")} | dict.fromkeys(COSTS, float("nan"))

#: The columns, in order.
COLUMNS = tuple(_TYPES)


class OtherVersionWarning(UserWarning):
    """Records are sound, and of a recipe that is another one today: they are no rows of a table."""


def make_table(store: str | os.PathLike[str]) -> pd.DataFrame:
    """Every sound record of a store as one row, sorted by the cell's fields.

    A row names its recipe and does not hold it, so records of what a recipe was before it changed are left out, and an
    `OtherVersionWarning` says which. Those of a recipe that is not known here are rows, with a warning if they do not
    all mean the same by its name. A scorer need not be known here.

    Accuracies are fractions, losses are means over examples; both are of the last epoch. The gradient norms
    are at initialization, on the scoring batches, summed over batches, with the final masks. The FLOPs are those of
    scoring and of all training together, and of one image after it; "sparse" is in theory, where removed weights
    cost nothing. Validation and tests are left out; of scoring they are missing in records that are older than
    this count. `layers` is the JSON text of `{parameter: [kept, total]}`, `curves` that of
    `{name: [one value per epoch]}`, `options` that of the scorer's options. `threads` are the CPU threads of the
    training, whose number can change the last bits of what a CPU computes. A run that diverged has NaN where there is
    no number. Times and dates are in the records only, so that the same cells give the same table.

    Raises:
        InputError: if the store is no folder.
    """
    import pandas as pd

    folder = Path(store)
    if not folder.is_dir():
        raise InputError(f"there is no store at {os.fspath(store)!r}; a store is the folder that a sweep writes to")
    rows = [_row(content) for content in _of_today(record.read_all(folder))]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(_TYPES)
    return table.sort_values([*_CELL, "hash"], kind="stable", ignore_index=True)


def read_table(store_or_parquet: str | os.PathLike[str]) -> pd.DataFrame:
    """The table of a store's records, or the one in a parquet file.

    Raises:
        InputError: if there is neither, or the file is no such table.
    """
    import pandas as pd

    path = Path(store_or_parquet)
    if not path.is_file():
        return make_table(path)
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{os.fspath(path)!r} is not a parquet file that can be read: {reason}") from error
    table = table.assign(**{name: value for name, value in _LATER.items() if name not in table.columns})
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{os.fspath(path)!r} is no table of records: it has no column {missing[0]!r}")
    return table[list(COLUMNS)]


def write_table(table: pd.DataFrame, prefix: str | os.PathLike[str]) -> None:
    """Write `<prefix>.parquet` and `<prefix>.csv`; files that hold the same bytes already are left alone.

    Raises:
        OSError: if they cannot be written.
    """
    parquet = io.BytesIO()
    table.to_parquet(parquet, engine="pyarrow", index=False)
    csv = table.to_csv(index=False, na_rep="nan", lineterminator="\n").encode()
    for suffix, content in ((".parquet", parquet.getvalue()), (".csv", csv)):
        path = Path(f"{os.fspath(prefix)}{suffix}")
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)


def _of_today(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records whose hash is still that of their cell, and those of which it cannot be known."""
    kept: list[dict[str, Any]] = []
    others: dict[str, list[str]] = {}
    unknown: dict[str, set[str]] = {}
    for content in records:
        cell = {name: content["cell"][name] for name in DEFAULTS}
        recipe = RECIPES.get(cell["recipe"])
        if recipe is None:
            unknown.setdefault(cell["recipe"], set()).add(canonical_json(content["recipe"]))
        elif hash_of(cell, recipe) != content["hash"]:
            others.setdefault(recipe.name, []).append(f"{content['hash']}.json")
            continue
        kept.append(content)
    said = [
        f"another version of recipe {name!r}, or of pruneviz, has made {len(files)} of the records, which are left out "
        f"of the table: {' '.join(files)}"
        for name, files in others.items()
    ] + [
        f"recipe {name!r} is not known here, and records that are rows of the table have it in {len(versions)} versions"
        for name, versions in unknown.items()
        if len(versions) > 1
    ]
    for line in said:
        warnings.warn(line, OtherVersionWarning, stacklevel=3)
    return kept


def _row(content: dict[str, Any]) -> dict[str, Any]:
    result, environment, layers = content["result"], content["environment"], content["layers"]
    kept, total = (sum(counts[i] for counts in layers.values()) for i in (0, 1))
    git = environment["git"]
    return {
        "hash": content["hash"],
        **{name: content["cell"][name] for name in _CELL if name != "options"},
        "options": canonical_json(content["cell"]["options"]),
        "kept": kept,
        "total": total,
        "density": kept / total,
        "diverged": result["diverged"],
        "epochs": result["epochs"],
        "test_accuracy": result["test_accuracy"],
        "test_loss": result["test_loss"],
        **{name: result[name][-1] if result[name] else float("nan") for name in _CURVES},
        "gradient_norm_squared": content["gradient_norm_squared"],
        "gradient_norm_squared_dense": content["gradient_norm_squared_dense"],
        **costs(content),
        "layers": _json(layers),
        "curves": _json({name: result[name] for name in _CURVES}),
        **{name: environment[name] for name in _PLACE},
        "git_revision": "" if git is None else git["revision"] + ("-dirty" if git["dirty"] else ""),
    }


def _json(value: Any) -> str:
    import json

    # In the record's order, which is the model's. Numbers that are not finite are texts, as in the records.
    return json.dumps(record.encode(value), separators=(",", ":"), allow_nan=False)
