"""The table: what is in the records, in one order, the same bytes every time."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.cli import main
from pruneviz.recipe import RECIPES
from pruneviz.study import record
from pruneviz.study.cell import Cell, hash_of
from pruneviz.study.costs import COLUMNS as COSTS
from pruneviz.study.run import compute
from pruneviz.study.table import COLUMNS, OtherVersionWarning, make_table, read_table, write_table

TINY = {"dataset": "digits", "fraction": 0.1, "model": "mlp", "width": 0.1}
CELLS = [
    Cell(**TINY, scorer="snip", sparsity=0.9),
    Cell(**TINY, scorer="grasp", options={"temperature": 100}, sparsity=0.9),
    Cell(**TINY),
    Cell(**TINY, scorer="snip", sparsity=0.5),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    compute(CELLS, folder, device="cpu", progress=False)
    return folder


def test_a_row_says_what_its_record_says(store: Path) -> None:
    table = make_table(store)
    assert tuple(table.columns) == COLUMNS
    assert [(row.scorer, row.sparsity) for row in table.itertuples()] == [
        ("dense", 0.0),
        ("grasp", 0.9),
        ("snip", 0.5),
        ("snip", 0.9),
    ]
    for row in table.itertuples():
        content = record.read(record.path_of(store, row.hash))
        own = {f.name: getattr(row, f.name) for f in fields(Cell)} | {"options": json.loads(row.options)}
        assert Cell(**own).hash == row.hash == content["hash"]
        assert row.test_accuracy == content["result"]["test_accuracy"]
        assert row.validation_accuracy == content["result"]["validation_accuracy"][-1]
        assert json.loads(row.curves)["train_loss"] == content["result"]["train_loss"]
        assert list(json.loads(row.layers).items()) == list(content["layers"].items())
        assert row.kept == sum(kept for kept, _ in content["layers"].values())
        assert row.density == row.kept / row.total
        assert row.kept == round((1 - row.sparsity) * row.total)
        environment = content["environment"]
        assert (row.device, row.threads) == (environment["device"], environment["threads"])


def test_the_threads_are_those_of_the_training(store: Path, tmp_path: Path) -> None:
    """A record from a machine with other threads says so beside the device."""
    for number, path in enumerate(sorted(store.glob("*.json")), start=3):
        content = record.read(path)
        environment = {**content["environment"], "threads": number}
        record.write(tmp_path, {**content, "environment": environment})
    table = make_table(tmp_path)
    assert list(table.sort_values("hash")["threads"]) == list(range(3, 3 + len(CELLS)))
    assert COLUMNS[COLUMNS.index("device") + 1] == "threads"


def test_no_column_tells_the_time(store: Path) -> None:
    assert not [name for name in COLUMNS if "second" in name or "time" in name or "finished" in name]


def test_the_same_cells_give_the_same_bytes_in_whatever_order(store: Path, tmp_path: Path) -> None:
    compute(CELLS[::-1], tmp_path / "again", device="cpu", progress=False)
    for name, folder in (("one", store), ("two", tmp_path / "again")):
        write_table(make_table(folder), tmp_path / name)
    for suffix in ("parquet", "csv"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_parquet_and_csv_hold_the_same_numbers(store: Path, tmp_path: Path) -> None:
    table = make_table(store)
    write_table(table, tmp_path / "table")
    pd.testing.assert_frame_equal(read_table(tmp_path / "table.parquet"), table)
    pd.testing.assert_frame_equal(read_table(store), table)
    text = pd.read_csv(tmp_path / "table.csv", dtype={"hash": str, "git_revision": str})
    pd.testing.assert_frame_equal(
        text.drop(columns="git_revision"), table.drop(columns="git_revision"), check_dtype=False
    )


def test_an_unchanged_table_is_not_touched(store: Path, tmp_path: Path) -> None:
    write_table(make_table(store), tmp_path / "table")
    before = (tmp_path / "table.parquet").stat()
    write_table(make_table(store), tmp_path / "table")
    after = (tmp_path / "table.parquet").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_tables_without_costs_can_be_read(store: Path, tmp_path: Path) -> None:
    table = make_table(store)
    assert table[list(COSTS)].notna().all(axis=None)
    table.drop(columns=[*COSTS, "minimum", "ablation"]).to_parquet(tmp_path / "old.parquet")
    old = read_table(tmp_path / "old.parquet")
    assert tuple(old.columns) == COLUMNS
    assert old[list(COSTS)].isna().all(axis=None)
    assert dict(old.dtypes) == dict(table.dtypes)


def test_an_empty_store_gives_an_empty_table_with_all_columns(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    assert tuple(table.columns) == COLUMNS
    write_table(table, tmp_path / "table")
    back = read_table(tmp_path / "table.parquet")
    assert len(back) == 0
    assert dict(back.dtypes) == dict(table.dtypes)


def test_records_of_what_a_recipe_was_are_no_rows(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in store.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setitem(RECIPES, "smoke", replace(RECIPES["smoke"], epochs=1))
    again = [Cell(**cell.as_dict()) for cell in CELLS[:1]]
    compute(again, tmp_path, device="cpu", progress=False)
    with pytest.warns(
        OtherVersionWarning, match="of recipe 'smoke', or of pruneviz, has made 4 of the records"
    ) as told:
        table = make_table(tmp_path)
    assert [row.hash for row in table.itertuples()] == [cell.hash for cell in again]
    assert len(told) == 1
    for path in store.glob("*.json"):
        assert path.name in str(told[0].message)
    assert main(["table", "--store", str(tmp_path), "--out", str(tmp_path / "t" / "table")]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("pruneviz: warning: another version of recipe 'smoke'")
    assert len(said.err.splitlines()) == 1
    assert said.out.endswith(": 1 rows\n")


def test_records_of_unknown_recipes_and_scorers_are_rows(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, cell in enumerate(CELLS[:2]):
        content = record.read(record.path_of(store, cell.hash))
        own, recipe = content["cell"] | {"recipe": "gone"}, content["recipe"] | {"name": "gone"}
        record.write(tmp_path, content | {"hash": f"{number:016x}", "cell": own, "recipe": recipe})
    foreign = CELLS[2].as_dict() | {"scorer": "not_here", "sparsity": 0.5}
    content = record.read(record.path_of(store, CELLS[2].hash))
    record.write(tmp_path, content | {"hash": hash_of(foreign, RECIPES["smoke"]), "cell": foreign})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(make_table(tmp_path)["recipe"]) == ["gone", "gone", "smoke"]
    path = record.path_of(tmp_path, "0" * 16)
    content = record.read(path)
    record.write(tmp_path, content | {"recipe": content["recipe"] | {"epochs": 3}})
    with pytest.warns(OtherVersionWarning, match="recipe 'gone' is not known here, .* have it in 2 versions"):
        assert sorted(make_table(tmp_path)["recipe"]) == ["gone", "gone", "smoke"]


def test_infinite_and_missing_numbers_stay_apart(store: Path, tmp_path: Path) -> None:
    table = make_table(store)
    table.loc[0, ["test_loss", "train_loss"]] = [math.inf, math.nan]
    write_table(table, tmp_path / "table")
    for back in (read_table(tmp_path / "table.parquet"), pd.read_csv(tmp_path / "table.csv")):
        assert back.test_loss[0] == math.inf
        assert math.isnan(back.train_loss[0])


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pv.InputError, match="there is no store at"):
        read_table(tmp_path / "nowhere")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(pv.InputError, match="not a parquet file that can be read"):
        read_table(tmp_path / "bad.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(pv.InputError, match="no column 'hash'"):
        read_table(tmp_path / "other.parquet")
