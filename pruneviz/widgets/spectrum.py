"""The spectrum of the neural tangent kernel: what pruning does to it, and where labels and residuals lie in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from pruneviz.errors import check_choice
from pruneviz.masks import Masks
from pruneviz.probes import NtkResult, loss_residual, ntk, ntk_projection, one_hot_labels
from pruneviz.problem import Problem
from pruneviz.widgets import page
from pruneviz.widgets.cuts import title as title_of
from pruneviz.widgets.methods import METHODS, Methods, decimals, figures
from pruneviz.widgets.on_grid import OfMethod

EIGENVALUES = "eigenvalues"
#: Vectors of the outputs that can be laid along the eigenvectors.
ALONG = ("labels", "residual")
FORMS = ("full", "trace")
MOST_RANKS = 100  # eigenvalues that are drawn of one spectrum


class Spectrum(OfMethod):
    """Choose a method and a sparsity; see the eigenvalues of the masked network's kernel before the dense one's.

    Everything is measured when it is made: one `pruneviz.ntk` for each method and sparsity.

    Args:
        problem: model, batches and loss. Of N inputs and C outputs; a kernel of more than about 1,000 rows takes
            seconds for each spectrum. In float64 small eigenvalues are right, too.
        methods: what can be chosen, "scorer" or "scorer:scope"; masks are those of `pruneviz.prune`.
        options: options of scorers, by the scorer's name.
        grid: the sparsities that can be chosen, increasing; None: 0, 0.5, 0.8, 0.9, 0.95, 0.98 and 0.99.
        along: which vectors are laid along the eigenvectors: "labels", as zeros and ones minus their mean over
            inputs, and "residual", the derivative of the loss with respect to the outputs; or none.
        outputs: form of the kernel, "full" of N C rows or "trace" of N rows.
        memory: budget of each kernel in GiB.
        method: the one shown first; the first of `methods` if None.
        sparsity: the one shown first, or the nearest of the grid.
        view: "eigenvalues", or one of `along`.
        title: what is measured, in a few words.

    Attributes:
        method, sparsity, view: what is shown; traits, which can be set and observed.

    Raises:
        InputError: an unknown name, a grid that cannot be used, a kernel beyond the budget, or labels that are no
            whole numbers where they are asked for.
    """

    kind = "spectrum"
    state = ("method", "sparsity", "view")

    view = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        problem: Problem,
        methods: Sequence[str] = METHODS,
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        grid: Iterable[float] | None = None,
        along: Sequence[str] = ALONG,
        outputs: str = "full",
        memory: float = 8.0,
        method: str | None = None,
        sparsity: float = 0.9,
        view: str = EIGENVALUES,
        title: str = "",
    ) -> None:
        check_choice("form of the kernel", outputs, FORMS)
        self._along = tuple(check_choice("vector along the eigenvectors", name, ALONG) for name in along)
        made = Methods(problem, methods, options, grid)
        check_choice("method", first := method or next(iter(made.methods)), made.methods)
        check_choice("view", view, (EIGENVALUES, *self._along))
        data = measured(made, self._along, outputs, memory) | {"title": title}
        super().__init__(made, data, method=first, sparsity=sparsity, view=view)

    def fallback(self) -> str:
        """Trace, condition number and effective rank of every method at the chosen sparsity."""
        rows = [["Dense", *_words(self.data["dense"])]]
        for method in self._methods.methods:
            entry = self.data["entries"][method][self._index]
            rows.append([title_of(method), *(["not possible"] * 3 if "limit" in entry else _words(entry))])
        caption = f"The neural tangent kernel's spectrum when {self.sparsity:.1%} of the weights are removed"
        return page.table(caption, ["method", "trace", "condition number", "effective rank"], rows)

    @traitlets.validate("view")
    def _known_view(self, proposal: dict[str, Any]) -> str:
        return check_choice("view", proposal["value"], (EIGENVALUES, *self._along))


def measured(methods: Methods, along: Sequence[str], outputs: str, memory: float) -> dict[str, Any]:
    """The data of the interaction: spectra of all methods at all sparsities, printed digits only."""
    problem = methods.problem

    def kernel(masks: Masks | None = None) -> NtkResult:
        return ntk(problem, masks, outputs=outputs, memory=memory, progress=False)

    def lead(dense: NtkResult) -> int:
        return min(dense.classes, len(dense.eigenvalues))

    def entry(result: NtkResult, masks: Masks | None, dense: NtkResult) -> dict[str, Any]:
        return _entry(problem, result, masks, along, ranks_of(len(dense.eigenvalues), lead(dense)))

    def of(dense: NtkResult, masks: Masks, sparsity: float) -> dict[str, Any]:
        result = dense if sparsity == 0 else kernel(masks)
        share = figures(result.trace / dense.trace) if dense.trace else None
        return entry(result, masks, dense) | {"trace_share": share}

    dense, entries = methods.measure("The kernel of", kernel, of)
    return {
        "side": len(dense.eigenvalues),
        "lead": lead(dense),
        "ranks": ranks_of(len(dense.eigenvalues), lead(dense)),
        "outputs": outputs,
        "n": dense.n,
        "classes": dense.classes,
        "total": dense.weights,
        "dense": entry(dense, None, dense),
        "methods": methods.described(),
        "grid": list(methods.grid),
        "along": list(along),
        "entries": entries,
    }


def ranks_of(side: int, lead: int) -> list[int]:
    """Which of `side` eigenvalues are drawn, counted from 1: all, or the first ones closely and the others evenly.

    The first `lead` ones end at one that is drawn, and the last one is.
    """
    if side <= MOST_RANKS:
        return list(range(1, side + 1))
    close = MOST_RANKS // 4
    even = torch.linspace(close, side, MOST_RANKS - close, dtype=torch.float64).round().long().tolist()
    return sorted({*range(1, close + 1), *even, lead, side})


def _entry(
    problem: Problem, result: NtkResult, masks: Masks | None, along: Sequence[str], ranks: list[int]
) -> dict[str, Any]:
    """One spectrum. An eigenvalue that is within rounding of zero is None: its digits say nothing."""
    values = result.eigenvalues
    rounding = len(values) * torch.finfo(result.kernel.dtype).eps * float(values[0])
    above = int((values > rounding).sum())
    entry: dict[str, Any] = {
        "values": [figures(float(values[rank - 1])) if rank <= above else None for rank in ranks],
        "above": above,
        "trace": figures(result.trace),
        "condition": figures(float(result.condition_number)),
        "effective": figures(float(result.effective_rank)),
        "weights": result.weights,
    }
    for name in along:
        target = one_hot_labels(problem, result.classes, centered=True) if name == "labels" else None
        target = loss_residual(problem, masks) if target is None else target
        entry[name] = _shares(result, target, ranks, above)
    return entry


def _shares(result: NtkResult, target: Tensor, ranks: list[int], above: int) -> dict[str, Any]:
    """The share of the target along the first so many eigenvectors, and along all whose eigenvalue is not zero.

    Those of eigenvalue zero are any basis of what is left, so that shares end with the others.
    """
    energy = ntk_projection(result, target.to(result.kernel.device)).energy.cumsum(0).clamp(max=1.0)
    shares = [decimals(float(energy[rank - 1]), 4) if rank <= above else None for rank in ranks]
    return {"shares": shares, "reach": decimals(float(energy[above - 1]), 4) if above else 0.0}


def _words(entry: Mapping[str, Any]) -> list[str]:
    condition = "infinite" if entry["condition"] is None else f"{entry['condition']:.4g}"
    return [f"{entry['trace']:.4g}", condition, "0" if entry["effective"] is None else f"{entry['effective']:.4g}"]
