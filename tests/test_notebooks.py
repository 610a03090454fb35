"""The notebooks that teach: their form, that they run, and that their exercises tell right from wrong."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import nbformat
import pytest
from nbformat import NotebookNode

import pruneviz as pv
from pruneviz.study.notebook import parameters_of

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [
    path for kind in ("foundations", "rq", "diy") for path in sorted((ROOT / "notebooks").glob(f"{kind}*.ipynb"))
]
PARAMETERS = {"profile", "dataset", "model", "recipe", "scorers", "sparsities", "seeds", "store", "device", "compute"}
PARAMETERS |= {"results"}
ALLOWED = {"pruneviz", "torch", "torchvision", "matplotlib", "numpy", "pandas", "IPython"}
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
inquiry = pytest.mark.parametrize("path", [p for p in NOTEBOOKS if not p.stem.startswith("diy")], ids=lambda p: p.stem)


# What a page calls what it reads from a parameter, where that is not the list itself.
ONE = {"scorers": ("scorer", "labelled"), "sparsities": ("sparsity",), "seeds": ("seed",)}


def cells_of(path: Path, kind: str) -> list[NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def prose_of(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells_of(path, "markdown"))


@every
def test_it_is_valid_and_carries_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells_of(path, "code"))
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.cells[0].source.startswith("# ")


@every
def test_its_parameters_are_the_usual_ones(path: Path) -> None:
    names = parameters_of(path)
    assert names[0] == "profile"
    assert set(names) <= PARAMETERS
    (cell,) = [cell for cell in cells_of(path, "code") if "parameters" in cell.metadata.get("tags", [])]
    assert "hide-input" in cell.metadata.tags


@every
def test_a_reader_is_told_what_a_hidden_cell_holds(path: Path) -> None:
    """A solution opens with "Show the solution", not with the "Show the code" of every other hidden cell."""
    for cell in cells_of(path, "code"):
        what = next((kind for kind in ("parameters", "solution") if cell.id.startswith(kind)), None)
        if what:
            prompts = {"code_prompt_hide": f"Hide the {what}", "code_prompt_show": f"Show the {what}"}
            assert cell.metadata.get("mystnb") == prompts, cell.id


@every
def test_it_uses_the_public_interface_only(path: Path) -> None:
    for cell in cells_of(path, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in ALLOWED | sys.stdlib_module_names, name
                assert not name.startswith("pruneviz."), f"{cell.id}: {name}"
        assert not re.search(r"\bpv\.(\w+\.)*_\w", cell.source), cell.id


@inquiry
def test_it_asks_derives_answers_and_doubts(path: Path) -> None:
    prose = prose_of(path)
    assert "?" in prose[:800], "the question comes first"
    assert len(re.findall(r"^## ", prose, flags=re.MULTILINE)) >= 4
    assert prose.count("$$") >= (4 if path.stem.startswith("foundations") else 2)
    assert "my_guess = None" in "\n".join(cell.source for cell in cells_of(path, "code"))
    assert re.search(r"^##+ (The answer|What this shows)", prose, flags=re.MULTILINE)
    assert "what this does not show" in prose.lower()


@every
def test_it_has_exercises(path: Path) -> None:
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert sum(name.startswith("exercise") and not name.endswith("text") for name in ids) >= 2


@every
def test_what_it_cites_is_in_the_bibliography(path: Path) -> None:
    keys = {key for keys in re.findall(r"\{cite:\w+\}`([^`]*)`", prose_of(path)) for key in keys.split(",")}
    known = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    assert keys
    assert keys <= set(known)


@every
def test_visible_code_fits_the_column_of_the_page(path: Path) -> None:
    for cell in cells_of(path, "code"):
        if not HIDDEN & set(cell.metadata.get("tags", [])):
            assert max(map(len, cell.source.splitlines())) <= 72, cell.id


@every
def test_several_values_may_be_one_or_a_text_of_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `papermill -p` gives them: `-p sparsities 0.9 -p seeds 1`, or `-p seeds "[0, 1]"`."""
    parameters, setup = (next(c for c in cells_of(path, "code") if c.id == name) for name in ("parameters", "setup"))
    if "pv.study.vary(" in setup.source:
        pytest.skip("it reads them by `vary`, which has tests of its own")
    mpl.use("agg")
    monkeypatch.chdir(path.parent)
    for sparsities, seeds in ((0.9, 1), ("[0.9]", "[1]"), ([0.9], [1])):
        scope: dict[str, Any] = {"display": lambda *shown: None, "__name__": "__main__"}
        exec(parameters.source, scope)
        asked = {"scorers": "snip", "sparsities": sparsities, "seeds": seeds}
        asked = {name: value for name, value in asked.items() if name in scope}
        scope |= asked
        exec(compile(setup.source, f"{path.name}, cell setup", "exec"), scope)
        read = {"scorers": "snip", "sparsities": 0.9, "seeds": 1}
        for name in asked:
            assert [read[name]] == scope[name] or any(scope.get(one) in (read[name], [read[name]]) for one in ONE[name])


@every
def test_a_sparsity_that_is_none_is_refused_before_anything_is_computed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, setup = (next(c for c in cells_of(path, "code") if c.id == name) for name in ("parameters", "setup"))
    if "pv.study.vary(" in setup.source or "sparsities = None" not in parameters.source:
        pytest.skip("`vary` reads them, which has tests of its own, or there are none")
    mpl.use("agg")
    monkeypatch.chdir(path.parent)
    for given in (90, "many"):
        scope: dict[str, Any] = {"display": lambda *shown: None, "__name__": "__main__"}
        exec(parameters.source, scope)
        scope["sparsities"] = given
        with pytest.raises(pv.InputError, match=f"sparsity .*{given}"):
            exec(compile(setup.source, f"{path.name}, cell setup", "exec"), scope)


def wrong(solution: Any) -> Any:
    """An answer of the same kind that is not the solution."""
    if isinstance(solution, bool):
        return not solution
    if isinstance(solution, float) and 0 < solution < 1:
        return solution / 2  # a fraction, too
    if isinstance(solution, int | float):
        return 2 * solution + 1
    if isinstance(solution, str):
        return f"not {solution}"
    if isinstance(solution, tuple | list):
        return type(solution)(map(wrong, solution))
    raise TypeError(f"an exercise whose solution is a {type(solution).__name__}")


@every
@pytest.mark.usefixtures("registry_afresh")
def test_its_checks_hold_and_its_exercises_tell_right_from_wrong(
    path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every cell is run here, in order; a solution cell names its answer `solution`, and the exercise is above it."""
    mpl.use("agg")
    monkeypatch.chdir(path.parent)
    scope: dict[str, Any] = {"display": lambda *shown: None, "__name__": "__main__"}
    exercise: NotebookNode | None = None
    solved = 0
    for cell in cells_of(path, "code"):
        exec(compile(cell.source, f"{path.name}, cell {cell.id}", "exec"), scope)
        if cell.id.startswith("exercise"):
            exercise = cell
        elif cell.id.startswith("solution"):
            assert exercise is not None
            assert exercise.source.startswith("yours = None"), exercise.id
            solution = scope["solution"]
            exec(exercise.source.replace("yours = None", f"yours = {solution!r}", 1), scope)
            with pytest.raises(AssertionError):
                exec(exercise.source.replace("yours = None", f"yours = {wrong(solution)!r}", 1), scope)
            exercise, solved = None, solved + 1
    if isinstance(place := scope.get("place"), TemporaryDirectory):
        place.cleanup()  # where a notebook runs by itself, the end of its process does that
    assert solved >= 2
    assert capsys.readouterr().err == ""
    assert not [str(w.message) for w in recwarn if not issubclass(w.category, DeprecationWarning)]
    assert isinstance(scope["pv"].Problem, type)
    assert scope["pv"] is pv
