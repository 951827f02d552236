"""Which sidecars live, asking them to close their files, and adopting what dead ones left.

In go the state folder and the log folder; out come names, and the files that were closed. A
sidecar lives as long as somebody holds the lock in its run folder; the kernel lets go of it when
supervisor and Envoy are both gone. A log folder whose run folder is missing (removed by hand, or
copied from elsewhere) is told by the lock on its ``live/`` folder, and is left alone while lines
still come: its sidecar may live on another machine, whose locks do not show here.
"""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meshml_dbx.errors import EnvoyError
from meshml_dbx.logs.files import ClosedFile, close_own_files, files_in_order, live_files
from meshml_dbx.logs.lines import record_line
from meshml_dbx.logs.locks import is_held, try_lock
from meshml_dbx.logs.run_folder import CLOSE_TAKEN, read_facts, run_folders, sweep_abandoned
from meshml_dbx.sidecar.admin import Admin
from meshml_dbx.sidecar.unfinished import close_unfinished
from meshml_dbx.traffic.log_folder import (
    CLOSE_REQUEST,
    LIVE,
    SIDECAR_LOCK,
    SidecarLogs,
    StateFolder,
)

QUIET_S = 10.0
_POLL_S = 0.02
_QUIT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LivingSidecar:
    """A sidecar that runs now; ``facts`` is what it says of itself in ``sidecar.json``.

    >>> LivingSidecar(sidecar_id="labels-1", folder=Path("run/labels-1"), facts={}).sidecar_id
    'labels-1'
    """

    sidecar_id: str
    folder: Path
    facts: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAnswers:
    """Who closed its files when asked. A silent one is stopped, or died meanwhile: then adopt it.

    >>> CloseAnswers(answered=("labels-1",), silent=()).silent
    ()
    """

    answered: tuple[str, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was saved of a dead sidecar: the files closed in its stead and the calls left open.

    >>> Adoption(sidecar_id="labels-1", files=(), unfinished=2).unfinished
    2
    """

    sidecar_id: str
    files: tuple[ClosedFile, ...]
    unfinished: int


def living(state: StateFolder) -> tuple[LivingSidecar, ...]:
    """The sidecars of this state folder that run now, by id."""
    return tuple(
        LivingSidecar(sidecar_id=folder.name, folder=folder, facts=read_facts(folder))
        for folder in run_folders(state.run)
        if is_held(folder / SIDECAR_LOCK)
    )


def request_close(state: StateFolder, *, timeout_s: float = 10.0) -> CloseAnswers:
    """Have every living sidecar close its files; return when all have, or after the timeout.

    What was logged before the call is in closed files afterwards.
    """
    waiting = {one.sidecar_id: one.folder for one in living(state)}
    asked = tuple(waiting)
    for folder in waiting.values():
        with suppress(FileNotFoundError):  # it ended meanwhile, and closed its files itself
            (folder / CLOSE_REQUEST).touch(mode=0o600)
    silent: list[str] = []
    deadline = time.monotonic() + timeout_s
    while waiting and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        silent += [name for name, folder in waiting.items() if _has_died(folder)]
        waiting = {
            name: folder
            for name, folder in waiting.items()
            if _is_unanswered(folder) and name not in silent
        }
    silent += waiting
    return CloseAnswers(
        answered=tuple(name for name in asked if name not in silent), silent=tuple(silent)
    )


def adopt(
    state: StateFolder, logs: Path, *, now: datetime | None = None, quiet_s: float = QUIET_S
) -> tuple[Adoption, ...]:
    """Close the files of dead sidecars and say what is known of the calls they could not finish.

    Safe to run twice, and by two at once: whoever has the lock does it, the other finds nothing.
    """
    moment = now or datetime.now(UTC)
    sweep_abandoned(state.run)
    by_run_folder = [_adopt_run_folder(one, logs, moment) for one in run_folders(state.run)]
    strays = [_adopt_stray(one, moment, quiet_s) for one in _strays(state, logs)]
    return tuple(one for one in (*by_run_folder, *strays) if one is not None)


def _is_unanswered(folder: Path) -> bool:
    return (folder / CLOSE_REQUEST).exists() or (folder / CLOSE_TAKEN).exists()


def _has_died(folder: Path) -> bool:
    return _is_unanswered(folder) and not is_held(folder / SIDECAR_LOCK)


def _adopt_run_folder(folder: Path, logs: Path, now: datetime) -> Adoption | None:
    lock = try_lock(folder / SIDECAR_LOCK)
    if lock is None:
        return None
    try:
        facts = read_facts(folder)
        root = Path(str(facts.get("logs", logs)))
        _end_orphan(folder)
        found = _adopt_logs(SidecarLogs(root=root, sidecar_id=folder.name), facts, now)
        if found is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return found
    finally:
        os.close(lock)


def _adopt_logs(logs: SidecarLogs, facts: dict[str, object], now: datetime) -> Adoption | None:
    if not logs.live.is_dir() or not files_in_order(logs):
        return Adoption(sidecar_id=logs.sidecar_id, files=(), unfinished=0)
    lock = try_lock(logs.live)
    if lock is None:
        return None
    try:
        unfinished = close_unfinished(logs, now=now, end=_end_line(logs, facts))
        files = close_own_files(logs, now=now)
        return Adoption(sidecar_id=logs.sidecar_id, files=files, unfinished=unfinished)
    finally:
        os.close(lock)


def _adopt_stray(logs: SidecarLogs, now: datetime, quiet_s: float) -> Adoption | None:
    with suppress(FileNotFoundError):
        if time.time() - _last_written(logs) < quiet_s:
            return None
        return _adopt_logs(logs, {}, now)
    return None


def _strays(state: StateFolder, logs: Path) -> list[SidecarLogs]:
    """Log folders with live files and no run folder, whose lock would speak for them."""
    found = [SidecarLogs(root=logs, sidecar_id=one.parent.name) for one in logs.glob(f"*/{LIVE}")]
    return [one for one in found if not (state.run / one.sidecar_id).is_dir() and live_files(one)]


def _last_written(logs: SidecarLogs) -> float:
    return max((path.stat().st_mtime for path in files_in_order(logs)), default=0.0)


def _end_line(logs: SidecarLogs, facts: dict[str, object]) -> bytes:
    """The record that the sidecar could not write: it ended when its last line was written."""
    names = ("process_id", "mesh", "mesh_version", "observer", "client", "virtual_node")
    values = {name: facts.get(name) for name in (*names, "environment")}
    note = "the sidecar was killed; its files were closed later, by another process"
    return record_line(
        "program",
        "end",
        seconds=_last_written(logs),
        values={"sidecar_id": logs.sidecar_id, **values, "exit_code": None, "note": note},
    )


def _end_orphan(folder: Path) -> None:
    """Where the kernel has no parent-death signal, a killed supervisor leaves its Envoy behind."""
    admin = Admin(folder, timeout_s=1.0)
    deadline = time.monotonic() + _QUIT_TIMEOUT_S
    with suppress(EnvoyError):
        while time.monotonic() < deadline:
            admin.quit()
            time.sleep(_POLL_S)
