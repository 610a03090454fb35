"""Tables for readers: accuracies as text, and what was run, all of it taken from the rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.style import percent, runs_phrase
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, Summary, summarize, summarize_by

if TYPE_CHECKING:
    import pandas as pd

_NONE = "none"


def accuracy_table(table: pd.DataFrame, *, column: str = "test_accuracy", level: float = 0.95) -> pd.DataFrame:
    """Accuracies as a reader's table: methods down, sparsities across.

    An entry is "91.2 ± 0.4" in percent: the mean and half of its interval, from three runs on; else
    the mean alone. How many runs is a column of its own, "n".

    Args:
        table: rows of one setting, with the columns of a table of records.
        column: which accuracy, a fraction.
        level: of the interval.

    Raises:
        InputError: an empty table, or one that mixes experiments.
    """
    import pandas as pd

    named = one_setting(table)
    sparsities = sorted(set(named.loc[named["scorer"] != DENSE, "sparsity"]))
    dense = named[named["scorer"] == DENSE]
    lines: dict[str, dict[str, str]] = {}
    if len(dense):
        text = _entry(summarize(dense[column], level=level))
        lines["Dense"] = {"n": str(len(dense)), _NONE: text}
    for method in pruned_methods(named):
        rows = named[named["method"] == method]
        runs = {sparsity: rows.loc[rows["sparsity"] == sparsity, column] for sparsity in sparsities}
        lines[method] = {"n": runs_phrase([len(r) for r in runs.values() if len(r)]).removeprefix("n = ")}
        lines[method] |= {
            percent(sparsity): _entry(summarize(values, level=level))
            for sparsity, values in runs.items()
            if len(values)
        }
    frame = pd.DataFrame.from_dict(lines, orient="index").fillna("")
    wanted = ["n", _NONE, *map(percent, sparsities)]
    return frame[[name for name in wanted if name in frame.columns]].rename_axis(columns="removed")


def how_sure(table: pd.DataFrame, *, column: str = "test_accuracy", level: float = 0.95) -> str:
    """What the number of runs allows to say about differences between methods: a few sentences, in Markdown.

    Args:
        table: rows of one setting, with the columns of a table of records.
        column: which accuracy, a fraction.
        level: of the intervals.

    Raises:
        InputError: an empty table, one that mixes experiments, or one without pruned networks.
    """
    named = one_setting(table)
    named = one_setting(named[named["scorer"] != DENSE])
    summary = summarize_by(named, column, ["sparsity", "method"], level=level)
    fewest = int(summary["n"].min())
    if fewest < LEAST_FOR_INTERVAL:
        runs = "one run" if fewest == 1 else f"{fewest} runs"
        return (
            f"**Differences between methods are not established here.** Some points rest on {runs} only. Another seed "
            "gives another random network, and the order of methods that lie close together can change with it."
        )
    if summary["method"].nunique() == 1:
        return f"There is one method only, {summary['method'].iloc[0]}; nothing is compared."
    parts = []
    for sparsity, points in summary.groupby("sparsity"):
        ends = sorted(zip(points["low"], points["high"], strict=True))
        pairs = [(one, other) for i, one in enumerate(ends) for other in ends[i + 1 :]]
        apart = sum(other[0] > one[1] for one, other in pairs)
        parts.append(f"{apart} of {len(pairs)} at {percent(float(sparsity))} removed")  # type: ignore[arg-type]
    return (
        f"Pairs of methods whose {percent(level)} intervals do not overlap: {', '.join(parts)}. "
        f"For the other pairs, {runs_phrase(list(summary['n']))} runs do not establish which is better."
    )


def what_was_run(table: pd.DataFrame) -> pd.DataFrame:
    """What the rows of one setting are results of, in words: data, network, training, seeds, machine, versions.

    Raises:
        InputError: an empty table, or one that mixes experiments.
    """
    import pandas as pd

    named = one_setting(table)
    row = named.iloc[0]
    pruned = named[named["scorer"] != DENSE]
    network = f"{row['model']}, {row['total']:,} prunable weights, {row['init']} initialization"
    if row["width"] != 1:
        network += f", width × {row['width']:g}"
    part = "" if row["fraction"] == 1 else f", {percent(row['fraction'])} of the training images"
    lines = {
        "data set": f"{row['dataset']}{part}",
        "network": network,
        "recipe": f"{row['recipe']}: {_joined(named.loc[~named['diverged'], 'epochs'])} epochs, {row['precision']}",
        "methods": _joined(pruned_methods(named)),
        "sparsities": _joined(percent(s) for s in sorted(set(pruned["sparsity"]))),
        "seeds": _joined(sorted(set(named["seed"]))),
        "runs": f"{len(named)}" + (f", of which {named['diverged'].sum()} diverged" if named["diverged"].any() else ""),
        "scored on": "; ".join(
            f"{batches} batch{'es' if batches > 1 else ''} of {per_class} images per class, batch norm in {mode} mode"
            for batches, per_class, mode in pruned[["batches", "per_class", "batchnorm"]].drop_duplicates().to_numpy()
        ),
        "accuracy": "of the last epoch, on the test images",
        "device": _joined(named["device"]),
        "versions": "; ".join(
            f"{name} {_joined(named[name])}" for name in ("pruneviz", "torch", "torchvision", "python")
        ),
        "code revision": _joined(text[:12] + "-dirty" * text.endswith("-dirty") for text in named["git_revision"])
        or "not known: the code was not in a git repository",
    }
    return pd.DataFrame({"what was run": {name: text for name, text in lines.items() if text}})


def _entry(summary: Summary) -> str:
    if summary.n < LEAST_FOR_INTERVAL:
        return f"{100 * summary.mean:.1f}"
    return f"{100 * summary.mean:.1f}\u00a0±\u00a0{50 * (summary.high - summary.low):.1f}"


def _joined(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if str(value)))
