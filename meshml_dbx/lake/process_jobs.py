"""In which Databricks job and task each process ran, as its program's lines say.

Goes in: runs. Comes out: ``ProcessJob`` words of the processes whose job or task one of them names.
"""

from collections.abc import Iterable

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.traffic.ownership import ProcessJob, Run

IDS = ("job_run_id", "task_run_id", "workspace_id")


def jobs_of_runs(
    spark: SparkSession, names: TableNames, runs: Iterable[Run]
) -> tuple[ProcessJob, ...]:
    """The processes of the jobs and tasks of these runs; runs without one cost no look."""
    ids = {name for run in runs for name in (run.job_run_id, run.task_run_id) if name}
    if not ids:
        return ()
    wanted = F.broadcast(local_rows(spark, [(one,) for one in sorted(ids)], "wanted STRING"))
    lines = spark.table(names.table("programs")).where("process_id IS NOT NULL")
    either = lines.select("*", F.explode(F.array("job_run_id", "task_run_id")).alias("wanted"))
    processes = either.join(wanted, "wanted").groupBy("process_id")
    newest = processes.agg(*(F.max_by(name, "time").alias(name) for name in IDS))
    return tuple(ProcessJob(**row.asDict()) for row in newest.collect())
