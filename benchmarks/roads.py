"""Where the time of exact GraSP goes, what was tried to save it, and what a difference of gradients is worth.

    python benchmarks/roads.py [--batch 100] [--repeats 7] [--threads 1] [--readme]

All roads lead to the same product H g on ResNet-20, on a CPU, in one run; the unit is that of `scorers.py`. Then the
central difference of gradients with the network's kinks held and free, on several networks: its relative error, and
how many of the weights that the exact score keeps it keeps as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import published
import torch
import torch.nn.functional as F
import torchvision
from measure import machine, peak_bytes, quartiles
from scorers import MIB, drawn, said, write
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

import pruneviz as pv
from pruneviz.scorers.difference import difference_product
from pruneviz.scorers.hvp import hessian_product
from pruneviz.scorers.twice import fast_second_derivatives
from pruneviz.scorers.twice_functions import Convolution

TEMPERATURE = 200.0
Batch = tuple[Tensor, Tensor]


class Road(TorchFunctionMode):
    """A part of what `fast_second_derivatives` does."""

    def __init__(self, *, batchnorm: bool = False, convolution: bool = False, channels_last: bool = False) -> None:
        super().__init__()
        self.batchnorm, self.convolution, self.channels_last = batchnorm, convolution, channels_last
        self.fast = fast_second_derivatives()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Take the chosen ones of the library's roads."""
        if func is F.batch_norm and self.batchnorm:
            return self.fast.__torch_function__(func, (), args, dict(kwargs or {}))
        if func is torch.conv2d:
            x, w, b, *how, groups = args
            if self.channels_last:
                x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
            if self.convolution:
                return Convolution.apply(x, w, b, (*map(list, how), False, [0, 0], groups))
            return func(x, w, b, *how, groups)
        return func(*args, **(kwargs or {}))


def double_backward(model: nn.Module, batch: Batch, road: AbstractContextManager[object]) -> None:
    """One pass: the gradient with its graph, and its product with itself as a constant differentiated."""
    x, y = batch
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with road:
        grads = torch.autograd.grad(F.cross_entropy(model(x) / TEMPERATURE, y), weights, create_graph=True)
        torch.autograd.grad(grads, weights, [g.detach() for g in grads])


def forward_over_reverse(model: nn.Module, batch: Batch) -> None:
    """The gradient, then its directional derivative in forward mode."""
    x, y = batch
    weights = {n: p.detach() for n, p in model.named_parameters() if p.dim() > 1}

    def loss(values: dict[str, Tensor]) -> Tensor:
        state = dict(model.named_buffers()) | values
        return F.cross_entropy(functional_call(model, state, (x,)) / TEMPERATURE, y)

    fixed = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for module in fixed:  # its running statistics cannot be updated in place there
        module.track_running_stats, module.running_mean, module.running_var = False, None, None
    jvp(grad(loss), (weights,), (grad(loss)(weights),))


def roads(size: int, repeats: int) -> str:
    """A table of the roads, and what the first and the last of them spend their time on."""
    model, (batch,) = pv.models.create("resnet20", seed=0), drawn(1, size, "cpu")
    problem = pv.Problem(model, [batch])
    other = pv.models.create("resnet20", seed=0)

    def unit() -> None:
        torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), list(model.parameters()))

    def by(**parts: bool) -> Callable[[], None]:
        return lambda: double_backward(model, batch, Road(**parts))

    ways: dict[str, Callable[[], object]] = {
        "the authors' two passes": lambda: published.grasp(model, [batch]),
        "forward mode over reverse mode": lambda: forward_over_reverse(other, batch),
        "double backward in one pass": lambda: double_backward(model, batch, nullcontext()),
        "… with channels last": by(channels_last=True),
        "… with the convolution's short form": by(convolution=True),
        "… with batch normalization's short form": by(batchnorm=True),
        "… with both short forms": by(batchnorm=True, convolution=True),
        "… with both and channels last: `pv.score`": lambda: pv.score("grasp", problem),
    }
    lines, cost = ["| road to H g | units | MiB |", "|---|---|---|"], {}
    for name, way in ways.items():
        low, middle, high = quartiles(way, unit, repeats)
        cost[name] = middle
        lines.append(f"| {name} | {middle:.2f} ({low:.2f}-{high:.2f}) | {peak_bytes(way) / MIB:.0f} |")
    plain, best = "double backward in one pass", "… with both and channels last: `pv.score`"
    spent = [{kind: share * cost[name] for kind, share in shares(ways[name]).items()} for name in (plain, best)]
    spent.append(shares(unit))
    lines += ["", "| units spent in | double backward | `pv.score` | the unit |", "|---|---|---|---|"]
    lines += [f"| {kind} | {' | '.join(f'{one[kind]:.2f}' for one in spent)} |" for kind in spent[0]]
    return "\n".join(lines)


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Shares of the processor's time, by kind of operation."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    kinds = {"convolutions": 0.0, "all else": 0.0}
    for event in recorded.key_averages():
        kinds["convolutions" if "conv" in event.key.lower() else "all else"] += event.self_cpu_time_total
    return {kind: time / sum(kinds.values()) for kind, time in kinds.items()}


def differences() -> str:
    """How far a central difference is from the exact product, with kinks held and free."""
    models = torchvision.models
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {
            "LeNet-300-100": (pv.models.create("lenet_300_100"), 40, 32),
            "LeNet-5": (pv.models.create("lenet5"), 40, 32),
            "ResNet-20": (pv.models.create("resnet20"), 100, 32),
            "ResNet-32, double width": (pv.models.create("resnet32", width=2), 20, 32),
            "VGG-19": (pv.models.create("vgg19_bn"), 20, 32),
            "MobileNetV3-Small": (models.mobilenet_v3_small(num_classes=10), 16, 64),
            "ResNet-50": (models.resnet50(num_classes=10), 8, 64),
            "a vision transformer": (models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10), 20, 32),
        }
    lines = ["| network | images | relative error | kept at 90, 95, 98 % |  with free kinks | kept |", "|" + "---|" * 6]
    for name, (model, size, side) in networks.items():
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(size, 3, side, side, generator=generator)
        problem = pv.Problem(model, [(x, torch.arange(size) % 10)])
        exact = flat(problem, hessian_product(problem, problem.weights, lambda g: g, temperature=TEMPERATURE).product)
        held = difference_product(problem, problem.weights, lambda g: g, temperature=TEMPERATURE).product
        lines.append(f"| {name} | {size} | {compared(flat(problem, held), exact)} | {compared(free(problem), exact)} |")
    return "\n".join(lines)


def free(problem: pv.Problem) -> Tensor:
    """The scores by a difference that crosses kinks, with the best of several steps for its mask at 95 %."""
    weights = problem.weights
    _, g = problem.gradient(weights, temperature=TEMPERATURE)
    exact = flat(problem, hessian_product(problem, weights, g, temperature=TEMPERATURE).product)
    scale = float(
        torch.cat([w.flatten() for w in weights.values()]).norm() / torch.cat([v.flatten() for v in g.values()]).norm()
    )
    tried = []
    for part in (1e-4, 1e-3, 1e-2):
        e = part * scale
        up, down = (
            problem.gradient({n: w + s * e * g[n] for n, w in weights.items()}, temperature=TEMPERATURE)[1]
            for s in (1, -1)
        )
        tried.append(flat(problem, {n: (up[n] - down[n]) / (2 * e) for n in up}))
    return max(tried, key=lambda scores: overlap(scores, exact, 0.95))


def flat(problem: pv.Problem, product: Mapping[str, Tensor]) -> Tensor:
    """All scores in one vector."""
    return torch.cat([(w * product[name]).flatten() for name, w in problem.weights.items()]).double()


def overlap(scores: Tensor, exact: Tensor, sparsity: float) -> float:
    """The part of the weights kept by one that the other keeps."""
    keep = round((1 - sparsity) * len(exact))
    masks = [
        torch.zeros(len(exact), dtype=torch.bool).index_fill(0, s.topk(keep).indices, True) for s in (scores, exact)
    ]
    return float((masks[0] & masks[1]).sum()) / keep


def compared(scores: Tensor, exact: Tensor) -> str:
    """Relative error and overlaps, as two cells."""
    kept = ", ".join(f"{overlap(scores, exact, sparsity):.1%}" for sparsity in (0.9, 0.95, 0.98))
    return f"{float((scores - exact).norm() / exact.norm()):.2%} | {kept}"


def main() -> None:
    """Measure, print, and write into the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--readme", action="store_true", help="write the results into the page")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = machine()
    for block, text in (("roads", roads(options.batch, options.repeats)), ("differences", differences())):
        text = f"{said(where)}\n\n{text}"
        print(text, "\n", flush=True)
        if options.readme:
            write(block, text)


if __name__ == "__main__":
    main()
