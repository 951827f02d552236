"""Evidence: everything that ``why`` and the pages read of one run, and nothing else.

Two rooms make it, ``lake`` from Delta and ``recording`` from a log folder, and the diagnosis cannot
tell which. Calls are columns, not objects, so that a run of a million calls fits; their order is
by start time, request id and sidecar, so that two makers of the same evidence give equal values.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshml_dbx.traffic.access_log import CLIENT_OBSERVER
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.ownership import Run, end_of
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
    "attempt",
    "resource",
)

TEXT_COLUMNS: tuple[str, ...] = (
    "type",
    "observer",
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
        codes: dict[str | None, int] = {name: code for code, name in enumerate(names)}
        codes[None] = -1
        return cls(codes=array("i", map(codes.__getitem__, listed)), names=names)

    def __getitem__(self, row: int) -> str | None:
        code = self.codes[row]
        return None if code < 0 else self.names[code]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallColumns:
    """The finished calls of a run as their callers saw them, column by column; see the two lists.

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


RECENT_RUNS = 5
"""How many runs of the past a run is compared with, unless one is named."""

LIVE_AFTER_SAMPLE_US = 3_000_000
"""A sidecar samples every second: one that did so within this span is taken for alive."""

BUFFER_TEXT = "up to 200 ms of its log were still in memory"

DROPPED_TEXT = "dropped: the recorder's queue was full, or its log could not be written"


def recent_runs(run: Run, runs: Iterable[Run]) -> tuple[Run, ...]:
    """The last finished runs of the same experiment and client that began before this one."""
    alike = (
        other
        for other in runs
        if other.status == "FINISHED"
        and (other.experiment_id, other.client) == (run.experiment_id, run.client)
        and other.start_time < run.start_time
    )
    newest_first = sorted(alike, key=lambda r: (r.start_time, r.run_id), reverse=True)
    return tuple(newest_first[:RECENT_RUNS])


def cpu_seconds(samples: Iterable[tuple[int, int]], start: int, end: int) -> float | None:
    """CPU seconds used from start to end, by a counter's samples (time, us) of one process.

    Between two samples the counter rises evenly, before the first and after the last it stands
    still; None when there are fewer than two.

    >>> cpu_seconds([(0, 0), (2_000_000, 1_000_000)], 500_000, 1_500_000)
    0.5
    """
    points = sorted(set(samples))
    if len(points) < 2:  # noqa: PLR2004  # a line takes two points
        return None
    return (_counter_at(points, end) - _counter_at(points, start)) / 1_000_000


def _counter_at(points: list[tuple[int, int]], moment: int) -> float:
    after = bisect_left(points, (moment, 0))
    if after == 0:
        return points[0][1]
    if after == len(points):
        return points[-1][1]
    (t0, low), (t1, high) = points[after - 1], points[after]
    return low + (high - low) * (moment - t0) / (t1 - t0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarCount:
    """What one sidecar of a run counted and what its lines tell, for the ledger.

    ``rows``: its finished calls in the evidence. ``others``: its other finished calls, of other
    runs, of no run, and tunnels. ``counted``: what its proxy says it finished (total minus active)
    in the last sample, made at ``counted_at``; ``ended`` when that sample was made at its stop.
    Of a process that records itself, ``dropped`` of these have no line. ``begun_at``
    is when its program, or its recorder, began.

    >>> SidecarCount(sidecar_id="churn-1", rows=3, counted=3, counted_at=0, ended=True).others
    0
    """

    sidecar_id: str
    rows: int
    others: int = 0
    counted: int | None = None
    counted_at: int | None = None
    ended: bool = False
    quarantined: int = 0
    dropped: int = 0
    observer: str | None = None
    begun_at: int | None = None

    def lasted_during(self, run: Run) -> bool:
        """Whether it was there while the run lasted: a notebook's process records more than once.

        Where its first or last record is not known, it was.
        """
        was_over = self.ended and (self.counted_at or 0) < run.start_time
        return not was_over and (self.begun_at or 0) < end_of(run)

    @property
    def is_recorder(self) -> bool:
        """Whether the process recorded its calls itself, without a proxy."""
        return self.observer == CLIENT_OBSERVER

    @property
    def proxied(self) -> int:
        """The run's calls that the proxy finished: lines that are newer than the counter count."""
        return self.rows if self.counted is None else max(self.counted - self.others, self.rows)

    @property
    def lost(self) -> int:
        """Calls that the proxy counted and no line tells of."""
        return self.proxied - self.rows


def ledger_of(counts: Iterable[SidecarCount], *, sent: int | None, read_at: int) -> Ledger:
    """The ledger of a run, of what each of its sidecars counted; ``sent`` is the program's word.

    >>> ledger_of([], sent=None, read_at=0).proxied is None
    True
    """
    listed = sorted(counts, key=lambda count: count.sidecar_id)
    counted = [count for count in listed if count.counted is not None]
    return Ledger(
        sent=sent,
        proxied=sum(count.proxied for count in listed) if counted else None,
        rows=sum(count.rows for count in listed),
        quarantined=sum(count.quarantined for count in listed),
        lost=sum(count.lost for count in listed),
        explained=tuple(text for count in listed for text in _explain(count, read_at)),
    )


def _explain(count: SidecarCount, read_at: int) -> Iterable[str]:
    counter, writer = ("recorder", "process") if count.is_recorder else ("proxy", "sidecar")
    if count.counted is None:
        yield f"{count.sidecar_id}: no sample of the {counter}'s counters"
    if count.lost and count.dropped:
        calls = _calls(min(count.dropped, count.lost))
        yield f"{count.sidecar_id}: {calls} {DROPPED_TEXT}"
    if count.lost and count.quarantined:
        yield f"{count.sidecar_id}: {count.quarantined} lines of its log cannot be read"
    if count.lost > count.dropped and not count.ended:
        alive = read_at - (count.counted_at or 0) < LIVE_AFTER_SAMPLE_US
        how = "is still running" if alive else "was killed"
        yield f"{count.sidecar_id}: the {writer} {how}: {BUFFER_TEXT}"


def _calls(number: int) -> str:
    return f"{number} call{'' if number == 1 else 's'}"


NOTHING_RECORDED = "no call of the run was recorded"

CUT_OFF_TEXT = "just before its log was read or cut off"

COUNTED_BY_PROGRAM = "that the program counted"
"""What every text about calls that only the program knows of has in it."""

PAST_THE_PROXY = f"{COUNTED_BY_PROGRAM} did not pass the proxy"


def unseen(
    run: Run,
    *,
    calls: int,
    open_calls: Iterable[Call],
    ambiguous_calls: int,
    windowed_calls: int,
    cpu_s: float | None,
    counts: Iterable[SidecarCount] = (),
    sent: int | None = None,
) -> tuple[str, ...]:
    """What could not be observed of a run, in the words that ``coverage.not_seen`` shows.

    ``calls``, ``ambiguous_calls`` and ``windowed_calls`` are of its finished calls, ``open_calls``
    are those in flight and the tunnels; ``counts`` and ``sent`` are those of its ledger.
    """
    others = tuple(open_calls)
    by_window = any(call.run_id != run.run_id for call in others)
    texts = (
        (not calls and not others, NOTHING_RECORDED),
        (cpu_s is None, "no sample of the program's CPU"),
        (
            run.process_id is None and (windowed_calls or by_window),
            "the run carries no process tag: its calls are joined by client and time",
        ),
        (
            run.process_id is not None and windowed_calls,
            f"{windowed_calls} calls are joined by client and time only",
        ),
        (ambiguous_calls, f"{ambiguous_calls} calls could belong to another run"),
    )
    said = tuple(text for holds, text in texts if holds)
    return said + _counted_only(sent, tuple(counts), others)


def _counted_only(
    sent: int | None, counts: tuple[SidecarCount, ...], open_calls: tuple[Call, ...]
) -> tuple[str, ...]:
    """How many calls the program counted and no proxy or recorder of the run did, if any.

    Calls that these counted and that are not the run's may be what is missing, and so may
    calls inside tunnels, of which nobody knows how many there are.
    """
    proxied = ledger_of(counts, sent=sent, read_at=0).proxied
    if sent is None or proxied is None:
        return ()
    missing = sent - proxied - sum(not call.is_tunnel for call in open_calls)
    if missing <= 0:
        return ()
    shared = any(count.others for count in counts)
    cut_off = not all(count.ended for count in counts)
    if any(count.is_recorder for count in counts):
        return (_unrecorded(missing, shared=shared, cut_off=cut_off),)
    tunnels = any(call.is_tunnel for call in open_calls)
    ways = (
        (tunnels or shared, "inside an https connection or as another run's"),
        (cut_off, CUT_OFF_TEXT),
    )
    return (f"{_calls(missing)} {PAST_THE_PROXY}{_or(', or passed it', ways)}",)


def _unrecorded(missing: int, *, shared: bool, cut_off: bool) -> str:
    """The words where a process recorded itself: it sees into its own https connections."""
    was = "was" if missing == 1 else "were"
    ways = _or(f", or {was} recorded", ((shared, "as another run's"), (cut_off, CUT_OFF_TEXT)))
    return f"{_calls(missing)} {COUNTED_BY_PROGRAM} {was} not recorded{ways}"


def _or(begin: str, ways: Iterable[tuple[bool, str]]) -> str:
    otherwise = " or ".join(way for holds, way in ways if holds)
    return f"{begin} {otherwise}" if otherwise else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What a call that was tried more than once shares with its attempts.

    A request id alone does not tell: services pass theirs on, and programs use one again.
    ``end_time`` is None while the call is in flight.

    >>> Retried(sidecar_id="a-1", request_id="r", connection_id=7, start_time=0).end_time is None
    True
    """

    sidecar_id: str
    request_id: str
    connection_id: int | None
    start_time: int
    end_time: int | None = None

    @property
    def key(self) -> tuple[str, str, int | None]:
        """Where it was made: one connection carries one call at a time."""
        return self.sidecar_id, self.request_id, self.connection_id

    def lasts(self, moment: int) -> bool:
        """Whether it was in flight at that moment."""
        return self.start_time <= moment and (self.end_time is None or moment <= self.end_time)


def attempts_of(calls: Iterable[Retried], attempts: Iterable[Attempt]) -> tuple[Attempt, ...]:
    """The attempts that were made for these calls, in the order of evidence.

    An attempt is made for the call of its sidecar, request id and connection that began last
    before it, if that was still in flight.
    """
    by_key: dict[tuple[str, str, int | None], list[Retried]] = {}
    for call in sorted(calls, key=lambda call: call.start_time):
        by_key.setdefault(call.key, []).append(call)
    starts = {key: [call.start_time for call in listed] for key, listed in by_key.items()}
    kept = []
    for attempt in attempts:
        key = attempt.sidecar_id, attempt.request_id or "", attempt.connection_id
        before = bisect_right(starts.get(key, ()), attempt.start_time)
        if before and by_key[key][before - 1].lasts(attempt.start_time):
            kept.append(attempt)
    return tuple(sorted(kept, key=_attempt_order))


def _attempt_order(attempt: Attempt) -> tuple[int, str, str, int]:
    return attempt.start_time, attempt.request_id or "", attempt.sidecar_id, attempt.attempt or 0


def stages_during(
    run: Run, stages: Iterable[Stage], *, processes: Iterable[str], read_at: int
) -> tuple[Stage, ...]:
    """The stages of a run's processes that were on while it lasted, in order of their begin."""
    known = frozenset(processes)
    until = read_at if run.end_time is None else run.end_time
    listed = [
        stage
        for stage in stages
        if stage.process_id in known
        and stage.start_time < until
        and (stage.end_time is None or stage.end_time > run.start_time)
    ]
    return tuple(sorted(listed, key=lambda stage: (stage.start_time, stage.stage_id)))


def calls_sent(run: Run, stages: Iterable[Stage]) -> int | None:
    """How many calls the program says it made in a run's stages; None when it counted in none.

    ``stages`` are those during the run; one that names no run is the run's if it began in it.
    """
    counted = [
        stage.sent
        for stage in stages
        if stage.sent is not None
        and (
            stage.run_id == run.run_id or (not stage.run_id and stage.start_time >= run.start_time)
        )
    ]
    return sum(counted) if counted else None
