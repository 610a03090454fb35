"""Spectrum, depth, agreement and microscope without a browser: their numbers, by the library and by other means."""

from __future__ import annotations

import copy
import json
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from measured import GRID, KINDS, METHODS, build, masks_of, precise_problem
from scipy.stats import spearmanr
from test_widgets import Reader
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.widgets import progress
from pruneviz.widgets.interaction import Interaction
from pruneviz.widgets.spectrum import MOST_RANKS, ranks_of


@pytest.fixture(scope="module")
def made(interactions: dict[str, tuple[Interaction, str]]) -> dict[str, Interaction]:
    return {kind: one for kind, (one, _) in interactions.items()}


def four(value: float) -> float:
    return float(f"{value:.4g}")


def masked_copy(problem: pv.Problem, masks: pv.Masks | None) -> nn.Module:
    """The network with its weights removed for good."""
    model = copy.deepcopy(problem.model)
    if masks is not None:
        pv.apply(model, masks)
    return model


def jacobian_kernel(problem: pv.Problem, masks: pv.Masks) -> np.ndarray:
    """J J^T by one backward pass per output, over the weights that are kept."""
    model = masked_copy(problem, masks)
    weights = [model.get_parameter(name) for name in masks]
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    outputs = model(problem.batches[0][0]).flatten()
    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(f, weights, retain_graph=True)])[kept] for f in outputs]
    jacobian = torch.stack(rows).numpy()
    return np.asarray(jacobian @ jacobian.T)


def test_spectra_are_those_of_the_library(made: dict[str, Interaction]) -> None:
    data, problem = made["spectrum"].data, precise_problem()
    for method in METHODS:
        for index, sparsity in enumerate(GRID):
            entry, masks = data["entries"][method][index], masks_of(method, sparsity)
            if masks is None:
                assert "cannot" in entry["limit"] or "keeps" in entry["limit"]
                continue
            result = pv.ntk(problem, masks)
            assert entry["trace"] == four(result.trace)
            assert entry["weights"] == pv.masks.kept(masks)
            assert entry["trace_share"] == four(result.trace / pv.ntk(problem).trace)
            infinite = bool(torch.isinf(result.condition_number))
            assert entry["condition"] == (None if infinite else four(float(result.condition_number)))
            for rank, value in zip(data["ranks"], entry["values"], strict=True):
                assert value == (four(float(result.eigenvalues[rank - 1])) if rank <= entry["above"] else None)


def test_a_spectrum_by_one_backward_pass_per_output(made: dict[str, Interaction]) -> None:
    data, problem = made["spectrum"].data, precise_problem()
    entry = data["entries"]["snip"][GRID.index(0.5)]
    masks = masks_of("snip", 0.5)
    assert masks is not None
    values, vectors = np.linalg.eigh(jacobian_kernel(problem, masks))
    values, vectors = values[::-1], vectors[:, ::-1]
    above = np.linalg.matrix_rank(jacobian_kernel(problem, masks))
    assert entry["above"] == above > 60
    ranks = [rank for rank in data["ranks"] if rank <= above]
    np.testing.assert_allclose(entry["values"][: len(ranks)], [values[rank - 1] for rank in ranks], rtol=1e-3)
    shares = values[:above] / values[:above].sum()
    assert entry["effective"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    labels = np.eye(6)[problem.batches[0][1].numpy()]
    targets = {"labels": labels - labels.mean(0)}
    output = masked_copy(problem, masks)(problem.batches[0][0]).detach().numpy()
    softmax = np.exp(output) / np.exp(output).sum(1, keepdims=True)
    targets["residual"] = (softmax - labels) / len(labels)
    for name, target in targets.items():
        energy = (vectors.T @ target.reshape(-1)) ** 2
        expected = energy.cumsum() / energy.sum()
        np.testing.assert_allclose(entry[name]["shares"][: len(ranks)], [expected[r - 1] for r in ranks], atol=6e-5)
        assert entry[name]["reach"] == pytest.approx(expected[above - 1], abs=6e-5)


def test_a_kernel_that_is_zero_or_lacks_rank_says_so(made: dict[str, Interaction]) -> None:
    data, problem = made["spectrum"].data, precise_problem()
    few = data["entries"]["magnitude"][-1]
    masks = masks_of("magnitude", GRID[-1])
    assert masks is not None
    rank = np.linalg.matrix_rank(jacobian_kernel(problem, masks))
    assert few["above"] == rank < data["side"]
    assert few["condition"] is None
    assert few["values"].count(None) == sum(r > rank for r in data["ranks"])
    assert few["labels"]["shares"].count(None) == few["values"].count(None)
    # What no eigenvector of a positive eigenvalue reaches is the least squares residual of the labels.
    _, vectors = np.linalg.eigh(jacobian_kernel(problem, masks))
    labels = np.eye(6)[problem.batches[0][1].numpy()]
    target = (labels - labels.mean(0)).reshape(-1)
    reached = vectors[:, -rank:] if rank else np.zeros((len(target), 1))
    expected = float(((reached.T @ target) ** 2).sum() / (target**2).sum())
    assert few["labels"]["reach"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("side", "lead"), [(6, 6), (100, 10), (101, 10), (777, 40), (5000, 10)])
def test_the_ranks_that_are_drawn(side: int, lead: int) -> None:
    ranks = ranks_of(side, lead)
    assert ranks[0] == 1
    assert ranks[-1] == side
    assert lead in ranks
    assert all(a < b for a, b in pairwise(ranks))
    assert len(ranks) <= MOST_RANKS + 2
    assert ranks[: min(20, side)] == list(range(1, min(20, side) + 1))


def keep(outputs: dict[str, Tensor], name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
    output.retain_grad()
    outputs[name] = output


def test_depth_is_what_the_library_and_hooks_measure(made: dict[str, Interaction]) -> None:
    data, problem = made["depth"].data, precise_problem()
    x, y = problem.batches[0]
    for method in METHODS:
        for index, sparsity in enumerate(GRID):
            entry, masks = data["entries"][method][index], masks_of(method, sparsity)
            if masks is None:
                assert entry["limit"]
                continue
            flow = pv.gradient_flow(problem, masks)
            layers = pv.signal_propagation(problem, masks, ("moments",)).layers
            assert entry["gradient"] == [four(v) for v in flow.per_layer.values()]
            assert entry["total"] == four(flow.norm_squared)
            assert entry["share"] == four(flow.norm_squared / pv.gradient_flow(problem).norm_squared)
            assert entry["dead"] == [layer.dead for layer in layers.values()]
            assert entry["kept"] == [kept for kept, _ in pv.masks.counts(masks).values()]
            # The same from a network whose weights are removed for good, watched by hooks.
            model, outputs = masked_copy(problem, masks), {}
            for name in masks:
                model.get_submodule(name.rpartition(".")[0]).register_forward_hook(partial(keep, outputs, name))
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            assert entry["loss"] == pytest.approx(loss.item(), rel=1e-3)
            squares = [float(model.get_parameter(n).grad[m].square().sum()) for n, m in masks.items()]
            assert entry["gradient"] == pytest.approx(squares, rel=1e-3)
            forward = [float(o.detach().square().mean()) for o in outputs.values()]
            backward = [float(o.grad.square().mean()) for o in outputs.values()]
            assert entry["forward"] == pytest.approx(forward, rel=1e-3)
            assert entry["backward"] == pytest.approx(backward, rel=1e-3)


def test_agreement_is_what_sets_and_ranks_say(made: dict[str, Interaction]) -> None:
    data, problem = made["agreement"].data, precise_problem()
    scores = {m: pv.score(m.partition(":")[0], problem) for m in METHODS}
    assert [(p["first"], p["second"]) for p in data["pairs"]] == list(combinations(METHODS, 2))
    reached = 0
    for pair in data["pairs"]:
        a, b = pair["first"], pair["second"]
        for index, sparsity in enumerate(GRID):
            cut, masks = pair["cuts"][index], [masks_of(m, sparsity) for m in (a, b)]
            if masks[0] is None or masks[1] is None:
                assert cut["limit"]
                continue
            reached += 1
            sets = [{(n, i) for n, mask in m.items() for i in np.flatnonzero(mask.numpy())} for m in masks]
            assert cut["jaccard"] == round(len(sets[0] & sets[1]) / len(sets[0] | sets[1]), 3)
            library = pv.agreement(*masks)
            assert cut["chance"] == round(library.by_chance, 3)
            assert [layer["jaccard"] for layer in cut["layers"]] == [
                round(layer.jaccard, 3) for layer in library.per_layer.values()
            ]
        if "synflow" in (a, b):  # 100 steps, and so no one order
            assert pair["rank"] is None
            continue
        flat = [torch.cat([s.flatten() for s in scores[m].values()]).numpy() for m in (a, b)]
        assert pair["rank"]["all"] == pytest.approx(spearmanr(*flat).statistic, abs=6e-4)
        per_layer = pv.agreement(scores[a], scores[b]).per_layer.values()
        assert pair["rank"]["layers"] == [round(layer.rank_correlation, 3) + 0.0 for layer in per_layer]
    assert reached > 20


def flat(tensors: dict[str, Tensor]) -> np.ndarray:
    return torch.cat([t.detach().flatten() for t in tensors.values()]).numpy()


def test_a_weight_is_what_differences_say(made: dict[str, Interaction]) -> None:
    """Both g and Hg of each listed weight from differences of the loss and of the squared gradient norm."""
    data, problem = made["microscope"].data, precise_problem()
    weights, temperature, e = problem.weights, data["temperature"], 1e-5

    def flow(at: dict[str, Tensor]) -> float:
        _, gradient = problem.gradient(at, temperature=temperature)
        return float(sum(g.square().sum() for g in gradient.values()))

    for layer, listed in data["weights"].items():
        for entry in listed:
            moved = []
            for sign in (e, -e):
                at = {**weights, layer: weights[layer].clone()}
                at[layer].view(-1)[entry["at"]] += sign
                moved.append((problem.gradient(at)[0], flow(at)))
            (up, flow_up), (down, flow_down) = moved
            assert entry["g"] == pytest.approx((up - down) / (2 * e), rel=2e-3, abs=1e-8)
            assert entry["hg"] == pytest.approx((flow_up - flow_down) / (4 * e), rel=2e-3, abs=1e-10)
            assert entry["w"] == four(float(weights[layer][tuple(entry["index"])]))
            alone = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
            alone[layer][tuple(entry["index"])] = False
            truth = pv.grasp_prediction(problem, alone, temperature)
            assert entry["flow_change"] == pytest.approx(truth.actual, rel=1e-3, abs=1e-14)
            assert entry["flow_first"] == pytest.approx(truth.predicted, rel=1e-3)
            change = pv.gradient_flow(problem, alone).loss - pv.gradient_flow(problem).loss
            assert entry["loss_change"] == pytest.approx(change, rel=1e-3, abs=1e-12)
            assert entry["loss_first"] == pytest.approx(-entry["w"] * entry["g"], rel=2e-3)


def test_ranks_and_levels_are_those_of_the_scores_and_masks(made: dict[str, Interaction]) -> None:
    data, problem = made["microscope"].data, precise_problem()
    layers = [layer["name"] for layer in data["layers"]]
    starts = np.cumsum([0] + [layer["size"] for layer in data["layers"]])
    kept = {}
    for judge in ("snip", "grasp", "magnitude"):
        scores = pv.score(judge, problem)
        kept[judge] = [flat(pv.allocate(scores, sparsity)) for sparsity in GRID]
        every = flat(scores)
        for start, layer in zip(starts, layers, strict=False):
            for entry in data["weights"][layer]:
                place = start + entry["at"]
                below = int((every < every[place]).sum())
                assert entry[judge]["score"] == four(float(every[place]))
                assert entry[judge]["below"] == below
                assert entry[judge]["percent"] == float(f"{100 * below / len(every):.2f}")
                assert [entry[judge]["level"] > j for j in range(len(GRID))] == [bool(m[place]) for m in kept[judge]]
    assert data["both"] == [int((a & b).sum()) for a, b in zip(kept["snip"], kept["grasp"], strict=True)]


def test_the_listed_weights_are_the_most_disputed(made: dict[str, Interaction]) -> None:
    data, problem = made["microscope"].data, precise_problem()
    ranks = [np.searchsorted(np.sort(s), s) for s in (flat(pv.score(j, problem)) for j in ("snip", "grasp"))]
    start = 0
    for layer in data["layers"]:
        gap = (ranks[0] - ranks[1])[start : start + layer["size"]]
        listed = [entry["at"] for entry in data["weights"][layer["name"]]]
        assert len(listed) == len(set(listed)) == 6
        assert sorted(gap[listed[0::2]]) == sorted(np.sort(gap)[::-1][:3])
        assert sorted(gap[listed[1::2]]) == sorted(np.sort(gap)[:3])
        start += layer["size"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_gives_the_same_page_and_a_small_one(made: dict[str, Interaction], kind: str) -> None:
    page = made[kind].html()
    assert page == build(kind).html()
    assert len(page) < 100_000
    data = json.loads(Reader(page).json)
    assert data["state"] == {name: getattr(made[kind], name) for name in made[kind].state}
    shown, _ = made[kind]._repr_mimebundle_()
    assert shown["text/html"] == page
    assert "<table>" in page


@pytest.mark.parametrize("kind", KINDS)
def test_looking_changes_nothing(kind: str) -> None:
    problem = precise_problem()
    before = {name: p.clone() for name, p in problem.model.state_dict().items()}
    state = torch.random.get_rng_state()
    build(kind, problem).html()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in problem.model.state_dict().items())
    assert all(p.grad is None for p in problem.model.parameters())


def test_what_is_chosen_can_be_set_and_observed() -> None:
    depth = pv.widgets.Depth(precise_problem(), ("snip", "magnitude"), grid=GRID)
    seen = []
    depth.observe(lambda change: seen.append((change["name"], change["new"])), names=list(depth.state))
    depth.method, depth.sparsity, depth.measure = "magnitude", 0.6, "dead"
    assert seen == [("method", "magnitude"), ("sparsity", 0.5), ("measure", "dead")]
    assert repr(depth) == "Depth(measure='dead', method='magnitude', sparsity=0.5)"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("spectrum", "method", "snpi"), ("spectrum", "view", "label"), ("spectrum", "sparsity", 1.0),
        ("depth", "measure", "gradients"), ("agreement", "first", "grasp"), ("agreement", "measure", "x"),
        ("microscope", "layer", "0"),
    ],
)  # fmt: skip
def test_bad_values_are_named(made: dict[str, Interaction], kind: str, name: str, value: object) -> None:
    with pytest.raises(InputError, match=str(value)):
        setattr(made[kind], name, value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("snpi",)}, "did you mean 'snip'"),
        ({"method": "grasp", "methods": ("snip",)}, "method 'grasp'"),
        ({"along": ("label",)}, "did you mean 'labels'"),
        ({"outputs": "class"}, "form of the kernel 'class'"),
        ({"view": "labels", "along": ()}, "view 'labels'"),
        ({"grid": (0.5, 0.2)}, "sparsities that increase"),
    ],
)
def test_bad_arguments_of_a_spectrum_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pv.widgets.Spectrum(precise_problem(), **arguments)


def test_bad_arguments_of_the_others_are_named() -> None:
    problem = precise_problem()
    with pytest.raises(InputError, match="at least two"):
        pv.widgets.Agreement(problem, ("snip",))
    with pytest.raises(InputError, match="method 'force'"):
        pv.widgets.Agreement(problem, ("snip", "grasp"), pair=("snip", "force"))
    with pytest.raises(InputError, match="measure 'gradients'"):
        pv.widgets.Depth(problem, ("snip",), measure="gradients")
    with pytest.raises(InputError, match="temperature 0"):
        pv.widgets.Microscope(problem, temperature=0)
    with pytest.raises(InputError, match="count 0"):
        pv.widgets.Microscope(problem, count=0)


def test_work_is_told_step_by_step_and_can_be_ended() -> None:
    heard: list[tuple[float | None, str]] = []
    problem = precise_problem()
    with progress.listening(lambda done, what: heard.append((done, what))):
        pv.widgets.Depth(problem, ("snip",), grid=GRID)
    shares = [done for done, _ in heard if done is not None]
    assert shares == [k / 4 for k in range(4)]
    assert any("SNIP at 98.0%" in what for _, what in heard)
    told = len(heard)
    pv.widgets.Depth(problem, ("snip",), grid=(0.5,))
    assert len(heard) == told  # nobody listens any more

    def ending(done: float | None, what: str) -> None:
        if done:
            raise progress.Cancelled

    with pytest.raises(progress.Cancelled), progress.listening(ending):
        pv.widgets.Depth(problem, ("snip",), grid=GRID)
