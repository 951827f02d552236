"""Live log files that are finished: renamed, then moved once into ``closed/``.

In goes the log folder of one writer; out come the files that were closed. A closed file never
changes again. Who appends to a live file holds the lock of the live folder while it does, or says
itself when it has let go (Envoy).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meshml_dbx.logs.locks import locked
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
_CLOSING = re.compile(rf"^{CLOSING_PREFIX}(\d+)\.jsonl$")
_ADDING = ".adding"


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


def late_files(logs: SidecarLogs) -> tuple[Path, ...]:
    """Files that were renamed earlier and whose writer had not let go of them in time."""
    return tuple(_numbered(logs.live, _CLOSING).values())


def close_own_files(logs: SidecarLogs, *, now: datetime) -> tuple[ClosedFile, ...]:
    """Close what is live and not empty, of a writer that has let go of its files."""
    renamed = dict.fromkeys(late_files(logs), ACCESS_FILE) | rename_live(logs)
    return tuple(move_closed(logs, path, origin, now) for path, origin in renamed.items())


def add_closed(logs: SidecarLogs, lines: Iterable[bytes], *, now: datetime) -> ClosedFile:
    """Put these lines into a closed file of their own, whole or not at all."""
    fresh = logs.live / _ADDING
    with fresh.open("wb") as file:
        file.writelines(lines)
    return move_closed(logs, fresh, _ADDING, now)


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


def rename_live(logs: SidecarLogs) -> dict[Path, str]:
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


def move_closed(logs: SidecarLogs, path: Path, origin: str, now: datetime) -> ClosedFile:
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
