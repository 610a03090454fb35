"""Spectrum, depth, agreement and microscope in a real browser: every number at every setting is the library's."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

import pytest
from explorer import THIN
from front_end import start
from measured import (
    GRID,
    KINDS,
    METHODS,
    Open,
    facts,
    masks_of,
    picture,
    precise_problem,
    printed,
    ratio,
    root_of,
    sheet,
)

import pruneviz as pv
from pruneviz.widgets.interaction import Interaction

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_every_number_of_a_spectrum(page: Page, show: Open) -> None:
    problem, dense = precise_problem(), pv.ntk(precise_problem())
    labels = pv.one_hot_labels(problem, 6, centered=True)
    for method, sparsity in product(METHODS, GRID):
        data = show("spectrum", method, sparsity, "labels").data
        masks = masks_of(method, sparsity)
        if masks is None:
            assert "Not possible" in root_of(page).locator(".pv-say-alert").inner_text()
            assert facts(page)["Trace"] == [printed(dense.trace), "–"]
            continue
        result, shown = pv.ntk(problem, masks), facts(page)
        assert shown["Weights"] == [f"{dense.weights:,}", f"{pv.masks.kept(masks):,}"]
        assert shown["Trace"] == [printed(dense.trace), printed(result.trace)]
        conditions = [float(r.condition_number) for r in (dense, result)]
        assert shown["Condition number"] == [printed(c) if c < float("inf") else "infinite" for c in conditions]
        ranks = [float(r.effective_rank) if r.trace else 0.0 for r in (dense, result)]
        assert shown["Effective rank, of 72"] == [printed(rank) for rank in ranks]
        energy = pv.ntk_projection(result, labels).energy.cumsum(0)
        above = 72 - int(shown["Eigenvalues that are 0"][1])
        lead = f"{100 * round(float(energy[5]), 4):.2f}{THIN}%" if above >= 6 else "–"
        assert shown["Labels in the first 6"][1] == lead
        for row, rank in zip(sheet(page), data["ranks"], strict=True):
            expected = f"{100 * round(float(energy[rank - 1]), 4):.2f}{THIN}%" if rank <= above else "0 eigenvalue"
            assert (row[0], row[2]) == (str(rank), expected)
        words = root_of(page).locator(".pv-say").inner_text()
        said = f"The trace is {printed(result.trace / dense.trace)} times the dense network's."
        assert (said if result.trace else "The kernel is zero") in words
    show("spectrum", "snip", 0.5, "eigenvalues")
    result = pv.ntk(problem, masks_of("snip", 0.5))
    columns = list(zip(*sheet(page), strict=True))[1:]
    for texts, values in zip(columns, (dense.eigenvalues, result.eigenvalues), strict=True):
        rounding = 72 * 2.0**-52 * float(values[0])
        assert list(texts) == [printed(v) if v > rounding else "0 within rounding" for v in values.tolist()]


def test_every_number_of_every_layer(page: Page, show: Open) -> None:
    problem = precise_problem()
    before = pv.gradient_flow(problem)
    for method, sparsity in product(METHODS, GRID):
        masks = masks_of(method, sparsity)
        if masks is None:
            continue
        flow = pv.gradient_flow(problem, masks)
        layers = pv.signal_propagation(problem, masks, ("moments",)).layers
        expected = {
            "gradient": [printed(v) for v in flow.per_layer.values()],
            "forward": [printed(layer.forward) for layer in layers.values()],
            "backward": [printed(layer.backward) for layer in layers.values()],
            "dead": [f"{layer.dead} of {layer.units}" for layer in layers.values()],
        }
        for measure, texts in expected.items():
            show("depth", measure, method, sparsity)
            assert [row[2] for row in sheet(page)] == texts, (method, sparsity, measure)
        shown = facts(page)
        assert shown["Squared gradient norm"] == [printed(before.norm_squared), printed(flow.norm_squared)]
        assert shown["Loss"] == [printed(before.loss), printed(flow.loss)]
        assert shown["Dead units"][1].startswith(f"{sum(layer.dead for layer in layers.values())} (")
        words = root_of(page).locator(".pv-say").inner_text()
        collapsed = [name.removesuffix(".weight") for name in pv.masks.collapsed(masks)]
        assert ("Layer collapse" in words) == bool(collapsed)
        assert all(name in words for name in collapsed)


def test_every_pair_of_the_matrix(page: Page, show: Open) -> None:
    problem = precise_problem()
    scores = {m: pv.score(m.partition(":")[0], problem) for m in METHODS}
    for sparsity, measure in product(GRID, ("jaccard", "rank")):
        show("agreement", measure, sparsity, "snip", "magnitude")
        cells = root_of(page).evaluate(
            """root => [...root.querySelectorAll(".pv-matrix tbody tr")]
              .map(row => [...row.cells].slice(1).map(cell => cell.textContent))"""
        )
        for (i, a), (j, b) in product(enumerate(METHODS), enumerate(METHODS)):
            masks = [masks_of(m, sparsity) for m in (a, b)]
            if i == j:
                expected = "1"
            elif measure == "rank":
                stepped = "synflow" in (a, b)
                expected = "–" if stepped else ratio(pv.agreement(scores[a], scores[b]).rank_correlation)
            else:
                expected = "–" if None in masks else ratio(pv.agreement(*masks).jaccard)
            assert cells[i][j] == expected, (sparsity, measure, a, b)
    for sparsity in GRID:
        show("agreement", "jaccard", sparsity, "synflow", "snip")
        found = pv.agreement(masks_of("synflow", sparsity), masks_of("snip", sparsity))
        layers = [[ratio(layer.jaccard), ratio(layer.by_chance)] for layer in found.per_layer.values()]
        assert [row[1:3] for row in sheet(page)] == layers
        words = root_of(page).locator(".pv-say").inner_text()
        assert f"both keep {100 * round(found.jaccard, 3):.1f}{THIN}%" in words
        assert f"share {100 * round(found.by_chance, 3):.1f}{THIN}%" in words


def test_the_order_of_scores_has_no_sparsity(page: Page, show: Open) -> None:
    show("agreement", "rank", 0.5, "snip", "magnitude")
    slider, chart = root_of(page).get_by_role("slider"), root_of(page).get_by_role("application")
    assert slider.count() == 0
    assert chart.is_visible()
    show("agreement", "jaccard", 0.5, "snip", "magnitude")
    assert slider.get_attribute("aria-valuetext").startswith(f"50.0{THIN}%")


@pytest.mark.parametrize("state", [("rank", 0.5, "snip", "synflow"), ("jaccard", 0.98, "snip", "random:uniform")])
def test_a_pair_without_values_has_no_chart(page: Page, show: Open, state: tuple[object, ...]) -> None:
    show("agreement", *state)
    if "rank" not in state:
        assert masks_of("random:uniform", 0.98) is None
    assert "There is nothing to compare." in root_of(page).inner_text()
    assert root_of(page).get_by_role("application").count() == 0
    assert root_of(page).locator(".pv-chart-legend li").count() == 0


def test_every_number_of_every_listed_weight(page: Page, show: Open) -> None:
    problem = precise_problem()
    judges = {"SNIP |w g|": "snip", "GraSP w (Hg)": "grasp", "Magnitude |w|": "magnitude"}
    scores = {judge: pv.score(judge, problem) for judge in judges.values()}
    total = sum(s.numel() for s in scores["snip"].values())
    _, gradient = problem.gradient(problem.weights)
    masks = {(judge, s): pv.allocate(scores[judge], s) for judge in scores for s in GRID}
    data = show("microscope").data
    for sparsity in GRID:
        both = sum(int((masks["snip", sparsity][n] & m).sum()) for n, m in masks["grasp", sparsity].items())
        kept = round((1 - sparsity) * total)
        for layer, listed in data["weights"].items():
            for entry in listed:
                show("microscope", sparsity, layer, entry["at"])
                shown, at = facts(page), tuple(entry["index"])
                assert f"Weight [{', '.join(map(str, at))}]" in shown
                assert shown["w"][0] == printed(float(problem.weights[layer][at]))
                assert shown["Gradient g"][0] == printed(float(gradient[layer][at]))
                verdicts = {}
                for name, judge in judges.items():
                    verdicts[judge] = bool(masks[judge, sparsity][layer][at])
                    value = scores[judge][layer][at]
                    lower = sum(int((s < value).sum()) for s in scores[judge].values())
                    row = shown[f"{name}, {'kept' if verdicts[judge] else 'removed'}"]
                    assert row == [printed(float(value)), f"{100 * lower / total:.2f}{THIN}%"]
                words = root_of(page).locator(".pv-say p").all_inner_texts()
                says = {
                    (True, True): "SNIP and GraSP both keep",
                    (True, False): "SNIP keeps this weight and GraSP removes",
                    (False, True): "GraSP keeps this weight and SNIP removes",
                    (False, False): "neither SNIP nor GraSP",
                }
                assert says[verdicts["snip"], verdicts["grasp"]] in words[0]
                grows = float(scores["grasp"][layer][at]) < 0
                assert ("opposite signs" in words[2], "grows" in words[2]) == (grows, grows)
        label = root_of(page).get_by_role("img").get_attribute("aria-label")
        assert f"Both keep {both:,}, each alone {kept - both:,}, neither {total - 2 * kept + both:,}." in label


@pytest.mark.parametrize("kind", KINDS)
def test_every_control_changes_the_picture_and_the_address(page: Page, show: Open, kind: str) -> None:
    interaction = show(kind)
    root = root_of(page)
    pictures = {picture(page)}

    def changed(what: str) -> None:
        now = picture(page)
        assert now not in pictures, what
        pictures.add(now)

    for pill in root.locator(".pv-pill input:not(:checked)").element_handles():
        pill.check(force=True)
        changed(str(pill.get_attribute("value")))
    # Back to what differs at every sparsity; the last pill is a method in several steps, or a measure without sparsity.
    first = {"spectrum": "snip", "depth": "snip", "agreement": "jaccard"}.get(kind)
    if first:
        root.locator(f".pv-pill input[value='{first}']").check(force=True)
    for select in root.locator("select").all():
        select.select_option(index=1)
        changed("select")
    for name in ("Next weight ›", "‹ Previous weight") if kind == "microscope" else ():
        before = picture(page)
        root.get_by_role("button", name=name).click()
        assert picture(page) != before
    for name in ("Remove more weights", "Remove fewer weights"):
        before = picture(page)
        root.get_by_role("button", name=name).click()
        assert picture(page) != before, name
    root.get_by_role("slider").fill("2")
    if kind == "agreement":
        for cell in root.locator(".pv-cell[aria-pressed=false]").element_handles()[:4]:
            cell.click()
            assert cell.get_attribute("aria-pressed") == "true"
            changed("cell")
    if kind == "microscope":
        before = picture(page)
        dots = root.locator(".pv-scope-point")
        dots.nth(0).locator(".pv-scope-dot").dispatch_event("click", {"bubbles": True})
        assert picture(page) != before
    page.wait_for_timeout(300)
    assert page.evaluate("location.hash").startswith(f"#{kind}=")
    there, here = picture(page), page.url
    page.goto("about:blank")
    page.goto(here)
    assert root_of(page).get_by_role("slider").input_value() == "2"
    assert picture_without_ids(picture(page)) == picture_without_ids(there)
    assert len(page.evaluate("location.hash").split("=")[1].split(",")) == len(interaction.state)


def picture_without_ids(text: str) -> str:
    """Without what differs each time: ids, and which cell the Tab key would stop at."""
    return re.sub(r"pv-[a-z0-9]{8}\b|tabindex=\"-?\d\"", "", text)


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_of_something_else_changes_nothing(page: Page, show: Open, kind: str) -> None:
    show(kind)
    before = picture_without_ids(picture(page))
    for state in ("nothing,of,this,kind", "%,%", "", "0.42"):
        show(kind, state)
        page.wait_for_timeout(50)
        assert picture_without_ids(picture(page)) == before, state


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_s_module_follows_python(
    page: Page, interactions: dict[str, tuple[Interaction, str]], kind: str
) -> None:
    one = interactions[kind][0]
    page.add_style_tag(content=str(one._css))
    start(page, one, one.data, **{name: getattr(one, name) for name in one.state})
    before = picture(page)
    page.evaluate("model.set('sparsity', 0.98)")  # from Python
    assert picture(page) != before
    assert page.evaluate("saved") == []  # what Python knows is not sent back
    root_of(page).get_by_role("slider").fill("1")
    assert page.evaluate("[model.get('sparsity'), saved.length]") == [0.5, 1]
    assert picture_without_ids(picture(page)) == picture_without_ids(before)
    page.evaluate("model.set('data', { ...model.get('data'), title: 'Another network' })")
    assert root_of(page).get_attribute("aria-label").endswith(": Another network")
    page.evaluate("model.set('status', 'something is wrong')")
    assert root_of(page).get_by_role("status").inner_text() == "something is wrong"
    page.evaluate("cleanup()")
    assert page.evaluate("listening()") == 0
