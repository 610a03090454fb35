"""One weight under the microscope: its value, gradient and curvature, and why SNIP and GraSP disagree about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import traitlets
from torch import Tensor

from pruneviz.errors import check_choice, check_number, check_positive
from pruneviz.problem import Problem, Weights
from pruneviz.scorers.hvp import hessian_product
from pruneviz.widgets import page
from pruneviz.widgets.cuts import Cuts
from pruneviz.widgets.cuts import title as title_of
from pruneviz.widgets.methods import figures
from pruneviz.widgets.on_grid import OnGrid
from pruneviz.widgets.progress import steps

JUDGES: tuple[str, ...] = ("snip", "grasp", "magnitude")
CLOUD = 500  # of all weights, those that are drawn as points


class Microscope(OnGrid):
    r"""Choose a layer and one of its weights; see what SNIP, GraSP and magnitude make of it, and why.

    The weights that can be chosen are each layer's most disputed ones: those whose ranks by SNIP, $|w g|$, and by
    GraSP, $w (Hg)$, differ most, in turn one that SNIP ranks higher and one that GraSP does. Each of them is also
    removed alone, at two gradients, to show what both scores approximate to first order: the change of the loss,
    $-w g$, and that of the squared gradient norm, $-2 w (Hg)$.

    Args:
        problem: model, batches and loss; twice differentiable.
        count: weights of each layer that can be chosen.
        temperature: GraSP divides the network's output by it, in H and in the gradient that it is multiplied with.
        grid: the sparsities of the slider; None: those of the mask explorer.
        sparsity: the one shown first, or the nearest of the grid.
        layer: the one shown first; the largest if None.
        weight: the one shown first, by its place in the flattened layer; the most disputed one if None.
        title: what is looked at, in a few words.

    Attributes:
        sparsity, layer, weight: what is shown; traits, which can be set and observed. A weight that is not one of the
            layer's disputed ones stands for the first of them.

    Raises:
        InputError: an unknown layer, a count or temperature that is not positive, or a model without second derivative.
    """

    kind = "microscope"
    state = ("sparsity", "layer", "weight")

    layer = traitlets.Unicode().tag(sync=True)
    weight = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        problem: Problem,
        *,
        count: int = 16,
        temperature: float = 200.0,
        grid: Iterable[float] | None = None,
        sparsity: float = 0.9,
        layer: str | None = None,
        weight: int | None = None,
        title: str = "",
    ) -> None:
        temperature = check_number("temperature", temperature, above=0.0)
        made = Cuts(problem, JUDGES, {"grasp": {"temperature": temperature}}, grid)
        layer = layer or max(made.sizes, key=lambda name: made.sizes[name])
        check_choice("layer", layer, made.sizes)
        data = measured(made, check_positive("count", count), temperature) | {"title": title}
        first = data["weights"][layer][0]["at"] if weight is None else weight
        super().__init__(made, data, sparsity=sparsity, layer=layer, weight=first)

    def fallback(self) -> str:
        """The disputed weights of the chosen layer, with their numbers."""
        rows = [
            [
                f"[{', '.join(map(str, entry['index']))}]",
                *(f"{entry[name]:.4g}" for name in ("w", "g", "hg")),
                *(f"{entry[judge]['score']:.4g} ({entry[judge]['percent']:.2f} %)" for judge in JUDGES),
            ]
            for entry in self.data["weights"][self.layer]
        ]
        header = ["weight", "w", "g", "Hg", *(f"{title_of(judge)} (weights scored lower)" for judge in JUDGES)]
        return page.table(f"The weights of {self.layer} that SNIP and GraSP rank most differently", header, rows)

    @traitlets.validate("layer")
    def _known_layer(self, proposal: dict[str, Any]) -> str:
        return check_choice("layer", proposal["value"], self._methods.sizes)


def measured(cuts: Cuts, count: int, temperature: float) -> dict[str, Any]:
    """The data of the interaction: what is said of each disputed weight, and all weights' ranks as a sample."""
    problem, sizes = cuts.problem, cuts.sizes
    for judge in JUDGES:
        cuts.levels(judge)
    scores = {judge: _flat(cuts.scores(judge)) for judge in JUDGES}
    levels = {judge: _flat(cuts.levels(judge).values) for judge in JUDGES}
    w = problem.weights
    loss, g = problem.gradient(w)
    hot = hessian_product(problem, w, lambda gradient: gradient, temperature=temperature)
    flow = _square(hot.gradient)
    parts = {"w": _flat(w), "g": _flat(g), "hg": _flat(hot.product)}
    below = {name: _below(values) for name, values in scores.items()}
    below |= {name: _below(parts[name].abs()) for name in ("g", "hg")}
    gap = below["snip"] - below["grasp"]
    chosen = _disputed(gap, sizes, count)
    listed: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
    for layer, place, at in steps(chosen, _removing):
        entry: dict[str, Any] = {"at": at, "index": _index(at, w[layer])}
        entry |= {name: figures(float(values[place])) for name, values in parts.items()}
        entry |= {f"{name}_percent": _percent(below[name], place) for name in ("g", "hg")}
        entry["loss_first"] = figures(-float(parts["w"][place] * parts["g"][place]))
        entry["flow_first"] = figures(-2 * float(scores["grasp"][place]))
        for judge in JUDGES:
            entry[judge] = {
                "score": figures(float(scores[judge][place])),
                "below": int(below[judge][place]),
                "percent": _percent(below[judge], place),
                "level": int(levels[judge][place]),
            }
        listed[layer].append(entry | _alone(problem, layer, at, loss, flow, temperature))
    both = torch.minimum(levels["snip"], levels["grasp"]).long().bincount(minlength=len(cuts.grid) + 1)
    return {
        "layers": [{"name": name, "size": size, "shape": list(w[name].shape)} for name, size in sizes.items()],
        "grid": list(cuts.grid),
        "total": sum(sizes.values()),
        "temperature": temperature,
        "loss": figures(loss),
        "flow": figures(flow),
        "both": both.flip(0).cumsum(0).flip(0)[1:].tolist(),
        "cloud": _sample(below["snip"], below["grasp"]),
        "judges": [{"id": judge, "title": title_of(judge)} for judge in JUDGES],
        "weights": listed,
    }


def _flat(tensors: Weights) -> Tensor:
    """All entries in one vector, in model order, on the CPU."""
    return torch.cat([tensor.detach().flatten().cpu() for tensor in tensors.values()])


def _square(tensors: Weights) -> float:
    return sum(float(tensor.double().square().sum()) for tensor in tensors.values())


def _below(values: Tensor) -> Tensor:
    """For each entry, how many are less."""
    return torch.searchsorted(values.sort().values, values)


def _percent(below: Tensor, place: int) -> float:
    return float(f"{100 * int(below[place]) / len(below):.2f}")


def _disputed(gap: Tensor, sizes: dict[str, int], count: int) -> list[tuple[str, int, int]]:
    """Of each layer, in turn, the weights of the largest and of the smallest gap: layer, place among all, in it."""
    found, start = [], 0
    for name, size in sizes.items():
        order = gap[start : start + size].argsort(descending=True, stable=True).tolist()
        ends = [at for pair in zip(order, reversed(order), strict=True) for at in pair]
        found += [(name, start + at, at) for at in list(dict.fromkeys(ends))[:count]]
        start += size
    return found


def _index(at: int, weight: Tensor) -> list[int]:
    return [int(part) for part in torch.unravel_index(torch.tensor(at), weight.shape)]


def _alone(problem: Problem, layer: str, at: int, loss: float, flow: float, temperature: float) -> dict[str, Any]:
    """What the removal of this weight alone does to the loss, and to the squared gradient norm over all weights."""
    weights = problem.weights
    weights[layer] = weights[layer].clone()
    weights[layer].view(-1)[at] = 0
    changed = problem.gradient(weights)[0] - loss
    return {
        "loss_change": figures(changed),
        "flow_change": figures(_square(problem.gradient(weights, temperature=temperature)[1]) - flow),
    }


def _sample(snip: Tensor, grasp: Tensor) -> list[list[float]]:
    """Some weights, drawn evenly, by the shares of weights that each method scores lower, in percent."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(len(snip), generator=generator)[:CLOUD].sort().values.tolist()
    return [[_percent(snip, place), _percent(grasp, place)] for place in places]


def _removing(weight: tuple[str, int, int]) -> str:
    return f"Removing weights of {weight[0]} one by one"
