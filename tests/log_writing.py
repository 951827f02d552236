"""Writes log folders as a sidecar does: the same names, keys and order of keys, on a real disk.

With ``observer="client"`` it writes as a process that records itself, which knows more keys.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CLIENT_FIELDS,
    CLIENT_OBSERVER,
    CONNECTION_FIELDS,
    FIELDS,
    Field,
    time_text,
)
from meshml_dbx.traffic.log_folder import SidecarLogs, closed_name
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.program_log import (
    MESH_FIELDS,
    PROGRAM_FIELDS,
    SAMPLE_FIELDS,
    STAGE_FIELDS,
)

T0 = 1_795_410_522_000_000
"""A moment in 2026, in UTC microseconds; the tests' runs begin then."""
SECOND = 1_000_000

TABLES: dict[str, tuple[Field, ...]] = {
    "call": FIELDS,
    "attempt": ATTEMPT_FIELDS,
    "connection": CONNECTION_FIELDS,
    "stage": STAGE_FIELDS,
    "sample": SAMPLE_FIELDS,
    "program": PROGRAM_FIELDS,
    "mesh": MESH_FIELDS,
}


def keys_of(record: str, observer: object) -> list[str]:
    """The keys that such a line has: a proxy does not write what only the process knows."""
    unknown = () if observer == CLIENT_OBSERVER else CLIENT_FIELDS
    return [item.json_key() for item in TABLES[record] if item not in unknown]


def line_of(record: str, kind: str, **values: object) -> bytes:
    """A line with every key of its table, null unless given, sorted as Envoy sorts them."""
    keys = dict.fromkeys(keys_of(record, values.get("observer")))
    times = {
        k: time_text(v)
        for k, v in values.items()
        if k in ("time", "start_time") and isinstance(v, int)
    }
    full = {**keys, "_record": record, "_type": kind, **values, **times}
    assert set(full) == {*keys, "_record"}, "a test wrote a key that the table does not have"
    return json.dumps(full, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@dataclass(kw_only=True)
class Writer:
    """One sidecar that writes to a log folder."""

    logs: Path
    sidecar_id: str = "churn-training-0a1b2c3d"
    process_id: str | None = "11111111-1111-1111-1111-111111111111"
    client: str | None = "churn-training"
    observer: str = "egress"
    closed: int = field(default=0)

    @property
    def folder(self) -> SidecarLogs:
        """Where it writes."""
        return SidecarLogs(root=self.logs, sidecar_id=self.sidecar_id)

    def literals(self) -> dict[str, object]:
        """What the sidecar writes into each line."""
        return {
            "observer": self.observer,
            "mesh": "ml",
            "sidecar_id": self.sidecar_id,
            "process_id": self.process_id,
            "client": self.client,
        }

    def call(self, number: int, kind: str = "DownstreamEnd", /, **over: object) -> bytes:
        """One line of the call with that number, which begins that many milliseconds after T0."""
        values = {
            **self.literals(),
            "start_time": T0 + number * 1000,
            "request_id": f"req-{number:08d}",
            "method": "GET",
            "authority": "labels.ml.local",
            "path": f"/v1/labels/{number % 300}",
            "virtual_service": "labels.ml.local",
            "mesh_version": "v1",
            "route": "by-day",
            "target": "labels-v2",
            "code": 200,
            "details": "via_upstream",
            "flags": "-",
            "attempts": 1,
            "duration_ms": 40,
            "total_us": 40_123,
            "first_byte_us": 39_000,
            "connect_us": 300,
            "upstream_host": "127.0.0.1:18082",
            "upstream_connection_id": 7,
            "attempt": self.number_of_try(1),
        }
        return line_of("call", kind, **(values | self.own_values(number) | over))

    def own_values(self, number: int) -> dict[str, object]:
        """What is otherwise in the line of a process that records itself: it knows no mesh."""
        if self.observer != CLIENT_OBSERVER:
            return {}
        unknown = ("mesh", "mesh_version", "route", "target", "details", "flags")
        return {
            **dict.fromkeys(unknown),
            "thread": f"worker-{number % 4}",
            "resource": 2**62 + number % 300,
        }

    def number_of_try(self, attempt: int) -> object:
        """A proxy has it from a header, and quotes it."""
        return attempt if self.observer == CLIENT_OBSERVER else str(attempt)

    def start(self, number: int, **over: object) -> bytes:
        """The line at the start of a call, in which most is not known yet."""
        unknown = {"code": 0, "attempts": 0, "duration_ms": 0, "total_us": None}
        unknown |= dict.fromkeys(("details", "first_byte_us", "connect_us", "upstream_host"))
        return self.call(number, "DownstreamStart", **(unknown | over))

    def attempt(self, number: int, attempt: int, **over: object) -> bytes:
        """The line of one attempt of the call with that number."""
        values = {
            **self.literals(),
            "start_time": T0 + number * 1000 + attempt,
            "request_id": f"req-{number:08d}",
            "attempt": self.number_of_try(attempt),
            "code": 503,
        }
        return line_of("attempt", "UpstreamEnd", **(values | over))

    def refused(self, start_time: int, **over: object) -> bytes:
        """The line of a connection whose handshake failed."""
        values = {**self.literals(), "start_time": start_time, "failure": "TLS_error: no cert"}
        return line_of("connection", "NotSet", **(values | over))

    def sample(self, time: int, *, kind: str = "periodic", **over: object) -> bytes:
        """A line with the proxy's counters and the program's CPU."""
        own = {"sidecar_id": self.sidecar_id, "process_id": self.process_id, "time": time}
        return line_of("sample", kind, **(own | over))

    def program(self, kind: str, time: int, **over: object) -> bytes:
        """The begin or end line of the program."""
        own = self.literals() | {"time": time}
        return line_of("program", kind, **(own | over))

    def mesh(self, version: str, document: str, time: int = T0) -> bytes:
        """The line with the mesh file that the sidecar started with."""
        own = {"sidecar_id": self.sidecar_id, "mesh": "ml", "mesh_version": version}
        return line_of("mesh", "declared", time=time, source="mesh.yml", document=document, **own)

    def stage(self, kind: str, stage_id: str, time: int, **over: object) -> bytes:
        """The begin or end line of a stage."""
        own = {"sidecar_id": self.sidecar_id, "process_id": self.process_id, "stage_id": stage_id}
        return line_of("stage", kind, time=time, **(own | {"stage": "training"} | over))

    def close(self, *lines: bytes, at: int = T0 + 60 * SECOND) -> Path:
        """Write a closed file."""
        self.folder.closed.mkdir(parents=True, exist_ok=True)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
        path = self.folder.closed / closed_name(moment, self.closed)
        self.closed += 1
        path.write_bytes(b"".join(lines))
        return path

    def live(self, *lines: bytes, name: str = "access.jsonl") -> Path:
        """Append to a live file."""
        self.folder.live.mkdir(parents=True, exist_ok=True)
        path = self.folder.live / name
        with path.open("ab") as stream:
            stream.write(b"".join(lines))
        return path


def run_of(writer: Writer, **over: object) -> Run:
    """A finished run of a minute in the writer's process."""
    values: dict[str, object] = {
        "run_id": "4f1c0b",
        "name": "churn-training",
        "experiment_id": "1",
        "status": "FINISHED",
        "start_time": T0,
        "end_time": T0 + 60 * SECOND,
        "process_id": writer.process_id,
        "client": writer.client,
    }
    return Run(**(values | over))  # type: ignore[arg-type]  # tests override fields by name
