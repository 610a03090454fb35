"""The density of the neural tangent kernel's eigenvalues, without the kernel."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.arithmetic import exact_arithmetic
from pruneviz.errors import check_number, check_positive, check_seed
from pruneviz.masks import Masks
from pruneviz.probes.jacobian import GIB, jacobian
from pruneviz.probes.kernel_product import products
from pruneviz.probes.lanczos import quadrature
from pruneviz.problem import Problem


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """An estimate of how a kernel's eigenvalues are distributed.

    Attributes:
        nodes: of the quadrature as seen from each random vector, (vectors, steps), ascending, float64.
        weights: of the nodes; those of each vector sum to 1.
        size: the number of eigenvalues, N C.
        trace: an unbiased estimate of their sum.
        trace_error: its standard error, from the spread over vectors; NaN for a single one.
        matvecs: products of the kernel with a vector.
        seconds: wall time.
    """

    nodes: Tensor
    weights: Tensor
    size: int
    trace: float
    trace_error: float
    matvecs: int
    seconds: float

    def at(self, points: Tensor, width: float, *, decades: bool = False) -> Tensor:
        """The density at some points, each node widened to a normal distribution; its integral is 1.

        Args:
            points: eigenvalues; or, for decades, their logarithms to base 10.
            width: the normal distribution's standard deviation, in the units of `points`.
            decades: per decade instead of per unit; nodes at or below 0 are not on that axis, and drop out.

        Raises:
            InputError: a width that is not positive.
        """
        width = check_number("width", width, above=0)
        nodes, weights = self.nodes.flatten(), self.weights.flatten() / len(self.nodes)
        if decades:
            positive = nodes > 0
            nodes, weights = nodes[positive].log10(), weights[positive]
        distance = (points.double().to(nodes.device).unsqueeze(-1) - nodes) / width
        return (weights * torch.exp(-distance.square() / 2)).sum(-1) / (width * math.sqrt(2 * math.pi))

    def below(self, points: Tensor) -> Tensor:
        """The fraction of eigenvalues at or below each point, an estimate."""
        nodes, weights = self.nodes.flatten(), self.weights.flatten() / len(self.nodes)
        return (weights * (nodes <= points.double().to(nodes.device).unsqueeze(-1))).sum(-1)


def spectral_density(
    problem: Problem,
    masks: Masks | None = None,
    *,
    parameters: str = "prunable",
    vectors: int = 4,
    steps: int = 40,
    seed: int = 0,
    memory: float = 8.0,
    progress: bool = True,
) -> SpectralDensity:
    """The density of the kernel's eigenvalues by stochastic Lanczos quadrature (Ubaru et al. 2017).

    Each random vector sees the spectrum with weights of its own, whose mean is the density; Lanczos' quadrature
    agrees with what the vector sees in the first 2 steps - 1 moments.

    Args:
        problem: model, batches and batch normalization mode; left untouched.
        masks: the weights removed; None for the dense network.
        parameters: as in `ntk`.
        vectors: random ones, of which the estimate is the mean.
        steps: of Lanczos for each vector: the resolution. At most N C are made.
        seed: of the vectors.
        memory: as in `ntk_top`.
        progress: as in `ntk_top`.

    Raises:
        InputError: as `ntk`.
    """
    vectors, steps = check_positive("vectors", vectors), check_positive("steps", steps)
    budget = check_number("memory", memory, above=0) * GIB
    generator = torch.Generator().manual_seed(check_seed(seed))
    began = time.perf_counter()
    with exact_arithmetic():
        view = jacobian(problem, masks, parameters)
        side = view.examples * view.outputs
        steps = min(steps, side)
        with products(view, budget - 8 * side * vectors * (steps + 4), vectors, progress) as (product, _):
            start = torch.randn(side, vectors, generator=generator, dtype=torch.float64, device="cpu")
            start = start.to(problem.device)
            lengths = start.norm(dim=0)
            with torch.no_grad():
                nodes, weights = quadrature(product, start / lengths, steps)
    # v^T K v of the vectors as they were drawn, whose mean is the trace.
    traces = (nodes * weights).sum(1) * lengths.square()
    return SpectralDensity(
        nodes=nodes,
        weights=weights,
        size=side,
        trace=float(traces.mean()),
        trace_error=float(traces.std() / vectors**0.5) if vectors > 1 else math.nan,
        matvecs=steps * vectors,
        seconds=time.perf_counter() - began,
    )
