"""Modules that register scorers of a user's own, imported by name or from a file.

Importing a module runs it, and so does reading a grid that names one: take either only from where you would take code.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path

from pruneviz.errors import InputError
from pruneviz.scorers import registry

_IMPORTED: dict[str, None] = {}


def import_scorers(module: str) -> None:
    """Import a module that registers scorers; one that was imported so before is left alone.

    Args:
        module: a name that Python can import, such as "mine" or "package.mine", or the path of a file, "mine.py".

    Raises:
        InputError: there is no such module, another one has its name, it raises, or it registers no scorer. None of
            its scorers is registered then.
    """
    key = os.path.abspath(module) if is_file(module) else module
    if key in _IMPORTED:
        return
    before, spec = registry.snapshot(), None
    try:
        spec = _spec_of_file(Path(key)) if is_file(module) else _spec_of_name(module)
        if spec.name not in sys.modules:
            _run(spec)
        if not any(name not in before or _is_of(name, spec.name) for name in registry.snapshot()):
            raise InputError("it registers no scorer; decorate a function with @pruneviz.register(card)")
    except (Exception, SystemExit) as error:  # whatever a module may do
        registry.restore(before)
        raise InputError(f"module {module!r} cannot be imported: {_told(error, spec)}") from error
    _IMPORTED[key] = None


def imported() -> list[str]:
    """What `import_scorers` has imported in this process: names, and absolute paths of files."""
    return list(_IMPORTED)


def is_file(module: str) -> bool:
    """Whether a text names a file and not a module on Python's path."""
    return module.endswith(".py") or os.sep in module


def _spec_of_name(name: str) -> ModuleSpec:
    missing, spec = name, None
    if all(part.isidentifier() for part in name.split(".")):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError as error:  # of the package that it is in, or of something that one needs
            missing = str(error.name)
            if not name.startswith(f"{missing}."):
                raise
    if spec is None:
        raise InputError(f"Python finds no module {missing!r}; a file is given by its path, which ends in .py")
    return spec


def _spec_of_file(path: Path) -> ModuleSpec:
    if not path.is_file() or path.suffix != ".py":
        raise InputError("there is no such file" if path.suffix == ".py" else "the name of a file must end in .py")
    if not path.stem.isidentifier():
        raise InputError(f"rename it: {path.stem!r} cannot be the name of a module")
    # Under a name of two modules, whoever imports it next would get the wrong one.
    other = importlib.util.find_spec(path.stem)
    if other is not None and not (other.origin and Path(other.origin).is_file() and path.samefile(other.origin)):
        raise InputError(f"rename it: {path.stem!r} is the name of another module")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # .py is a suffix that Python loads
    return spec


def _run(spec: ModuleSpec) -> None:
    """Execute a module under its name, which stays free if that fails."""
    if spec.loader is None:
        return  # a folder without code
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise


def _is_of(scorer: str, module: str) -> bool:
    """Whether a scorer is written in a module, or in one below it."""
    source = registry.source_of(scorer)
    return source is not None and f"{source.module}.".startswith(f"{module}.")


def _told(error: BaseException, spec: ModuleSpec | None) -> str:
    """An error in one line, with the line of the module where it was raised."""
    reason = " ".join(str(error).split())
    if not isinstance(error, InputError):
        reason = f"{type(error).__name__}: {reason}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if spec and f.filename == spec.origin]
    return f"line {lines[-1]}: {reason}" if lines else reason
