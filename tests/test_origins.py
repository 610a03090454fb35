"""What stands behind the cells of a notebook: names are followed from files to what is shown, and no further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pruneviz as pv
from pruneviz.study import record
from pruneviz.study.origins import Place, finished, places

ROOT = Path(__file__).resolve().parents[1]
FILES = ["one.yaml", "two.yaml", "rows.parquet"]


def notebook(folder: Path, *sources: str) -> Path:
    """A notebook of these code cells, called a, b, c and so on."""
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "id": "title", "source": "# A page\n\nand its text"}
    ]
    cells += [{**code, "id": "abcdefgh"[place], "source": text} for place, text in enumerate(sources)]
    path = folder / "page.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def behind(folder: Path, *sources: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {place.cell: (place.shows, place.files) for place in places(notebook(folder, *sources), FILES)}


def test_a_name_is_followed_from_a_file_to_a_figure(tmp_path: Path) -> None:
    found = places(
        notebook(
            tmp_path,
            "grid = read_grid(folder / 'one.yaml')\nother = read_grid('book/grids/two.yaml')\nfree = 3",
            "table = rows_of(read_table('rows.parquet'), grid)",
            "pv.figures.show(pv.figures.accuracy(table), alt='', caption='')",
            "pv.figures.show_table(free, caption='')",
            "Markdown(f'{len(other)} cells')",
        ),
        FILES,
    )
    assert found == [
        Place("page", "A page", "c", ("figure",), ("one.yaml", "rows.parquet")),
        Place("page", "A page", "e", ("text",), ("two.yaml",)),
    ]


def test_names_that_are_made_anew_forget_what_they_were(tmp_path: Path) -> None:
    source = "x = 'one.yaml'\nx = 'two.yaml'\nMarkdown(x)"
    assert behind(tmp_path, source) == {"a": (("text",), ("two.yaml",))}
    loops = "for x in ['one.yaml']:\n    pass\nfor x in ['two.yaml']:\n    display(Markdown(x))"
    assert behind(tmp_path, loops) == {"a": (("text",), ("two.yaml",))}
    parts = "x = dict(a='one.yaml')\nx['b'] = 'two.yaml'\nMarkdown(x)"
    assert behind(tmp_path, parts) == {"a": (("text",), ("one.yaml", "two.yaml"))}


def test_only_the_profile_of_the_book_is_followed(tmp_path: Path) -> None:
    source = "chosen = {'smoke': {'grid': 'one.yaml'}, 'paper': {'grid': 'two.yaml'}}[profile]\nMarkdown(chosen)"
    assert behind(tmp_path, source) == {"a": (("text",), ("one.yaml",))}
    assert behind(tmp_path, source.replace("paper", "large"))["a"][1] == ("one.yaml", "two.yaml")


def test_functions_are_looked_into(tmp_path: Path) -> None:
    define = (
        "rows = 'one.yaml'\n"
        "def draw(table):\n    return pv.figures.show(table, alt='', caption='')\n"
        "def section(table):\n    display(draw(table))\n    display(Markdown('text'))\n    return 3\n"
        "def hidden():\n    return rows"
    )
    found = behind(tmp_path, define, "draw(rows)", "found = section(rows)", "kept = draw(rows)", "Markdown(hidden())")
    assert found == {
        "b": (("figure",), ("one.yaml",)),
        "c": (("figure", "text"), ("one.yaml",)),
        "e": (("text",), ("one.yaml",)),
    }


def test_a_parameter_hides_a_name_from_outside(tmp_path: Path) -> None:
    source = "table = 'one.yaml'\ndef draw(table):\n    return Markdown(table)\nother = 'two.yaml'\ndraw(other)"
    assert behind(tmp_path, source) == {"a": (("text",), ("two.yaml",))}


def test_a_function_that_calls_itself_ends(tmp_path: Path) -> None:
    source = "def again(x):\n    display(Markdown(x))\n    return again(x)\nagain('one.yaml')"
    assert behind(tmp_path, source) == {"a": (("text",), ("one.yaml",))}


def test_conditions_count_and_widgets_are_interactions(tmp_path: Path) -> None:
    source = "x = 'one.yaml'\nif x:\n    display(Markdown('there is one'))\npv.widgets.Accuracy(x)"
    assert behind(tmp_path, source) == {"a": (("text", "interaction"), ("one.yaml",))}


def test_what_is_no_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pv.InputError, match="the cell 'a' is not Python"):
        places(notebook(tmp_path, "%time x"), FILES)
    with pytest.raises(pv.InputError, match="there is no notebook"):
        places(tmp_path / "none.ipynb", FILES)


def test_the_pages_of_the_book_show_committed_rows() -> None:
    found = places(ROOT / "notebooks" / "rq1_prune_before_training.ipynb", ["rq1_cifar10.yaml", "results.parquet"])
    assert {place.cell for place in found} == {"cifar-run", "cifar-table", "cifar-accuracy", "cifar-sure", "answer"}
    assert {place.files for place in found} == {("rq1_cifar10.yaml", "results.parquet")}
    assert found[0].title == "Can a network be pruned at initialization?"


def test_dates_are_those_of_the_records(tmp_path: Path) -> None:
    folder = ROOT / "book" / "data" / "records"
    when = finished(folder)
    path = sorted(folder.glob("*.json"))[0]
    assert when[path.stem] == record.read(path)["finished"]
    damaged = tmp_path / path.name
    damaged.write_text(path.read_text(encoding="utf-8").replace('"schema": 1', '"schema": 9'), encoding="utf-8")
    with pytest.warns(record.DamagedRecordWarning):
        assert finished(tmp_path) == {}
    with pytest.raises(pv.InputError, match="there is no store"):
        finished(tmp_path / "none")
