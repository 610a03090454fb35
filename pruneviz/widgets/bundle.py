"""The widgets' JavaScript as one file, without a build step.

The sources beside this file are plain ES modules that import each other by relative path. A notebook takes a
widget as one module, from memory, where a relative path leads nowhere; a page opened from a disk may not load
modules at all. So the modules are written one after the other, imported ones first, and the keywords that
would tie them together are dropped. Nothing else in the text is touched.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
#: The kinds of widgets that there are.
WIDGETS = ("mask_explorer", "spectrum", "depth", "accuracy", "agreement", "sanity", "microscope", "cost")

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_NAMED = re.compile(r"^export (?=(?:async )?function\b|const\b|class\b)", re.MULTILINE)
_LEFT_OVER = re.compile(r"^[ \t]*(?:import|export)\b.*", re.MULTILINE)


def es_module(name: str) -> str:
    """The widget `name` as one ES module, `export default { render, choices }`, that imports nothing."""
    return _joined(name, "export default ")


def classic(widgets: tuple[str, ...] = WIDGETS) -> str:
    """One classic script with every widget and the loader that starts them on a page."""
    parts = ['(function () {\n"use strict";\nconst widgets = {};\n']
    for name in widgets:
        parts.append(f'widgets["{name}"] = (function () {{\n{_joined(name, "return ")}\n}})();\n')
    parts += [_joined("page", ""), "start(widgets);\n})();\n"]
    return "\n".join(parts)


def style(widgets: tuple[str, ...] = WIDGETS, *, page: bool = False) -> str:
    """The style sheet of these widgets; with `page` also the rules that only a static page needs.

    A module's rules are in the .css file of its name, and are joined in the order of the modules.
    """
    names = [module for widget in widgets for module in _in_order(widget)]
    files = [FOLDER / f"{name}.css" for name in dict.fromkeys([*names, *(["page"] if page else [])])]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def _joined(name: str, default: str) -> str:
    """A module and all that it imports as one text; `default` stands where `export default ` stood."""
    return "\n".join(_plain(module, default if module == name else None) for module in _in_order(name))


def _in_order(name: str, within: tuple[str, ...] = ()) -> list[str]:
    """The names of a module and of all that it imports, imported ones first, each once."""
    if name in within:
        raise ValueError(f"{name}.js imports itself, by way of {' -> '.join(within)}")
    imported = [module for other in _IMPORT.findall(_source(name)) for module in _in_order(other, (*within, name))]
    return list(dict.fromkeys([*imported, name]))


def _source(name: str) -> str:
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")


def _plain(name: str, default: str | None) -> str:
    """A module without its imports and without `export`."""
    text = _NAMED.sub("", _IMPORT.sub("", _source(name)))
    left = [line for line in _LEFT_OVER.findall(text) if default is None or not _DEFAULT.match(line)]
    if left:
        raise ValueError(f'cannot join {left[0]!r}; accepted: import {{ name }} from "./file.js"; and export')
    return text if default is None else _DEFAULT.sub(default, text)
