"""Score and cut, in one step or in many: exact after each step, and what is removed never comes back."""

import itertools
import warnings

import networks
import pytest
import reference
import reference_allocate
import torch

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.scorers import registry

SCHEDULES = [pv.OneShot(), pv.Linear(4), pv.Exponential(5)]
TWINS = {"snip": reference.snip_by_masks, "grasp": reference.grasp_dense}


@pytest.fixture
def steps(monkeypatch):
    """The masks that the scorer is given in each step, for a scorer whose best weights change all the time."""
    seen = []
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @pv.register(pv.Card(name="restless", title="", effect=""))
    def restless(problem, masks=None):
        seen.append(masks)
        generator = torch.Generator().manual_seed(len(seen))
        return {name: torch.randn(w.shape, generator=generator).to(w) for name, w in problem.weights.items()}

    return seen


@pytest.mark.parametrize("scope", pv.SCOPES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("sparsity", [0.3, 0.6])
def test_each_step_is_exact_and_nothing_comes_back(steps, scope, schedule, sparsity):
    problem = networks.problem("residual")
    final = pv.prune(problem, "restless", sparsity, scope=scope, schedule=schedule)
    assert steps[0] is None
    masks = [*steps[1:], final]
    wanted = schedule.sparsities(sparsity)
    assert len(masks) == len(wanted)
    before = {name: torch.ones_like(w, dtype=torch.bool) for name, w in problem.weights.items()}
    for mask, step in zip(masks, wanted, strict=True):
        if scope == "layerwise":
            for name, (kept, total) in pv.masks.counts(mask).items():
                assert kept == round((1 - step) * total), name
        else:
            assert pv.masks.kept(mask) == round((1 - step) * pv.masks.total(mask))
        for name in problem.names:
            assert not bool((mask[name] & ~before[name]).any()), name
        before = mask
    shapes = {name: tuple(w.shape) for name, w in problem.weights.items()}
    if scope != "global":
        expected = reference_allocate.layer_counts(shapes, sparsity, scope)
        assert {name: kept for name, (kept, _) in pv.masks.counts(final).items()} == expected


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("scorer", ["snip", "grasp"])
@pytest.mark.parametrize("name", ["bias_free", "tied", "conv_transpose"])
def test_against_a_plain_loop_with_the_twins_scores(name, scorer, schedule):
    problem = networks.problem(name)
    masks = pv.prune(problem, scorer, 0.6, schedule=schedule)
    expected = reference.prune_iteratively(problem, TWINS[scorer], schedule.sparsities(0.6))
    assert {n: m.tolist() for n, m in masks.items()} == {n: m.tolist() for n, m in expected.items()}


def test_iterative_pruning_scores_what_is_left_and_so_differs_from_one_shot():
    problem = networks.problem("residual")
    once = pv.prune(problem, "snip", 0.6)
    many = pv.prune(problem, "snip", 0.6, schedule=pv.Exponential(10))
    assert pv.masks.kept(once) == pv.masks.kept(many)
    assert any(not torch.equal(once[n], many[n]) for n in once)


@pytest.mark.parametrize("scorer", [name for name in pv.scorers() if name in ("random", "magnitude")])
def test_scores_that_do_not_depend_on_the_masks_give_the_same_masks_in_one_step_and_in_many(scorer):
    problem = networks.problem("residual")
    for scope in pv.SCOPES:
        once = pv.prune(problem, scorer, 0.6, scope=scope)
        many = pv.prune(problem, scorer, 0.6, scope=scope, schedule=pv.Linear(6))
        assert all(torch.equal(once[n], many[n]) for n in once), scope


@pytest.mark.parametrize("scorer", list(pv.scorers()))
def test_one_shot_is_score_and_allocate(scorer):
    problem, options = networks.problem("conv_bn"), networks.OPTIONS.get(scorer, {})
    for scope in pv.SCOPES:
        masks = pv.prune(problem, scorer, 0.4, scope=scope, schedule="one_shot", **options)
        expected = pv.allocate(networks.score(scorer, problem), 0.4, scope)
        assert all(torch.equal(masks[n], expected[n]) for n in expected)


@pytest.mark.parametrize("scorer", list(pv.scorers()))
def test_one_shot_masks_are_nested_in_sparsity(scorer):
    problem, options = networks.problem("conv_bn"), networks.OPTIONS.get(scorer, {})
    masks = [pv.prune(problem, scorer, s, schedule="one_shot", **options) for s in (0.0, 0.25, 0.5, 0.8, 0.95)]
    assert pv.masks.kept(masks[0]) == pv.masks.total(masks[0])
    for larger, smaller in itertools.pairwise(masks):
        assert not any(bool((smaller[n] & ~larger[n]).any()) for n in larger)


def test_without_a_schedule_the_scorers_own_is_followed(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    calls = []

    @pv.register(pv.Card(name="stepwise", title="Stepwise", effect="Counts.", schedule="exponential:3"))
    def stepwise(problem, masks=None):
        calls.append(None if masks is None else pv.masks.kept(masks))
        return problem.masked_weights(masks)

    problem = networks.problem("bias_free")
    pv.prune(problem, "stepwise", 0.875)
    assert calls == [None, 21, round(42 / 4)]
    calls.clear()
    pv.prune(problem, "stepwise", 0.875, schedule="one_shot")
    pv.prune(problem, "stepwise", 0.875, schedule=pv.OneShot())
    assert calls == [None, None]


@pytest.mark.parametrize("revives", [False, True])
def test_a_removed_weight_comes_back_only_if_the_card_says_so(monkeypatch, revives):
    """By hand: the first step keeps weights 0, 1, 2; the second one's scores would keep 3 and 0."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    model = torch.nn.Linear(4, 1, bias=False)
    scores = iter([torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[8.0, 1.0, 2.0, 9.0]])])

    @pv.register(pv.Card(name="scripted", title="Scripted", effect="By hand.", revives=revives))
    def scripted(problem, masks=None):
        return {"weight": next(scores)}

    class Steps:
        def sparsities(self, target):
            return [0.25, target]

    problem = pv.Problem(model, [(torch.ones(1, 4), torch.tensor([0]))])
    masks = pv.prune(problem, "scripted", 0.5, schedule=Steps())
    assert masks["weight"].tolist() == ([[True, False, False, True]] if revives else [[True, False, True, False]])


def test_a_minimum_holds_in_every_step_and_a_collapse_is_named_once():
    problem = networks.problem("residual")
    with torch.no_grad():
        problem.model.conv2.weight.mul_(1e-3)
    schedule = pv.Linear(5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        masks = pv.prune(problem, "magnitude", 0.7, schedule=schedule)
    assert [str(w.message) for w in caught if "'conv2.weight' are removed (layer collapse)" in str(w.message)]
    assert len(caught) == 1
    assert pv.masks.collapsed(masks) == ["conv2.weight"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = pv.prune(problem, "magnitude", 0.7, schedule=schedule, minimum=2)
    assert pv.masks.counts(kept)["conv2.weight"][0] == 2
    assert pv.masks.kept(kept) == pv.masks.kept(masks)


def test_options_reach_the_scorer_and_the_model_is_left_alone():
    problem = networks.problem("bias_free")
    before = {n: p.clone() for n, p in problem.model.state_dict().items()}
    masks = [pv.prune(problem, "random", 0.5, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(masks[0]["0.weight"], masks[1]["0.weight"])
    assert not torch.equal(masks[0]["0.weight"], masks[2]["0.weight"])
    assert all(torch.equal(p, before[n]) for n, p in problem.model.state_dict().items())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: pv.prune(p, "snpi", 0.5), "scorer 'snpi' is not known; did you mean 'snip'"),
        (lambda p: pv.prune(p, "snip", 1.2), "sparsity 1.2 is not a fraction"),
        (lambda p: pv.prune(p, "snip", -0.1), "sparsity -0.1 is not a fraction"),
        (lambda p: pv.prune(p, "snip", float("nan")), "sparsity nan is not a fraction"),
        (lambda p: pv.prune(p, "snip", True), "sparsity True is not a fraction"),
        (lambda p: pv.prune(p, "snip", "0.5", schedule=pv.Linear(2)), "sparsity '0.5' is not a fraction"),
        (lambda p: pv.prune(p, "snip", 0.999), "sparsity 0.999 keeps 0 of 42 weights"),
        (lambda p: pv.prune(p, "snip", 0.5, scope="layer"), "scope 'layer' is not known; did you mean 'layerwise'"),
        (lambda p: pv.prune(p, "magnitude", 0.5, power=2), "scorer 'magnitude' takes no options; received 'power'"),
        (lambda p: pv.prune(p, "grasp", 0.5, temperature=-1), "temperature -1 is not accepted"),
    ],
)
def test_a_bad_argument_is_one_line(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(networks.problem("bias_free"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [[], [0.6, 0.5], [0.25, 0.4], [0.2, 0.5, 0.5, 0.4]])
def test_a_schedule_whose_steps_do_not_lead_to_the_target_is_one_line(steps):
    class Given:
        def sparsities(self, target):
            return steps

    with pytest.raises(InputError, match=r"has the steps \[.*accepted: sparsities that never fall.*0.5$"):
        pv.prune(networks.problem("bias_free"), "snip", 0.5, schedule=Given())


def test_what_is_no_schedule_is_one_line():
    with pytest.raises(InputError, match=r"^schedule 100 is not known; accepted: "):
        pv.prune(networks.problem("bias_free"), "snip", 0.5, schedule=100)


@pytest.mark.parametrize("scorer", ["synflow", "force", "ntk_sap"])
@pytest.mark.parametrize("scope", ["smart_ratio", "smart_ratio_vgg"])
def test_smart_ratios_are_reached_in_the_steps_of_any_schedule(scorer, scope):
    """The convolutions and 0.3 of the linear layers are fewer than the first steps of a schedule keep."""
    linear = torch.nn.Linear(16, 40), torch.nn.Linear(40, 3)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), *linear)
    problem = pv.Problem(model, [(torch.randn(6, 1, 4, 4), torch.arange(6) % 3)])
    masks = pv.prune(problem, scorer, 0.7, scope=scope)
    assert pv.masks.kept(masks) == round(0.3 * pv.masks.total(masks))
    assert int(masks["3.weight"].sum()) == round(0.3 * 640)
    with pytest.raises(InputError, match=r"sparsity 0\.5 keeps"):
        pv.prune(problem, scorer, 0.5, scope=scope)


def test_weights_that_are_not_numbers_do_not_matter_to_scores_that_do_not_read_them():
    problem = networks.problem("bias_free")
    with torch.no_grad():
        next(problem.model.parameters())[0, 0] = torch.nan
    masks = pv.prune(problem, "random", 0.5)
    assert pv.masks.kept(masks) == 21
