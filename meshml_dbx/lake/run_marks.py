"""How far each tracking store was read: the table ``run_stores``, and what has to be read again.

Goes in: a store's name, or a mark. Comes out: the mark that was kept, and ids of runs.
"""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.tables import TableNames, any_of
from meshml_dbx.traffic.run_mark import RunMark

MOMENTS = ("read_at", "whole_at", "swept_to", "round_at")


def read_run_mark(spark: SparkSession, names: TableNames, store: str) -> RunMark | None:
    """How far a store was read into this lake; None when it never was."""
    rows = spark.table(names.table("run_stores")).where(F.col("store") == store)
    moments = (F.unix_micros(name).alias(name) for name in MOMENTS)
    found = rows.select("store", *moments).orderBy(F.desc("read_at")).first()
    return RunMark(**found.asDict()) if found else None


def keep_run_mark(spark: SparkSession, names: TableNames, mark: RunMark) -> None:
    """Remember it; only once the runs that were read are stored."""
    schema = ", ".join(("store STRING", *(f"{name} BIGINT" for name in MOMENTS)))
    values = (mark.store, *(getattr(mark, name) for name in MOMENTS))
    (
        local_rows(spark, [values], schema)
        .withColumns({name: F.timestamp_micros(name) for name in MOMENTS})
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", any_of("store", [mark.store]))
        .saveAsTable(names.table("run_stores"))
    )


def unsettled_runs(spark: SparkSession, names: TableNames) -> tuple[str, ...]:
    """The ids of runs that had no end, or were deleted, when they were read; the newest first."""
    runs = spark.table(names.table("runs")).where("end_time IS NULL OR coalesce(deleted, false)")
    newest = runs.orderBy(F.desc("start_time"), F.desc("run_id"))
    return tuple(row["run_id"] for row in newest.select("run_id").collect())
