"""What every way to read a tracking store shares: the question, a run in our words, the error.

Goes in: what MLflow stores of a run. Comes out: ``Run``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from meshml_dbx.errors import TrackingError
from meshml_dbx.traffic.context import CLIENT_TAG, JOB_RUN_TAG, PROCESS_TAG, TASK_RUN_TAG
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_names import BEGIN_A_RUN

PARENT_TAG = "mlflow.parentRunId"
FIELD_TAGS: dict[str, tuple[str, ...]] = {
    "parent_run_id": (PARENT_TAG,),
    "process_id": (PROCESS_TAG,),
    "client": (CLIENT_TAG,),
    "team": ("team",),
    "model": ("model",),
    "environment": ("environment",),
    "workspace_id": ("mlflow.databricks.workspaceID",),
    "job_id": ("mlflow.databricks.jobID",),
    # MLflow's own is the task run's id where a job has several tasks.
    "job_run_id": (JOB_RUN_TAG, "mlflow.databricks.jobRunID"),
    "cluster_id": ("mlflow.databricks.cluster.id",),
    "task_run_id": (TASK_RUN_TAG,),
    "model_version": ("model_version",),
}
"""Field of ``Run`` → the tags that tell it, the first that is there."""

TAGS = tuple(tag for tags in FIELD_TAGS.values() for tag in tags)
UNENDED = ("RUNNING", "SCHEDULED")
"""A run that was resumed has one of these with the end of its first part still in place."""
ACTIVE = "active"
NEXT_STEP = "name the store with --tracking or MLFLOW_TRACKING_URI"
FIRST_STEP = f"{BEGIN_A_RUN}; or {NEXT_STEP}"
"""Where there is no store yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs to read: the newest ``limit`` that began before ``until`` and ended after
    ``since`` (UTC microseconds), or the one with that id.

    >>> RunQuery(limit=1).run_id
    """

    since: int | None = None
    until: int | None = None
    limit: int | None = None
    run_id: str | None = None


def run_in_words(values: Mapping[str, Any], experiment: str | None, tags: Mapping[str, str]) -> Run:
    """A run in our words: MLflow has milliseconds, and the last one counts to its end."""
    end_ms = None if values["status"] in UNENDED else values.get("end_time")
    return Run(
        run_id=values["run_id"],
        name=values.get("run_name") or values["run_id"],
        experiment_id=str(values["experiment_id"]),
        experiment=experiment,
        status=values["status"],
        start_time=int(values["start_time"]) * 1000,
        end_time=int(end_ms) * 1000 + 999 if end_ms else None,
        deleted=values.get("lifecycle_stage", ACTIVE) != ACTIVE,
        **{
            field: next((tags[name] for name in names if name in tags), None)
            for field, names in FIELD_TAGS.items()
        },
    )


def tracking_error(uri: str, error: Exception) -> TrackingError:
    """An error that names the store; a password in its address is never shown."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    secret = _password(uri)
    shown = reason.replace(uri, mask(uri))
    shown = shown.replace(secret, "***") if secret else shown
    return TrackingError(
        f"the tracking store {mask(uri)} cannot be read: {shown}",
        advice=f"see that it is up and that you may read it, or {NEXT_STEP}",
    )


def _password(uri: str) -> str | None:
    try:
        return urlsplit(uri).password
    except ValueError:  # such as an address with half a bracket
        return None


def mask(uri: str) -> str:
    """The address without its password.

    >>> mask("postgresql://ml:secret@db/mlflow")
    'postgresql://ml:***@db/mlflow'
    """
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri)
