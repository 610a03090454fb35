"""Sweeps as processes: killed at any moment and started again, they end with the table of an uninterrupted run."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from pruneviz.scorers import imports, registry
from pruneviz.study import environment, record, worker
from pruneviz.study.graph_end import last_error, read_end
from pruneviz.study.grid import read_grid
from pruneviz.study.run import compute
from pruneviz.study.table import make_table, write_table

REPOSITORY = Path(__file__).resolve().parents[1]
GRID = """
defaults: {dataset: digits, fraction: 0.3, model: mlp, width: 0.1, sparsity: 0.9}
cells:
  - {scorer: [magnitude, snip], seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}
"""
BROKEN_TRAINING = """
import sys

if "pruneviz.study.worker" in sys.orig_argv:
    from pruneviz.study import run

    train = run.train

    def broken(*arguments, seed, **options):
        if seed == 7:
            raise RuntimeError("on purpose")
        return train(*arguments, seed=seed, **options)

    run.train = broken
"""
OWN_SCORER = """
import pruneviz as pv

@pv.register(pv.Card(name="{name}", title="{name}", effect="Keeps the largest gradients."))
def scorer(problem, masks=None):
    return problem.gradient(problem.masked_weights(masks))[1]
"""
HIDDEN = """
import sys

if "pruneviz.study.worker" not in sys.orig_argv:
    pv.register(pv.Card(name="hidden", title="", effect=""))(scorer)
"""
PATIENCE = 400.0  # seconds; for a machine that is busy with something else

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")


@pytest.fixture(autouse=True)
def no_revision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Records made here name no git revision, so that a commit in between changes no table."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(REPOSITORY))
    environment.git_state.cache_clear()
    yield
    environment.git_state.cache_clear()


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def expected(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The table of a run that nothing interrupts, made in one process without the graph."""
    store = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("GIT_CEILING_DIRECTORIES", str(REPOSITORY))
        environment.git_state.cache_clear()
        compute(read_grid(grid), store, device="cpu", progress=False)
    write_table(make_table(store), store / "table")
    return table_of(store)


@contextmanager
def one_thread() -> Iterator[None]:
    """What `start` asks of its workers, in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def table_of(store: Path) -> tuple[bytes, bytes]:
    return (store / "table.parquet").read_bytes(), (store / "table.csv").read_bytes()


def start(grid: Path, store: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pruneviz", "sweep", str(grid), "--store", str(store)]
    command += ["--device", "cpu", "--threads", "1", "--jobs", "2", *more]
    # What runs in the background may have been told to ignore interrupts, and hands that on.
    attentive = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, preexec_fn=attentive, **pipes)


def finish(sweep: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = sweep.communicate(timeout=PATIENCE)
    assert out == ""
    assert "Traceback" not in err
    return sweep.returncode, err


def processes(store: Path, what: str) -> list[int]:
    """The processes of a store's sweeps whose command line contains `what`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(store) in line and what in line and "bash -c" not in line and state != "Z":
            found.append(int(folder.name))
    return found


def wait_until(condition: Callable[[], object], sweep: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert sweep is None or sweep.poll() is None, f"the sweep ended too early: {finish(sweep)}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def records(store: Path) -> list[Path]:
    return sorted(store.glob("*.json"))


@pytest.mark.slow
def test_a_sweep_gives_the_table_of_the_library_and_then_has_nothing_to_do(
    grid: Path, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    status, said = finish(start(grid, tmp_path / "store"))
    assert status == 0, said
    assert table_of(tmp_path / "store") == expected
    assert said.count("test accuracy") == 20  # one line for each cell
    assert sorted(p.name for p in (tmp_path / "store").iterdir() if p.suffix != ".json") == [
        ".sweep",
        "table.csv",
        "table.parquet",
    ]
    assert not list((tmp_path / "store" / ".sweep").glob("run-*"))

    # A table that was lost is made again, by a sweep that does not even start Snakemake: it would fail.
    (tmp_path / "store" / "table.csv").unlink()
    status, said = finish(start(grid, tmp_path / "store", "--", "--no-such-option-of-snakemake"))
    assert status == 0, said
    assert "all 20 cells are done" in said
    assert table_of(tmp_path / "store") == expected


@pytest.mark.slow
def test_killed_and_started_again_it_gives_the_same_table(
    grid: Path, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """Kill -9 of the command itself, of the graph and of a worker, each going on from where the one before died.

    The worker last: the other one may finish its shard, and then nothing is left.
    """
    store, story, unfinished = tmp_path / "store", "", 0
    for victim, more in (("-m pruneviz sweep", 1), ("-m snakemake", 3), ("study.worker", 0)):
        sweep, before = start(grid, store), len(records(store))
        enough = before + more
        wait_until(
            lambda sweep=sweep, victim=victim, enough=enough: (
                sweep.poll() is not None or (len(records(store)) >= enough and processes(store, victim))
            )
        )
        with suppress(IndexError, ProcessLookupError):
            os.kill(processes(store, victim)[0], signal.SIGKILL)
        status, said = finish(sweep)
        story += f"{victim} killed after {before} + {more} records, {len(records(store))} in the end: {said}"
        unfinished += status != 0
        if status == 0:  # this test was too slow to catch it
            assert len(records(store)) == 20, story
        elif "sweep" in victim:
            assert status == -signal.SIGKILL, story
        else:
            assert status == 1, story
            assert "cells are not finished, because a worker or Snakemake was stopped" in said, story
        wait_until(lambda: not processes(store, "worker") and not processes(store, "snakemake"))
        for path in records(store):
            record.read(path)  # raises for half a record

    assert unfinished, story
    status, said = finish(start(grid, store))
    assert status == 0, story + said
    assert table_of(store) == expected, story


def test_interrupted_it_stops_its_workers_and_says_how_to_go_on(grid: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    sweep = start(grid, store)
    wait_until(lambda: processes(store, "study.worker"), sweep)
    sweep.send_signal(signal.SIGINT)
    status, said = finish(sweep)
    assert status == 130
    assert said.splitlines()[-1] == "pruneviz: interrupted; the same command goes on from here"
    assert not processes(store, "worker")
    assert not processes(store, "snakemake")


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_work(grid: Path, expected: tuple[bytes, bytes], tmp_path: Path) -> None:
    store = tmp_path / "store"
    sweeps = [start(grid, store), start(grid, store)]
    said = ""
    for sweep in sweeps:
        status, lines = finish(sweep)
        assert status == 0, lines
        said += lines
    assert table_of(store) == expected
    assert said.count("test accuracy") == 20  # none was run twice


@pytest.mark.slow
def test_damaged_and_missing_records_are_computed_again_and_a_failing_cell_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(
        "defaults: {dataset: digits, fraction: 0.1, model: mlp, width: 0.1}\n"
        "cells: [{scorer: snip, sparsity: [0.5, 0.9], seed: [7, 0]}, {}]\n"
    )
    # Nothing that can be known before makes these cells fail: the training does, in the workers.
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN_TRAINING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    cells = read_grid(grid)
    sound = [cell for cell in cells if cell.seed != 7]
    with one_thread():
        compute(sound, store, device="cpu", progress=False)
    write_table(make_table(store), store / "table")
    before = table_of(store)
    half, gone = (record.path_of(store, cell.hash) for cell in sound[:2])
    half.write_bytes(half.read_bytes()[:100])
    gone.unlink()

    status, said = finish(start(grid, store))
    assert status == 1
    assert said.count(f"warning: record {half.name} is cut off or no record; it counts as missing") == 1
    assert len([line for line in said.splitlines() if line.startswith("pruneviz: failed: digits mlp snip")]) == 2
    assert [record.is_done(store, cell) for cell in cells] == [False, True, False, True, True]
    assert sorted(store.glob("*.error")) == sorted(record.error_path(store, c.hash) for c in cells if c not in sound)
    assert table_of(store) == before


@pytest.fixture
def own_scorers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scorers that a test imports are gone after it."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(imports, "_IMPORTED", {})
    before = set(sys.modules)
    yield
    for name in ("own", "first"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.usefixtures("own_scorers")
def test_the_example_of_the_readme_runs_and_goes_on_when_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("## A scorer of your own")[1]
    code, grid, commands = (block.partition("\n")[2] for block in section.split("```")[1:6:2])
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(code)
    Path("grid.yaml").write_text(grid)
    sweep_words, score_words = (shlex.split(line)[1:] for line in commands.splitlines() if line)
    assert sweep_words == ["sweep", "grid.yaml", "--store", "store"]
    store = tmp_path / "store"

    sweep = start(Path("grid.yaml"), store)
    wait_until(lambda: sweep.poll() is not None or (records(store) and processes(store, "study.worker")))
    with suppress(IndexError, ProcessLookupError):
        os.kill(processes(store, "study.worker")[0], signal.SIGKILL)
    finish(sweep)
    status, said = finish(start(Path("grid.yaml"), store))
    assert status == 0, said

    cells = read_grid("grid.yaml")
    with one_thread():
        compute(cells, tmp_path / "expected", device="cpu", progress=False)
    write_table(make_table(tmp_path / "expected"), tmp_path / "expected" / "table")
    assert table_of(store) == table_of(tmp_path / "expected")
    digest = hashlib.sha256(Path("own.py").read_bytes()).hexdigest()
    for cell in cells:
        environment = record.read(record.path_of(store, cell.hash))["environment"]
        expected = {"module": "own", "sha256": digest} if cell.scorer == "signed" else None
        assert environment.get("scorer") == expected

    done = subprocess.run([sys.executable, "-m", "pruneviz", *score_words], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("masks.safetensors: ")


@pytest.mark.slow
def test_workers_import_what_the_sweep_has_found_and_one_that_knows_less_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two modules, a file and a name that only the folder of the command makes known; one hides a scorer."""
    monkeypatch.chdir(tmp_path)
    for name, more in (("first", ""), ("second", HIDDEN)):
        Path(f"{name}.py").write_text(OWN_SCORER.format(name=name) + more)
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(
        "defaults: {dataset: digits, fraction: 0.1, model: mlp, width: 0.1, sparsity: 0.9}\n"
        "cells: [{scorer: [hidden, first, second]}]\n"
    )
    status, said = finish(start(grid, store, "--import", "first.py", "--import", "second"))
    assert status == 2
    assert said.splitlines()[-1] == (
        "pruneviz: error: scorer 'hidden' is not known to the processes of the sweep; name the module that registers "
        "it, and does so whenever it is imported: --import MODULE (1 of 3 cells are not finished)"
    )
    assert said.count("pruneviz: error") == 1
    table = make_table(store)
    assert set(table["scorer"]) == {"first", "second"}
    assert (store / "table.csv").is_file()


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to mount a small disk of its own")
def test_a_full_disk_is_one_line_and_leaves_no_half_record(grid: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=128k none {disk} || exit 77\n"
        f"head -c 100000 /dev/zero > {disk}/filler\n"
        f"{sys.executable} -m pruneviz sweep {grid} --store {disk}/store\n"
        f"status=$?; find {disk} -type f -size +0 ! -name .gitignore; exit $status\n"
    )
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody mount a small disk")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("pruneviz: error: [Errno 28] No space left on device")
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines() == [f"{disk}/filler"]


def test_a_worker_whose_sweep_is_gone_already_ends_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(str(tmp_path / "run-1" / "plan.json"), 0) == worker.ORPHANED
    assert capfd.readouterr() == ("", "")


# What Snakemake itself has to say.


@pytest.mark.slow
def test_a_store_may_have_any_name_and_what_snakemake_refuses_is_told_as_that(tmp_path: Path) -> None:
    grid, store = tmp_path / "grid.yaml", tmp_path / "a {store} of ours"
    grid.write_text("cells: [{dataset: digits, fraction: 0.1, model: mlp, width: 0.05}]\n")
    status, said = finish(start(grid, store, "--", "--nosuchflag"))
    assert status == 2
    assert said.splitlines()[-1] == (
        "pruneviz: error: Snakemake has ended before any job was started: unrecognized arguments: --nosuchflag "
        "(1 of 1 cells are not finished)"
    )
    status, said = finish(start(grid, store, "--", "--dry-run"))
    assert status == 0
    assert said.splitlines()[-1] == (
        "pruneviz: 1 of 1 cells are not finished: Snakemake was to run nothing, by --dry-run"
    )
    assert not records(store)
    status, said = finish(start(grid, store))
    assert status == 0, said
    assert len(records(store)) == 1


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("usage: ...\n__main__.py: error: unrecognized arguments: --no\n", "unrecognized arguments: --no"),
        (
            "Error: an earlier one\nBuilding DAG of jobs...\nMissingRuleException:\n No rule  to produce x.\n\n",
            "MissingRuleException: No rule to produce x.",
        ),
        ("Traceback (most recent call last):\n  ...\nImportError: no module\n", "ImportError: no module"),
        ("Building DAG of jobs...\nNothing to be done.\n", "Nothing to be done."),
        ("WorkflowError:\n" + "long " * 1000, f"WorkflowError: {'long ' * 97} ..."),
        ("", ""),
    ],
    ids=["arguments", "target", "traceback", "no error", "long", "on the screen"],
)
def test_the_last_error_of_snakemake_is_one_line(log: str, said: str) -> None:
    assert last_error(log) == said


@pytest.mark.parametrize(
    ("status", "started", "refused"), [(1, False, True), (1, True, False), (-9, False, False), (0, False, False)]
)
def test_snakemake_has_refused_only_if_it_ended_itself_and_started_nothing(
    status: int, started: bool, refused: bool, tmp_path: Path
) -> None:
    plan = {"started": str(tmp_path / "started"), "refusal": str(tmp_path / "refusal")}
    (tmp_path / "log").write_text("Error: on purpose\n")
    if started:
        (tmp_path / "started").touch()
    end = read_end(status, plan, tmp_path / "log")
    assert (end.went_well, end.started) == (status == 0, started)
    assert end.refusal == ("Snakemake has ended before any job was started: Error: on purpose" if refused else "")
    (tmp_path / "refusal").write_text("what a worker cannot use")
    assert read_end(status, plan, tmp_path / "log").refusal == "what a worker cannot use"
