"""The command line: each subcommand is one call of the library; what a user got wrong is one line and status 2."""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pruneviz.arguments import NETWORK, build_parser
from pruneviz.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `pruneviz`; returns the exit status: 0, 1 if work failed, 2 for bad input, 130 if interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, further = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    options = build_parser().parse_args(own)
    options.further = further
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        if further and options.command != "sweep":
            raise InputError(f"{options.command!r} takes no arguments after '--'; received {' '.join(further)!r}")
        return _RUN[options.command](options)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, as `| head` does
        return 0
    except (InputError, OSError) as error:
        say(f"error: {' '.join(str(error).split())}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _MEMORY.search(str(error))):
            raise
        asked = _AMOUNT.search(str(error))
        say(
            f"error: there is no memory for {f'another {asked[1]}' if asked else 'more'}; lower the width, the images "
            "per class or the batches, or run fewer jobs at once"
        )
        return 2
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(options.command, "sweep")
        say(f"error: {options.command!r} needs {error.name!r}: pip install 'pruneviz[{extra}]'")
        return 2
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here" if options.command in _RESUMED else "interrupted")
        return 130


def say(line: str) -> None:
    """One line for the user, on stderr: stdout is for results."""
    print(f"pruneviz: {line}", file=sys.stderr, flush=True)


def _show_warning(message: Warning | str, *_: Any) -> None:
    say(f"warning: {' '.join(str(message).split())}")


def _score(options: argparse.Namespace) -> int:
    from pruneviz import masks as masks_
    from pruneviz.scorers.imports import import_scorers
    from pruneviz.study.cell import DENSE, Cell
    from pruneviz.study.run import masks_of

    if options.scorer == DENSE:
        raise InputError("scorer 'dense' removes nothing, so there are no masks to save; choose another scorer")
    for module in options.imports:
        import_scorers(module)
    names = ("scorer", "sparsity", "scope", "minimum", "schedule", "batchnorm", "per_class", "batches", *NETWORK)
    cell = Cell(options=dict(map(_setting, options.option)), **{name: getattr(options, name) for name in names})
    masks = masks_of(cell, device=options.device)
    masks_.save_masks(options.out, masks, meta=cell.as_dict())
    kept, total = masks_.kept(masks), masks_.total(masks)
    print(f"{options.out}: {kept:,} of {total:,} weights kept ({kept / total:.2%})")
    for name in masks_.collapsed(masks):
        say(f"warning: layer {name!r} keeps no weight at all")
    return 0


def _train(options: argparse.Namespace) -> int:
    from pruneviz.data import load
    from pruneviz.device import pick_device
    from pruneviz.masks import load_masks
    from pruneviz.recipe import RECIPES
    from pruneviz.study.cell import Cell
    from pruneviz.study.run import untrained
    from pruneviz.train import train

    masks, meta = load_masks(options.masks) if options.masks else (None, {})
    asked = {name: getattr(options, name) for name in NETWORK}
    # A mask belongs to the initialization that it was made for; only what training alone needs may differ.
    network = asked | {name: meta[name] for name in NETWORK if name in meta}
    cell = Cell(recipe=options.recipe, precision=options.precision, **network)
    place = pick_device(options.device)
    data = load(cell.dataset, fraction=cell.fraction, seed=0, device=place)
    model, recipe = untrained(cell, data), RECIPES[cell.recipe]
    result = train(model, masks, data, recipe, seed=cell.seed, precision=cell.precision, device=place)
    if options.json:
        from pruneviz.study.record import encode

        print(json.dumps(encode({"cell": cell.as_dict(), "masks": meta or None, "result": asdict(result)}), indent=1))
        return 0
    diverged = " (diverged)" if result.diverged else ""
    print(f"test accuracy        {result.test_accuracy:.2%}{diverged}")
    print(f"validation accuracy  {result.validation_accuracy[-1]:.2%}")
    print(f"epochs               {result.epochs}, {result.images_per_second:,.0f} images/s")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from pruneviz.study.sweep import Settings, sweep

    settings = Settings(
        jobs=options.jobs,
        executor=options.executor,
        device=options.device,
        threads=options.threads,
        retry_failed=options.retry_failed,
        imports=tuple(options.imports),
        snakemake=tuple(options.further),
    )
    return sweep(options.grid, options.store, settings, say)


def _status(options: argparse.Namespace) -> int:
    from pruneviz.scorers.imports import import_scorers
    from pruneviz.study.grid import read_grid
    from pruneviz.study.status import status

    for module in options.imports:
        import_scorers(module)
    found = status(read_grid(options.grid), options.store)
    print(json.dumps(found.as_dict(), indent=1) if options.json else "\n".join(found.lines()))
    return 0


def _table(options: argparse.Namespace) -> int:
    from pruneviz.study.table import make_table, write_table

    prefix = options.out or options.store / "table"
    table = make_table(options.store)
    if table.empty and not (options.store / ".sweep").is_dir():
        raise InputError(f"{str(options.store)!r} is no store: it holds no record, and no sweep has written to it")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, prefix)
    if not options.quiet:
        print(f"{prefix}.parquet and {prefix}.csv: {len(table)} rows")
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from pruneviz.study.notebook import TIME_LIMIT, StepError, execute_all

    given = dict(_setting("=".join(pair)) for pair in options.parameter)
    notebooks = options.notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    parameters = {"profile": options.profile, **given}
    limit = options.time_limit
    if limit is None and parameters["profile"] != "paper":
        limit = TIME_LIMIT
    try:
        done = execute_all(notebooks, options.out, parameters, time_limit=limit)
    except StepError as error:
        say(f"error: {error}")
        return 1
    print(*done, sep="\n")
    return 0


def _book(options: argparse.Namespace) -> int:
    from pruneviz.study.book import build
    from pruneviz.study.notebook import StepError

    try:
        print(build(Path.cwd()))
    except StepError as error:
        say(f"error: {error}")
        return 1
    return 0


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InputError(f"--option {text!r} is not accepted: give NAME=VALUE, such as temperature=200")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "score": _score,
    "train": _train,
    "sweep": _sweep,
    "status": _status,
    "table": _table,
    "notebooks": _notebooks,
    "book": _book,
}
# What PyTorch says on a CPU and on a GPU, and of sizes beyond what any machine can count.
_MEMORY = re.compile(r"allocate memory|not enough memory|out of memory|ALLOC_FAILED|size calculation overflowed", re.I)
_AMOUNT = re.compile(r"tried to allocate ([\d.]+ \w+)", re.I)
_RESUMED = ("sweep", "notebooks", "book")  # what they have finished is kept
_EXTRAS = {"notebooks": "book", "book": "book"}
