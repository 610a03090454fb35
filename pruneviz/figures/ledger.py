"""The ledger: what was published beside what we measured, and what is known about the difference."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pruneviz.errors import InputError
from pruneviz.figures.methods import method_names
from pruneviz.figures.style import FAINT, INK, WIDTH, Mark, look, marks, percent
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, summarize
from pruneviz.recipe import RECIPES
from pruneviz.study.ledger import matches, runs_behind
from pruneviz.study.protocols import NOT_KNOWN, compared, differences, protocol, scoring

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Rows of a ledger that differ in one of these are not shown together.
LEDGER_SETTING = ("paper", "dataset", "model", "recipe", "precision")
_UNSTABLE = 10.0  # points: the standard deviation of published runs of which some must have failed
_COLUMNS = [
    *("paper", "dataset", "model", "method", "sparsity", "published", "std", "runs", "trust", "source"),
    *("ours", "low", "high", "n", "difference", "recipe", "precision", "options", "protocol"),
    *("protocol_source", "scoring", "emptied", "explanation"),
]


def ledger(table: pd.DataFrame, published: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Published accuracies for which we have runs of the same experiment, beside ours.

    The same experiment has the same data set, network (its width included), method (its scope included) and sparsity.
    How it was trained may differ, and `protocol` says how. Runs of ours that were trained differently are rows of
    their own. Published numbers without a run are not here; `pruneviz.study.not_run` lists them.

    Args:
        table: rows of results, with the columns of a table of records.
        published: of `pruneviz.study.read_published`.
        level: of our intervals.

    Returns:
        One row for each published number and way in which we trained. paper, dataset and model are as published;
        method is our name of it. published, std, ours, low and high are in percent, difference (ours - published) in
        points. runs: how many are behind the published number, NaN if it does not say; n: how many are behind ours.
        low and high: Student's interval, NaN for n < 3. trust: "primary", "secondary" or "ocr". protocol: how our
        training differs, and protocol_source who says how theirs was; scoring: how their mask was found differently,
        if it is known to be. emptied: how many of our masks leave a layer without a weight. explanation: what of the
        difference is explained, as far as it was measured.

    Raises:
        InputError: an accuracy that is not finite, a recipe that is not known, or a level that is none.
    """
    import pandas as pd

    published = published.reset_index(drop=True)
    numbers = published.to_dict("records")
    rows = [(place, _row(numbers[place], runs, level)) for place, runs in matches(table, published)]
    for place, row in rows:
        others = [other for there, other in rows if there == place and other["options"] == row["options"]]
        row["explanation"] = _explanation(row, numbers[place], numbers, others, level)
    return pd.DataFrame([row for _, row in rows], columns=_COLUMNS)


def ledger_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a ledger as a reader's table of texts: one line for each published number.

    Args:
        rows: of `ledger`, of one paper, data set, network and way of training.

    Raises:
        InputError: no rows, or rows that do not belong together.
    """
    import pandas as pd

    lines = []
    for row in _of_one_setting(rows).to_dict("records"):
        interval = "" if math.isnan(row["low"]) else f"\u00a0±\u00a0{(row['high'] - row['low']) / 2:.1f}"
        spread = "" if math.isnan(row["std"]) else f"\u00a0±\u00a0{row['std']:.2f}"
        lines.append(
            {
                "method": f"{_name(row)}, {percent(row['sparsity'])}",
                "published ± sd": f"{row['published']:.1f}{spread}",
                "ours ± interval": f"{row['ours']:.1f}{interval}",
                "ours − published": f"{row['difference']:+.1f}".replace("-", "\u2212"),
                "its n": "not stated" if math.isnan(row["runs"]) else f"{row['runs']:.0f}",
                "our n": str(row["n"]),
                "trust": row["trust"],
            }
        )
    return pd.DataFrame(lines).set_index("method").rename_axis(index=None, columns="method, removed")


def protocol_table(rows: pd.DataFrame) -> pd.DataFrame:
    """How the networks behind rows of a ledger were trained, theirs beside ours, as a reader's table of texts.

    Args:
        rows: of `ledger`, of one paper, data set, network and way of training.

    Raises:
        InputError: no rows, or rows that do not belong together.
    """
    import pandas as pd

    row = _of_one_setting(rows).iloc[0].to_dict()
    lines = {name: {"theirs": one, "ours": other} for name, one, other in compared(row, row["recipe"])}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(columns="training")


def published_and_ours(rows: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Each published accuracy (hollow, ± its standard deviation) and ours (filled, with its interval) on one line.

    Args:
        rows: of `ledger`, of one paper, data set, network and way of training.
        ax: where to draw; None for a new figure, as high as it has lines.

    Raises:
        InputError: no rows, or rows that do not belong together.
    """
    records = _of_one_setting(rows).to_dict("records")
    mark = marks(list(dict.fromkeys(str(row["method"]) for row in records)))
    with look():
        if ax is None:
            import matplotlib.pyplot as plt

            lines = len(records) + len({row["sparsity"] for row in records})
            _, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.24 * lines), layout="constrained")
        ticks: list[tuple[int, str]] = []
        y, last = 0, None
        for row in records:
            if row["sparsity"] != last:
                last, y = row["sparsity"], y + 1
                ticks.append((y, f"{percent(row['sparsity'])} removed"))
            y += 1
            ticks.append((y, f"{_name(row)}, n = {row['n']}"))
            _draw(ax, y, row, mark[str(row["method"])])
        ax.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
        for label, (_, text) in zip(ax.get_yticklabels(), ticks, strict=True):
            label.set_fontweight("bold" if text.endswith("removed") else "normal")
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(y + 0.7, 0.3)
        ax.set_xlabel("test accuracy (%)")
        ax.plot([], [], "o", color=INK, label="ours")
        ax.plot([], [], "o", color=INK, markerfacecolor="none", label="published")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, borderpad=0.0)
    return ax


def _draw(ax: Axes, y: int, row: Mapping[Any, Any], mark: Mark) -> None:
    ax.plot([row["published"], row["ours"]], [y, y], color=FAINT, linewidth=0.8, zorder=1)
    spread = 0.0 if math.isnan(row["std"]) else row["std"]
    ax.errorbar(row["published"], y, xerr=spread, fmt="o", color=INK, markerfacecolor="none", elinewidth=1.2, zorder=2)
    if row["n"] >= LEAST_FOR_INTERVAL:
        ends = [[row["ours"] - row["low"]], [row["high"] - row["ours"]]]
        ax.errorbar(row["ours"], y, xerr=ends, fmt="none", color=mark.color, elinewidth=1.2, capsize=2.2, zorder=3)
    ax.plot(row["ours"], y, linestyle="none", zorder=3, **mark.style)


def _of_one_setting(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) == 0:
        raise InputError("the ledger has no rows; there is nothing to show")
    for name in LEDGER_SETTING:
        found = rows[name].unique()
        if len(found) > 1:
            listed = ", ".join(map(str, found))
            raise InputError(f"the ledger's rows mix {name} {listed}; one table or figure shows one of them")
    return rows.sort_values(["sparsity"], kind="stable", ignore_index=True)


def _row(number: Mapping[Any, Any], runs: pd.DataFrame, level: float) -> dict[str, Any]:
    first = runs.iloc[0]
    ours = summarize(100.0 * runs["test_accuracy"], level=level)
    behind, theirs = runs_behind(str(number["metric"])), protocol(number)
    return {
        **{name: number[name] for name in ("paper", "dataset", "model", "sparsity", "std", "trust", "source")},
        "method": method_names(runs.assign(options="{}")).iloc[0],
        "published": number["value"],
        "runs": math.nan if behind is None else behind,
        "ours": ours.mean,
        **{name: getattr(ours, name) for name in ("low", "high", "n")},
        "difference": ours.mean - number["value"],
        **{name: first[name] for name in ("recipe", "precision", "options")},
        "protocol": "; ".join(differences(number, first["recipe"])),
        "protocol_source": theirs.source if theirs else NOT_KNOWN,
        "scoring": scoring(number),
        "emptied": sum(any(kept == 0 for kept, _ in json.loads(layers).values()) for layers in runs["layers"]),
    }


def _explanation(
    row: Mapping[str, Any],
    number: Mapping[Any, Any],
    numbers: Sequence[Mapping[Any, Any]],
    others: Sequence[Mapping[str, Any]],
    level: float,
) -> str:
    """What evidence there is for where the difference comes from, in sentences."""
    said = []
    if row["low"] <= row["published"] <= row["high"]:
        said.append("The published value lies in our interval.")
    half = _half(row["std"], row["runs"], level)
    if abs(row["difference"]) <= half:
        said.append(f"Ours lies in the interval of the published mean, ± {half:.1f} by its own spread and n.")
    agrees = bool(said)
    if row["emptied"]:
        said.append(f"In {row['emptied']} of {row['n']} of our runs the mask leaves whole layers without a weight.")
        said += _failing_too(number, numbers)
    if row["n"] < LEAST_FOR_INTERVAL:
        said.append(f"With n = {row['n']}, chance may be a part of it.")
    theirs, epochs = protocol(number), RECIPES[row["recipe"]].epochs
    if theirs is None:
        return " ".join([*said, "How the published network was trained is not known."])
    if theirs.epochs is not None and epochs < theirs.epochs:
        if row["difference"] < 0:
            said.append(f"Trained for {epochs} of {theirs.epochs} epochs; {_measured(row, others, epochs)}.")
        elif not agrees:
            said.append(
                f"Ours is not lower although it was trained for {epochs} of {theirs.epochs} epochs; nothing that was "
                "measured explains that."
            )
    if theirs.epoch == "best" and row["difference"] < 0:
        said.append("Theirs is that of the best epoch on the test images, which is never below the last one's.")
    return " ".join(said) or "Nothing that was measured explains it."


def _failing_too(number: Mapping[Any, Any], numbers: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Where the same source's runs of the same method, at this sparsity or less, differ by more than training does."""
    alike = ("paper", "dataset", "method", "metric")
    near = [
        other
        for other in numbers
        if all(other[name] == number[name] for name in alike)
        and other["sparsity"] <= number["sparsity"]
        and other["std"] > _UNSTABLE
    ]
    if not near:
        return []
    worst = max(near, key=lambda other: float(other["std"]))
    found = f"{worst['model']} at {percent(worst['sparsity'])} has {worst['value']:.1f} ± {worst['std']:.1f}"
    return [f"Some of the source's own runs of this method seem to fail likewise: {found}."]


def _measured(row: Mapping[str, Any], others: Sequence[Mapping[str, Any]], epochs: int) -> str:
    """What longer training of the same experiment gained us, if it was tried."""
    longer = [other for other in others if RECIPES[other["recipe"]].epochs > epochs]
    if not longer:
        return "how much of the difference that is has not been measured"
    most = max(longer, key=lambda other: RECIPES[other["recipe"]].epochs)
    gain = f"{most['ours'] - row['ours']:+.1f}".replace("-", "\u2212")
    longest = f"{most['recipe']}, of {RECIPES[most['recipe']].epochs} epochs,"
    return f"{longest} changed ours by {gain} points (n = {row['n']} and {most['n']})"


def _half(sd: float, runs: float, level: float) -> float:
    """Half of Student's interval of a published mean, from the sample's standard deviation; NaN if it has none."""
    if math.isnan(sd) or not runs >= LEAST_FOR_INTERVAL:
        return math.nan
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, runs - 1)) * sd / math.sqrt(runs)


def _name(row: Mapping[Any, Any]) -> str:
    return str(row["method"]) + ("" if row["options"] == "{}" else f" {row['options']}")
