"""Notebooks executed headlessly: parameters, failures, time limits, and what is left on the disk."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

from pruneviz.errors import InputError
from pruneviz.study import notebook as notebook_
from pruneviz.study.notebook import StepError, execute, execute_all, parameters_of


def write(path: Path, *sources: str, parameters: str = "n = 1\nname: str = 'a'") -> Path:
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell(parameters)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_parameters_are_read_from_their_cell(tmp_path: Path) -> None:
    cell = "profile: str = 'smoke'  # or paper\nsparsities = [\n    0.5,\n    0.9,\n]\nseeds: list[int] = [0]"
    notebook = write(tmp_path / "n.ipynb", "other = 3", parameters=cell)
    assert parameters_of(notebook) == ["profile", "sparsities", "seeds"]


def test_it_runs_here_with_the_values_given(tmp_path: Path) -> None:
    notebook = write(tmp_path / "books" / "n.ipynb", "import os, sys; print(sys.executable, os.getcwd(), n, name)")
    before = notebook.read_bytes()
    out = execute(notebook, tmp_path / "new" / "out.ipynb", {"n": [1, 2.5], "name": "it's"})
    assert printed(out) == f"{sys.executable} {notebook.parent} [1, 2.5] it's\n"
    assert notebook.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["out.ipynb"]


def test_a_failing_cell_is_named_and_the_good_copy_stays(tmp_path: Path) -> None:
    notebook = write(tmp_path / "n.ipynb", "1 + 1", "# divide\nprint('before')\n1 / (n - 7)", "print('never')")
    out = execute(notebook, tmp_path / "out.ipynb", {"n": 8})
    good = out.read_bytes()
    with pytest.raises(StepError) as caught:
        execute(notebook, out, {"n": 7, "name": "b"})
    first, second = str(caught.value).splitlines()
    assert "n.ipynb failed in cell 4 of 5 ('# divide'), with n=7, name='b': ZeroDivisionError" in first
    assert second.endswith("out.failed.ipynb")
    assert out.read_bytes() == good
    failed = tmp_path / "out.failed.ipynb"
    assert "before" in printed(failed)
    assert "never" not in printed(failed)
    execute(notebook, out, {"n": 9})
    assert not failed.exists(), "a failure that is mended leaves nothing behind"


def test_the_time_limit_is_for_the_whole_notebook(tmp_path: Path) -> None:
    notebook = write(tmp_path / "n.ipynb", *["import time; time.sleep(1.5)"] * 8)
    with pytest.raises(StepError, match=r"cell \d of 10 .*not done after 3 s"):
        execute(notebook, tmp_path / "out.ipynb", time_limit=3)
    assert not (tmp_path / "out.ipynb").exists()


def test_the_clock_starts_with_the_first_cell_and_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(notebook_.time, "monotonic", lambda: now[0])
    left, endless = notebook_._countdown(20.0), notebook_._countdown(None)
    now[0] = 1000.0  # a kernel that was slow to start
    assert [left(None), endless(None)] == [20, None]
    now[0] = 1015.0
    assert [left(None), endless(None)] == [5, None]
    now[0] = 1030.0
    assert [left(None), endless(None)] == [1, None]  # no time is no limit for nbclient


def test_a_kernel_that_dies_is_named(tmp_path: Path) -> None:
    notebook = write(tmp_path / "n.ipynb", "import os; os._exit(9)")
    with pytest.raises(StepError, match=r"cell 3 of 3 .*process died"):
        execute(notebook, tmp_path / "out.ipynb")


@pytest.mark.parametrize(
    ("given", "said"),
    [({"nme": 1}, "did you mean 'name'"), ({"zzz": 1}, "accepted: n, name"), ({"other": 1}, "'other' is not known")],
)
def test_unknown_parameters_are_refused_before_anything_runs(tmp_path: Path, given: dict[str, int], said: str) -> None:
    notebook = write(tmp_path / "n.ipynb", "other = 1")
    with pytest.raises(InputError, match=said) as caught:
        execute(notebook, tmp_path / "out.ipynb", given)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["n.ipynb"]


def test_what_is_no_notebook_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.ipynb").write_text("not json", encoding="utf-8")
    for name, said in (("text.ipynb", "cannot be read as a notebook"), ("none.ipynb", "there is no notebook")):
        with pytest.raises(InputError, match=said) as caught:
            execute(tmp_path / name, tmp_path / "out.ipynb")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match="parameters cell is not Python"):
        parameters_of(write(tmp_path / "n.ipynb", parameters="n = = 1"))
    with pytest.raises(InputError, match="time_limit"):
        execute(write(tmp_path / "m.ipynb"), tmp_path / "out.ipynb", time_limit=float("nan"))


def test_all_are_tried_and_each_gets_its_own_parameters(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ipynb", "print('one', n)")
    bad = write(tmp_path / "bad.ipynb", "raise RuntimeError('on purpose')")
    two = write(tmp_path / "two.ipynb", "print('two', m)", parameters="m = 0")
    with pytest.raises(StepError, match=r"bad\.ipynb failed in cell 3"):
        execute_all([one, bad, two], tmp_path / "out", {"n": 4, "m": 5})
    assert printed(tmp_path / "out" / "one.ipynb") == "one 4\n"
    assert printed(tmp_path / "out" / "two.ipynb") == "two 5\n"
    with pytest.raises(InputError, match="'k' is not known"):
        execute_all([one, two], tmp_path / "out", {"k": 1})
    with pytest.raises(InputError, match="no notebook"):
        execute_all([], tmp_path / "out")
