"""The program's side of a recording: it says in which stage it is, and how many calls it made.

Goes in: a stage's name, from a program under ``meshml run``. Comes out: a begin and an end line in
the log folder, which calls are joined to by time. Outside ``meshml run`` nothing happens, and no
trouble of ours ever reaches the program: it is logged once, and the program goes on.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.traffic.access_log import RECORD_KEY, TYPE_KEY, time_text
from meshml_dbx.traffic.context import (
    CLIENT_VARIABLE,
    CURRENT_STAGE,
    LOGS_VARIABLE,
    PROCESS_VARIABLE,
    SIDECAR_VARIABLE,
    CallContext,
    active_run_id,
)
from meshml_dbx.traffic.log_folder import LIVE_LOCK, SidecarLogs

LOCK_TIMEOUT_S = 5.0
"""Files are closed under this lock within milliseconds; longer means that something is stuck."""

_LOCK_POLL_S = 0.005
_logger = logging.getLogger(__name__)
_warned = threading.Event()


@dataclass(slots=True, kw_only=True)
class StagePart:
    """What ``with stage(...) as part`` hands out: a place for the number of calls made.

    >>> part = StagePart(name="training")
    >>> part.count(), part.count(2), part.sent
    (None, None, 3)
    """

    name: str
    sent: int | None = None

    def count(self, calls: int = 1) -> None:
        """Add to the number of calls that the program says it made in this stage."""
        self.sent = (self.sent or 0) + calls


@contextmanager
def stage(name: str) -> Iterator[StagePart]:
    """Mark what runs inside as a stage of the program; calls made meanwhile belong to it.

    Stages nest, and every thread and child process may have its own.

    >>> with stage("training") as part:
    ...     part.sent = 112
    """
    part = StagePart(name=name)
    before = CURRENT_STAGE.get()
    CURRENT_STAGE.set(name)
    stage_id, pid = uuid.uuid4().hex, os.getpid()
    _write_safely("begin", stage_id, part)
    try:
        yield part
    finally:
        CURRENT_STAGE.set(before)
        # A child that was forked inside ends a stage that is not its own.
        if os.getpid() == pid:
            _write_safely("end", stage_id, part)


def headers() -> dict[str, str]:
    """Request headers that name the active run, stage and client on a call.

    Calls are joined to runs and stages by process and time; send these where that is too coarse.

    >>> with stage("scoring"):
    ...     headers()
    {'x-meshml-stage': 'scoring'}
    """
    client = os.environ.get(CLIENT_VARIABLE)
    return CallContext(
        run_id=active_run_id(), stage=CURRENT_STAGE.get(), client=client
    ).to_headers()


def _write_safely(kind: str, stage_id: str, part: StagePart) -> None:
    """Write a line if someone records; every failure is ours, so it must not stop the program."""
    if PROCESS_VARIABLE not in os.environ:
        return
    try:
        _write(os.environ, kind, stage_id, part)
    except Exception as error:  # whatever it is, the program's own work goes on
        if not _warned.is_set():
            _warned.set()
            _logger.warning("meshml: stage %r is not recorded: %s", part.name, error)


def _write(environ: Mapping[str, str], kind: str, stage_id: str, part: StagePart) -> None:
    sidecar_id = environ[SIDECAR_VARIABLE]
    folder = SidecarLogs(root=Path(environ[LOGS_VARIABLE]), sidecar_id=sidecar_id)
    record = {
        RECORD_KEY: "stage",
        TYPE_KEY: kind,
        "time": time_text(time.time_ns() // 1000),
        "stage_id": stage_id,
        "stage": part.name,
        "process_id": environ[PROCESS_VARIABLE],
        "sidecar_id": sidecar_id,
        "run_id": active_run_id(),
        "thread": threading.current_thread().name,
        "sent": None if part.sent is None else int(part.sent),  # it may be a NumPy number
    }
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    with _locked(folder.live / LIVE_LOCK):
        _append(folder.stages(os.getpid()), line)


def _append(path: Path, line: bytes) -> None:
    """Append in one write: the file is closed again before the lock is freed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock under which live files are renamed, so that no closed file ever grows."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take_lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, path: Path) -> None:
    import fcntl  # no such module on Windows, where nothing records but programs may still run

    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is held for {LOCK_TIMEOUT_S:g} s") from None
            time.sleep(_LOCK_POLL_S)
        else:
            return
