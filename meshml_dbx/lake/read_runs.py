"""The table ``runs`` and the word ``Run``, one made of the other.

Goes in: a condition, run ids, or runs. Comes out: runs, or rows.
"""

from collections.abc import Iterable
from typing import Any

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.traffic.ownership import Run

LASTING = "end_time IS NULL AND NOT coalesce(deleted, false)"
"""The SQL that holds for runs that may go on."""

TIMES = ("start_time", "end_time")


def stored_runs(spark: SparkSession, names: TableNames, condition: Column) -> tuple[Run, ...]:
    """The lake's runs for which this holds, in order of their start."""
    return _collect(spark.table(names.table("runs")).where(condition))


def runs_of_ids(spark: SparkSession, names: TableNames, given: Iterable[str]) -> tuple[Run, ...]:
    """The lake's runs of these ids."""
    ids = local_rows(spark, [(run_id,) for run_id in given], "run_id STRING")
    runs = spark.table(names.table("runs"))
    return _collect(runs.join(F.broadcast(ids), "run_id", "left_semi"))


def run_frame(spark: SparkSession, runs: Iterable[Run]) -> DataFrame:
    """Runs as rows of the table ``runs``."""
    columns = TABLES["runs"]
    raw = ", ".join(f"{name} {'BIGINT' if name in TIMES else kind}" for name, kind in columns)
    rows = [tuple(getattr(run, name) for name, _ in columns) for run in runs]
    times = {name: F.timestamp_micros(name) for name in TIMES}
    return local_rows(spark, rows, raw).withColumns(times)


def _collect(runs: DataFrame) -> tuple[Run, ...]:
    columns: list[Any] = [
        F.unix_micros(name).alias(name) if name in TIMES else name for name, _ in TABLES["runs"]
    ]
    found = map(_run, runs.select(*columns).collect())
    return tuple(sorted(found, key=lambda run: (run.start_time, run.run_id)))


def _run(row: Row) -> Run:
    values = row.asDict()
    return Run(**values | {"deleted": bool(values["deleted"])})  # null in rows of an older lake
