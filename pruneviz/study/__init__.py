"""Studies: experiments as values, what they measured as files, and all of them as one table."""

from pruneviz.study.cell import Cell
from pruneviz.study.grid import read_grid
from pruneviz.study.ledger import not_run, read_published
from pruneviz.study.origins import Place, finished, places
from pruneviz.study.run import CellsFailed, compute
from pruneviz.study.table import make_table, read_table, write_table
from pruneviz.study.vary import as_list, vary

__all__ = [
    "Cell",
    "CellsFailed",
    "Place",
    "as_list",
    "compute",
    "finished",
    "make_table",
    "not_run",
    "places",
    "read_grid",
    "read_published",
    "read_table",
    "vary",
    "write_table",
]
