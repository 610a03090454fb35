"""Hessian products against dense Hessians, plain double backward, another library and finite differences.

The fast road (`twice.py`) rewrites the derivatives of convolutions and batch normalization, so it is checked three
times: by torch's own differences of second derivatives, against the usual road of autograd on every network, and, as
part of whole products, against Hessians that share no code with it.
"""

import copy
from itertools import pairwise

import networks
import pytest
import reference
import torch
import torch.nn.functional as F
from measure import peak_bytes
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.scorers.difference import difference_product
from pruneviz.scorers.hvp import hessian_product
from pruneviz.scorers.kinks import held_kinks
from pruneviz.scorers.twice import fast_second_derivatives

PRODUCTS = {"exact": hessian_product, "difference": difference_product}


def random_vector(values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w) for n, w in values.items()}


def plain_product(problem, values, direction, temperature=1.0):
    """<v, gradient> differentiated once more by torch alone, on a copy of the model; all batches in one graph."""
    model = copy.deepcopy(problem.model)
    for module in model.modules():
        module.training = problem.batchnorm == "train" and isinstance(module, nn.modules.batchnorm._BatchNorm)
    leaves = {n: w.detach().clone().requires_grad_() for n, w in values.items()}
    with sdpa_kernel(SDPBackend.MATH):
        losses = [
            problem.loss_function(functional_call(model, leaves, (x,)) / temperature, y) for x, y in problem.batches
        ]
        gradient = torch.autograd.grad(
            sum(losses), list(leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        direction = direction({n: g.detach() for n, g in zip(leaves, gradient, strict=True)})
        inner = sum((g * direction[n]).sum() for n, g in zip(leaves, gradient, strict=True))
        product = torch.autograd.grad(inner, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, product, strict=True))


def relative(value, expected):
    value, expected = reference.flat(value).double(), reference.flat(expected).double()
    return float((value - expected).norm() / expected.norm())


# The product -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_a_product_with_any_vector_is_that_of_the_dense_hessian(name, batchnorm):
    problem = networks.problem(name, batchnorm=batchnorm)
    v = random_vector(problem.weights)
    found = hessian_product(problem, problem.weights, v, temperature=2.0)
    network = reference.Network(problem)
    point = reference.flat(network.dense)
    expected = network.hessian(point, temperature=2.0) @ reference.flat(v)
    networks.close(found.product, reference.unflat(expected, network.dense), rtol=1e-10)
    networks.close(found.gradient, reference.unflat(network.gradient(point, None, 2.0), network.dense), rtol=1e-10)
    assert found.loss == pytest.approx(float(network.loss(network.values(), None, 2.0).detach()), rel=1e-12)


@pytest.mark.parametrize("along", ["any vector", "the gradient"])
@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_the_fast_road_is_the_usual_road_for_all_parameters(name, batchnorm, along):
    problem = networks.problem(name, batchnorm=batchnorm)
    values = problem.parameters
    v = random_vector(values)
    direction = v if along == "any vector" else lambda gradient: gradient
    expected = plain_product(problem, values, lambda gradient: v if along == "any vector" else gradient)
    networks.close(hessian_product(problem, values, direction).product, expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["conv_bn", "residual", "depthwise", "grouped"])
def test_channels_last_in_float32_is_the_usual_road_to_its_rounding(name):
    exact, single = (networks.problem(name, sizes=(40, 40), dtype=d) for d in (torch.float64, torch.float32))
    expected = plain_product(exact, exact.weights, lambda gradient: gradient)
    fast = hessian_product(single, single.weights, lambda gradient: gradient).product
    usual = plain_product(single, single.weights, lambda gradient: gradient)
    assert all(h.dtype == torch.float32 for h in fast.values())
    assert relative(fast, expected) < max(1e-6, 3.0 * relative(usual, expected))


@pytest.mark.parametrize("name", ["conv_bn", "tied", "transformer"])
def test_the_hessian_is_symmetric(name):
    problem = networks.problem(name)
    u, v = (random_vector(problem.weights, seed) for seed in (0, 1))
    hu, hv = (reference.flat(hessian_product(problem, problem.weights, w).product) for w in (u, v))
    assert float(reference.flat(u) @ hv) == pytest.approx(float(reference.flat(v) @ hu), rel=1e-10)


@pytest.mark.parametrize("sizes", [(6,), (5, 5, 5)], ids=["one_batch", "three_batches"])
@pytest.mark.parametrize("name", ["conv_bn", "residual", "depthwise", "transformer"])
def test_another_library_has_the_same_products(name, sizes):
    """It averages over all examples, where a problem adds up the means of its batches, which are equally long here."""
    curvlinops = pytest.importorskip("curvlinops")
    problem = networks.problem(name, sizes=sizes, batchnorm="eval")
    model = copy.deepcopy(problem.model).eval()
    weights = [p for n, p in model.named_parameters() if n in problem.names]
    with sdpa_kernel(SDPBackend.MATH):
        operator = curvlinops.HessianLinearOperator(model, nn.CrossEntropyLoss(), weights, list(problem.batches))
        v = random_vector(problem.weights)
        theirs = operator @ list(v.values())
    ours = hessian_product(problem, problem.weights, v).product
    networks.close(ours, {n: len(sizes) * h for n, h in zip(ours, theirs, strict=True)}, rtol=1e-10)


@pytest.mark.parametrize("product", list(PRODUCTS))
def test_a_direction_made_from_the_gradient_is_given_that_of_all_batches(product):
    problem = networks.problem("residual", sizes=(5, 4, 3))
    given = []

    def direction(gradient):
        given.append(gradient)
        return random_vector(gradient)

    found = PRODUCTS[product](problem, problem.weights, direction)
    loss, gradient = problem.gradient(problem.weights)
    assert len(given) == 1
    networks.close(given[0], gradient, rtol=1e-12)
    networks.close(found.gradient, gradient, rtol=1e-12)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    networks.close(found.product, PRODUCTS[product](problem, problem.weights, random_vector(gradient)).product)


def test_a_weight_without_a_second_derivative_has_a_product_of_zero_without_a_word(recwarn):
    problem = networks.problem("linear", loss=lambda output, y: output.mean())
    found = hessian_product(problem, problem.weights, random_vector(problem.weights))
    assert not found.product["weight"].any()
    assert found.gradient["weight"].any()
    assert not recwarn.list


def test_products_leave_the_model_as_it_was():
    for name in ("conv_bn", "buffers"):
        problem = networks.problem(name, dtype=torch.float32)
        before = copy.deepcopy(problem.model.state_dict())
        for product in PRODUCTS.values():
            product(problem, problem.weights, lambda gradient: gradient)
        assert all(torch.equal(value, before[n]) for n, value in problem.model.state_dict().items())
        assert all(p.grad is None for p in problem.model.parameters())


@pytest.mark.parametrize("mode", list(PRODUCTS))
def test_micro_batches_bound_the_memory_and_change_nothing_else(mode):
    """Activations outweigh the weights here by far. Two graphs alive at once would show at the first halving."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 3)
    )
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.1, generator=generator)
    batch = torch.randn(64, 3, 16, 16, generator=generator), torch.arange(64) % 3
    peaks, found = [], []
    for size in (None, 32, 16, 8):
        problem = pv.Problem(model, [batch], micro_batch=size)
        product = PRODUCTS[mode]
        peaks.append(peak_bytes(lambda p=problem, f=product: found.append(f(p, p.weights, lambda g: g).product)))
    for larger, smaller in pairwise(peaks):
        assert 0.45 <= smaller / larger <= 0.62
    for product in found[1:]:
        assert relative(product, found[0]) < (1e-5 if mode == "exact" else 0.01)


# Functions with cheap second derivatives ---------------------------------------------------------------------


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


CONVOLUTIONS = {
    "1d": (F.conv1d, (2, 3, 5), (4, 3, 3), {"padding": 1}),
    "2d": (F.conv2d, (2, 3, 4, 4), (2, 3, 3, 3), {"padding": 1}),
    "3d": (F.conv3d, (2, 2, 3, 3, 2), (2, 2, 2, 2, 2), {}),
    "strides": (F.conv2d, (2, 3, 5, 4), (2, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "one_number_in_a_list": (F.conv2d, (2, 3, 5, 5), (2, 3, 3, 3), {"stride": [2], "padding": [1]}),
    "dilated": (F.conv2d, (2, 3, 5, 5), (2, 3, 2, 2), {"dilation": 2}),
    "grouped": (F.conv2d, (2, 4, 4, 4), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": (F.conv2d, (2, 3, 4, 4), (3, 1, 3, 3), {"groups": 3}),
    "named_padding": (F.conv2d, (2, 3, 4, 4), (2, 3, 3, 3), {"padding": "same"}),
    "one_example": (F.conv2d, (3, 4, 4), (2, 3, 3, 3), {}),
    "more_weights_than_inputs": (F.conv2d, (1, 3, 3, 3), (4, 3, 3, 3), {"padding": 1}),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("name", list(CONVOLUTIONS))
def test_convolutions_have_the_right_second_derivatives(name, bias):
    function, x, w, options = CONVOLUTIONS[name]
    inputs = (numbers(*x), numbers(*w, seed=1), *([numbers(w[0], seed=2)] if bias else []))

    def convolved(*tensors):
        with fast_second_derivatives():
            return function(*tensors, **options)

    torch.testing.assert_close(convolved(*inputs), function(*inputs, **options), rtol=1e-12, atol=1e-12)
    assert gradcheck(convolved, inputs)
    assert gradgradcheck(convolved, inputs)
    fixed = (inputs[0].detach(), *inputs[1:])  # as in the first layer
    assert gradgradcheck(convolved, fixed)


@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(5, 2), (3, 2, 3), (2, 2, 3, 2), (2, 2, 2, 1, 2)])
def test_batch_normalization_has_the_right_second_derivatives(shape, training, affine):
    """With an epsilon as large as the variance, so that no term in it can be left out."""
    x = numbers(*shape)
    weight, bias = (numbers(2, seed=1 + i) if used else None for i, used in enumerate(affine))
    buffers = torch.tensor([[0.3, -1.0], [0.5, 2.0]], dtype=torch.float64)

    def normalized(*tensors):
        given = iter(tensors[1:])
        w, b = (next(given) if used else None for used in affine)
        mean, variance = buffers.clone()
        with fast_second_derivatives():
            return F.batch_norm(tensors[0], mean, variance, w, b, training, 0.1, 0.7)

    inputs = tuple(t for t in (x, weight, bias) if t is not None)
    usual = F.batch_norm(x, *buffers.clone(), weight, bias, training, 0.1, 0.7)
    torch.testing.assert_close(normalized(*inputs), usual, rtol=1e-12, atol=1e-12)
    assert gradcheck(normalized, inputs)
    assert gradgradcheck(normalized, inputs)


def test_batch_normalization_updates_the_same_running_statistics():
    x, plain, fast = numbers(3, 2, 4, 4), nn.BatchNorm2d(2, momentum=0.3).double(), nn.BatchNorm2d(2, momentum=0.3)
    fast.double()
    for _ in range(2):
        plain(x)
        with fast_second_derivatives():
            fast(x)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 4, 3, 3)),
        lambda: F.batch_norm(torch.ones(1, 2), None, None, training=True),
        lambda: F.batch_norm(torch.ones(3, 2), torch.ones(3), torch.ones(3)),
        lambda: F.batch_norm(torch.ones(3, 2), None, None),
        lambda: torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).view(7, -1),
    ],
)
def test_what_is_wrong_is_said_in_torchs_words(call):
    with pytest.raises((RuntimeError, ValueError)) as usual:
        call()
    with pytest.raises((RuntimeError, ValueError)) as here, fast_second_derivatives():
        call()
    if "view" not in str(usual.value):
        assert str(here.value) == str(usual.value)


class Viewing(nn.Module):
    """Written for feature maps in the usual order of memory."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 16, 3)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(len(x), -1))


def test_a_network_that_views_its_feature_maps_is_the_same_function():
    model = Viewing()
    x, y = torch.randn(10, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 3
    with fast_second_derivatives():
        torch.testing.assert_close(model(x), torch.func.functional_call(model, {}, (x,)))
        assert not model.conv(x).is_contiguous()  # or there would be nothing to see
    problem = pv.Problem(model, [(x, y)])
    expected = plain_product(problem, problem.weights, lambda gradient: gradient)
    assert relative(hessian_product(problem, problem.weights, lambda gradient: gradient).product, expected) < 1e-4


def test_a_third_derivative_is_refused_instead_of_wrong():
    x, w = numbers(2, 2, 3, 3), numbers(2, 2, 2, 2, seed=1)
    with fast_second_derivatives():
        (g,) = torch.autograd.grad(
            F.batch_norm(F.conv2d(x, w), None, None, training=True).pow(3).sum(), w, create_graph=True
        )
        with pytest.raises(RuntimeError, match="has no third ones"):
            torch.autograd.grad(g.square().sum(), w, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), w)
    assert float(h.abs().max()) > 0.1


# Held kinks and differences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.IDS)
def test_differences_are_the_exact_product_in_float64(name):
    problem = networks.problem(name, sizes=(6, 4))
    for direction in (random_vector(problem.weights), lambda gradient: gradient):
        exact = hessian_product(problem, problem.weights, direction).product
        assert relative(difference_product(problem, problem.weights, direction).product, exact) < 1e-5


ACTIVATIONS = {
    "relu": F.relu,
    "relu_function": torch.relu,
    "relu_method": lambda x: x.relu(),
    "relu_in_place": lambda x: F.relu(x.clone(), inplace=True),
    "relu_method_in_place": lambda x: x.clone().relu_(),
    "leaky_relu": F.leaky_relu,
    "leaky_relu_with_slope": lambda x: F.leaky_relu(x, 0.3),
    "relu6": nn.ReLU6(),
    "relu6_function": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.1, 1.1),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": nn.Hardswish(),
    "hardswish_in_place": lambda x: F.hardswish(x.clone(), inplace=True),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d_with_options": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    "max_pool2d_function": lambda x: torch.max_pool2d(x, 2, 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_held_activations_are_torchs_where_they_were_noted_and_smooth_beyond(name, dtype):
    function = ACTIVATIONS[name]
    x = (4.0 * numbers(2, 2, 7, 6)).detach().to(dtype).requires_grad_()
    usual = function(x)
    with held_kinks() as kinks:
        noted = function(x)
    assert len(kinks.decisions) == 1
    assert noted.dtype == dtype
    digits = 6 if dtype == torch.float32 else 7 if name == "hardsigmoid" else 13  # torch rounds its sixth to float32
    near = {"rtol": 10.0**-digits, "atol": 10.0**-digits}
    torch.testing.assert_close(noted, usual, **near)
    weights = torch.linspace(-1.0, 2.0, usual.numel(), dtype=dtype).view(usual.shape)
    slopes = [torch.autograd.grad((value * weights).sum(), x)[0] for value in (noted, usual)]
    torch.testing.assert_close(*slopes, **near)

    move = numbers(2, 2, 7, 6, seed=1).detach().to(dtype)
    third = ((1.0, 3.0), (-3.0, 2.0), (3.0, 1.0), (-1.0, 0.0))  # factors and steps of a third difference
    # On one piece it is a polynomial of degree 2 at most, however long the step: third differences vanish.
    moved = torch.zeros_like(usual)
    for factor, step in third:
        with held_kinks(kinks.decisions):
            moved += factor * function(x.detach() + step * move)
    assert float(moved.abs().max()) < (1e-4 if dtype == torch.float32 else 1e-12)
    free = sum(factor * function(x.detach() + step * move) for factor, step in third)
    assert float(free.abs().max()) > 0.1  # torch's own bends


def test_a_held_activation_in_place_changes_its_input():
    for function in (torch.relu_, lambda x: F.relu(x, inplace=True), nn.Hardswish(inplace=True)):
        x = numbers(3, 4).detach()
        usual = function(x.clone())
        with held_kinks():
            assert function(x) is x
        torch.testing.assert_close(x, usual, rtol=1e-13, atol=1e-13)


def test_a_network_that_changes_its_mind_is_refused():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.calls = nn.Linear(4, 3), 0

        def forward(self, x):
            self.calls += 1
            return self.fc(x.relu() if self.calls == 1 else x.relu().relu())

    problem = pv.Problem(Fickle(), networks.batches("linear", dtype=torch.float32)[:1])
    with pytest.raises(InputError, match="needs a network that runs the same operations"):
        difference_product(problem, problem.weights, lambda gradient: gradient)


def test_differences_on_resnet20_have_the_stated_error_only_because_kinks_are_held():
    generator = torch.Generator().manual_seed(0)
    model = pv.models.create("resnet20")
    problem = pv.Problem(model, [(torch.randn(30, 3, 32, 32, generator=generator), torch.arange(30) % 10)])
    weights = problem.weights
    exact = hessian_product(problem, weights, lambda gradient: gradient, temperature=200.0)
    held = difference_product(problem, weights, lambda gradient: gradient, temperature=200.0).product
    assert relative(held, exact.product) < 0.01
    ours, theirs = (reference.flat({n: weights[n] * h[n] for n in h}) for h in (held, exact.product))
    for sparsity in (0.9, 0.95, 0.98):
        keep = round((1 - sparsity) * len(ours))
        common = set(ours.topk(keep).indices.tolist()) & set(theirs.topk(keep).indices.tolist())
        assert len(common) >= 0.99 * keep

    def gradient_at(step):
        moved = {n: w + step * exact.gradient[n] for n, w in weights.items()}
        return problem.gradient(moved, temperature=200.0)[1]

    step = 3e-4 * float(reference.flat(weights).norm() / reference.flat(exact.gradient).norm())
    up, down = gradient_at(step), gradient_at(-step)
    free = {n: (up[n] - down[n]) / (2 * step) for n in up}
    assert relative(free, exact.product) > 1.0
