"""A table for a page: a data frame with a caption, headings that screen readers follow, and quiet lines."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from pruneviz.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# By its class `dataframe` the book's theme knows a table that needs no light card in the dark. A wide table
# scrolls inside itself, and its caption stays in sight.
_CSS = """\
.pv-sheet.pv-sheet.pv-sheet{margin:.5rem 0;padding:0}
.pv-sheet figcaption{margin-bottom:.5rem;padding:0;font-size:.92rem;line-height:1.5;text-align:left}
.pv-sheet>div{overflow-x:auto}
.pv-sheet table.dataframe{width:auto;margin:0;border-collapse:collapse;font-size:.92rem;line-height:1.4;\
font-variant-numeric:tabular-nums}
.pv-sheet table.dataframe :is(th,td){padding:.25rem .6rem;border:0;text-align:left;vertical-align:top;\
white-space:normal;max-width:none}
.pv-sheet table.dataframe tbody th{font-weight:500}
.pv-sheet table.pv-numbers :is(td,thead th+th){text-align:right}
.pv-sheet table.pv-numbers td,.pv-sheet table:not(.pv-numbers) tbody th{white-space:nowrap}
.pv-sheet table.dataframe thead th{border-bottom:1px solid}"""


@dataclass(frozen=True)
class Sheet:
    """A table with its caption; shown by notebooks and by the book.

    Attributes:
        frame: texts; the index names the rows, the columns' name stands in the corner.
        caption: what stands above it.
    """

    frame: pd.DataFrame
    caption: str

    def _repr_html_(self) -> str:
        corner = escape(str(self.frame.columns.name or ""))
        head = f'<th scope="col">{corner}</th>' if corner else "<td></td>"
        head += "".join(f'<th scope="col">{escape(str(column))}</th>' for column in self.frame.columns)
        body = "".join(
            f'<tr><th scope="row">{escape(str(name))}</th>'
            + "".join(f"<td>{escape(str(value))}</td>" for value in row)
            + "</tr>\n"
            for name, *row in self.frame.itertuples(name=None)
        )
        # One column of words needs no heading beside the caption.
        heading = f"<thead><tr>{head}</tr></thead>\n" if len(self.frame.columns) > 1 else ""
        kind = " pv-numbers" if heading else ""
        return (
            f'<figure class="pv-sheet"><style>{_CSS}</style>\n'
            f"<figcaption>{escape(self.caption, quote=False)}</figcaption>\n"
            f'<div><table class="dataframe{kind}">\n{heading}<tbody>\n{body}</tbody></table></div></figure>'
        )

    def __repr__(self) -> str:
        """The caption and the table as text."""
        return f"{self.caption}\n{self.frame.to_string()}"


def show_table(frame: pd.DataFrame, *, caption: str) -> Sheet:
    """Make a table ready for a page, as the last line of a notebook's cell.

    Args:
        frame: texts, for instance of `accuracy_table` or `what_was_run`.
        caption: what stands above it; plain text.

    Raises:
        InputError: an empty caption.
    """
    if not caption.strip():
        raise InputError("caption is empty; a table needs a text that says what it shows")
    return Sheet(frame, " ".join(caption.split()))
