"""The records that the supervisor and the program write beside Envoy's, as field tables.

``stage``: a program says where it is. ``sample``: the proxy's counters and the program's CPU, once
a second. ``program``: the program's begin and end. ``mesh``: the mesh file a sidecar started with.
All are JSON lines with ``_record`` first, read by the same parser as call lines.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import groupby

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
    Field(column="dropped", kind="number"),  # calls whose end an in-process recorder could not keep
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
    Field(column="workspace_id"),  # of Databricks, as the next two: where the program ran as a job
    Field(column="job_run_id"),
    Field(column="task_run_id"),
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


OPEN_STAGE = 2**62
"""The end of a stage that has none yet."""


def stage_spans(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages of each process cut into spans ``[start_time, end_time)`` that do not overlap.

    Where stages overlap the innermost has the time: the one that began last. A call is in the
    stage whose span holds its start.

    >>> outer = Stage(stage="fit", stage_id="a", process_id="p", start_time=0, end_time=9)
    >>> inner = Stage(stage="load", stage_id="b", process_id="p", start_time=2, end_time=5)
    >>> [(s.stage, s.start_time, s.end_time) for s in stage_spans([outer, inner])]
    [('fit', 0, 2), ('load', 2, 5), ('fit', 5, 9)]
    """
    ordered = sorted(stages, key=lambda s: (s.process_id, s.start_time, s.stage_id))
    return tuple(
        span for _, members in groupby(ordered, lambda s: s.process_id) for span in _cut(members)
    )


def _cut(stages: Iterable[Stage]) -> Iterable[Stage]:
    """Disjoint spans of one process's stages, which come in order of their start."""
    open_: list[tuple[int, str, Stage]] = []
    now = 0
    for stage in stages:
        yield from _until(open_, now, stage.start_time)
        # ``~`` turns the order round, so that the heap's first is what began last.
        heappush(open_, (~stage.start_time, stage.stage_id, stage))
        now = stage.start_time
    yield from _until(open_, now, OPEN_STAGE)


def _until(open_: list[tuple[int, str, Stage]], start: int, end: int) -> Iterable[Stage]:
    """The spans between two moments, in which no stage begins; ended stages leave the heap."""
    while open_ and start < end:
        stage = open_[0][2]
        stop = OPEN_STAGE if stage.end_time is None else stage.end_time
        if stop > start:
            yield replace(stage, start_time=start, end_time=min(stop, end))
            start = min(stop, end)
        if stop <= end:
            heappop(open_)
