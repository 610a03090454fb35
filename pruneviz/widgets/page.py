"""What a static page needs to bring widgets to life: the files, and the fragment that stands for one widget.

A fragment is a `div` with the data as inline JSON and a plain table for those who run no script. The script
finds it and draws the widget in its place. Nothing is fetched, so it also works from a disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pruneviz.errors import InputError, check_choice
from pruneviz.widgets import bundle

SCRIPT = "pruneviz-widgets.js"
STYLE = "pruneviz-widgets.css"


def assets() -> dict[str, str]:
    """The files that a site serves with its pages: name to text. The script is a classic one, to be deferred."""
    return {SCRIPT: bundle.classic(), STYLE: bundle.style(page=True)}


def embed(widget: str, data: Mapping[str, Any], fallback: str = "") -> str:
    """The HTML fragment of one widget.

    Args:
        widget: its kind, one of `bundle.WIDGETS`.
        data: what it shows, anything that JSON can hold; its "state" is what the reader can change.
        fallback: HTML shown until the script has drawn the widget, or for good where there is no script.

    Raises:
        InputError: an unknown widget, or data that JSON cannot hold (NaN included).
    """
    check_choice("widget", widget, bundle.WIDGETS)
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"the data of {widget!r} cannot be written as JSON: {error}") from error
    # Inside a script element only "<" is special: no text in the data can end it.
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return (
        f'<div class="pv-widget" data-pv-widget="{widget}">\n'
        f'<script type="application/json">{safe}</script>\n'
        f'<div class="pv-fallback">{fallback}</div>\n</div>\n'
    )


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain HTML table; the first cell of each row names it. All texts are escaped."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(text)}</td>" for text in rest) + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )


def document(*fragments: str, title: str = "pruneviz") -> str:
    """A whole page in one file, script and style sheet inside, light or dark as the reader's system is."""
    files = assets()
    body = "\n".join(fragments)
    return _DOCUMENT.format(title=escape(title), style=files[STYLE], script=files[SCRIPT], body=body)


def save(path: str | Path, *fragments: str, title: str = "pruneviz") -> Path:
    """Write `document` to a file and return its path."""
    target = Path(path)
    target.write_text(document(*fragments, title=title), encoding="utf-8")
    return target


_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<script>
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.setAttribute("data-theme", dark.matches ? "dark" : "light");
dark.addEventListener("change", follow);
follow();
</script>
<style>
:root {{ color-scheme: light dark; }}
body {{
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  max-width: 58rem; margin: 0 auto; padding: 1rem; background: #fff; color: #222832;
}}
html[data-theme="dark"] body {{ background: #14181e; color: #ced6dd; }}
{style}
</style>
</head>
<body>
{body}
<script>
{script}
</script>
</body>
</html>
"""
