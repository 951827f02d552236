"""What each table and column of the lake is, for people who come by SQL: the one table of texts.

Goes in: a name. Comes out: the comment that stands in the catalog. A column means the same in every
table; what the proxy logs is described by its operator, from ``access_log.FIELDS``.
"""

from meshml_dbx.traffic.access_log import CONNECTION_FIELDS, FIELDS
from meshml_dbx.traffic.waits import PART_NAMES

TABLE_TEXTS: dict[str, str] = {
    "calls": "Finished calls, one row for each observer: the caller's and the called node's proxy",
    "unfinished_calls": "The last that is known of calls whose proxy died before they ended",
    "tunnels": "Https connections that a proxy carried without seeing into them",
    "attempts": "Single tries of calls, several where a route has a retry policy",
    "connections": "Connections to a sidecar, refused handshakes included (failure)",
    "run_stages": "Begin and end of the stages that programs told",
    "samples": "Counters of proxies and CPU time of programs, second by second",
    "programs": "Begin and end of programs",
    "mesh_versions": "The mesh files that sidecars were started with",
    "runs": "MLflow's runs, as they were when they were last read",
    "run_stores": "How far each tracking store was read: ingest's memory, do not change it",
    "job_runs": "Databricks' job runs, and the task runs in them (task_run_id), as intervals",
    "calls_by_run": "Which run made a call, and in which stage; the key is that of calls",
    "edges": "Who called whom, by the hour, with exact percentiles",
    "edge_minutes": "Who called whom, by the minute, with buckets that add up: see quantile_us",
    "waits": "What each run waited for, by stage and place: the numbers of meshml why",
    "metrics_written": "Which waits were written to MLflow as metrics, so that none is twice",
    "cost": "What runs cost by the bill, and how much of it was waiting; FOCUS 1.3 names",
    "ledger": "What each sidecar counted against the rows that its lines became",
    "formats": "Log formats of a user's own, and the columns that their lines can tell",
    "quarantine": "Lines that no table takes, and why; with replayed_at, that none took at first",
    "log_files": "The files that ingest has begun and done: its memory, do not change it",
}

_TEXTS: dict[str, str] = {
    "event_date": "The day, in UTC, to filter by: files of other days are skipped",
    "pattern": "Method and path with its changing parts left out",
    "duration_us": "How long calls took, in microseconds; of several calls the sum",
    "buckets": "How long calls took: bucket of a DDSketch of 1 % -> calls; quantile_us reads it",
    "run_id": "MLflow's id of the run; in calls the one that the caller named",
    "stage": "The stage of the program in which the call began",
    "service": "The virtual service, or the host where the call left the mesh",
    "calls": "How many calls",
    "unfinished": "How many calls of these have no end",
    "errors": "How many calls got no answer, one of 5xx, or no route",
    "retries": "How many tries were made after the first",
    "wait_us": "Share of the time in which any call was in flight, evenly split; adds up by run",
    "p50_us": "Exact median of the calls' time, in microseconds",
    "p95_us": "Exact 95th percentile of the calls' time, in microseconds",
    "hour": "Begin of the hour, in UTC",
    "minute": "Begin of the minute, in UTC",
    "time": "When the line was written, in UTC",
    "type": "Which kind of line it was",
    "name": "The run's name",
    "experiment_id": "MLflow's id of the experiment",
    "experiment": "The experiment's name",
    "status": "MLflow's word for how far the run is",
    "end_time": "When it ended, in UTC; null while it lasts",
    "parent_run_id": "The run in which this one is nested",
    "team": "The run's tag team",
    "model": "The run's tag model",
    "workspace_id": "The Databricks workspace that the run was in",
    "job_id": "The Databricks job; unique in its workspace only",
    "job_run_id": "The run of the Databricks job",
    "cluster_id": "The Databricks compute",
    "task_run_id": "The task run of the Databricks job; null on the job run as a whole",
    "task_key": "The task's name in its job",
    "result_state": "How it ended: SUCCEEDED, FAILED, …; null while it runs, or is not told yet",
    "compute_ids": "Every compute that it ran on",
    "model_version": "The run's tag model_version",
    "deleted": "Whether MLflow's run is deleted: then it owns no calls",
    "store": "The address of the tracking store, without a password",
    "read_at": "When it was read last",
    "whole_at": "When the last look at all of its runs began",
    "swept_to": "Up to which start of a run the present look at all of them has got",
    "round_at": "When the present look at all of its runs began",
    "join_method": "How the call was joined: header, process, job or window",
    "ambiguous": "Whether another run has as good a claim",
    "digest": "A hash of the waits that were written",
    "step": "The step of the metrics that were written last",
    "stage_id": "What joins the begin and the end of a stage",
    "sent": "How many calls the program says it made in the stage",
    "batch": "The number of the ingest's batch",
    "state": "begun or done; replay, of a file some of whose lines were read again",
    "file": "The log file, from the log folder on",
    "byte_offset": "Where in the file the line begins",
    "bytes": "How many bytes",
    "reason": "Why no table takes it",
    "line": "The begin of the line",
    "seen_at": "When the line was found, in UTC",
    "replayed_batch": "The batch that read the line after all",
    "replayed_as": "The format, or the kind of line, as which it was read",
    "replayed_at": "When it was read after all, in UTC; null while no table has it",
    "counted": "Calls that the proxy's own counters say it finished",
    "counted_at": "When it counted them last",
    "begun_at": "When its program, or its recorder, began",
    "ended": "Whether that was at its end; of a file, its lines of finished calls",
    "end_lines": "Lines of finished calls in its log",
    "rows": "Rows that these became",
    "tunnels": "Tunnels among them",
    "quarantined": "Lines that are in quarantine",
    "log_bytes": "How large its log is",
    "read_bytes": "How much of it was read",
    "write_failed": "Lines that the proxy could not write",
    "lost": "Calls that were counted and that no line tells of",
    "explained": "Why calls are lost, where it is known",
    "duplicates": "Lines that came again, and were left out",
    "unexplained": "Of the lost, those of which nothing says why",
    "template": "The format as Envoy has it, text or JSON",
    "columns": "The columns of calls, attempts or connections that its lines can tell",
    "dropped": "Calls that the recorder could not write",
    "format": "The format of a line that others wrote; null of ours",
    "more": "What a foreign line has and no column takes",
    "line_key": "A hash of a line, the same on whatever road it came; null of calls of our own",
    "wait_cost": "Share of ListCost for the time that the run waited",
    "ChargePeriodStart": "Begin of the usage, in UTC",
    "ChargePeriodEnd": "End of the usage, in UTC",
    "BillingAccountId": "The account that is billed",
    "SubAccountId": "The workspace",
    "ServiceProviderName": "Whose service it is",
    "HostProviderName": "Whose machines it runs on",
    "SkuId": "What was used, by the bill's name",
    "ResourceId": "The job run, else the compute, of the bill",
    "PricingUnit": "The unit of PricingQuantity",
    "PricingQuantity": "How much was used, all records of the bill summed up",
    "ListCost": "PricingQuantity times the list price at the end of the usage; null without one",
    "BillingCurrency": "The currency of the costs",
    "ChargeCategory": "FOCUS' word: Usage",
    "AllocatedMethodId": "The rule by which a charge was split",
    "AllocatedMethodDetails": "The share that the rule gave, as JSON",
    "AllocatedResourceId": "The MLflow run; null on the unattributed rest",
    "AllocatedResourceName": "The run's name, or unattributed",
    "AllocatedTags": "The run's team, model and environment, as JSON",
    **{f"{part}_us": f"Of duration_us: {part.replace('_', ' ')}" for part in PART_NAMES},
}

_LOGGED = {
    field.column: f"Envoy's {field.operator}{f', in {field.unit}' if field.unit else ''}"
    for field in (*CONNECTION_FIELDS, *FIELDS)
    if field.operator
}


def column_text(column: str) -> str:
    """What a column holds.

    >>> column_text("bytes_out")
    "Envoy's %BYTES_SENT%, in B"
    """
    return _TEXTS.get(column) or _LOGGED.get(column) or f"The {column.replace('_', ' ')}"


def text_literal(text: str) -> str:
    r"""A text as a literal of SQL.

    >>> print(text_literal("it's"))
    'it\'s'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
