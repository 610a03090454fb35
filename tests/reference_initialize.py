"""Slow twins of the initializations: dense convolution matrices and the authors' descent, in float64, by loops.

Nothing here calls the library.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def convolution_matrix(weight: Tensor, height: int, width: int, groups: int = 1) -> Tensor:
    """The matrix of a convolution on a torus, stride 1, entry by entry; inputs and outputs ordered (channel, y, x).

    Entry (a, b) of a kernel of size (h, w) reads the input at (y + a - (h - 1) // 2, x + b - (w - 1) // 2).
    """
    outputs, inputs, kernel_height, kernel_width = weight.shape
    matrix = torch.zeros(outputs * height * width, inputs * groups * height * width, dtype=torch.float64)
    for o, i, a, b in itertools.product(range(outputs), range(inputs), range(kernel_height), range(kernel_width)):
        channel = o // (outputs // groups) * inputs + i
        for y, x in itertools.product(range(height), range(width)):
            from_y, from_x = (y + a - (kernel_height - 1) // 2) % height, (x + b - (kernel_width - 1) // 2) % width
            matrix[(o * height + y) * width + x, (channel * height + from_y) * width + from_x] += weight[o, i, a, b]
    return matrix


def blocks_of(weight: Tensor, groups: int = 1) -> list[Tensor]:
    """One matrix for each group, [positions * inputs, outputs], as the program of Lee et al. 2020 reshapes kernels."""
    outputs = len(weight) // groups
    matrices = []
    for group in range(groups):
        columns = [weight[group * outputs + o].reshape(-1) for o in range(outputs)]
        matrices.append(torch.stack(columns, dim=1))
    return matrices


def distance(weight: Tensor, groups: int = 1) -> Tensor:
    """||V^T V - I||_F over the shorter side of each group's matrix V, by scalar products; differentiable."""
    total = torch.zeros((), dtype=torch.float64)
    for matrix in blocks_of(weight, groups):
        vectors = list(matrix.unbind(1 if matrix.shape[1] <= matrix.shape[0] else 0))
        for i, one in enumerate(vectors):
            for j, other in enumerate(vectors):
                total = total + ((one * other).sum() - float(i == j)) ** 2
    return total.sqrt()


def distance_of_matrix(weight: Tensor) -> Tensor:
    """The same for one matrix, as the published program writes it: over its outputs, which must be the shorter side."""
    (matrix,) = blocks_of(weight)
    return torch.linalg.norm(matrix.T @ matrix - torch.eye(matrix.shape[1], dtype=torch.float64))


def authors_descent(
    weight: Tensor, mask: Tensor, steps: int, lr: float = 0.1, groups: int | None = None
) -> tuple[list[float], Tensor]:
    """Gradient descent on the distance of w * m with a fixed step, derivatives by autograd (approximate_isometry.py).

    With `groups` the distance is the one by scalar products. Returns the distances before the first and after each
    step, and the weights of the smallest.
    """
    w, m = weight.double().clone(), mask.double()
    history: list[float] = []
    best = w * m
    for step in range(steps + 1):
        w.requires_grad_()
        value = distance_of_matrix(w * m) if groups is None else distance(w * m, groups)
        if value.item() < min(history, default=math.inf):
            best = (w * m).detach()
        history.append(value.item())
        if step < steps and value.item() > 0:
            (gradient,) = torch.autograd.grad(value, w)
            w = (w - lr * gradient).detach()
    return history, best


def matching(mask: Tensor) -> int:
    """How many rows can get a column of their own among those they keep, by augmenting paths (Kuhn 1955)."""
    columns = [row.nonzero().flatten().tolist() for row in mask]
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in columns[row]:
            if column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(columns)))
