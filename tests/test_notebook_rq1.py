"""The notebook of the first question: its form, its parameters, its errors, and what its page says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import pandas as pd
import pytest
from nbformat import NotebookNode
from results import made_up

import pruneviz as pv
from pruneviz.study.notebook import execute, parameters_of

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "rq1_prune_before_training.ipynb"
PARAMETERS = ["profile", "dataset", "model", "recipe", "scorers", "sparsities", "seeds"]
PARAMETERS += ["store", "device", "compute", "results"]
CIFAR10 = ROOT / "book" / "grids" / "rq1_cifar10.yaml"


@pytest.fixture(scope="module")
def notebook() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_of(notebook: NotebookNode, name: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == name)


# Form ----------------------------------------------------------------------------------------------------


def test_it_is_valid_and_carries_no_outputs(notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_of(notebook))
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}


def test_its_parameters_are_tagged_and_hidden(notebook: NotebookNode) -> None:
    assert parameters_of(NOTEBOOK) == PARAMETERS
    assert set(cell_of(notebook, "parameters").metadata.tags) == {"parameters", "hide-input"}


def test_it_imports_the_public_interface_only(notebook: NotebookNode) -> None:
    imported = set()
    for cell in code_of(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
    others = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert others == {"pruneviz", "IPython.display"}


def test_no_result_is_typed_by_hand(notebook: NotebookNode) -> None:
    """A number with a percent sign or a point is a result, but for what an exercise sets."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown" or cell.id.startswith("exercise"):
            continue
        prose = re.sub(r"```.*?```|\$\$.*?\$\$|\{cite:\w+\}`[^`]*`|`[^`]*`", "", cell.source, flags=re.DOTALL)
        assert not re.search(r"\d\s*%|\d\.\d|±|\d+ (?:runs|epochs|seeds|points)", prose), cell.id


def test_what_it_cites_is_in_the_bibliography(notebook: NotebookNode) -> None:
    prose = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    keys = {key for keys in re.findall(r"\{cite:\w+\}`([^`]*)`", prose) for key in keys.split(",")}
    known = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    assert keys
    assert keys <= set(known)


def test_visible_code_fits_the_column_of_the_page(notebook: NotebookNode) -> None:
    for cell in code_of(notebook):
        if not {"hide-input", "hide-cell", "remove-input", "remove-cell"} & set(cell.metadata.get("tags", [])):
            assert max(map(len, cell.source.splitlines())) <= 72, cell.id


# Parameters ----------------------------------------------------------------------------------------------


def run_setup(notebook: NotebookNode, values: dict[str, Any]) -> dict[str, Any]:
    """What the setup cell leaves, run here instead of in a kernel."""
    scope: dict[str, Any] = {}
    for name in ("parameters", "setup"):
        exec(cell_of(notebook, name).source, scope)
        scope |= values
    return scope


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A store with two small runs in it."""
    cells = pv.study.read_grid(ROOT / "book" / "grids" / "smoke.yaml")
    cells = pv.study.vary(cells, model="lenet_300_100", scorers="snip", sparsities=0.9, seeds=0)
    pv.study.compute(cells, tmp_path / "store", progress=False)
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"profile": "papr"}, "profile 'papr' is not known; did you mean 'paper'? accepted: smoke, paper"),
        ({"dataset": "digit"}, "data set 'digit' is not known; did you mean 'digits'?"),
        ({"model": "resnet21"}, "model 'resnet21' is not known"),
        ({"recipe": "smok"}, "recipe 'smok' is not known; did you mean 'smoke'?"),
        ({"scorers": ["snpi"]}, "scorer 'snpi' is not known; did you mean 'snip'?"),
        ({"sparsities": [1.2]}, "sparsity 1.2 is not a fraction"),
        ({"seeds": [0.5]}, "seed 0.5 is not accepted"),
        ({"compute": False, "store": "nowhere"}, "there is no store at 'nowhere'"),
        ({"device": "gpu"}, "device 'gpu'"),
    ],
)
def test_a_bad_parameter_is_one_clear_line(
    notebook: NotebookNode, values: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    with pytest.raises(pv.InputError, match=re.escape(says)) as caught:
        run_setup(notebook, {"store": tmp_path, **values})
    assert "\n" not in str(caught.value)


def test_an_empty_store_and_a_strange_folder_are_said(
    notebook: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(pv.InputError, match="has no pruned network of these 48 experiments; compute=True runs them"):
        run_setup(notebook, {"compute": False, "store": tmp_path})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pv.InputError, match="run the notebook inside its repository"):
        run_setup(notebook, {})


@pytest.mark.parametrize("folder", [ROOT, NOTEBOOK.parent])
def test_it_finds_its_place_from_anywhere_in_the_repository(
    folder: Path, notebook: NotebookNode, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    asked = {"model": "lenet_300_100", "scorers": "snip", "sparsities": 0.9, "seeds": 0}
    scope = run_setup(notebook, {**asked, "compute": False, "store": str(done)})
    assert scope["root"] == ROOT
    assert len(scope["measured"]) == len(scope["cells"]) == 2
    assert scope["own"], "the answer is for what was asked"
    assert not run_setup(notebook, {"profile": "paper", "compute": False})["own"]


# The page ------------------------------------------------------------------------------------------------


def page_of(notebook: NotebookNode, form: str = "text/html") -> dict[str, str]:
    """What each cell shows, by the cell's id."""
    shown: dict[str, str] = {}
    for cell in code_of(notebook):
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get(form) or output.get("data", {}).get("text/markdown")
            shown[cell.id] = shown.get(cell.id, "") + (text or "")
    return shown


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The notebook, executed on a small network, with made-up results of one seed for CIFAR-10."""
    folder = tmp_path_factory.mktemp("rq1")
    planned = pv.study.read_grid(CIFAR10)
    pv.study.write_table(made_up([cell for cell in planned if cell.seed == 0]), folder / "results")
    values = {
        "profile": "smoke",
        "model": "lenet_300_100",
        "scorers": ["random:erk", "snip"],
        "sparsities": [0.5, 0.9],
        "seeds": [0, 1, 2],
        "device": "cpu",
        "store": str(folder / "store"),
        "results": str(folder / "results.parquet"),
    }
    out = execute(NOTEBOOK, folder / "out.ipynb", values, progress=False)
    return nbformat.read(out, as_version=4)


def test_it_says_nothing_on_stderr(executed: NotebookNode) -> None:
    """A page has no room for progress bars and warnings."""
    outputs = [output for cell in code_of(executed) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_every_figure_has_words(executed: NotebookNode) -> None:
    shown = page_of(executed)
    figures = {name: html for name, html in shown.items() if "<svg" in html and "pv-picture" in html}
    assert set(figures) == {"measured-accuracy", "density", "gradient", "cifar-accuracy"}
    for html in figures.values():
        assert len(re.findall(r'role="img" aria-label="([^"]{40,})"', html)) == 1
        assert len(re.findall(r"<figcaption>.{40,}?</figcaption>", html)) == 1
    assert not [o for cell in code_of(executed) for o in cell.outputs if "image/png" in o.get("data", {})]


def test_the_explorer_is_there_and_light(executed: NotebookNode) -> None:
    html = page_of(executed)["mask-explorer"]
    assert 'data-pv-widget="mask_explorer"' in html
    assert len(html) < 1_000_000


def test_one_run_per_method_is_said_to_decide_nothing(executed: NotebookNode) -> None:
    shown = page_of(executed)
    assert "Each point is one run, and with one run nothing is decided" in shown["cifar-sure"]
    assert "not decided here" not in shown["measured-sure"]
    assert "So far 11 of the 33 planned runs are done" in shown["cifar-run"]
    for fact in ("one GPU", "10 epochs", "2.14.1", "0123456789ab-dirty"):
        assert fact in shown["cifar-run"]


def test_the_answer_has_the_numbers_of_the_table(executed: NotebookNode) -> None:
    answer = page_of(executed)["answer"]
    table = made_up([cell for cell in pv.study.read_grid(CIFAR10) if cell.seed == 0])
    pruned = table[table["scorer"] != "dense"]
    best = pruned.loc[pruned.groupby("sparsity")["validation_accuracy"].idxmax(), "test_accuracy"]
    dense = table.loc[table["scorer"] == "dense", "test_accuracy"].mean()
    for accuracy in (*best, dense):
        assert pv.figures.percent(accuracy, 1) in answer
    assert "After 10 epochs on cifar10" in answer
    assert "one run" in answer


@pytest.fixture
def cells_on(notebook: NotebookNode, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs single cells on a table of results; what they leave."""
    mpl.use("agg")
    monkeypatch.chdir(ROOT)

    def run(table: pd.DataFrame, *names: str, **more: Any) -> dict[str, Any]:
        # The figure of the measured part is always of sound rows.
        scope: dict[str, Any] = {"pv": pv, "Markdown": str, "display": str, "measured": made_up(), "largest": 0.98}
        exec(cell_of(notebook, "measured-accuracy").source, scope)
        scope |= {"measured": table, "committed": table, "shown": table, "own": False, **more}
        for name in names:
            exec(cell_of(notebook, name).source, scope)
        return scope

    return run


def test_the_best_method_is_chosen_by_validation(cells_on: Callable[..., dict[str, Any]]) -> None:
    """GraSP is best on the validation images and SNIP on the test images: no decision is based on the latter."""
    table = made_up()
    grasp, snip = table["scorer"] == "grasp", table["scorer"] == "snip"
    table = table.assign(
        validation_accuracy=table["validation_accuracy"].mask(grasp, 0.99),
        test_accuracy=table["test_accuracy"].mask(grasp, 0.321).mask(snip, 0.876),
    )
    scope = cells_on(table, "answer")
    said = scope["answer"](table)
    assert said.count("32.1\u00a0% with") == 3
    assert "(GraSP; chance: " in said
    assert "87.6" not in said
    assert "with the method that does best on the validation images" in said
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    *_, last = ast.parse(cell_of(notebook, "gradient-words").source).body
    words = cell_of(notebook, "gradient-words").source.replace("\nMarkdown(", "\nsaid = Markdown(")
    assert isinstance(last, ast.Expr)
    exec(words, scope)
    assert re.search(
        r"GraSP (leaves the largest gradient and also )?reaches the highest accuracy on the", scope["said"]
    )


def test_the_answer_leaves_out_what_is_missing(cells_on: Callable[..., dict[str, Any]]) -> None:
    table = made_up()
    dense = table["scorer"] == "dense"
    answer = cells_on(table, "answer")["answer"]
    without = answer(table[~dense])
    assert "nan" not in without
    assert without.startswith(
        "**After 10 epochs on cifar10, pruned before training, a resnet20 reaches a test accuracy"
    )
    assert "pruned" not in answer(table[dense])
    assert "a dense resnet20 classifies" in answer(table[dense])
    first_diverged = table.assign(epochs=[2, *[10] * (len(table) - 1)])
    assert "After 10 epochs" in answer(first_diverged)


def test_results_of_the_dense_network_alone_are_shown(cells_on: Callable[..., dict[str, Any]]) -> None:
    table = made_up()
    names = ("measured-table", "cifar-table", "cifar-accuracy", "cifar-sure", "answer", "guess-compared")
    dense_only = table[table["scorer"] == "dense"]
    scope = cells_on(dense_only, *names, my_guess=("SNIP", 0.5))
    assert "none yet" in scope["accuracy_figure"](dense_only)._repr_html_()
    assert "nan" not in scope["accuracy_figure"](table[table["scorer"] != "dense"])._repr_html_().split("<svg")[0]


def test_solutions_of_the_exercises_run(executed: NotebookNode) -> None:
    shown = page_of(executed)
    assert "rounded to a whole number" in shown["solution-count"]
    assert "Neither" in shown["solution-scale"]
    assert shown["solution-collapse"]


@pytest.mark.parametrize(
    ("name", "right", "wrong"), [("count", 678, 13), ("scale", (False, False), (True, False)), ("collapse", 0.99, 0.5)]
)
def test_exercises_tell_right_from_wrong(
    name: str, right: object, wrong: object, notebook: NotebookNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    scope: dict[str, Any] = {"pv": pv, "cells": [pv.Cell(model="resnet20")]}
    exec(cell_of(notebook, "one-mask").source, scope)
    if name == "count":
        right = round(0.02 * pv.masks.total(scope["masks"]))
    source = cell_of(notebook, f"exercise-{name}").source
    assert source.startswith("yours = None")
    exec(source, scope)
    exec(source.replace("yours = None", f"yours = {right!r}", 1), scope)
    with pytest.raises(AssertionError):
        exec(source.replace("yours = None", f"yours = {wrong!r}", 1), scope)


def test_a_guess_is_compared(notebook: NotebookNode, capsys: pytest.CaptureFixture[str]) -> None:
    mpl.use("agg")
    table = made_up()
    scope: dict[str, Any] = {"pv": pv, "shown": table, "my_guess": ("SNIP", 0.5), "measured": table}
    exec(cell_of(notebook, "measured-accuracy").source, scope)
    source = cell_of(notebook, "guess-compared").source
    exec(source, scope)
    snip = table[(table["scorer"] == "snip") & (table["sparsity"] == 0.9)]["test_accuracy"].mean()
    assert f"It reached {snip:.1%}, and on the validation images it was " in capsys.readouterr().out
    with pytest.raises(pv.InputError, match="method 'snip' is not known"):
        exec(source, scope | {"my_guess": ("snip", 0.5)})


def test_papermill_stops_at_a_bad_parameter(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK.relative_to(ROOT)), str(tmp_path / "out.ipynb")]
    run = subprocess.run(
        [*command, "-p", "profile", "smoke", "-p", "scorers", "snpi", "--no-progress-bar"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode != 0
    assert "InputError: scorer 'snpi' is not known; did you mean 'snip'?" in run.stderr
