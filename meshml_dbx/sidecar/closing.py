"""Closing live log files: renamed, let go by Envoy, then moved once into ``closed/``.

In goes the log folder of one sidecar, with its Envoy's admin interface or without; out come the
files that were closed. A closed file never changes again: a few milliseconds after
``/reopen_logs`` Envoy lets go of the old file, makes a new one under the log's name and puts what
it had buffered into that, so the old file is finished as soon as the new one exists.
"""

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meshml_dbx.errors import EnvoyError
from meshml_dbx.sidecar.admin import Admin
from meshml_dbx.sidecar.locks import locked
from meshml_dbx.traffic.log_folder import (
    ACCESS_FILE,
    CLOSED_NAME,
    CLOSING_PREFIX,
    EVENTS_FILE,
    LIVE_LOCK,
    STAGES_PREFIX,
    SidecarLogs,
    closed_name,
)

_WRITERS_TIMEOUT_S = 2.0
_REOPEN_TIMEOUT_S = 5.0
_POLL_S = 0.005
_CLOSING = re.compile(rf"^{CLOSING_PREFIX}(\d+)\.jsonl$")
_ADDING = ".adding"
_PENDING = "filesystem.write_total_buffered"
_PENDING_ONLY = r"^filesystem\.write_total_buffered$"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedFile:
    """A finished file: where it is, what it was called while it grew, and its size.

    >>> ClosedFile(path=Path("closed/a"), origin="access.jsonl", size=7).is_access
    True
    """

    path: Path
    origin: str
    size: int

    @property
    def is_access(self) -> bool:
        """Whether Envoy wrote it."""
        return self.origin == ACCESS_FILE


def close_files(
    logs: SidecarLogs, *, now: datetime, admin: Admin | None = None
) -> tuple[ClosedFile, ...]:
    """Close what is live and not empty; with no Envoy, nothing has to let go.

    A file that Envoy does not let go of in time stays in ``live/`` and is closed at the next
    call. Half a line at the end, left by a process that was killed, is kept as it is.
    """
    late = list(_numbered(logs.live, _CLOSING).values())
    renamed = _rename_live(logs)
    held = [*late, *(path for path, origin in renamed.items() if origin == ACCESS_FILE)]
    if admin is not None and held and not _has_let_go(logs, admin):
        renamed = {path: origin for path, origin in renamed.items() if origin != ACCESS_FILE}
    else:
        renamed = dict.fromkeys(late, ACCESS_FILE) | renamed
    return tuple(_move(logs, path, origin, now) for path, origin in renamed.items())


def add_closed(logs: SidecarLogs, lines: Iterable[bytes], *, now: datetime) -> ClosedFile:
    """Put these lines into a closed file of their own, whole or not at all."""
    fresh = logs.live / _ADDING
    with fresh.open("wb") as file:
        file.writelines(lines)
    return _move(logs, fresh, _ADDING, now)


def await_flush(admin: Admin, *, flush_s: float) -> None:
    """Return when every line that Envoy has made by now is in its file, not in its buffer.

    Under load the buffer is never empty, but what is in it now is written within one interval.
    """
    deadline = time.monotonic() + 1.5 * flush_s
    with suppress(EnvoyError):
        while admin.stats(_PENDING_ONLY).get(_PENDING) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def live_files(logs: SidecarLogs) -> tuple[Path, ...]:
    """The files of this sidecar that hold lines which are not closed yet."""
    return tuple(path for path in _candidates(logs.live) if _size(path) > 0)


def files_in_order(logs: SidecarLogs) -> tuple[Path, ...]:
    """All files of this sidecar in the order in which they were written, closed ones first."""
    closed, closing = _numbered(logs.closed, CLOSED_NAME), _numbered(logs.live, _CLOSING)
    live = [path for path in live_files(logs) if path not in closing.values()]
    return (*(closed[n] for n in sorted(closed)), *(closing[n] for n in sorted(closing)), *live)


def next_number(logs: SidecarLogs) -> int:
    """The number of the next file to be closed; no number of this folder is given twice."""
    used = {**_numbered(logs.closed, CLOSED_NAME), **_numbered(logs.live, _CLOSING)}
    return max(used, default=0) + 1


def _rename_live(logs: SidecarLogs) -> dict[Path, str]:
    """Programs append their stages under the same lock, so none writes into a renamed file."""
    with locked(logs.live / LIVE_LOCK, timeout_s=_WRITERS_TIMEOUT_S) as is_ours:
        names = [path for path in live_files(logs) if not _CLOSING.match(path.name)]
        if not is_ours:  # a writer was stopped while it held the lock: its file has to wait
            names = [path for path in names if not path.name.startswith(STAGES_PREFIX)]
        first = next_number(logs)
        renamed = {}
        for number, path in enumerate(names, start=first):
            closing = path.with_name(f"{CLOSING_PREFIX}{number}.jsonl")
            renamed[path.rename(closing)] = path.name
        return renamed


def _has_let_go(logs: SidecarLogs, admin: Admin) -> bool:
    deadline = time.monotonic() + _REOPEN_TIMEOUT_S
    try:
        admin.reopen_logs()
        while time.monotonic() < deadline:
            if logs.access.exists():
                return True
            time.sleep(_POLL_S)
    except EnvoyError:
        return False
    return False


def _move(logs: SidecarLogs, path: Path, origin: str, now: datetime) -> ClosedFile:
    found = _CLOSING.match(path.name)
    number = int(found[1]) if found else next_number(logs)
    target = logs.closed / closed_name(now, number)
    size = path.stat().st_size
    logs.closed.mkdir(parents=True, exist_ok=True)
    return ClosedFile(path=path.rename(target), origin=origin, size=size)


def _size(path: Path) -> int:
    """Its owner may rename it while somebody else only looks."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _candidates(live: Path) -> Iterable[Path]:
    if not live.is_dir():
        return ()
    return sorted(
        path
        for path in live.iterdir()
        if path.name in (ACCESS_FILE, EVENTS_FILE)
        or (path.name.startswith(STAGES_PREFIX) and path.suffix == ".jsonl")
        or _CLOSING.match(path.name)
    )


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    matches = ((pattern.match(path.name), path) for path in folder.iterdir())
    return {int(found[found.re.groups]): path for found, path in matches if found}
