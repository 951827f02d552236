"""The trust store on disk: private folders, one lock, and changes that are whole or not there.

A change is written beside its place, flushed to the disk and renamed into it, so a process that
is killed at any moment leaves what was there before. Files that belong together, a certificate
and its key, lie in one folder per version behind one symbolic link: they change in one rename,
which is also what makes Envoy take notice.
"""

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from meshml_dbx.errors import TrustError

_CURRENT = "..data"
_SLUG_LENGTH = 40
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@contextmanager
def locked(store: Path, *, timeout_s: float = 30.0) -> Iterator[None]:
    """The store, made when it is missing, for the one process that may change it now."""
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_private(store)
        with _lock(store / "lock", timeout_s):
            yield
    except OSError as error:
        place = error.filename or store
        message = f"the trust store {store} cannot be used: {error.strerror or error}: {place}"
        advice = "mend that, or choose another folder with --state"
        raise TrustError(message, advice=advice) from error


def require_private(store: Path) -> None:
    """Refuse a store that another user owns or can open: its keys could not be trusted."""
    found = store.stat()
    if found.st_uid != os.geteuid():
        message = f"the trust store {store} belongs to user {found.st_uid}, not {os.geteuid()}"
        advice = "run as that user, or choose another folder with --state"
        raise TrustError(message, advice=advice)
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        message = f"the trust store {store} is open to other users (mode {mode:04o})"
        advice = (
            f"run chmod 700 {shlex.quote(str(store))}; if the mode stays, its file system keeps "
            "none: choose a folder on a local disk with --state"
        )
        raise TrustError(message, advice=advice)


def safe_folder_name(name: str) -> str:
    """A folder's name for any name at all: readable, unique, and never a way out of the store.

    >>> safe_folder_name("labels-v2"), safe_folder_name("../../etc")
    ('labels-v2-96f42901847b', 'etc-74ccf3c5b4c1')
    """
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:12]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return f"{slug}-{digest}" if slug else digest


def make_private_folder(folder: Path) -> Path:
    """The folder, made with mode 0700 when it is missing; its parent exists."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def replace_file(path: Path, content: bytes) -> None:
    """Give a file this content in one step; the same content again touches nothing."""
    if path.is_file() and path.read_bytes() == content:
        return
    fresh = path.with_name(f".new-{path.name}")
    fresh.unlink(missing_ok=True)
    _write_private(fresh, content)
    fresh.replace(path)
    _sync(path.parent)


def add_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder that holds these files, in one step; it did not exist before."""
    fresh = folder.with_name(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    for name, content in files.items():
        _write_private(fresh / name, content)
    _sync(fresh)
    fresh.rename(folder)
    _sync(folder.parent)


def publish_version(folder: Path, version: str, files: Mapping[str, bytes]) -> None:
    """Make these files the current ones of ``folder``, all in one step.

    The version before stays until the next change, for a reader that is between two files.
    """
    current = folder / _CURRENT
    before = current.readlink().name if current.is_symlink() else ""
    fresh = folder / f"..{version}"
    add_folder(fresh, files)
    for name in files:
        _point(folder / name, Path(_CURRENT) / name)
    _point(current, Path(fresh.name))
    _sync(folder)
    _remove_versions(folder, keep={fresh.name, before, _CURRENT})


@contextmanager
def _lock(path: Path, timeout_s: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _wait_for_lock(descriptor, path, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                message = f"the trust store's lock {path} was held for {timeout_s:g} s by another"
                advice = f"find the process that holds it: fuser {shlex.quote(str(path))}"
                raise TrustError(message, advice=advice) from error
            time.sleep(0.02)
        else:
            return


def _write_private(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _point(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".new-{link.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _remove_versions(folder: Path, *, keep: set[str]) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith("..") and entry.name not in keep:
            shutil.rmtree(entry, ignore_errors=True)


def _sync(folder: Path) -> None:
    """A rename is safe from a power failure only once its folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
