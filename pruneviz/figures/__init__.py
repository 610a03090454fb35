"""Pictures of results: one module per picture, each a function from a table to matplotlib axes.

>>> axes = pv.figures.accuracy(table)
>>> pv.figures.show(axes, alt="Accuracy falls with sparsity.", caption="Test accuracy of the last epoch.")

Every function draws one setting (data set, network, recipe) and refuses a table that mixes several.
"""

from pruneviz.figures.accuracy import accuracy
from pruneviz.figures.compare import compare
from pruneviz.figures.density import density
from pruneviz.figures.gradient import gradient
from pruneviz.figures.methods import method_names
from pruneviz.figures.picture import Picture, show
from pruneviz.figures.report import accuracy_table, how_sure, what_was_run
from pruneviz.figures.sheet import Sheet, show_table
from pruneviz.figures.style import look, percent
from pruneviz.figures.summary import Summary, summarize, summarize_by

__all__ = [
    "Picture",
    "Sheet",
    "Summary",
    "accuracy",
    "accuracy_table",
    "compare",
    "density",
    "gradient",
    "how_sure",
    "look",
    "method_names",
    "percent",
    "show",
    "show_table",
    "summarize",
    "summarize_by",
    "what_was_run",
]
