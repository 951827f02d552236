"""The files of a recorder: a log folder like a sidecar's, on a disk that takes appended lines.

A Unity Catalog volume takes only whole files: there, live files lie on the local disk and each
finished file is copied over, small and soon.
"""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from meshml_dbx.errors import LogFolderError
from meshml_dbx.logs.files import close_own_files
from meshml_dbx.logs.run_folder import CLOSE_TAKEN, new_sidecar_id, open_run_folder
from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.traffic.log_folder import CLOSE_REQUEST, CLOSED, SidecarLogs

LARGEST_FILE = 64 << 20
LONGEST_S = 60.0
LARGEST_CHUNK = 4 << 20
LONGEST_CHUNK_S = 2.0
"""When a live file is finished: by size and by age; sooner where readers see only finished ones."""


class LogKeeper:
    """Writes, finishes and, for a volume, ships the files of one recorder.

    Raises:
        LogFolderError: when the folder cannot be written.
    """

    def __init__(self, plan: RecorderPlan) -> None:
        self.sidecar_id = new_sidecar_id(plan.client)
        self.written = 0
        self._plan = plan
        self._stack = ExitStack()
        self._ships = plan.refuses_appends
        root = self._scratch() if self._ships else plan.logs
        self.logs = SidecarLogs(root=root, sidecar_id=self.sidecar_id)
        if self._ships:
            _require_writable(plan.logs / self.sidecar_id / CLOSED)
        run = plan.run if plan.run and not self._ships else root.parent / "run"
        self._run = self._stack.enter_context(open_run_folder(run, self.logs))
        self._run.write_facts(self._facts())
        self._descriptor: int | None = None
        self._size = 0
        self._is_torn = False
        self._opened_s = 0.0

    def write(self, data: bytes) -> None:
        """Append whole lines."""
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self.logs.access, flags, 0o600)
            self._opened_s = time.monotonic()
        view = memoryview(b"\n" + data if self._is_torn else data)
        self._is_torn = True
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._is_torn = False
        self._size += len(data)
        self.written += len(data)

    def keep(self) -> None:
        """Finish the live file when it is time, or when somebody asks."""
        largest, longest = (
            (LARGEST_CHUNK, LONGEST_CHUNK_S) if self._ships else (LARGEST_FILE, LONGEST_S)
        )
        age = time.monotonic() - self._opened_s
        if self._size >= largest or (self._size and age >= longest):
            self.close_files()
        with suppress(FileNotFoundError):
            taken = self._run.path / CLOSE_TAKEN
            (self._run.path / CLOSE_REQUEST).rename(taken)
            self.close_files()
            taken.unlink()

    def close_files(self) -> None:
        """Everything that was written is in finished files when this returns."""
        self._let_go()
        closed = close_own_files(self.logs, now=datetime.now(UTC))
        if self._ships:
            for file in closed:
                self._ship(file.path)

    def finish(self) -> None:
        """Finish the files and take leave."""
        try:
            self.close_files()
        finally:
            self._stack.close()

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

    def _scratch(self) -> Path:
        folder = tempfile.mkdtemp(prefix="meshml-")
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "logs"

    def _ship(self, path: Path) -> None:
        """One whole file, under another name until it is all there."""
        target = self._plan.logs / self.sidecar_id / CLOSED / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{path.name}.part")
        shutil.copyfile(path, partial)
        partial.replace(target)
        path.unlink()

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
