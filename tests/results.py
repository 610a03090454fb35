"""A table of results with the columns that the sweep writes, made up, for tests of what is drawn and said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.study.cell import Cell, canonical_json
from pruneviz.study.table import COLUMNS

LAYERS = {"conv1.weight": 400, "stage.0.conv1.weight": 3600, "fc.weight": 6000}
METHODS = (("random", "erk"), ("random", "uniform"), ("magnitude", "global"), ("snip", "global"), ("grasp", "global"))


def cells(
    seeds: int = 3, sparsities: Sequence[float] = (0.5, 0.9, 0.98), methods: Sequence[tuple[str, str]] = METHODS
) -> list[Cell]:
    dense = [Cell(dataset="cifar10", recipe="cifar_10ep", seed=seed) for seed in range(seeds)]
    return dense + [
        Cell(dataset="cifar10", recipe="cifar_10ep", scorer=scorer, scope=scope, sparsity=sparsity, seed=seed)
        for seed in range(seeds)
        for scorer, scope in methods
        for sparsity in sparsities
    ]


def made_up(of: Sequence[Cell] | None = None) -> pd.DataFrame:
    """One row per cell; accuracies fall with sparsity, and seeds differ a little."""
    generator = np.random.default_rng(0)
    return pd.DataFrame([_row(cell, generator) for cell in (cells() if of is None else of)], columns=list(COLUMNS))


def _row(cell: Cell, generator: np.random.Generator) -> dict[str, object]:
    share = 1 - cell.sparsity
    layers = {name: [round(size * share), size] for name, size in LAYERS.items()}
    kept, total = (sum(counts[i] for counts in layers.values()) for i in (0, 1))
    accuracy = 0.9 + 0.1 * np.log10(share) + generator.normal(0, 0.01)
    dense_norm = float(generator.uniform(1, 5))
    numbers = ("test_accuracy", "validation_accuracy", "train_accuracy", "test_loss", "validation_loss", "train_loss")
    return {
        **cell.as_dict(),
        **dict.fromkeys(numbers, accuracy),
        "hash": cell.hash,
        "options": canonical_json(dict(cell.options)),
        "kept": kept,
        "total": total,
        "density": kept / total,
        "diverged": False,
        "epochs": 10,
        "gradient_norm_squared": dense_norm * share * float(generator.uniform(0.5, 2)),
        "gradient_norm_squared_dense": dense_norm,
        "layers": json.dumps(layers),
        "curves": "{}",
        "device": "one GPU",
        "threads": 1,
        "torch": "2.14.1",
        "torchvision": "0.29.1",
        "python": "3.11.9",
        "pruneviz": "0.1.0",
        "git_revision": "0123456789abcdef0123-dirty",
    }
