"""Grids: a YAML file that names many cells as products of lists.

    question: What is lost at 90 % and 98 %?
    defaults: {dataset: cifar10, model: resnet20, recipe: cifar_10ep}
    cells:
      - {scorer: dense, seed: [0, 1, 2]}
      - {scorer: [snip, grasp], sparsity: [0.9, 0.98], seed: [0, 1, 2]}

Each block under `cells` is a product: a key whose value is a list is an axis, and the first key varies
slowest. The order of the cells is the order of the work. `import: [mine.py]` names modules that register scorers,
and reading the grid imports them: a path starts at the grid's folder, anything else is a name on Python's path.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruneviz.errors import InputError, check_choice
from pruneviz.scorers.imports import import_scorers, is_file
from pruneviz.study.cell import Cell, check_field

_KEYS = ("question", "import", "defaults", "cells")


def read_grid(path: str | os.PathLike[str]) -> list[Cell]:
    """Read a grid and check all of it.

    Args:
        path: a YAML file with `cells`, a list of blocks, and optionally `defaults`, one block without lists
            that all blocks build on, `import`, modules that register scorers, and `question`, a text for readers.

    Returns:
        Every cell once, in the order in which the grid names them.

    Raises:
        InputError: a file that cannot be read or is no grid; a key that is no field of `Cell`, or is there
            twice; a value that the field cannot have; a module that cannot be imported. The message names the
            file, the block and the key.
    """
    where = f"grid {os.fspath(path)!r}"
    grid = _load(Path(path), where)
    if not isinstance(grid, Mapping):
        raise InputError(f"{where} is {_kind(grid)}; a mapping with the keys {', '.join(_KEYS)} is needed")
    for key in grid:
        _located(where, lambda key=key: check_choice("key", key, _KEYS))
    _import(grid.get("import"), Path(path).parent, f"{where}, import")
    defaults = {} if grid.get("defaults") is None else grid["defaults"]
    _check_block(defaults, f"{where}, defaults")
    for key, value in defaults.items():
        _located(f"{where}, defaults, {key}", lambda key=key, value=value: check_field(key, value))
    blocks = grid.get("cells")
    if not isinstance(blocks, list) or not blocks:
        raise InputError(f"{where}: 'cells' is {_kind(blocks)}; a list with at least one block is needed")
    cells = [
        cell for number, block in enumerate(blocks, 1) for cell in _expand(block, defaults, f"{where}, block {number}")
    ]
    return list(dict.fromkeys(cells))


def _load(path: Path, where: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise InputError("reading a grid needs PyYAML: pip install 'pruneviz[sweep]'") from None
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _loader())
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not a text file in UTF-8: byte {error.start} is not") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply; a grid has three levels") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}{line} is not YAML: {reason}") from error


def _loader() -> Any:
    """A safe loader that refuses keys that are there twice, and reads 1e-3 as the number it is in YAML 1.2.

    It raises nothing but a `yaml.YAMLError`, also for values such as 2024-13-45 or `!!bool x`, of which PyYAML raises
    whatever comes.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node: yaml.MappingNode = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key.value!r} is there twice in one mapping", key.start_mark
                        )
                    seen.add(key.value)
            return node

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            if not isinstance(node, yaml.ScalarNode):
                return super().construct_object(node, deep)
            try:
                value = super().construct_object(node, deep)
                if isinstance(value, int):
                    float(value)  # what is too long for a float can be neither compared with one nor, longer, shown
            except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
                kind = node.tag.rpartition(":")[2]
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{node.value[:40]!r} is no {kind} that can be read; a text is in quotes",
                    node.start_mark,
                ) from error
            return value

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def _import(modules: Any, folder: Path, where: str) -> None:
    for module in modules if isinstance(modules, list) else [] if modules is None else [modules]:
        if not isinstance(module, str):
            raise InputError(f"{where} is {_kind(modules)}; names of modules or paths of files are needed")
        _located(where, lambda module=module: import_scorers(str(folder / module) if is_file(module) else module))


def _expand(block: Any, defaults: Mapping[str, Any], where: str) -> list[Cell]:
    _check_block(block, where)
    axes: dict[str, list[Any]] = {}
    for key, value in block.items():
        values = value if isinstance(value, list) else [value]
        if not values:
            raise InputError(f"{where}, {key}: the list is empty; give at least one value")
        axes[key] = [_located(f"{where}, {key}", lambda key=key, v=v: check_field(key, v)) for v in values]
    return [
        _located(where, lambda values=values: Cell(**(dict(defaults) | dict(zip(axes, values, strict=True)))))
        for values in itertools.product(*axes.values())
    ]


def _check_block(block: Any, where: str) -> None:
    if not isinstance(block, Mapping):
        raise InputError(f"{where} is {_kind(block)}; a mapping of keys to values is needed")


def _located(where: str, make: Any) -> Any:
    """`make()`, with the place put in front of what it says of a bad input."""
    try:
        return make()
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _kind(value: Any) -> str:
    return "empty" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
