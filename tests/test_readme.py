"""The README's code runs, and its commands and pictures exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_the_python_block_prunes_a_torchvision_model(tmp_path: Path) -> None:
    (code,) = blocks("python")
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    kept, total = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", done.stdout)[:2])
    assert kept == round(0.1 * total)
    assert (tmp_path / "masks.safetensors").stat().st_size > total


def test_it_is_ten_lines_or_so() -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line]) <= 11


@pytest.mark.slow
def test_the_papermill_line_runs(tmp_path: Path) -> None:
    (code,) = blocks("bash")
    program, notebook, out, *rest = shlex.split(code)
    command = [sys.executable, "-m", program, str(ROOT / notebook), str(tmp_path / out), *rest]
    # README's line, on fewer experiments, whose records are the test's own.
    few = {
        "store": str(tmp_path / "store"),
        "model": "lenet_300_100",
        "scorers": "snip,random:erk",
        "sparsities": "0.9",
    }
    fewer = [word for name, value in {**few, "seeds": "0"}.items() for word in ("-p", name, value)]
    before = records_of_builds()
    done = run([*command, *fewer, "--cwd", str(ROOT), "-k", "python3"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / out).stat().st_size > 0
    assert len(list((tmp_path / "store").glob("*.json"))) == 3
    assert records_of_builds() == before


def records_of_builds() -> set[Path]:
    """The records in the checkout's own stores."""
    return {path for store in ("_build/store", "store") for path in (ROOT / store).glob("*.json")}


def test_every_command_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for command in set(re.findall(r"^pruneviz (\w+)", README, flags=re.MULTILINE)):
        assert run([sys.executable, "-m", "pruneviz", command, "--help"], ROOT).returncode == 0, command


def test_files_named_exist() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)|((?:notebooks|book)/[\w./]+\.\w+)", README):
        assert (ROOT / (path[0] or path[1])).is_file(), path


def test_what_else_there_is_runs_line_by_line() -> None:
    (code,) = [block for block in blocks("py") if "ablations" in block]
    prepared = """
import torch
import pruneviz as pv
model = pv.models.create("lenet5", input_shape=(1, 16, 16))
x, y = torch.randn(20, 1, 16, 16), torch.arange(20) % 10
problem = pv.Problem(model, [(x, y)])
masks = pv.prune(problem, "grasp", sparsity=0.9, minimum=1)
"""
    done = run([sys.executable, "-c", prepared + code], ROOT)
    assert done.returncode == 0, done.stderr
