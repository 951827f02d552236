"""Whose call it is, and in which stage: calls joined with segments of time.

Goes in: calls, and segments that ``traffic.ownership`` and ``traffic.program_log`` cut. Comes out:
the same calls with their run and stage. Segments of one key never overlap, and are cut at the
borders of bins, so that the join is by key and bin and grows with its input, no faster.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.bins import Pieces, cut_pieces
from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.process_jobs import jobs_of_runs
from meshml_dbx.lake.read_runs import stored_runs
from meshml_dbx.lake.spans import HOUR_US, Span
from meshml_dbx.lake.stages import read_stages
from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.traffic.ownership import (
    OPEN_END,
    ProcessJob,
    Run,
    Segment,
    end_of,
    header_segments,
    job_segments,
    process_segments,
    window_segments,
)
from meshml_dbx.traffic.program_log import stage_spans

PIECE_SCHEMA = "key STRING, bin BIGINT, start BIGINT, end BIGINT, value STRING, ambiguous BOOLEAN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who owns the calls of a span of time: by header, by process, by job, by client.

    >>> Owners(span=Span(start=0, end=1)).processes
    ()
    """

    span: Span
    headers: tuple[Segment, ...] = ()
    processes: tuple[Segment, ...] = ()
    jobs: tuple[Segment, ...] = ()
    windows: tuple[Segment, ...] = ()


def owners_during(
    span: Span, runs: Iterable[Run], clients: Iterable[str], jobs: Iterable[ProcessJob] = ()
) -> Owners:
    """The owners of a span, as ``traffic.ownership`` has them; runs of other times have no say."""
    alive = [run for run in runs if run.start_time < span.end and end_of(run) > span.start]
    return Owners(
        span=span,
        headers=header_segments(alive),
        processes=process_segments(alive),
        jobs=job_segments(alive, jobs),
        windows=window_segments(alive, clients),
    )


def own_calls(calls: DataFrame, owners: Owners) -> DataFrame:
    """The calls that a run owns, with ``owner``, ``join_method`` and ``ambiguous``.

    The header comes first, then the process, then its job; the rest falls to the client's window.
    """
    spark = calls.sparkSession
    ways = (
        Way(method="header", mark="h", key="run_id", segments=owners.headers, of="run_id"),
        Way(method="process", mark="p", key="process_id", segments=owners.processes),
        Way(method="job", mark="j", key="process_id", segments=owners.jobs),
        Way(method="window", mark="w", key="client", segments=owners.windows, of="client"),
    )
    known = [way for way in ways if way.segments]
    joined = calls
    for way in known:
        spans = [
            (getattr(s, way.of) or "", s.start_time, s.end_time, s.run_id, s.ambiguous)
            for s in way.segments
        ]
        joined = _join(spark, joined, way.key, cut_pieces(spans, owners.span), way.mark)
    return joined.select(
        *calls.columns,
        _first(known, lambda way: F.col(f"{way.mark}_value")).alias("owner"),
        _first(known, lambda way: F.lit(way.method)).alias("join_method"),
        _first(known, lambda way: F.col(f"{way.mark}_ambiguous"), "BOOLEAN").alias("ambiguous"),
    ).where("owner IS NOT NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way in which calls find their run: the column and the segments' field that are alike.

    >>> Way(method="process", mark="p", key="process_id", segments=()).of
    'process_id'
    """

    method: str
    mark: str
    key: str
    segments: tuple[Segment, ...]
    of: str = "process_id"

    @property
    def holds(self) -> Column:
        """Whether a call found its run in this way; a header counts where a client sent it."""
        found = F.col(f"{self.mark}_value").isNotNull()
        return found & F.col("client").isNotNull() if self.method == "header" else found


def _first(ways: Sequence[Way], value: Callable[[Way], Column], kind: str = "STRING") -> Column:
    """What the first of the ways that holds has to say; null where none does."""
    chosen = F.when(F.lit(False), F.lit(None).cast(kind))  # noqa: FBT003  # a literal of SQL
    for way in ways:
        chosen = chosen.when(way.holds, value(way))
    return chosen


def _join(
    spark: SparkSession, calls: DataFrame, key: str, levels: Sequence[Pieces], mark: str
) -> DataFrame:
    """The calls with the one span that holds their start; null where none does."""
    found = calls
    for number, level in enumerate(levels):
        found = _probe(spark, found, key, level, f"{mark}{number}")
    marks = [f"{mark}{number}" for number in range(len(levels))]
    kinds = {"value": "STRING", "ambiguous": "BOOLEAN"}
    return found.select(
        *calls.columns,
        *(
            F.coalesce(*(f"{one}_{name}" for one in marks), F.lit(None).cast(kind)).alias(
                f"{mark}_{name}"
            )
            for name, kind in kinds.items()
        ),
    )


def _probe(spark: SparkSession, calls: DataFrame, key: str, pieces: Pieces, mark: str) -> DataFrame:
    """The calls with what a level has for them."""
    names = [f"{mark}_{name.split()[0]}" for name in PIECE_SCHEMA.split(", ")]
    right = local_rows(spark, pieces.rows, PIECE_SCHEMA).toDF(*names)
    moment = F.unix_micros("start_time")
    bin_ = F.least(F.expr(f"unix_micros(start_time) div {pieces.width}"), F.lit(pieces.last_bin))
    fits = (
        (F.col(key) == F.col(f"{mark}_key"))
        & (bin_ == F.col(f"{mark}_bin"))
        & (moment >= F.col(f"{mark}_start"))
        & (moment < F.col(f"{mark}_end"))
    )
    return calls.join(F.broadcast(right), fits, "left")


# --- the table calls_by_run -----------------------------------------------------------------------


def refresh_calls_by_run(
    spark: SparkSession,
    names: TableNames,
    spans: Iterable[Span],
    *,
    changed: Iterable[Run] = (),
) -> tuple[Run, ...]:
    """Join the calls of these spans again, with the stored runs, ``changed`` ones as given.

    The runs that have calls in these spans come back.
    """
    fresher = {run.run_id: run for run in changed}
    touched = [run for span in spans for run in _refresh(spark, names, span, fresher)]
    return tuple({run.run_id: run for run in touched}.values())


def spans_with_calls(
    spark: SparkSession, names: TableNames, spans: Iterable[Span]
) -> tuple[Span, ...]:
    """Those of the spans, in order, that touch an hour in which any call began.

    One look at the hours serves all spans: a store that is new to the lake may have thousands.
    """
    wanted = tuple(spans)
    if not wanted:
        return ()
    around = Span(start=wanted[0].start, end=wanted[-1].end)
    calls = spark.table(names.table("calls")).where(around.condition("start_time"))
    hour = F.expr(f"unix_micros(start_time) div {HOUR_US}").alias("hour")
    hours = sorted(row["hour"] for row in calls.select(hour).distinct().collect())
    return tuple(span for span in wanted if _touches(span, hours))


def _touches(span: Span, hours: Sequence[int]) -> bool:
    """Whether one of these hours, in order, has a moment of the span."""
    first = bisect_left(hours, span.start // HOUR_US)
    return first < len(hours) and hours[first] * HOUR_US < span.end


def _refresh(
    spark: SparkSession, names: TableNames, span: Span, fresher: dict[str, Run]
) -> list[Run]:
    calls = spark.table(names.table("calls")).where(span.condition("start_time"))
    runs = {run.run_id: run for run in runs_during(spark, names, span)} | fresher
    jobs = jobs_of_runs(spark, names, runs.values())
    owners = owners_during(span, runs.values(), clients_of(calls, runs.values()), jobs)
    staged = with_stage(spark, names, own_calls(calls, owners), span)
    rows = staged.select(
        F.col("owner").alias("run_id"),
        *(name for name, _ in TABLES["calls_by_run"] if name not in ("run_id", "stage")),
        F.coalesce("stage", "s_value").alias("stage"),
    )
    (
        rows.write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", span.condition("start_time"))
        .saveAsTable(names.table("calls_by_run"))
    )
    return [runs[run_id] for run_id in owners_in(spark, names, [span])]


def owners_in(spark: SparkSession, names: TableNames, spans: Iterable[Span]) -> list[str]:
    """The ids of the runs to which calls of these spans are joined."""
    condition = " OR ".join(f"({span.condition('start_time')})" for span in spans)
    if not condition:
        return []
    rows = spark.table(names.table("calls_by_run")).where(condition)
    return [row["run_id"] for row in rows.select("run_id").distinct().collect()]


def clients_of(calls: DataFrame, runs: Iterable[Run]) -> set[str]:
    """The clients whose calls a run may own by its time: any, when a run does not say its own."""
    named = {run.client for run in runs}
    if None in named:
        named |= {row["client"] for row in calls.select("client").distinct().collect()}
    return {client for client in named if client}


def runs_during(spark: SparkSession, names: TableNames, span: Span) -> tuple[Run, ...]:
    """The stored runs that lasted at some moment of a span."""
    end = F.unix_micros("end_time")
    return stored_runs(
        spark,
        names,
        (F.unix_micros("start_time") < span.end) & (end.isNull() | (end >= span.start)),
    )


def with_stage(spark: SparkSession, names: TableNames, calls: DataFrame, span: Span) -> DataFrame:
    """The calls with the stage of their process in which they began, as ``s_value``."""
    spans = [
        (stage.process_id, stage.start_time, stage.end_time or OPEN_END, stage.stage, False)
        for stage in stage_spans(read_stages(spark, names, during=span))
    ]
    return _join(spark, calls, "process_id", cut_pieces(spans, span), "s")
