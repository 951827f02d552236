"""The folder of one living sidecar: private, locked for its whole life, gone when it ends.

In go the state folder and the sidecar's log folder; out comes a ``RunFolder`` that others can
see to be alive. It appears under its name only once it is locked, so nobody takes a sidecar that
is just starting for a dead one.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.errors import LogFolderError
from meshml_dbx.logs.locks import is_held, try_lock
from meshml_dbx.traffic.log_folder import SIDECAR_FACTS, SIDECAR_LOCK, SidecarLogs

CLOSE_TAKEN = "close.taken"
"""What a request is called while it is being answered: a new one then asks for a new answer."""

_NEW = ".new-"
_ABANDONED_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A sidecar's folder and the locks that show it to be alive.

    ``locks`` are descriptors: of the run folder's lock file and of the folder of live logs.
    """

    path: Path
    logs: SidecarLogs
    locks: tuple[int, ...]

    def write(self, files: Mapping[str, str]) -> None:
        """Write these files, each whole or not at all, readable by the owner alone."""
        with _explained(self.logs):
            for name, text in files.items():
                _write_private(self.path / name, text)

    def write_facts(self, facts: Mapping[str, object]) -> None:
        """Say who lives here, for those who list and adopt sidecars; never a secret."""
        self.write({SIDECAR_FACTS: json.dumps(facts, indent=1)})


def new_sidecar_id(member: str) -> str:
    """A name for one writer's life: its member's name and eight random hexadecimal digits."""
    return f"{member}-{secrets.token_hex(4)}"


@contextmanager
def open_run_folder(run: Path, logs: SidecarLogs) -> Iterator[RunFolder]:
    """Make and lock a sidecar's folders; the run folder is removed at the end, the logs stay.

    Raises:
        LogFolderError: when one of them cannot be written, or a sidecar of that name lives.
    """
    with _explained(logs):
        folder = _make(run, logs)
    owner = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:  # a forked child that lets go of it leaves it to its parent
            _take_leave(folder, logs)


def _take_leave(folder: RunFolder, logs: SidecarLogs) -> None:
    shutil.rmtree(folder.path, ignore_errors=True)
    _remove_unused(logs)
    for descriptor in folder.locks:
        os.close(descriptor)


def read_facts(folder: Path) -> dict[str, object]:
    """What a sidecar said of itself; empty when it died before it could."""
    try:
        facts = json.loads((folder / SIDECAR_FACTS).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def run_folders(run: Path) -> tuple[Path, ...]:
    """The folders of sidecars that live, or died without taking leave, by name."""
    if not run.is_dir():
        return ()
    return tuple(sorted(one for one in run.iterdir() if one.is_dir() and one.name[0] != "."))


def sweep_abandoned(run: Path) -> None:
    """Remove what a start that was killed before it was locked and named has left."""
    for folder in run.glob(f"{_NEW}*"):
        try:
            old = time.time() - folder.stat().st_mtime > _ABANDONED_S
        except FileNotFoundError:
            continue
        if old and not is_held(folder / SIDECAR_LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _make(run: Path, logs: SidecarLogs) -> RunFolder:
    path = run / logs.sidecar_id
    for made in (logs.live, logs.closed):
        made.mkdir(parents=True, exist_ok=True)
        if not os.access(made, os.W_OK):
            raise PermissionError(13, "Permission denied", str(made))
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = run / f"{_NEW}{logs.sidecar_id}"
    fresh.mkdir(mode=0o700)
    (fresh / SIDECAR_LOCK).touch(mode=0o600)
    locks = tuple(_lock(place) for place in (fresh / SIDECAR_LOCK, logs.live))
    fresh.rename(path)
    return RunFolder(path=path, logs=logs, locks=locks)


def _remove_unused(logs: SidecarLogs) -> None:
    """A start that failed before anything was written leaves no log folder to wonder about."""
    files = [path for path in logs.folder.rglob("*") if path.is_file()]
    if not any(path.stat().st_size for path in files):
        shutil.rmtree(logs.folder, ignore_errors=True)


def _lock(place: Path) -> int:
    descriptor = try_lock(place)
    if descriptor is None:
        message = f"{place} is locked by another process: a sidecar of that name lives"
        raise LogFolderError(message, advice="give each sidecar an id of its own")
    return descriptor


def _write_private(place: Path, text: str) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(place)


@contextmanager
def _explained(logs: SidecarLogs) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or logs.folder
        message = f"cannot write {place}: {error.strerror or error}"
        advice = "choose a folder that you may write with --logs, or --state"
        raise LogFolderError(message, advice=advice) from error
