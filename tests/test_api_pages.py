"""The pages of the public names: all names are there, each argument is described, and nothing else is claimed."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import docstring_parser
import pytest

import pruneviz as pv
from pruneviz.study.api import GROUPS, call, entry, members, page, write_reference

TYPES = {"Masks", "Scores"}  # aliases, which have no docstring
VALUES = {"RECIPES", "SCOPES"}
ENTRIES = [(name, obj) for group in GROUPS for name, obj in members(pv, group.names)]


def test_every_public_name_has_one_place() -> None:
    names = [name for name, _ in ENTRIES]
    assert len(set(names)) == len(names)
    modules = {name for name in pv.__all__ if inspect.ismodule(getattr(pv, name))}
    assert {name for name in names if "." not in name} == set(pv.__all__) - TYPES - VALUES - modules
    assert {name.split(".")[0] for group in GROUPS for name in group.names.split() if name.endswith(".*")} | {
        "schedule"
    } == modules


@pytest.mark.parametrize(("name", "obj"), ENTRIES, ids=[name for name, _ in ENTRIES])
def test_every_argument_is_described_and_none_that_is_not_there(name: str, obj: Any) -> None:
    docstring = docstring_parser.parse(inspect.getdoc(obj) or "", style=docstring_parser.DocstringStyle.GOOGLE)
    assert docstring.short_description
    described = {p.arg_name.lstrip("*") for p in docstring.params if p.args[0] == "param"}
    if inspect.isclass(obj):
        fields = set(getattr(obj, "__dataclass_fields__", {}))
        listed = {p.arg_name for p in docstring.params if p.args[0] == "attribute"}
        assert listed <= fields | set(dir(obj)) or not fields, name
        return
    taken = {p.name for p in inspect.signature(obj).parameters.values()}
    assert described <= taken, name
    if described:
        assert described == taken, name


def test_an_entry_says_how_it_is_called_and_what_it_raises() -> None:
    text = entry("allocate", pv.allocate)
    assert text.startswith("(pv-allocate)=\n## `pv.allocate`")
    assert "    scope: str = 'global',\n" in text
    assert "- `sparsity`: the fraction removed, 0 <= sparsity < 1." in text
    assert "**Raises**\n\n- `InputError`: an unknown scope" in text


def test_long_and_short_signatures_and_keywords() -> None:
    def short(x: int, *, flag: bool = False) -> str: ...

    def long(first_of_many: dict[str, int], second_of_many: dict[str, int], *rest: int, and_one_more: str) -> None: ...

    assert call("f", short) == "f(x: int, *, flag: bool = False) -> str"
    lines = call("f", long).splitlines()
    assert lines[0] == "f("
    assert lines[3:] == ["    *rest: int,", "    and_one_more: str,", ") -> None"]


@pytest.mark.parametrize(("name", "obj"), ENTRIES, ids=[name for name, _ in ENTRIES])
def test_every_signature_is_python(name: str, obj: Any) -> None:
    """Or the page would not be rendered: a default may have a representation that is no expression."""
    for signature in re.findall(r"```python\n\.?(\w+(?:\.\w+)*\(.*?)\n```", entry(name, obj), re.DOTALL):
        ast.parse(f"def {signature.replace('.', '_', signature.split('(')[0].count('.'))}: ...")


def test_a_default_that_is_a_type_or_a_function_is_shown_by_its_name() -> None:
    def f(kind: type = str, by: object = len, text: str = "len") -> None: ...

    assert call("f", f) == "f(kind: type = str, by: object = len, text: str = 'len') -> None"


def test_properties_and_methods_of_a_class_are_listed() -> None:
    text = page(pv, GROUPS[0])
    assert "\n.weights(" not in text, "a property is not called"
    for part in ("### `.gradient`", "### `.weights`", ".gradient(\n    weights: Mapping[str, Tensor],\n    *,\n"):
        assert part in text


def test_all_pages_are_written(tmp_path: Any) -> None:
    write_reference(pv, tmp_path)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert set(written) == {*(f"{group.file}.md" for group in GROUPS), "_overview.txt"}
    assert all(f"/book/api/{group.file}>" in written["_overview.txt"] for group in GROUPS)
