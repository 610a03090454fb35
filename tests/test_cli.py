"""The command line: help for newcomers, one line and status 2 for bad input, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import pruneviz as pv
from pruneviz import cli
from pruneviz.arguments import build_parser
from pruneviz.cli import main
from pruneviz.scorers import registry
from pruneviz.study import notebook

COMMANDS = ("score", "train", "sweep", "status", "table", "notebooks", "book")
NETWORK = ("--model", "mlp", "--width", "0.1", "--dataset", "digits", "--fraction", "0.1", "--device", "cpu")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert set(COMMANDS) <= {line.split()[0] for line in said.splitlines() if line.startswith("    ")}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_that_its_parser_accepts(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    example = capsys.readouterr().out.split("examples:\n")[1].replace("\\\n", " ")
    lines = [line.partition("#")[0].split() for line in example.splitlines() if line.strip()]
    assert lines
    for words in lines:
        assert words[:2] == ["pruneviz", command]
        build_parser().parse_args(words[1 : words.index("--")] if "--" in words else words[1:])


def test_python_m_pruneviz_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pruneviz", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: pruneviz ")


def test_score_then_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "masks.safetensors"
    assert run("score", "snip", *NETWORK, "--sparsity", 0.9, "--scope", "erk", "--seed", 3, "--out", file) == 0
    masks, meta = pv.load_masks(file)
    kept, total = pv.masks.kept(masks), pv.masks.total(masks)
    assert kept == round(0.1 * total)
    assert f"{kept:,} of {total:,} weights kept (10.00%)" in capsys.readouterr().out
    assert (meta["scorer"], meta["sparsity"], meta["seed"]) == ("snip", 0.9, 3)

    # The network is the one that the masks were made for, whatever the defaults say.
    assert run("train", "--masks", file, "--device", "cpu", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    data = pv.data.load("digits", fraction=0.1)
    model = pv.models.create("mlp", input_shape=data.input_shape, width=0.1, seed=3)
    result = pv.train(model, masks, data, pv.RECIPES["smoke"], seed=3, progress=False)
    assert told["result"]["test_accuracy"] == result.test_accuracy
    assert told["result"]["train_loss"] == list(result.train_loss)
    assert told["masks"] == meta


def test_train_prints_a_small_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *NETWORK) == 0
    said = capsys.readouterr().out
    assert "test accuracy" in said
    assert len(said.splitlines()) == 3


def test_options_of_scorers_are_passed_on(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for out, temperature in ((one, 200), (two, 1)):
        arguments = ("score", "grasp", *NETWORK, "--option", f"temperature={temperature}", "--option", "variant=paper")
        assert run(*arguments, "--sparsity", 0.9, "--out", out) == 0
    masks, meta = pv.load_masks(one)
    others, _ = pv.load_masks(two)
    assert meta["options"] == {"temperature": 200, "variant": "paper"}
    assert any(bool((masks[name] != others[name]).any()) for name in masks)


def test_a_scorer_prunes_in_the_steps_of_its_card_unless_it_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    card = pv.Card(name="patient", title="", effect="", schedule="linear:3")
    pv.register(card)(lambda problem, masks=None: pv.score("snip", problem, masks=masks))
    for schedule, expected in (((), "linear:3"), (("--schedule", "one_shot"), "one_shot")):
        file = tmp_path / f"{expected}.safetensors"
        assert run("score", "patient", *NETWORK, "--sparsity", 0.9, *schedule, "--out", file) == 0
        assert pv.load_masks(file)[1]["schedule"] == expected


@pytest.mark.parametrize("schedule", [(), ("--schedule", "linear:3")], ids=str)
def test_no_layer_collapses_where_each_keeps_a_minimum(
    schedule: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "masks.safetensors"
    assert run("score", "magnitude", *NETWORK, "--sparsity", 0.99, "--minimum", 1, *schedule, "--out", file) == 0
    assert capsys.readouterr().err == ""
    masks, meta = pv.load_masks(file)
    assert meta["minimum"] == 1
    assert pv.masks.collapsed(masks) == []
    assert pv.masks.kept(masks) == 13


def test_a_collapsed_layer_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("score", "magnitude", *NETWORK, "--sparsity", 0.999, "--out", tmp_path / "masks.safetensors")
    assert run(*arguments) == 0
    said = capsys.readouterr().err.splitlines()
    masks, _ = pv.load_masks(arguments[-1])
    assert said == [f"pruneviz: warning: layer {n!r} keeps no weight at all" for n in pv.masks.collapsed(masks)]
    assert said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "snpi", "--sparsity", 0.5), "scorer 'snpi' is not known; did you mean 'snip'?"),
        (("score", "dense", "--sparsity", 0.5), "scorer 'dense' removes nothing"),
        (("score", "snip", "--sparsity", 1.2), "sparsity 1.2 is not"),
        (("score", "snip", "--sparsity", -0.1), "sparsity -0.1 is not"),
        (("score", "snip", "--sparsity", "nan"), "sparsity nan is not"),
        (("score", "snip", "--sparsity", "much"), "sparsity 'much' is not"),
        (("score", "magnitude", "--sparsity", 0.5, "--option", "x=1"), "takes no options; received 'x'"),
        (("score", "grasp", "--sparsity", 0.5, "--option", "x"), "--option 'x' is not accepted: give NAME=VALUE"),
        (("score", "snip", "--sparsity", 0.5, "--dataset", "digit"), "did you mean 'digits'?"),
        (("score", "snip", "--sparsity", 0.5, "--device", "gpu"), "device 'gpu' cannot be used here"),
        (("score", "snip", "--sparsity", 0.5, "--", "more"), "takes no arguments after '--'"),
        (("train", "--recipe", "smok"), "did you mean 'smoke'?"),
        (("train", "--masks", "nowhere.safetensors"), "there is no mask file at 'nowhere.safetensors'"),
        (("train", "--dataset", "mnist"), "data set 'mnist' is missing"),
        (("table", "--store", "nowhere"), "there is no store at 'nowhere'"),
        (("table", "--store", "."), "'.' is no store: it holds no record"),
        (("table", "--store", ".", "--out", "results/first"), "'.' is no store: it holds no record"),
        (("notebooks", "none.ipynb", "--time-limit", 5), "there is no notebook none.ipynb"),
        (("sweep", "none.yaml", "--store", "store"), "grid 'none.yaml' cannot be read: No such file"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(
    arguments: tuple[object, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNEVIZ_DATA", str(tmp_path / "data"))
    if arguments[0] == "score":
        arguments = (*arguments[:2], "--out", "masks.safetensors", *arguments[2:])
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("pruneviz: error: ")
    assert message in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells: [{scorer: snpi, sparsity: 0.5}]", "block 1, scorer: scorer 'snpi' is not known; did you mean 'snip'?"),
        ("cells: [{}, {dataset: cifar}]", "block 2, dataset: data set 'cifar' is not known"),
        ("cells: [{model: resnet}]", "block 1, model: model 'resnet' is not known"),
        ("cells: [{init: he}]", "block 1, init: initialization 'he' is not known"),
        ("cells: [{recipe: smoek}]", "block 1, recipe: recipe 'smoek' is not known"),
        ("cells: [{scope: layer}]", "block 1, scope: scope 'layer' is not known"),
        ("cells: [{schedule: linear}]", "block 1, schedule: schedule 'linear' is not known"),
        ("cells: [{precision: bf32}]", "block 1, precision: precision 'bf32' is not known"),
        ("cells: [{scorer: snip, sparsity: 1.2}]", "block 1, sparsity: sparsity 1.2"),
        ("cells: [{scorer: snip, sparsity: -0.1}]", "block 1, sparsity: sparsity -0.1"),
        ("cells: [{scorer: snip, sparsity: .nan}]", "block 1, sparsity: sparsity nan"),
        ("cells: [{scorer: snip, sparsity: nan}]", "block 1, sparsity: sparsity 'nan'"),
        ("cells: [{speed: 3}]", "block 1, speed: key 'speed' is not known"),
        ("cells: [{scorer: grasp, sparsity: 0.5, options: {temprature: 3}}]", "did you mean 'temperature'?"),
        ("cells: [{scorer: grasp, sparsity: 0.5, options: {temperature: -3}}]", "cell digits resnet20 grasp"),
        ("cells: [{scorer: snip, sparsity: 0.999999999}]", "keeps 0 of"),
        ("cells: [{model: mlp, scorer: prospr, sparsity: 0.5, batches: 2}]", "needs 4 batches"),
        ("import: none.py\ncells: [{}]", "import: module '"),
        ("cells: [{scorer: snip, sparsity: 0.999, minimum: 50}]", "cell digits resnet20 snip 0.999 global minimum=50"),
        ("cells: [{scorer: snip, sparsity: 0.99999, model: resnet20, scope: uniform}]", "keeps the first layer"),
        ("cells: [{model: vgg19_bn}]", "8x8 pixels are too small for 'vgg19_bn'"),
        ("cells: [{dataset: mnist}]", "data set 'mnist' is missing"),
        (
            "cells: [{per_class: 100000}]",
            "cell digits resnet20 dense seed 0: 1 x 100000 images per class are",
        ),
        ("cells: [{scorer: grasp, sparsity: 0.5, options: {temperature: .nan}}]", "option 'temperature' is nan"),
        ("cells: [{", "line 1 is not YAML"),
    ],
    ids=lambda text: text[:50],
)
def test_a_bad_grid_stops_the_sweep_before_anything_is_written(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRUNEVIZ_DATA", str(tmp_path / "data"))
    grid = tmp_path / "grid.yaml"
    grid.write_text(text)
    assert run("sweep", grid, "--store", tmp_path / "store", "--device", "cpu") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert list(tmp_path.iterdir()) == [grid]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--jobs", 0), "jobs 0 is not accepted"),
        (("--threads", -1), "threads -1 is not accepted"),
        (("--executor", "slrum"), "executor 'slrum' is not known; did you mean 'slurm'?"),
        (("--device", "tpu0"), "device 'tpu0' cannot be used here"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_settings_of_a_sweep(
    arguments: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("cells: [{}]")
    assert run("sweep", grid, "--store", tmp_path / "store", *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [grid]


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("snakemake", (), "a sweep needs Snakemake: pip install 'pruneviz[sweep]'"),
        ("snakemake_executor_plugin_slurm", ("--executor", "slurm"), "pip install 'pruneviz[slurm]'"),
    ],
)
def test_a_missing_extra_is_named(
    module: str,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else find_spec(name))
    grid = tmp_path / "grid.yaml"
    grid.write_text("cells: [{model: mlp}]")
    assert run("sweep", grid, "--store", tmp_path / "store", *arguments) == 2
    assert message in capsys.readouterr().err


def test_yaml_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert run("sweep", tmp_path / "grid.yaml", "--store", tmp_path / "store") == 2
    assert "pip install 'pruneviz[sweep]'" in capsys.readouterr().err


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text("cells: [{model: mlp}]")
    store.write_text("a file, not a folder")
    assert run("sweep", grid, "--store", store) == 2
    said = capsys.readouterr().err
    assert said.startswith("pruneviz: error: [Errno 20] Not a directory")
    assert len(said.splitlines()) == 1
    assert run("table", "--store", store) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_store_without_permission_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text("cells: [{model: mlp}]")
    store.mkdir(mode=0o500)
    assert run("sweep", grid, "--store", store) == 2
    assert capsys.readouterr().err.startswith("pruneviz: error: [Errno 13] Permission denied")


def test_table_says_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pv.study.compute([pv.Cell(fraction=0.1, model="mlp", width=0.1)], tmp_path / "store", device="cpu", progress=False)
    assert run("table", "--store", tmp_path / "store", "--out", tmp_path / "results" / "first") == 0
    assert capsys.readouterr().out == f"{tmp_path}/results/first.parquet and {tmp_path}/results/first.csv: 1 rows\n"
    assert len(pv.study.read_table(tmp_path / "results" / "first.parquet")) == 1


def test_a_store_that_a_sweep_has_only_begun_has_an_empty_table(tmp_path: Path) -> None:
    pv.study.record.open_store(tmp_path)
    assert run("table", "--store", tmp_path, "--quiet") == 0
    assert len(pv.study.read_table(tmp_path / "table.parquet")) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "grid.yaml", "--store", "store", "--jobs", "two"), "argument --jobs: invalid int value: 'two'"),
        (("score", "snip"), "required: --sparsity, --out"),
        (("notebooks", "--time-limit", "long"), "argument --time-limit: invalid float value: 'long'"),
        (("notebooks", "--profile", "big"), "argument --profile: invalid choice: 'big'"),
        (("swep",), "invalid choice: 'swep'"),
        ((), "required: COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arguments_that_cannot_be_read_are_one_line_and_status_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("pruneviz: error: ")
    assert message in said.err
    assert said.err.endswith(f"(see `pruneviz{' ' + arguments[0] if len(arguments) > 1 else ''} --help`)\n")


def fails(error: Exception) -> Callable[[object], int]:
    def fail(_: object) -> int:
        raise error

    return fail


def asks_for_a_million_gigabytes(_: object) -> int:
    return len(torch.empty(10**15, dtype=torch.uint8))


def asks_for_more_than_can_be_counted(_: object) -> int:
    return len(torch.empty(2**40, 2**40))


@pytest.mark.parametrize(
    ("command", "amount"),
    [
        (asks_for_a_million_gigabytes, "another 1000000000000000 bytes"),
        (asks_for_more_than_can_be_counted, "more"),
        (fails(MemoryError()), "more"),
        (
            fails(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")),
            "another 2.00 GiB",
        ),
        (fails(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")), "more"),
    ],
    ids=["CPU", "overflow", "Python", "GPU", "cuBLAS"],
)
def test_too_little_memory_is_one_line_that_says_what_to_lower(
    command: Callable[[object], int], amount: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli._RUN, "train", command)
    assert run("train") == 2
    assert capsys.readouterr().err == (
        f"pruneviz: error: there is no memory for {amount}; lower the width, the images per class or the batches, or "
        "run fewer jobs at once\n"
    )


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli._RUN, "train", fails(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run("train")


@pytest.mark.parametrize("command", COMMANDS)
def test_only_what_goes_on_says_so_when_it_is_interrupted(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._RUN, command, interrupt)
    grid, store = ("g", "--store", "s"), ("--store", "s")
    needed = {"score": ("snip", "--sparsity", 0.5, "--out", "o"), "sweep": grid, "status": grid, "table": store}
    assert run(command, *needed.get(command, ())) == 130
    goes_on = command in ("sweep", "notebooks", "book")
    end = "; the same command goes on from here" if goes_on else ""
    assert capsys.readouterr().err == f"pruneviz: interrupted{end}\n"


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ((), 1200.0),
        (("--profile", "paper"), None),
        (("-p", "profile", "paper"), None),
        (("--profile", "paper", "--time-limit", 7), 7.0),
        (("--time-limit", 7200), 7200.0),
    ],
    ids=str,
)
def test_how_long_notebooks_may_take(
    arguments: tuple[object, ...], limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(notebook, "execute_all", lambda *_, time_limit: given.append(time_limit) or [])
    assert run("notebooks", "any.ipynb", *arguments) == 0
    assert given == [limit]
