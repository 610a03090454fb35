"""Signal propagation: closed forms, matrices written out, finite differences, hooks on a copy; and purity."""

import math

import networks
import pytest
import reference_signal
import torch
import torch.nn.functional as F
from test_problem import Fuse, snapshot, unusual
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.probes.signal import PARTS, signal_propagation

OUTSIDE_OF_ATTENTION = [name for name in networks.IDS if name != "attention"]


def sequential(*layers, shape, n=3, seed=0, dtype=torch.float64, **options):
    """These layers with random weights, and random inputs and labels, as a problem."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return pv.Problem(model, [(x, torch.zeros(n, dtype=torch.long))], loss=mean_output, **options)


def mean_output(output, y):
    return output.square().flatten(1).sum(1).mean()


def operators(problem, masks=None, **options):
    return signal_propagation(problem, masks, "operators", **options).operators


def close(values, expected, atol=1e-10):
    torch.testing.assert_close(values, expected.to(values.dtype), rtol=0, atol=atol)


# Layers as operators --------------------------------------------------------------------------------------

SETTINGS = {
    "plain": (nn.Conv2d, (2, 3, 3), (5, 4), {}),
    "padded": (nn.Conv2d, (2, 3, 3), (4, 5), {"padding": 1}),
    "strided": (nn.Conv2d, (3, 2, 3), (6, 5), {"padding": 1, "stride": 2}),
    "dilated": (nn.Conv2d, (2, 2, 2), (5, 5), {"dilation": 2, "padding": 1}),
    "grouped": (nn.Conv2d, (4, 6, 3), (4, 4), {"groups": 2, "padding": 1}),
    "depthwise": (nn.Conv2d, (3, 3, 3), (4, 3), {"groups": 3, "padding": 1}),
    "one axis": (nn.Conv1d, (2, 4, 3), (7,), {"stride": 2, "padding": 1}),
    "three axes": (nn.Conv3d, (1, 2, 2), (3, 2, 3), {"padding": 1}),
    "transposed": (nn.ConvTranspose2d, (3, 2, 3), (3, 4), {"stride": 2, "padding": 1, "output_padding": 1}),
    "transposed groups": (nn.ConvTranspose1d, (4, 2, 3), (5,), {"stride": 3, "groups": 2, "dilation": 2}),
}


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", SETTINGS)
def test_singular_values_of_a_convolution_against_its_matrix_written_out(name, masked):
    kind, (c_in, c_out, k), size, settings = SETTINGS[name]
    problem = sequential(kind(c_in, c_out, k, **settings), shape=(c_in, *size))
    masks = networks.random_masks(problem) if masked else None
    found = operators(problem, masks)["0.weight"]
    weight = problem.masked_weights(masks)["0.weight"]
    matrix = reference_signal.convolution_matrix(weight, size, transposed="transposed" in name, **settings)
    expected = torch.linalg.svdvals(matrix)
    assert found.shape == tuple(matrix.shape)
    assert found.size == min(int(matrix.any(1).sum()), int(matrix.any(0).sum()))
    close(found.values, expected[: found.size])
    assert not expected[found.size :].gt(1e-10).any()
    assert (found.largest, found.smallest) == (float(found.values[0]), float(found.values[-1]))
    assert found.converged
    free = operators(problem, masks, budget=1, tolerance=1e-6)["0.weight"]  # without the matrix
    assert free.values is None
    assert (free.shape, free.size) == (found.shape, found.size)
    assert abs(free.largest - found.largest) <= free.largest_error + 1e-12
    assert abs(free.smallest - found.smallest) <= max(free.smallest_error, 1e-6)


def test_singular_values_of_a_circular_convolution_against_its_fourier_transform():
    problem = sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular"), shape=(3, 4, 5))
    found = operators(problem)["0.weight"]
    close(found.values, reference_signal.circular_singular_values(problem.weights["0.weight"], (4, 5)))
    assert found.shape == (40, 60)


def test_padding_before_a_convolution_is_part_of_it_whoever_writes_it():
    inside, before = (
        sequential(*layers, shape=(2, 4, 4))
        for layers in ([nn.Conv2d(2, 2, 3, padding=1)], [nn.ZeroPad2d(1), nn.Conv2d(2, 2, 3)])
    )
    with torch.no_grad():
        before.model[1].weight.copy_(inside.model[0].weight)
    close(operators(before)["1.weight"].values, operators(inside)["0.weight"].values)
    same = sequential(nn.Conv2d(2, 2, 3, padding="same"), shape=(2, 4, 4))
    assert operators(same)["0.weight"].values.equal(operators(inside)["0.weight"].values)


@pytest.mark.parametrize("budget", [1, 2**25], ids=["matrix-free", "exact"])
def test_orthogonal_layers_have_ones_and_scaled_ones_their_scale(budget):
    problem = sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(36, 36), shape=(4, 3, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, scale in (("0.weight", 1.0), ("2.weight", 3.0)):
            weight = problem.model.get_parameter(name)
            square = torch.randn(len(weight), len(weight), generator=generator, dtype=torch.float64)
            orthogonal = scale * torch.linalg.qr(square).Q
            if weight.dim() == 4:  # delta-orthogonal (Xiao et al. 2018): only the middle of the kernel
                weight.zero_()[:, :, 1, 1] = orthogonal
            else:
                weight.copy_(orthogonal)
    found = operators(problem, budget=budget)
    for name, scale in (("0.weight", 1.0), ("2.weight", 3.0)):
        assert (found[name].largest, found[name].smallest) == pytest.approx((scale, scale), rel=1e-9)
        assert found[name].size == 36
        assert found[name].converged


def test_large_operators_are_bounded_from_within_by_the_stated_errors():
    problem = sequential(nn.Conv2d(4, 5, 3, padding=1, stride=2), shape=(4, 16, 14))
    masks = networks.random_masks(problem, density=0.5)
    exact = operators(problem, masks)["0.weight"]
    assert exact.size > 200
    converged = operators(problem, masks, budget=1, tolerance=1e-3)["0.weight"]
    assert converged.converged
    assert converged.largest == pytest.approx(exact.largest, rel=1e-3)
    assert converged.smallest == pytest.approx(exact.smallest, abs=1e-3 * exact.largest)
    for iterations in (1, 5, 20):
        found = operators(problem, masks, budget=1, iterations=iterations, tolerance=1e-9)["0.weight"]
        assert not found.converged
        assert exact.smallest <= found.smallest * (1 + 1e-9)
        assert found.largest * (1 - 1e-9) <= exact.largest
        for value, error in ((found.largest, found.largest_error), (found.smallest, found.smallest_error)):
            assert float((exact.values - value).abs().min()) <= error + 1e-12


def test_removed_channels_and_layers_hold_no_singular_values():
    problem = sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1), shape=(3, 5, 5))
    masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in problem.weights.items()}
    masks["0.weight"][1] = masks["0.weight"][:, 2] = False
    masks["1.weight"][:] = False
    for budget in (1, 2**25):
        found = operators(problem, masks, budget=budget)
        assert found["0.weight"].shape == (100, 75)
        assert found["0.weight"].size == 50
        assert found["0.weight"].smallest > 0
        assert (found["1.weight"].size, found["1.weight"].largest, found["1.weight"].smallest) == (0, 0.0, 0.0)
        assert found["1.weight"].converged


def test_a_weight_on_two_input_sizes_is_two_operators():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(self.conv(x))[:, :, ::2])

    x = torch.randn(2, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    found = operators(pv.Problem(Twice(), [(x, torch.zeros(2))], loss=mean_output))
    assert {name: operator.shape for name, operator in found.items()} == {
        "conv.weight": (48, 48),
        "conv.weight (use 2)": (24, 24),
    }


def test_float32_weights_have_the_values_of_the_same_numbers_in_float64():
    single = networks.problem("residual", dtype=torch.float32)
    double = networks.problem("residual")
    with torch.no_grad():
        for p, q in zip(double.model.parameters(), single.model.parameters(), strict=True):
            p.copy_(q)
    for name, found in operators(single).items():
        assert found.values.equal(operators(double)[name].values)


# The input-output Jacobian --------------------------------------------------------------------------------


def jacobian(problem, masks=None, **options):
    return signal_propagation(problem, masks, ["jacobian"], **options).jacobian


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_jacobians_against_differences_of_the_outputs(name, batchnorm):
    problem = networks.problem(name, batchnorm=batchnorm)  # a choice that does not matter here
    masks = networks.random_masks(problem)
    expected = torch.linalg.svdvals(reference_signal.input_jacobians(problem, masks))
    found = jacobian(problem, masks)
    close(found.values, expected, atol=1e-8)
    assert float(expected.max()) > 1e-4
    assert found.mean == pytest.approx(float(found.values.mean()), rel=1e-12)
    assert (found.largest, found.smallest) == (float(found.values.max()), float(found.values.min()))
    spread = sum((v - found.mean) ** 2 for v in found.values.flatten().tolist()) / found.values.numel()
    assert found.std == pytest.approx(math.sqrt(spread), rel=1e-12)


def test_the_jacobian_of_a_linear_network_is_the_product_of_its_matrices():
    problem = sequential(nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3), shape=(5,), n=4)
    masks = networks.random_masks(problem)
    first, second, third = problem.masked_weights(masks).values()
    found = jacobian(problem, masks)
    close(found.values, torch.linalg.svdvals(third @ second @ first).expand(4, 3))


def test_an_orthogonal_linear_network_is_an_isometry():
    problem = sequential(nn.Linear(4, 4), nn.Linear(4, 4), shape=(4,))
    pv_weights = problem.model.state_dict()
    for weight in pv_weights.values():
        if weight.dim() == 2:
            weight.copy_(torch.linalg.qr(weight).Q)
    found = jacobian(problem)
    assert (found.mean, found.largest, found.smallest) == pytest.approx((1.0, 1.0, 1.0), rel=1e-12)
    assert found.std == pytest.approx(0.0, abs=1e-12)


def test_blocks_micro_batches_and_a_number_of_examples_do_not_change_the_values():
    model, batches = networks.model("conv_bn"), networks.batches("conv_bn")
    problem = pv.Problem(model, batches)
    whole = jacobian(problem).values
    assert whole.shape == (10, 3)
    close(jacobian(problem, budget=8 * 3 * 40 * 2).values, whole, atol=1e-13)
    close(jacobian(pv.Problem(model, batches, micro_batch=4)).values, whole, atol=1e-13)
    for n in (1, 6, 7, 99):
        close(jacobian(problem, examples=n).values, whole[:n], atol=1e-13)
        close(jacobian(pv.Problem(model, batches, micro_batch=4), examples=n).values, whole[:n], atol=1e-13)


def test_all_float_inputs_count_and_integers_do_not():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 2), nn.Linear(2, 3)

        def forward(self, x, token, more=None):
            return self.head(x + self.embed(token)) * 2 + more

    model = Model().double()
    batch = {"x": torch.randn(4, 2).double(), "token": torch.arange(4), "more": torch.randn(4, 3).double()}
    problem = pv.Problem(model, [batch], loss=lambda output, batch: output.square().mean())
    matrix = torch.cat([2 * problem.weights["head.weight"], torch.eye(3).double()], 1)
    close(jacobian(problem).values, torch.linalg.svdvals(matrix).expand(4, 3))


# Second moments and dead units ----------------------------------------------------------------------------


def layers(problem, masks=None):
    return signal_propagation(problem, masks, ["moments"]).layers


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", OUTSIDE_OF_ATTENTION)
def test_moments_against_hooks_on_a_copy(name, batchnorm):
    problem = networks.problem(name, batchnorm=batchnorm)
    masks = networks.random_masks(problem, density=0.9)
    found = layers(problem, masks)
    expected = reference_signal.second_moments(problem, masks)
    assert [key.partition(" (use ")[0] for key in found] == [key for key, _, _ in expected]
    for layer, (_, forward, backward) in zip(found.values(), expected, strict=True):
        assert (layer.forward, layer.backward) == pytest.approx((forward, backward), rel=1e-9)
        assert layer.forward > 0 < layer.backward


@pytest.mark.parametrize("inplace", [False, True])
def test_dead_units_and_moments_by_hand(inplace):
    # Units 1 and 3 see a positive number for one example; unit 2 never does; unit 4 is removed, and its bias is 0.
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0], [-1.0], [5.0]]))
        model[0].bias.copy_(torch.tensor([0.0, -3.0, 0.0, 0.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 1.0, 2.0, 1.0]]))
    x = torch.tensor([[1.0], [-2.0]]).double()
    problem = pv.Problem(model, [(x, x)], loss=lambda f, y: f.mean())
    found = layers(problem, {"0.weight": torch.tensor([[True], [True], [True], [False]])})
    first, second = found["0.weight"], found["2.weight"]
    assert (first.units, first.dead) == (4, 2)
    # Outputs (1, -2, -1, 0) and (-2, -5, 2, 0); derivatives (1/2, 0, 0, 0) and (0, 0, 1, 0).
    assert first.forward == pytest.approx((1 + 4 + 1 + 4 + 25 + 4) / 8, rel=1e-15)
    assert first.backward == pytest.approx((1 / 4 + 1) / 8, rel=1e-15)
    # f = 1 and 4.
    assert second.forward == pytest.approx((1 + 16) / 2, rel=1e-15)
    assert second.backward == pytest.approx(1 / 4, rel=1e-15)
    assert (second.units, second.dead) == (1, 0)


def test_a_unit_that_one_batch_wakes_is_not_dead_and_normalization_counts():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
        model[1].bias.copy_(torch.tensor([-0.5, -1.0]))
        model[1].running_mean.zero_()
    x = torch.zeros(2, 1, 2, 3).double()
    awake = x.clone()
    awake[1, 0, 1, 1] = 1.0
    for batches, dead in (([x], 2), ([x, awake], 1), ([awake, x], 1)):
        problem = pv.Problem(model, [(b, b) for b in batches], loss=lambda f, y: f.mean(), batchnorm="eval")
        assert (layers(problem)["0.weight"].units, layers(problem)["0.weight"].dead) == (2, dead)


def test_moments_of_pieces_add_up_to_those_of_the_whole():
    model, batches = networks.model("conv_bn"), networks.batches("conv_bn")
    whole = layers(pv.Problem(model, batches, batchnorm="eval"))
    cut = layers(pv.Problem(model, batches, batchnorm="eval", micro_batch=4))
    for name, layer in whole.items():
        assert (cut[name].forward, cut[name].backward) == pytest.approx((layer.forward, layer.backward), rel=1e-12)


# The model, and bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["conv_bn", "attention", "buffers", "tied"])
def test_nothing_of_the_model_changes(name, part):
    problem = unusual(name)
    before = snapshot(problem.model)
    signal_propagation(problem, networks.random_masks(problem), part, budget=2048)
    assert snapshot(problem.model) == before


@pytest.mark.parametrize("part", PARTS)
def test_nothing_changes_when_the_forward_raises(part):
    problem = unusual("conv_bn")
    fuse = Fuse()
    problem.model[4].register_forward_hook(lambda module, inputs, output: fuse(output))
    before = snapshot(problem.model)
    for calls in range(1 if part == "operators" else 2):
        fuse.left = calls
        with pytest.raises(RuntimeError, match="blown"):
            signal_propagation(problem, None, part)
        assert snapshot(problem.model) == before


def test_only_what_is_asked_for_is_there_and_all_by_default():
    problem = networks.problem("linear")
    result = signal_propagation(problem, parts=["moments"])
    assert result.jacobian is None
    assert not result.operators
    result = signal_propagation(problem)
    assert result.jacobian is not None
    assert list(result.operators) == list(result.layers) == ["weight"]
    with pytest.raises(AttributeError):
        result.jacobian = None


def test_what_cannot_be_used_is_one_line():
    problem = networks.problem("conv_bn")
    with pytest.raises(InputError, match="did you mean 'jacobian'"):
        signal_propagation(problem, parts=["jacobians"])
    with pytest.raises(
        InputError, match="budget 8 is less than the Jacobian of one example needs; accepted: at least 960"
    ):
        signal_propagation(problem, parts="jacobian", budget=8)
    with pytest.raises(InputError, match="examples 0 is not accepted"):
        signal_propagation(problem, examples=0)
    with pytest.raises(InputError, match="tolerance 0 is not accepted"):
        signal_propagation(problem, tolerance=0)
    with pytest.raises(InputError, match="is no parameter of the model"):
        signal_propagation(problem, {"no": torch.ones(1, dtype=torch.bool)})
    with torch.no_grad():
        problem.model[0].weight.fill_(1e200)
        problem.model[3].weight.fill_(1e200)
    with pytest.raises(InputError, match="outputs are not finite in batch 0"):
        jacobian(problem)
    with torch.no_grad():
        problem.model[3].weight[0] = math.nan
    with pytest.raises(InputError, match=r"'3\.weight' holds weights that are not finite"):
        operators(problem)


def test_examples_that_see_each_other_have_no_jacobian():
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    with pytest.raises(
        InputError, match=r"batch normalization '1' has no running statistics, so that no example has a"
    ):
        jacobian(sequential(nn.Linear(3, 4), norm, shape=(3,)))

    class Neighbours(nn.Linear):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    with pytest.raises(InputError, match=r"batch 0 change by \S+ with the example beside it, so that no example has a"):
        jacobian(sequential(Neighbours(3, 4), shape=(3,)))


def test_a_network_on_integers_has_no_jacobian():
    model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, 3))
    problem = pv.Problem(model, [(torch.arange(6).view(2, 3) % 5, torch.tensor([0, 1]))], loss=F.cross_entropy)
    with pytest.raises(InputError, match="no inputs of floating point"):
        jacobian(problem)
    assert list(layers(problem)) == ["2.weight"]


def test_inputs_that_examples_share_have_no_jacobian_per_example():
    class Scaled(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x * scale)

    for rows in (4, 1):
        scale = torch.ones(4) if rows == 4 else torch.ones(1, 4)
        problem = pv.Problem(Scaled(4, 3), [(torch.randn(6, 4), scale, torch.arange(6) % 3)])
        for examples in (None, 2):
            with pytest.raises(InputError, match=r"^the inputs of batch 0 differ in length, .*accepted: parts without"):
                signal_propagation(problem, parts="jacobian", examples=examples)
