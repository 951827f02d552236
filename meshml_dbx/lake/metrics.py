"""A run's waits, back where the run is looked at: metrics of MLflow.

Goes in: the lake, and a log of runs that was handed in. Comes out: which runs got their metrics,
and notices of those that did not: a tracking server that fails is no reason to fail an ingest.
The table ``metrics_written`` holds what each run has, so that nothing is logged twice; a write
that was cut off is made again with the same time and step, which MLflow keeps once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.errors import MeshMLError
from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.tables import TABLES, TableNames, any_of
from meshml_dbx.traffic.waits import Wait, run_metrics

FINISHED = ("FINISHED", "FAILED", "KILLED")
LONG_SHARE = 0.1
"""Who waited more than this share of the run gets the page, too."""

RUNS_AT_ONCE = 500
FAILURES_IN_A_ROW = 3
"""After so many the store is taken to be down."""


class RunLog(Protocol):
    """Where metrics of runs are written; ``connect.RunLog`` is MLflow's."""

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], *, time_ms: int, step: int
    ) -> None:
        """Log these metrics with a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The runs that got their metrics, those of them that waited long, and what went wrong.

    >>> Written().runs
    ()
    """

    runs: tuple[str, ...] = ()
    waited_long: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def write_metrics(spark: SparkSession, names: TableNames, log: RunLog) -> Written:
    """Log the metrics of every finished run whose waits changed since they were logged last."""
    due = _due(spark, names)
    written: list[Row] = []
    notices: list[str] = []
    failed = 0
    for begin in range(0, len(due), RUNS_AT_ONCE):
        chunk = due[begin : begin + RUNS_AT_ONCE]
        waits, done = _waits(spark, names, chunk), []
        for run in chunk:
            if failed == FAILURES_IN_A_ROW:
                break
            metrics = run_metrics(waits[run["run_id"]])
            try:
                log.log_metrics(
                    run["run_id"], metrics, time_ms=run["end_us"] // 1000, step=run["step"]
                )
            except MeshMLError as error:
                notices.append(f"no metrics for run {run['run_id']}: {error}")
                failed += 1
            else:
                done.append(run)
                failed = 0
        _mark(spark, names, done)
        written += done
    rest = len(due) - len(written) - len(notices)
    if rest:
        notices.append(f"{rest} more runs have no metrics: the next ingest with them goes on")
    return Written(
        runs=tuple(run["run_id"] for run in written),
        waited_long=tuple(run["run_id"] for run in written if run["share"] > LONG_SHARE),
        notices=tuple(notices),
    )


def _due(spark: SparkSession, names: TableNames) -> list[Row]:
    """The finished runs whose waits are not those that were logged; the longest wait first."""
    figures = [name for name, kind in TABLES["waits"] if not kind.startswith("MAP")]
    waits = (
        spark.table(names.table("waits"))
        .groupBy("run_id")
        .agg(
            F.bit_xor(F.xxhash64(*figures)).alias("digest"),
            F.sum("wait_us").alias("wait_us"),
        )
    )
    # MLflow takes nothing for a deleted run.
    kept = F.expr("end_time IS NOT NULL AND NOT coalesce(deleted, false)")
    ended = F.col("status").isin(*FINISHED) & kept
    runs = spark.table(names.table("runs")).where(ended)
    lasted = F.unix_micros("end_time") - F.unix_micros("start_time")
    known = spark.table(names.table("metrics_written")).toDF("run_id", "known", "last_step")
    found = waits.join(runs, "run_id").join(known, "run_id", "left")
    due = found.where(~F.col("digest").eqNullSafe(F.col("known"))).select(
        "run_id",
        "digest",
        F.coalesce(F.col("last_step") + 1, F.lit(0)).alias("step"),
        F.unix_micros("end_time").alias("end_us"),
        (F.col("wait_us") / F.greatest(lasted, F.lit(1))).alias("share"),
    )
    return list(due.orderBy(F.desc("share"), "run_id").collect())


def _waits(spark: SparkSession, names: TableNames, runs: Sequence[Row]) -> dict[str, list[Wait]]:
    rows = spark.table(names.table("waits")).where(any_of("run_id", (r["run_id"] for r in runs)))
    by_run: dict[str, list[Wait]] = {}
    for row in rows.collect():
        by_run.setdefault(row["run_id"], []).append(Wait(**row.asDict()))
    return by_run


def _mark(spark: SparkSession, names: TableNames, runs: Sequence[Row]) -> None:
    if not runs:
        return
    schema = ", ".join(f"{name} {kind}" for name, kind in TABLES["metrics_written"])
    rows = [(run["run_id"], run["digest"], run["step"]) for run in runs]
    (
        local_rows(spark, rows, schema)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", any_of("run_id", (run["run_id"] for run in runs)))
        .saveAsTable(names.table("metrics_written"))
    )
