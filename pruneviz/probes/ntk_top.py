"""The top of the neural tangent kernel's spectrum, without the kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import InputError, check_number, check_positive, check_seed
from pruneviz.masks import Masks
from pruneviz.probes.jacobian import GIB, jacobian
from pruneviz.probes.kernel_product import products
from pruneviz.probes.lanczos import largest
from pruneviz.problem import Problem


@dataclass(frozen=True, eq=False)
class NtkTop:
    """The largest eigenpairs of a neural tangent kernel.

    Attributes:
        eigenvalues: descending, (k,), float64.
        eigenvectors: orthonormal columns with rows (n, c), (N C, k), float64.
        residuals: |K v - lambda v| of each pair, (k,): there is an eigenvalue within this distance.
        converged: whether every residual is at most `tolerance` times its eigenvalue, or at the level of rounding.
        iterations: products of the kernel with a block of vectors.
        matvecs: products with a vector.
        formed: whether the Jacobian was held in memory.
        n: inputs, N.
        classes: outputs per input, C.
        parameters: "prunable" or "all": what was differentiated.
        weights: how many weights that is: those that are kept.
        seconds: wall time.
        peak_memory: bytes held at once, as planned.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    converged: bool
    iterations: int
    matvecs: int
    formed: bool
    n: int
    classes: int
    parameters: str
    weights: int
    seconds: float
    peak_memory: int


def ntk_top(
    problem: Problem,
    k: int = 20,
    masks: Masks | None = None,
    *,
    parameters: str = "prunable",
    tolerance: float = 1e-4,
    block: int = 10,
    iterations: int = 20,
    seed: int = 0,
    memory: float = 8.0,
    progress: bool = True,
) -> NtkTop:
    """The k largest eigenvalues and eigenvectors of the kernel of `ntk`, by block Lanczos.

    The Jacobian is formed and held where the budget allows, which costs what its rows cost, and then little more;
    where it does not, each product with a vector costs a backward and a forward pass over all inputs.

    Args:
        problem: model, batches and batch normalization mode; left untouched.
        k: how many pairs, at most N C.
        masks: the weights removed; None for the dense network.
        parameters: as in `ntk`.
        tolerance: of a pair's residual, relative to its eigenvalue.
        block: vectors in a block: at least the multiplicity of the eigenvalues sought, which for a linear model is C.
        iterations: at most so many blocks, and as many as it takes to have k vectors.
        seed: of the random vectors to start from.
        memory: budget in GiB for all that is held at once, the model and its batches excluded.
        progress: whether to show a bar on stderr, if that is a terminal.

    Returns:
        An `NtkTop`. With a model in float32, eigenvalues below about 1e-5 of the largest are rounding.

    Raises:
        InputError: a k that is larger than the kernel; else as `ntk`.
    """
    k, block = check_positive("k", k), check_positive("block", block)
    iterations = check_positive("iterations", iterations)
    tolerance = check_number("tolerance", tolerance, above=0)
    budget = check_number("memory", memory, above=0) * GIB
    generator = torch.Generator().manual_seed(check_seed(seed))
    began = time.perf_counter()
    with exact_arithmetic():
        view = jacobian(problem, masks, parameters)
        side = view.examples * view.outputs
        if k > side:
            raise InputError(f"k={k} eigenvalues of a kernel with {view.examples} x {view.outputs} = {side} rows")
        block = min(block, side)
        vectors = 4 * 8 * side * min(side, max(k, block * iterations) + block)
        with products(view, budget - vectors, block, progress) as (product, kernel):
            start = torch.randn(side, block, generator=generator, dtype=torch.float64, device="cpu").to(problem.device)
            floor = 10 * torch.finfo(view.dtype).eps
            with torch.no_grad():
                top = largest(product, start, k, tolerance=tolerance, floor=floor, iterations=iterations)
    return NtkTop(
        eigenvalues=top.values,
        eigenvectors=top.vectors,
        residuals=top.residuals,
        converged=top.converged,
        iterations=top.iterations,
        matvecs=top.products,
        formed=kernel.formed,
        n=view.examples,
        classes=view.outputs,
        parameters=parameters,
        weights=view.width,
        seconds=time.perf_counter() - began,
        peak_memory=int(kernel.peak + vectors),
    )
