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
WIDGETS = ("mask_explorer",)

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_NAMED = re.compile(r"^export (?=(?:async )?function\b|const\b|class\b)", re.MULTILINE)
_LEFT_OVER = re.compile(r"^[ \t]*(?:import|export)\b.*", re.MULTILINE)


def es_module(name: str) -> str:
    """The widget `name` as one ES module, `export default { render }`, that imports nothing."""
    return "\n".join([_plain(text) for text in _in_order(name)[:-1]] + [_plain(_in_order(name)[-1], keep_default=True)])


def classic(widgets: tuple[str, ...] = WIDGETS) -> str:
    """One classic script with every widget and the loader that starts them on a page."""
    parts = ['(function () {\n"use strict";\nconst widgets = {};\n']
    for name in widgets:
        body = "\n".join(_plain(text) for text in _in_order(name)[:-1])
        main = _DEFAULT.sub("return ", _plain(_in_order(name)[-1], keep_default=True))
        parts.append(f'widgets["{name}"] = (function () {{\n{body}\n{main}\n}})();\n')
    parts += [_plain(text) for text in _in_order("page")]
    parts.append("start(widgets);\n})();\n")
    return "\n".join(parts)


def style(*, page: bool = False) -> str:
    """The style sheet of all widgets; with `page` also the rules that only a static page needs."""
    names = [*WIDGETS, *(["page"] if page else [])]
    return "\n".join((FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in names)


def _in_order(name: str, seen: tuple[str, ...] = ()) -> list[str]:
    """The sources of a module and of all that it imports, imported ones first, each once."""
    if name in seen:
        raise ValueError(f"{name}.js imports itself, by way of {' -> '.join(seen)}")
    text = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
    ordered: list[str] = []
    for imported in _IMPORT.findall(text):
        ordered += [source for source in _in_order(imported, (*seen, name)) if source not in ordered]
    return [*ordered, text]


def _plain(text: str, *, keep_default: bool = False) -> str:
    """The module without its imports and without `export`; `export default` may stay."""
    text = _NAMED.sub("", _IMPORT.sub("", text))
    left = [line for line in _LEFT_OVER.findall(text) if not (keep_default and _DEFAULT.match(line))]
    if left:
        raise ValueError(f'cannot join this line: {left[0]!r}; accepted: import {{ name }} from "./file.js";')
    return text
