"""Rows that a table does not have yet: a call that comes by two roads is one row.

Goes in: rows made of foreign lines, each with its start and a hash of its line. Comes out: those
that are new. Lines that are alike to the letter may be two calls (two refusals within one
millisecond are), so they are counted: the second of a source's is new where the table has one.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.batch import Batch

KEY = ["start_time", "line_key"]
NTH = "nth"


def unseen(batch: Batch, rows: DataFrame, table: str) -> tuple[DataFrame, int]:
    """The rows that are not in the table, and how many are.

    Rows and table are compared by the dates that the rows have. Only rows whose key comes twice,
    here or there, are looked at one by one; mostly there are none, and nothing is moved.
    """
    keys = rows.groupBy("event_date", *KEY).count()
    stored = batch.table(table).where(F.col("line_key").isNotNull())
    near = stored.join(F.broadcast(_dates(rows)), "event_date", "left_semi").select(*KEY)
    known = near.distinct().withColumn("is_known", F.lit(1))
    twice = (F.col("count") > 1) | F.col("is_known").isNotNull()
    suspects = keys.join(known, KEY, "left").where(twice).select(*KEY)
    if suspects.isEmpty():
        return rows, 0
    plain = rows.join(suspects, KEY, "left_anti")
    close = rows.join(suspects, KEY, "left_semi")
    each = Window.partitionBy(*KEY, "sidecar_id").orderBy("log_file")
    counted = close.withColumn(NTH, F.row_number().over(each)).dropDuplicates([*KEY, NTH])
    had = near.join(suspects, KEY, "left_semi").groupBy(*KEY).agg(F.count("*").alias("had"))
    fresh = counted.join(had, KEY, "left").where(F.col(NTH) > F.coalesce("had", F.lit(0)))
    kept = fresh.select(*rows.columns)
    return plain.unionByName(kept), int(close.count() - kept.count())


def _dates(rows: DataFrame) -> DataFrame:
    return rows.select("event_date").distinct()
