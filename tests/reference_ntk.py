"""The empirical neural tangent kernel by its definition, output by output; calls nothing of the library."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def rows(
    model: nn.Module,
    inputs: Sequence[Tensor],
    names: Sequence[str],
    masks: Mapping[str, Tensor] | None = None,
    batchnorm: str = "eval",
) -> Tensor:
    """The Jacobian, (N, C, P), one backward pass per row, as Jacot et al. (2018) define it.

    Theta(x, x') = sum over weights of df(x)/dw df(x')/dw. P counts every entry of the named parameters in order;
    the columns of removed weights are 0. A batch is evaluated as a whole, on a network of its own.
    """
    found = []
    for x in inputs:
        network = copy.deepcopy(model)
        for module in network.modules():
            module.training = batchnorm == "train" and isinstance(module, nn.modules.batchnorm._BatchNorm)
        parameters = dict(network.named_parameters())
        with torch.no_grad():
            for name, mask in (masks or {}).items():
                parameters[name].mul_(mask)
        f = network(x)
        for n in range(f.shape[0]):
            for c in range(f.shape[1]):
                network.zero_grad(set_to_none=True)
                f[n, c].backward(retain_graph=True)
                row = []
                for name in names:
                    grad = parameters[name].grad
                    grad = torch.zeros_like(parameters[name]) if grad is None else grad.clone()
                    row.append((grad * (masks or {}).get(name, torch.ones_like(grad))).flatten())
                found.append(torch.cat(row))
    return torch.stack(found).view(-1, f.shape[1], len(found[0]))


def kernel(jacobian: Tensor, form: str = "full") -> Tensor:
    """J J^T with rows (n, c); its sum over equal outputs, (N, N); or its blocks of equal outputs, (C, N, N)."""
    n, c, _ = jacobian.shape
    full = torch.empty(n, c, n, c, dtype=jacobian.dtype)
    for i in range(n):
        for j in range(n):
            full[i, :, j, :] = jacobian[i] @ jacobian[j].T
    if form == "full":
        return full.reshape(n * c, n * c)
    blocks = torch.stack([full[:, k, :, k] for k in range(c)])
    return blocks.sum(0) if form == "trace" else blocks
