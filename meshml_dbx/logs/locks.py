"""Locks that the kernel frees when their holders die: how a living sidecar is told from a dead one.

A lock is ``flock`` on an open file or folder. It belongs to the open file, so an Envoy that
inherited the descriptor holds it too: free means that supervisor and Envoy are both gone.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meshml_dbx.errors import MissingToolError

try:
    import fcntl
except ImportError:  # Windows: everything that needs no sidecar works there
    fcntl = None  # type: ignore[assignment]  # the one name is checked before each use

_PAUSE_S = 0.005


def require_locks() -> None:
    """Refuse a system on which the kernel could not tell a living sidecar from a dead one."""
    if fcntl is None:
        message = "a sidecar needs the file locks of Linux or macOS; this system has none"
        raise MissingToolError(message, advice="run it in Linux; reading log folders works here")


def try_lock(path: Path, *, patience_s: float = 0.02) -> int | None:
    """The descriptor of a file or folder that is ours alone now; None if it is another's or gone.

    Close the descriptor to let go. The patience outlasts someone who only looks whether it is held.
    """
    require_locks()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if _wait(descriptor, patience_s) and _is_still(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock of this file or folder; False when it is gone."""
    descriptor = try_lock(path, patience_s=0)
    if descriptor is None:
        return path.exists()
    os.close(descriptor)
    return False


@contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[bool]:
    """Hold a lock file, made when it is missing; yields whether it was had in time."""
    require_locks()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _wait(descriptor, timeout_s)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)


def _is_still(descriptor: int, path: Path) -> bool:
    """Another may have removed the folder while we waited: then the lock is of nothing."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino)
