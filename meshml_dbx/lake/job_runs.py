"""Databricks' job runs and task runs as intervals: the table ``job_runs``.

Goes in: the system tables ``lakeflow.job_run_timeline`` and ``job_task_run_timeline``, by the names
that they are given. Comes out: one row for each run, and for each task run of it. A run that lasts
for over an hour is several rows there, of which only the last says how it ended; and rows come
hours late, so that a run without an end may be over.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.system_tables import find_system_table
from meshml_dbx.lake.tables import TABLES, TableNames

BEGINNING = date(1970, 1, 1)
RUN = ("workspace_id", "job_id", "job_run_id", "task_run_id", "task_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRunsReport:
    """Whether job runs were read, and if not all, what is missing: a workspace may have no tables.

    >>> JobRunsReport(notice="there is no timeline").refreshed
    False
    """

    refreshed: bool = False
    notice: str = ""


def refresh_job_runs(
    spark: SparkSession, names: TableNames, *, system: str = "system", since: date = BEGINNING
) -> JobRunsReport:
    """Bring in the job runs and task runs of which something was told since a day.

    ``system`` is the catalog of ``lakeflow.job_run_timeline``; for a stand-in, a schema with tables
    ``lakeflow_job_run_timeline`` and so on. Safe to run again, with any day: a run that is known
    keeps its begin.
    """
    jobs, tasks = (
        find_system_table(spark, system, "lakeflow", table)
        for table in ("job_run_timeline", "job_task_run_timeline")
    )
    if not jobs:
        notice = f"no job runs: there is no {system}.lakeflow.job_run_timeline that can be read"
        return JobRunsReport(notice=notice)
    told = job_runs_of(spark.table(jobs), spark.table(tasks) if tasks else None, since)
    same = " AND ".join(f"old.{name} <=> fresh.{name}" for name in RUN)
    later = "fresh.end_time >= old.end_time"
    kept = {
        "start_time": "least(old.start_time, fresh.start_time)",
        "end_time": "greatest(old.end_time, fresh.end_time)",
        "result_state": f"if({later}, coalesce(fresh.result_state, old.result_state),"
        " old.result_state)",
        "name": "coalesce(fresh.name, old.name)",
        "compute_ids": "array_sort(array_union(old.compute_ids, fresh.compute_ids))",
    }
    update = ", ".join(f"{name} = {value}" for name, value in kept.items())
    spark.sql(
        f"MERGE INTO {names.table('job_runs')} AS old USING {{fresh}} AS fresh ON {same} "
        f"WHEN MATCHED THEN UPDATE SET {update} WHEN NOT MATCHED THEN INSERT *",
        fresh=told,
    )
    notice = "" if tasks else f"no task runs: there is no {system}.lakeflow.job_task_run_timeline"
    return JobRunsReport(refreshed=True, notice=notice)


def job_runs_of(jobs: DataFrame, tasks: DataFrame | None, since: date) -> DataFrame:
    """The rows of ``job_runs`` that the slices of job runs, and of task runs, make together."""
    whole = _slices(jobs, since, job_run_id="run_id", task_run_id=None, name="run_name")
    parts = whole
    if tasks is not None:
        parts = whole.unionByName(
            _slices(tasks, since, job_run_id="job_run_id", task_run_id="run_id", name="task_key")
        )
    # Slices touch: of two that end together the one that tells how is the last.
    last = F.struct("period_end_time", F.col("result_state").isNotNull())
    runs = parts.groupBy(*RUN).agg(
        F.max("name").alias("name"),
        F.min("period_start_time").alias("start_time"),
        F.max("period_end_time").alias("end_time"),
        F.max_by("result_state", last).alias("result_state"),
        F.array_sort(F.array_distinct(F.flatten(F.collect_list("compute_ids")))).alias(
            "compute_ids"
        ),
    )
    return runs.select(*(F.col(name).cast(kind).alias(name) for name, kind in TABLES["job_runs"]))


def _slices(
    timeline: DataFrame, since: date, *, job_run_id: str, task_run_id: str | None, name: str
) -> DataFrame:
    """The slices of a timeline under our names; what it has no column for is null."""

    def of(column: str | None, kind: str = "STRING") -> Column:
        if column is None or column not in timeline.columns:
            return F.lit(None).cast(kind)
        return F.col(column).cast(kind)

    columns = {
        "workspace_id": of("workspace_id"),
        "job_id": of("job_id"),
        "job_run_id": of(job_run_id),
        "task_run_id": of(task_run_id),
        "task_key": of("task_key"),
        "name": of(name),
        "result_state": of("result_state"),
        "compute_ids": F.coalesce(of("compute_ids", "ARRAY<STRING>"), F.array()),
    }
    lately = timeline.where(F.to_date("period_end_time") >= F.lit(since))
    return lately.select(
        *(column.alias(name) for name, column in columns.items()),
        "period_start_time",
        "period_end_time",
    ).where("job_run_id IS NOT NULL")
