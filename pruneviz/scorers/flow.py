"""Synaptic flow in numbers that floating point can hold, however deep the network.

Without normalization the flow grows or shrinks exponentially with depth. It is differentiated in the network's own
precision first; if that does not hold it, from a smaller or larger input, where the network lets such a factor through;
then in float64; and then with powers of two taken out of every layer. What is taken out of one place is missing in the
scores of all layers alike, so that their order is that of the flow itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import InputError
from pruneviz.masks import Masks, check_masks
from pruneviz.problem import Problem, Weights, derivative, leaves_of
from pruneviz.scorers.artificial import artificial_inputs
from pruneviz.scorers.homogeneous import NotHomogeneous, Scaled

#: How far above the smallest normal number every score must stay, as a factor. Scores that underflow have neighbours
#: that almost do; where there are none, a zero means that no path leads through the weight.
MARGIN = 2.0**64

#: The power of two that an input is multiplied by, at most: an eighth of the range of float32 on either side.
STEP = 64

#: From how many weights on it is worth while to ask first whether the flow will overflow.
DEEP = 24

#: How many entries of each weight that guess looks at.
PART = 4096


def flow_products(problem: Problem, masks: Masks | None) -> Weights:
    """|w * dR/dw| of the prunable weights, in their own dtype or in float64, up to one common power of two.

    Raises:
        InputError: a flow that is not finite in any of the ways, inputs that are no numbers, no tensor as an output.
    """
    if masks is not None:
        check_masks(problem.model, masks)
        problem.masked_weights({name: mask for name, mask in masks.items() if name not in problem.names})  # refused
    narrow = any(w.dtype != torch.float64 for w in problem.weights.values())
    deep = narrow and len(problem.names) >= DEEP and _growth(problem, masks) > 2 * STEP
    if deep:  # to find that out by an overflow would cost another pass
        rescaled = _rescaled(problem, masks, -STEP)
        if rescaled is not None:
            return rescaled
    flow, products = _differentiate(problem, masks)
    if _in_range(flow, products.values()):
        return products
    if narrow:
        rescaled = None if deep else _rescaled(problem, masks, -STEP if flow >= 1.0 else STEP)
        if rescaled is not None:
            return rescaled
        flow, products = _differentiate(problem, masks, double=True)
        if _in_range(flow, products.values()):
            return products
    for name, parameter in problem.parameters.items():
        if not bool(parameter.isfinite().all()):
            raise InputError(f"{name!r} holds values that are not finite; synflow needs finite weights")
    balanced = _balanced(problem, masks)
    if balanced is not None:
        return balanced
    if products and all(bool(product.isfinite().all()) for product in products.values()):
        # The zeros are true ones, or the scores of one network differ by more than floating point can tell.
        return {name: product.abs_() for name, product in products.items()}
    if math.isnan(flow):
        raise InputError(
            "the synaptic flow of this model is nan: at absolute weights and inputs of one an operation has no value; "
            "accepted is a model whose output is a number there"
        )
    raise InputError(
        f"the synaptic flow of this model is {flow:g} in float64, and it is no plain chain of layers, out of which "
        "powers of two could be taken; accepted is a model with smaller weights, or with fewer layers"
    )


def _growth(problem: Problem, masks: Masks | None) -> float:
    """Log2 of what the flow would be if the weights were one chain of layers: a guess, from a part of each of them."""
    growth = 0.0
    for name, w in problem.weights.items():
        if w.dim() > 1:
            part = w.flatten()[:PART].abs()
            if masks and name in masks:
                part = part * masks[name].flatten()[:PART].to(w.device)
            growth += math.log2(float(part.mean()) * w[0].numel() or 1.0)
    return growth


def _rescaled(problem: Problem, masks: Masks | None, step: int) -> Weights | None:
    """The products in the network's own precision from an input of 2^step, and with R times 2^step differentiated.

    They are 2^(2 step) times what they are from ones, which is undone if their dtype then holds them. None if the
    network is not known to let such a factor through, or if it does not help.
    """
    try:
        flow, products = _differentiate(problem, masks, step=step)
    except NotHomogeneous:
        return None
    if not _in_range(flow, products.values()):
        return None
    undo = 2.0 ** (-2 * step)
    if all(_holds(product, undo) for product in products.values()):
        for product in products.values():
            product.mul_(2.0**-step).mul_(2.0**-step)  # the two together may be out of range
    return products


def _holds(product: Tensor, factor: float) -> bool:
    """Whether a tensor's dtype holds all its entries, none negative, times a factor."""
    kind, largest = torch.finfo(product.dtype), float(product.max())
    if largest * factor > kind.max:
        return False
    return float(product.masked_fill(product == 0, math.inf).min()) * factor >= kind.tiny


def _differentiate(
    problem: Problem,
    masks: Masks | None,
    *,
    double: bool = False,
    step: int = 0,
    exponents: Mapping[str, int] | None = None,
) -> tuple[float, Weights]:
    """R and w * dR/dw at the absolute values, for the prunable weights and for the parameters that have an exponent.

    Where R is not finite, that is all there is: the products are empty.

    Args:
        problem: the network, and the shape of its inputs.
        masks: of weights that are zero.
        double: in float64, not in the dtype of the model.
        step: the input, and what is differentiated, are multiplied by 2^step.
        exponents: of the powers of two by which parameters and buffers are multiplied.

    Raises:
        NotHomogeneous: with a step, if the network is not known to let the factor through.
    """
    dtype = torch.float64 if double else None
    parameters = {name: p.abs() for name, p in problem.parameters.items()}
    for name, mask in (masks or {}).items():
        parameters[name].mul_(mask.to(parameters[name].device))  # several times as fast as filling
    buffers = {name: _magnitudes(b) for name, b in problem.model.named_buffers()}
    values = {**parameters, **buffers}
    if double:
        values = {name: value.double() if value.is_floating_point() else value for name, value in values.items()}
    for name, exponent in (exponents or {}).items():
        values[name].mul_(2.0 ** min(exponent, 1023))
    wanted = {*problem.names, *(exponents or ())}
    leaves = leaves_of({name: values[name] for name in parameters if name in wanted})  # no running mean among them
    products: Weights = {}
    for name, leaf in leaves.items():
        leaf.register_hook(partial(_multiply, products, name, values[name]))
    ones = artificial_inputs(
        problem, problem.batches[0], "synflow", lambda t: torch.full_like(t[:1], 2.0**step, dtype=dtype)
    )
    state = {**values, **leaves}
    try:
        with Scaled(ones, state.values(), 2.0**step) if step else nullcontext():
            output = problem.output(state, ones, batchnorm="eval")
    except RuntimeError as error:
        if not double:
            raise
        raise InputError(f"synflow needs float64 for this model, which cannot run in it: {error}") from error
    if not isinstance(output, Tensor):
        raise InputError(f"the model's output is a {type(output).__name__}; synflow sums the entries of one tensor")
    flow = output.sum()
    total = float(flow.detach())
    if not math.isfinite(total):
        return total, {}
    derivative(flow * 2.0**step if step else flow, leaves)
    for name in leaves:
        if name not in products:  # not reached, which has been warned of
            products[name] = torch.zeros_like(values[name])
    return total, products


def _magnitudes(buffer: Tensor) -> Tensor:
    """Absolute values, but for infinities: minus infinity is what attention masks what it must not see with."""
    return torch.where(buffer.isfinite(), buffer.abs(), buffer) if buffer.is_floating_point() else buffer.clone()


def _multiply(products: Weights, name: str, value: Tensor, gradient: Tensor) -> Tensor:
    # Each gradient is used up as soon as it is there, in the memory of the weights, which nothing reads any more: no
    # more than one is held at a time. On a CPU the fresh pages for all of them would cost a third of the whole step.
    products[name] = value.mul_(gradient)
    return gradient.new_zeros(()).expand_as(gradient)


def _in_range(flow: float, products: Iterable[Tensor]) -> bool:
    """Make the products positive, in place, and tell whether all are finite and those that count far from underflow."""
    far, found = math.isfinite(flow), False
    for product in filter(Tensor.numel, products):
        low, high = (float(end) for end in torch.aminmax(product))
        if low < 0:
            low, high = (float(end) for end in torch.aminmax(product.abs_()))
        least = torch.finfo(product.dtype).tiny * MARGIN
        far = far and math.isfinite(high) and (low >= least or _nothing_below(least, product))
        found = found or high > 0
    return far and found


def _nothing_below(least: float, product: Tensor) -> bool:
    # In parts, because these find room in memory that is there already; zeros are left out.
    return all(torch.equal(F.hardshrink(part, least), part) for part in product.flatten().split(2**16))


def _balanced(problem: Problem, masks: Masks | None) -> Weights | None:
    """The products with a power of two taken out of each layer, so that signals keep their size from layer to layer.

    In a chain of positively homogeneous layers (linear, ReLU, pooling) what is taken out of one reaches the output
    unchanged if it is taken out of all later biases as well. Whether the network is such a chain is told by Euler's
    theorem: the products of a layer's weights and of all later biases add up to the flow. None if they don't.
    """
    weights = problem.masked_weights(masks)
    if not all(bool(w.any()) for w in weights.values() if w.dim() > 1):
        return None  # a layer of zeros stops the flow whatever its size
    low, high = -64.0, 64.0
    while high - low > 1e-3:
        correction = (low + high) / 2
        exponents = _exponents(problem, weights, correction)
        flow, products = _differentiate(problem, masks, double=True, exponents=exponents)
        if 1.0 <= flow < 2.0**256:
            break
        low, high = (low, correction) if flow < 1.0 else (correction, high)
    if not products:
        return None
    biases = 0.0
    for name in reversed([name for name in exponents if name in products]):
        total = float(products[name].sum())
        if name not in weights or weights[name].dim() < 2:
            biases += total
        elif not math.isclose(total + biases, flow, rel_tol=1e-6):
            return None
    found = {name: products[name] for name in problem.names}
    return found if _in_range(flow, found.values()) else None


def _exponents(problem: Problem, weights: Weights, correction: float) -> dict[str, int]:
    """Of the powers of two for weights and biases, in model order; `correction` is added to each layer's growth."""
    known = {*problem.parameters, *dict(problem.model.named_buffers())}
    exponents: dict[str, int] = {}
    growth = 0.0
    for path, module in problem.model.named_modules():
        for name in (f"{path}.{own}".strip(".") for own in (*module._parameters, *module._buffers)):
            if name in weights and weights[name].dim() > 1:
                w = weights[name].abs()
                units = int(w.flatten(1).any(1).sum())
                total = float(w.sum(dtype=torch.float64))
                before = round(growth)
                growth += math.log2(total / units) + correction
                exponents[name] = before - round(growth)
            elif name in known and name.endswith(("bias", "running_mean")):
                exponents[name] = -round(growth)
    return exponents
