"""Log files for tests, each line made from the words' own field tables.

``LogWriter`` is a sidecar that never ran: it writes lines as the proxy and the supervisor do and
closes them under the names that they give. With ``observer="client"`` it is a process that records
itself, whose lines have more keys.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CLIENT_FIELDS,
    CLIENT_OBSERVER,
    CONNECTION_FIELDS,
    END_TYPE,
    FIELDS,
    RECORD_KEY,
    START_TYPE,
    TYPE_KEY,
    UNFINISHED_TYPE,
    Field,
    time_text,
)
from meshml_dbx.traffic.log_folder import SidecarLogs, closed_name
from meshml_dbx.traffic.program_log import (
    MESH_FIELDS,
    PROGRAM_FIELDS,
    SAMPLE_FIELDS,
    STAGE_FIELDS,
)

NOON = 1_795_348_800_000_000
"""2026-11-22 12:00 UTC."""
SECOND = 1_000_000
CLOSED_AT = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)

TIMES = ("time", "start_time")

FIELDS_OF: dict[str, tuple[Field, ...]] = {
    "call": FIELDS,
    "attempt": ATTEMPT_FIELDS,
    "connection": CONNECTION_FIELDS,
    "stage": STAGE_FIELDS,
    "sample": SAMPLE_FIELDS,
    "program": PROGRAM_FIELDS,
    "mesh": MESH_FIELDS,
}


def line(record: str, type_: str, /, **values: object) -> str:
    """One line of that record; a time may be given in microseconds."""
    unwritten = () if values.get("observer") == CLIENT_OBSERVER else CLIENT_FIELDS
    written = (f for f in FIELDS_OF[record] if f not in unwritten)
    keys = {f.column: f.json_key() for f in written if f.json_key() != TYPE_KEY}
    unknown = values.keys() - keys.keys()
    assert not unknown, f"a {record} line has no {unknown}"
    given = {
        keys[name]: time_text(value) if name in TIMES and isinstance(value, int) else value
        for name, value in values.items()
    }
    empty: dict[str, Any] = dict.fromkeys(sorted(keys.values()))
    return json.dumps(
        {RECORD_KEY: record, TYPE_KEY: type_, **empty, **given}, separators=(",", ":")
    )


@dataclass(slots=True, kw_only=True)
class LogWriter:
    """The log folder of one sidecar."""

    logs: Path
    sidecar_id: str = "churn-00000001"
    process_id: str | None = "11111111-1111-1111-1111-111111111111"
    client: str | None = "churn"
    observer: str = "egress"
    _closed: int = 0
    _requests: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def literals(self) -> dict[str, object]:
        """What the sidecar writes into each line."""
        return {
            "observer": self.observer,
            "mesh": "ml",
            "sidecar_id": self.sidecar_id,
            "process_id": self.process_id,
            "client": self.client,
            "environment": "dev",
        }

    def call(self, start: int, /, type_: str = END_TYPE, **values: object) -> str:
        """A line of a call that began at ``start``; its request id is returned."""
        self._requests += 1
        request_id = str(values.pop("request_id", f"{self.sidecar_id}-{self._requests:06d}"))
        usual: dict[str, object] = {
            "request_id": request_id,
            "method": "GET",
            "authority": "labels.ml.local",
            "path": "/v1/labels/2026-11-22",
            "virtual_service": "labels.ml.local",
            "mesh_version": "a1b2",
            "route": "by-day",
            "target": "labels-v1",
            "code": 200 if type_ == END_TYPE else 0,
            "flags": "-",
            "attempts": 1,
            "bytes_in": 10,
            "bytes_out": 100,
            "duration_ms": 20,
            "total_us": 20_000 if type_ == END_TYPE else None,
            "first_byte_us": 19_000 if type_ == END_TYPE else None,
            "attempt": self.number_of_try(1),
        }
        merged = {**self.literals, **usual, **self.own_values, "start_time": start, **values}
        self.lines.append(line("call", type_, **merged))
        return request_id

    @property
    def own_values(self) -> dict[str, object]:
        """What is otherwise in the line of a process that records itself: it knows no mesh."""
        if self.observer != CLIENT_OBSERVER:
            return {}
        unknown = ("mesh", "mesh_version", "route", "target", "flags")
        return {
            **dict.fromkeys(unknown),
            "thread": "MainThread",
            "resource": 2**62 + self._requests % 5,
        }

    def number_of_try(self, attempt: int) -> object:
        """A proxy has it from a header, and quotes it."""
        return attempt if self.observer == CLIENT_OBSERVER else str(attempt)

    def started(self, start: int, /, **values: object) -> str:
        """The line of a call that has begun."""
        return self.call(start, START_TYPE, **values)

    def unfinished(self, start: int, /, **values: object) -> str:
        """The line of a call whose end was never written."""
        return self.call(start, UNFINISHED_TYPE, **values)

    def attempt(self, start: int, request_id: str, /, **values: object) -> None:
        """One try of a call."""
        usual = {"request_id": request_id, "start_time": start, "attempt": 1, "code": 503}
        merged = {**self.literals, **usual, **values}
        merged["attempt"] = self.number_of_try(int(str(merged["attempt"])))
        self.lines.append(line("attempt", "UpstreamEnd", **merged))

    def connection(self, start: int, /, **values: object) -> None:
        """A connection to the sidecar."""
        usual: dict[str, object] = {"start_time": start, "connection_id": 7, "duration_ms": 3}
        self.lines.append(line("connection", "NotSet", **self.literals, **{**usual, **values}))

    def stage(self, type_: str, moment: int, stage_id: str, /, **values: object) -> None:
        """The begin or end of a stage of the program."""
        usual: dict[str, object] = {
            "time": moment,
            "stage_id": stage_id,
            "stage": stage_id,
            "process_id": self.process_id,
            "sidecar_id": self.sidecar_id,
        }
        self.lines.append(line("stage", type_, **{**usual, **values}))

    def sample(self, moment: int, /, type_: str = "periodic", **values: object) -> None:
        """The proxy's counters and the program's CPU."""
        who: dict[str, object] = {
            "sidecar_id": self.sidecar_id,
            "process_id": self.process_id,
            "time": moment,
            "dropped": 0 if self.observer == CLIENT_OBSERVER else None,
        }
        self.lines.append(line("sample", type_, **{**who, "requests_active": 0, **values}))

    def program(self, type_: str, moment: int, /, **values: object) -> None:
        """The begin or end of the program."""
        who: dict[str, object] = {
            "sidecar_id": self.sidecar_id,
            "process_id": self.process_id,
            "client": self.client,
            "observer": self.observer,
            "time": moment,
        }
        self.lines.append(line("program", type_, **{**who, **values}))

    def mesh(self, moment: int, /, version: str = "a1b2", document: str = "mesh: {}") -> None:
        """The mesh file that the sidecar started with."""
        self.lines.append(
            line(
                "mesh",
                "declared",
                time=moment,
                sidecar_id=self.sidecar_id,
                mesh="ml",
                mesh_version=version,
                source="mesh.yml",
                document=document,
            )
        )

    def close(self, extra: bytes = b"") -> Path:
        """Move what was written to a closed file, followed by ``extra``, and begin anew."""
        self._closed += 1
        folder = SidecarLogs(root=self.logs, sidecar_id=self.sidecar_id)
        folder.closed.mkdir(parents=True, exist_ok=True)
        path = folder.closed / closed_name(CLOSED_AT, self._closed)
        unnamed = folder.folder / "closing"
        unnamed.write_bytes(encoded(self.lines) + extra)
        unnamed.rename(path)
        self.lines.clear()
        return path


def encoded(lines: Iterable[str]) -> bytes:
    """Lines as a file holds them."""
    return "".join(f"{one}\n" for one in lines).encode()
