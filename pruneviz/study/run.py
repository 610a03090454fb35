"""Running cells: score once, cut at every sparsity, train each, write a record; skip what is done."""

from __future__ import annotations

import copy
import os
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from tqdm import tqdm

from pruneviz import masks as masks_
from pruneviz import models
from pruneviz.allocate import LayerCollapseWarning, allocate, cut
from pruneviz.data import ImageData, load, scoring_batches
from pruneviz.device import pick_device
from pruneviz.errors import InputError
from pruneviz.files import write_atomically
from pruneviz.masks import Masks
from pruneviz.probes import gradient_flow
from pruneviz.problem import Problem
from pruneviz.prune import prune
from pruneviz.recipe import RECIPES
from pruneviz.scorers import Scores, score
from pruneviz.scorers.registry import option_names, source_of
from pruneviz.study import record
from pruneviz.study.cell import DENSE, Cell, shards
from pruneviz.study.environment import describe
from pruneviz.study.locks import hold
from pruneviz.train import train


class CellsFailed(RuntimeError):
    """Some cells raised; the others are done. The message has a line for each."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: the cell.
        record: what it measured; None if it failed or had been done before.
        error: the error's type and message; None if it did not fail.
    """

    cell: Cell
    record: dict[str, Any] | None = None
    error: str | None = None


def compute(
    cells: Sequence[Cell],
    store: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> None:
    """Run cells in this process, one after the other, and write their records.

    Cells that have a record are skipped, so that the call can be repeated, and interrupted at any moment. The
    number of threads is left as it is; on a CPU it can change the last bits of a result.

    Args:
        cells: what to run. Neighbours that share data set, model and scorer share the scores.
        store: the folder of the records, made if needed.
        device: where to run; None for a GPU if there is one.
        progress: show bars on stderr, if that is a terminal.

    Raises:
        CellsFailed: after all the others are done, if any cell raised; see `<store>/<hash>.error`.
        InputError: if a data set is missing.
        OSError: if the store cannot be written.
    """
    failed = [o for o in outcomes(cells, store, device=device, progress=progress) if o.error is not None]
    if failed:
        raise CellsFailed("\n".join(f"{outcome.cell.label}: {outcome.error}" for outcome in failed))


def outcomes(
    cells: Sequence[Cell],
    store: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Iterator[Outcome]:
    """As `compute`, but tell what became of each cell as soon as it is known, and raise for no cell."""
    place = pick_device(device)
    folder = record.open_store(store)
    with tqdm(total=len(cells), unit="cell", disable=None if progress else True) as bar:
        for shard in shards(list(cells)):
            bench = _Bench(shard[0], place, progress)
            # First what is free, then what another process was busy with: by then it is done, or given up.
            waiting: list[Cell] = []
            for cell in shard:
                bar.set_description(cell.label)
                outcome = _attempt(cell, folder, bench, wait=False)
                if outcome is None:
                    waiting.append(cell)
                    continue
                bar.update()
                yield outcome
            for cell in waiting:
                bar.set_description(f"{cell.label}: waiting for another process")
                yield _attempt(cell, folder, bench, wait=True) or Outcome(cell)
                bar.update()


def _attempt(cell: Cell, store: Path, bench: _Bench, *, wait: bool) -> Outcome | None:
    """Run a cell unless it is done; None if another process is at it and we do not wait."""
    if record.is_done(store, cell):
        return Outcome(cell)
    path = store / ".sweep" / "locks" / cell.hash
    lock: IO[Any] | nullcontext[None] | None = nullcontext()
    with suppress(OSError):  # without locks two processes may do the same work, which is harmless
        lock = hold(path, wait=wait)
    if lock is None:
        return None
    with lock:
        outcome = Outcome(cell) if record.is_done(store, cell) else _run(cell, store, bench)
        path.unlink(missing_ok=True)  # who waits for it finds the record
        return outcome


def _run(cell: Cell, store: Path, bench: _Bench) -> Outcome:
    try:
        measured = bench.measure(cell)
    except (OSError, MissingData):
        raise  # not this cell's fault: no other cell could do better
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        text = f"{cell.label}: {reason}\n{cell.as_dict()}\n\n{traceback.format_exc()}"
        write_atomically(record.error_path(store, cell.hash), text.encode())
        return Outcome(cell, error=reason)
    record.write(store, measured)
    return Outcome(cell, record=measured)


class MissingData(InputError):
    """A data set that is missing or damaged: a fault of the machine, not of a cell."""


class _Bench:
    """What the cells of a shard share: the data, loaded once, and the scores of one seed and set of batches."""

    def __init__(self, cell: Cell, device: torch.device, progress: bool) -> None:
        self.device, self.progress = device, progress
        self._dataset, self._fraction = cell.dataset, cell.fraction
        self._data: ImageData | None = None
        self._scored: tuple[tuple[Any, ...], _Scored] | None = None

    @property
    def data(self) -> ImageData:
        """Loaded when first needed: a shard that is done reads no images."""
        if self._data is None:
            try:
                self._data = load(self._dataset, fraction=self._fraction, seed=0, device=self.device)
            except InputError as error:
                raise MissingData(str(error)) from error
        return self._data

    def scored(self, cell: Cell) -> _Scored:
        """The cell's network before training, and the scores of its weights."""
        key = (cell.shard, cell.seed, cell.per_class, cell.batches, cell.batchnorm)
        if self._scored is None or self._scored[0] != key:
            self._scored = (key, _Scored(cell, self.data, self.device))
        return self._scored[1]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Prune, train and measure one cell; a record."""
        began = time.perf_counter()
        scored = self.scored(cell)
        masks, score_seconds = scored.cut(cell)
        flow = scored.flow if masks is None else gradient_flow(scored.problem, masks).norm_squared
        recipe = RECIPES[cell.recipe]
        result = train(
            copy.deepcopy(scored.problem.model),
            masks,
            self.data,
            recipe,
            seed=cell.seed,
            precision=cell.precision,
            device=self.device,
            progress=self.progress,
        )
        if masks is None:
            layers = {name: (w.numel(), w.numel()) for name, w in scored.problem.weights.items()}
        else:
            layers = masks_.counts(masks)
        return {
            "schema": record.SCHEMA,
            "hash": cell.hash,
            "cell": cell.as_dict(),
            "recipe": asdict(recipe),
            "result": asdict(result),
            "gradient_norm_squared": flow,
            "gradient_norm_squared_dense": scored.flow,
            "layers": layers,
            "environment": describe(self.device) | provenance(cell),
            "seconds": {
                "score": score_seconds,
                "train": result.seconds,
                "total": time.perf_counter() - began,
            },
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }


class _Scored:
    """A network before training, its gradient's norm, and its scores, computed when first asked for."""

    def __init__(self, cell: Cell, data: ImageData, device: torch.device) -> None:
        model = untrained(cell, data).to(device)
        batches = scoring_batches(data, per_class=cell.per_class, batches=cell.batches, seed=cell.seed)
        self.problem = Problem(model, batches, batchnorm=cell.batchnorm)
        self.flow = gradient_flow(self.problem).norm_squared
        self._scores: tuple[Scores, float] | None = None

    def cut(self, cell: Cell) -> tuple[Masks | None, float]:
        """The cell's masks, None for "dense", and the seconds that scoring and cutting took or had taken.

        Collapsed layers are not warned of: the masks and the records say which they are.
        """
        began = time.perf_counter()
        if cell.scorer == DENSE:
            return None, 0.0
        options = scorer_options(cell)
        if cell.schedule != "one_shot":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LayerCollapseWarning)
                masks = prune(
                    self.problem,
                    cell.scorer,
                    cell.sparsity,
                    scope=cell.scope,
                    schedule=cell.schedule,
                    minimum=cell.minimum,
                    **options,
                )
            return masks, time.perf_counter() - began
        if self._scores is None:
            scores = score(cell.scorer, self.problem, **options)
            self._scores = (scores, time.perf_counter() - began)
            began = time.perf_counter()
        scores, seconds = self._scores
        masks = cut(scores, cell.sparsity, cell.scope, cell.minimum)
        return masks, seconds + time.perf_counter() - began


def untrained(cell: Cell, data: ImageData) -> nn.Module:
    """The cell's network as its seed initializes it, on the CPU."""
    return models.create(
        cell.model,
        input_shape=data.input_shape,
        classes=data.classes,
        width=cell.width,
        init=cell.init,
        seed=cell.seed,
    )


def masks_of(cell: Cell, *, device: torch.device | str | None = None) -> Masks:
    """The masks that the cell trains with; those of a "dense" cell keep everything.

    Raises:
        InputError: if the data set is missing, or the network, the scorer or the cut refuses the cell.
    """
    scored = _Bench(cell, pick_device(device), progress=False).scored(cell)
    masks, _ = scored.cut(cell)
    return allocate(scored.problem.weights, 0.0) if masks is None else masks


def scorer_options(cell: Cell) -> dict[str, Any]:
    """The options that the cell's scorer is called with: its own, and the cell's seed if it draws numbers."""
    options = dict(cell.options)
    if "seed" in option_names(cell.scorer):
        options.setdefault("seed", cell.seed)
    return options


def provenance(cell: Cell) -> dict[str, Any]:
    """What a record says of a scorer that the library did not bring: its module and the hash of its file."""
    source = None if cell.scorer == DENSE else source_of(cell.scorer)
    return {} if source is None else {"scorer": asdict(source)}
