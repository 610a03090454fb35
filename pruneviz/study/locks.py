"""Locks that end with their process, however it ends: how workers share a store without waiting for the dead.

They spare double work, nothing more: records are written atomically, so that a file system without locks
costs time and no correctness.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


def hold(path: Path, *, wait: bool = False) -> IO[Any] | None:
    """Lock `path`, made if needed, until the returned file is closed or the process ends.

    Args:
        path: the lock file, made if needed; its folder exists.
        wait: whether to wait for another process that holds it.

    Returns:
        The open file, or None if another process holds the lock.

    Raises:
        OSError: if there are no locks here, or the file cannot be made.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no file locks")
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file


def is_held(path: Path) -> bool | None:
    """Whether somebody holds the lock at `path`, for all that may be read; None where that cannot be known.

    The file is not made, and need not be writable. Where locks are local to a node, those of others are not seen.
    """
    if fcntl is None:
        return None
    try:
        file = path.open("rb")
    except (FileNotFoundError, PermissionError):
        return False
    except OSError:
        return None
    with file:
        try:
            # Shared: where a network file system makes these locks of others, an exclusive one needs a writable file.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
    return False


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at `path`, as `is_held` sees it; False where that cannot be known."""
    return is_held(path) is False
