"""Published accuracies, which of our runs are the same experiment, and how they were trained differently."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruneviz.errors import InputError
from pruneviz.scorers import scorers
from pruneviz.study.cell import DEFAULTS
from pruneviz.study.protocols import CUNEGATTI, GRASP

if TYPE_CHECKING:
    import pandas as pd

#: The columns of a table of published numbers.
PUBLISHED = ("paper", "table", "dataset", "model", "method", "sparsity", "metric", "value", "std", "source", "trust")
#: What else may differ between runs of one experiment; runs that differ in one of these are never averaged.
TRAINING = ("recipe", "precision", "options")


@dataclass(frozen=True)
class _Method:
    """A published method as a cell has it; `options` maps those that may be set to their value, None for any."""

    scorer: str
    scope: str = "global"
    batches: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


# A network is here if its source says how wide it is. GraSP's ResNet-32 has twice the usual width.
_NETWORKS = {
    (CUNEGATTI, "Resnet-20"): ("resnet20", 1.0),
    (CUNEGATTI, "Resnet-32"): ("resnet32", 1.0),
    (GRASP, "VGG19"): ("vgg19_bn", 1.0),
    (GRASP, "ResNet32"): ("resnet32", 2.0),
}
# The images that Cunegatti et al. call tinyimagenet are shrunk to 32 pixels, and so no data set of ours.
_DATASETS = {
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "Tiny-ImageNet": "tiny_imagenet",
    "ImageNet": "imagenet",
}
_METHODS = {
    "dense": _Method("dense"),
    "random": _Method("random"),
    "erk": _Method("random", "erk"),
    # In Cunegatti et al.'s code: any weight of any layer, where our scope of that name leaves the first layer dense.
    "uniform": _Method("random"),
    "magnitude(init)": _Method("magnitude"),
    "snip": _Method("snip"),
    "grasp": _Method("grasp"),
    "synflow": _Method("synflow"),
    "prospr": _Method("prospr", batches=4),
    "rigl": _Method("rigl", "erk"),
    "set": _Method("set", "erk"),
    "dsr": _Method("dsr", "erk"),
    "obd": _Method("obd", options={"rate": None}),
    "lt (original init)": _Method("lottery", options={"rounds": None, "rewind": 0}),
}
# What two runs of one experiment have in common, beside the sparsity.
_SAME = ("dataset", "model", "width", "scorer", "scope", "batches")


def read_published(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of published numbers.

    Args:
        path: a CSV file with the columns `PUBLISHED`: `value` and `std` in percent, `sparsity` a fraction, `trust`
            "primary" (the authors' own data), "secondary" (somebody's transcription) or "ocr" (recognised text).

    Raises:
        InputError: if there is no such file, a column is missing, or a value is no number.
    """
    import pandas as pd

    try:
        table = pd.read_csv(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read as a table: {str(error).splitlines()[0]}") from error
    for name in PUBLISHED:
        if name not in table.columns:
            raise InputError(f"{os.fspath(path)!r} is no table of published numbers: it has no column {name!r}")
    for name in ("sparsity", "value", "std"):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError(f"{os.fspath(path)!r} has values that are no numbers in the column {name!r}")
    return table[list(PUBLISHED)]


def not_run(table: pd.DataFrame, published: pd.DataFrame, *, each: bool = False) -> pd.DataFrame:
    """What was published and has no run of ours, and why.

    Args:
        table: rows of results, with the columns of `make_table`.
        published: of `read_published`.
        each: one row for each published number, instead of one for those of a paper, data set and network together.

    Returns:
        The columns paper, dataset, model, reason, numbers (how many); with `each` those of `published` and reason.
        A reason is "not run", "data set not ours", "network not ours, or its width not known", "method not ours",
        "another quantity" than a top-1 accuracy, or "sparsity not stated".
    """
    published = published.reset_index(drop=True)
    done = {name for name, _ in matches(table, published)}
    left = published[~published.index.isin(done)]
    reasons = [wanted if isinstance(wanted, str) else "not run" for wanted in map(_wanted, left.to_dict("records"))]
    left = left.assign(reason=reasons)
    if each:
        return left.reset_index(drop=True)
    groups = left.groupby(["paper", "dataset", "model", "reason"], sort=False).size()
    return groups.rename("numbers").reset_index()


def matches(table: pd.DataFrame, published: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Each published number that we have runs for: its label in `published`, and our rows of one `TRAINING`.

    The same experiment has the same data set, network, width, scorer, scope and sparsity, and all else as a method is
    meant: all training images, the default initialization and scoring batches, the schedule of the method's card, no
    option that changes it. A number comes twice if we have trained in two ways.
    """
    ours: dict[Any, list[tuple[int, str]]] = {}
    for place, row in enumerate(table.to_dict("records")):
        if _is_plain(row):
            ours.setdefault(_key(row), []).append((place, str(row["options"])))
    for name, number in zip(published.index, published.to_dict("records"), strict=True):
        wanted = _wanted(number)
        if isinstance(wanted, str):
            continue
        method, key = wanted
        same = [place for place, options in ours.get(key, []) if _fits(options, method)]
        if same:
            yield from ((name, runs) for _, runs in table.iloc[same].groupby(list(TRAINING)))


def experiments(published: pd.DataFrame) -> pd.DataFrame:
    """Which experiment of ours each published number is of, whether it has been run or not.

    Args:
        published: of `read_published`.

    Returns:
        A row, with the label it has in `published`, for each number that could be ours: our dataset, model, width,
        scorer, scope, batches and sparsity.
    """
    import pandas as pd

    wanted = dict(zip(published.index, map(_wanted, published.to_dict("records")), strict=True))
    keys = {name: found[1] for name, found in wanted.items() if not isinstance(found, str)}
    return pd.DataFrame(list(keys.values()), index=list(keys), columns=[*_SAME, "sparsity"])


def runs_behind(metric: str) -> int | None:
    """How many runs a published number is the mean of, if it says so: 3 for "... (mean of 3 runs)"."""
    found = re.search(r"\(mean of (\d+)", metric)
    return int(found[1]) if found else None


def _wanted(number: Mapping[Any, Any]) -> tuple[_Method, Any] | str:
    """The method and key of a published number's experiment, or why there is none."""
    if number["dataset"] not in _DATASETS:
        return "data set not ours"
    network = _NETWORKS.get((number["paper"], number["model"]))
    if network is None:
        return "network not ours, or its width not known"
    method = _METHODS.get(str(number["method"]).lower())
    if method is None:
        return "method not ours"
    if not re.match(r"top1_\D*%", str(number["metric"])):
        return "another quantity"
    if number["sparsity"] != number["sparsity"]:
        return "sparsity not stated"
    row = dict(zip(("model", "width"), network, strict=True)) | {"scorer": method.scorer, "scope": method.scope}
    row |= {"dataset": _DATASETS[number["dataset"]], "sparsity": number["sparsity"], "batches": method.batches}
    return method, _key(row)


def _key(row: Mapping[Any, Any]) -> Any:
    return *(row[name] for name in _SAME), round(float(row["sparsity"]), 6)


def _is_plain(row: Mapping[Any, Any]) -> bool:
    card = scorers().get(str(row["scorer"]))
    usual = {name: DEFAULTS[name] for name in ("fraction", "init", "minimum", "ablation", "batchnorm", "per_class")}
    return all(row[name] == value for name, value in usual.items()) and row["schedule"] == (
        card.schedule if card else DEFAULTS["schedule"]
    )


def _fits(options: str, method: _Method) -> bool:
    chosen = json.loads(options)
    return all(name in method.options and method.options[name] in (None, value) for name, value in chosen.items())
