"""Who called whom: ``edges`` by the hour, ``edge_minutes`` by the minute, made from ``calls``.

Goes in: the hours that were touched. Comes out: their rows, worked out anew. ``edges`` has exact
percentiles, which is promised, and which cannot be added up; so minutes are a table of their own,
whose ``buckets`` can, for any window, right to 1 %. Exact ones cannot be made of minutes, so each
table reads the hours' calls once, at the same time, from few columns.
"""

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.spans import Span
from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.traffic.access_log import WAITING_OBSERVERS
from meshml_dbx.traffic.sketch import BUCKET_SQL

FIRST_ERROR_CODE = 500
EDGE_KEY = ("client", "virtual_service", "route", "target")
SUMMED = ("calls", "errors", "retries", "duration_us", "bytes_in", "bytes_out")


def refresh_edges(spark: SparkSession, names: TableNames, spans: Iterable[Span]) -> None:
    """Work out the edges of these spans again; each must begin and end at a full hour."""
    for span in spans:
        _replace(edges_of(_calls(spark, names, span)), names, "edges", span.condition("hour"))


def refresh_edge_minutes(spark: SparkSession, names: TableNames, spans: Iterable[Span]) -> None:
    """Work out the minutes of these spans again; each must begin and end at a full hour."""
    for span in spans:
        minutes = edge_minutes_of(_calls(spark, names, span))
        _replace(minutes, names, "edge_minutes", span.condition("minute"))


def _calls(spark: SparkSession, names: TableNames, span: Span) -> DataFrame:
    calls = spark.table(names.table("calls")).where(span.condition("start_time"))
    return calls.where(F.col("observer").isin(*WAITING_OBSERVERS))


def _replace(rows: DataFrame, names: TableNames, table: str, condition: str) -> None:
    writer = rows.write.format("delta").mode("overwrite").option("replaceWhere", condition)
    writer.saveAsTable(names.table(table))


def edges_of(calls: DataFrame) -> DataFrame:
    """One row per hour, client, virtual service, route and target.

    An error is an answer of 500 or more, or none at all.
    """
    edges = calls.groupBy(F.date_trunc("hour", "start_time").alias("hour"), *EDGE_KEY).agg(
        *_sums(), F.percentile("duration_us", [0.5, 0.95]).alias("percentiles")
    )
    ranked = {
        name: F.col("percentiles")[index].cast("BIGINT")
        for index, name in enumerate(("p50_us", "p95_us"))
    }
    return edges.select(*(ranked.get(name, F.col(name)).alias(name) for name, _ in TABLES["edges"]))


def edge_minutes_of(calls: DataFrame) -> DataFrame:
    """One row per minute, client, virtual service, route and target."""
    minute = F.date_trunc("minute", "start_time").alias("minute")
    bucket = F.expr(BUCKET_SQL.format("duration_us")).alias("bucket")
    by_bucket = calls.groupBy(minute, *EDGE_KEY, bucket).agg(*_sums())
    summed = [F.sum(name).alias(name) for name, _ in TABLES["edge_minutes"] if name in SUMMED]
    entries = F.collect_list(F.struct("bucket", "calls"))
    minutes = by_bucket.groupBy("minute", *EDGE_KEY).agg(
        *summed, F.map_from_entries(entries).alias("buckets")
    )
    return minutes.select(*(name for name, _ in TABLES["edge_minutes"]))


def _sums() -> list[Column]:
    failed = F.coalesce(F.col("code"), F.lit(0))
    retries = F.greatest(F.coalesce(F.col("attempts"), F.lit(1)) - 1, F.lit(0))
    return [
        F.count("*").alias("calls"),
        F.count_if((failed >= FIRST_ERROR_CODE) | (failed == 0)).alias("errors"),
        F.sum(retries).alias("retries"),
        F.sum("duration_us").alias("duration_us"),
        F.coalesce(F.sum("bytes_in"), F.lit(0)).alias("bytes_in"),
        F.coalesce(F.sum("bytes_out"), F.lit(0)).alias("bytes_out"),
    ]
