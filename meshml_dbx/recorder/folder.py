"""The files of a recorder: a log folder like a sidecar's, on a disk that takes appended lines.

A Unity Catalog volume takes only whole files. There, live files lie in a scratch folder on the
local disk, and each finished one is copied over, small and soon: a process that is killed loses
the calls of its last two seconds. What a volume does not take now is kept and tried again.
"""

import errno
import os
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from meshml_dbx.errors import LogFolderError
from meshml_dbx.logs.files import close_own_files
from meshml_dbx.logs.locks import is_held, try_lock
from meshml_dbx.logs.run_folder import CLOSE_TAKEN, new_sidecar_id, open_run_folder
from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.traffic.log_folder import (
    CLOSE_REQUEST,
    CLOSED,
    CLOSED_NAME,
    SIDECAR_LOCK,
    SidecarLogs,
)

LARGEST_FILE = 64 << 20
LONGEST_S = 60.0
LARGEST_CHUNK = 4 << 20
LONGEST_CHUNK_S = 2.0
"""When a live file is finished: by size and by age; sooner where readers see only finished ones."""


class LogKeeper:
    """Writes, finishes and, for a volume, ships the files of one recorder.

    Args:
        scratch: of a volume's recorder, the scratch folder of the process that it was forked from,
            which ships what children leave that are killed.
        largest: the size in bytes at which a live file is finished.
        longest_s: the age at which it is.

    Raises:
        LogFolderError: when the folder cannot be written.
    """

    def __init__(
        self,
        plan: RecorderPlan,
        *,
        scratch: Path | None = None,
        largest: int | None = None,
        longest_s: float | None = None,
    ) -> None:
        self.sidecar_id = new_sidecar_id(plan.client)
        self.written = 0
        self._plan = plan
        ships = plan.refuses_appends
        self.lock = threading.RLock()
        """Held while files are open that a fork would copy, and locks with them."""
        self._largest = largest or (LARGEST_CHUNK if ships else LARGEST_FILE)
        self._longest_s = longest_s or (LONGEST_CHUNK_S if ships else LONGEST_S)
        self._descriptor: int | None = None
        self._size = 0
        self._is_torn = False
        self._opened_s = self._written_s = self._retry_s = 0.0
        if ships:
            _require_writable(plan.logs / self.sidecar_id / CLOSED)
        self.scratch = (scratch or _new_scratch()) if ships else None
        self.logs = SidecarLogs(root=self._root(), sidecar_id=self.sidecar_id)
        self._stack = ExitStack()
        run = None if ships else plan.run
        self._run = self._stack.enter_context(
            open_run_folder(run or self.logs.root.parent / "run", self.logs)
        )
        try:
            self._run.write_facts(self._facts())
        except BaseException:
            self._stack.close()
            raise

    def write(self, data: bytes) -> None:
        """Append whole lines; ``written`` says how much of them is in the file after an error."""
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self.logs.access, flags, 0o600)
            self._opened_s = time.monotonic()
        if self._is_torn:  # what could not be written whole ends here
            os.write(self._descriptor, b"\n")
            self._is_torn = False
        view = memoryview(data)
        while view:
            size = os.write(self._descriptor, view)
            self._is_torn = view[size - 1] != ord("\n")
            view = view[size:]
            self._size += size
            self.written += size
        self._written_s = time.monotonic()

    def keep(self) -> None:
        """Finish the live file when it is time, or when somebody asks."""
        with self.lock:
            self._keep()

    def _keep(self) -> None:
        now = time.monotonic()
        age = now - self._opened_s
        is_due = self._size >= self._largest or age >= self._longest_s or self._is_idle()
        if self._size and is_due:
            self.close_files()
        with suppress(FileNotFoundError):
            taken = self._run.path / CLOSE_TAKEN
            (self._run.path / CLOSE_REQUEST).rename(taken)
            self.close_files()
            taken.unlink()
        if self._retry_s and now >= self._retry_s:
            self._ship_files()

    def _is_idle(self) -> bool:
        longest = self._plan.closes_when_idle_s
        return longest is not None and time.monotonic() - self._written_s >= longest

    def close_files(self) -> None:
        """Everything that was written is in finished files when this returns."""
        with self.lock:
            self._close_files()

    def _close_files(self) -> None:
        is_gone = self._size > 0 and not self.logs.access.exists()
        self._let_go()
        close_own_files(self.logs, now=datetime.now(UTC))
        if self.scratch is not None:
            self._ship_files()
        if is_gone:
            raise FileNotFoundError(errno.ENOENT, "the live file was removed", self.logs.access)

    def finish(self) -> None:
        """Finish the files and take leave.

        Raises:
            LogFolderError: a volume does not take the last files; says where they are kept.
        """
        try:
            self.close_files()
        except OSError as error:
            if self.scratch is None:
                raise
            raise LogFolderError(
                f"cannot write {self._plan.logs}: {error.strerror or error}",
                advice=f"copy the files in {self.logs.closed} to {self._target(self.logs)}",
            ) from error
        finally:
            with self.lock:
                self._stack.close()
                self._remove_scratch()

    def abandon(self) -> None:
        """In a forked child: what is open here is the parent's; let go without a trace."""
        self._let_go()
        for descriptor in self._run.locks:
            with suppress(OSError):
                os.close(descriptor)

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._size = None, 0

    def _root(self) -> Path:
        return self._plan.logs if self.scratch is None else self.scratch / "logs"

    def _target(self, logs: SidecarLogs) -> Path:
        return self._plan.logs / logs.sidecar_id / CLOSED

    def _ship_files(self) -> None:
        """Bring finished files to the volume, in order; also those that an error left behind."""
        self._retry_s = time.monotonic() + LONGEST_CHUNK_S
        _ship(self.logs, self._target(self.logs))
        for folder in _listed(self.logs.root):
            if folder.name != self.sidecar_id:
                self._ship_other(SidecarLogs(root=self.logs.root, sidecar_id=folder.name))
        self._retry_s = 0.0

    def _ship_other(self, logs: SidecarLogs) -> None:
        """A program that this process started found this folder in its environment.

        One that was forked ships by itself, unless it was killed.
        """
        folder = self._run.path.with_name(logs.sidecar_id)
        if not folder.is_dir():
            _ship(logs, self._target(logs))
            return
        lock = try_lock(folder / SIDECAR_LOCK, patience_s=0)
        if lock is None:
            return
        try:
            close_own_files(logs, now=datetime.now(UTC))
            _ship(logs, self._target(logs))
            shutil.rmtree(logs.folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)

    def _remove_scratch(self) -> None:
        """Only what is empty: files that could not be shipped stay, and a child may live on."""
        if self.scratch is None:
            return
        root = self.logs.root
        for folder in _listed(root):
            logs = SidecarLogs(root=root, sidecar_id=folder.name)
            if not is_held(logs.live) and not any(
                map(_size, (*_finished(logs.closed), logs.access))
            ):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (root, self._run.path.parent, self.scratch):
            with suppress(OSError):
                folder.rmdir()

    def _facts(self) -> dict[str, object]:
        return {
            "logs": str(self.logs.root),
            "process_id": self._plan.process_id,
            "client": self._plan.client,
            "observer": "client",
            "mesh": self._plan.mesh,
            "environment": self._plan.environment,
            "pid": os.getpid(),
        }


def _new_scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="meshml-"))


def _ship(logs: SidecarLogs, target: Path) -> None:
    """Each finished file whole, under another name until it is all there."""
    files = _finished(logs.closed)
    for path in files:
        if path.stat().st_size:
            target.mkdir(parents=True, exist_ok=True)
            partial = target / f".{path.name}.part"
            shutil.copyfile(path, partial)
            partial.replace(target / path.name)
            os.truncate(path, 0)
    for path in files[:-1]:  # the last one's name stays, so that its number is not given again
        path.unlink()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _finished(closed: Path) -> tuple[Path, ...]:
    found = ((CLOSED_NAME.match(path.name), path) for path in _listed(closed))
    return tuple(
        path for _, path in sorted((int(name["number"]), path) for name, path in found if name)
    )


def _listed(folder: Path) -> tuple[Path, ...]:
    return tuple(folder.iterdir()) if folder.is_dir() else ()


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise LogFolderError(
            f"cannot write {folder}: {error.strerror or error}",
            advice="does the volume exist, and may you write to it? or name another folder",
        ) from error
