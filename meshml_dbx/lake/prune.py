"""Old rows out of the lake: what would go, and what goes.

Goes in: a moment. Comes out: how many rows of each table are older. Rows that a run which still
lasts may own stay, and so do tables that have a reason to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.process_jobs import jobs_of_runs
from meshml_dbx.lake.read_runs import LASTING, stored_runs
from meshml_dbx.lake.tables import TableNames, any_of
from meshml_dbx.lake.texts import text_literal
from meshml_dbx.traffic.access_log import time_text
from meshml_dbx.traffic.ownership import ProcessJob, Run

KEPT: dict[str, str] = {
    "runs": "they are MLflow's: the next ingest would bring them back",
    "mesh_versions": "old runs are explained by them, and they are few",
    "log_files": "ingest's memory: what it forgets it would take in again",
    "formats": "what rows mean hangs on them, and they are few",
    "run_stores": "ingest's memory: it would read all runs again",
    "job_runs": "they are Databricks': the next refresh would bring them back",
    "metrics_written": "what it forgets would be written to MLflow again",
}
"""Tables of which nothing is removed, and why."""

_OF_CALLS = ("calls", "unfinished_calls", "tunnels", "attempts")
_OF_PROCESSES = ("run_stages", "samples", "programs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows of each table were, or would be, removed; and the runs that kept theirs.

    >>> Pruned(rows={"calls": 2, "edges": 0}).total
    2
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    lasting: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All rows together."""
        return sum(self.rows.values())


def prune(spark: SparkSession, names: TableNames, *, before: int, dry_run: bool) -> Pruned:
    """Remove what is older than ``before`` (UTC microseconds), or only count it."""
    lasting = stored_runs(spark, names, F.expr(f"status = 'RUNNING' AND {LASTING}"))
    older = [run for run in lasting if run.start_time < before]
    conditions = old_rows(before, older, jobs_of_runs(spark, names, older))
    remove = _count if dry_run else _delete
    rows = {table: remove(spark, names, table, text) for table, text in conditions.items()}
    return Pruned(rows=rows, lasting=tuple(run.run_id for run in lasting))


def old_rows(
    before: int, lasting: Iterable[Run], jobs: Iterable[ProcessJob] = ()
) -> dict[str, str]:
    """The SQL that holds for the rows of each table that may go.

    ``jobs`` are those of processes whose calls a lasting run may own by its job.
    """
    runs = tuple(lasting)
    mine = sorted({job.process_id for job in jobs})
    # Null where a row has no process: then no job owns it.
    by_job = f"coalesce({any_of('process_id', mine)}, false)" if mine else "false"
    moment = f"TIMESTAMP '{time_text(before)}'"
    day = f"to_date({moment})"
    ids = any_of("run_id", (run.run_id for run in runs)) if runs else "false"
    closed = "to_date(regexp_extract(`file`, '([0-9]{8})T[0-9.]+Z-[0-9]+', 1), 'yyyyMMdd')"
    named = "`file` RLIKE '[0-9]{8}T[0-9.]+Z-[0-9]+'"
    return {
        **{
            table: f"`start_time` < {moment} AND NOT ({_owned(runs)} OR {by_job})"
            for table in _OF_CALLS
        },
        "connections": f"`start_time` < {moment} AND NOT ({_met(runs)})",
        **{
            table: f"`time` < {moment} AND NOT ({_by_process(runs, 'time')} OR {by_job})"
            for table in _OF_PROCESSES
        },
        "calls_by_run": f"`start_time` < {moment} AND NOT ({ids})",
        "waits": f"`event_date` < {day} AND NOT ({ids})",
        "edges": f"`hour` < date_trunc('hour', {moment})",
        "edge_minutes": f"`minute` < date_trunc('hour', {moment})",
        "cost": f"`event_date` < {day}",
        "ledger": f"`ended` AND `counted_at` < {moment}"
        f" AND NOT ({_by_process(runs, 'counted_at')})",
        "quarantine": f"CASE WHEN {named} THEN {closed} < {day} ELSE false END",
    }


def _owned(runs: Iterable[Run]) -> str:
    """The rows of calls that one of these runs may own: by name, process, or client and time."""
    return _any(
        _since(run, "start_time", {"run_id": run.run_id, "process_id": run.process_id}, run.client)
        for run in runs
    )


def _met(runs: Iterable[Run]) -> str:
    """The connections that one of these runs may have made: they do not name a run."""
    return _any(
        _since(run, "start_time", {"process_id": run.process_id}, run.client) for run in runs
    )


def _by_process(runs: Iterable[Run], time: str) -> str:
    return _any(_since(run, time, {"process_id": run.process_id}, None) for run in runs)


def _since(run: Run, time: str, own: Mapping[str, str | None], client: str | None) -> str:
    ways = [f"`{column}` <=> {text_literal(value)}" for column, value in own.items() if value]
    if client:
        ways.append(f"`client` <=> {text_literal(client)}")
    elif not run.process_id:
        ways = ["true"]  # nothing tells its rows from others
    return f"`{time}` >= TIMESTAMP '{time_text(run.start_time)}' AND ({' OR '.join(ways)})"


def _any(conditions: Iterable[str]) -> str:
    return " OR ".join(f"({text})" for text in conditions) or "false"


def _count(spark: SparkSession, names: TableNames, table: str, condition: str) -> int:
    return int(spark.table(names.table(table)).where(condition).count())


def _delete(spark: SparkSession, names: TableNames, table: str, condition: str) -> int:
    (row,) = spark.sql(
        f"DELETE FROM {names.table(table)} WHERE {condition}"  # noqa: S608  # made here
    ).collect()
    return int(row["num_affected_rows"])
