"""Initializations that keep norms and approximate isometry, against dense matrices and the authors' descent."""

import copy
import io
import itertools
import math
import sys

import networks
import pytest
import reference_initialize as reference
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import pruneviz as pv
from pruneviz import initialize as room
from pruneviz.errors import InputError
from pruneviz.initialize import WINDOW, approximate_isometry, isometry_distance
from pruneviz.models.init import RULES, initialize


def drawn(layer: nn.Module, rule: str, seed: int = 0) -> torch.Tensor:
    initialize(layer, RULES[rule], torch.Generator().manual_seed(seed))
    return layer.weight.detach().clone()


# Variance scaling.


@pytest.mark.parametrize(
    ("rule", "inverse"),
    [("vs_l", lambda i, o: i), ("vs_g", lambda i, o: (i + o) / 2), ("vs_h", lambda i, o: i / 2)],
    ids=["LeCun", "Glorot", "He"],
)
@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (lambda: nn.Linear(300, 100), 300, 100),
        (lambda: nn.Conv2d(24, 96, 5), 24 * 25, 96 * 25),
        (lambda: nn.Conv2d(96, 32, (3, 1)), 96 * 3, 32 * 3),
        (lambda: nn.Conv2d(64, 128, 3, groups=4), 16 * 9, 128 * 9),
    ],
    ids=["linear", "wider", "narrower", "grouped"],
)
def test_variances_are_those_of_the_formula_and_the_tails_are_cut(rule, inverse, layer, fan_in, fan_out):
    weight = drawn(layer(), rule).double()
    variance = 1 / inverse(fan_in, fan_out)
    # The variance and the kurtosis of a standard normal cut at +-2, by numerical integration.
    x = torch.linspace(-2, 2, 100_001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2)
    second, fourth = ((x**power * density).sum() / density.sum() for power in (2, 4))
    n = weight.numel()
    assert abs(weight.mean()) < 4 * math.sqrt(variance / n)
    error = variance * math.sqrt((float(fourth / second**2) - 1) / n)
    assert abs(weight.square().mean() - variance) < 4 * error
    edge = 2 * math.sqrt(variance / float(second))
    assert 0.98 * edge < weight.abs().max() <= edge * (1 + 1e-6)


def test_snip_is_vs_l_bit_for_bit():
    one, other = (pv.models.create("resnet20", init=init, seed=3).state_dict() for init in ("snip", "vs_l"))
    assert all(torch.equal(one[name], other[name]) for name in one)


# Orthogonal matrices and kernels.

KERNELS = {
    "square": (lambda: nn.Conv2d(4, 4, 3), 1),
    "wider": (lambda: nn.Conv2d(3, 5, 3), 1),
    "narrower": (lambda: nn.Conv2d(5, 2, 3), 1),
    "even": (lambda: nn.Conv2d(3, 4, (2, 4)), 1),
    "oblong": (lambda: nn.Conv2d(2, 3, (1, 5)), 1),
    "one by one": (lambda: nn.Conv2d(3, 4, 1), 1),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), 2),
    "depthwise": (lambda: nn.Conv2d(3, 3, 3, groups=3), 3),
}


@pytest.mark.parametrize("rule", ["orthogonal", "orthogonal_full"])
@pytest.mark.parametrize("shape", [(30, 30), (40, 25), (25, 40), (1, 7)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_matrices_have_no_singular_value_but_one(shape, rule):
    weight = drawn(nn.Linear(*shape), rule)
    ones = torch.ones(min(shape), dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(weight.double()), ones, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["orthogonal", "orthogonal_full"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_convolutions_on_a_torus_have_no_singular_value_but_one(kernel, rule):
    build, groups = KERNELS[kernel]
    weight = drawn(build(), rule).double()
    matrix = reference.convolution_matrix(weight, 5, 6, groups)
    ones = torch.ones(min(matrix.shape), dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(matrix), ones, rtol=0, atol=1e-5)
    # The dense matrix is the one of PyTorch's convolution.
    x = torch.randn(2, weight.shape[1] * groups, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = [(size - 1) // 2 for size in weight.shape[2:]]
    after = [size // 2 for size in weight.shape[2:]]
    y = F.conv2d(F.pad(x, (before[1], after[1], before[0], after[0]), mode="circular"), weight, groups=groups)
    torch.testing.assert_close(y.flatten(1), x.flatten(1) @ matrix.T)
    if matrix.shape[0] >= matrix.shape[1]:
        torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_delta_kernels_are_zero_off_the_centre_and_full_kernels_are_not(kernel):
    layer = KERNELS[kernel][0]()
    weight = drawn(layer, "orthogonal")
    row, column = ((size - 1) // 2 for size in weight.shape[2:])
    assert bool((weight[:, :, row, column] != 0).all())
    assert int((weight != 0).sum()) == weight[:, :, 0, 0].numel()
    if min(weight.shape[:2]) > 1:  # a random half of one channel is all of it or nothing
        assert bool((drawn(layer, "orthogonal_full")[:, :, 0, 0] != 0).any())


@pytest.mark.parametrize(("rule", "fewest", "most"), [("orthogonal", 1 / 9, 1 / 9), ("orthogonal_full", 0.999, 1)])
def test_a_score_with_the_weight_as_a_factor_sees_the_centre_of_delta_kernels_only(rule, fewest, most):
    weight = drawn(nn.Conv2d(32, 48, 3), rule)
    assert fewest <= float((weight != 0).double().mean()) <= most


@pytest.mark.parametrize("rule", ["orthogonal", "orthogonal_full"])
def test_every_direction_is_equally_likely(rule):
    """A QR decomposition whose signs are left as they fall prefers some: its first entry is never positive."""
    layer = nn.Conv2d(3, 3, 1)
    entries = torch.stack([drawn(layer, rule, seed).flatten() for seed in range(200)]).double()
    # Each entry of a uniformly drawn 3 x 3 matrix has mean 0 and variance 1/3.
    assert entries.mean(0).abs().max() < 4.5 * math.sqrt(1 / 3 / 200)
    # Its square has mean 1/3 and variance 3 / 15 - 1/9.
    assert (entries.square().mean(0) - 1 / 3).abs().max() < 4.5 * math.sqrt((3 / 15 - 1 / 9) / 200)


def test_groups_are_drawn_independently():
    first, second = drawn(nn.Conv2d(16, 16, 1, groups=2), "orthogonal")[:, :, 0, 0].chunk(2)
    assert not torch.equal(first, second)
    assert abs(float((first * second).sum())) < 4  # the trace of a uniformly drawn orthogonal matrix has deviation 1


@pytest.mark.parametrize("init", ["vs_l", "vs_g", "vs_h", "orthogonal", "orthogonal_full"])
def test_networks_and_cells_know_the_rules(init):
    assert init in pv.models.INITS
    model = pv.models.create("lenet5", input_shape=(1, 16, 16), init=init, width=0.5)
    assert model(torch.randn(2, 1, 16, 16)).isfinite().all()
    assert pv.Cell(init=init).init == init


# How far a layer is from an isometry.


def parts(model: nn.Module, name: str) -> int:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    return 3 if attribute == "in_proj_weight" else getattr(module, "groups", 1)


def ones_for(model: nn.Module) -> pv.Masks:
    return {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in isometry_distance(model)}


def some(model: nn.Module, density: float, seed: int = 5) -> pv.Masks:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(m.shape, generator=generator) < density for n, m in ones_for(model).items()}


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", networks.IDS)
def test_distance_is_that_of_a_loop_over_pairs(name, masked):
    model = networks.model(name)
    masks = some(model, 0.6) if masked else None
    measured = isometry_distance(model, masks)
    assert set(measured) == set(networks.problem(name).names)
    for layer, value in measured.items():
        weight = model.get_parameter(layer).detach()
        weight = weight * masks[layer] if masked else weight
        assert value == pytest.approx(float(reference.distance(weight, parts(model, layer))), rel=1e-12)


def test_the_longer_side_is_farther_by_the_difference_of_the_sides():
    layer = nn.Linear(7, 12).double()
    short = isometry_distance(layer)["weight"]
    weight = layer.weight.detach()
    long = float((weight @ weight.T - torch.eye(12)).norm())
    assert short**2 == pytest.approx(long**2 - 5, rel=1e-12)


def test_the_distance_of_orthogonal_matrices_is_rounding_and_of_nothing_the_root_of_the_side():
    layer = nn.Conv2d(8, 8, 3, groups=2)
    drawn(layer, "orthogonal")
    assert isometry_distance(layer)["weight"] < 1e-5
    nothing = {"weight": torch.zeros(8, 4, 3, 3, dtype=torch.bool)}
    assert isometry_distance(layer, nothing) == {"weight": math.sqrt(8)}


def test_a_delta_kernel_with_more_outputs_than_inputs_is_no_isometry_in_the_measure_of_the_paper():
    layer = nn.Conv2d(4, 7, 3)
    drawn(layer, "orthogonal")
    # The 7 x 36 matrix has rank 4: three rows of its Gram matrix are missing.
    assert isometry_distance(layer)["weight"] == pytest.approx(math.sqrt(3), rel=1e-5)


def test_attention_projections_are_three_matrices():
    attention = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        for part in attention.in_proj_weight.chunk(3):
            nn.init.orthogonal_(part, generator=torch.Generator().manual_seed(0))
    assert (
        isometry_distance(attention, {"in_proj_weight": torch.ones(12, 4, dtype=torch.bool)})["in_proj_weight"] < 1e-5
    )


# Approximate isometry.


def untouched(model: nn.Module) -> dict[str, object]:
    state = {name: (t.detach().clone(), t.requires_grad, t.grad) for name, t in model.named_parameters()}
    state.update({name: t.clone() for name, t in model.named_buffers()})
    return {**state, "modes": [m.training for m in model.modules()], "random": torch.get_rng_state()}


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    return str(one) == str(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else True
        for a, b in zip(
            (v[0] if isinstance(v, tuple) else v for v in one.values()),
            (v[0] if isinstance(v, tuple) else v for v in other.values()),
            strict=True,
        )
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", networks.IDS)
def test_layers_that_keep_everything_become_orthogonal(name, dtype):
    model = networks.model(name, dtype=dtype)
    result = approximate_isometry(model, ones_for(model))
    for layer, weight in result.weights.items():
        assert weight.dtype == dtype
        assert weight.is_contiguous()
        groups = parts(model, layer)
        for matrix in reference.blocks_of(weight.double(), groups):
            side = min(matrix.shape)
            values = torch.linalg.svdvals(matrix)
            torch.testing.assert_close(
                values, torch.ones(side, dtype=torch.float64), rtol=0, atol=2e-4 * math.sqrt(side * groups)
            )
        assert result.converged[layer]
    assert result.distance == isometry_distance_of(model, result.weights)
    assert result.collapsed == ()


def isometry_distance_of(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, float]:
    moved = copy.deepcopy(model)
    moved.load_state_dict(weights, strict=False)
    return isometry_distance(moved, {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()})


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_matrix_that_keeps_everything_keeps_its_singular_vectors(shape):
    """Independent of the descent: every gradient is U h(S) V^T, so what is reached is U V^T up to signs."""
    layer = nn.Linear(*shape).double()
    with torch.no_grad():
        layer.weight.copy_(
            torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        )
    u, _, vh = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    reached = approximate_isometry(layer, {"weight": torch.ones_like(layer.weight, dtype=torch.bool)}, tolerance=1e-9)
    turned = u.T @ reached.weights["weight"] @ vh.T
    torch.testing.assert_close(turned.abs(), torch.eye(min(shape), dtype=torch.float64), rtol=0, atol=1e-7)


def test_single_rows_are_divided_by_their_norm():
    """A closed form: a depthwise kernel's matrices have one row each, and the nearest unit row points the same way."""
    layer = nn.Conv2d(4, 4, 3, groups=4).double()
    mask = some(layer, 0.6)["weight"]
    result = approximate_isometry(layer, {"weight": mask}, tolerance=1e-10)
    masked = layer.weight.detach() * mask
    expected = masked / masked.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(result.weights["weight"].abs(), expected.abs(), rtol=0, atol=1e-9)


def test_a_diagonal_mask_leaves_signs_and_rows_that_share_their_only_column_share_its_length():
    layer = nn.Linear(3, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 5, 5], [5, -0.3, 5], [5, 5, 1]]))
    result = approximate_isometry(layer, {"weight": torch.eye(3, dtype=torch.bool)}, tolerance=1e-10)
    torch.testing.assert_close(result.weights["weight"].abs(), torch.eye(3).double(), atol=1e-9, rtol=0)
    # Rows a and b in one column: (a^2 - 1)^2 + (b^2 - 1)^2 + 2 a^2 b^2 = (a^2 + b^2 - 1)^2 + 1 is 1 on a circle.
    column = torch.zeros(3, 3, dtype=torch.bool)
    column[:2, 0] = column[2, 1] = True
    result = approximate_isometry(layer, {"weight": column}, tolerance=1e-10)
    assert result.distance["weight"] == pytest.approx(1, abs=1e-9)
    assert float(result.weights["weight"][:2, 0].square().sum()) == pytest.approx(1, abs=1e-4)


TWINS = {
    "linear": lambda: nn.Linear(9, 6),
    "conv": lambda: nn.Conv2d(3, 8, 3),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "conv3d": lambda: nn.Conv3d(2, 5, 2),
}
TWINS_BY_LOOPS = {
    "grouped": (lambda: nn.Conv2d(4, 6, 2, groups=2), 2),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 2), 1),
    "more outputs": (lambda: nn.Linear(4, 7), 1),
}


@pytest.mark.parametrize("name", [*TWINS, *TWINS_BY_LOOPS])
def test_steps_of_fixed_length_are_those_of_the_authors(name):
    build, groups = (TWINS[name], None) if name in TWINS else TWINS_BY_LOOPS[name]
    layer = build().double()
    mask = some(layer, 0.7)["weight"]
    steps = 40
    result = approximate_isometry(layer, {"weight": mask}, lr=0.1, steps=steps, tolerance=0)
    history, best = reference.authors_descent(layer.weight.detach(), mask, steps, groups=groups)
    assert result.history["weight"] == pytest.approx(history, rel=1e-8)
    torch.testing.assert_close(result.weights["weight"], best, rtol=0, atol=1e-8)
    assert result.distance["weight"] == pytest.approx(min(history), rel=1e-8)


@pytest.mark.parametrize("density", [0.1, 0.4])
@pytest.mark.parametrize("name", [*TWINS, "wide"])
def test_the_authors_descent_gets_no_closer_than_this_one(name, density):
    """By more than a hundredth of the distance of a zero matrix; with other masks the two may end in other minima."""
    layer = (TWINS[name] if name in TWINS else lambda: nn.Conv2d(6, 16, 3))().double()
    mask = some(layer, density, seed=len(name))["weight"]
    ours = approximate_isometry(layer, {"weight": mask})
    history, _ = reference.authors_descent(layer.weight.detach(), mask, 1000)
    assert ours.distance["weight"] <= min(history) + 0.01 * math.sqrt(len(mask))
    assert ours.steps["weight"] < 1000


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(networks.IDS),
    density=st.floats(0.02, 1.0),
    lr=st.sampled_from([None, None, 0.1, 3.0]),
    seed=st.integers(0, 1000),
)
@example(name="transformer", density=0.59375, lr=None, seed=300)  # its gradient fades below the smallest number
def test_a_masked_layer_never_ends_farther_than_it_began_and_removed_weights_stay_zero(name, density, lr, seed):
    model = networks.model(name, dtype=torch.float32, seed=seed)
    masks = some(model, density, seed=seed)
    before = untouched(model)
    result = approximate_isometry(model, masks, steps=100, lr=lr)
    assert same(before, untouched(model))
    assert list(result.weights) == list(masks)
    assert result.initial == isometry_distance(model, masks)
    for layer, mask in masks.items():
        weight = result.weights[layer]
        assert weight.shape == mask.shape
        assert bool((weight[~mask] == 0).all())
        assert result.distance[layer] <= result.initial[layer] * (1 + 1e-6)
        lowest = min(result.history[layer])
        assert result.distance[layer] == pytest.approx(lowest, rel=1e-5, abs=1e-5)
        assert result.steps[layer] == len(result.history[layer]) - 1 <= 100
        # A row without weights adds 1 to the squared distance, whatever the others do.
        groups = parts(model, layer)
        for matrix in reference.blocks_of(mask, groups):
            shorter = 0 if matrix.shape[1] <= matrix.shape[0] else 1
            assert result.distance[layer] ** 2 >= int((~matrix.any(shorter)).sum()) - 1e-5


def test_singular_values_of_a_pruned_network_move_to_one():
    model = pv.models.create("resnet20", width=0.5)
    masks = pv.prune(pv.Problem(model, [(torch.randn(20, 3, 16, 16), torch.arange(20) % 10)]), "random", 0.8)
    result = approximate_isometry(model, masks)
    for layer, mask in masks.items():
        was, now = (
            torch.linalg.svdvals(w.detach().double().reshape(len(mask), -1)).sub(1).abs().mean()
            for w in (model.get_parameter(layer) * mask, result.weights[layer])
        )
        assert now < 0.5 * was, layer
    assert sum(result.distance.values()) < 0.1 * sum(result.initial.values())


def test_signals_pass_through_a_pruned_deep_linear_network_as_through_an_isometry():
    """Figure 2 of Lee et al. 2020: the singular values of the whole network's Jacobian; layers were made one by one."""
    sizes = [50] * 8
    model = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in itertools.pairwise(sizes)))
    initialize(model, RULES["orthogonal"], torch.Generator().manual_seed(0))
    masks = some(model, 0.25)

    def spread(weights: dict[str, torch.Tensor]) -> float:
        jacobian = torch.eye(50, dtype=torch.float64)
        for weight in weights.values():
            jacobian = weight.double() @ jacobian
        return float((torch.linalg.svdvals(jacobian) - 1).abs().mean())

    dense = {name: p.detach() for name, p in model.named_parameters()}
    assert spread(dense) < 1e-5
    assert spread({name: w * masks[name] for name, w in dense.items()}) > 0.9  # signals die out
    assert spread(approximate_isometry(model, masks).weights) < 0.1


def test_no_sparse_layer_gets_closer_than_its_mask_allows_and_most_get_that_close():
    """Independent of the descent: a matching of k rows and columns bounds the rank, so the square is at least n - k."""
    reached = []
    for seed in range(12):
        layer = nn.Linear(30, 20)
        drawn(layer, "vs_l", seed)
        mask = some(layer, 0.08, seed)["weight"]
        bound = math.sqrt(len(mask) - reference.matching(mask))
        distance = approximate_isometry(layer, {"weight": mask}).distance["weight"]
        assert distance >= bound - 1e-6
        reached.append(distance < bound + 0.02)
    assert sum(reached) >= 8  # the others are local minima, in which a row or two gave up


def stops(history: tuple[float, ...], side: int, tolerance: float) -> bool:
    """The rule as the documentation states it, of a path that never rises."""
    small = tolerance * math.sqrt(side)
    return history[-1] <= small or (len(history) > WINDOW and history[-1 - WINDOW] - history[-1] <= small)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("density", [0.05, 0.15, 0.9])
def test_a_layer_stops_at_the_first_step_at_which_the_rule_holds(density, tolerance):
    layer = nn.Conv2d(8, 16, 3).double()
    result = approximate_isometry(layer, some(layer, density), tolerance=tolerance)
    history = result.history["weight"]
    assert result.converged["weight"]
    assert stops(history, 16, tolerance)
    assert not any(stops(history[:end], 16, tolerance) for end in range(1, len(history)))
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(history))
    again = approximate_isometry(layer, some(layer, density), tolerance=tolerance, steps=3)
    assert again.steps == {"weight": 3}
    assert again.history["weight"] == history[:4]
    assert not again.converged["weight"]


def test_conjugate_directions_take_a_fraction_of_the_steps_of_steepest_descent(monkeypatch):
    layer = nn.Linear(40, 40)
    drawn(layer, "vs_l")
    masks = some(layer, 0.3)
    conjugate = approximate_isometry(layer, masks)
    monkeypatch.setattr(room, "_conjugate", lambda gradient, before, direction: -gradient)
    steepest = approximate_isometry(layer, masks, steps=3 * conjugate.steps["weight"])
    assert steepest.history["weight"][-1] > 2 * conjugate.history["weight"][-1]


def test_a_layer_that_is_orthogonal_takes_no_step_and_one_of_zeros_cannot():
    layer = nn.Linear(6, 6)
    weight = drawn(layer, "orthogonal").clone()
    mask = {"weight": torch.ones(6, 6, dtype=torch.bool)}
    result = approximate_isometry(layer, mask)
    assert result.steps == {"weight": 0}
    assert torch.equal(result.weights["weight"], weight)
    nn.init.zeros_(layer.weight)  # a saddle: no direction is better than another
    result = approximate_isometry(layer, mask)
    assert (result.steps, result.converged) == ({"weight": 0}, {"weight": True})
    assert not result.weights["weight"].any()


def test_layers_that_keep_nothing_are_reported():
    model = networks.model("residual")
    masks = some(model, 0.7)
    masks["conv2.weight"] = torch.zeros_like(masks["conv2.weight"])
    result = approximate_isometry(model, masks)
    assert result.collapsed == ("conv2.weight",)
    assert result.distance["conv2.weight"] == result.initial["conv2.weight"] == pytest.approx(math.sqrt(3))
    assert not result.weights["conv2.weight"].any()
    assert result.steps["conv2.weight"] == 0
    assert approximate_isometry(model, {}).weights == {}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e5])
def test_the_scale_of_the_weights_does_not_matter(scale):
    layer = nn.Conv2d(8, 16, 3)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
    mask = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    result = approximate_isometry(layer, {"weight": mask})
    assert result.distance["weight"] < 1e-3
    assert result.steps["weight"] < 50


def test_each_layer_is_on_its_own_and_the_result_is_repeatable():
    model = networks.model("residual", dtype=torch.float32)
    masks = some(model, 0.5)
    together, again = (approximate_isometry(model, masks) for _ in range(2))
    for layer, mask in masks.items():
        alone = approximate_isometry(model, {layer: mask})
        assert torch.equal(alone.weights[layer], together.weights[layer])
        assert torch.equal(again.weights[layer], together.weights[layer])
        assert alone.history[layer] == together.history[layer]


@pytest.mark.parametrize("name", ["residual", "tied", "conv_transpose"])
def test_the_weights_load_in_one_line(name):
    model = networks.model(name)
    masks = some(model, 0.6)
    result = approximate_isometry(model, masks)
    model.load_state_dict(result.weights, strict=False)
    assert isometry_distance(model) == pytest.approx(result.distance)
    loaded = {layer: model.get_parameter(layer).detach().clone() for layer in masks}
    pv.apply(model, masks)
    assert all(torch.equal(model.get_parameter(layer), weight) for layer, weight in loaded.items())


def test_it_does_not_matter_that_the_caller_computes_without_gradients_or_in_another_precision():
    model = networks.model("conv_bn", dtype=torch.float32)
    masks = some(model, 0.5)
    expected = approximate_isometry(model, masks).weights
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        weights = approximate_isometry(model, masks).weights
    assert all(torch.equal(weights[layer], expected[layer]) for layer in masks)
    assert not any(weight.requires_grad or weight.is_inference() for weight in weights.values())


def test_an_interrupt_leaves_the_model_and_the_state_of_torch_as_they_were(monkeypatch):
    model = networks.model("residual", dtype=torch.float32)
    masks = some(model, 0.5)
    before, gradients = untouched(model), torch.is_grad_enabled()
    step, calls = room._exact_step, []

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(room, "_exact_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        approximate_isometry(model, masks)
    assert same(before, untouched(model))
    assert torch.is_grad_enabled() is gradients


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only_and_when_asked_for(monkeypatch):
    layer = nn.Conv2d(8, 16, 3)
    masks = some(layer, 0.1)
    shown = []
    for stream, wanted in [(Terminal(), True), (Terminal(), False), (io.StringIO(), True)]:
        monkeypatch.setattr(sys, "stderr", stream)
        approximate_isometry(layer, masks, tolerance=1e-5, progress=wanted)
        shown.append(stream.getvalue())
    assert "weight" in shown[0]
    assert "1/1" in shown[0]
    assert "distance" in shown[0]
    assert shown[1:] == ["", ""]


FULL = torch.ones(3, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": {"weigth": FULL}}, "the mask names 'weigth', which is no parameter of the model"),
        ({"masks": {"weight": FULL[:2]}}, r"the mask of 'weight' has shape \(2, 3\)"),
        ({"masks": {"weight": FULL.float()}}, "torch.bool"),
        ({"masks": [FULL]}, "masks is a list"),
        ({"masks": {"bias": FULL[0]}}, r"'bias' has shape \(3,\); a matrix or a kernel"),
        ({"steps": 0}, "steps 0"),
        ({"steps": 1.5}, "steps 1.5"),
        ({"tolerance": -1e-3}, "tolerance -0.001"),
        ({"tolerance": math.nan}, "tolerance nan"),
        ({"lr": 0}, "lr 0"),
        ({"lr": "0.1"}, "lr '0.1'"),
        ({"model": nn.Linear(3, 3).half()}, "torch.float32 or torch.float64"),
        ({"model": "resnet20"}, "model is a str"),
    ],
)
def test_bad_arguments_give_one_clear_line(arguments, message):
    model = arguments.pop("model", nn.Linear(3, 3))
    with pytest.raises(InputError, match=message) as caught:
        approximate_isometry(model, **{"masks": {"weight": FULL}, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30, 1e10])
def test_weights_that_cannot_be_squared_are_named_unless_they_are_removed(value):
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight[1, 2] = value
    with pytest.raises(InputError, match="'weight' holds weights that are not finite, or too large"):
        approximate_isometry(layer, {"weight": FULL})
    mask = FULL.clone()
    mask[1, 2] = False
    assert approximate_isometry(layer, {"weight": mask}).distance["weight"] < 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gets_as_close_and_gives_weights_where_they_were():
    model = pv.models.create("resnet20", width=0.5)
    masks = some(model, 0.3)
    here = approximate_isometry(model, masks)
    there = approximate_isometry(model.cuda(), masks)
    assert all(weight.is_cuda for weight in there.weights.values())
    for layer in masks:
        # The paths part by rounding; what they reach differs by less than the stopping rule leaves open.
        assert there.distance[layer] == pytest.approx(here.distance[layer], abs=5e-3 * math.sqrt(len(masks[layer])))
