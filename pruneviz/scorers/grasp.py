"""GraSP: keep the weights whose removal would reduce the gradient flow most, to first order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruneviz.errors import InputError, check_choice, check_number, check_seed
from pruneviz.inputs import Batch, part_of, target_of
from pruneviz.masks import Masks
from pruneviz.problem import Problem, Weights
from pruneviz.scorers.difference import difference_product
from pruneviz.scorers.hvp import Direction, add_up, hessian_product
from pruneviz.scorers.registry import Card, Scores, register

VARIANTS = ("paper", "official", "synflow", "frankle")
MODES = {"exact": hessian_product, "difference": difference_product}

CARD = Card(
    name="grasp",
    title="GraSP",
    effect="Keeps the weights whose removal would reduce the squared norm of the gradient most, to first order.",
    equation=r"s_j = w_j\,(H g)_j, \qquad g = \nabla_w L,\quad H = \nabla_w^2 L, \quad L = \ell(f / T, y)",
    source="Wang et al. (2020), equation 8 and algorithm 1; the paper removes the largest −s",
    citation="wang2020grasp",
    cost="about 3 for one batch, about 3.5 for several (ResNet-20 on a CPU, `benchmarks/scorers.py`)",
    memory="one gradient, and the graph of the gradient of one batch",
    options={
        "temperature": "the network's output is divided by it before the loss (default 200, the authors' code)",
        "variant": "paper, official, synflow or frankle: which published computation (default paper)",
        "seed": "of the linear weights that variant official draws anew (default 0)",
        "absolute": "whether the size of the score is taken at the end (default false)",
        "mode": "exact, or difference: a central difference of gradients, in the memory of one (default exact)",
    },
    disagreements=(
        "The authors' code scores a copy of the network whose linear layers were drawn anew (Xavier), sorts the batch "
        "by class and cuts it in half, so that with batch statistics each half holds half of the classes.",
        "The SynFlow repository runs twice over a shuffled, augmented loader, so that the gradient and the Hessian see "
        "different draws of the data. Variant synflow imitates this with one half of the batches for each.",
        "Frankle et al. multiply each batch's Hessian with that batch's own gradient.",
        "Temperature 200, or 1 in a well-known collection of zero-cost proxies, where in addition only the last split "
        "of a batch enters the gradient.",
        "One re-implementation called GraSP scores the squared gradient, without a Hessian.",
        "The sign: the paper's score is the negative of this one, and the largest are removed.",
    ),
    deviations=(
        "Variant paper is equation 8, on the weights that will be trained and the batches as they are given. The "
        "temperature is not in the equation: the authors' code has it, and with temperature=1 it is gone.",
        "Exactly as many weights are kept as asked for; the authors' threshold keeps one more.",
        "The choice of batch statistics is the problem's `batchnorm`; the authors use training mode.",
    ),
)


@register(CARD)
def grasp(
    problem: Problem,
    masks: Masks | None = None,
    *,
    temperature: float = 200.0,
    variant: str = "paper",
    seed: int = 0,
    absolute: bool = False,
    mode: str = "exact",
) -> Scores:
    """Score w * (H g), the negative of the paper's: the largest are kept.

    Where the second derivative of a batch does not fit into memory, `Problem(..., micro_batch=n)` bounds it, and
    where batch statistics must be those of whole batches, `mode="difference"` needs no more than a gradient.

    Args:
        problem: model, batches and loss; its loss must be twice differentiable.
        masks: the weights removed so far: they are zero, and no direction of the gradient.
        temperature: divides the network's output.
        variant: "paper": H and g of the loss summed over all batches. "official": the authors' code: linear
            weights drawn anew, each batch sorted by its integer labels and cut in half. "synflow": g from the
            first half of the batches, H from the rest. "frankle": each batch's H with its own g, summed.
        seed: of the weights that "official" draws.
        absolute: score |w * (H g)|, which Frankle et al. compare with ("graspabs"): weights are kept whose removal
            would change the gradient norm most, in whichever direction.
        mode: "exact", to rounding; or "difference", see `difference_product`: on ResNet-20 in float32 its relative
            error is below 1 %, and of the weights that the exact score keeps at 90 to 98 % sparsity it keeps 99 %.

    Returns:
        One tensor per prunable weight.

    Raises:
        InputError: an unknown variant or mode, a temperature that is not positive, fewer batches than a variant
            needs, or an operation of the model that has no second derivative.
    """
    check_choice("variant of grasp", variant, VARIANTS)
    check_choice("mode of grasp", mode, MODES)
    if not isinstance(absolute, bool):
        raise InputError(f"absolute of grasp {absolute!r} is not accepted: give true or false")
    temperature = check_number("temperature", temperature, above=0.0)
    weights = problem.masked_weights(masks)
    batches: Sequence[Batch] = problem.batches
    if variant == "official":
        weights = _redraw_linear(problem, weights, masks, seed)
        batches = [half for batch in batches for half in _halves_by_class(batch)]
    product = Weights()
    for of_gradient, of_hessian in _pairs(variant, batches):
        part = _hessian_gradient(problem, weights, masks, of_gradient, of_hessian, temperature, mode)
        add_up(product, part, part.values())
    scores = {name: w * product.pop(name) for name, w in weights.items()}
    return {name: s.abs() for name, s in scores.items()} if absolute else scores


def _pairs(variant: str, batches: Sequence[Batch]) -> list[tuple[Sequence[Batch], Sequence[Batch]]]:
    """Which batches give g, and of which H is multiplied with it; the products are summed."""
    if variant == "frankle":
        return [(one, one) for one in ([batch] for batch in batches)]
    if variant == "synflow":
        if len(batches) < 2:
            raise InputError(f"variant 'synflow' of grasp needs at least 2 batches, received {len(batches)}")
        cut = len(batches) // 2
        return [(batches[:cut], batches[cut:])]
    return [(batches, batches)]


def _hessian_gradient(
    problem: Problem,
    weights: Mapping[str, Tensor],
    masks: Masks | None,
    of_gradient: Sequence[Batch],
    of_hessian: Sequence[Batch],
    temperature: float,
    mode: str,
) -> Weights:
    """H g, with g summed over `of_gradient` and H over `of_hessian`; removed weights are no direction of g."""

    def masked(gradient: Weights) -> Weights:
        kept = masks or {}
        return {n: g.masked_fill(~kept[n].to(g.device), 0) if n in kept else g for n, g in gradient.items()}

    direction: Direction = masked
    if of_gradient is not of_hessian:
        direction = masked(problem.gradient(weights, batches=of_gradient, temperature=temperature)[1])
    return MODES[mode](problem, weights, direction, batches=of_hessian, temperature=temperature).product


def _redraw_linear(problem: Problem, weights: Weights, masks: Masks | None, seed: int) -> Weights:
    """The weights with every `nn.Linear` among them drawn anew from Xavier's normal distribution."""
    generator = torch.Generator().manual_seed(check_seed(seed))
    linear = {id(m.weight) for m in problem.model.modules() if isinstance(m, nn.Linear)}
    fresh = dict(weights)
    for name, parameter in problem.model.named_parameters():
        if name in fresh and id(parameter) in linear:
            blank = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
            drawn = nn.init.xavier_normal_(blank, generator=generator)
            fresh[name] = drawn.to(parameter.device)
            if masks is not None and name in masks:
                fresh[name].masked_fill_(~masks[name].to(parameter.device), 0)
    return fresh


def _halves_by_class(batch: Batch) -> list[Batch]:
    y = target_of(batch)
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dim() != 1 or len(y) < 2:
        received = f"of shape {tuple(y.shape)} and dtype {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(
            f"variant 'official' of grasp sorts by class: it needs at least 2 integer labels, received y {received}"
        )
    order, cut = torch.argsort(y, stable=True), len(y) // 2
    return [part_of(batch, order[:cut]), part_of(batch, order[cut:])]
