"""Torchvision's networks at small images: every scorer runs on them, and its scores are the right ones.

The evidence is torch itself: `backward` and double `backward` on the module, without the library's functional calls.
"""

from __future__ import annotations

import copy
import math

import networks
import pytest
import reference
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import pruneviz as pv

BUILD = {
    "resnet50": lambda: torchvision.models.resnet50(num_classes=10),
    "vgg16_bn": lambda: torchvision.models.vgg16_bn(num_classes=10, dropout=0.0),
    "convnext_tiny": lambda: torchvision.models.convnext_tiny(num_classes=10),
    "vit_b_16": lambda: torchvision.models.vit_b_16(image_size=32, num_classes=10),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
}
# Counted by hand from the tables of the papers: convolutions, linear layers, attention's projections.
LAYERS = {"resnet50": 53 + 1, "vgg16_bn": 13 + 3, "convnext_tiny": 4 + 18 * 3 + 1, "vit_b_16": 1 + 12 * 4 + 1}
SMALL = ("vit_b_16", "mobilenet_v3_small")


def network(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BUILD[name]()
        if name == "vit_b_16":  # torchvision starts its head at zero, and then no gradient reaches the other layers
            nn.init.normal_(model.heads.head.weight, std=0.02)
    return model


def batch(seed: int = 0, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10


class Shift(nn.Module):
    def forward(self, x):
        return x + 3


class Sixth(nn.Module):
    def forward(self, x):
        return x / 6


def plain(problem: pv.Problem) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """|w g| and w H g of the loss of the only batch, by double backward on a copy of the module."""
    model = copy.deepcopy(problem.model)
    for module in model.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
    weights = [model.get_parameter(name) for name in problem.names]
    ((x, y),) = problem.batches
    for parent in list(model.modules()):
        for child, module in parent.named_children():
            if isinstance(module, nn.Hardsigmoid):  # torch has no second derivative of it
                setattr(parent, child, nn.Sequential(Shift(), nn.ReLU6(), Sixth()))
    with sdpa_kernel(SDPBackend.MATH):
        gradient = torch.autograd.grad(F.cross_entropy(model(x), y), weights, create_graph=True)
        half = sum((g * g).sum() for g in gradient) / 2
        product = torch.autograd.grad(half, weights)
    snip = {n: (w * g).detach().abs() for n, w, g in zip(problem.names, weights, gradient, strict=True)}
    return snip, {n: (w * h).detach() for n, w, h in zip(problem.names, weights, product, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BUILD))
def test_snip_and_grasp_on_the_networks_that_people_use(name):
    model, (x, y) = network(name), batch()
    if name == "resnet50":  # 53 batch normalizations of few pixels: float32 is off by a tenth, whatever computes it
        model, x = model.double(), x.double()
    problem = pv.Problem(model, [(x, y)])
    if name in LAYERS:
        assert len(problem.names) == LAYERS[name]
    snip, grasp = plain(problem)
    networks.close(pv.score("snip", problem), snip, rtol=1e-5)
    scores = pv.score("grasp", problem, temperature=1.0)
    networks.close(scores, grasp, rtol=1e-3)
    masks = pv.allocate(scores, 0.9, minimum=1)
    assert pv.masks.kept(masks) == round((1 - 0.9) * pv.masks.total(masks))
    assert not pv.masks.collapsed(masks)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [name for name in pv.scorers() if name not in ("snip", "grasp")])
@pytest.mark.parametrize("name", SMALL)
def test_every_other_scorer_on_a_transformer_and_a_mobile_network(name, scorer):
    problem = pv.Problem(network(name), [batch(0), batch(1)])
    scores = networks.score(scorer, problem)
    assert all(s.shape == problem.weights[layer].shape for layer, s in scores.items())
    silent = {layer for layer, s in scores.items() if not s.any()}
    if (name, scorer) == ("mobilenet_v3_small", "synflow"):
        # The flow of absolute weights saturates the hard sigmoids of squeeze and excitation: no derivative passes.
        assert silent == {layer for layer in scores if ".fc" in layer}
    else:
        assert not silent


def test_a_head_that_starts_at_zero_is_said_to_leave_nothing_to_rank():
    problem = networks.problem("transformer")
    with torch.no_grad():
        problem.model.head.weight.zero_()
    with pytest.warns(UserWarning, match="'snip' gives every weight the score 0, .* a last layer that starts at zero"):
        pv.score("snip", problem)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_hard_sigmoid_can_be_differentiated_twice_and_keeps_its_values(inplace):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6, bias=False)

        def forward(self, x):
            gate = 3 * self.fc(x)
            opened = F.hardsigmoid(gate, inplace)
            return x * (gate if inplace else opened)

    generator = torch.Generator().manual_seed(0)
    model = Gate().double()
    with torch.no_grad():
        model.fc.weight.normal_(generator=generator)
    x = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    problem = pv.Problem(model, [(x, torch.arange(8) % 6)])
    assert problem.gradient(problem.weights)[0] == pytest.approx(F.cross_entropy(model(x), torch.arange(8) % 6).item())
    networks.close(
        pv.score("grasp", problem, temperature=1.0), reference.grasp_by_differences(problem, temperature=1.0), rtol=1e-6
    )


def test_the_packed_projection_of_attention_is_one_matrix_of_connections():
    problem = networks.problem("attention")
    assert problem.names[0] == "own.in_proj_weight"
    assert problem.weights["own.in_proj_weight"].shape == (12, 4)
    masks = pv.prune(problem, "snip", 0.5)
    pv.apply(problem.model, masks)
    assert not problem.model.own.in_proj_weight[~masks["own.in_proj_weight"]].any()


def test_frozen_parameters_are_scored_like_all_others():
    plain, frozen = networks.problem("conv_bn"), networks.problem("conv_bn")
    for parameter in frozen.model.parameters():
        parameter.requires_grad_(False)
    for scorer in ("snip", "grasp", "synflow"):
        networks.close(pv.score(scorer, frozen), pv.score(scorer, plain), rtol=1e-12)
    assert not any(p.requires_grad for p in frozen.model.parameters())


def test_a_weight_that_two_modules_share_counts_once():
    problem = networks.problem("tied")
    assert problem.names == ("encode.weight", "head.weight")
    masks = pv.prune(problem, "magnitude", 0.5)
    assert pv.masks.total(masks) == sum(math.prod(w.shape) for w in problem.weights.values()) == 32
    pv.apply(problem.model, masks)
    assert problem.model.decode.weight is problem.model.encode.weight
    assert int((problem.model.decode.weight == 0).sum()) == int((~masks["encode.weight"]).sum())
