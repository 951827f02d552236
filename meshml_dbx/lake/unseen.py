"""Rows that a table does not have yet: a call that comes by two roads is one row.

Goes in: rows made of foreign lines, each with its start and a hash of its line. Comes out: those
that are new. Lines that are alike to the letter may be two calls (two refusals within one
millisecond are), so they are counted, file by file: the second of a file's is new where the table
has one. Files are not added up, since one call may be in several, delivered twice or by two roads.
"""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.batch import Batch
from meshml_dbx.lake.foreign_values import LINE
from meshml_dbx.lake.local_rows import local_rows

KEY = ["start_time", "line_key"]
NTH = "nth"
FEW = 10_000
"""Up to so many keys are handed to every task, and only their rows are looked at one by one."""

Dates = tuple[date, date]
"""The first and the last date of some rows."""


def dates_of(rows: DataFrame) -> Dates | None:
    """Between which dates these rows are, None for none; nothing but the start is read for it."""
    row = rows.agg(F.min("event_date").alias("first"), F.max("event_date").alias("last")).first()
    return None if row is None or row["first"] is None else (row["first"], row["last"])


def line_key() -> Column:
    """The hash of a line, by which it is known again on another road."""
    return F.xxhash64(LINE)


def unseen(
    batch: Batch, rows: DataFrame, lines: DataFrame, table: str, dates: Dates
) -> DataFrame | None:
    """The rows that are not in the table, None when that is all of them, as is usual.

    ``lines`` are those that the rows are made of, or more: they are hashed without being read for
    what they say, and compared with the table's rows of these dates.
    """
    during = F.col("event_date").between(*dates)
    stored = batch.table(table).where(during & F.col("line_key").isNotNull()).select(*KEY)
    keys = lines.groupBy(line_key().alias("line_key")).count()
    known = stored.select("line_key").distinct().withColumn("is_known", F.lit(1))
    twice = (F.col("count") > 1) | F.col("is_known").isNotNull()
    suspect = keys.join(known, "line_key", "left").where(twice).select("line_key")
    found = [row["line_key"] for row in suspect.limit(FEW + 1).collect()]
    if not found:
        return None
    if len(found) > FEW:
        return _new_of(rows, stored)
    few = F.broadcast(local_rows(batch.spark, [(one,) for one in found], "line_key BIGINT"))
    fresh = _new_of(rows.join(few, "line_key", "left_semi"), stored.join(few, "line_key"))
    return rows.join(few, "line_key", "left_anti").unionByName(fresh)


def _new_of(rows: DataFrame, stored: DataFrame) -> DataFrame:
    """Those of the rows that are not stored as often as one file has them."""
    each = Window.partitionBy(*KEY, "log_file").orderBy("log_file")
    counted = rows.withColumn(NTH, F.row_number().over(each)).dropDuplicates([*KEY, NTH])
    had = stored.groupBy(*KEY).agg(F.count("*").alias("had"))
    fresh = counted.join(had, KEY, "left").where(F.col(NTH) > F.coalesce("had", F.lit(0)))
    return fresh.select(*rows.columns)
