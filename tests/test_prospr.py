"""ProsPr by hand, by explicit masks, by finite differences of trained networks; and its two roads against each other.

The twins are in `reference_prospr.py`. Steps of size 0.1 keep random networks from diverging.
"""

import copy
import warnings

import networks
import pytest
import reference
import reference_prospr
import torch
import torch.nn.functional as F
from measure import peak_bytes
from networks import close
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError

SIZES = (6, 4, 5, 7)  # three steps and the loss after them
SMOOTH = ("bias_free", "depthwise", "conv_transpose", "tied", "transformer")
OPTIONS = [
    {"momentum": 0.0},
    {"variant": "official"},
    {"first_order": True},
    {"steps": 1},
    {"steps": 1, "variant": "official"},
    {"steps": 5, "momentum": 0.5, "lr": 0.02},
    {"new_data": False},
    {"new_data": False, "variant": "official", "steps": 2},
]


def options_id(options):
    return "-".join(f"{key}_{value}" for key, value in options.items())


def problem_for(name, options=None, **more):
    """A problem with as many batches as the options need."""
    options = options or {}
    sizes = SIZES[:2] if not options.get("new_data", True) else ((*SIZES, 4, 6)[: options.get("steps", 3) + 1])
    return networks.problem(name, sizes=sizes, **more)


def score(problem, **options):
    return pv.score("prospr", problem, **({"lr": 0.1} | options))


def half_squares(output, y):
    """1/2 ||f - y||^2, mean over the batch."""
    return 0.5 * (output - y).square().sum(1).mean()


def squares(w, batches):
    """f(x) = W x under half squares."""
    model = nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(w)
    return pv.Problem(model, batches, loss=half_squares)


# Closed forms --------------------------------------------------------------------------------------------


def test_linear_model_by_hand():
    # As in test_grasp.py: C = diag(1/2, 2), D = [[0, -6], [1/2, 0]], gradient W C - D = [[1, 4], [-1/2, 6]].
    # One step of 1/4: W_1 = [[1.75, -2], [0.125, 1.5]], where the gradient is [[0.875, 2], [-0.4375, 3]].
    # Through the step: times I - C / 4 = diag(7/8, 1/2), to [[0.765625, 1], [-0.3828125, 1.5]].
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0], [-6.0, 0.0]], dtype=torch.float64)
    problem = squares(torch.tensor([[2.0, -1.0], [0.0, 3.0]]), [(x, y)])
    options = {"steps": 1, "lr": 0.25, "new_data": False}
    for lean in (False, True):
        exact = score(problem, lean=lean, **options)["weight"]
        assert exact.tolist() == [[1.53125, 1.0], [0.0, 4.5]]
    assert score(problem, first_order=True, **options)["weight"].tolist() == [[1.75, 2.0], [0.0, 9.0]]
    masks = pv.prune(problem, "prospr", 0.5, **options)
    assert masks["weight"].tolist() == [[True, False], [False, True]]
    # To first order the weights of the first row change places.
    masks = pv.prune(problem, "prospr", 0.5, first_order=True, **options)
    assert masks["weight"].tolist() == [[False, True], [False, True]]
    # With the weight -1 removed and kept at zero: W_1 = [[1.75, 0], ...] and nothing goes through it.
    masks = {"weight": torch.tensor([[True, False], [True, True]])}
    assert score(problem, masks=masks, **options)["weight"].tolist() == [[1.53125, 0.0], [0.0, 4.5]]


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_linear_model_by_products_of_matrices(momentum, lean):
    """A step is linear in (W, v), with [[I - lr C, -lr mu I], [C, mu I]]; the derivative is the product of these."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    batches = [
        (torch.randn(5, 3, generator=generator).double(), torch.randn(5, 2, generator=generator).double())
        for _ in range(5)
    ]
    lr, eye = 0.3, torch.eye(3, dtype=torch.float64)
    product, theta, v = torch.eye(6, dtype=torch.float64), w, torch.zeros_like(w)
    for x, y in batches[:4]:
        c, d = x.T @ x / 5, y.T @ x / 5
        v = momentum * v + theta @ c - d
        theta = theta - lr * v
        product = torch.cat([torch.cat([eye - lr * c, -lr * momentum * eye], 1), torch.cat([c, momentum * eye], 1)]) @ (
            product
        )
    x, y = batches[4]
    end = theta @ (x.T @ x / 5) - y.T @ x / 5
    expected = (w * (end @ product[:3, :3])).abs()
    problem = squares(w, batches)
    close(score(problem, steps=4, lr=lr, momentum=momentum, lean=lean), {"weight": expected}, rtol=1e-12)
    close(score(problem, steps=4, lr=lr, momentum=momentum, first_order=True), {"weight": (w * end).abs()}, rtol=1e-12)


# Against twins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", networks.IDS)
def test_prospr_is_the_derivative_with_respect_to_explicit_masks(name, masked):
    problem = problem_for(name)
    masks = networks.random_masks(problem) if masked else None
    close(score(problem, masks=masks), reference_prospr.prospr(problem, masks, lr=0.1))


@pytest.mark.parametrize("options", OPTIONS, ids=options_id)
@pytest.mark.parametrize("name", ["conv_bn", "transformer"])
def test_every_option_against_explicit_masks(name, options):
    problem = problem_for(name, options, batchnorm="eval")
    masks = networks.random_masks(problem)
    close(score(problem, masks=masks, **options), reference_prospr.prospr(problem, masks, **({"lr": 0.1} | options)))


def test_group_normalization_against_explicit_masks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.Linear(36, 3)).double()
    problem = pv.Problem(model, [(torch.randn(5, 2, 5, 5).double(), torch.arange(5) % 3) for _ in range(4)])
    close(score(problem), reference_prospr.prospr(problem, lr=0.1))


@pytest.mark.parametrize("name", SMOOTH)
def test_prospr_is_what_the_loss_after_training_does_when_one_mask_moves(name):
    problem = problem_for(name)
    close(score(problem), reference_prospr.prospr_by_differences(problem, lr=0.1), rtol=1e-6)


def test_a_masked_score_is_what_the_loss_after_training_the_sparse_network_does():
    problem = problem_for("bias_free")
    masks = networks.random_masks(problem)
    close(score(problem, masks=masks), reference_prospr.prospr_by_differences(problem, masks=masks, lr=0.1), rtol=1e-6)


def test_the_official_variant_is_not_what_the_loss_after_training_does():
    problem = problem_for("bias_free")
    differences = reference.flat(reference_prospr.prospr_by_differences(problem, lr=0.1))
    official = reference.flat(score(problem, variant="official"))
    assert float((official - differences).abs().max() / differences.max()) > 0.01


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=options_id)
@pytest.mark.parametrize("name", ["residual", "tied", "attention", "buffers"])
def test_step_by_step_in_reverse_gives_the_derivative_of_the_whole_graph(name, options):
    problem = problem_for(name, options)
    for masks in (None, networks.random_masks(problem)):
        whole = score(problem, masks=masks, lean=False, **options)
        close(score(problem, masks=masks, lean=True, **options), whole, rtol=1e-11)


# Identities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
def test_without_momentum_nothing_is_cut_off(lean):
    problem = problem_for("residual")
    plain, official = (score(problem, variant=v, momentum=0.0, lean=lean) for v in ("paper", "official"))
    assert all(torch.equal(plain[n], official[n]) for n in plain)


def test_one_official_step_with_momentum_is_first_order():
    problem = problem_for("residual", {"steps": 1})
    first = score(problem, steps=1, first_order=True)
    for lean in (False, True):
        close(score(problem, steps=1, variant="official", lean=lean), first, rtol=1e-13)
    assert not torch.allclose(score(problem, steps=1)["conv1.weight"], first["conv1.weight"], rtol=0.01)


def test_steps_of_no_length_are_snip_on_the_last_batch():
    problem = problem_for("residual")
    snip = pv.score("snip", pv.Problem(problem.model, problem.batches[-1:]))
    close(score(problem, lr=1e-12), snip, rtol=1e-8)
    assert not torch.allclose(score(problem)["conv1.weight"], snip["conv1.weight"], rtol=0.01)


def test_every_step_and_its_batch_count():
    problem = networks.problem("mlp_relu", sizes=(6, 6, 6, 6))
    scores = [reference.flat(score(problem))]
    for place in range(4):
        batches = list(problem.batches)
        batches[place] = networks.batches("mlp_relu", sizes=(6,), seed=9)[0]
        scores.append(reference.flat(score(pv.Problem(problem.model, batches))))
    scores += [reference.flat(score(pv.Problem(problem.model, problem.batches[4 - n :]), steps=n - 1)) for n in (2, 3)]
    for i, one in enumerate(scores):
        for other in scores[:i]:
            assert not torch.allclose(one, other, rtol=1e-3, atol=0)


def test_a_loss_c_times_as_large_with_steps_c_times_smaller_has_scores_c_times_as_large():
    # The steps are the same, bit for bit where c is a power of two.
    plain = problem_for("tied", dtype=torch.float32)
    large = problem_for("tied", dtype=torch.float32, loss=lambda o, y: 4.0 * F.cross_entropy(o, y))
    for options in ({}, {"lean": True}, {"first_order": True}):
        small, big = score(plain, lr=0.125, **options), score(large, lr=0.125 / 4, **options)
        assert all(torch.equal(4.0 * small[n], big[n]) for n in small)


def test_without_batch_statistics_micro_batches_change_nothing_and_take_the_lean_road():
    for name in ("mlp_relu", "transformer", "conv_bn"):
        whole = problem_for(name, batchnorm="eval")
        cut = pv.Problem(whole.model, whole.batches, batchnorm="eval", micro_batch=2)
        lean, graph = score(cut, lean=True), score(cut, lean=False)
        close(lean, score(whole), rtol=1e-11)
        close(graph, score(whole), rtol=1e-11)
        by_default = score(cut)
        assert all(torch.equal(by_default[n], lean[n]) for n in lean)
        close(score(cut, first_order=True), score(whole, first_order=True), rtol=1e-11)


def test_with_batch_statistics_each_micro_batch_has_its_own():
    whole = problem_for("conv_bn")
    cut = pv.Problem(whole.model, whole.batches, micro_batch=2)
    assert not torch.allclose(score(cut)["8.weight"], score(whole)["8.weight"], rtol=0.01)


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
def test_removed_weights_stay_removed_through_the_steps(lean):
    """A hidden unit without outgoing weights is no longer there: the scores are those of the network without it."""
    full, small = problem_for("mlp_relu"), problem_for("mlp_relu")
    kept = [0, 1, 3, 4, 5]
    for module, attribute, which in ((0, "weight", kept), (0, "bias", kept), (2, "weight", (slice(None), kept))):
        old = getattr(full.model[module], attribute)
        setattr(small.model[module], attribute, nn.Parameter(old.detach()[which].clone()))
    masks = {"2.weight": torch.ones(5, 6, dtype=torch.bool)}
    masks["2.weight"][:, 2] = False
    scores = score(full, masks=masks, lean=lean)
    assert not scores["0.weight"][2].any()
    assert not scores["2.weight"][:, 2].any()
    rest = {
        "0.weight": scores["0.weight"][kept],
        "2.weight": scores["2.weight"][:, kept],
        "4.weight": scores["4.weight"],
    }
    close(score(pv.Problem(small.model, full.batches), lean=lean), rest, rtol=1e-12)


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
def test_masks_of_ones_change_nothing_bit_for_bit(lean):
    problem = problem_for("residual", dtype=torch.float32)
    ones = {name: torch.ones_like(w, dtype=torch.bool) for name, w in problem.weights.items()}
    plain, masked = score(problem, lean=lean), score(problem, lean=lean, masks=ones)
    assert all(torch.equal(plain[n], masked[n]) for n in plain)


def test_permuted_hidden_units_have_permuted_scores():
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    plain, permuted = problem_for("mlp_relu"), problem_for("mlp_relu")
    with torch.no_grad():
        permuted.model[0].weight.copy_(plain.model[0].weight[order])
        permuted.model[0].bias.copy_(plain.model[0].bias[order])
        permuted.model[2].weight.copy_(plain.model[2].weight[:, order])
    expected = score(plain)
    expected["0.weight"] = expected["0.weight"][order]
    expected["2.weight"] = expected["2.weight"][:, order]
    close(score(permuted), expected, rtol=1e-11)


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
def test_float32_scores_are_those_of_float64_to_its_rounding(lean):
    for name in ("residual", "transformer"):
        exact = problem_for(name)
        single = pv.Problem(copy.deepcopy(exact.model).float(), [(x.float(), y) for x, y in exact.batches])
        scores = score(single, lean=lean)
        assert all(s.dtype == torch.float32 for s in scores.values())
        close({n: s.double() for n, s in scores.items()}, score(exact, lean=lean), rtol=1e-3)


# What it is for ------------------------------------------------------------------------------------------


def test_its_ranking_is_that_of_what_removal_does_to_the_loss_after_training():
    """Every weight removed in turn, three steps made each time: rank correlation 0.97; SNIP's scores reach 0.63."""
    problem = networks.problem("residual", sizes=(30, 30, 30, 30))
    ((dense,), *_) = reference_prospr.with_one_mask(problem, (1.0,))
    removed = reference_prospr.with_one_mask(problem, (0.0,))
    change = torch.tensor([abs(loss - dense) for (loss,) in removed], dtype=torch.float64)
    ours, first, snip = (
        reference_prospr.spearman(reference.flat(scores), change)
        for scores in (
            pv.score("prospr", problem),
            pv.score("prospr", problem, first_order=True),
            pv.score("snip", problem),
        )
    )
    assert ours > 0.95
    assert first < 0.92
    assert snip < 0.7


# What it accepts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
def test_frozen_parameters_stay_where_they_are_but_frozen_weights_are_scored(lean):
    problem = problem_for("transformer")
    for name, parameter in problem.model.named_parameters():
        parameter.requires_grad_(name not in ("qkv.weight", "norm2.bias", "head.bias"))
    scores = score(problem, lean=lean)
    close(scores, reference_prospr.prospr(problem, lr=0.1))
    assert scores["qkv.weight"].any()
    problem.model.requires_grad_(False)
    snip = pv.score("snip", pv.Problem(problem.model, problem.batches[-1:]))
    close(score(problem, lean=lean), snip, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"lean": True}, {"first_order": True}], ids=options_id)
def test_a_weight_that_the_loss_does_not_reach_scores_zero_and_is_named(options):
    model = networks.model("mlp_relu")
    model.spare = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    model.forward = lambda x: nn.Sequential.forward(model[:5], x)
    problem = pv.Problem(model, networks.batches("mlp_relu", sizes=SIZES))
    with pytest.warns(UserWarning, match=r"does not depend on spare\.weight: its derivative is taken as 0"):
        scores = score(problem, **options)
    assert not scores["spare.weight"].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(problem_for("mlp_relu"), **options)


@pytest.mark.parametrize("options", [{}, {"lean": True}, {"first_order": True}, {"lr": 1e200}], ids=options_id)
def test_the_model_stays_as_it_is(options):
    problem = problem_for("buffers")
    problem.model.eval()
    problem.model.fc1.weight.grad = torch.ones(5, 4, dtype=torch.float64)
    before, random = copy.deepcopy(problem.model), torch.get_rng_state()
    try:
        score(problem, **options)
    except InputError:
        assert "lr" in options
    for old, new in zip(before.state_dict().values(), problem.model.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert torch.equal(problem.model.average, before.average)
    assert problem.model.fc1.weight.grad.eq(1).all()
    assert problem.model.fc2.weight.grad is None
    assert not problem.model.training
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("options", [{}, {"lean": True}, {"first_order": True}], ids=options_id)
def test_steps_that_diverge_are_refused_with_the_step_and_the_batch(options):
    problem = problem_for("mlp_relu", dtype=torch.float32)
    says = (
        r"the loss of batch 1 is (nan|inf) after 1 of 3 inner steps with lr 1e\+30 and momentum 0\.9, .* a smaller lr"
    )
    with pytest.raises(InputError, match=says) as caught:
        score(problem, lr=1e30, **options)
    assert "\n" not in str(caught.value)
    x, y = problem.batches[0]
    broken = pv.Problem(problem.model, [(x * float("inf"), y), *problem.batches[1:]])
    with pytest.raises(InputError, match="the loss of batch 0 is nan; scores need a finite loss"):
        score(broken, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 2}, "prospr with 2 steps on new data needs 3 batches, .*; received 4"),
        ({"steps": 4}, "prospr with 4 steps on new data needs 5 batches, .*; received 4; accepted: 5 batches"),
        ({"new_data": False}, "prospr with new_data=False needs 1 or 2 batches, .*; received 4"),
        ({"steps": 0}, "steps of prospr 0 is not accepted"),
        ({"steps": 1.5}, "steps of prospr 1.5 is not accepted"),
        ({"lr": 0.0}, "lr of prospr 0.0 is not accepted: give a finite number greater than 0"),
        ({"lr": "fast"}, "lr of prospr 'fast' is not accepted"),
        ({"momentum": -0.1}, "momentum of prospr -0.1 is not accepted"),
        ({"momentum": 1.0}, "momentum of prospr 1.0 is not accepted: give 0 <= momentum < 1"),
        ({"variant": "papre"}, "variant of prospr 'papre' is not known; did you mean 'paper'"),
        ({"new_data": "False"}, "new_data of prospr 'False' is not accepted: give true or false"),
        ({"first_order": 1}, "first_order of prospr 1 is not accepted"),
        ({"lean": "auto"}, "lean of prospr 'auto' is not accepted"),
    ],
    ids=lambda value: options_id(value) if isinstance(value, dict) else "",
)
def test_options_that_are_not_accepted_are_named(options, says):
    with pytest.raises(InputError, match=says) as caught:
        score(problem_for("mlp_relu"), **options)
    assert "\n" not in str(caught.value)


class Once(torch.autograd.Function):
    """An operation without a second derivative, as some extensions have."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return Unfinished.apply(g)


class Unfinished(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("derivative for some_backward is not implemented")


@pytest.mark.parametrize("lean", [False, True], ids=["graph", "lean"])
def test_an_operation_without_a_second_derivative_is_named(lean):
    problem = problem_for("mlp_relu")
    model = nn.Sequential(*problem.model, nn.Identity())
    model[5].forward = Once.apply
    problem = pv.Problem(model, problem.batches)
    with pytest.raises(InputError, match=r"needs second derivatives, .* some_backward is not implemented"):
        score(problem, lean=lean)
    assert score(problem, first_order=True)["0.weight"].any()


# Memory --------------------------------------------------------------------------------------------------


def conv_problem(steps, micro_batch=None):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.GELU(), nn.Conv2d(8, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(1152, 4)]
    batches = [(torch.randn(32, 3, 16, 16), torch.arange(32) % 4) for _ in range(steps + 1)]
    return pv.Problem(nn.Sequential(*layers), batches, micro_batch=micro_batch)


def peak(steps, micro_batch=None, **options):
    problem = conv_problem(steps, micro_batch)
    return peak_bytes(lambda: pv.score("prospr", problem, steps=steps, **options))


def test_the_lean_road_holds_one_graph_whatever_the_number_of_steps():
    """From 3 to 20 steps the peak grows by the parameters of 17 steps and by nothing else; not so with a graph."""
    of_parameters = sum(p.nbytes for p in conv_problem(1).parameters.values())
    few, many = peak(3, lean=True), peak(20, lean=True)
    assert 0 < many - few <= 17 * of_parameters + 1000
    assert peak(6, lean=False) - peak(3, lean=False) > 0.4 * 3 * few  # three graphs more


def test_to_first_order_the_number_of_steps_needs_no_memory():
    assert peak(20, first_order=True) <= peak(3, first_order=True) + 1000


def test_a_micro_batch_bounds_the_memory():
    of_parameters = sum(p.nbytes for p in conv_problem(1).parameters.values())
    whole, quarter, eighth = (peak(3, micro_batch=n) for n in (32, 8, 4))
    beside = 10 * of_parameters  # states, gradients, velocities and the vectors of the way back
    assert quarter < whole / 4 + beside
    assert eighth < whole / 8 + beside
