"""In which arithmetic scores and probes are computed: exact and repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Gradients on, no autocast, no TF32, repeatable and twice differentiable kernels; all put back afterwards."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        repeatable_kernels(),
        sdpa_kernel(SDPBackend.MATH),  # the fused kernels of attention have no second derivative
        _composed_attention(),
        _full_precision(),
    ):
        yield


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Convolutions on a GPU give the same bits every time; the flags are put back afterwards."""
    flags = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags


@contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 is float32 in every backend.

    Set backend by backend: PyTorch refuses to read its older, common switch once one of these was used.
    """
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn
    backends = (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    reduced = [(b, b.fp32_precision) for b in backends if b.fp32_precision not in ("ieee", "none")]
    try:
        for backend, _ in reduced:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in reduced:
            backend.fp32_precision = precision


@contextmanager
def _composed_attention() -> Iterator[None]:
    """Attention modules take one road, whether or not anything requires grad."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
