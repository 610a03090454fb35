"""A default device other than the data's, as of `torch.set_default_device`, changes nothing.

On the meta device, which holds no numbers, a tensor that is made there by mistake cannot be used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pruneviz as pv

pytestmark = pytest.mark.filterwarnings("ignore")


def problem() -> pv.Problem:
    torch.manual_seed(0)
    first = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    model = nn.Sequential(*first, nn.Flatten(), nn.Linear(4 * 36, 3))
    return pv.Problem(model, [(torch.randn(12, 1, 8, 8), torch.arange(12) % 3) for _ in range(4)])


def half(given: pv.Problem) -> dict[str, Tensor]:
    return {name: w.abs() > w.abs().median() for name, w in given.weights.items()}


CALLS: dict[str, Callable[[pv.Problem], Any]] = {
    **{f"score {name}": lambda p, name=name: pv.score(name, p) for name in pv.scorers()},
    "grasp by differences": lambda p: pv.score("grasp", p, mode="difference"),
    "prune": lambda p: pv.prune(p, "synflow", 0.9),
    "prune by ERK": lambda p: pv.prune(p, "random", 0.8, scope="erk"),
    "shuffle": lambda p: pv.ablations.shuffle(half(p)),
    "reinitialize": lambda p: pv.ablations.reinitialize(p.model, "orthogonal_full").state_dict(),
    "create": lambda p: pv.models.create("lenet5", init="orthogonal").state_dict(),
    "ntk": lambda p: pv.ntk(p, half(p)).kernel,
    "ntk_top": lambda p: pv.ntk_top(p, 3, half(p)).eigenvalues,
    "spectral_density": lambda p: pv.spectral_density(p, half(p)).nodes,
    "hessian_spectrum": lambda p: pv.hessian_spectrum(p, half(p), k=2).eigenvalues,
    "hessian density": lambda p: pv.hessian_spectrum(p, k=2, density=True, lanczos=8, repeats=2).density,
    "gradient_flow": lambda p: pv.gradient_flow(p, half(p)),
    "grasp_prediction": lambda p: pv.grasp_prediction(p, half(p)),
    "signal_propagation": lambda p: pv.signal_propagation(p, half(p)),
    "effective_sparsity": lambda p: pv.effective_sparsity(p, half(p)),
    "approximate_isometry": lambda p: pv.approximate_isometry(p.model, half(p)).weights,
    "isometry_distance": lambda p: pv.isometry_distance(p.model, half(p)),
    "agreement of masks": lambda p: pv.agreement(half(p), half(p)),
    "agreement of scores": lambda p: pv.agreement(p.weights, pv.score("snip", p)),
    "prune_channels": lambda p: pv.prune_channels(p, 0.3, "snip").model.state_dict(),
    "load": lambda p: pv.data.load("digits").test_y,
}


def numbers(value: Any) -> Iterator[Tensor]:
    """Every tensor and number of a result, but for how long it took and what memory it needed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key not in ("seconds", "peak_memory"):
                yield from numbers(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from numbers(entry)
    elif isinstance(value, Tensor | float | int):
        yield torch.as_tensor(value, device="cpu")


@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_the_default_device(name: str) -> None:
    given = problem()
    expected = [*numbers(CALLS[name](given))]
    with torch.device("meta"):
        found = CALLS[name](given)
    assert expected
    for one, other in zip(numbers(found), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
