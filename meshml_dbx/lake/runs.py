"""MLflow's runs in Delta, and calls joined anew where a run came, ended or changed.

Goes in: runs as words. Comes out: rows of ``runs``, one per run id, the last that was known. A run
that was deleted in MLflow keeps its row, which says so, and owns no calls, as in the log folder;
restored, it has them again.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pyspark.sql import SparkSession

from meshml_dbx.lake.join import owners_in, refresh_calls_by_run, spans_with_calls
from meshml_dbx.lake.read_runs import run_frame, runs_of_ids
from meshml_dbx.lake.spans import LAST_MOMENT, Span, few_spans, merge_spans
from meshml_dbx.lake.tables import TableNames, any_of
from meshml_dbx.lake.waits import refresh_waits
from meshml_dbx.traffic.ownership import Run, end_of

FEW_RUNS = 2000
"""Up to so many are put in place by a condition that names them, which is quicker than a merge."""

UNASKED = ("name", "status", "experiment_id", "experiment", "team", "model", "environment")
UNASKED_TAGS = ("model_version", "cluster_id", "job_id")
"""What of a run has no say in whose a call is."""


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
    touched = (span for run in changed for span in touched_spans(known.get(run.run_id), run))
    spans = few_spans(spans_with_calls(spark, names, merge_spans(touched)))
    losing = runs_of_ids(spark, names, owners_in(spark, names, spans)) if spans else ()
    joined = refresh_calls_by_run(spark, names, spans, changed=changed)
    # What a run waited for is clipped to its time, also where none of its calls began.
    clipped = [run for run in changed if _is_clipped_anew(known.get(run.run_id), run)]
    fresher = {run.run_id: run for run in (*losing, *joined, *changed)}
    refresh_waits(spark, names, [fresher[run.run_id] for run in (*losing, *joined, *clipped)])
    _upsert(spark, names, changed)
    return len(changed)


def touched_spans(before: Run | None, after: Run) -> tuple[Span, ...]:
    """The time in which calls may have another owner, once a run is what it was not before.

    Of a run that has ended since, or goes on after all, only the time that it gained or lost: it
    has the same say in the rest.

    >>> lasting = Run(run_id="r", name="", experiment_id="0", status="RUNNING", start_time=0)
    >>> ended = replace(lasting, status="FINISHED", end_time=5)
    >>> touched_spans(None, ended), touched_spans(lasting, ended)[0].start
    ((Span(start=0, end=5),), 5)
    >>> touched_spans(ended, replace(ended, team="risk"))
    ()
    """
    if before is not None and _say(before) == _say(replace(after, end_time=before.end_time)):
        if before.deleted:
            return ()
        ends = sorted(_span(run).end for run in (before, after))
        return (Span(start=ends[0], end=ends[1]),) if ends[0] < ends[1] else ()
    both = (run for run in (before, after) if run is not None and not run.deleted)
    return tuple(_span(run) for run in both)


def _say(run: Run) -> Run:
    """The run without what has no say in whose a call is."""
    texts: dict[str, Any] = dict.fromkeys((*UNASKED, *UNASKED_TAGS), "")
    return replace(run, **texts)


def _is_clipped_anew(before: Run | None, after: Run) -> bool:
    return before is not None and not after.deleted and _span(before) != _span(after)


def _span(run: Run) -> Span:
    return Span(start=run.start_time, end=min(end_of(run), LAST_MOMENT))


def _upsert(spark: SparkSession, names: TableNames, runs: Iterable[Run]) -> None:
    """Put these runs in the place of what was known of them."""
    changed = tuple(runs)
    rows, table = run_frame(spark, changed), names.table("runs")
    if len(changed) > FEW_RUNS:
        spark.sql(
            f"MERGE INTO {table} AS old USING {{fresh}} AS fresh ON old.run_id = fresh.run_id "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
            fresh=rows,
        )
        return
    (
        rows.write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", any_of("run_id", (run.run_id for run in changed)))
        .saveAsTable(table)
    )
