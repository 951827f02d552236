"""Evidence of one run, out of Delta: the same value that a log folder gives.

Goes in: a run's id. Comes out: ``Evidence``, or None for a run that the lake does not know. The
rules (whose call it is, its stage, the ledger, the baseline) are the words'; this file asks the
tables, several at once, since a small query is mostly waiting.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from meshml_dbx.errors import UnknownRunError
from meshml_dbx.lake.columns import CallTable, columns_of
from meshml_dbx.lake.read_runs import runs_of_ids
from meshml_dbx.lake.reader import CounterPoint, RunReader
from meshml_dbx.lake.tables import THREADS, TableNames
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.evidence import (
    Evidence,
    Retried,
    RunCalls,
    SidecarCount,
    calls_sent,
    cpu_seconds,
    ledger_of,
    stages_during,
    unseen,
)
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.program_log import OPEN_STAGE, Stage, stage_spans


def has_run(spark: SparkSession, names: TableNames, run_id: str) -> bool:
    """Whether an ingest has brought this run in."""
    return bool(runs_of_ids(spark, names, [run_id]))


def read_evidence(
    spark: SparkSession,
    names: TableNames,
    run_id: str,
    *,
    read_at: int,
    baseline: str | None = None,
) -> Evidence | None:
    """All that the lake tells of a run, compared with the ``baseline`` run or recent ones.

    Raises:
        UnknownRunError: the lake has no run with the baseline's id.
    """
    known = {run.run_id: run for run in runs_of_ids(spark, names, {run_id, baseline or run_id})}
    if run_id not in known:
        return None
    if baseline and baseline not in known:
        raise UnknownRunError(
            f"the baseline {baseline} is no run of the lake",
            advice="run meshml ingest, name another run with --baseline, or leave it out",
        )
    reader = RunReader(spark=spark, names=names, read_at=read_at)
    compared = (known[baseline],) if baseline else reader.recent(known[run_id])
    seen = _see(reader, known[run_id], compared)
    return _assemble(seen, _look_up(reader, seen), read_at=read_at, named=baseline is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a run's time holds: its own calls, those of the runs to compare with, and refusals."""

    run: Run
    compared: tuple[Run, ...]
    tables: tuple[CallTable, ...]
    in_flight: tuple[Call, ...]
    tunnels: tuple[Call, ...]
    refused: tuple[Connection, ...]

    @property
    def table(self) -> CallTable:
        """The run's own finished calls."""
        return self.tables[0]

    @property
    def processes(self) -> frozenset[str]:
        """The processes of the run: the one that tagged it, else those whose calls joined it."""
        if self.run.process_id:
            return frozenset((self.run.process_id,))
        others = {call.process_id for call in self.open_calls}
        return self.table.processes | {process for process in others if process}

    @property
    def calling(self) -> frozenset[str]:
        """Every process that made a call of these runs."""
        found = {call.process_id for call in self.open_calls}
        by_table = {process for table in self.tables for process in table.processes}
        return frozenset(process for process in found | by_table if process) | self.processes

    @property
    def sidecars(self) -> frozenset[str]:
        """The sidecars that its calls passed on the caller's side."""
        others = {call.sidecar_id for call in self.open_calls}
        return frozenset(self.table.sidecars) | others

    @property
    def mesh_versions(self) -> frozenset[str]:
        """The meshes that its calls crossed."""
        others = {call.mesh_version for call in self.open_calls}
        return self.table.mesh_versions | {version for version in others if version}

    @property
    def open_calls(self) -> tuple[Call, ...]:
        """Its calls in flight, and its tunnels."""
        return (*self.in_flight, *self.tunnels)

    @property
    def retried(self) -> tuple[Retried, ...]:
        """Its calls that were tried more than once."""
        waiting = (
            Retried(
                sidecar_id=call.sidecar_id,
                request_id=call.request_id or "",
                connection_id=call.connection_id,
                start_time=call.start_time,
            )
            for call in self.in_flight
            if call.retries
        )
        return (*self.table.retried(), *waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LookedUp:
    """What the calls lead to."""

    attempts: tuple[Attempt, ...]
    stages: tuple[Stage, ...]
    counters: tuple[CounterPoint, ...]
    counts: tuple[SidecarCount, ...]
    documents: Mapping[str, tuple[str, str]]


def _see(reader: RunReader, run: Run, compared: tuple[Run, ...]) -> _Seen:
    owners = reader.owners((run, *compared))
    with ThreadPoolExecutor(THREADS) as pool:
        tables = [pool.submit(reader.calls, one, owners[one.run_id]) for one in (run, *compared)]
        in_flight = pool.submit(reader.open_calls, run, owners[run.run_id])
        tunnels = pool.submit(reader.tunnels, run, owners[run.run_id])
        refused = pool.submit(reader.refused, run)
        return _Seen(
            run=run,
            compared=compared,
            tables=tuple(table.result() for table in tables),
            in_flight=in_flight.result(),
            tunnels=tunnels.result(),
            refused=refused.result(),
        )


def _look_up(reader: RunReader, seen: _Seen) -> _LookedUp:
    with ThreadPoolExecutor(THREADS) as pool:
        attempts = pool.submit(reader.attempts, seen.run, seen.retried)
        stages = pool.submit(reader.stages, seen.calling)
        counters = pool.submit(reader.counters, seen.processes)
        counts = pool.submit(reader.counts, seen.run, seen.table.sidecars, seen.sidecars)
        documents = pool.submit(reader.documents, seen.mesh_versions)
        return _LookedUp(
            attempts=attempts.result(),
            stages=stages.result(),
            counters=counters.result(),
            counts=counts.result(),
            documents=documents.result(),
        )


def _assemble(seen: _Seen, found: _LookedUp, *, read_at: int, named: bool) -> Evidence:
    run = seen.run
    spans = stage_spans(found.stages)
    stages = stages_during(run, found.stages, processes=seen.processes, read_at=read_at)
    cpu_s = _cpu_s(run, found.counters, read_at)
    past = _past(seen, spans)
    sent = calls_sent(run, stages)
    calls = columns_of(seen.table, spans)
    in_flight, tunnels = (_staged(words, spans) for words in (seen.in_flight, seen.tunnels))
    return Evidence(
        run=run,
        read_at=read_at,
        calls=calls,
        attempts=found.attempts,
        connections=seen.refused,
        in_flight=in_flight,
        tunnels=tunnels,
        stages=stages,
        cpu_s=cpu_s,
        ambiguous_calls=seen.table.ambiguous,
        ledger=ledger_of(found.counts, sent=sent, read_at=read_at),
        mesh_documents=found.documents,
        baseline=past,
        baseline_kind="named" if named else "recent" if past else "none",
        not_seen=unseen(
            run,
            calls=len(calls),
            open_calls=seen.open_calls,
            ambiguous_calls=seen.table.ambiguous,
            windowed_calls=seen.table.windowed,
            cpu_s=cpu_s,
            counts=found.counts,
            sent=sent,
        ),
    )


def _past(seen: _Seen, spans: tuple[Stage, ...]) -> tuple[RunCalls, ...]:
    """The calls of the runs to compare with; a run without any tells nothing."""
    pairs = zip(seen.compared, seen.tables[1:], strict=True)
    past = (RunCalls(run=run, calls=columns_of(table, spans)) for run, table in pairs)
    return tuple(one for one in past if len(one.calls))


def _staged(calls: tuple[Call, ...], spans: Iterable[Stage]) -> tuple[Call, ...]:
    """The calls, those without a stage of their own in the one in which they began."""
    return tuple(_with_stage(call, spans) for call in calls)


def _with_stage(call: Call, spans: Iterable[Stage]) -> Call:
    holding = (
        span.stage
        for span in spans
        if span.process_id == call.process_id
        and span.start_time <= call.start_time < (span.end_time or OPEN_STAGE)
    )
    return call if call.stage else replace(call, stage=next(holding, None))


def _cpu_s(run: Run, counters: Iterable[CounterPoint], read_at: int) -> float | None:
    """CPU seconds of the run's processes while it lasted; None when none was sampled."""
    end = read_at if run.end_time is None else run.end_time
    by_sidecar: dict[str, list[tuple[int, int]]] = {}
    for point in counters:
        by_sidecar.setdefault(point.sidecar_id, []).append((point.time, point.cpu_us))
    used = (cpu_seconds(points, run.start_time, end) for points in by_sidecar.values())
    known = [seconds for seconds in used if seconds is not None]
    return sum(known) if known else None
