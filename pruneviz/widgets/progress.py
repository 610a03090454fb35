"""What long work says while it runs: how far it is and what it does, to whoever listens, who may also stop it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

#: Told the fraction done, from 0 to 1 and None where it is not known, and what is done next. It may raise.
Listener = Callable[[float | None, str], None]

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Cancelled(Exception):
    """Raised by a listener to end the work that it listens to."""


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, `listener` hears of the work of this thread, and what it raises ends that work."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(done: float | None, what: str) -> None:
    """Say how far the work is, if anybody listens.

    Raises:
        Cancelled: or whatever else the listener raises.
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener(done, what)


def steps(items: Collection[T], what: Callable[[T], str]) -> Iterator[T]:
    """The items, each told of before it is worked on; a bar on stderr if that is a terminal."""
    with tqdm(items, leave=False, disable=None) as bar:
        for number, item in enumerate(bar):
            tell(number / len(items), what(item))
            yield item
