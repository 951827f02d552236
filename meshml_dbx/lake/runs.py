"""MLflow's runs in Delta, and calls joined anew where a run came, ended or changed.

Goes in: runs as words. Comes out: rows of ``runs``, one per run id, the last that was known.
"""

from collections.abc import Iterable

from pyspark.sql import SparkSession

from meshml_dbx.lake.join import owners_in, refresh_calls_by_run, spans_with_calls
from meshml_dbx.lake.read_runs import run_frame, runs_of_ids
from meshml_dbx.lake.spans import LAST_MOMENT, Span, merge_spans
from meshml_dbx.lake.tables import TableNames, any_of
from meshml_dbx.lake.waits import refresh_waits
from meshml_dbx.traffic.ownership import Run, end_of


def store_runs(spark: SparkSession, names: TableNames, runs: Iterable[Run]) -> int:
    """How many of the runs were new or had changed, and are stored now; the rest costs a look.

    Calls of their time are joined before the runs are stored: if this is cut off in between, the
    runs still count as changed the next time.
    """
    given = {run.run_id: run for run in runs}
    if not given:
        return 0
    known = {run.run_id: run for run in runs_of_ids(spark, names, given)}
    changed = [run for run_id, run in given.items() if known.get(run_id) != run]
    if not changed:
        return 0
    before = [known[run.run_id] for run in changed if run.run_id in known]
    touched = merge_spans(map(_span, (*changed, *before)))
    spans = spans_with_calls(spark, names, touched)
    losing = runs_of_ids(spark, names, owners_in(spark, names, spans)) if spans else ()
    joined = refresh_calls_by_run(spark, names, spans, changed=changed)
    fresher = {run.run_id: run for run in (*losing, *joined, *changed)}
    refresh_waits(spark, names, [fresher[run.run_id] for run in (*losing, *joined)])
    _upsert(spark, names, changed)
    return len(changed)


def _span(run: Run) -> Span:
    return Span(start=run.start_time, end=min(end_of(run), LAST_MOMENT))


def _upsert(spark: SparkSession, names: TableNames, runs: Iterable[Run]) -> None:
    """Put these runs in the place of what was known of them; that is quicker than a merge."""
    changed = tuple(runs)
    (
        run_frame(spark, changed)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", any_of("run_id", (run.run_id for run in changed)))
        .saveAsTable(names.table("runs"))
    )
