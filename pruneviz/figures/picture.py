"""A figure for a page: SVG that takes the page's text colour, with a caption and a text for those who can't see it.

An image file cannot know whether the page around it is light or dark. The same drawing as part of the page
can: where `style.INK` was, it says `currentColor`. So one figure reads in the book's light and dark pages, in
JupyterLab's themes and in print, and its words can be searched and copied.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from pruneviz.errors import InputError
from pruneviz.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The book's theme lays a light card under HTML outputs in the dark; paper is light whatever the screen is.
_CSS = """\
.pv-picture.pv-picture.pv-picture{margin:1rem 0;padding:0;max-width:31rem;color:inherit}
.pv-picture svg{display:block;width:100%;height:auto;overflow:visible}
.pv-picture figcaption{margin-top:.6rem;padding:0;font-size:.92rem;line-height:1.5;text-align:left}
html[data-theme="dark"] .bd-content div.cell_output div.text_html.text_html:has(>.pv-picture){\
background:none;color:inherit;padding:0}
@media print{.pv-picture.pv-picture.pv-picture.pv-picture{color:#000}}"""


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; shown by notebooks and by the book.

    Attributes:
        figure: the matplotlib figure.
        alt: what it shows, in words, for those who cannot see it.
        caption: what stands under it.
    """

    figure: Figure
    alt: str
    caption: str

    @cached_property
    def svg(self) -> str:
        """The drawing as an `svg` element whose text and axes have the colour of the text around it."""
        return _inline_svg(self.figure, self.alt)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the figure to a file of its own, dark on white, in the format that its name ends with."""
        self.figure.savefig(path, transparent=False, facecolor="white", dpi=200)

    def _repr_html_(self) -> str:
        return (
            f'<figure class="pv-picture"><style>{_CSS}</style>\n{self.svg}\n'
            f"<figcaption>{escape(self.caption, quote=False)}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        """The caption and the description."""
        return f"{self.caption} [{self.alt}]"


def show(drawn: Axes | Figure, *, alt: str, caption: str) -> Picture:
    """Make a figure ready for a page, as the last line of a notebook's cell.

    Args:
        drawn: axes or a figure, in the book's style.
        alt: what can be seen, in a sentence or two, for those who cannot see it.
        caption: what stands under the figure; plain text.

    Raises:
        InputError: an empty `alt` or `caption`.
    """
    import matplotlib.pyplot as plt

    for what, text in {"alt": alt, "caption": caption}.items():
        if not text.strip():
            raise InputError(f"{what} is empty; a figure needs a text that says what it shows")
    figure = drawn.get_figure(root=True)
    if figure is None:
        raise InputError("these axes belong to no figure any more")
    plt.close(figure)  # or a notebook would show it a second time
    return Picture(figure, " ".join(alt.split()), " ".join(caption.split()))


def _inline_svg(figure: Figure, alt: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # Text as text; the same figure is always the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pruneviz", "savefig.transparent": True}):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.03
        )
    text = buffer.getvalue()
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(re.escape(INK), "currentColor", svg, flags=re.IGNORECASE)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: inherit", svg)
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]+", r"\1 inherit", svg)
    # Ids are those of the whole page: make them this figure's own.
    own = "pv" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{own}-', svg)
    svg = re.sub(r'href="#', f'href="#{own}-', svg)
    svg = svg.replace("url(#", f"url(#{own}-")
    view = re.search(r'viewBox="[^"]+"', svg)
    if view is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {names} {view[0]} role="img" aria-label="{escape(alt)}">'
    return head + svg[svg.index(">") + 1 :]
