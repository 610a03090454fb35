"""A worker's process: which shards it runs, with the sweep around it left out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import exit_status, fork

from pruneviz.study import record, run, sweep, worker
from pruneviz.study.cell import Cell
from pruneviz.study.locks import hold

END_WITH = worker._end_with
SHARDS = 4
CELLS = [
    Cell(
        model="mlp", width=0.02 + shard / 1000, fraction=0.02, scorer="magnitude", sparsity=0.5, per_class=1, seed=seed
    )
    for shard in range(SHARDS)
    for seed in (0, 1)
]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.setattr(worker, "_end_with", lambda _: None)  # it would end this process
    store = record.open_store(tmp_path / "store")
    (store / ".sweep" / "run-1").mkdir()
    settings = sweep.Settings(device="cpu", threads=1)
    made = sweep._plan(CELLS, set(), store, store / ".sweep" / "run-1", settings)
    Path(made["plan"]).write_text(json.dumps(made))
    threads = torch.get_num_threads()
    yield made
    torch.set_num_threads(threads)


def done(plan: dict[str, Any]) -> list[int]:
    """The shards whose cells all have records."""
    store = Path(plan["store"])
    return [k for k in range(SHARDS) if all(record.is_done(store, cell) for cell in CELLS[2 * k : 2 * k + 2])]


def ended(plan: dict[str, Any]) -> list[int]:
    return [k for k, shard in enumerate(plan["shards"]) if Path(shard["ended"]).exists()]


def test_a_quick_process_goes_on_with_shards_that_nobody_has_begun(
    plan: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(plan["shards"][3]["ended"]).touch()
    with hold(worker._claim_path(plan, 2)) as lock:  # as another process does
        assert lock is not None
        assert worker.main(plan["plan"], 1) == 0
    assert done(plan) == [0, 1]
    assert ended(plan) == [0, 1, 3]
    said = [line.partition("]")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["[3/8", "[4/8", "[1/8", "[2/8"]  # its own first
    # The process that Snakemake starts for a shard runs it, also where another one has begun it and was killed.
    assert worker.main(plan["plan"], 2) == 0
    assert done(plan) == [0, 1, 2]


def test_a_slow_process_leaves_the_others_their_shards(plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_TAKES_MORE_SECONDS", 0.0)
    assert worker.main(plan["plan"], 1) == 0
    assert (done(plan), ended(plan)) == ([1], [1])


def test_bad_input_of_another_shard_is_left_to_its_own_process(
    plan: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan["sources"]["nobody_has_this"] = {"module": "gone", "sha256": ""}
    plan["shards"][2]["cells"][0]["scorer"] = "nobody_has_this"
    Path(plan["plan"]).write_text(json.dumps(plan))
    assert worker.main(plan["plan"], 0) == 0
    assert done(plan) == [0, 1, 3]
    assert not Path(plan["refusal"]).exists()
    assert worker.main(plan["plan"], 2) == 2
    assert "'nobody_has_this' is not known to the processes of the sweep" in Path(plan["refusal"]).read_text()
    assert "Traceback" not in capsys.readouterr().err


def break_training(patch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """Let training with seed 0 raise; returns the list of the seeds that it is called with."""
    train, seeds = run.train, []

    def broken(*arguments: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        if seed == 0:
            raise error
        return train(*arguments, seed=seed, **options)

    patch.setattr(run, "train", broken)
    return seeds


def test_a_gpu_that_is_lost_ends_the_process_and_fails_no_cell(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported")
    seeds = break_training(monkeypatch, lost)
    assert worker.main(plan["plan"], 1) == 2
    assert seeds == [0]
    assert ended(plan) == []
    assert not list(Path(plan["store"]).glob("*.error"))
    assert capsys.readouterr().err == (
        f"pruneviz: error: the GPU does no more work for this process since {CELLS[2].label}: CUDA error: device-side "
        "assert triggered; the cells left are not failed but missing, and the same command computes them\n"
    )


@pytest.mark.parametrize(
    "full",
    [torch.OutOfMemoryError("CUDA out of memory."), torch.AcceleratorError("CUDA error: out of memory\nmore")],
    ids=["allocator", "driver"],
)
def test_a_gpu_that_is_full_fails_the_cell_that_needs_too_much(
    full: Exception, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_TAKES_MORE_SECONDS", 0.0)
    assert break_training(monkeypatch, full) == []
    assert worker.main(plan["plan"], 1) == 0
    store = Path(plan["store"])
    assert [path.stem for path in store.glob("*.error")] == [CELLS[2].hash]
    assert [path.stem for path in store.glob("*.json")] == [CELLS[3].hash]


@pytest.mark.parametrize("finished", [True, False])
def test_the_graph_starts_no_process_for_a_shard_that_has_ended(finished: bool, tmp_path: Path) -> None:
    """The graph's own shell line, with a stand-in for the worker."""
    source = Path(sweep.__file__).with_name("sweep.smk").read_text(encoding="utf-8")
    names: dict[str, Callable[..., str]] = {}
    body = source[source.index("def unless_ended") : source.index("localrules")]
    exec("import shlex\n" + body, names)
    shard = {"ended": str(tmp_path / "a shard.ended"), "marker": str(tmp_path / "a shard.done")}
    if finished:
        Path(shard["ended"]).touch()
    line = names["unless_ended"](shard, f"echo ran > '{tmp_path}/ran'")
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 0
    assert Path(shard["marker"]).exists()
    assert (tmp_path / "ran").exists() != finished
    Path(shard["marker"]).unlink()
    Path(shard["ended"]).unlink(missing_ok=True)
    assert subprocess.run(["sh", "-c", names["unless_ended"](shard, "false")], check=False).returncode != 0
    assert not Path(shard["marker"]).exists()  # a worker that failed leaves the shard open


def run_apart(plan: dict[str, Any], index: int) -> int:
    """The exit status of a process that runs the shard, in a process group of its own."""

    def work() -> None:
        os.setpgid(0, 0)
        os._exit(worker.main(plan["plan"], index))

    return exit_status(fork(work))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
@pytest.mark.parametrize(("executor", "status"), [("slurm", 0), ("local", -signal.SIGKILL)])
def test_a_worker_on_another_node_goes_on_though_it_does_not_see_the_lock_of_its_sweep(
    executor: str, status: int, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_end_with", END_WITH)
    Path(plan["plan"]).write_text(json.dumps(plan | {"executor": executor}))
    Path(plan["alive"]).touch()
    assert run_apart(plan, 1) == status
    assert executor == "local" or ended(plan) == [0, 1, 2, 3]


def test_a_worker_on_another_node_sees_that_its_sweep_has_ended(plan: dict[str, Any]) -> None:
    here, elsewhere = (worker._Sweep(plan | {"executor": "slurm"}) for _ in range(2))
    lock = hold(Path(plan["alive"]))
    assert lock is not None
    with lock:
        assert not here.has_ended()
    assert here.has_ended()
    assert not elsewhere.has_ended()
    shutil.rmtree(Path(plan["alive"]).parent)  # a sweep that ends does so, and a later one for those that were killed
    assert elsewhere.has_ended()
