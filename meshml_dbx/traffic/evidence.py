"""Evidence: everything that ``why`` and the pages read of one run, and nothing else.

Two rooms make it, ``lake`` from Delta and ``recording`` from a log folder, and the diagnosis cannot
tell which. Calls are columns, not objects, so that a run of a million calls fits; their order is
by start time, request id and sidecar, so that two makers of the same evidence give equal values.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.program_log import Stage

UNKNOWN = -1
"""Stands for None in a column of numbers."""

NUMBER_COLUMNS: tuple[str, ...] = (
    "start_time",
    "duration_us",
    "code",
    "attempts",
    "bytes_in",
    "bytes_out",
    "to_upstream_us",
    "overhead_us",
    "send_us",
    "first_byte_us",
    "receive_us",
    "respond_us",
    "pool_ready_ms",
    "connect_us",
    "tls_us",
    "upstream_connection_id",
)

TEXT_COLUMNS: tuple[str, ...] = (
    "type",
    "sidecar_id",
    "client",
    "authority",
    "virtual_service",
    "route",
    "target",
    "pattern",
    "stage",
    "flags",
    "details",
    "mesh_version",
    "upstream_host",
    "upstream_local_address",
    "upstream_peer",
    "upstream_failure",
    "origin",
    "origin_flags",
    "join_method",
)
"""``stage`` is the header's, else the stage of the process in which the call began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A column of texts with few distinct values: names in sorted order, and a code per row.

    >>> Coded.of(["b", None, "a", "b"])
    Coded(codes=array('i', [1, -1, 0, 1]), names=('a', 'b'))
    """

    codes: "array[int]"
    names: tuple[str, ...]

    @classmethod
    def of(cls, values: Iterable[str | None]) -> "Coded":
        """The column of these values, None as the code -1."""
        listed = list(values)
        names = tuple(sorted({value for value in listed if value is not None}))
        codes = {name: code for code, name in enumerate(names)}
        return cls(codes=array("i", [codes.get(v, -1) if v else -1 for v in listed]), names=names)

    def __getitem__(self, row: int) -> str | None:
        code = self.codes[row]
        return None if code < 0 else self.names[code]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallColumns:
    """The finished egress calls of a run, column by column; see the two lists of names above.

    >>> len(CallColumns.of([]))
    0
    """

    request_ids: tuple[str, ...]
    numbers: "Mapping[str, array[int]]"
    texts: Mapping[str, Coded]

    @classmethod
    def of(cls, calls: Iterable[Call], methods: Iterable[str | None] = ()) -> "CallColumns":
        """The columns of these calls, in the one order; ``methods`` says how each was joined."""
        listed = list(calls)
        joined = list(methods) or [None] * len(listed)
        rows = sorted(zip(listed, joined, strict=True), key=lambda pair: call_order(pair[0]))
        return cls(
            request_ids=tuple(call.request_id or "" for call, _ in rows),
            numbers={
                name: array("q", [_number(getattr(call, name)) for call, _ in rows])
                for name in NUMBER_COLUMNS
            },
            texts={
                name: Coded.of(
                    method if name == "join_method" else getattr(call, name)
                    for call, method in rows
                )
                for name in TEXT_COLUMNS
            },
        )

    def __len__(self) -> int:
        return len(self.request_ids)


def call_order(call: Call) -> tuple[int, str, str]:
    """The order of calls in evidence."""
    return call.start_time, call.request_id or "", call.sidecar_id


def _number(value: int | None) -> int:
    return UNKNOWN if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Whether anything was lost between the program and the evidence.

    ``sent``: calls that the program says it made, None when it did not count. ``proxied``: calls
    that its proxies' own counters say they finished. ``rows``: calls in the evidence. ``lost`` is
    what the counters have and no line tells of; ``explained`` says why, where it is known.
    """

    sent: int | None = None
    proxied: int | None = None
    rows: int = 0
    quarantined: int = 0
    lost: int = 0
    explained: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCalls:
    """A run of the past with its calls, to compare with."""

    run: Run
    calls: CallColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of one run's calls.

    ``read_at`` is when it was read (UTC microseconds): the end of a run that still lasts.
    ``attempts`` are those of calls that were tried more than once; ``connections`` the refused
    ones, seen by any sidecar during the run; ``in_flight`` calls without an end; ``tunnels`` https
    connections. ``cpu_s`` is the program's CPU time within the run, None when it was not sampled.
    ``baseline_kind`` is named, recent or none. ``not_seen`` names what could not be observed.
    """

    run: Run
    read_at: int
    calls: CallColumns
    attempts: tuple[Attempt, ...] = ()
    connections: tuple[Connection, ...] = ()
    in_flight: tuple[Call, ...] = ()
    tunnels: tuple[Call, ...] = ()
    stages: tuple[Stage, ...] = ()
    cpu_s: float | None = None
    ambiguous_calls: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    mesh_documents: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Mesh version → (source file, text) of every mesh that the run's calls crossed."""
    baseline: tuple[RunCalls, ...] = ()
    baseline_kind: str = "none"
    not_seen: tuple[str, ...] = ()
