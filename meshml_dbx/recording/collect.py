"""Records of one sidecar out of its lines, line by line, in whatever order the files come.

Goes in: lines. Comes out: ``Records``: rows of finished calls, calls without an end, tunnels,
the attempts of calls that were tried more than once, refused connections, stages, samples,
programs, mesh documents and bad lines. What one call needs is dropped when the call has ended.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import orjson

from meshml_dbx.recording.columns import Row, attempts_made, row_of
from meshml_dbx.recording.read import BadLine, Block, FolderReader
from meshml_dbx.traffic.access_log import (
    CLIENT_OBSERVER,
    END_TYPE,
    PERIODIC_TYPE,
    START_TYPE,
    UNFINISHED_TYPE,
    WAITING_OBSERVERS,
    BadLineError,
    attempt_of,
    call_of,
    connection_of,
    read_fields,
    read_number,
    read_text,
    read_time,
)
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.evidence import LIVE_AFTER_SAMPLE_US
from meshml_dbx.traffic.log_folder import SidecarLogs
from meshml_dbx.traffic.program_log import (
    MESH_FIELDS,
    PROGRAM_FIELDS,
    SAMPLE_FIELDS,
    STAGE_FIELDS,
    Stage,
)

Values = Mapping[str, object]
Key = tuple[object, object, object]
Where = tuple[object, int | None]
"""The request id and the connection of a call; its attempts have the same."""
Placed = tuple[tuple[Path, int], Values]
"""A decoded line with the file and offset that it came from."""
Word = TypeVar("Word", Call, Attempt)

_FINISHED_CALL = re.compile(rb'"_type": ?"DownstreamEnd"')
_SELDOM = re.compile(rb'"_record": ?"(?:mesh|stage|program|sample)"|"failure": ?"')

_UNFINISHED_CALLS = (
    b'{"_record":"call","_type":"DownstreamStart"',
    b'{"_record":"call","_type":"DownstreamPeriodic"',
    b'{"_record":"attempt"',
)
"""How the proxy begins lines that tell nothing of a finished call; it sorts keys."""


@dataclass(slots=True, kw_only=True)
class Records:
    """What one sidecar's log tells.

    ``finished`` counts all its finished calls, ``rows`` are those of them that a caller waited for.

    >>> Records(sidecar_id="a-1").rows
    []
    """

    sidecar_id: str
    rows: list[Row] = field(default_factory=list)
    finished: int = 0
    tunnels: list[Call] = field(default_factory=list)
    in_flight: list[Call] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    samples: list[Values] = field(default_factory=list)
    programs: list[Values] = field(default_factory=list)
    meshes: list[Values] = field(default_factory=list)
    bad_lines: list[BadLine] = field(default_factory=list)


def read_records(folder: SidecarLogs) -> Records:
    """Everything that one sidecar's files tell."""
    collector = Collector(sidecar_id=folder.sidecar_id)
    for _, blocks in FolderReader(folder=folder).files():
        for block in blocks:
            collector.read(block)
    return collector.records()


@dataclass(slots=True, kw_only=True)
class Collector:
    """Takes lines in any order and keeps what an answer needs; ``records`` hands it over.

    >>> collector = Collector(sidecar_id="a-1")
    >>> collector.read(Block(file=Path("x.jsonl"), offset=0, data=b"noise"))
    >>> collector.records().bad_lines[0].reason
    'not JSON'
    """

    sidecar_id: str
    _records: Records = field(init=False)
    _place: tuple[Path, int] = (Path(), 0)
    _ended: set[Key] = field(default_factory=set)
    _open: dict[Key, Placed] = field(default_factory=dict)
    _retried: set[Where] = field(default_factory=set)
    _attempts: dict[Where, list[tuple[int, Placed]]] = field(default_factory=dict)
    _begun: dict[object, Values] = field(default_factory=dict)
    _stopped: dict[object, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._records = Records(sidecar_id=self.sidecar_id)

    def read(self, block: Block) -> None:
        """Take every line of a block."""
        self._take(block.file, block.lines())

    def skim(self, block: Block) -> None:
        """Take what is seldom, and of the calls only how many ended: for files of other times."""
        self._records.finished += len(_FINISHED_CALL.findall(block.data))
        self._take(block.file, block.matches(_SELDOM))

    def read_ends(self, block: Block) -> None:
        """Take finished calls and what is seldom: for runs that are only compared with."""
        self._take(block.file, block.lines_but(_UNFINISHED_CALLS))

    def records(self) -> Records:
        """What was taken so far, with the calls that have no end yet. Call it once, at the end."""
        records = self._records
        last: Values = max(records.samples, key=time_of, default={})
        for placed in self._open.values():
            call = self._make(call_of, placed)
            if call and not _has_ended_untold(call, last):
                (records.tunnels if call.is_tunnel else records.in_flight).append(call)
        waiting = {(c.request_id, c.connection_id) for c in records.in_flight if c.retries}
        for where in (self._retried | waiting) & self._attempts.keys():
            made = (self._make(attempt_of, placed) for _, placed in self._attempts[where])
            records.attempts.extend(attempt for attempt in made if attempt)
        records.stages.extend(_stage(v, self._stopped.get(k, {})) for k, v in self._begun.items())
        return records

    def _take(self, file: Path, lines: Iterable[tuple[int, bytes]]) -> None:
        for offset, line in lines:
            self._place = file, offset
            try:
                values = orjson.loads(line)
                _TAKERS[values["_record"]](self, values)
            except BadLineError as error:
                self._bad(self._place, str(error))
            except orjson.JSONDecodeError:
                self._bad(self._place, "not JSON")
            except (KeyError, TypeError):
                self._bad(self._place, "no record of ours")

    def _bad(self, place: tuple[Path, int], reason: str) -> None:
        file, offset = place
        self._records.bad_lines.append(BadLine(file=file, offset=offset, reason=reason))

    def _make(self, read: Callable[[Values], Word], placed: Placed) -> Word | None:
        """The word that a kept line tells of; None, and a bad line, when it tells of none."""
        place, values = placed
        try:
            return read(values)
        except BadLineError as error:
            self._bad(place, str(error))
            return None

    def _take_call(self, values: Values) -> None:
        key = values["request_id"], values["start_time"], values["observer"]
        if key in self._ended:
            return
        if values["_type"] == END_TYPE:
            self._end_call(values)
            self._ended.add(key)
            self._open.pop(key, None)
        elif values["_type"] not in _PROGRESS:
            raise BadLineError(f"unknown type of call line: {values['_type']!r:.40}")
        elif values["observer"] in WAITING_OBSERVERS:
            known = self._open.get(key)
            if known is None or _progress(known[1]) <= _progress(values):
                self._open[key] = self._place, values

    def _end_call(self, values: Values) -> None:
        if values["observer"] in WAITING_OBSERVERS:
            if values["method"] == "CONNECT":
                self._records.tunnels.append(call_of(values))
            else:
                row = row_of(values)
                self._records.rows.append(row)
                self._end_attempts(row, _where(values))
        self._records.finished += 1

    def _end_attempts(self, row: Row, where: Where) -> None:
        """Drop the attempt of a call that was tried once; of other calls' there may be more."""
        if attempts_made(row) > 1:
            self._retried.add(where)
            return
        end = row.start_time + row.duration_us
        kept = self._attempts.pop(where, [])
        others = [(at, placed) for at, placed in kept if not row.start_time <= at <= end]
        if others:
            self._attempts[where] = others

    def _take_attempt(self, values: Values) -> None:
        if values["observer"] in WAITING_OBSERVERS:
            kept = self._attempts.setdefault(_where(values), [])
            kept.append((read_time(values["start_time"]), (self._place, values)))

    def _take_connection(self, values: Values) -> None:
        if read_text(values["failure"]) is not None:
            self._records.connections.append(connection_of(values))

    def _take_stage(self, values: Values) -> None:
        read = read_fields(values, STAGE_FIELDS)
        by_id = {"begin": self._begun, "end": self._stopped}
        by_id[str(read["type"])][read["stage_id"]] = read

    def _take_sample(self, values: Values) -> None:
        self._records.samples.append(read_fields(values, SAMPLE_FIELDS))

    def _take_program(self, values: Values) -> None:
        self._records.programs.append(read_fields(values, PROGRAM_FIELDS))

    def _take_mesh(self, values: Values) -> None:
        self._records.meshes.append(read_fields(values, MESH_FIELDS))


_TAKERS: dict[object, Callable[[Collector, Values], None]] = {
    "call": Collector._take_call,
    "attempt": Collector._take_attempt,
    "connection": Collector._take_connection,
    "stage": Collector._take_stage,
    "sample": Collector._take_sample,
    "program": Collector._take_program,
    "mesh": Collector._take_mesh,
}


def _where(values: Values) -> Where:
    return values["request_id"], read_number(values.get("connection_id"))


def _has_ended_untold(call: Call, last_sample: Values) -> bool:
    """Whether a recorder that dropped ends must have dropped this call's.

    It tells of each call in flight every second, and of those left at its own end.
    """
    if call.observer != CLIENT_OBSERVER or not last_sample.get("dropped"):
        return False
    silent = call.end_time + LIVE_AFTER_SAMPLE_US < time_of(last_sample)
    return call.type != UNFINISHED_TYPE and (silent or last_sample["type"] == "last")


_PROGRESS = {START_TYPE: 0, PERIODIC_TYPE: 1, UNFINISHED_TYPE: 2}


def _progress(values: Values) -> tuple[int, int]:
    """How far a call without an end was when this line of it was written."""
    return _PROGRESS[str(values["_type"])], read_number(values.get("duration_ms")) or 0


def _stage(begin: Values, end: Values) -> Stage:
    """The stage that a begin and, unless it lasts, an end line tell of."""
    return Stage(
        stage=str(begin["stage"]),
        stage_id=str(begin["stage_id"]),
        process_id=str(begin["process_id"]),
        start_time=time_of(begin),
        end_time=time_of(end) if end else None,
        run_id=read_text(begin["run_id"]),
        thread=read_text(begin["thread"]),
        sent=read_number(end["sent"]) if end else None,
    )


def time_of(values: Values) -> int:
    """The time of a record that ``read_fields`` has read."""
    return int(str(values["time"]))
