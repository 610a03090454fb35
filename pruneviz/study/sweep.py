"""`pruneviz sweep`: what is missing in a store, computed by a graph of jobs that can be killed at any moment."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pruneviz
from pruneviz.errors import InputError, check_choice, check_positive
from pruneviz.files import write_atomically
from pruneviz.scorers.imports import import_scorers, imported
from pruneviz.study import record
from pruneviz.study.cell import Cell, shards
from pruneviz.study.graph_end import GraphEnd, read_end
from pruneviz.study.grid import read_grid
from pruneviz.study.leftovers import clear_leftovers
from pruneviz.study.locks import hold
from pruneviz.study.preflight import check, not_done
from pruneviz.study.run import provenance
from pruneviz.study.status import failure
from pruneviz.study.table import make_table, write_table
from pruneviz.study.worker import cores

EXECUTORS = ("local", "slurm")
_GRAPH = Path(__file__).with_name("sweep.smk")
_PROFILES = {"slurm": Path(__file__).with_name("slurm")}
_PATIENCE_SECONDS = 10.0
_STDERR = 2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a sweep is run.

    Attributes:
        jobs: shards at a time; None for one per device, and with Slurm for all of them.
        executor: "local" or "slurm".
        device: "cpu", "cuda", "cuda:1"; None for all GPUs if there are any.
        threads: of torch in each job; None for an equal share of the cores.
        retry_failed: whether to compute cells again that raised in an earlier sweep.
        imports: modules that register scorers, which every job imports, beside those that the grid names.
        snakemake: further arguments for Snakemake, such as those of a cluster.
    """

    jobs: int | None = None
    executor: str = "local"
    device: str | None = None
    threads: int | None = None
    retry_failed: bool = False
    imports: Sequence[str] = ()
    snakemake: Sequence[str] = ()


def sweep(grid: str | os.PathLike[str], store: str | os.PathLike[str], settings: Settings, say: Say) -> int:
    """Compute every cell of a grid that a store has no record of, then make the store's table.

    Everything that can be wrong with the input is found before anything is written. Several sweeps may use
    one store at the same time. A cell that has raised keeps its error, and is computed again only on request.

    Args:
        grid: the YAML file; see `read_grid`.
        store: the folder of the records, made if needed.
        settings: how to run.
        say: takes one line for the user at a time.

    Returns:
        The exit status: 0, or 1 if cells failed or a worker died; 0 also if Snakemake was asked to run nothing.

    Raises:
        InputError: a bad grid, a missing data set, an extra that is not installed, arguments that Snakemake refuses;
            or, once all other work is done, what a job cannot use, such as a scorer that it does not know.
        OSError: a store that cannot be written.
    """
    _check(settings)
    for module in settings.imports:
        import_scorers(module)
    cells, folder = read_grid(grid), Path(store).absolute()
    pending = not_done(cells, folder, say)
    if not pending:
        write_table(make_table(folder), folder / "table")
        say(f"all {len(cells)} cells are done; the table is {folder / 'table.parquet'}")
        return 0
    kept = [] if settings.retry_failed else [cell for cell in pending if failure(folder, cell) is not None]
    to_do = [cell for cell in pending if cell not in set(kept)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", record.DamagedRecordWarning)  # each has been told above
        end = GraphEnd()
        if to_do:
            _check_ready(to_do, settings)
            _check_writable(folder)
            failed = f", {len(kept)} failed" if kept else ""
            say(f"{len(cells)} cells, {len(cells) - len(pending)} done{failed}, {len(to_do)} to do")
            end = _run_graph(cells, set(kept), folder, settings)
        return _report(cells, folder, end, settings, say)


def _check(settings: Settings) -> None:
    from pruneviz.device import pick_device

    check_choice("executor", settings.executor, EXECUTORS)
    for what, number in (("jobs", settings.jobs), ("threads", settings.threads)):
        if number is not None:
            check_positive(what, number)
    if settings.executor == "local":
        pick_device(settings.device)


def _check_ready(pending: Sequence[Cell], settings: Settings) -> None:
    if importlib.util.find_spec("snakemake") is None:
        raise InputError("a sweep needs Snakemake: pip install 'pruneviz[sweep]'")
    plugin = f"snakemake_executor_plugin_{settings.executor}"
    if settings.executor != "local" and importlib.util.find_spec(plugin) is None:
        raise InputError(
            f"--executor {settings.executor} needs a plugin of Snakemake: pip install 'pruneviz[{settings.executor}]'"
        )
    check(pending)


def _check_writable(store: Path) -> None:
    """Write and remove as much as a record needs, so that a full or forbidden place is known before the work."""
    probe = record.open_store(store) / ".sweep" / f"probe-{uuid.uuid4().hex}"
    write_atomically(probe, b"x" * 65536)
    probe.unlink()


def _run_graph(cells: list[Cell], kept: Set[Cell], store: Path, settings: Settings) -> GraphEnd:
    """Let Snakemake run the graph."""
    state, log = store / ".sweep", _log(store)
    clear_leftovers(store)
    run = state / f"run-{uuid.uuid4().hex}"
    run.mkdir()
    # Held as long as this process lives: the workers stop without it, and a later sweep clears what is left.
    alive = None
    with suppress(OSError):
        alive = hold(run / "alive")
    try:
        plan = _plan(cells, kept, store, run, settings)
        write_atomically(run / "plan.json", json.dumps(plan).encode())
        log.unlink(missing_ok=True)
        status = _snakemake(run, plan["jobs"], settings)
        if status != 0:
            shutil.copyfile(run / "snakemake.log", log)
        return read_end(status, plan, run / "snakemake.log")
    finally:
        if alive is not None:
            alive.close()
        shutil.rmtree(run, ignore_errors=True)


def _plan(cells: list[Cell], kept: Set[Cell], store: Path, run: Path, settings: Settings) -> dict[str, Any]:
    """All that the graph and its workers need to know, without the cells that stay failed.

    Markers are made to agree with the records.
    """
    numbers = {cell.hash: number for number, cell in enumerate(cells, 1)}
    described = []
    for index, shard in enumerate(shards([cell for cell in cells if cell not in kept])):
        name = hashlib.sha256("".join(sorted(cell.hash for cell in shard)).encode()).hexdigest()[:16]
        marker = store / ".sweep" / f"{name}.done"
        if all(record.is_done(store, cell) for cell in shard):
            marker.touch()
        else:
            marker.unlink(missing_ok=True)
        described.append(
            {
                "marker": str(marker),
                "ended": str(run / f"shard-{index}.ended"),
                "cells": [cell.as_dict() for cell in shard],
                "numbers": [numbers[cell.hash] for cell in shard],
            }
        )
    origins = {cell.scorer: provenance(cell).get("scorer") for cell in cells}
    local = settings.executor == "local"
    devices = _devices(settings.device) if local else [settings.device]
    jobs = settings.jobs or (len(devices) if local else len(described))
    threads = settings.threads or (max(1, cores() // jobs) if local else None)
    return {
        "plan": str(run / "plan.json"),
        "alive": str(run / "alive"),
        "table": str(run / "table.done"),
        "started": str(run / "started"),
        "refusal": str(run / "refusal"),
        "store": str(store),
        "executor": settings.executor,
        "host": socket.gethostname(),
        "python": sys.executable,
        "devices": [devices[job % len(devices)] for job in range(jobs)],
        "jobs": jobs,
        "threads": threads,
        "job_threads": 1 if local else settings.threads or 1,
        "path": [os.path.abspath(folder) for folder in sys.path],
        "imports": imported(),
        "sources": {scorer: origin for scorer, origin in origins.items() if origin},
        "total": len(cells),
        "shards": described,
    }


def _devices(device: str | None) -> list[str]:
    import torch

    from pruneviz.device import pick_device

    place = pick_device(device)
    if place.type == "cuda" and place.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(place)]


def _snakemake(run: Path, jobs: int, settings: Settings) -> int:
    """Run Snakemake in a folder of its own, so that no lock or note of another run can stop this one."""
    arguments = [sys.executable, "-m", "snakemake", "--snakefile", str(_GRAPH), "--configfile", str(run / "plan.json")]
    arguments += ["--directory", str(run), "--runtime-source-cache-path", str(run / "cache")]
    arguments += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going"]
    if settings.executor in _PROFILES and "--profile" not in settings.snakemake:
        arguments += ["--profile", str(_PROFILES[settings.executor])]
    if settings.executor == "slurm":
        arguments += ["--slurm-logdir", str(run.parent / "slurm-logs")]  # of jobs that failed; beyond the sweep
    arguments += ["--executor", settings.executor, "--jobs", str(jobs), *settings.snakemake]
    # The workers run in another folder, and must find the very package that runs here.
    paths = [str(Path(pruneviz.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (run / "snakemake.log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            stderr=log if settings.executor == "local" else None,
            process_group=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            return process.wait()
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End Snakemake and its workers; the workers also where Snakemake itself was killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
            return


def _log(store: Path) -> Path:
    """What Snakemake had to say in a sweep that was not done."""
    return store / ".sweep" / "snakemake.log"


def _report(cells: Sequence[Cell], store: Path, end: GraphEnd, settings: Settings, say: Say) -> int:
    open_ = [cell for cell in cells if not record.is_done(store, cell)]
    failed = {cell: reason for cell in open_ if (reason := failure(store, cell)) is not None}
    missing = [cell for cell in open_ if cell not in failed]
    if not end.went_well:
        _check_writable(store)  # a full disk is an error of its own, with a message of its own
        write_table(make_table(store), store / "table")
    for cell, reason in failed.items():
        say(f"failed: {reason} (traceback in {record.error_path(store, cell.hash)})")
    if failed:
        say(f"the same command with --retry-failed computes {'it' if len(failed) == 1 else 'them'} again")
    unfinished = f"{len(missing)} of {len(cells)} cells are not finished"
    if end.refusal:
        raise InputError(f"{end.refusal} ({unfinished})")
    if missing and end.went_well and not end.started:
        say(f"{unfinished}: Snakemake was to run nothing, by {' '.join(settings.snakemake)}")
        return 1 if failed else 0
    if missing:
        say(
            f"{unfinished}, because a worker or Snakemake was stopped; the same command goes on from here (Snakemake's "
            f"log is {_log(store)})"
        )
    if not failed and not missing:
        say(f"all {len(cells)} cells are done; the table is {store / 'table.parquet'}")
    return 1 if failed or missing else 0
