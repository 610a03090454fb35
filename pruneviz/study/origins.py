"""Where what a notebook shows comes from: which of its cells show rows of which grid, and when rows were measured.

Nothing is executed. A cell's source is read, and names are followed: a name that is made from a grid's file name, or
from another such name, stands for that grid. This errs on the side of naming a grid too many.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pruneviz.errors import InputError
from pruneviz.study import record

_KINDS = {"show": "figure", "show_table": "table", "Markdown": "text"}
_PROFILES = {"smoke", "paper"}


@dataclass(frozen=True)
class Place:
    """A cell of a notebook that shows something made from files.

    Attributes:
        notebook: the notebook's name without suffix.
        title: its first heading.
        cell: the cell's id.
        shows: what it shows, of "figure", "table", "text", "interaction", in the order of the source.
        files: the names of the files behind it, in the given order.
    """

    notebook: str
    title: str
    cell: str
    shows: tuple[str, ...]
    files: tuple[str, ...]


def places(notebook: str | os.PathLike[str], files: Iterable[str]) -> list[Place]:
    """The cells of a notebook that show what comes from some of the files, in order.

    Of a dictionary with the keys "smoke" and "paper", the profiles of a notebook, only "smoke" is followed, which is
    what the book is built with.

    Args:
        notebook: the notebook; outputs are of no matter.
        files: names of files, such as those of grids, as the notebook's source has them.

    Raises:
        InputError: what is no notebook, or has a code cell that is not Python.
    """
    # Here, so that `python -m pruneviz.study.notebook` does not find the module imported before it runs.
    from pruneviz.study.notebook import read_notebook

    path = Path(notebook)
    wanted = list(files)
    names = _Names(wanted)
    title = ""
    found = []
    for cell in read_notebook(path).cells:
        if cell.cell_type == "markdown" and not title and cell.source.startswith("# "):
            title = cell.source.splitlines()[0].removeprefix("# ")
        if cell.cell_type != "code":
            continue
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            raise InputError(f"{path.name}: the cell {cell.id!r} is not Python: {error}") from error
        shown: dict[str, None] = {}
        behind: set[str] = set()
        for kinds, sources in names.follow(tree.body):
            if kinds and sources:
                shown |= dict.fromkeys(kinds)
                behind |= sources
        if shown:
            found.append(Place(path.stem, title, cell.id, tuple(shown), tuple(f for f in wanted if f in behind)))
    return found


def finished(store: str | os.PathLike[str]) -> dict[str, str]:
    """When each sound record of a store was finished: hash to UTC, ISO 8601.

    Raises:
        InputError: if the store is no folder.
    """
    folder = Path(store)
    if not folder.is_dir():
        raise InputError(f"there is no store at {os.fspath(store)!r}; a store is the folder that a sweep writes to")
    return {content["hash"]: str(content["finished"]) for content in record.read_all(folder)}


@dataclass
class _Names:
    """What is known of a notebook's names so far: the files behind each, and the functions that it defines."""

    files: list[str]
    behind: dict[str, set[str]] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)

    def follow(
        self, statements: Iterable[ast.stmt], given: frozenset[str] = frozenset()
    ) -> Iterator[tuple[list[str], set[str]]]:
        """Take note of statements; what each of them shows, and the files behind that."""
        for statement in statements:
            if isinstance(statement, ast.FunctionDef):
                self.functions[statement.name] = statement
                continue
            inner = [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.stmt)]
            if inner:  # a loop, a condition, a block
                target = statement.target if isinstance(statement, ast.For) else None
                outer = [p for p in ast.iter_child_nodes(statement) if not isinstance(p, ast.stmt) and p is not target]
                sources = given.union(*(self._sources(part) for part in outer))
                if target is not None:
                    self._bind(target, set(sources))
                yield from self.follow(inner, sources)
                continue
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else statement
            sources = given if value is None else given | self._sources(value)
            for target in _targets(statement):
                self._bind(target, set(sources))
            yield self._shows(statement), set(sources)

    def _bind(self, target: ast.expr, sources: set[str]) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                # A part of a value may be replaced: `table[...] = ...` leaves what was known of it.
                known = self.behind.get(node.id, set()) if not isinstance(target, ast.Name | ast.Tuple) else set()
                self.behind[node.id] = known | sources

    def _sources(self, node: ast.AST, entered: frozenset[str] = frozenset()) -> set[str]:
        """The files behind all names and texts of a piece of source, functions of the notebook included."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return {file for file in self.files if node.value.rpartition("/")[2] == file}
        if isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            if set(keys) >= _PROFILES:
                return self._sources(node.values[keys.index("smoke")], entered)
        if isinstance(node, ast.Name):
            if node.id in self.functions and node.id not in entered:
                return self._of_function(node.id, entered | {node.id})
            return self.behind.get(node.id, set())
        return set().union(*(self._sources(child, entered) for child in ast.iter_child_nodes(node)))

    def _of_function(self, name: str, entered: frozenset[str]) -> set[str]:
        """The files behind what a function takes from outside."""
        function = self.functions[name]
        names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        own |= {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
        hidden = {local: self.behind.pop(local) for local in own if local in self.behind}
        try:
            return set().union(*(self._sources(statement, entered) for statement in function.body))
        finally:
            self.behind |= hidden

    def _shows(self, statement: ast.stmt) -> list[str]:
        """What a statement puts on the page: its value, if it is an expression, and all that functions display."""
        direct = isinstance(statement, ast.Expr)
        return [kind for call in _calls(statement) for kind in self._kinds(call, direct, frozenset())]

    def _kinds(self, call: ast.Call, direct: bool, entered: frozenset[str]) -> list[str]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if direct and name in _KINDS:
            return [_KINDS[name]]
        if direct and isinstance(call.func, ast.Attribute) and "widgets" in ast.unparse(call.func.value):
            return ["interaction"]
        function = self.functions.get(name)
        if function is None or name in entered:
            return []
        inner = list(_calls(function))
        displays = any(getattr(each.func, "id", "") == "display" for each in inner)
        return [kind for each in inner for kind in self._kinds(each, direct or displays, entered | {name})]


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Call))


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign | ast.AugAssign) else []
