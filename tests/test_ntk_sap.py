"""NTK-SAP against explicit masks, differences, closed forms and exact Jacobians; its draws and its statistics."""

import copy

import networks
import pytest
import reference
import reference_ntk_sap as twin
import torch
from measure import peak_bytes
from networks import close
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.scorers import registry
from pruneviz.scorers.redraw import batch_statistics, drawn_values

#: Networks of one input whose layers He et al.'s rule knows or leaves alone.
PLAIN = tuple(name for name in networks.IDS if name != "attention")


def of(model: nn.Module, *shape: int, n: int = 3) -> pv.Problem:
    dtype = next(model.parameters()).dtype
    return pv.Problem(model, [(torch.zeros((n, *shape), dtype=dtype), torch.arange(n) % 2)])


# Against twins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", PLAIN)
def test_it_is_the_derivative_with_respect_to_explicit_masks(name, masked):
    problem = networks.problem(name)
    masks = networks.random_masks(problem) if masked else None
    scores = pv.score("ntk_sap", problem, masks=masks, resamples=2, seed=3)
    close(scores, twin.ntk_sap(problem, masks, resamples=2, seed=3), rtol=1e-7)


@pytest.mark.parametrize("name", ["mlp_relu", "residual", "transformer"])
def test_with_the_models_own_weights(name):
    problem = networks.problem(name)
    scores = pv.score("ntk_sap", problem, resamples=2, init="none", epsilon=0.3)
    close(scores, twin.ntk_sap(problem, resamples=2, redrawn=False, epsilon=0.3), rtol=1e-9)


def test_one_batch_of_noise_of_another_size():
    problem = networks.problem("conv_bn")
    scores = pv.score("ntk_sap", problem, resamples=3, batch_size=7)
    close(scores, twin.ntk_sap(problem, resamples=3, batch_size=7), rtol=1e-8)


@pytest.mark.parametrize("name", ["bias_free", "depthwise", "tied"])
def test_it_is_what_the_objective_does_when_one_mask_moves(name):
    problem = networks.problem(name, sizes=(4,))
    options = {"epsilon": 0.1, "resamples": 1, "seed": 5}
    expected = twin.ntk_sap_by_differences(problem, redrawn=True, **options)
    close(pv.score("ntk_sap", problem, **options), expected, rtol=1e-7)


def test_masks_are_those_of_a_plain_loop_in_which_each_step_has_draws_of_its_own():
    problem, schedule = networks.problem("residual"), pv.Exponential(4)
    masks = pv.prune(problem, "ntk_sap", 0.6, schedule=schedule, resamples=2)
    loop = reference.prune_iteratively(problem, lambda p, m: twin.ntk_sap(p, m, resamples=2), schedule.sparsities(0.6))
    assert {n: m.tolist() for n, m in masks.items()} == {n: m.tolist() for n, m in loop.items()}


def test_float32_scores_are_those_of_float64_to_its_rounding():
    exact = networks.problem("conv_bn")
    single = pv.Problem(copy.deepcopy(exact.model).float(), [(x.float(), y) for x, y in exact.batches])
    scores = {n: s.double() for n, s in pv.score("ntk_sap", single).items()}
    close(scores, pv.score("ntk_sap", exact), rtol=1e-3)


# Closed forms --------------------------------------------------------------------------------------------


def linear(n_in: int = 3, n_out: int = 2) -> nn.Linear:
    return nn.Linear(n_in, n_out, bias=False, dtype=torch.float64)


def test_of_a_linear_layer_it_depends_on_noise_alone():
    """f(w) - f(w + eps n) = -eps (m * n) x, so the slope at m = 1 is 2 eps^2 n_ij sum_x x_j (n x)_i; w has gone."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    n = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            expected[i, j] = sum(2 * 0.2**2 * float(n[i, j] * a[j] * (n[i] @ a)) for a in x)
    score = pv.score("ntk_sap", of(linear(), 3, n=5), init="none", resamples=1, epsilon=0.2, seed=4)["weight"]
    torch.testing.assert_close(score, expected.abs(), rtol=1e-12, atol=0)


class Ones(nn.Module):
    """A linear layer that sees ones, whatever it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.ones_like(x))


@pytest.mark.parametrize("seed", range(4))
def test_golden_mask_of_a_linear_layer(seed):
    """For inputs of 1 and perturbations a and b the slopes are 2 eps^2 a (a + b) and 2 eps^2 b (a + b)."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(1, 2, generator=generator, dtype=torch.float64)  # the inputs, which the layer does not see
    a, b = torch.randn(2, generator=generator, dtype=torch.float64).tolist()
    problem, options = of(Ones(), 2, n=1), {"init": "none", "resamples": 1, "seed": seed}
    scores = pv.score("ntk_sap", problem, epsilon=0.5, **options)["layer.weight"]
    assert scores.tolist()[0] == pytest.approx([abs(0.5 * a * (a + b)), abs(0.5 * b * (a + b))], rel=1e-12)
    masks = pv.prune(problem, "ntk_sap", 0.5, schedule="one_shot", **options)
    assert masks["layer.weight"].tolist() == [[abs(a) > abs(b), abs(b) > abs(a)]]


def test_on_average_all_weights_of_a_linear_layer_count_the_same():
    """The kernel's trace is the sum over x and weights of m_ij^2 x_j^2, of expected slope 2 N for every weight."""
    scores = pv.score("ntk_sap", of(linear(), 3, n=50), init="none", resamples=2000, epsilon=0.1)["weight"]
    expected = 2 * 0.1**2 * 50 * 2000
    assert float((scores / expected - 1).abs().max()) < 0.15  # four deviations of 2000 products of normal variables


class Points(nn.Module):
    """A small network that looks at points of its own, whatever it is fed: only weights and perturbations vary."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("points", torch.randn(4, 2, generator=generator, dtype=torch.float64))
        self.w = nn.Parameter(torch.randn(12, generator=generator, dtype=torch.float64))

    def at(self, w: Tensor) -> Tensor:
        return torch.tanh(self.points @ w[:6].view(2, 3)) @ w[6:].view(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.at(self.w)


def points() -> tuple[Points, pv.Problem]:
    model = Points()
    return model, pv.Problem(model, [(torch.zeros(4, 2, dtype=torch.float64), torch.arange(4) % 2)], prunable=["w"])


def test_for_small_epsilon_it_is_the_slope_of_the_squared_product_of_the_exact_jacobian_and_the_noise():
    model, problem = points()
    generator = torch.Generator().manual_seed(7)
    torch.randn(4, 2, generator=generator, dtype=torch.float64)
    n = torch.randn(12, generator=generator, dtype=torch.float64)
    w = model.w.detach()
    m = torch.ones_like(w).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(model.at, m * w, create_graph=True)
    (expected,) = torch.autograd.grad((jacobian @ (m * n)).square().sum(), m)
    errors = []
    for epsilon in (1e-2, 1e-3, 1e-4):
        score = pv.score("ntk_sap", problem, init="none", resamples=1, epsilon=epsilon, seed=7)["w"] / epsilon**2
        errors.append(float((score - expected.abs()).abs().max() / expected.abs().max()))
    assert errors[2] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.3)  # the first order that the difference leaves out


def test_averaged_over_noise_it_is_the_slope_of_the_kernels_trace():
    model, problem = points()
    draws, epsilon = 3000, 1e-4
    expected = twin.trace_slopes(model.at, model.w.detach())
    score = pv.score("ntk_sap", problem, init="none", resamples=draws, epsilon=epsilon)["w"] / (draws * epsilon**2)
    assert float((score - expected.abs()).norm() / expected.norm()) < 0.06
    one = pv.score("ntk_sap", problem, init="none", resamples=1, epsilon=epsilon)["w"] / epsilon**2
    assert float((one - expected.abs()).norm() / expected.norm()) > 0.2  # so that the test can fail


# What it depends on --------------------------------------------------------------------------------------


def test_neither_data_nor_labels_nor_the_loss_nor_the_models_state_matter():
    problem = networks.problem("conv_bn")
    scores = networks.score("ntk_sap", problem)
    other = networks.model("conv_bn", seed=9)
    batches = [(x, None) for x, _ in networks.batches("conv_bn", seed=8)]
    same = pv.Problem(other, batches, loss=lambda output, y: output / 0, batchnorm="eval")
    assert all(torch.equal(s, scores[n]) for n, s in networks.score("ntk_sap", same).items())


def test_the_seed_the_number_of_draws_and_epsilon_matter():
    problem = networks.problem("mlp_relu")
    plain = pv.score("ntk_sap", problem, resamples=2)["0.weight"]
    for options in ({"seed": 1}, {"resamples": 3}, {"epsilon": 0.02}, {"init": "xavier_normal"}, {"batch_size": 3}):
        assert not torch.allclose(pv.score("ntk_sap", problem, **({"resamples": 2} | options))["0.weight"], plain)


@pytest.mark.parametrize("name", ["mlp_relu", "conv_bn", "transformer"])
def test_micro_batches_change_nothing_because_statistics_are_those_of_the_whole_batch(name):
    model, batches = networks.model(name), networks.batches(name, sizes=(7, 4))
    whole = networks.score("ntk_sap", pv.Problem(model, batches))
    close(networks.score("ntk_sap", pv.Problem(model, batches, micro_batch=3)), whole, rtol=1e-10)


def test_micro_batches_bound_the_memory():
    model = pv.models.create("lenet5", input_shape=(1, 28, 28))
    batches = [(torch.zeros(128, 1, 28, 28), torch.arange(128) % 10)]
    whole, parts = (
        peak_bytes(lambda size=size: networks.score("ntk_sap", pv.Problem(model, batches, micro_batch=size)))
        for size in (None, 16)
    )
    assert parts < 0.5 * whole


def test_without_a_schedule_it_takes_twenty_steps(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    card, scorer, *rest = registry._REGISTRY["ntk_sap"]
    given = []

    def counted(problem, masks=None):
        given.append(masks)
        return scorer(problem, masks, resamples=1)

    registry._REGISTRY["ntk_sap"] = (card, counted, *rest)
    pv.prune(networks.problem("mlp_relu"), "ntk_sap", 0.6)
    assert len(given) == 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["conv_bn", "residual", "transformer"])
def test_a_gpu_gets_the_same_draws_and_gives_the_same_scores(name):
    problem = networks.problem(name)
    masks = networks.random_masks(problem)
    batches = [(x.cuda(), y.cuda()) for x, y in problem.batches]
    on_gpu = pv.Problem(copy.deepcopy(problem.model).cuda(), batches)
    scores = networks.score("ntk_sap", on_gpu, masks={n: m.cuda() for n, m in masks.items()})
    assert all(s.is_cuda for s in scores.values())
    close({n: s.cpu() for n, s in scores.items()}, networks.score("ntk_sap", problem, masks=masks), rtol=1e-9)


# Redrawn values and statistics ---------------------------------------------------------------------------


def test_drawn_values_are_those_that_an_initialization_puts_into_the_model():
    for name in ("conv_bn", "residual", "grouped", "depthwise", "mlp_relu"):
        model = networks.model(name)
        before = {n: p.clone() for n, p in model.named_parameters()}
        values = drawn_values(model, "kaiming_normal", torch.Generator().manual_seed(6))
        assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
        twin_model = copy.deepcopy(model)
        pv.models.init.initialize(twin_model, pv.models.init.kaiming_normal, torch.Generator().manual_seed(6))
        assert set(values) == set(before)
        for n, p in twin_model.named_parameters():
            assert torch.equal(values[n], p), n


def test_every_rule_draws_and_layers_that_it_does_not_know_keep_their_weights():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 2)).double()
    for rule in pv.models.init.RULES:
        values = drawn_values(model, rule, torch.Generator().manual_seed(0))
        assert {"1.weight", "1.bias", "3.weight", "3.bias"} <= set(values) <= {n for n, _ in model.named_parameters()}
        assert not torch.equal(values["3.weight"], model[3].weight)
        assert values["1.weight"].tolist() == [1.0, 1.0, 1.0]
    assert "0.weight" not in drawn_values(model, "kaiming_normal", torch.Generator())


class Normalized(nn.Module):
    """One layer that is used once and one that is used twice."""

    def __init__(self, momentum: float | None) -> None:
        super().__init__()
        self.once = nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        self.twice = nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        self.never = nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        self.untracked = nn.BatchNorm1d(3, track_running_stats=False, dtype=torch.float64)
        self.head = nn.Linear(3, 2, dtype=torch.float64)
        for module in (self.once, self.twice, self.never):
            module.running_mean.fill_(7.0)
            module.running_var.fill_(9.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.untracked(self.once(x))) + x))


@pytest.mark.parametrize("momentum", [0.1, 0.3, 1.0, None])
def test_statistics_are_those_of_the_batch_whatever_the_momentum(momentum):
    model = Normalized(momentum)
    x = 2 + 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = {n: b.clone() for n, b in model.named_buffers()}
    found = batch_statistics(of(model, 3), {}, x)
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    torch.testing.assert_close(found["once.running_mean"], x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(found["once.running_var"], x.var(0), rtol=1e-14, atol=0)
    assert not any(name.startswith(("never", "untracked")) for name in found)
    normal = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    normal = (normal - normal.mean(0)) / (normal.var(0, unbiased=False) + 1e-5).sqrt()
    second = (normal - normal.mean(0)) / (normal.var(0, unbiased=False) + 1e-5).sqrt() + x
    share = 0.5 if momentum is None else 1 / (2 - momentum)  # of the second use in an average over two
    expected = (1 - share) * normal.mean(0) + share * second.mean(0)
    torch.testing.assert_close(found["twice.running_mean"], expected, rtol=1e-12, atol=1e-12)
    expected = (1 - share) * normal.var(0) + share * second.var(0)
    torch.testing.assert_close(found["twice.running_var"], expected, rtol=1e-12, atol=0)


def test_a_layer_that_never_updates_keeps_its_statistics():
    assert batch_statistics(of(Normalized(0.0), 3), {}, torch.randn(6, 3, dtype=torch.float64)) == {}


# Inputs --------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = linear(3), linear(4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) + self.right(b)


def test_tuples_and_dictionaries_have_noise_for_every_tensor():
    model = Two()
    a, b, y = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(5, 4, dtype=torch.float64), torch.arange(5) % 2
    scores = [
        pv.score("ntk_sap", pv.Problem(model, [batch], loss=lambda o, t: o.sum(), micro_batch=size))
        for batch in ((a, b, y), {"a": a, "b": b, "y": y})
        for size in (None, 2)
    ]
    for other in scores[1:]:
        close(other, scores[0], rtol=1e-12)
    assert all(bool((s > 0).all()) for s in scores[0].values())


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).mean(1))


class Record(nn.Linear):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(x)}


class Exploding(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return (1e300 * super().forward(x)) ** 3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: pv.score("ntk_sap", p, epsilon=0.0), "epsilon 0.0 is not accepted: give a finite number greater"),
        (lambda p: pv.score("ntk_sap", p, resamples=0), "resamples 0 is not accepted: give a whole number of at"),
        (lambda p: pv.score("ntk_sap", p, batch_size=-1), "batch_size -1 is not accepted"),
        (lambda p: pv.score("ntk_sap", p, seed=-1), "seed -1 is not accepted"),
        (lambda p: pv.score("ntk_sap", p, init="kaiming"), "init 'kaiming' is not known; did you mean 'kaiming_"),
        (lambda p: pv.score("ntk_sap", p, masks={"a": torch.ones(1, dtype=torch.bool)}), "no parameter of the model"),
        (
            lambda p: pv.score("ntk_sap", tokens()),
            r"'ntk_sap' puts numbers of its own in the place of the data, and the input has dtype torch\.int64",
        ),
        (lambda p: pv.score("ntk_sap", of(Record(3, 2), 3)), "the model's output is a dict; ntk_sap needs one tensor"),
        (lambda p: pv.score("ntk_sap", of(Exploding(3, 2), 3)), "the outputs for noise differ by (nan|inf); ntk_sap"),
    ],
)
def test_a_bad_option_or_model_is_one_line(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(networks.problem("mlp_relu"))
    assert "\n" not in str(caught.value)


def tokens() -> pv.Problem:
    return pv.Problem(Tokens(), [(torch.zeros(2, 5, dtype=torch.int64), torch.tensor([0, 1]))])


def test_statistics_are_found_without_pytorchs_counter():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    x = 2 + 3 * torch.randn(6, 3)
    problem = pv.Problem(network, [(x, torch.arange(6) % 3)])
    expected = batch_statistics(problem, {}, x)
    network[1].num_batches_tracked = None
    found = batch_statistics(problem, {}, x)
    assert found.keys() == expected.keys() == {"1.running_mean", "1.running_var"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)
