"""The benchmark of probes compares like with like: every recipe gives the kernel, and the unit changes nothing."""

from __future__ import annotations

import networks
import pytest
import torch
from probes import exponent
from probes_case import resnet20, unit
from probes_large import eigenvectors
from probes_recipes import RECIPES, by_torch_func
from test_ntk import of_model, random, same

import pruneviz as pv
from pruneviz.probes import ntk


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_gives_the_kernel_of_the_masked_network(name):
    if "curvlinops" in name or "BackPACK" in name:
        pytest.importorskip("curvlinops")  # which brings the other along
    model = pv.models.create("resnet20", classes=3, width=0.25, input_shape=(3, 8, 8), seed=0).double()
    problem = of_model(model, random(4, 3, 8, 8))
    masks = networks.random_masks(problem, density=0.7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    same(RECIPES[name](model, problem.batches[0][0], masks), ntk(problem, masks).kernel, rtol=1e-10)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_recipe_in_parts_gives_the_same_kernel():
    problem, masks = resnet20(5, 0.05, "cpu")
    x = problem.batches[0][0]
    whole = by_torch_func(problem.model, x, masks)
    same(by_torch_func(problem.model, x, masks, at_once=2), whole, rtol=1e-5)


def test_the_unit_leaves_the_network_that_is_measured_as_it_is():
    problem, _ = resnet20(4, 0.05, "cpu")
    before = {key: value.clone() for key, value in problem.model.state_dict().items()}
    unit(problem)()
    unit(problem, at_once=2)()
    changed = {key for key, value in problem.model.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.endswith("num_batches_tracked") for key in changed)


def test_the_network_is_dense_with_the_statistics_of_the_masked_one():
    problem, masks = resnet20(6, 0.05, "cpu")
    assert all(bool((weight != 0).all()) for weight in problem.weights.values())
    first = problem.model.get_submodule(problem.names[0].removesuffix(".weight"))
    norm = next(module for module in problem.model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    y = torch.nn.functional.conv2d(
        problem.batches[0][0], first.weight * masks[problem.names[0]], stride=first.stride, padding=first.padding
    )
    torch.testing.assert_close(norm.running_mean, y.detach().mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, y.detach().var((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_a_power_law_has_its_exponent_and_eigenvectors_are_those_of_the_largest():
    assert exponent([1, 2, 4, 8], [3 * v**1.5 for v in (1, 2, 4, 8)]) == pytest.approx(1.5)
    j = random(20, 8)
    values, vectors = map(torch.from_numpy, eigenvectors(j @ j.T, 3))
    torch.testing.assert_close(values.flip(0), torch.linalg.eigvalsh(j @ j.T).flip(0)[:3])
    torch.testing.assert_close(j @ (j.T @ vectors), vectors * values)
