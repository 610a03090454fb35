"""Processes that are forked from a test, and may be killed at any moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from tqdm import tqdm


def fork(work: Callable[[], object]) -> int:
    """A process that does it, and ends with 0, or 1 if it raised; nothing of pytest is run in it.

    A lock of its own for progress bars: tqdm's is shared with what is forked, and one who is killed while it holds
    that lock would keep it for good, so that the test itself would wait for ever.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tqdm.set_lock(threading.RLock())
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def exit_status(child: int) -> int:
    """Of a forked process, which it waits for; minus the signal if one has ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
