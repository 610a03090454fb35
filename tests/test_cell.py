"""Cells and grids: what names an experiment, and what is refused before anything runs."""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pruneviz as pv
from pruneviz.scorers import registry
from pruneviz.study.cell import Cell, recipe_contents, shards
from pruneviz.study.grid import read_grid

REPOSITORY = Path(__file__).resolve().parents[1]

# Two values of each field that differ; the first is never the default where the field decides anything alone.
OTHER = {
    "dataset": "cifar10",
    "fraction": 0.5,
    "model": "mlp",
    "width": 0.25,
    "init": "xavier_normal",
    "scorer": "snip",
    "sparsity": 0.9,
    "scope": "erk",
    "minimum": 2,
    "schedule": "exponential:3",
    "ablation": "shuffle",
    "batchnorm": "eval",
    "per_class": 5,
    "batches": 2,
    "recipe": "cifar_10ep",
    "seed": 1,
    "precision": "float32",
}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_hash_is_that_of_the_text_that_is_documented() -> None:
    # Written by hand: no default is in it, keys are sorted, and the recipe is there with what it changes.
    cell = Cell(scorer="grasp", options={"variant": "official", "temperature": 100.0}, sparsity=0.98, width=2)
    assert cell.hash == digest(
        '{"cell":{"options":{"temperature":100,"variant":"official"},"scorer":"grasp","sparsity":0.98,"width":2.0},'
        '"recipe":{"batch_size":64,"epochs":8,"nesterov":true,"schedule":"cosine","warmup":1.0}}'
    )


def test_hashes_of_committed_records_never_change() -> None:
    assert Cell(dataset="cifar10", recipe="cifar_10ep").hash == "eda62e6eced233fa"
    book = REPOSITORY / "book"
    cells = {cell.hash for path in (book / "grids").glob("*.yaml") for cell in read_grid(path)}
    records = {path.stem for path in (book / "data" / "records").glob("*.json")}
    assert len(records) >= 12
    assert records <= cells


def test_hash_does_not_depend_on_how_a_cell_is_written() -> None:
    one = Cell(scorer="grasp", options={"temperature": 1, "variant": "official"}, sparsity=0.5)
    two = Cell(scorer="grasp", options=(("variant", "official"), ("temperature", 1.0)), sparsity=0.5, seed=0, width=1)
    assert one == two
    assert one.hash == two.hash
    assert Cell(**one.as_dict()) == one


@given(st.sets(st.sampled_from(sorted(OTHER))), st.sets(st.sampled_from(sorted(OTHER))))
def test_cells_have_equal_hashes_if_and_only_if_they_are_equal(one: set[str], two: set[str]) -> None:
    cells = [Cell(**({"scorer": "magnitude"} | {name: OTHER[name] for name in names})) for names in (one, two)]
    assert (cells[0] == cells[1]) == (one == two) == (cells[0].hash == cells[1].hash)


def test_every_field_is_in_the_property_above() -> None:
    assert {field.name for field in fields(Cell)} == {*OTHER, "options"}


def test_a_changed_recipe_is_another_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Cell().hash
    monkeypatch.setitem(pv.RECIPES, "smoke", replace(pv.RECIPES["smoke"], epochs=9))
    assert Cell().hash != before


def test_recipe_fields_at_their_defaults_are_left_out() -> None:
    assert recipe_contents(pv.Recipe("any", epochs=3)) == {"epochs": 3}
    assert recipe_contents(pv.Recipe("any", epochs=3, lr=0.05)) == {"epochs": 3, "lr": 0.05}


def test_dense_cells_do_not_multiply_by_what_only_pruning_uses() -> None:
    assert Cell(scope="erk", schedule="linear:2", minimum=3, ablation="shuffle") == Cell()


def test_the_schedule_of_the_method_is_kept_as_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    card = pv.Card(name="patient", title="", effect="", schedule="exponential:100")
    pv.register(card)(lambda problem, masks=None: problem.weights)
    cell = Cell(scorer="patient", sparsity=0.9, schedule="method")
    assert cell == Cell(scorer="patient", sparsity=0.9, schedule="exponential:100")
    assert cell.hash != Cell(scorer="patient", sparsity=0.9).hash
    assert Cell(scorer="snip", sparsity=0.9, schedule="method") == Cell(scorer="snip", sparsity=0.9)
    assert Cell(schedule="method") == Cell()
    for name in ("exponential", "linear"):
        same = {Cell(scorer="snip", sparsity=0.9, schedule=f"{name}:{steps}").hash for steps in ("5", "05", "٥")}
        assert same == {Cell(scorer="snip", sparsity=0.9, schedule=f"{name}:5").hash}
    assert cell.label == "digits resnet20 patient 0.9 global exponential:100 seed 0"
    pv.register(replace(card, name="slow", schedule="exponential:007"))(lambda problem, masks=None: problem.weights)
    assert Cell(scorer="slow", sparsity=0.9, schedule="method").schedule == "exponential:7"
    text = "{defaults: {schedule: method, sparsity: 0.9}, cells: [{sparsity: 0}, {scorer: [snip, patient]}]}"
    assert [c.schedule for c in read_grid(grid(tmp_path, text))] == ["one_shot", "one_shot", "exponential:100"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scorer": "snpi"}, "scorer 'snpi' is not known; did you mean 'snip'?"),
        ({"dataset": "cifar"}, "data set 'cifar' is not known; did you mean 'cifar10'?"),
        ({"model": "resnet200"}, "model 'resnet200' is not known; did you mean 'resnet20'?"),
        ({"init": "kaiming"}, "initialization 'kaiming' is not known"),
        ({"recipe": "smok"}, "recipe 'smok' is not known; did you mean 'smoke'?"),
        ({"scope": "globl"}, "scope 'globl' is not known; did you mean 'global'?"),
        (
            {"schedule": "exponential"},
            "schedule 'exponential' is not known; accepted: one_shot, exponential:STEPS, linear:STEPS, method (",
        ),
        ({"schedule": None}, "schedule 'None' is not known"),
        ({"batchnorm": "trian"}, "batchnorm 'trian' is not known"),
        ({"precision": "fp16"}, "precision 'fp16' is not known"),
        ({"sparsity": 1.2}, "sparsity 1.2"),
        ({"sparsity": -0.1}, "sparsity -0.1"),
        ({"sparsity": math.nan}, "sparsity nan"),
        ({"sparsity": "nan"}, "sparsity 'nan'"),
        ({"fraction": 1.5}, "fraction 1.5"),
        ({"fraction": 0}, "fraction 0"),
        ({"width": -1}, "width -1"),
        ({"width": 1001}, "width 1001 is not accepted: give a number with 0 < width <= 1000"),
        ({"width": 1e300}, "width 1e+300 is not accepted"),
        ({"per_class": 0}, "per_class 0"),
        ({"minimum": -1}, "minimum -1 is not accepted: give a whole number of at least 0"),
        ({"minimum": 1.0}, "minimum 1.0"),
        ({"ablation": "shuffled"}, "ablation 'shuffled' is not known; did you mean 'shuffle'?"),
        (
            {"scorer": "rigl", "sparsity": 0.9, "ablation": "shuffle"},
            "ablation 'shuffle' undoes pruning before training",
        ),
        (
            {"scorer": "snip", "sparsity": 0.9, "ablation": "invert", "schedule": "exponential:3"},
            "and schedule 'exponential:3' cuts several times; accepted is schedule 'one_shot'",
        ),
        ({"minimum": True}, "minimum True"),
        ({"batches": 1.5}, "batches 1.5"),
        ({"seed": -1}, "seed -1"),
        ({"scorer": "snip", "options": {"temprature": 2}}, "'temprature'"),
        ({"scorer": "grasp", "options": {"temprature": 2}}, "did you mean 'temperature'?"),
        ({"options": {"seed": 2}}, "scorer 'dense' takes no options"),
        ({"options": 3}, "options 3 are not accepted"),
        ({"scorer": "grasp", "options": {"temperature": [1, 2]}}, "several settings are a list of mappings"),
        ({"scorer": "grasp", "options": {"temperature": math.nan}}, "option 'temperature' is nan"),
        ({"scorer": "grasp", "options": {"temperature": math.inf}}, "option 'temperature' is inf"),
        ({"sparsity": 0.5}, "scorer 'dense' removes nothing"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_values_are_refused_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(pv.InputError) as raised:
        Cell(**values)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def grid(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return path


def test_a_grid_is_a_list_of_products_in_the_order_written(tmp_path: Path) -> None:
    cells = read_grid(
        grid(
            tmp_path,
            """
            question: What is lost?
            defaults: {model: mlp, seed: 5}
            cells:
              - {seed: [0, 1]}
              - {scorer: [snip, grasp], sparsity: [0.5, 0.9]}
              - {scorer: grasp, options: [{}, {temperature: 1}], sparsity: 0.5}
            """,
        )
    )
    assert [(c.scorer, c.sparsity, c.seed, dict(c.options)) for c in cells] == [
        ("dense", 0.0, 0, {}),
        ("dense", 0.0, 1, {}),
        ("snip", 0.5, 5, {}),
        ("snip", 0.9, 5, {}),
        ("grasp", 0.5, 5, {}),
        ("grasp", 0.9, 5, {}),
        ("grasp", 0.5, 5, {"temperature": 1}),  # its twin without options is there already
    ]
    assert {c.model for c in cells} == {"mlp"}


def test_powers_of_ten_are_numbers_unless_they_are_quoted(tmp_path: Path) -> None:
    text = "cells: [{scorer: grasp, sparsity: [1e-3, 2.5E-1], fraction: 1e0, options: {temperature: 1e2}}]"
    cells = read_grid(grid(tmp_path, text))
    assert [cell.sparsity for cell in cells] == [0.001, 0.25]
    assert {(cell.fraction, dict(cell.options)["temperature"]) for cell in cells} == {(1.0, 100)}
    with pytest.raises(pv.InputError, match="sparsity '1e-3'"):
        read_grid(grid(tmp_path, "cells: [{scorer: snip, sparsity: '1e-3'}]"))


def test_a_block_can_be_merged_into_another_that_differs_from_it(tmp_path: Path) -> None:
    text = "cells: [&one {scorer: snip, sparsity: 0.5, seed: 1}, &two {<<: *one, seed: 2}, {<<: *two, seed: 3}]"
    assert [(c.scorer, c.seed) for c in read_grid(grid(tmp_path, text))] == [("snip", 1), ("snip", 2), ("snip", 3)]


def test_the_grids_of_the_book_can_be_read() -> None:
    paths = sorted((REPOSITORY / "book" / "grids").glob("*.yaml"))
    assert {path.stem for path in paths} >= {"smoke", "rq1_cifar10"}
    for path in paths:
        assert len(read_grid(path)) >= 11


def test_the_real_grid_does_seed_0_of_everything_first() -> None:
    cells = read_grid(REPOSITORY / "book" / "grids" / "rq1_cifar10.yaml")
    assert [c.seed for c in cells] == [0] * 11 + [1] * 11 + [2] * 11
    assert {replace(c, seed=0) for c in cells[11:]} == set(cells[:11])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells: [{scorer: snpi}]", "block 1, scorer: scorer 'snpi' is not known; did you mean 'snip'?"),
        ("cells: [{}, {seed: [0, -1]}]", "block 2, seed: seed -1"),
        ("cells: [{scorer: snip, sparsity: [0.5, .nan]}]", "block 1, sparsity: sparsity nan"),
        ("cells: [{sparsty: 0.5}]", "block 1, sparsty: key 'sparsty' is not known; did you mean 'sparsity'?"),
        ("defaults: {modle: mlp}\ncells: [{}]", "defaults, modle: key 'modle' is not known; did you mean 'model'?"),
        ("defaults: {seed: [0, 1]}\ncells: [{}]", "defaults, seed: seed [0, 1]"),
        ("cell: [{}]", "key 'cell' is not known; did you mean 'cells'?"),
        ("cells: [{scorer: snip, options: {temperature: 2}}]", "block 1: "),
        ("cells: [{scorer: []}]", "block 1, scorer: the list is empty"),
        ("cells: [snip]", "block 1 is str 'snip'; a mapping"),
        ("cells: {scorer: snip}", "'cells' is dict"),
        ("cells: []", "'cells' is list"),
        ("question: why?", "'cells' is empty"),
        ("", "grid.yaml' is empty; a mapping"),
        ("[1, 2]", "grid.yaml' is list '[1, 2]'; a mapping"),
        ("cells: [{a: 1", "line 1 is not YAML"),
        ("cells:\n\t- {}", "line 2 is not YAML"),
        ("cells:\n  - {seed: 1, scorer: snip, seed: 2}", "line 2 is not YAML: the key 'seed' is there twice"),
        ("defaults: {}\ncells: [{}]\ndefaults: {seed: 1}", "line 3 is not YAML: the key 'defaults' is there twice"),
        ("cells: [{}]\nquestion: 2024-13-45", "line 2 is not YAML: '2024-13-45' is no timestamp that can be read"),
        ("question: !!timestamp x", "line 1 is not YAML: 'x' is no timestamp that can be read; a text is in quotes"),
        ("question: 2001-01-01T00:00:00+99:00", "'2001-01-01T00:00:00+99:00' is no timestamp that can be read"),
        ("cells: [{sparsity: !!float x}]", "line 1 is not YAML: 'x' is no float that can be read"),
        ("cells: [{sparsity: !!float ''}]", "line 1 is not YAML: '' is no float that can be read"),
        ("cells: [{seed: 0x_}]", "line 1 is not YAML: '0x_' is no int that can be read"),
        ("cells: [{seed: !!bool x}]", "line 1 is not YAML: 'x' is no bool that can be read"),
        (f"cells: [{{seed: {'9' * 5000}}}]", f"line 1 is not YAML: '{'9' * 40}' is no int that can be read"),
        (f"cells: [{{width: {'9' * 400}}}]", f"line 1 is not YAML: '{'9' * 40}' is no int that can be read"),
        (f"cells: [{{seed: 0x{'f' * 5000}}}]", "line 1 is not YAML: '0xfffff"),
        ("defaults: 0\ncells: [{}]", "defaults is int '0'; a mapping"),
        ("defaults: ''\ncells: [{}]", "defaults is str ''; a mapping"),
        ("cells: [{scorer: grasp, options: {temperature: .nan}}]", "block 1, options: option 'temperature' is nan"),
        ("cells: [{scorer: grasp, options: {temperature: -.inf}}]", "block 1, options: option 'temperature' is -inf"),
        ("cells: " + "[" * 5000, "is nested too deeply"),
        ("cells: [{seed: 1e3}]", "block 1, seed: seed 1000.0"),
    ],
    ids=lambda text: text[:30],
)
def test_a_bad_grid_is_refused_with_file_block_and_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(pv.InputError) as raised:
        read_grid(grid(tmp_path, text))
    assert "grid.yaml'" in str(raised.value)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unreadable_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pv.InputError, match="cannot be read: No such file"):
        read_grid(tmp_path / "none.yaml")
    with pytest.raises(pv.InputError, match="cannot be read: Is a directory"):
        read_grid(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"cells: \xff\xfe")
    with pytest.raises(pv.InputError, match="not a text file in UTF-8"):
        read_grid(tmp_path / "binary.yaml")


def test_shards_are_neighbours_that_share_scores_first_seed_first() -> None:
    cells = [Cell(scorer="snip", sparsity=s, seed=k) for s in (0.5, 0.9) for k in (1, 0)] + [Cell()]
    groups = shards([*cells, Cell(scorer="snip", sparsity=0.7)])
    assert [[(c.sparsity, c.seed) for c in group] for group in groups] == [
        [(0.5, 0), (0.9, 0), (0.5, 1), (0.9, 1)],
        [(0.0, 0)],
        [(0.7, 0)],
    ]
