"""What a newcomer gets wrong: one clear line each, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

import networks
import pytest
import torch
from torch import nn

import pruneviz as pv


def digits() -> pv.data.ImageData:
    return pv.data.load("digits", fraction=0.1)


def tiny(classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 1, 8, 8, dtype=dtype), torch.arange(4)


RECIPE = pv.Recipe("once", epochs=1)
CASES: dict[str, tuple[Callable[[], object], str]] = {
    "model for problem": (lambda: pv.score("snip", tiny()), "wrap it: pruneviz.Problem"),
    "model for problem in prune": (lambda: pv.prune(tiny(), "snip", 0.5), "wrap it: pruneviz.Problem"),
    "no module": (lambda: pv.Problem("resnet20", [batch()]), "model is a str"),
    "data parallel": (lambda: pv.Problem(nn.DataParallel(tiny()), [batch()]), "model.module"),
    "lazy": (lambda: pv.Problem(nn.LazyLinear(3), [batch()]), "has no values yet"),
    "half": (lambda: pv.Problem(tiny().half(), [batch(torch.half)]), "torch.float32 or torch.float64"),
    "bfloat16": (lambda: pv.Problem(tiny().bfloat16(), [batch(torch.bfloat16)]), "torch.float32 or torch.float64"),
    "loss by name": (lambda: pv.Problem(tiny(), [batch()], loss="ce"), "loss is 'ce'"),
    "loss of a number": (
        lambda: pv.score("snip", pv.Problem(tiny(), [batch()], loss=lambda output, y: 0.5)),
        "the loss of batch 0 is a float",
    ),
    "prunable number": (lambda: pv.Problem(tiny(), [batch()], prunable=3), "prunable is 3"),
    "no second derivative": (
        lambda: pv.score("grasp", pv.Problem(tiny(), [batch()], loss=nn.functional.multi_margin_loss)),
        "needs second derivatives",
    ),
    "boolean scores": (lambda: pv.allocate({"w": torch.ones(4, dtype=torch.bool)}, 0.5), "torch.bool"),
    "complex scores": (lambda: pv.allocate({"w": torch.ones(4, dtype=torch.complex64)}, 0.5), "torch.complex64"),
    "list of scores": (lambda: pv.allocate([torch.ones(4)], 0.5), "scores is a list"),
    "list of masks": (lambda: pv.apply(tiny(), [torch.ones(4)]), "masks is a list"),
    "no masks": (lambda: pv.apply(tiny(), None), "masks is a NoneType"),
    "schedule": (lambda: pv.prune(networks.problem("conv_bn"), "snip", 0.5, schedule="exponentially:3"), "schedule"),
    "long schedule": (lambda: pv.schedule.parse("linear:" + "9" * 5000), "is not known"),
    "recipe": (lambda: pv.train(tiny(), None, digits(), "smok"), "did you mean 'smoke'"),
    "seed": (lambda: pv.train(tiny(), None, digits(), RECIPE, seed=-1), "seed -1"),
    "device": (lambda: pv.train(tiny(), None, digits(), RECIPE, device="gpu"), "device 'gpu'"),
    "device without memory": (lambda: pv.train(tiny(), None, digits(), RECIPE, device="meta"), "device 'meta'"),
    "double training": (lambda: pv.train(tiny().double(), None, digits(), RECIPE), "torch.float32"),
    "too few outputs": (lambda: pv.train(tiny(9), None, digits(), RECIPE), "at least 10"),
    "frozen": (lambda: pv.train(tiny().requires_grad_(False), None, digits(), RECIPE), "nothing to train"),
    "milestones in epochs": (lambda: pv.Recipe("r", epochs=160, milestones=(80, 120)), "milestone 80"),
    "momentum": (lambda: pv.Recipe("r", epochs=1, momentum=1.5), "momentum 1.5"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_that_says_what_is_wrong(name: str) -> None:
    call, words = CASES[name]
    with pytest.raises(pv.InputError) as caught:
        call()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_training_refused_changes_nothing() -> None:
    model = tiny(9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(pv.InputError):
        pv.train(model, None, digits(), RECIPE)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_names_do_where_values_do() -> None:
    problem = networks.problem("conv_bn")
    by_name = pv.prune(problem, "snip", 0.5, schedule="exponential:3")
    by_value = pv.prune(problem, "snip", 0.5, schedule=pv.Exponential(3))
    assert all(torch.equal(by_name[name], mask) for name, mask in by_value.items())
    assert pv.train(tiny(), None, digits(), "smoke", progress=False).epochs == pv.RECIPES["smoke"].epochs


def test_a_channel_that_never_changes_is_only_shifted() -> None:
    x = torch.full((10, 1, 2, 2), 51, dtype=torch.uint8)
    y = torch.arange(10) % 2
    data = pv.data.from_tensors("grey", x, y, x, y, classes=2, validation=0.2)
    assert torch.allclose(data.normalize(x), torch.zeros(10, 1, 2, 2), atol=1e-6)
