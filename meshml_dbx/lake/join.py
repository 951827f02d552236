"""Whose call it is, and in which stage: calls joined with segments of time.

Goes in: calls, and segments that ``traffic.ownership`` and ``traffic.program_log`` cut. Comes out:
the same calls with their run and stage. Segments of one key never overlap, and are cut at the
borders of equal bins, so that the join is by key and bin and grows with its input, no faster.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa  # type: ignore[import-untyped]  # ships without types
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.read_runs import stored_runs
from meshml_dbx.lake.spans import HOUR_US, LAST_MOMENT, Span
from meshml_dbx.lake.stages import read_stages
from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.traffic.ownership import (
    OPEN_END,
    Run,
    Segment,
    end_of,
    header_segments,
    process_segments,
    window_segments,
)
from meshml_dbx.traffic.program_log import stage_spans

Piece = tuple[str, int, int, int, str, bool]
"""Key, bin, start, end, value, ambiguous."""

ARROW_TYPES = {"STRING": pa.string(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
PIECE_SCHEMA = "key STRING, bin BIGINT, start BIGINT, end BIGINT, value STRING, ambiguous BOOLEAN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who owns the calls of a span of time: by header, by process, by client.

    >>> Owners(span=Span(start=0, end=1)).processes
    ()
    """

    span: Span
    headers: tuple[Segment, ...] = ()
    processes: tuple[Segment, ...] = ()
    windows: tuple[Segment, ...] = ()


def owners_during(span: Span, runs: Iterable[Run], clients: Iterable[str]) -> Owners:
    """The owners of a span, as ``traffic.ownership`` has them; runs of other times have no say."""
    alive = [run for run in runs if run.start_time < span.end and end_of(run) > span.start]
    return Owners(
        span=span,
        headers=header_segments(alive),
        processes=process_segments(alive),
        windows=window_segments(alive, clients),
    )


def own_calls(calls: DataFrame, owners: Owners) -> DataFrame:
    """The calls that a run owns, with ``owner``, ``join_method`` and ``ambiguous``.

    The header comes first, then the process; what no process owns falls to the client's window.
    """
    spark = calls.sparkSession
    by_header = [(s.run_id, s) for s in owners.headers]
    by_process = [(s.process_id or "", s) for s in owners.processes]
    by_window = [(s.client or "", s) for s in owners.windows]
    joined = _join(spark, calls, "run_id", _pieces(by_header, owners.span), "h")
    joined = _join(spark, joined, "process_id", _pieces(by_process, owners.span), "p")
    joined = _join(spark, joined, "client", _pieces(by_window, owners.span), "w")
    named = F.col("h_value").isNotNull() & F.col("client").isNotNull()
    mine, near = F.col("p_value").isNotNull(), F.col("w_value").isNotNull()

    def first(column: str) -> Column:
        return (
            F.when(named, F.col(f"h_{column}"))
            .when(mine, F.col(f"p_{column}"))
            .when(near, F.col(f"w_{column}"))
        )

    method = F.when(named, F.lit("header")).when(mine, F.lit("process")).otherwise(F.lit("window"))
    return joined.where(named | mine | near).select(
        *calls.columns,
        first("value").alias("owner"),
        method.alias("join_method"),
        first("ambiguous").alias("ambiguous"),
    )


def _pieces(segments: Sequence[tuple[str, Segment]], span: Span) -> "Pieces":
    spans = [(key, s.start_time, s.end_time, s.run_id, s.ambiguous) for key, s in segments]
    return cut_pieces(spans, span)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Spans of keys, each once for every bin that it touches; later moments are in the last bin.

    >>> Pieces(width=60).last_bin
    0
    """

    width: int
    last_bin: int = 0
    rows: tuple[Piece, ...] = ()


def cut_pieces(spans: Sequence[tuple[str, int, int, str, bool]], span: Span) -> Pieces:
    """These spans (key, start, end, value, ambiguous) in bins so wide that each holds about one.

    >>> [row[1] for row in cut_pieces([("p", 0, 8, "a", False), ("p", 8, 16, "b", False)],
    ...                               Span(start=0, end=16)).rows]
    [0, 0, 1]
    """
    inside = [
        (key, max(start, span.start), min(end, span.end), value, ambiguous)
        for key, start, end, value, ambiguous in spans
        if start < span.end and end > span.start
    ]
    if not inside:
        return Pieces(width=1)
    first = min(start for _, start, *_ in inside)
    # Where a span stays open, bins go no further than the last border that is known.
    last = max(edge for _, start, end, *_ in inside for edge in (start, end) if edge < LAST_MOMENT)
    keys = len({key for key, *_ in inside})
    width = (last - first) * keys // len(inside) + 1
    rows = tuple(
        (key, bin_, start, end, value, ambiguous)
        for key, start, end, value, ambiguous in inside
        for bin_ in range(start // width, min(end - 1, last) // width + 1)
    )
    return Pieces(width=width, last_bin=last // width, rows=rows)


def _join(spark: SparkSession, calls: DataFrame, key: str, pieces: Pieces, mark: str) -> DataFrame:
    """The calls with the one piece that holds their start; null where none does."""
    names = [name.split()[0] for name in PIECE_SCHEMA.split(", ")]
    if not pieces.rows:
        nothing = {f"{mark}_value": "STRING", f"{mark}_ambiguous": "BOOLEAN"}
        return calls.withColumns({n: F.lit(None).cast(kind) for n, kind in nothing.items()})
    right = local_rows(spark, pieces.rows, PIECE_SCHEMA)
    moment = F.unix_micros("start_time")
    bin_ = F.least(F.expr(f"unix_micros(start_time) div {pieces.width}"), F.lit(pieces.last_bin))
    fits = (
        (F.col(key) == F.col(f"{mark}_key"))
        & (bin_ == F.col(f"{mark}_bin"))
        & (moment >= F.col(f"{mark}_start"))
        & (moment < F.col(f"{mark}_end"))
    )
    return calls.join(F.broadcast(right.toDF(*(f"{mark}_{n}" for n in names))), fits, "left")


def local_rows(spark: SparkSession, rows: Sequence[tuple[object, ...]], schema: str) -> DataFrame:
    """A few rows that the plan itself carries: handing them over takes no job of its own."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema.split(", "))
    named = (part.split() for part in schema.split(", "))
    arrays = {
        name: pa.array(values, ARROW_TYPES[kind])
        for (name, kind), values in zip(named, columns, strict=True)
    }
    return spark.createDataFrame(pa.table(arrays))


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
    owners = owners_during(span, runs.values(), clients_of(calls, runs.values()))
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
