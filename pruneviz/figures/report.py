"""Tables for readers: accuracies as text, and what was run, all of it taken from the rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pruneviz.figures.compare import compare
from pruneviz.figures.methods import DENSE, one_setting, pruned_methods
from pruneviz.figures.style import percent, runs_phrase
from pruneviz.figures.summary import LEAST_FOR_INTERVAL, Summary, summarize

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
        text = entry(summarize(dense[column], level=level))
        lines["Dense"] = {"n": str(len(dense)), _NONE: text}
    for method in pruned_methods(named):
        rows = named[named["method"] == method]
        runs = {sparsity: rows.loc[rows["sparsity"] == sparsity, column] for sparsity in sparsities}
        lines[method] = {"n": runs_phrase([len(r) for r in runs.values() if len(r)]).removeprefix("n = ")}
        lines[method] |= {
            percent(sparsity): entry(summarize(values, level=level)) for sparsity, values in runs.items() if len(values)
        }
    frame = pd.DataFrame.from_dict(lines, orient="index").fillna("")
    wanted = ["n", _NONE, *map(percent, sparsities)]
    return frame[[name for name in wanted if name in frame.columns]].rename_axis(columns="removed")


def how_sure(table: pd.DataFrame, *, column: str = "test_accuracy", level: float = 0.95) -> str:
    """What the number of runs allows to say about which method is better: a few sentences, in Markdown.

    With three runs and more, pairs of methods are tested by their paired differences over seeds, see `compare`.

    Args:
        table: rows of one setting, with the columns of a table of records.
        column: which accuracy, a fraction.
        level: 1 minus the level of the tests, for all pairs at one sparsity together.

    Raises:
        InputError: an empty table, or one that mixes experiments.
    """
    named = one_setting(table)
    named = named[named["scorer"] != DENSE]
    methods = pruned_methods(named)
    if len(methods) < 2:
        only = f"There is one method only, {methods[0]}" if methods else "There is no pruned network yet"
        return f"{only}; nothing is compared."
    counts = [int(n) for n in named.groupby(["sparsity", "method"]).size()]
    undecided = "**Which method is better is not decided here.**"
    if max(counts) < LEAST_FOR_INTERVAL:
        return f"{undecided} {_too_few(min(counts), max(counts))}"
    pairs = compare(named, column=column, level=level)
    tested = pairs[pairs["n"] >= LEAST_FOR_INTERVAL]
    said = [] if len(tested) else [undecided]
    if len(tested):
        decided = ", ".join(
            f"{of['decided'].sum()} of {len(of)} at {percent(float(sparsity))} removed"  # type: ignore[arg-type]
            for sparsity, of in tested.groupby("sparsity")
        )
        said.append(
            f"Pairs of methods for which it is decided which is better: {decided} (paired t tests of the differences "
            f"seed by seed, with Holm's correction over the pairs at one sparsity, at a level of {percent(1 - level)})."
        )
        if not tested["decided"].all():
            n = runs_phrase(list(tested["n"]))
            said.append(f"About the rest, {n} seeds do not tell which is better, nor that they are alike.")
    if len(tested) < len(pairs):
        rest = f"Some points rest on {_runs(min(counts))} only. " if min(counts) < LEAST_FOR_INTERVAL else ""
        said.append(
            f"{rest}Some pairs have fewer than {LEAST_FOR_INTERVAL} seeds in common: about these, nothing is decided."
        )
    return " ".join(said)


def _too_few(fewest: int, most: int) -> str:
    """What is said where no point has enough runs."""
    if fewest < most:
        points, runs = f"Some points rest on {_runs(fewest)} only, others on {_runs(most)}", "so few"
    else:
        points, runs = f"Each point is {'one run' if most == 1 else f'the mean of {_runs(most)}'}", _runs(most)
    return (
        f"{points}, and with {runs} nothing is decided about which is better: another seed gives another random "
        "network, and the order of the methods can change with it."
    )


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"


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
        "device": "; ".join(_on(device, rows["threads"]) for device, rows in named.groupby("device", sort=False)),
        "versions": "; ".join(
            f"{name} {_joined(named[name])}" for name in ("pruneviz", "torch", "torchvision", "python")
        ),
        "code revision": _joined(text[:12] + "-dirty" * text.endswith("-dirty") for text in named["git_revision"])
        or "not known: the code was not in a git repository",
    }
    return pd.DataFrame({"what was run": {name: text for name, text in lines.items() if text}})


def entry(summary: Summary) -> str:
    """An accuracy as a reader's text, in percent: "91.2 ± 0.4", or the mean alone for fewer than three runs."""
    if summary.n < LEAST_FOR_INTERVAL:
        return f"{100 * summary.mean:.1f}"
    return f"{100 * summary.mean:.1f}\u00a0±\u00a0{50 * (summary.high - summary.low):.1f}"


def _on(device: object, threads: Iterable[int]) -> str:
    """A device with its threads: "AMD EPYC, 1 and 2 CPU threads"."""
    counts = sorted(set(threads))
    listed = " and ".join(filter(None, [", ".join(map(str, counts[:-1])), str(counts[-1])]))
    return f"{device}, {listed} CPU thread{'s' * (counts != [1])}"


def _joined(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if str(value)))
