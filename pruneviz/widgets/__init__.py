"""Interactive pictures: one Python class and one JavaScript module each, live in a notebook or still on a page.

`MaskExplorer` shows which weights a scorer keeps. Beside it, `page` gives a static site the script and the
style sheet that bring the same pictures to life without a kernel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruneviz.widgets import page
    from pruneviz.widgets.mask_explorer import MaskExplorer

__all__ = ["MaskExplorer", "page"]


def __getattr__(name: str) -> Any:
    # A site is built from `page` without the packages that live widgets need.
    if name == "MaskExplorer":
        try:
            return importlib.import_module("pruneviz.widgets.mask_explorer").MaskExplorer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"pruneviz.widgets needs {error.name!r}: pip install 'pruneviz[notebooks]'", name=error.name
            ) from error
    if name == "page":
        return importlib.import_module("pruneviz.widgets.page")
    raise AttributeError(f"module 'pruneviz.widgets' has no attribute {name!r}")
