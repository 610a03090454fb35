"""Plain recipes for the neural tangent kernel of a masked network, as one finds them, and other libraries'."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import pruneviz as pv


def by_torch_func(model: nn.Module, x: Tensor, masks: pv.Masks, at_once: int | None = None) -> Tensor:
    """The recipe of PyTorch's own tutorial: per-example Jacobians of a functional model, all columns, then masks.

    With `at_once`, so many examples at a time, and their rows are put into one matrix.
    """
    weights = {n: p.detach() for n, p in model.named_parameters() if n in masks}
    model.eval()

    def one(values: dict[str, Tensor], example: Tensor) -> Tensor:
        return functional_call(model, values, (example.unsqueeze(0),)).squeeze(0)

    def rows(part: Tensor) -> Tensor:
        found = vmap(jacrev(one), (None, 0))({n: w * masks[n] for n, w in weights.items()}, part)
        return torch.cat([(found[n] * masks[n]).flatten(2) for n in weights], 2).detach()

    if at_once is None:
        return gram(rows(x))
    parts = iter(x.split(at_once))
    first = rows(next(parts))
    whole = first.new_empty(len(x), *first.shape[1:])
    whole[: len(first)] = first
    for i, part in enumerate(parts, 1):
        whole[i * at_once : i * at_once + len(part)] = rows(part)
    return gram(whole)


def by_hooks(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """Inputs and output derivatives of every layer from hooks, one backward pass per output, all columns by unfold."""
    model = masked(model, masks)
    layers = {n: model.get_submodule(n.removesuffix(".weight")) for n in masks}
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name], outputs[name] = args[0].detach(), output

        return hook

    for n, layer in layers.items():
        layer.register_forward_hook(keep(n))
    f = model(x)
    for n, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            inputs[n] = F.unfold(inputs[n], layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    rows = []
    for c in range(f.shape[1]):
        grads = torch.autograd.grad(f[:, c].sum(), list(outputs.values()), retain_graph=True)
        columns = []
        for (n, layer), g in zip(layers.items(), grads, strict=True):
            conv = isinstance(layer, nn.Conv2d)
            j = g.flatten(2) @ inputs[n].mT if conv else g.unsqueeze(2) * inputs[n].unsqueeze(1)
            columns.append((j.view(len(x), *layer.weight.shape) * masks[n]).flatten(1))
        rows.append(torch.cat(columns, 1))
    return gram(torch.stack(rows, 1))


def by_backpack(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """BackPACK's derivatives of every example, one backward pass per output, all columns, then masks."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model = masked(model, masks)
    for name, p in model.named_parameters():
        p.requires_grad_(name in masks)
    for name in masks:
        extend(model.get_submodule(name.removesuffix(".weight")))
    f = model(x.detach().requires_grad_())  # or torch's hooks warn
    rows = []
    for c in range(f.shape[1]):
        with backpack(BatchGrad(), retain_graph=True):
            f[:, c].sum().backward(retain_graph=True)
        found = [(model.get_parameter(n).grad_batch * masks[n]).flatten(1) for n in masks]
        rows.append(torch.cat(found, 1))
    return gram(torch.stack(rows, 1))


def by_curvlinops(model: nn.Module, x: Tensor, masks: pv.Masks) -> Tensor:
    """The transposed Jacobian of the library curvlinops times the identity: its rows for the whole batch."""
    from curvlinops import TransposedJacobianLinearOperator

    model = masked(model, masks)
    weights = [model.get_parameter(n) for n in masks]
    data = [(x, torch.zeros(len(x), dtype=torch.long, device=x.device))]
    transposed = TransposedJacobianLinearOperator(model, weights, data, check_deterministic=False)
    rows = transposed @ torch.eye(transposed.shape[1], dtype=x.dtype, device=x.device)
    rows = rows[torch.cat([mask.flatten() for mask in masks.values()])]
    return (rows.T @ rows).detach()


def masked(model: nn.Module, masks: pv.Masks) -> nn.Module:
    """A copy in evaluation mode whose removed weights are zero."""
    model = copy.deepcopy(model).eval()
    pv.apply(model, masks)
    return model


def gram(j: Tensor) -> Tensor:
    """The kernel of a Jacobian (n, c, columns), with rows (n, c)."""
    j = j.detach().flatten(0, 1)
    return j @ j.T


RECIPES: dict[str, Callable[[nn.Module, Tensor, pv.Masks], Tensor]] = {
    "torch.func: vmap(jacrev)": by_torch_func,
    "hooks and unfold": by_hooks,
    "BackPACK: BatchGrad per output": by_backpack,
    "curvlinops: transposed Jacobian times I": by_curvlinops,
}

#: One backward pass per row of the kernel: timed once.
DEAR = ("curvlinops: transposed Jacobian times I",)
