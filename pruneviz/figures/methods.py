"""What a row of the table is called: a method is a scorer with its scope, its options and its schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pruneviz import baselines
from pruneviz.errors import InputError
from pruneviz.scorers import scorers
from pruneviz.study.cell import NONE

if TYPE_CHECKING:
    import pandas as pd

DENSE = "dense"
#: What a figure holds fixed. Rows that differ in one of these are different experiments.
SETTING = ("dataset", "fraction", "model", "width", "init", "recipe", "precision")
# Choices that are part of a method's name only where the methods differ in them.
_SCORING = {"batchnorm": "batch norm in {} mode", "per_class": "{} images per class", "batches": "{} scoring batches"}
ABLATIONS = {"shuffle": "shuffled", "reinitialize": "re-initialized", "invert": "inverted"}
_SCOPES = {"erk": "ERK", "smart_ratio": "smart-ratios", "smart_ratio_vgg": "smart-ratios for VGG"}
# Baselines first, then by year; a scorer of one's own comes after these.
_ORDER = ("random", "magnitude", "snip", "grasp", "synflow", "force", "prospr", "ntk_sap")


def method_names(table: pd.DataFrame) -> pd.Series:
    """The name of each row's method, as readers know it: "Dense", "SNIP", "Random (ERK)".

    Whatever makes two methods different is in the name: a scope other than "global", a schedule other than the one
    on the scorer's card, options of the scorer, an ablation, and how it was scored where the table has more than one
    way for this scorer.
    """
    rows = table.to_dict("records")
    by_scorer = table.groupby("scorer")[list(_SCORING)].nunique().to_dict("index")
    names = [_name(row, {n: text for n, text in _SCORING.items() if by_scorer[row["scorer"]][n] > 1}) for row in rows]
    import pandas as pd

    return pd.Series(names, index=table.index, name="method", dtype="object")


def one_setting(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `method`, dense rows first.

    Raises:
        InputError: an empty table, or rows of different experiments, naming the column to choose from.
    """
    if len(table) == 0:
        raise InputError("the table has no rows; there is nothing to draw")
    for column in SETTING:
        found = table[column].unique()
        if len(found) > 1:
            one = found[0].item() if hasattr(found[0], "item") else found[0]
            raise InputError(
                f"the table mixes {column} {', '.join(map(str, found))}; one figure shows one of them: "
                f"table[table.{column} == {one!r}]"
            )
    named = table.assign(method=method_names(table))
    return named.sort_values("scorer", key=lambda column: column != DENSE, kind="stable", ignore_index=True)


def pruned_methods(named: pd.DataFrame) -> list[str]:
    """The names of the methods that prune, in the order in which figures and tables show them."""
    order = list(dict.fromkeys([*_ORDER, *scorers(), *baselines.cards(), *named["scorer"]]))
    pruned = named[named["scorer"] != DENSE].drop_duplicates("method")
    place = {row["method"]: order.index(row["scorer"]) for row in pruned.to_dict("records")}
    return sorted(place, key=lambda name: place[name])


def _name(row: Mapping[Any, Any], varying: dict[str, str]) -> str:
    scorer = str(row["scorer"])
    if scorer == DENSE:
        return "Dense"
    card = {**scorers(), **baselines.cards()}.get(scorer)
    details = [] if row["scope"] == "global" else [_SCOPES.get(str(row["scope"]), str(row["scope"]))]
    if row["minimum"]:
        details.append(f"at least {row['minimum']} per layer")
    if row["schedule"] != (card.schedule if card else "one_shot"):
        kind, _, steps = str(row["schedule"]).partition(":")
        details.append(f"{kind}, {steps} steps" if steps else "one cut")
    details += [f"{name} {value}" for name, value in json.loads(str(row["options"])).items()]
    details += [ABLATIONS.get(str(row["ablation"]), str(row["ablation"]))] if row["ablation"] != NONE else []
    details += [text.format(row[column]) for column, text in varying.items()]
    return (card.title if card else scorer) + (f" ({', '.join(details)})" if details else "")
