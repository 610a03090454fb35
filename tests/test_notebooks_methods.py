"""The notebooks that compare methods and undo their decisions: what they say follows the rows that they are given."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from results import cells as made_up_cells
from results import made_up

import pruneviz as pv
from pruneviz.study.book import PARAMETERS
from pruneviz.study.notebook import parameters_of

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("rq3_methods", "rq9_sanity", "reference_provenance")


def cells_of(name: str) -> list[dict[str, Any]]:
    """The cells of a notebook, the source of each as one text."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def source_of(name: str, cell: str) -> str:
    (found,) = [each["source"] for each in cells_of(name) if each["id"] == cell]
    return str(found)


def shown_by(name: str, cell: str, scope: dict[str, Any]) -> str:
    """What a cell displays, or its value, as one text."""
    shown: list[str] = []
    scope["display"] = lambda *values: shown.extend(map(str, values))
    *before, last = re.split(r"\n(?=\S)", source_of(name, cell))
    while last.startswith((")", "]", "}")):
        last = f"{before.pop()}\n{last}"
    if last.startswith(("Markdown", "pv.")):
        before.append(f"display({last})")
    else:
        before.append(last)
    exec("\n".join(before), scope)
    return "\n".join(shown)


@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_typed_by_hand(name: str) -> None:
    """A number with a percent sign or a point is a result, but for what an exercise sets."""
    for cell in cells_of(name):
        if cell["cell_type"] != "markdown" or cell["id"].startswith("exercise"):
            continue
        prose = re.sub(r"```.*?```|\$\$.*?\$\$|\{cite:\w+\}`[^`]*`|`[^`]*`", "", cell["source"], flags=re.DOTALL)
        assert not re.search(r"\d\s*%|\d\.\d|±|\d+ (?:runs|epochs|seeds|points)", prose), cell["id"]


# Sanity checks --------------------------------------------------------------------------------------------


def ablated(differences: dict[str, list[float]]) -> pd.DataFrame:
    """SNIP at one sparsity, and its ablations with these differences to it, seed by seed."""
    plain = [c for c in made_up_cells(5, (0.9,), (("snip", "global"),)) if c.scorer != "dense"]
    cells = [*plain, *(replace(c, ablation=a) for a, of in differences.items() for c in plain if c.seed < len(of))]
    level = [0.8 + (differences[c.ablation][c.seed] if c.ablation != "none" else 0.0) for c in cells]
    return made_up(cells).assign(test_accuracy=level)


@pytest.fixture
def sanity() -> dict[str, Any]:
    mpl.use("agg")
    scope: dict[str, Any] = {"pv": pv, "pd": pd, "Markdown": str, "MARGIN": 0.01, "HOW_OFTEN": 5, "on_cifar": None}
    setup = source_of("rq9_sanity", "setup")
    exec(setup[setup.index("def rows_of") : setup.index("\nmeasured =")], scope)
    exec(source_of("rq9_sanity", "measured-sections").rpartition("\nfound =")[0], scope)
    words = source_of("rq9_sanity", "rescale-words")
    exec(words[: words.index("\nMarkdown(")], scope)
    plain = {"as it is": [0.9], "shuffled": [0.5], "re-initialized": [0.8], "shuffled, sizes restored": [0.8]}
    scope["reached"] = {"plain": plain, "with batch norm": {"as it is": [0.9], "shuffled": [0.91]}}
    return scope


@pytest.mark.parametrize(
    ("shuffled", "said", "unsaid"),
    [
        ([-0.3, -0.31, -0.29, -0.3, -0.3], "shuffling does harm", "as good as the method's own"),
        ([0.001, -0.001, 0.0, 0.002, 0.0], "as good as the method's own or better", "does harm"),
        ([0.1, -0.1, 0.05, -0.05, 0.0], "not decided for every method", "as good as"),
        ([-0.3], "not decided for every method", "does harm"),
    ],
)
def test_the_meaning_of_shuffling_follows_the_verdict(
    shuffled: list[float], said: str, unsaid: str, sanity: dict[str, Any]
) -> None:
    table = ablated({"shuffle": shuffled})
    sanity["found"] = {"a network": pv.figures.ablation_effects(table, margin=0.01)}
    answer = shown_by("rq9_sanity", "answer", sanity)
    mean = f"{100 * sum(shuffled) / len(shuffled):+.1f}".replace("-", "\u2212")
    assert f"in a network (n = {len(shuffled)}) shuffling changes it by {mean} points" in answer
    meaning = shown_by("rq9_sanity", "answer-meaning", sanity)
    assert said in meaning
    assert unsaid not in meaning
    assert ("restores 75\u00a0% of what SNIP loses" in meaning) == (said == "shuffling does harm")


def test_without_ablated_runs_there_is_no_answer(sanity: dict[str, Any]) -> None:
    sanity["found"] = {"a network": None}
    assert shown_by("rq9_sanity", "answer", sanity) == "**No ablated run is done yet, so there is no answer.**"
    assert shown_by("rq9_sanity", "answer-meaning", sanity) == ""


def test_counts_that_an_ablation_has_changed_are_found(sanity: dict[str, Any]) -> None:
    exec("import json", sanity)
    check = source_of("rq9_sanity", "same-counts-check")
    exec(check[: check.index("\ngaps, strict = count_gaps(")], sanity)
    table = ablated({"shuffle": [0.0] * 5, "reinitialize": [0.0] * 5})
    assert sanity["count_gaps"](table) == ([0] * 10, [0] * 10)
    broken = table["layers"].mask(table["ablation"].eq("shuffle") & table["seed"].eq(2), '{"conv1.weight":[1,400]}')
    gaps, strict = sanity["count_gaps"](table.assign(layers=broken))
    assert (gaps == strict, gaps.count(0), len(gaps)) == (True, 9, 10)
    later = table["git_revision"].mask(table["seed"].eq(2) & table["ablation"].eq("shuffle"), "another")
    gaps, strict = sanity["count_gaps"](table.assign(layers=broken, git_revision=later))
    assert (gaps.count(0), len(gaps), strict) == (9, 10, [0] * 9)


# Methods --------------------------------------------------------------------------------------------------


@pytest.fixture
def methods() -> dict[str, Any]:
    scope: dict[str, Any] = {"pv": pv, "pd": pd, "Markdown": str, "in_print": lambda who: f"in the numbers of {who}"}
    setup = source_of("rq3_methods", "setup")
    exec(setup[setup.index("def settings_of") :], scope)
    return scope


def test_the_answer_on_methods_is_that_of_the_ranks(methods: dict[str, Any]) -> None:
    table = made_up()
    methods |= {"measured": table, "committed": table.iloc[:0]}
    answer = shown_by("rq3_methods", "answer", methods)
    ranks = pv.figures.mean_ranks(table)
    assert f"{ranks['method'][0]} has the best mean rank of 5 methods, {ranks['rank'][0]:.1f}" in answer
    pairs = pv.figures.compare(table)
    for sparsity, of in pairs.groupby("sparsity"):
        assert f"{of['decided'].sum()} of {len(of)} at {pv.figures.percent(sparsity)} removed" in answer
    one_seed = shown_by("rq3_methods", "answer", methods | {"measured": table[table["seed"] == 0]})
    assert "with n = 1 no pair of methods is decided" in one_seed
    none = shown_by("rq3_methods", "answer", methods | {"measured": table[table["scorer"] == "dense"]})
    assert none.startswith("**There are no runs of pruned networks yet.")


def test_costs_are_trainings_of_the_dense_network(methods: dict[str, Any]) -> None:
    exec(source_of("rq3_methods", "baselines-measured").partition("\nfor rows in")[0], methods)
    rows = made_up().assign(train_flops=100.0, score_flops=float("nan"))
    rows.loc[rows["scorer"] == "snip", "train_flops"] = 250.0
    rows.loc[rows["scorer"] == "snip", "score_flops"] = 25.0
    cost = methods["costs"](rows)
    assert set(cost[rows["scorer"] == "snip"]) == {2.75}
    assert set(cost[rows["scorer"] != "snip"]) == {1.0}
    assert methods["costs"](rows[rows["scorer"] == "snip"]).isna().all()


# Kernels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [0.02, 1e-4])
def test_the_smallest_safe_step_is_an_entry_of_the_table_of_means(dense: float) -> None:
    """One seed of the second method has the smallest of all; its mean is not the smallest."""
    steps = {(0.5, "GraSP"): [1e-3, 1e-3], (0.9, "GraSP"): [0.01, 0.01], (0.5, "SNIP"): [1e-4, 0.9]}
    lines = [(s, name, step, 5.0) for (s, name), of in steps.items() for step in of]
    runs = pd.DataFrame(lines, columns=["sparsity", "method", "safe", "effective_rank"])
    scope: dict[str, Any] = {"pv": pv, "pd": pd, "math": math, "Markdown": str, "percent": pv.figures.percent}
    measure = source_of("rq5_ntk", "measure")
    exec(measure[measure.index("def geometric") : measure.index("\nmean_of =")], scope)
    scope |= {"runs": runs, "by": runs.groupby(["sparsity", "method"], sort=False), "sparsity": 0.5}
    scope |= {"like": pv.Cell(recipe="smoke"), "mean_of": {"safe": dense, "effective_rank": 7.0}}
    said = shown_by("rq5_ntk", "measure-words", scope)
    found = "that of GraSP with 50\u00a0% removed: 0.001, 20 times below that of the dense network, 0.02" in said
    assert found == (dense == 0.02)
    assert ("safe step" in said) == found


# Networks and methods by their names ----------------------------------------------------------------------


def test_networks_are_named_with_their_width() -> None:
    row = pd.DataFrame({"model": ["resnet20"], "width": [0.25], "dataset": ["digits"]})
    for name in ("rq3_methods", "rq9_sanity", "rq10_what_sparsity_buys"):
        setup, scope = source_of(name, "setup"), {}  # type: ignore[var-annotated]
        start = setup.index("def name_of")
        exec(setup[start : setup.index("\n\n\n", start)], scope)
        assert scope["name_of"](row) == "resnet20 (width × 0.25) on digits"
        assert scope["name_of"](row.assign(width=1.0)) == "resnet20 on digits"


def test_chance_is_named_with_its_scope() -> None:
    setup, scope = source_of("rq7_no_labels_transfer", "setup"), {"pv": pv}
    start = setup.index("OPTIONS = ")
    exec(setup[start : setup.index("\n\n\n", setup.index("def title"))], scope)
    title: Any = scope["title"]
    assert (title("random"), title("snip"), title("synflow")) == ("Random (ERK)", "SNIP", "SynFlow")


# Provenance -----------------------------------------------------------------------------------------------


def test_the_page_on_provenance_is_not_given_the_store_of_the_digits() -> None:
    given = PARAMETERS.keys() & set(parameters_of(ROOT / "notebooks" / "reference_provenance.ipynb"))
    assert given == {"profile"}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("test_accuracy", 0.999, "rows that differ from their records"),
        ("sparsity", 0.123, "rows whose hash does not follow from their columns"),
    ],
)
def test_a_row_that_was_changed_by_hand_is_found(
    column: str, value: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    table = pv.study.read_table(ROOT / "book" / "data" / "results.parquet")
    scope: dict[str, Any] = {}
    for changed in (False, True):
        if changed:
            pruned = table.index[table["scorer"] != "dense"][0]
            table.loc[pruned, column] = value
        pv.study.write_table(table, tmp_path / "results")
        scope = {"profile": "smoke", "records": None, "results": tmp_path / "results.parquet"}
        for cell in ("setup", "one-row", "fingerprint-code"):
            exec(source_of("reference_provenance", cell), scope)
        if changed:
            with pytest.raises(AssertionError, match=said):
                exec(source_of("reference_provenance", "checks-run"), scope)
        else:
            exec(source_of("reference_provenance", "checks-run"), scope)
    rows = scope["table"]
    assert rows["finished"].notna().all(), "every committed row has its record, and a record says when it ended"
    assert scope["fingerprint"](rows) == scope["fingerprint"](rows.iloc[::-1]) != scope["fingerprint"](rows.iloc[1:])
