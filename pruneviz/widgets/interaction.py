"""What every interaction is: one object with a live form in a notebook and a still one on a page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from pruneviz.widgets import bundle, page


class Interaction(anywidget.AnyWidget):
    """A picture with controls, drawn by the JavaScript module of its kind.

    A subclass names its `kind` and its `state`, declares a synchronized trait for each name of the state, and gives
    `fallback`. What is shown is in the trait `data`, which may be replaced: the picture follows.

    Class attributes:
        kind: the name of the module `<kind>.js` beside this file.
        state: the traits that the reader changes, in the order in which a link lists them.

    Attributes:
        data: what the module draws.
        status: what is being computed, or what went wrong, or "".
    """

    kind: ClassVar[str]
    state: ClassVar[tuple[str, ...]]

    data = traitlets.Dict().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "kind" in cls.__dict__:
            cls._esm = bundle.es_module(cls.kind)
            cls._css = bundle.style((cls.kind,))
        super().__init_subclass__(**kwargs)

    @property
    def title(self) -> str:
        """What is shown, in a few words, or ""."""
        return str(self.data.get("title", ""))

    def inline(self) -> dict[str, Any]:
        """The data as a page holds them: anything that JSON can, and nothing that needs a kernel."""
        return dict(self.data)

    def fallback(self) -> str:
        """HTML that shows the same numbers where no script runs, a table for instance."""
        raise NotImplementedError

    def is_light(self) -> bool:
        """Whether a notebook is given the interactive HTML form too, and not `brief` alone."""
        return True

    def brief(self) -> str:
        """HTML in place of the interactive form where that would be too heavy for a notebook."""
        return self.fallback()

    def html(self) -> str:
        """The interactive HTML fragment, for a page that has `page.assets()`."""
        state = {name: getattr(self, name) for name in self.state}
        return page.embed(self.kind, self.inline() | {"state": state}, self.fallback())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as one HTML file that needs no kernel and no network; returns its path."""
        return page.save(Path(path), self.html(), title=self.title or self.kind.replace("_", " ").capitalize())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        shown = super()._repr_mimebundle_(**kwargs)
        if shown is None:
            return None
        bundle_, metadata = shown
        bundle_["text/html"] = self.html() if self.is_light() else self.brief()
        return bundle_, metadata

    def __repr__(self) -> str:
        """What is chosen, in one line."""
        chosen = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.state)
        return f"{type(self).__name__}({chosen})"
