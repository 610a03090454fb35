"""The command line: each subcommand is one call of the library; what a user got wrong is one line and status 2."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pruneviz.errors import InputError

_Parsers = Any  # argparse keeps the type of a set of subparsers to itself


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
        status: int = options.run(options)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, as `| head` does
        return 0
    except (InputError, OSError) as error:
        say(f"error: {' '.join(str(error).split())}")
        return 2
    except ModuleNotFoundError as error:
        say(f"error: {options.command!r} needs {error.name!r}: pip install 'pruneviz[{_EXTRAS[options.command]}]'")
        return 2
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    return status


def say(line: str) -> None:
    """One line for the user, on stderr: stdout is for results."""
    print(f"pruneviz: {line}", file=sys.stderr, flush=True)


def _show_warning(message: Warning | str, *_: Any) -> None:
    say(f"warning: {' '.join(str(message).split())}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="pruneviz",
        description="Prune neural networks before they are trained, and measure what that costs.",
        epilog="`pruneviz COMMAND --help` explains a command and shows an example.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_score, _add_train, _add_sweep, _add_table, _add_notebooks, _add_book):
        add(commands)
    return parser


def _command(
    commands: _Parsers, name: str, run: Callable[[argparse.Namespace], int], what: str, more: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}. {more}",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="resnet20", help="the network: mlp, lenet_300_100, lenet5, resnet20, ... (default resnet20)")
    add("--width", type=float, default=1.0, help="factor on its channels (default 1)")
    add("--init", default="kaiming_normal", help="how its weights are drawn (default kaiming_normal)")
    add("--dataset", default="digits", help="digits (built in), cifar10, cifar100 or mnist (default digits)")
    add("--fraction", type=float, default=1.0, help="share of the training images to use (default 1)")
    add("--seed", type=int, default=0, help="of the weights, the batches and the training (default 0)")
    add("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def _add_score(commands: _Parsers) -> None:
    parser = _command(
        commands,
        "score",
        _score,
        "score the weights of a fresh network, and save which to keep",
        "The masks go into a safetensors file.",
        "  pruneviz score snip --model resnet20 --dataset digits --sparsity 0.9 --out masks.safetensors\n"
        "  pruneviz score grasp --option temperature=200 --sparsity 0.98 --out masks.safetensors",
    )
    add = parser.add_argument
    add("scorer", metavar="SCORER", help="the criterion: random, magnitude, snip, grasp, ...")
    add("--sparsity", type=_number, required=True, help="fraction of weights to remove, such as 0.9")
    add("--out", type=Path, required=True, metavar="FILE", help="where the masks go, such as masks.safetensors")
    add("--scope", default="global", help="where weights compete: global, layerwise, uniform or erk (default global)")
    add("--schedule", default="one_shot", help="one_shot, exponential:STEPS or linear:STEPS (default one_shot)")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the scorer; repeatable")
    add("--batchnorm", default="train", help="batch normalization while scoring: train or eval (default train)")
    add("--per-class", type=int, default=10, help="images of each class in a scoring batch (default 10)")
    add("--batches", type=int, default=1, help="scoring batches (default 1)")
    _add_network(parser)


def _add_train(commands: _Parsers) -> None:
    parser = _command(
        commands,
        "train",
        _train,
        "train a network with the masks of a file, or dense",
        "With masks, the network is the one that they were made for.",
        "  pruneviz train --masks masks.safetensors --recipe smoke\n"
        "  pruneviz train --model resnet20 --dataset digits --json",
    )
    add = parser.add_argument
    add("--masks", type=Path, metavar="FILE", help="what `pruneviz score` wrote; without it nothing is pruned")
    add("--recipe", default="smoke", help="how to train: smoke, cifar_10ep, ... (default smoke)")
    add("--precision", default="bf16", help="bf16 or float32 (default bf16)")
    add("--json", action="store_true", help="print everything measured, as JSON")
    _add_network(parser)


def _add_sweep(commands: _Parsers) -> None:
    parser = _command(
        commands,
        "sweep",
        _sweep,
        "run all experiments of a grid that a store does not hold yet",
        "Each finished\nexperiment is one JSON file in the store. Stop it at any moment and start it again: what is "
        "done is skipped.\nEnds with status 1 if an experiment failed, and says which.",
        "  pruneviz sweep book/grids/smoke.yaml --store store\n"
        "  pruneviz sweep book/grids/rq1_cifar10.yaml --store store --jobs 4 --executor slurm \\\n"
        "      -- --default-resources slurm_partition=gpu slurm_extra=\"'--gres=gpu:1'\"",
    )
    add = parser.add_argument
    add("grid", type=Path, metavar="GRID.yaml", help="the experiments, as products of lists")
    add("--store", type=Path, required=True, metavar="DIR", help="the folder of the results, made if needed")
    add("--jobs", type=int, metavar="N", help="experiments at a time (default: one per device)")
    add("--executor", default="local", help="local, or slurm (needs 'pruneviz[slurm]'); default local")
    add("--device", help="cpu, cuda or cuda:1 (default: all GPUs, or the CPU)")
    add(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads of each job (default: an equal share of the cores); their number can change the last bits",
    )


def _add_table(commands: _Parsers) -> None:
    parser = _command(
        commands,
        "table",
        _table,
        "gather all results of a store into one table",
        "One parquet and one CSV file.",
        "  pruneviz table --store store                      # store/table.parquet and store/table.csv\n"
        "  pruneviz table --store store --out results/first  # results/first.parquet and results/first.csv",
    )
    add = parser.add_argument
    add("--store", type=Path, required=True, metavar="DIR", help="the folder that a sweep wrote to")
    add("--out", type=Path, metavar="PREFIX", help="the files without their endings (default: DIR/table)")
    add("--quiet", action="store_true", help="do not say where the table is")


def _add_notebooks(commands: _Parsers) -> None:
    parser = _command(
        commands,
        "notebooks",
        _notebooks,
        "execute the notebooks from their first cell to their last",
        "The executed copies go into a folder. One that fails is kept there as NAME.failed.ipynb.",
        "  pruneviz notebooks --profile smoke -p dataset mnist",
    )
    add = parser.add_argument
    add("notebooks", type=Path, nargs="*", metavar="NOTEBOOK", help="default: all in the folder notebooks")
    add("--profile", default="smoke", choices=("smoke", "paper"), help="smoke: minutes; paper: the real experiments")
    add("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="for the notebooks that have it, repeatable; relative paths start at the notebook's folder")  # fmt: skip
    add("--out", type=Path, default=Path("_build/executed"), metavar="DIR", help="default _build/executed")


def _add_book(commands: _Parsers) -> None:
    _command(
        commands,
        "book",
        _book,
        "build the book: smoke sweep, notebooks, pages",
        "Run it in the project's folder; its last line is the path of the first page.",
        "  pruneviz book",
    )


def _score(options: argparse.Namespace) -> int:
    from pruneviz import masks as masks_
    from pruneviz.study.cell import DENSE, Cell
    from pruneviz.study.run import masks_of

    if options.scorer == DENSE:
        raise InputError("scorer 'dense' removes nothing, so there are no masks to save; choose another scorer")
    names = ("scorer", "sparsity", "scope", "schedule", "batchnorm", "per_class", "batches", *_NETWORK)
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
    from pruneviz.masks import load_masks
    from pruneviz.recipe import RECIPES
    from pruneviz.study.cell import Cell
    from pruneviz.study.run import pick_device, untrained
    from pruneviz.train import train

    masks, meta = load_masks(options.masks) if options.masks else (None, {})
    asked = {name: getattr(options, name) for name in _NETWORK}
    # A mask belongs to the initialization that it was made for; only what training alone needs may differ.
    network = asked | {name: meta[name] for name in _NETWORK if name in meta}
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
        snakemake=tuple(options.further),
    )
    return sweep(options.grid, options.store, settings, say)


def _table(options: argparse.Namespace) -> int:
    from pruneviz.study.table import make_table, write_table

    prefix = options.out or options.store / "table"
    table = make_table(options.store)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, prefix)
    if not options.quiet:
        print(f"{prefix}.parquet and {prefix}.csv: {len(table)} rows")
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from pruneviz.study.notebook import StepError, execute_all

    given = dict(_setting("=".join(pair)) for pair in options.parameter)
    notebooks = options.notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    try:
        done = execute_all(notebooks, options.out, {"profile": options.profile, **given})
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


def _number(text: str) -> float | str:
    """A number, or the text itself, which `Cell` then refuses in its own words."""
    try:
        return float(text)
    except ValueError:
        return text


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InputError(f"--option {text!r} is not accepted: give NAME=VALUE, such as temperature=200")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


_NETWORK = ("model", "width", "init", "dataset", "fraction", "seed")
_EXTRAS = {"sweep": "sweep", "notebooks": "book", "book": "book", "score": "sweep", "train": "sweep", "table": "sweep"}
