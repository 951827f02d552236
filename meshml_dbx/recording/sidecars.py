"""Which sidecars of a log folder can have anything to tell of a run, before their files are read.

Goes in: a log folder. Comes out: one ``Sidecar`` per folder in it, with whom it served and when it
wrote, as names, time stamps of files and one line tell. Old runs then cost a look, not a read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from meshml_dbx.recording.read import LogFile, list_files, list_sidecars
from meshml_dbx.traffic.access_log import BadLineError, read_text, read_time
from meshml_dbx.traffic.context import JOB_VARIABLES
from meshml_dbx.traffic.log_folder import SidecarLogs
from meshml_dbx.traffic.ownership import ProcessJob, Run, end_of

PEEK_BYTES = 1 << 16
FILES_TO_PEEK = 8
"""The oldest ones: the file that a program's begin is in is among the first that its log has."""
CLOCK_MARGIN_US = 2_000_000
"""File systems round the time of a change; a sidecar this close to a run is read."""

_PROGRAM = b'{"_record":"program"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One sidecar's folder: whom it served, and between which moments it wrote.

    A process that records itself has such a folder too: ``observer`` is then client.
    ``known`` is False when no readable line says whom it served: then it may be anyone's.

    >>> folder = SidecarLogs(root=Path("logs"), sidecar_id="a-1")
    >>> Sidecar(folder=folder, first=0, last=9).known
    False
    """

    folder: SidecarLogs
    first: int
    last: int
    known: bool = False
    process_id: str | None = None
    client: str | None = None
    observer: str | None = None
    job: ProcessJob | None = None

    def wrote_during(self, run: Run) -> bool:
        """Whether it can have written anything about the time of a run."""
        begin, end = run.start_time - CLOCK_MARGIN_US, end_of(run) + CLOCK_MARGIN_US
        return begin <= self.last and self.first < end

    def may_serve(self, run: Run) -> bool:
        """Whether calls through it can belong to a run by their process, job, client and time."""
        if not self.wrote_during(run):
            return False
        by_process = self.process_id is not None and self.process_id == run.process_id
        by_window = self.client is not None and run.client in (None, self.client)
        by_job = self.job is not None and not {run.job_run_id, run.task_run_id}.isdisjoint(
            {self.job.job_run_id, self.job.task_run_id} - {None}
        )
        return by_process or by_job or by_window or not self.known

    def may_be_named(self, run: Run) -> bool:
        """Whether calls through it can belong to a run only if they name it in their header."""
        return self.client is not None and self.wrote_during(run) and not self.may_serve(run)


def find_sidecars(logs: Path, *, since: int) -> tuple[Sidecar, ...]:
    """The sidecars that wrote anything since that moment.

    Raises:
        LogFolderError: the folder is missing, cannot be read, or holds no sidecar's log.
    """
    folders = (SidecarLogs(root=logs, sidecar_id=name) for name in list_sidecars(logs))
    return tuple(found for folder in folders if (found := _look(folder, since)))


def _look(folder: SidecarLogs, since: int) -> Sidecar | None:
    files = list_files(folder)
    last = max(map(_last_change, files), default=0)
    if last < since - CLOCK_MARGIN_US:
        return None
    first = last
    for values in _peek(files):
        first = min(first, _moment(values, last))
        if "observer" in values:
            process_id = read_text(values.get("process_id"))
            return Sidecar(
                folder=folder,
                first=first,
                last=last,
                known=True,
                process_id=process_id,
                client=read_text(values.get("client")),
                observer=read_text(values.get("observer")),
                job=_job_of(process_id, files) if process_id else None,
            )
    return Sidecar(folder=folder, first=0, last=last)


def _job_of(process_id: str, files: tuple[LogFile, ...]) -> ProcessJob | None:
    """The Databricks job in which the program ran: its first line, and so its file's, tells."""
    for file in files[:FILES_TO_PEEK]:
        try:
            with file.path.open("rb") as stream:
                line = stream.readline(PEEK_BYTES)
        except FileNotFoundError:
            continue
        if line.startswith(_PROGRAM):
            values = next(_decoded([line]), {})
            told = {name: read_text(values.get(name)) for name in JOB_VARIABLES}
            return ProcessJob(process_id=process_id, **told)
    return None


def _last_change(file: LogFile) -> int:
    if file.closed_at is not None:
        return file.closed_at
    try:
        return file.path.stat().st_mtime_ns // 1000
    except FileNotFoundError:  # closed since it was listed: just now, then
        return 2**62


def _peek(files: tuple[LogFile, ...]) -> Iterator[dict[str, object]]:
    """The first records of the sidecar's files, oldest file first."""
    for file in files:
        try:
            with file.path.open("rb") as stream:
                lines = stream.read(PEEK_BYTES).split(b"\n")
        except FileNotFoundError:
            continue
        yield from _decoded(lines)


def _decoded(lines: Iterable[bytes]) -> Iterator[dict[str, object]]:
    for line in lines:
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(values, dict):
            yield values


def _moment(values: dict[str, object], default: int) -> int:
    try:
        return read_time(values.get("start_time") or values.get("time"))
    except BadLineError:
        return default
