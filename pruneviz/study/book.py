"""The rendered book: one command from the smoke sweep over executed notebooks to `_build/html`.

`build` runs the whole way and does only what is not done yet; `render` is its last step. Every step is kept in
`_build` of the repository: `store` the records of the sweep, `notebooks` with their outputs, `source` what
Jupyter Book reads, `book.log` what it said, and `html` the site. A step that fails leaves the last good site.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pruneviz.errors import InputError, check_positive
from pruneviz.study import archive
from pruneviz.study.locks import hold
from pruneviz.study.notebook import StepError, parameters_of
from pruneviz.study.pages import stage

PARAMETERS = {"profile": "smoke", "store": "../_build/store"}
"""What every notebook of the book is given, as far as it has such a parameter."""

READERS = {"reference_provenance"}
"""Notebooks that read the others' sources: executed again when one of those, or the order of the book, changes."""

_PACKAGE = Path(__file__).resolve().parents[1]
_GRAPH = Path(__file__).with_name("book.smk")
# Neither a notebook nor a page depends on them.
_NOT_LIBRARY = {"__main__.py", "arguments.py", "cli.py", "study/book.py", "study/book.smk", "study/notebook.py"}
# No number of a record depends on them.
_SHOWING = {"figures", "widgets", "__main__.py", "arguments.py", "cli.py"} | {
    f"study/{name}.py" for name in ("api", "archive", "book", "notebook", "pages")
}


def build(root: Path | str = ".", jobs: int | None = None) -> Path:
    """Build the book: smoke sweep, notebooks, pages. What is up to date is not done again.

    Args:
        root: the repository.
        jobs: how many steps may run side by side; None: one per core.

    Returns:
        The path of the site's `index.html`.

    Raises:
        InputError: `root` is not the repository of the book, or it is being built already.
        StepError: a step failed; what it said is on stderr, and the site is the last good one.
    """
    root = Path(root).resolve()
    cores = check_positive("jobs", jobs) if jobs is not None else os.cpu_count() or 1
    notebooks = listed_notebooks(root)
    html = root / "_build" / "html"
    with _alone(root):
        _say("sweep: book/grids/smoke.yaml")
        _smoke_sweep(root, cores)
        _say(f"notebooks and pages: {', '.join(notebooks)}")
        _forget_stamps_of_lost_files(root, notebooks)
        config = root / "_build" / "book.json"
        config.write_text(json.dumps(_graph(root, notebooks), indent=1), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(_GRAPH), "--directory", str(root)]
        command += ["--configfile", str(config), "--cores", str(cores), "--quiet", "all", "--keep-going"]
        # The lock above replaces Snakemake's, which a killed build would leave behind.
        command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input", "code"]
        # Steps run side by side, and the number of threads can change a result's last bits: pages are to be the same.
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        if subprocess.run(command, cwd=root, check=False, env=environment).returncode:
            raise StepError(f"the book was not built, for the reason above; {_last_good(html)}")
    return html / "index.html"


def render(root: Path, scripts: Mapping[str, str]) -> Path:
    """Stage the book and render it with Jupyter Book, every warning an error; execute nothing.

    Args:
        root: the repository, with executed notebooks in `_build/notebooks`.
        scripts: the widgets' scripts and styles for static pages, name to text.

    Returns:
        The path of the site's `index.html`.

    Raises:
        StepError: Jupyter Book warned or failed; the message has the warnings, and the last site stays.
    """
    work = root / "_build"
    source = stage(
        root,
        executed=[work / "notebooks" / f"{name}.ipynb" for name in listed_notebooks(root)],
        scripts=scripts,
        target=work / "source",
    )
    output = work / "rendering"
    shutil.rmtree(output, ignore_errors=True)
    jupyter_book = "from jupyter_book.cli.main import main; main()"  # it cannot be run with -m
    command = [sys.executable, "-c", jupyter_book, "build", str(source), "--path-output", str(output)]
    command += ["--config", str(source / "_config.yml"), "--toc", str(source / "book" / "_toc.yml")]
    command += ["-W", "--keep-going", "-n"]
    run = subprocess.run(command, cwd=root, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout).replace(f"{source}{os.sep}", "")
    (work / "book.log").write_text(log, encoding="utf-8")
    fresh = output / "_build" / "html"
    if run.returncode or not (fresh / "index.html").is_file():
        said = [line for line in log.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|[A-Za-z]Error:", line)]
        lines = "\n".join(said[:20] or log.splitlines()[-5:])
        raise StepError(f"Jupyter Book did not render the pages; _build/book.log has all of it:\n{lines}")
    archive.pack(fresh)
    _swap(fresh, work / "html")
    shutil.rmtree(output)
    return work / "html" / "index.html"


def listed_notebooks(root: Path) -> list[str]:
    """Return the names, without suffix, of the notebooks that `book/_toc.yml` lists, in the book's order.

    Raises:
        InputError: if there is no table of contents, or it lists a notebook that is not there.
    """
    import yaml

    toc = root / "book" / "_toc.yml"
    try:
        contents = yaml.safe_load(toc.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{root} is not the repository of the book: {toc} cannot be read") from error
    files = [Path(file) for file in _files_of(contents)]
    names = [file.stem for file in files if file.parent == Path("notebooks")]
    for name in names:
        if not (root / "notebooks" / f"{name}.ipynb").is_file():
            raise InputError(f"book/_toc.yml lists notebooks/{name}, but there is no notebooks/{name}.ipynb")
    return names


def _files_of(contents: Any) -> Iterator[str]:
    if isinstance(contents, dict):
        for key, value in contents.items():
            if key in ("file", "root") and isinstance(value, str):
                yield value.removesuffix(".ipynb")
            else:
                yield from _files_of(value)
    elif isinstance(contents, list):
        for value in contents:
            yield from _files_of(value)


def _graph(root: Path, notebooks: list[str]) -> dict[str, Any]:
    """What the rules of `book.smk` depend on; paths are relative to the repository where they are in it."""
    library = [p for p in sorted(_PACKAGE.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    library = [p for p in library if p.relative_to(_PACKAGE).as_posix() not in _NOT_LIBRARY]
    data = root / "book" / "data"
    pages = [p for p in sorted((root / "book").rglob("*")) if p.is_file() and data not in p.parents]
    results = [*sorted(data.glob("*.parquet")), data / "published.csv", *_smoke_records(root)]
    results += sorted((root / "book" / "grids").glob("*.yaml"))
    versions = root / "requirements.lock"

    def relative(paths: list[Path]) -> list[str]:
        return [os.path.relpath(p, root) for p in paths if p.is_file()]

    accepted = {name: parameters_of(root / "notebooks" / f"{name}.ipynb") for name in notebooks}
    return {
        "notebooks": {
            name: {key: value for key, value in PARAMETERS.items() if key in accepted[name]} for name in notebooks
        },
        "library": relative([*library, versions]),
        "pages": relative([root / "_config.yml", *pages, root / "benchmarks" / "README.md"]),
        "results": relative(results),
        "readers": sorted(READERS & set(notebooks)),
        "sources": ["book/_toc.yml", *(f"notebooks/{name}.ipynb" for name in notebooks)],
    }


def _smoke_records(root: Path) -> list[Path]:
    """The records of the smoke grid. Others in that store were computed by notebooks, and are no reason to run them."""
    from pruneviz.study.grid import read_grid
    from pruneviz.study.record import path_of

    grid = root / "book" / "grids" / "smoke.yaml"
    cells = read_grid(grid) if grid.is_file() else []
    return [path_of(root / "_build" / "store", cell.hash) for cell in sorted(cells, key=lambda cell: cell.hash)]


def _forget_stamps_of_lost_files(root: Path, notebooks: list[str]) -> None:
    """Remove the stamp of everything that somebody deleted, so that it is made again."""
    work = root / "_build"
    stamps = {work / "stamps" / "html": work / "html" / "index.html"}
    stamps |= {work / "stamps" / "notebook" / name: work / "notebooks" / f"{name}.ipynb" for name in notebooks}
    for stamp, made in stamps.items():
        if not made.is_file():
            stamp.unlink(missing_ok=True)


def _smoke_sweep(root: Path, cores: int) -> None:
    """Compute the smoke grid's missing cells; all of them where the library that computed them has changed."""
    from pruneviz.study.sweep import Settings, sweep

    store, state = root / "_build" / "store", root / "_build" / "store.sha256"
    digest = hashlib.sha256()
    for path in _computing(root):
        digest.update(os.path.relpath(path, _PACKAGE).encode() + b"\0" + path.read_bytes() + b"\0")
    if not state.is_file() or state.read_text(encoding="utf-8") != digest.hexdigest():
        shutil.rmtree(store, ignore_errors=True)
        state.write_text(digest.hexdigest(), encoding="utf-8")
    # On the CPU also where there is a GPU: the pages are to show the same on every machine.
    settings = Settings(jobs=cores, device="cpu", threads=1, retry_failed=True)
    if sweep(root / "book" / "grids" / "smoke.yaml", store, settings, _say):
        raise StepError("the smoke sweep did not finish, for the reason above")


def _computing(root: Path) -> list[Path]:
    """The files that a record depends on beside its cell: the library without what only shows results; the versions."""
    files = [path for path in sorted(_PACKAGE.rglob("*.py")) if not _SHOWING & _names(path)]
    versions = root / "requirements.lock"
    return [*files, versions] if versions.is_file() else files


def _names(path: Path) -> set[str]:
    """The path of a file of the library, and those of the folders around it, relative to the library."""
    inside = path.relative_to(_PACKAGE)
    return {inside.as_posix(), *(folder.as_posix() for folder in inside.parents)}


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the build folder; the system lets go of it when the process ends, however it ends."""
    (root / "_build").mkdir(exist_ok=True)
    lock = hold(root / "_build" / ".lock")
    if lock is None:
        raise InputError(f"the book is being built in {root / '_build'} already; wait for that to end")
    with lock:
        yield


def _swap(fresh: Path, site: Path) -> None:
    """Put a rendered site in the place of the old one; at no time is a half of one there."""
    old = site.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if site.exists():
        site.rename(old)
    fresh.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def _last_good(html: Path) -> str:
    return f"{html} is as it was before" if (html / "index.html").is_file() else "there is no earlier one"


def _say(step: str) -> None:
    tqdm.write(f"book: {step}", file=sys.stderr)


def main(scripts: Mapping[str, str]) -> None:
    """Render the book of the current folder; what a rule of `book.smk` calls."""
    _say("rendering the pages")
    try:
        render(Path.cwd(), scripts)
    except (InputError, StepError) as problem:
        sys.exit(f"pruneviz: {problem}")
