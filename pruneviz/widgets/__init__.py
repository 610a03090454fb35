"""Interactive pictures: one Python class and one JavaScript module each, live in a notebook or still on a page.

`MaskExplorer` shows which weights a scorer keeps, `Spectrum` what is left of the neural tangent kernel, `Depth` the
gradients and signals of each layer, `Agreement` how far methods agree, and `Microscope` a single weight. `Accuracy`,
`Sanity` and `Cost` show a table of results: against sparsity, after ablations, against operations. `live` puts controls
above one of these that change its network. Beside them, `page` gives a static site the script and the style sheet that
bring the same pictures to life without a kernel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruneviz.widgets import page
    from pruneviz.widgets.accuracy import Accuracy
    from pruneviz.widgets.agreement import Agreement
    from pruneviz.widgets.cost import Cost
    from pruneviz.widgets.depth import Depth
    from pruneviz.widgets.interaction import Interaction
    from pruneviz.widgets.live_controls import live
    from pruneviz.widgets.mask_explorer import MaskExplorer
    from pruneviz.widgets.microscope import Microscope
    from pruneviz.widgets.sanity import Sanity
    from pruneviz.widgets.spectrum import Spectrum

__all__ = [
    "Accuracy",
    "Agreement",
    "Cost",
    "Depth",
    "Interaction",
    "MaskExplorer",
    "Microscope",
    "Sanity",
    "Spectrum",
    "live",
    "page",
]

_MODULES = {
    "Accuracy": "accuracy",
    "Agreement": "agreement",
    "Cost": "cost",
    "Depth": "depth",
    "Interaction": "interaction",
    "MaskExplorer": "mask_explorer",
    "Microscope": "microscope",
    "Sanity": "sanity",
    "Spectrum": "spectrum",
    "live": "live_controls",
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
