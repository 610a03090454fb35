"""Small networks for the tests: one for every way in which a network may be built, by a readable name.

All have fewer than two hundred prunable weights, so that a dense Hessian is cheap. Activations are smooth
(except in "mlp_relu"), so that finite differences converge. Normalization layers get random scales, shifts
and running statistics, and an epsilon of 1e-12: what is exact up to that epsilon is exact to rounding here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv

Batches = list[tuple[Tensor, Tensor]]
EPS = 1e-12


@dataclass(frozen=True)
class Case:
    """A network, what it takes, and which prunable weights are followed directly by batch normalization."""

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    prunable: tuple[str, ...]
    scale_invariant: tuple[str, ...] = ()
    classes: int = 3


class Residual(nn.Module):
    """A basic block with a projection on its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3, eps=EPS)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(3, eps=EPS)
        self.shortcut = nn.Conv2d(2, 3, 1, stride=2, bias=False)
        self.bn3 = nn.BatchNorm2d(3, eps=EPS)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.softplus(self.bn1(self.conv1(x)))))
        return self.head(F.softplus(y + self.bn3(self.shortcut(x))).mean((2, 3)))


class Tied(nn.Module):
    """Two modules that hold one weight, and one module that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 4)
        self.decode = nn.Linear(4, 4)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(4, 4)
        self.again = self.head

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.decode(torch.tanh(self.encode(x))))
        return self.again(torch.tanh(self.head(y)))[:, :3]


class Transformer(nn.Module):
    """One pre-norm block with fused attention, as in a vision transformer, and a layer scale that is no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)
        self.qkv = nn.Linear(4, 12)
        self.project = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.norm2 = nn.LayerNorm(4)
        self.mlp = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.scale * self.project(attended)
        return self.head((x + self.mlp(self.norm2(x))).mean(1))


class Attention(nn.Module):
    """Torch's own attention module: one with a packed projection, one whose queries and keys differ in size."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(4, 2, batch_first=True)
        self.cross = nn.MultiheadAttention(4, 1, kdim=3, vdim=2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.own(x, x, x, need_weights=False)[0]
        return self.head(self.norm(x + self.cross(x, x[..., :3], x[..., :2])[0]).mean(1))


class Buffers(nn.Module):
    """A network that changes buffers of its own in every forward pass, in place and by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 5)
        self.fc2 = nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.zeros(5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.fc1(x))
        self.calls += 1
        self.average = 0.9 * self.average + 0.1 * hidden.detach().mean(0)
        return self.fc2(hidden)


def _pool(*layers: nn.Module, features: int) -> nn.Sequential:
    pool = nn.AdaptiveAvgPool1d(1) if isinstance(layers[0], nn.Conv1d) else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(features, 3))


CASES: dict[str, Case] = {
    "linear": Case(lambda: nn.Linear(4, 3), (4,), ("weight",)),
    "mlp_relu": Case(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
        (4,),
        ("0.weight", "2.weight", "4.weight"),
    ),
    "bias_free": Case(
        lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False)),
        (4,),
        ("0.weight", "2.weight"),
    ),
    "conv_bn": Case(
        lambda: _pool(
            nn.Conv2d(2, 3, 3, bias=False),
            nn.BatchNorm2d(3, eps=EPS),
            nn.Softplus(),
            nn.Conv2d(3, 3, 2),  # with a bias, which batch normalization takes away again
            nn.BatchNorm2d(3, eps=EPS),
            nn.Softplus(),
            features=3,
        ),
        (2, 5, 4),
        ("0.weight", "3.weight", "8.weight"),
        ("0.weight", "3.weight"),
    ),
    "residual": Case(
        Residual,
        (2, 5, 5),
        ("conv1.weight", "conv2.weight", "shortcut.weight", "head.weight"),
        ("conv1.weight", "conv2.weight", "shortcut.weight"),
    ),
    "depthwise": Case(
        lambda: _pool(
            nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False),
            nn.BatchNorm2d(3, eps=EPS),
            nn.GELU(),
            nn.Conv2d(3, 5, 1, bias=False),
            nn.BatchNorm2d(5, eps=EPS),
            nn.GELU(),
            features=5,
        ),
        (3, 4, 3),
        ("0.weight", "3.weight", "8.weight"),
        ("0.weight", "3.weight"),
    ),
    "grouped": Case(
        lambda: _pool(nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2), nn.Tanh(), features=6),
        (4, 4, 4),
        ("0.weight", "4.weight"),
    ),
    "conv3d": Case(
        lambda: nn.Sequential(
            nn.Conv3d(1, 2, 2, bias=False),
            nn.BatchNorm3d(2, eps=EPS),
            nn.GELU(),
            nn.ConvTranspose3d(2, 2, 2, bias=False),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(2, 3),
        ),
        (1, 3, 2, 3),
        ("0.weight", "3.weight", "6.weight"),
        ("0.weight",),
    ),
    "conv1d": Case(lambda: _pool(nn.Conv1d(2, 5, 3), nn.Tanh(), features=5), (2, 7), ("0.weight", "4.weight")),
    "conv_transpose": Case(
        lambda: _pool(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.BatchNorm2d(3, eps=EPS), nn.GELU(), features=3),
        (2, 3, 2),
        ("0.weight", "5.weight"),
        ("0.weight",),
    ),
    "tied": Case(Tied, (4,), ("encode.weight", "head.weight")),
    "transformer": Case(
        Transformer, (5, 4), ("qkv.weight", "project.weight", "mlp.0.weight", "mlp.2.weight", "head.weight")
    ),
    "attention": Case(
        Attention,
        (5, 4),
        (
            "own.in_proj_weight",
            "own.out_proj.weight",
            "cross.q_proj_weight",
            "cross.k_proj_weight",
            "cross.v_proj_weight",
            "cross.out_proj.weight",
            "head.weight",
        ),
    ),
    "dropout": Case(
        lambda: nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6, eps=EPS), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3), nn.AlphaDropout()
        ),
        (4,),
        ("0.weight", "4.weight"),
        ("0.weight",),
    ),
    "buffers": Case(Buffers, (4,), ("fc1.weight", "fc2.weight")),
}

IDS = tuple(CASES)
SCALE_INVARIANT = tuple(name for name, case in CASES.items() if case.scale_invariant)


def model(name: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """The network of that name, in train mode, with weights drawn from `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        network = CASES[name].build().to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / fan_in**0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return network


def batches(
    name: str, *, sizes: tuple[int, ...] = (6, 4), dtype: torch.dtype = torch.float64, seed: int = 1
) -> Batches:
    """Random inputs and labels that fit the network, in batches of these sizes; every class is in each batch."""
    generator = torch.Generator().manual_seed(seed)
    case = CASES[name]
    drawn = []
    for size in sizes:
        x = torch.randn((size, *case.input_shape), generator=generator, dtype=torch.float64).to(dtype)
        drawn.append((x, torch.arange(size)[torch.randperm(size, generator=generator)] % case.classes))
    return drawn


def problem(
    name: str,
    *,
    sizes: tuple[int, ...] = (6, 4),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    batchnorm: str = "train",
) -> pv.Problem:
    """The network with batches that fit it, as a problem."""
    return pv.Problem(
        model(name, dtype=dtype, seed=seed),
        batches(name, sizes=sizes, dtype=dtype, seed=seed + 1),
        loss=loss,
        batchnorm=batchnorm,
    )


def random_masks(of: pv.Problem, *, density: float = 0.6, seed: int = 2) -> pv.Masks:
    """Masks that keep each weight with this probability."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) < density for name, w in of.weights.items()}


def close(scores: pv.Scores, expected: pv.Scores, *, rtol: float = 1e-8) -> None:
    """Equal relative to the largest score: single scores may be differences of larger numbers."""
    assert list(scores) == list(expected)
    top = max(float(s.abs().max()) for s in expected.values())
    assert top > 0
    for name, s in scores.items():
        torch.testing.assert_close(s, expected[name], rtol=0, atol=rtol * top, msg=lambda m, n=name: f"{n}: {m}")


# What a scorer needs to run on the two batches of `problem`.
OPTIONS: dict[str, dict[str, object]] = {"prospr": {"steps": 1}, "ntk_sap": {"resamples": 1}}


def score(scorer: str, of: pv.Problem, **options: object) -> pv.Scores:
    """The scorer's result with the options that it needs on small problems."""
    return pv.score(scorer, of, **(OPTIONS.get(scorer, {}) | options))
