"""The lake's tables asked for what belongs to one run, table by table, as words.

Goes in: a run, and what is known of its calls. Comes out: calls as columns, attempts, refused
connections, counters, stages and mesh documents.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.columns import CallTable, read_calls
from meshml_dbx.lake.join import Owners, own_calls, owners_during
from meshml_dbx.lake.process_jobs import jobs_of_runs
from meshml_dbx.lake.read_runs import stored_runs
from meshml_dbx.lake.spans import LAST_MOMENT, Span
from meshml_dbx.lake.stages import read_stages
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CONNECTION_FIELDS,
    FIELDS,
    UNFINISHED_TYPE,
    WAITING_OBSERVERS,
    Field,
)
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.evidence import (
    RECENT_RUNS,
    Retried,
    SidecarCount,
    attempts_of,
    call_order,
)
from meshml_dbx.traffic.ownership import Run, end_of
from meshml_dbx.traffic.program_log import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterPoint:
    """How much CPU time a program had used at one moment, as its sidecar saw it."""

    sidecar_id: str
    time: int
    cpu_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReader:
    """Asks a lake for what belongs to a run."""

    spark: SparkSession
    names: TableNames
    read_at: int

    def recent(self, run: Run) -> tuple[Run, ...]:
        """The last finished runs of the same experiment and client before this one."""
        alike = (
            F.expr("status = 'FINISHED' AND NOT coalesce(deleted, false)")
            & (F.col("experiment_id") == run.experiment_id)
            & F.col("client").eqNullSafe(run.client)
            & (F.unix_micros("start_time") < run.start_time)
        )
        newest = (
            self._table("runs")
            .where(alike)
            .orderBy(F.desc("start_time"), F.desc("run_id"))
            .limit(RECENT_RUNS)
            .select("run_id")
        )
        ids = [row["run_id"] for row in newest.collect()]
        found = stored_runs(self.spark, self.names, F.col("run_id").isin(ids)) if ids else ()
        return tuple(reversed(found))

    def owners(self, runs: tuple[Run, ...]) -> dict[str, Owners]:
        """Who owns the calls of the time of each of these runs."""
        end = F.coalesce(F.unix_micros("end_time"), F.lit(LAST_MOMENT))
        overlaps = F.expr("false")
        for run in runs:
            span = span_of(run)
            overlaps |= (F.unix_micros("start_time") < span.end) & (end >= span.start)
        others = stored_runs(self.spark, self.names, overlaps)
        jobs = jobs_of_runs(self.spark, self.names, others)
        return {
            run.run_id: owners_during(span_of(run), others, self._clients(run), jobs)
            for run in runs
        }

    def calls(self, run: Run, owners: Owners) -> CallTable:
        """The run's finished calls."""
        return read_calls(self._owned("calls", run, owners))

    def open_calls(self, run: Run, owners: Owners) -> tuple[Call, ...]:
        """The run's calls without an end."""
        rows = self._owned("unfinished_calls", run, owners)
        return self._calls_of(rows.withColumn("type", F.lit(UNFINISHED_TYPE)))

    def tunnels(self, run: Run, owners: Owners) -> tuple[Call, ...]:
        """The run's https connections."""
        return self._calls_of(self._owned("tunnels", run, owners))

    def refused(self, run: Run) -> tuple[Connection, ...]:
        """The refused connections to any sidecar that began while the run lasted."""
        span = span_of(run)
        until = min(span.end, self.read_at) if run.end_time is None else span.end
        wanted = Span(start=span.start, end=max(until, span.start))
        rows = self._table("connections").where(wanted.condition("start_time"))
        found = words_of(rows.where(F.col("failure").isNotNull()), CONNECTION_FIELDS)
        connections = (Connection(**values) for values in found)
        order = sorted(
            connections, key=lambda c: (c.start_time, c.sidecar_id, c.connection_id or 0)
        )
        return tuple(order)

    def attempts(self, run: Run, retried: tuple[Retried, ...]) -> tuple[Attempt, ...]:
        """The attempts of these calls of a run."""
        wanted = [(request_id,) for request_id in {call.request_id for call in retried}]
        if not wanted:
            return ()
        ids = self.spark.createDataFrame(wanted, "request_id STRING")
        rows = self._waiting("attempts").where(
            F.col("sidecar_id").isin(sorted({call.sidecar_id for call in retried}))
            & (F.unix_micros("start_time") >= run.start_time)
        )
        found = words_of(rows.join(F.broadcast(ids), "request_id", "left_semi"), ATTEMPT_FIELDS)
        return attempts_of(retried, (Attempt(**values) for values in found))

    def stages(self, processes: Iterable[str]) -> tuple[Stage, ...]:
        """The stages of these processes."""
        return read_stages(self.spark, self.names, processes=processes)

    def counters(self, processes: Iterable[str]) -> tuple[CounterPoint, ...]:
        """The CPU counters of these processes, at samples and at a program's begin and end."""
        wanted = F.col("process_id").isin(sorted(processes))
        begin = F.when(F.col("type") == "begin", F.lit(0))
        columns = ("sidecar_id", F.unix_micros("time").alias("time"))
        sampled = self._table("samples").where(wanted).select(*columns, "cpu_us")
        # A program begins with none, unless it says that it began before its recorder did.
        told = self._table("programs").where(wanted)
        used = told.select(*columns, F.coalesce("cpu_us", begin).alias("cpu_us"))
        points = sampled.unionByName(used).where("cpu_us IS NOT NULL")
        return tuple(CounterPoint(**row.asDict()) for row in points.collect())

    def counts(
        self, run: Run, rows: Mapping[str, int], sidecars: Iterable[str]
    ) -> tuple[SidecarCount, ...]:
        """What each of the run's sidecars counted and logged; ``rows``: its calls of the run.

        ``sidecars`` are those that calls of the run passed; others served its process meanwhile.
        """
        served = F.col("process_id") == F.lit(run.process_id)
        passed = frozenset(sidecars)
        wanted = F.col("sidecar_id").isin(sorted(passed)) | F.coalesce(served, F.expr("false"))
        moments = {f"{name}_us": F.unix_micros(name) for name in ("counted_at", "begun_at")}
        ledger = self._table("ledger").where(wanted).withColumns(moments)
        counts = (
            SidecarCount(
                sidecar_id=row["sidecar_id"],
                rows=rows.get(row["sidecar_id"], 0),
                others=row["rows"] + row["tunnels"] - rows.get(row["sidecar_id"], 0),
                counted=row["counted"],
                counted_at=row["counted_at_us"],
                ended=bool(row["ended"]),
                quarantined=row["quarantined"],
                dropped=row["dropped"] or 0,
                observer=row["observer"],
                begun_at=row["begun_at_us"],
            )
            for row in ledger.collect()
        )
        return tuple(one for one in counts if one.sidecar_id in passed or one.lasted_during(run))

    def documents(self, versions: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Source and text of these meshes; the first that declared one is believed."""
        wanted = sorted(versions)
        rows = self._table("mesh_versions").where(F.col("mesh_version").isin(wanted))
        newest_first = rows.orderBy(F.desc("time")).collect()
        return {
            row["mesh_version"]: (row["source"] or "", row["document"] or "")
            for row in newest_first
        }

    def _clients(self, run: Run) -> set[str]:
        """The clients whose calls the run may own by their time."""
        if run.client:
            return {run.client}
        found: set[str] = set()
        for table in ("calls", "unfinished_calls", "tunnels"):
            rows = self._waiting(table).where(span_of(run).condition("start_time"))
            found |= {row["client"] for row in rows.select("client").distinct().collect()}
        return {client for client in found if client}

    def _owned(self, table: str, run: Run, owners: Owners) -> DataFrame:
        """The rows of a table of calls that the run owns."""
        clients = sorted({segment.client or "" for segment in owners.windows})
        processes = {s.process_id or "" for s in owners.jobs if s.run_id == run.run_id}
        near = (
            F.col("client").isin(clients)
            | F.col("process_id").isin(sorted({*processes, run.process_id or ""}))
            | (F.col("run_id") == F.lit(run.run_id))
        )
        rows = self._waiting(table).where(span_of(run).condition("start_time")).where(near)
        return own_calls(rows, owners).where(F.col("owner") == run.run_id)

    def _calls_of(self, rows: DataFrame) -> tuple[Call, ...]:
        calls = (Call(**values) for values in words_of(rows, FIELDS, "pattern"))
        return tuple(sorted(calls, key=call_order))

    def _waiting(self, table: str) -> DataFrame:
        """The caller's rows: only those are waits."""
        return self._table(table).where(F.col("observer").isin(*WAITING_OBSERVERS))

    def _table(self, name: str) -> DataFrame:
        return self.spark.table(self.names.table(name))


def span_of(run: Run) -> Span:
    """The time of a run, as its segments have it."""
    return Span(start=run.start_time, end=min(end_of(run), LAST_MOMENT))


def words_of(rows: DataFrame, fields: tuple[Field, ...], *more: str) -> list[dict[str, Any]]:
    """Rows as keyword arguments of their words, times as microseconds."""
    columns: list[Column] = [
        F.unix_micros(field.column).alias(field.column)
        if field.kind == "time"
        else F.col(field.column)
        for field in fields
        if field.column in rows.columns
    ]
    return [row.asDict() for row in rows.select(*columns, *more).collect()]
