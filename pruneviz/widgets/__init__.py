"""Interactive pictures: one Python class and one JavaScript module each, live in a notebook or still on a page.

`MaskExplorer` shows which weights a scorer keeps. `Accuracy` shows a table of results: accuracy against sparsity.
Beside them, `page` gives a static site the script and the style sheet that bring the same pictures to life without a
kernel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruneviz.widgets import page
    from pruneviz.widgets.accuracy import Accuracy
    from pruneviz.widgets.interaction import Interaction
    from pruneviz.widgets.mask_explorer import MaskExplorer

__all__ = ["Accuracy", "Interaction", "MaskExplorer", "page"]

_MODULES = {
    "Accuracy": "accuracy",
    "Interaction": "interaction",
    "MaskExplorer": "mask_explorer",
}


def __getattr__(name: str) -> Any:
    # A site is built from `page` without the packages that live widgets need.
    if name in _MODULES:
        try:
            return getattr(importlib.import_module(f"pruneviz.widgets.{_MODULES[name]}"), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"pruneviz.widgets needs {error.name!r}: pip install 'pruneviz[notebooks]'", name=error.name
            ) from error
    if name == "page":
        return importlib.import_module("pruneviz.widgets.page")
    raise AttributeError(f"module 'pruneviz.widgets' has no attribute {name!r}")
