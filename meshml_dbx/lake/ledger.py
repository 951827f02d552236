"""Whether anything was lost between a proxy and its rows: one row of ``ledger`` per sidecar.

Goes in: the proxy's own counters, as its last sample has them, the lines that its files hold, and
the rows that came of them. Comes out: what the counters have and no row tells of, and why.
"""

from collections.abc import Iterable
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.traffic.access_log import END_TYPE

BEGUN = "begun"
WHOM = ("process_id", "client", "virtual_node")
SUMS = ("end_lines", "read_bytes", "rows", "tunnels", "unfinished", "quarantined")
COUNTERS = ("counted", "counted_at", "ended", "log_bytes", "write_failed")


def refresh_ledger(spark: SparkSession, names: TableNames, sidecars: Iterable[str]) -> None:
    """Draw up the ledger of these sidecars again."""
    wanted = sorted(set(sidecars))
    if not wanted:
        return
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in wanted)
    (
        ledger_of_sidecars(spark, names, wanted)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"`sidecar_id` IN ({quoted})")
        .saveAsTable(names.table("ledger"))
    )


def ledger_of_sidecars(spark: SparkSession, names: TableNames, sidecars: list[str]) -> DataFrame:
    """One row per sidecar: counted, logged, in rows, lost.

    Each table gives what it knows and null for the rest; one aggregation brings it together, which
    is a third of the work of joining them.
    """

    def rows(table: str) -> DataFrame:
        return spark.table(names.table(table)).where(F.col("sidecar_id").isin(sidecars))

    parts = (
        _files(rows("log_files")),
        rows("programs").select("sidecar_id", "process_id", "client", "virtual_node"),
        _counted(rows("samples")),
        _count(rows("calls"), "rows"),
        _count(rows("tunnels").where(F.col("type") == END_TYPE), "tunnels"),
        _count(rows("unfinished_calls"), "unfinished"),
        _count(rows("quarantine"), "quarantined"),
    )
    known = reduce(lambda one, two: one.unionByName(two, allowMissingColumns=True), parts)
    texts = [F.max(name).alias(name) for name in WHOM]
    sums = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in SUMS]
    last = [F.col(f"last.{name}").alias(name) for name in COUNTERS]
    ledger = (
        known.groupBy("sidecar_id")
        .agg(*texts, *sums, F.max_by("sample", "sample.counted_at").alias("last"))
        .select("sidecar_id", *WHOM, *SUMS, *last)
    )
    lost = F.greatest(F.col("counted") - F.col("rows") - F.col("tunnels"), F.lit(0))
    ledger = ledger.withColumn("lost", F.when(F.col("counted").isNotNull(), lost))
    explained = ledger.withColumn("explained", _explained())
    return explained.select(*(F.col(name).cast(kind) for name, kind in TABLES["ledger"]))


def _files(book: DataFrame) -> DataFrame:
    """What the files hold, as counted before any line was parsed."""
    begun = book.where(F.col("state") == BEGUN)
    return begun.select(
        "sidecar_id", F.col("ended").alias("end_lines"), F.col("bytes").alias("read_bytes")
    )


def _counted(samples: DataFrame) -> DataFrame:
    """The proxy's counters, a sample each."""
    finished = F.col("requests_total") - F.coalesce(F.col("requests_active"), F.lit(0))
    sample = F.struct(
        finished.alias("counted"),
        F.col("time").alias("counted_at"),
        (F.col("type") == "last").alias("ended"),
        F.col("log_bytes"),
        F.col("write_failed"),
    )
    return samples.where("requests_total IS NOT NULL").select("sidecar_id", sample.alias("sample"))


def _count(rows: DataFrame, name: str) -> DataFrame:
    return rows.select("sidecar_id", F.lit(1).alias(name))


def _explained() -> Column:
    """What is known of the difference between the counters and the rows, null when there is none.

    A line in quarantine may be any call's; a call without an end is one whose end was not written.
    """
    lost, ended = F.col("lost") > 0, F.coalesce(F.col("ended"), F.expr("false"))

    def said(number: str, text: str) -> Column:
        return F.when(lost & (F.col(number) > 0), F.concat(F.col(number), F.lit(text)))

    killed = F.lit("killed or still running: its last log lines were in memory, not in a file")
    parts = (
        F.when(F.col("counted").isNull(), F.lit("no sample of the proxy's counters")),
        said("quarantined", " lines of its log are in quarantine"),
        said("unfinished", " calls have a start and no end"),
        said("write_failed", " writes of the proxy's log failed"),
        F.when(lost & ~ended, killed),
    )
    return F.nullif(F.concat_ws("; ", *parts), F.lit(""))
