"""Notebooks executed from top to bottom without anybody watching, with parameters, through papermill.

    python -m pruneviz.study.notebook NOTEBOOK OUT '{"profile": "smoke"}'

executes one; `pruneviz notebooks` executes all of them, and the book's graph (`book.smk`) each one that is not
up to date. A notebook that fails is kept for inspection beside the last good one, which is left as it was.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruneviz.errors import InputError, check_choice, check_number

if TYPE_CHECKING:
    from nbformat import NotebookNode

TIME_LIMIT = 1200.0
"""Seconds that a whole notebook may take when nothing else is said."""


class StepError(RuntimeError):
    """A step on the way from data to page failed. The message is for the reader: no traceback is needed."""


def parameters_of(notebook: Path | str) -> list[str]:
    """Return the names that a notebook's `parameters` cell assigns, in order; none if it has no such cell.

    Raises:
        InputError: if the file is not a notebook, or the cell is not Python.
    """
    names: list[str] = []
    for cell in read_notebook(Path(notebook)).cells:
        if cell.cell_type != "code" or "parameters" not in cell.metadata.get("tags", []):
            continue
        try:
            statements = ast.parse(cell.source).body
        except SyntaxError as error:
            raise InputError(f"{_shown(notebook)}: the parameters cell is not Python: {error}") from error
        for statement in statements:
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def execute(
    notebook: Path | str,
    out: Path | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    time_limit: float | None = TIME_LIMIT,
    progress: bool = True,
) -> Path:
    """Execute a notebook with papermill and write it, with its outputs, to `out`.

    The kernel is the Python that calls this function, whatever kernels are installed for the user, and it runs
    in the notebook's own folder, as it does in JupyterLab: a relative path among the parameters is relative to
    that folder. `out` is replaced only by a notebook that ran to its end; one that failed is written to
    `<out>.failed.ipynb` instead, with the error in the cell where it happened.

    Args:
        notebook: the notebook, without outputs.
        out: where to write the executed one; missing folders are made.
        parameters: values for names in the notebook's `parameters` cell; they must be JSON.
        time_limit: seconds for the whole notebook, the start of the kernel not counted; None for no limit.
        progress: show a bar on stderr, if that is a terminal.

    Returns:
        The path `out`.

    Raises:
        InputError: not a notebook, or a parameter that the notebook does not have.
        StepError: a cell failed or the time ran out; names the notebook, the cell and the parameters.
    """
    notebook, out, parameters = Path(notebook), Path(out), dict(parameters or {})
    time_limit = None if time_limit is None else check_number("time_limit", time_limit, above=0.0)
    accepted = parameters_of(notebook)
    for name in parameters:
        if not accepted:
            raise InputError(f"{_shown(notebook)} takes no parameters; received {name!r}")
        check_choice(f"parameter of {_shown(notebook)}", name, accepted)

    from papermill import execute_notebook

    out.parent.mkdir(parents=True, exist_ok=True)
    running = out.with_suffix(f".running-{os.getpid()}.ipynb").resolve()
    failed = out.with_suffix(".failed.ipynb")
    # Papermill logs what the error says anyway.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    try:
        execute_notebook(
            str(notebook.resolve()),
            str(running),
            parameters,
            kernel_name="python3",
            language="python",
            progress_bar={"desc": notebook.stem} if progress and sys.stderr.isatty() else False,
            kernel_manager_class=_kernel_manager(),
            resources={"metadata": {"path": str(notebook.resolve().parent)}},
            timeout_func=_countdown(time_limit),
        )
        os.replace(running, out)
    except Exception as error:
        if not running.exists():
            raise StepError(f"{_shown(notebook)} did not start: {_one_line(error)}") from error
        os.replace(running, failed)
        where = _failing_cell(failed)
        given = ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "the notebook's own parameters"
        raise StepError(
            f"{_shown(notebook)} failed in {where}, with {given}: {_reason(error, time_limit)}\n"
            f"the notebook as far as it ran: {_shown(failed)}"
        ) from error
    finally:
        running.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    return out


def execute_all(
    notebooks: Iterable[Path | str],
    folder: Path | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    time_limit: float | None = TIME_LIMIT,
    progress: bool = True,
) -> list[Path]:
    """Execute several notebooks, one after the other, into a folder; see `execute`.

    Args:
        notebooks: the notebooks.
        folder: where the executed ones go, each under its own name.
        parameters: each notebook is given those that it has; every one must belong to some notebook.
        time_limit: seconds for each notebook; None for no limit.
        progress: show a bar on stderr, if that is a terminal.

    Returns:
        The executed notebooks.

    Raises:
        InputError: no notebook at all, not a notebook, or a parameter that none of them has.
        StepError: after all have been tried, naming each that failed.
    """
    sources = [Path(notebook) for notebook in notebooks]
    if not sources:
        raise InputError("no notebook to execute was given")
    accepted = {source: parameters_of(source) for source in sources}
    given = dict(parameters or {})
    for name in given:
        check_choice("parameter", name, dict.fromkeys(n for names in accepted.values() for n in names))
    done: list[Path] = []
    errors: list[str] = []
    for source in sources:
        mine = {name: value for name, value in given.items() if name in accepted[source]}
        try:
            done.append(execute(source, Path(folder) / source.name, mine, time_limit=time_limit, progress=progress))
        except StepError as error:
            errors.append(str(error))
    if errors:
        raise StepError("\n".join(errors))
    return done


def read_notebook(notebook: Path) -> NotebookNode:
    """Read a notebook of any version, as nbformat's version 4.

    Raises:
        InputError: if there is no such file, or it is not a notebook.
    """
    import nbformat

    try:
        content: NotebookNode = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
        return content
    except FileNotFoundError as error:
        raise InputError(f"there is no notebook {_shown(notebook)}") from error
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise InputError(f"{_shown(notebook)} cannot be read as a notebook: {_one_line(error)}") from error


def _kernel_manager() -> type:
    """A kernel manager for this interpreter: a kernel installed elsewhere under the same name is not taken."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            # The history is a database in the user's home that kernels running side by side would lock. What the
            # kernel logs is about its sockets; errors of cells come back as outputs.
            command += ["--HistoryManager.enabled=False", "--log-level=50"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return ThisInterpreter


def _failing_cell(failed: Path) -> str:
    """Name the last cell that was started, counted as in the notebook that the author wrote."""
    cells = [
        cell for cell in read_notebook(failed).cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    started = [i for i, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
    if not started:
        return "no cell: the kernel did not start"
    injected = [i for i, cell in enumerate(cells) if "injected-parameters" in cell.metadata.get("tags", [])]
    before = sum(i < started[-1] for i in injected)
    lines = cells[started[-1]].source.strip().splitlines() or [""]
    return f"cell {started[-1] + 1 - before} of {len(cells) - len(injected)} ({lines[0].strip()!r})"


def _countdown(time_limit: float | None) -> Callable[[object], int | None]:
    """What a cell about to run may take, in seconds; the clock starts with the first, when the kernel is up."""
    began: float | None = None

    def left(_: object) -> int | None:
        nonlocal began
        if time_limit is None:
            return None
        now = time.monotonic()
        began = now if began is None else began
        return max(1, round(began + time_limit - now))

    return left


def _reason(error: Exception, time_limit: float | None) -> str:
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return _one_line(f"{error.ename}: {error.evalue}")
    if isinstance(error, CellTimeoutError):
        return f"it was not done after {time_limit:g} s, the time limit"
    if isinstance(error, DeadKernelError):
        return "its Python process died (killed, or out of memory)"
    return f"{type(error).__name__}: {_one_line(error)}"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _shown(path: Path | str) -> str:
    """A path as short as it can be said from where the reader is."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    print(f"book: executing {sys.argv[1]}", file=sys.stderr, flush=True)
    try:
        execute(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    except (InputError, StepError) as problem:
        sys.exit(f"pruneviz: {problem}")
