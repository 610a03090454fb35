"""Scorers of a user's own: registered by a module, known by name everywhere, and told apart in records."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import networks
import pytest
import torch

import pruneviz as pv
from pruneviz import cli
from pruneviz.scorers import imports, registry
from pruneviz.scorers.imports import import_scorers, imported
from pruneviz.study import record, run, worker
from pruneviz.study.cell import Cell
from pruneviz.study.grid import read_grid
from pruneviz.study.preflight import check

OWN = """
import pruneviz as pv

@pv.register(pv.Card(name="{name}", title="{name}", effect="Keeps the largest gradients."))
def scorer(problem, masks=None, *, power=1.0, seed=0):
    _, gradients = problem.gradient(problem.masked_weights(masks))
    return {{layer: g.abs() ** power for layer, g in gradients.items()}}
"""
NETWORK = ("--model", "mlp", "--width", "0.1", "--dataset", "digits", "--fraction", "0.1", "--device", "cpu")
TINY = {"dataset": "digits", "fraction": 0.1, "model": "mlp", "width": 0.1}


pytestmark = pytest.mark.usefixtures("registry_afresh")


def own(folder: Path, name: str, text: str = OWN) -> Path:
    """A file that registers a scorer called as itself."""
    path = folder / f"{name}.py"
    path.write_text(text.format(name=name))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cell(scorer: str, **values: Any) -> Cell:
    return Cell(**TINY, scorer=scorer, sparsity=0.9, **values)


# Imports -------------------------------------------------------------------------------------------------


def test_a_file_and_a_module_on_the_path_are_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own(tmp_path, "from_file")
    (tmp_path / "elsewhere" / "package").mkdir(parents=True)
    (tmp_path / "elsewhere" / "package" / "__init__.py").touch()
    own(tmp_path / "elsewhere" / "package", "from_name")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    for _ in range(2):
        import_scorers("from_file.py")
        import_scorers("package.from_name")
    assert list(pv.scorers())[-2:] == ["from_file", "from_name"]
    assert imported() == [str(tmp_path / "from_file.py"), "package.from_name"]
    problem = networks.problem("mlp_relu")
    for name in ("from_file", "from_name"):
        assert pv.masks.kept(pv.prune(problem, name, 0.5, power=2.0)) == round(0.5 * 69)


def test_a_module_that_was_imported_without_asking_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own(tmp_path, "at_hand")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("at_hand")
    import_scorers(str(path))
    import_scorers("at_hand")
    assert imported() == [str(path), "at_hand"]


def test_a_module_may_register_functions_that_are_written_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "makes_them.py").write_text("def scorer(problem, masks=None):\n    return problem.weights\n")
    card = 'pv.Card(name="made", title="Made", effect="Keeps positive weights.")'
    (tmp_path / "names_them.py").write_text(
        f"import makes_them, pruneviz as pv\npv.register({card})(makes_them.scorer)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        import_scorers("names_them")
    assert registry.source_of("made") == registry.Source("makes_them", digest(tmp_path / "makes_them.py"))


@pytest.mark.parametrize(
    ("module", "text", "says"),
    [
        ("no_such_one", "", r"^module 'no_such_one' cannot be imported: Python finds no module 'no_such_one'; a file"),
        ("no_such_package.module", "", "Python finds no module 'no_such_package'"),
        ("json.no_such_one", "", "Python finds no module 'json.no_such_one'"),
        ("mine.yaml", "", "Python finds no module 'mine'; a file is given by its path, which ends in .py"),
        ("", "", "Python finds no module ''"),
        ("none.py", None, "there is no such file"),
        ("./folder", None, "must end in .py"),
        ("json", None, r"it registers no scorer; decorate a function with @pruneviz.register\(card\)"),
        ("empty_one.py", "import pruneviz\n", "it registers no scorer"),
        ("raises.py", OWN + "\n1 / 0\n", "'raises.py' cannot be imported: line 9: ZeroDivisionError: division by zero"),
        ("dies.py", OWN + "\nraise SystemExit(3)\n", "line 9: SystemExit: 3"),
        ("garbled.py", "def f(:\n", "SyntaxError: invalid syntax .*line 1"),
        ("needs.py", "import no_such_thing\n", "line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("taken.py", OWN.replace("{name}", "snip"), "line 4: a scorer named 'snip' is registered already"),
        ("random.py", OWN, "rename it: 'random' is the name of another module"),
        ("two-words.py", OWN, "rename it: 'two-words' cannot be the name of a module"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value.split()) == 1 else "",
)
def test_what_cannot_be_imported_is_one_line_and_registers_nothing(
    module: str, text: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text and module.endswith(".py"):
        own(tmp_path, module.removesuffix(".py"), text)
    before, loaded = registry.snapshot(), set(sys.modules)
    with pytest.raises(pv.InputError, match=says) as raised:
        import_scorers(module)
    assert "\n" not in str(raised.value)
    assert registry.snapshot() == before
    assert imported() == []
    if "no scorer" not in says:
        assert module.removesuffix(".py") not in set(sys.modules) - loaded
    for command in (["sweep", "grid.yaml", "--store", "s"], ["score", "snip", "--sparsity", "0.5", "--out", "m"]):
        assert cli.main([*command, "--import", module]) == 2
    assert not (tmp_path / "s").exists()


def test_a_module_that_failed_can_be_imported_when_it_is_mended(tmp_path: Path) -> None:
    path = own(tmp_path, "mended", OWN + "\n1 / 0\n")
    with pytest.raises(pv.InputError, match="ZeroDivisionError"):
        import_scorers(str(path))
    own(tmp_path, "mended", OWN + "\n# a longer file than before, whatever its date\n")
    import_scorers(str(path))
    assert "mended" in pv.scorers()


def test_a_grid_imports_from_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    own(tmp_path / "study", "beside_the_grid")
    own(tmp_path, "on_the_path")
    monkeypatch.syspath_prepend(tmp_path)
    grid = tmp_path / "study" / "grid.yaml"
    grid.write_text("import: [beside_the_grid.py, on_the_path]\ncells: [{scorer: [beside_the_grid, on_the_path]}]")
    assert [c.scorer for c in read_grid("../study/grid.yaml")] == ["beside_the_grid", "on_the_path"]
    assert imported() == [str(tmp_path / "study" / "beside_the_grid.py"), "on_the_path"]
    grid.write_text("import: on_the_path\ncells: [{scorer: on_the_path}]")
    assert len(read_grid(grid)) == 1


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ("3", "grid.yaml', import is int '3'; names of modules or paths of files are needed"),
        ("[{a: 1}]", "grid.yaml', import is list"),
        ("none.py", "grid.yaml', import: module '.*none.py' cannot be imported: there is no such file"),
        ("[no_such_module]", "grid.yaml', import: module 'no_such_module' cannot be imported: Python finds no module"),
    ],
)
def test_a_grid_with_a_bad_import_is_refused(modules: str, says: str, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"import: {modules}\ncells: [{{}}]")
    with pytest.raises(pv.InputError, match=says) as raised:
        read_grid(grid)
    assert "\n" not in str(raised.value)


def test_ranks_may_be_whole_numbers_in_any_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @pv.register(pv.Card(name="ranks", title="Ranks", effect="By hand."))
    def ranks(problem: pv.Problem, masks: pv.Masks | None = None) -> pv.Scores:
        weights = problem.masked_weights(masks)
        return {n: w.abs().flatten().argsort().argsort().view(w.shape) for n, w in weights.items()}

    problem = networks.problem("bias_free")
    one, many = (pv.prune(problem, "ranks", 0.5, schedule=steps) for steps in ("one_shot", "linear:3"))
    assert all(torch.equal(one[name], many[name]) for name in one)
    assert all(s.is_floating_point() for s in pv.score("ranks", problem).values())


@pytest.mark.parametrize("kind", [torch.bool, torch.complex64])
def test_scores_that_are_no_real_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, kind: torch.dtype) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @pv.register(pv.Card(name="odd", title="Odd", effect="By hand."))
    def odd(problem: pv.Problem, masks: pv.Masks | None = None) -> pv.Scores:
        return {n: w.to(kind) for n, w in problem.weights.items()}

    with pytest.raises(pv.InputError, match=rf"'odd' returned {kind} for '0\.weight'; needed are real numbers"):
        pv.score("odd", networks.problem("bias_free"))


# Plug-ins ------------------------------------------------------------------------------------------------


def install(folder: Path, **modules: str) -> None:
    """What pip leaves of a package that announces scorers: its metadata, and its modules beside them."""
    metadata = folder / "some_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    lines = [f"{name} = {name}" for name in modules]
    (metadata / "entry_points.txt").write_text("\n".join(["[pruneviz.scorers]", *lines, ""]))
    for name, text in modules.items():
        own(folder, name, text)


def test_scorers_of_an_installed_package_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, plugged=OWN.replace("import pruneviz as pv", "import pruneviz as pv\npv.scorers()"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_PLUGINS", None)
    assert list(pv.scorers())[-1] == "plugged"
    assert cell("plugged").scorer == "plugged"
    assert run.provenance(cell("plugged")) == {
        "scorer": {"module": "plugged", "sha256": digest(tmp_path / "plugged.py")}
    }


def test_a_broken_package_is_warned_of_once_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, broken="1 / 0", whole=OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_PLUGINS", None)
    with pytest.warns(
        UserWarning, match="plug-in 'broken' cannot be used: ZeroDivisionError: division by zero"
    ) as told:
        assert "whole" in pv.scorers()
    assert len(told) == 1
    assert "snip" in pv.scorers()


# Records -------------------------------------------------------------------------------------------------


def test_a_record_says_which_code_has_scored(tmp_path: Path) -> None:
    path = own(tmp_path, "told_apart")
    import_scorers(str(path))
    cells = [cell("told_apart"), cell("snip")]
    run.compute(cells, tmp_path / "store", device="cpu", progress=False)
    mine, theirs = (record.read(record.path_of(tmp_path / "store", c.hash))["environment"] for c in cells)
    assert mine["scorer"] == {"module": "told_apart", "sha256": digest(path)}
    assert "scorer" not in theirs


def test_a_file_that_a_scorer_misses_fails_its_cell_and_no_other(tmp_path: Path) -> None:
    body = OWN.replace("    return", "    open('nowhere')\n    return", 1)
    assert "nowhere" in body
    import_scorers(str(own(tmp_path, "misses", body)))
    with pytest.raises(run.CellsFailed, match="scorer 'misses' raised FileNotFoundError"):
        run.compute([cell("misses"), cell("snip")], tmp_path / "store", device="cpu", progress=False)
    assert record.is_done(tmp_path / "store", cell("snip"))
    assert record.error_path(tmp_path / "store", cell("misses").hash).is_file()


def test_the_source_is_what_was_registered_and_not_what_is_on_the_disk_by_now(tmp_path: Path) -> None:
    path = own(tmp_path, "edited")
    before = digest(path)
    import_scorers(str(path))
    path.write_text("nothing of it is left")
    assert registry.source_of("edited") == registry.Source("edited", before)
    assert registry.source_of("grasp") is None


def test_a_scorer_of_a_notebook_has_a_source_without_a_file() -> None:
    exec(compile(OWN.format(name="typed"), "<cell 3>", "exec"), {"__name__": "__main__"})
    assert registry.source_of("typed") == registry.Source("__main__", None)


def test_a_record_from_before_a_field_says_what_was_done_then(tmp_path: Path) -> None:
    one = cell("snip")
    run.compute([one], tmp_path, device="cpu", progress=False)
    path = record.path_of(tmp_path, one.hash)
    content = record.read(path)
    older = {name: value for name, value in content["cell"].items() if name != "minimum"}
    record.write(tmp_path, content | {"cell": older})
    assert b"minimum" not in path.read_bytes()
    assert Cell(**record.read(path)["cell"]) == one
    assert record.is_done(tmp_path, one)
    assert pv.study.make_table(tmp_path)["minimum"].tolist() == [0]


def test_records_are_read_where_their_scorer_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        import_scorers(str(own(tmp_path, "unknown_later")))
        cells = [Cell(**TINY), cell("unknown_later"), cell("snip")]
        run.compute(cells, tmp_path / "store", device="cpu", progress=False)
        assert cli.main(["score", "unknown_later", "--sparsity", "0.9", *NETWORK, "--out", str(tmp_path / "m")]) == 0
    assert "unknown_later" not in pv.scorers()
    assert cli.main(["table", "--store", str(tmp_path / "store")]) == 0
    table = pv.study.read_table(tmp_path / "store" / "table.parquet")
    assert set(table["scorer"]) == {"dense", "unknown_later", "snip"}
    from pruneviz.figures.methods import one_setting, pruned_methods

    assert set(pruned_methods(one_setting(table))) == {"SNIP", "unknown_later"}
    assert cli.main(["train", "--masks", str(tmp_path / "m"), "--device", "cpu"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_sweep_says_which_records_another_version_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, grid, store = own(tmp_path, "versions"), tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(
        "import: versions.py\n"
        "defaults: {dataset: digits, fraction: 0.1, model: mlp, width: 0.1, sparsity: 0.9}\n"
        "cells: [{scorer: [versions, magnitude]}]"
    )
    before = registry.snapshot()
    cells = read_grid(grid)
    run.compute(cells, store, device="cpu", progress=False)
    arguments = ["sweep", str(grid), "--store", str(store), "--device", "cpu"]
    assert cli.main(arguments) == 0
    assert "warning" not in capsys.readouterr().err

    path.write_text(path.read_text() + "# another version\n")
    registry.restore(before)
    monkeypatch.setattr(imports, "_IMPORTED", {})
    del sys.modules["versions"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "pruneviz: warning: another version of scorer 'versions' has made 1 of the records, which stay as they are; "
        f"remove them to have them computed again: {cells[0].hash}.json"
    )
    assert len(said) == 2  # and that all cells are done
    assert read_grid(grid) == cells  # the hash of a cell knows nothing of files


# Sweeps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise IndexError('too many\\nindices')", "scorer 'trial' raised IndexError: too many indices"),
        ("return [w for w in problem.weights.values()]", "'trial' returned a list; a mapping of parameter names"),
        ("return {}", "'trial' returned no scores for 'fc1.weight'; a tensor is needed"),
        ("return {n: 1.0 for n in problem.names}", "'trial' returned a float for 'fc1.weight'"),
        ("return {n: w.sum(0) for n, w in problem.weights.items()}", r"scores of shape \(64,\) for 'fc1.weight'"),
        ("return {n: w * float('nan') for n, w in problem.weights.items()}", "that are not finite"),
    ],
)
def test_what_is_wrong_with_a_scorer_is_known_before_anything_is_trained(body: str, says: str, tmp_path: Path) -> None:
    text = OWN.replace("    _, gradients", "    {body}\n    _, gradients").format(name="trial", body=body)
    (tmp_path / "trial.py").write_text(text)
    import_scorers(str(tmp_path / "trial.py"))
    with pytest.raises(pv.InputError, match=says) as raised:
        check([cell("trial")])
    assert str(raised.value).startswith("cell digits mlp trial 0.9 global seed 0: ")
    assert "\n" not in str(raised.value)


def test_a_scorer_is_tried_once_on_each_network_with_its_options_and_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_scorers(str(own(tmp_path, "tried")))
    calls: list[tuple[int, float, int]] = []

    def spy(problem: pv.Problem, masks: Any = None, *, power: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
        calls.append((len(problem.names), power, seed))
        return problem.weights

    monkeypatch.setitem(registry._REGISTRY, "tried", (pv.scorers()["tried"], spy, registry.source_of("tried")))
    cells = [Cell(**TINY, scorer="tried", sparsity=sparsity, seed=4) for sparsity in (0.5, 0.9)]
    check([*cells, cell("tried", options={"power": 3})])
    assert calls == [(4, 1.0, 4), (4, 3, 0)]


def test_a_worker_finds_what_the_sweep_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, "found_again")
    monkeypatch.setattr(sys, "path", list(sys.path))
    worker._import(plan(tmp_path, "found_again", digest(tmp_path / "found_again.py")), 0)
    assert "found_again" in pv.scorers()


@pytest.mark.parametrize(
    ("scorer", "version", "says"),
    [
        ("renamed", "", "scorer 'renamed' is not known to the processes of the sweep; name the module"),
        ("refused", "0" * 64, "module 'refused' of scorer 'refused' has changed since the sweep has started"),
    ],
)
def test_a_worker_refuses_a_scorer_that_is_not_the_sweeps(
    scorer: str, version: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path, "refused")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(pv.InputError, match=says):
        worker._import(plan(tmp_path, scorer, version), 0)


@pytest.mark.parametrize("schedule", ["one_shot", "linear:2"])
def test_layers_that_collapse_are_in_a_cells_line_and_warn_of_nothing(
    schedule: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    one = Cell(**TINY, scorer="magnitude", sparsity=0.999, schedule=schedule)
    check([one])
    (outcome,) = run.outcomes([one], tmp_path, device="cpu", progress=False)
    assert outcome.record is not None
    gone = [name for name, (kept, _) in outcome.record["layers"].items() if kept == 0]
    assert gone
    assert f"%, layer collapse: {', '.join(gone)}, " in worker._summary(outcome.record)
    assert not recwarn.list


def test_a_line_names_three_collapsed_layers_at_most() -> None:
    layers = {f"layer{i}": (0 if i else 3, 10) for i in range(6)}
    result = {"test_accuracy": 0.1, "diverged": False}
    said = worker._summary({"result": result, "layers": layers, "seconds": {"total": 1.0}})
    assert said == "test accuracy 10.00%, layer collapse: layer1, layer2, layer3 and 2 more, 1.0 s"


def plan(folder: Path, scorer: str, version: str) -> dict[str, Any]:
    """As much of a sweep's plan as a worker reads before it makes cells."""
    (module,) = (path.stem for path in folder.glob("*.py"))
    return {
        "path": [str(folder)],
        "imports": [module],
        "sources": {scorer: {"module": scorer, "sha256": version}},
        "shards": [{"cells": [{"scorer": scorer}]}],
    }


# What is refused when it is registered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "function", "says"),
    [
        ({"name": "dense"}, lambda problem, masks=None: {}, "a scorer cannot be named 'dense'"),
        ({"name": "a:b"}, lambda problem, masks=None: {}, "a scorer cannot be named 'a:b'; accepted are letters"),
        ({"name": ""}, lambda problem, masks=None: {}, "a scorer cannot be named ''"),
        ({"schedule": "often"}, lambda problem, masks=None: {}, "schedule 'often' is not known"),
        ({}, lambda problem: {}, r"scorer 'x' cannot be called as scorer\(problem, masks\): got an unexpected .*masks"),
        ({}, lambda problem, masks, power: {}, "missing a required argument: 'power'"),
        ({}, 3, "3 is not a callable object"),
    ],
)
def test_a_scorer_that_could_not_be_used_is_refused_when_it_is_registered(card: Any, function: Any, says: str) -> None:
    with pytest.raises(pv.InputError, match=says):
        pv.register(pv.Card(**{"name": "x", "title": "", "effect": ""} | card))(function)
    assert "x" not in pv.scorers()


def test_the_decorator_needs_a_card() -> None:
    with pytest.raises(pv.InputError, match=r"register takes a card, received a function: @register\(Card\("):

        @pv.register
        def scorer(problem: pv.Problem, masks: Any = None) -> dict[str, torch.Tensor]:
            return problem.weights
