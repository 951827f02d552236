"""The records that the supervisor and the program write beside Envoy's, as field tables.

``stage``: a program says where it is. ``sample``: the proxy's counters and the program's CPU, once
a second. ``program``: the program's begin and end. ``mesh``: the mesh file a sidecar started with.
All are JSON lines with ``_record`` first, read by the same parser as call lines.
"""

from dataclasses import dataclass

from meshml_dbx.traffic.access_log import TYPE_KEY, Field

TIME = Field(column="time", kind="time", unit="UTC us")
TYPE = Field(column="type", key=TYPE_KEY)

STAGE_FIELDS: tuple[Field, ...] = (
    TYPE,  # begin | end
    TIME,
    Field(column="stage_id"),
    Field(column="stage"),
    Field(column="process_id"),
    Field(column="sidecar_id"),
    Field(column="run_id"),
    Field(column="thread"),
    Field(column="sent", kind="number"),
)

SAMPLE_FIELDS: tuple[Field, ...] = (
    TYPE,  # periodic | last
    TIME,
    Field(column="sidecar_id"),
    Field(column="process_id"),
    Field(column="requests_total", kind="number"),
    Field(column="requests_active", kind="number"),
    Field(column="connections_total", kind="number"),
    Field(column="pending_overflow", kind="number"),
    Field(column="write_buffered", kind="number"),
    Field(column="write_completed", kind="number"),
    Field(column="write_failed", kind="number"),
    Field(column="log_bytes", kind="number", unit="B"),
    Field(column="cpu_us", kind="number", unit="us"),
)

PROGRAM_FIELDS: tuple[Field, ...] = (
    TYPE,  # begin | end
    TIME,
    Field(column="sidecar_id"),
    Field(column="process_id"),
    Field(column="mesh"),
    Field(column="mesh_version"),
    Field(column="observer"),
    Field(column="client"),
    Field(column="virtual_node"),
    Field(column="environment"),
    Field(column="program"),
    Field(column="host"),
    Field(column="envoy_version"),
    Field(column="exit_code", kind="number"),
    Field(column="cpu_us", kind="number", unit="us"),
    Field(column="note"),
)

MESH_FIELDS: tuple[Field, ...] = (
    TYPE,  # declared
    TIME,
    Field(column="sidecar_id"),
    Field(column="mesh"),
    Field(column="mesh_version"),
    Field(column="source"),
    Field(column="document"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a program: from begin to end, in one process; ``end_time`` None while it lasts.

    ``sent`` is the number of calls that the program says it made in it, None when it did not count.
    """

    stage: str
    stage_id: str
    process_id: str
    start_time: int
    end_time: int | None = None
    run_id: str | None = None
    thread: str | None = None
    sent: int | None = None
