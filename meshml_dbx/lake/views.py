"""What people who come by SQL find beside the tables: views in seconds, and one function.

Goes in: a session and the tables' names. Comes out: objects in the tables' schema, by name and
never by path, so that they work in a lake on this machine and in Unity Catalog. On this machine
the catalog is the session's: whoever opens the lake anew makes them anew.
"""

from pyspark.sql import SparkSession

from meshml_dbx.lake.books import LEDGER_MINUTES, LEDGER_SOURCES
from meshml_dbx.lake.cost import RUN_TIME
from meshml_dbx.lake.formats import FORMAT_COLUMNS
from meshml_dbx.lake.hops import create_hops
from meshml_dbx.lake.tables import TABLES, TableNames
from meshml_dbx.lake.texts import TABLE_TEXTS, column_text, text_literal
from meshml_dbx.traffic.access_log import WAITING_OBSERVERS
from meshml_dbx.traffic.sketch import GAMMA, ZERO_BUCKET

QUANTILE = "quantile_us"
QUANTILE_TEXT = "The q quantile, in us, of all calls in these buckets, right to 1 %"
_ENTRIES = "array_sort(flatten(transform(parts, part -> map_entries(part))))"
_CALLS = f"aggregate({_ENTRIES}, 0L, (sum, entry) -> sum + entry.value)"
QUANTILE_SQL = f"""
aggregate(
  {_ENTRIES},
  named_struct('left', CAST(floor(q * ({_CALLS} - 1)) AS BIGINT), 'bucket', CAST(NULL AS INT)),
  (walk, entry) -> named_struct(
    'left', walk.left - entry.value,
    'bucket', CASE WHEN walk.bucket IS NOT NULL THEN walk.bucket
                   WHEN walk.left < entry.value THEN entry.key END),
  walk -> CASE WHEN walk.bucket = {ZERO_BUCKET} THEN 0D
               ELSE 2 * power({GAMMA!r}D, walk.bucket) / ({GAMMA!r}D + 1) END)
"""
"""A quantile of ``parts``, an array of buckets: those of any minutes, edges or runs together."""

VIEWS: dict[str, tuple[str, str]] = {
    "run_waits": (
        "What each run waited for, in seconds, with the run; wait_share is of the run's time",
        """
        SELECT r.run_id, r.name, r.experiment, r.status, r.client, r.team, r.model, r.environment,
          r.start_time, r.end_time, w.stage, w.service, w.route, w.target, w.pattern, w.calls,
          w.errors, w.retries, w.wait_us / 1e6D AS wait_s,
          CASE WHEN r.end_time IS NOT NULL THEN w.wait_us
            / greatest(unix_micros(r.end_time) - unix_micros(r.start_time), 1) END AS wait_share,
          w.pool_wait_us / 1e6D AS pool_wait_s, w.connect_us / 1e6D AS connect_s,
          w.tls_us / 1e6D AS tls_s, w.first_byte_us / 1e6D AS first_byte_s,
          w.transfer_us / 1e6D AS transfer_s, w.earlier_attempts_us / 1e6D AS earlier_attempts_s,
          w.buckets
        FROM {schema}.waits w JOIN {schema}.runs r ON r.run_id = w.run_id
        """,
    ),
    "join_coverage": (
        "Whose the callers' calls are, by day and client: calls = joined + ambiguous + unowned",
        """
        SELECT c.event_date, c.client, count(*) AS calls,
          count_if(NOT o.ambiguous) AS joined, count_if(o.ambiguous) AS ambiguous,
          count_if(o.ambiguous IS NULL) AS unowned
        FROM {schema}.calls c LEFT JOIN (
          SELECT request_id, start_time, observer, sidecar_id, bool_or(ambiguous) AS ambiguous
          FROM {schema}.calls_by_run GROUP BY ALL
        ) o ON o.request_id <=> c.request_id AND o.start_time = c.start_time
          AND o.observer = c.observer AND o.sidecar_id = c.sidecar_id
        WHERE c.observer IN {waiting} GROUP BY c.event_date, c.client
        """,
    ),
    "job_run_calls": (
        "What the processes of Databricks' job and task runs called, with or without an MLflow "
        "run; begin, end and result are null where refresh_job_runs has not brought them in",
        """
        SELECT p.workspace_id, coalesce(j.job_id, t.job_id) AS job_id,
          coalesce(p.job_run_id, t.job_run_id) AS job_run_id, p.task_run_id, t.task_key,
          j.name, coalesce(t.start_time, j.start_time) AS start_time,
          coalesce(t.end_time, j.end_time) AS end_time,
          coalesce(t.result_state, j.result_state) AS result_state, p.calls, p.without_run,
          p.duration_us / 1e6D AS duration_s
        FROM (
          SELECT coalesce(max(g.workspace_id), max(w.workspace_id)) AS workspace_id,
            g.job_run_id, g.task_run_id, count(*) AS calls,
            count_if(o.start_time IS NULL) AS without_run, sum(c.duration_us) AS duration_us
          FROM {schema}.calls c JOIN (
            SELECT process_id, max(workspace_id) AS workspace_id, max(job_run_id) AS job_run_id,
              max(task_run_id) AS task_run_id
            FROM {schema}.programs
            WHERE job_run_id IS NOT NULL OR task_run_id IS NOT NULL GROUP BY process_id
          ) g ON g.process_id = c.process_id LEFT JOIN (
            SELECT coalesce(task_run_id, job_run_id) AS id, max(workspace_id) AS workspace_id
            FROM {schema}.job_runs GROUP BY ALL HAVING count(DISTINCT workspace_id) = 1
          ) w ON w.id = coalesce(g.task_run_id, g.job_run_id) LEFT JOIN (
            SELECT DISTINCT request_id, start_time, observer, sidecar_id
            FROM {schema}.calls_by_run
          ) o ON o.request_id <=> c.request_id AND o.start_time = c.start_time
            AND o.observer = c.observer AND o.sidecar_id = c.sidecar_id
          WHERE c.observer IN {waiting}
          GROUP BY coalesce(g.workspace_id, w.workspace_id), g.job_run_id, g.task_run_id
        ) p LEFT JOIN {schema}.job_runs t
          ON t.task_run_id = p.task_run_id AND t.workspace_id = p.workspace_id
        LEFT JOIN {schema}.job_runs j
          ON j.job_run_id = coalesce(p.job_run_id, t.job_run_id) AND j.task_run_id IS NULL
          AND j.workspace_id = p.workspace_id
        """,
    ),
    "service_minutes": (
        "How each service was called, minute by minute; quantiles are right to 1 %",
        """
        SELECT minute, virtual_service, sum(calls) AS calls, sum(errors) AS errors,
          sum(retries) AS retries,
          {schema}.quantile_us(collect_list(buckets), 0.5D) / 1000 AS p50_ms,
          {schema}.quantile_us(collect_list(buckets), 0.95D) / 1000 AS p95_ms,
          {schema}.quantile_us(collect_list(buckets), 0.99D) / 1000 AS p99_ms,
          {schema}.quantile_us(collect_list(buckets), 0.999D) / 1000 AS p999_ms
        FROM {schema}.edge_minutes GROUP BY minute, virtual_service
        """,
    ),
    "run_cost": (
        "What each run cost by list price, compute_cost of it for the time that it ran, and how "
        "much of that was waiting; null without a bill",
        f"""
        SELECT AllocatedResourceId AS run_id, BillingCurrency AS currency,
          sum(ListCost) AS list_cost, sum(wait_cost) AS wait_cost,
          sum(CASE WHEN AllocatedMethodId = '{RUN_TIME}' THEN ListCost END) AS compute_cost
        FROM {{schema}}.cost WHERE AllocatedResourceId IS NOT NULL
        GROUP BY AllocatedResourceId, BillingCurrency
        """,  # noqa: S608  # a constant of ours
    ),
    "model_cost_week": (
        "Which service cost whose models how much waiting, week by week of the runs' begin",
        """
        SELECT CAST(date_trunc('week', w.start_time) AS DATE) AS week, w.team, w.model,
          w.environment, w.service, c.currency, count(DISTINCT w.run_id) AS runs,
          sum(w.calls) AS calls, sum(w.retries) AS retries, sum(w.wait_s) AS wait_s,
          sum(CAST(c.compute_cost AS DOUBLE) * w.wait_share) AS wait_cost
        FROM {schema}.run_waits w LEFT JOIN (
          SELECT * FROM {schema}.run_cost WHERE compute_cost IS NOT NULL) c ON c.run_id = w.run_id
        GROUP BY ALL
        """,
    ),
    "ledger_minutes": LEDGER_MINUTES,
    "ledger_sources": LEDGER_SOURCES,
    "format_columns": FORMAT_COLUMNS,
}
"""Each view's comment and its query; one that reads another stands after it."""


def create_views(spark: SparkSession, names: TableNames) -> None:
    """Make the views, and the functions, whose text may have changed, anew."""
    create_functions(spark, names)
    create_hops(spark, names)
    for view, (text, query) in VIEWS.items():
        spark.sql(
            f"CREATE OR REPLACE VIEW {names.schema}.`{view}` COMMENT {text_literal(text)} "
            f"AS {query.format(schema=names.schema, waiting=WAITING_OBSERVERS)}"
        )


def has_views(spark: SparkSession, names: TableNames) -> bool:
    """Whether they were made in this catalog."""
    return bool(spark.catalog.tableExists(f"{names.schema}.`{next(reversed(VIEWS))}`"))


def create_functions(spark: SparkSession, names: TableNames) -> None:
    """Make ``quantile_us(collect_list(buckets), 0.99)`` known to SQL: right to 1 %."""
    spark.sql(
        f"CREATE OR REPLACE FUNCTION {names.schema}.`{QUANTILE}`"
        "(parts ARRAY<MAP<INT, BIGINT>>, q DOUBLE) RETURNS DOUBLE "
        f"COMMENT {text_literal(QUANTILE_TEXT)} RETURN {QUANTILE_SQL}"
    )


def comment_tables(spark: SparkSession, names: TableNames) -> None:
    """Give tables that were made before there were comments theirs; new ones are made with them."""
    for name, columns in TABLES.items():
        table = names.table(name)
        known = {column.name: column.description for column in spark.catalog.listColumns(table)}
        silent = [column for column, _ in columns if known.get(column) != column_text(column)]
        for column in silent:
            text = text_literal(column_text(column))
            spark.sql(f"ALTER TABLE {table} ALTER COLUMN `{column}` COMMENT {text}")
        if silent:
            spark.sql(f"COMMENT ON TABLE {table} IS {text_literal(TABLE_TEXTS[name])}")
