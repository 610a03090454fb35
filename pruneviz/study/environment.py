"""Where a record comes from: device, versions and the revision of the code. Nothing that names a host or a person."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def describe(device: torch.device) -> dict[str, Any]:
    """What a record says of the place where it was measured."""
    import pruneviz

    return {
        "device": device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "pruneviz": pruneviz.__version__,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "git": git_state(),
    }


@lru_cache
def device_name(device: torch.device) -> str:
    """The model of the GPU or CPU, as it names itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@lru_cache
def git_state() -> dict[str, Any] | None:
    """The revision of the package's own repository, and whether its files differ from it; None outside one.

    Asked once per process: what counts is the code that was loaded.
    """
    package = Path(__file__).resolve().parents[1]
    # A virtual environment inside somebody else's repository is not the package's repository.
    if _git(package, "ls-files", "--error-unmatch", "errors.py") is None:
        return None
    # The rooms above the study cannot change a result.
    computing = [".", *(f":(exclude){room}" for room in ("figures", "widgets", "cli.py"))]
    revision, changes = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", "--", *computing)
    return None if revision is None else {"revision": revision.strip(), "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
