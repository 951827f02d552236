"""Who called whom, hour by hour: ``edges``, made from the caller's rows of ``calls``.

Goes in: the hours that were touched. Comes out: their rows, worked out anew and exact.
"""

from collections.abc import Iterable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.spans import Span
from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.traffic.access_log import WAITING_OBSERVERS

FIRST_ERROR_CODE = 500
EDGE_KEY = ("client", "virtual_service", "route", "target")


def refresh_edges(spark: SparkSession, names: TableNames, spans: Iterable[Span]) -> None:
    """Work out the edges of these spans again; each must begin and end at a full hour."""
    for span in spans:
        calls = spark.table(names.table("calls")).where(span.condition("start_time"))
        (
            edges_of(calls)
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", span.condition("hour"))
            .saveAsTable(names.table("edges"))
        )


def edges_of(calls: DataFrame) -> DataFrame:
    """One row per hour, client, virtual service, route and target.

    An error is an answer of 500 or more, or none at all.
    """
    failed = F.coalesce(F.col("code"), F.lit(0))
    retries = F.greatest(F.coalesce(F.col("attempts"), F.lit(1)) - 1, F.lit(0))
    waited = calls.where(F.col("observer").isin(*WAITING_OBSERVERS))
    edges = waited.groupBy(F.date_trunc("hour", "start_time").alias("hour"), *EDGE_KEY).agg(
        F.count("*").alias("calls"),
        F.count_if((failed >= FIRST_ERROR_CODE) | (failed == 0)).alias("errors"),
        F.sum(retries).alias("retries"),
        F.sum("duration_us").alias("duration_us"),
        F.percentile("duration_us", [0.5, 0.95]).alias("percentiles"),
        F.coalesce(F.sum("bytes_in"), F.lit(0)).alias("bytes_in"),
        F.coalesce(F.sum("bytes_out"), F.lit(0)).alias("bytes_out"),
    )
    ranked = {
        name: F.col("percentiles")[index].cast("BIGINT")
        for index, name in enumerate(("p50_us", "p95_us"))
    }
    return edges.select(*(ranked.get(name, F.col(name)).alias(name) for name, _ in TABLES["edges"]))
