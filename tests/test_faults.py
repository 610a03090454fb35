"""Stores survive what happens to them: kills at any moment, full disks, wrong clocks, other names, edits by hand.

The processes that are killed are forks of this one, which has loaded PyTorch already: each lives for milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from forks import exit_status, fork

from pruneviz import data, files
from pruneviz.study import environment, failures, locks, record, run
from pruneviz.study.cell import Cell
from pruneviz.study.leftovers import clear_leftovers
from pruneviz.study.run import compute
from pruneviz.study.status import status
from pruneviz.study.table import make_table, write_table

KILLS = 100
CELLS = [
    Cell(model="mlp", width=0.02, fraction=0.02, scorer=scorer, sparsity=sparsity, per_class=1, seed=seed)
    for scorer in ("magnitude", "snip")
    for seed in range(10)
    for sparsity in (0.5, 0.9)
]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """One thread, so that forks are safe; digits read once; the same revision in all records."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loaded: dict[object, data.ImageData] = {}

    def load(name: str, **options: object) -> data.ImageData:
        key = (name, *sorted(options.items(), key=str))
        return loaded.get(key) or loaded.setdefault(key, data.load(name, **options))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load", load)
        patch.setattr(environment, "git_state", lambda: None)
        yield
    torch.set_num_threads(threads)


def table_of(store: Path) -> tuple[bytes, bytes]:
    write_table(make_table(store), store.parent / f"{store.name}-table")
    return tuple((store.parent / f"{store.name}-table.{end}").read_bytes() for end in ("parquet", "csv"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nothing happened to."""
    store = tmp_path_factory.mktemp("whole") / "store"
    compute(CELLS, store, device="cpu", progress=False)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


def computed(cells: Sequence[Cell], store: Path) -> list[str]:
    """Compute what is missing, and return the hashes of what was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", record.DamagedRecordWarning)
        return [o.cell.hash for o in run.outcomes(cells, store, device="cpu", progress=False) if o.record is not None]


def hashes(store: Path) -> list[str]:
    return sorted(path.stem for path in store.glob("*.json"))


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.glob("*.json")}


# Kills.


@pytest.mark.slow
def test_a_hundred_kills_leave_a_full_table_and_no_damaged_or_doubled_record(whole: Path, tmp_path: Path) -> None:
    """Two processes at a time over one store, killed at random moments until a hundred were caught at work."""
    store, draw = tmp_path / "store", random.Random(0)
    record.open_store(store)
    began = time.perf_counter()
    kept: dict[str, bytes] = {}
    caught, rounds, made = 0, 0, 0
    child = fork(lambda: compute(CELLS[:1], tmp_path / "first", device="cpu", progress=False))
    assert exit_status(child) == 0
    cell_seconds = record.read(record.path_of(tmp_path / "first", CELLS[0].hash))["seconds"]["total"]
    while caught < KILLS:
        rounds += 1
        assert rounds < 50 * KILLS
        assert time.perf_counter() - began < 400, f"{caught} kills only"
        # What is there has been there whole; take some away, so that there is work to be killed in.
        kept |= contents(store)
        for name in draw.sample(sorted(kept), min(len(kept), 12)) if len(hashes(store)) > 24 else []:
            (store / name).unlink(missing_ok=True)
            kept.pop(name)
        order = draw.sample(CELLS, len(CELLS))
        children = [fork(lambda o=o: compute(o, store, device="cpu", progress=False)) for o in (order, order[::-1])]  # type: ignore[misc]
        for child in children:
            time.sleep(draw.uniform(0, 2.5 * cell_seconds))
            os.kill(child, signal.SIGKILL)
        caught += [exit_status(child) for child in children].count(-signal.SIGKILL)
        made += len(set(contents(store)) - set(kept))
        for name, content in contents(store).items():
            record.read(store / name)  # raises for half a record
            assert kept.get(name, content) == content, "a record was written twice"
    assert made > len(CELLS)  # the kills were between and in the middle of records, not all before the first
    compute(CELLS, store, device="cpu", progress=False)
    assert hashes(store) == hashes(whole)
    assert table_of(store) == table_of(whole)
    assert not list(store.glob("*.error"))
    clear_leftovers(store)
    assert not list(store.glob(".*.tmp"))


def test_a_sweep_that_another_machine_may_run_is_no_leftover(tmp_path: Path) -> None:
    """Its lock looks free from here where locks are local to a machine."""
    hosts = {"ours": socket.gethostname(), "theirs": f"not-{socket.gethostname()}", "nobody": None}
    for name, host in hosts.items():
        run = tmp_path / ".sweep" / f"run-{name}"
        run.mkdir(parents=True)
        (run / "alive").touch()
        if host:
            (run / "plan.json").write_text(json.dumps({"host": host}))
        os.utime(run, (0, 0))
    clear_leftovers(tmp_path)
    assert [run.name for run in (tmp_path / ".sweep").iterdir()] == ["run-theirs"]


@pytest.mark.parametrize("moment", ["before the file", "half written", "before the name"])
def test_a_kill_in_the_middle_of_a_record_loses_that_record_alone(
    moment: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moments that a random kill seldom meets, met on purpose."""
    victim = record.path_of(store, CELLS[5].hash)
    others = {name: content for name, content in contents(store).items() if name != victim.name}
    victim.unlink()

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write(path: Path, content: bytes) -> None:
        if moment == "before the file":
            die()
        temporary = path.with_name(f".{path.name}.killed.tmp")
        temporary.write_bytes(content[: len(content) // 2])
        die()

    if moment == "before the name":
        monkeypatch.setattr(files.os, "replace", die)
    else:
        monkeypatch.setattr(record, "write_atomically", write)
    assert exit_status(fork(lambda: compute(CELLS, store, device="cpu", progress=False))) == -signal.SIGKILL
    monkeypatch.undo()
    assert contents(store) == others
    assert status(CELLS, store).missing == (CELLS[5],)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "git_state", lambda: None)
        assert computed(CELLS, store) == [CELLS[5].hash]


# Damage.


def cut(text: str) -> str:
    return text[: len(text) // 2]


def better(text: str) -> str:
    """A test accuracy that somebody would like more."""
    content = json.loads(text)
    content["result"]["test_accuracy"] = 0.99
    return json.dumps(content, indent=1)


@pytest.mark.parametrize(
    ("damage", "notice"),
    [
        (cut, "is cut off or no record"),
        (lambda _: "", "is cut off or no record"),
        (lambda text: text[:-40] + "\0" * 40, "is cut off or no record"),
        (better, "was changed after it was written"),
    ],
    ids=["cut", "empty", "zeros at the end", "edited"],
)
def test_a_record_that_is_not_what_was_written_is_found_and_computed_again(
    damage: Callable[[str], str], notice: str, whole: Path, store: Path
) -> None:
    path = record.path_of(store, CELLS[3].hash)
    path.write_text(damage(path.read_text()))
    with pytest.warns(record.DamagedRecordWarning, match=f"{path.name} {notice}.*; it counts as missing"):
        compute(CELLS[:6], store, device="cpu", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert table_of(store) == table_of(whole)


def test_a_record_under_the_name_of_another_cell_is_found(whole: Path, store: Path) -> None:
    one, other = (record.path_of(store, cell.hash) for cell in CELLS[:2])
    shutil.copy(one, other)
    assert computed(CELLS, store) == [CELLS[1].hash]
    assert table_of(store) == table_of(whole)


# Disks.


def test_a_disk_that_fills_up_loses_no_finished_record(whole: Path, tmp_path: Path) -> None:
    """A disk of 128 KiB, if one may be mounted here: some records fit, and those are sound."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=128k none {disk} 2>/dev/null"):
        pytest.skip("this system lets nobody mount a small disk")
    try:
        store = disk / "store"

        def work() -> None:
            with pytest.raises(OSError, match="No space left on device"):
                compute(CELLS, store, device="cpu", progress=False)

        assert exit_status(fork(work)) == 0
        there = contents(store)
        assert 0 < len(there) < len(CELLS)
        for name in there:
            record.read(store / name)
        assert not list(store.glob(".*.tmp"))  # what did not fit is gone
        assert not list(store.glob("*.error"))  # a full disk is no fault of a cell
        found = status(CELLS, store)
        assert (len(found.done), len(found.failed)) == (len(there), 0)
        # With room it goes on from there.
        shutil.copytree(store, tmp_path / "roomy")
        assert len(computed(CELLS, tmp_path / "roomy")) == len(CELLS) - len(there)
        assert {name: contents(tmp_path / "roomy")[name] for name in there} == there
        assert table_of(tmp_path / "roomy") == table_of(whole)
    finally:
        os.system(f"umount {disk}")


def test_a_file_that_may_not_grow_leaves_the_old_record(store: Path) -> None:
    """A quota: the system refuses the second half of a file."""
    path = record.path_of(store, CELLS[0].hash)
    before = contents(store)
    content = record.read(path)

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(OSError, match="File too large"):
            record.write(store, content | {"finished": "later"})

    assert exit_status(fork(work)) == 0
    assert contents(store) == before
    assert not list(store.glob(".*.tmp"))


# Clocks and names.


@pytest.mark.parametrize("seconds", [0.0, 4e9], ids=["1970", "2096"])
def test_times_of_files_do_not_matter(seconds: float, whole: Path, store: Path) -> None:
    for path in [store, *store.rglob("*")]:
        os.utime(path, (seconds, seconds))
    assert computed(CELLS, store) == []
    record.path_of(store, CELLS[4].hash).unlink()
    assert computed(CELLS, store) == [CELLS[4].hash]
    assert table_of(store) == table_of(whole)


def test_a_clock_that_runs_backwards_does_not_matter(whole: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the store is computed a century before the other half."""
    for cell in CELLS[::2]:
        record.path_of(store, cell.hash).unlink()
    monkeypatch.setattr(time, "time", lambda: -1e9)
    assert sorted(computed(CELLS, store)) == sorted(cell.hash for cell in CELLS[::2])
    assert table_of(store) == table_of(whole)


def test_a_store_can_be_renamed_copied_and_linked(whole: Path, store: Path, tmp_path: Path) -> None:
    renamed = store.rename(tmp_path / "a new name, with spaces")
    assert computed(CELLS, renamed) == []
    record.path_of(renamed, CELLS[4].hash).unlink()
    (tmp_path / "link").symlink_to(renamed, target_is_directory=True)
    assert computed(CELLS, tmp_path / "link") == [CELLS[4].hash]
    assert table_of(renamed) == table_of(whole)
    # Two stores become one by copying files.
    half, other = record.open_store(tmp_path / "half"), record.open_store(tmp_path / "other")
    for number, path in enumerate(sorted(renamed.glob("*.json"))):
        shutil.copy(path, (half, other)[number % 2])
    shutil.copytree(other, half, dirs_exist_ok=True)
    assert computed(CELLS, half) == []
    assert table_of(half) == table_of(whole)


# Machines that share only a folder.


def machine(name: str, cells: Sequence[Cell], store: Path, done: Path) -> int:
    """A process that believes to be on a machine of that name, and notes what it has computed."""

    def work() -> None:
        files.socket.gethostname = lambda: name  # type: ignore[assignment]
        done.write_text("\n".join(computed(cells, store)))

    return fork(work)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_two_machines_share_a_folder_that_each_sees_under_its_own_path(
    locks: bool, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "mounted").symlink_to(tmp_path / "export", target_is_directory=True)
    if not locks:

        def refuse(*_: object, **__: object) -> None:
            raise OSError("no locks here")

        monkeypatch.setattr(run, "hold", refuse)
    # Both begin with the same experiment.
    children = [
        machine(name, CELLS, tmp_path / folder / "store", tmp_path / name)
        for name, folder in (("one", "export"), ("two", "mounted"))
    ]
    assert [exit_status(child) for child in children] == [0, 0]
    one, two = (set((tmp_path / name).read_text().split()) for name in ("one", "two"))
    assert one | two == {cell.hash for cell in CELLS}
    if locks:
        assert not one & two  # none twice
        assert min(len(one), len(two)) >= len(CELLS) // 10  # and neither has only waited
    assert table_of(tmp_path / "export" / "store") == table_of(whole)
    assert not list((tmp_path / "export" / "store").glob(".*.tmp"))


@pytest.mark.parametrize("fate", ["failed", "killed"])
def test_who_has_waited_for_a_cell_runs_it_only_if_it_did_not_fail_meanwhile(
    fate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has the cell's lock until we wait for it; the error of an earlier sweep says nothing."""
    store, cell = record.open_store(tmp_path / "store"), CELLS[0]
    failures.keep(store, cell, RuntimeError("of an earlier sweep"))

    def hold(path: Path, *, wait: bool = False) -> IO[Any] | None:
        if wait and fate == "failed":
            failures.keep(store, cell, RuntimeError("on purpose"))
        return locks.hold(path) if wait else None

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("run again")

    monkeypatch.setattr(run, "hold", hold)
    monkeypatch.setattr(run, "train", broken)
    (outcome,) = run.outcomes([cell], store, device="cpu", progress=False)
    expected = "RuntimeError: on purpose" if fate == "failed" else "RuntimeError: run again"
    assert outcome.error == expected
    assert status([cell], store).errors == {cell.hash: f"{cell.label}: {expected}"}
