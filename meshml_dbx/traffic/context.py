"""What a call says of itself: the run, stage and client it belongs to, as request headers.

Goes in: what the program knows. Comes out: headers that the caller's proxy logs and hands to the
called node, and that never leave the mesh. The names are written here and nowhere else.
"""

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote, unquote

RUN_ID_HEADER = "x-meshml-run-id"
STAGE_HEADER = "x-meshml-stage"
CLIENT_HEADER = "x-meshml-client"
ORIGIN_HEADER = "x-meshml-origin"
ORIGIN_FLAGS_HEADER = "x-meshml-flags"

CONTEXT_HEADERS = (RUN_ID_HEADER, STAGE_HEADER, CLIENT_HEADER)

PROCESS_VARIABLE = "MESHML_PROCESS_ID"
CLIENT_VARIABLE = "MESHML_CLIENT"
LOGS_VARIABLE = "MESHML_LOGS"
SIDECAR_VARIABLE = "MESHML_SIDECAR_ID"
RECORD_VARIABLE = "MESHML_RECORD"
"""Set where a process records its calls itself, and has those it starts do so too.

It is the log folder: ``MESHML_LOGS`` may be where a recorder keeps its live files meanwhile.
"""

CURRENT_STAGE: ContextVar[str | None] = ContextVar("meshml_stage", default=None)

_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")

PROCESS_TAG = "meshml.process_id"
CLIENT_TAG = "meshml.client"
JOB_RUN_TAG = "meshml.job_run_id"
TASK_RUN_TAG = "meshml.task_run_id"

JOB_VARIABLES = {
    "workspace_id": "MESHML_WORKSPACE_ID",
    "job_run_id": "MESHML_JOB_RUN_ID",
    "task_run_id": "MESHML_TASK_RUN_ID",
}
"""What a job hands to its program: ``{{workspace.id}}``, ``{{job.run_id}}``, ``{{task.run_id}}``.

That works on every compute. Where nobody does, Databricks' own context is asked."""

_CONTEXT_MODULE = "dbruntime.databricks_repl_context"
_IN_CONTEXT = {
    "workspace_id": ("workspaceId",),
    "job_run_id": ("multitaskParentRunId",),
    "task_run_id": ("currentRunId", "idInJob"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """The run, stage and client of a call; what is not known is None.

    >>> CallContext(run_id="4f1c", stage="training").to_headers()
    {'x-meshml-run-id': '4f1c', 'x-meshml-stage': 'training'}
    """

    run_id: str | None = None
    stage: str | None = None
    client: str | None = None

    def to_headers(self) -> dict[str, str]:
        """The headers of this context; unknown parts send nothing.

        What is not printable ASCII is sent as ``%XX``: a header may not hold it.
        """
        pairs = zip(CONTEXT_HEADERS, (self.run_id, self.stage, self.client), strict=True)
        return {name: quote(value, safe=_PLAIN) for name, value in pairs if value}

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "CallContext":
        """The context that a request's headers carry, whatever their case."""
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(
            run_id=_unquoted(lower.get(RUN_ID_HEADER)),
            stage=_unquoted(lower.get(STAGE_HEADER)),
            client=_unquoted(lower.get(CLIENT_HEADER)),
        )


def _unquoted(value: str | None) -> str | None:
    return None if value is None else unquote(value)


def job_context(environ: Mapping[str, str]) -> dict[str, str]:
    """The workspace, job run and task run of Databricks in which this process runs, as known.

    Outside of a job, which has a task run or a job run, there is nothing.

    >>> job_context({"MESHML_JOB_RUN_ID": "77", "MESHML_WORKSPACE_ID": "5"})
    {'workspace_id': '5', 'job_run_id': '77'}
    >>> job_context({"MESHML_WORKSPACE_ID": "5"})
    {}
    """
    told = {field: environ.get(variable, "").strip() for field, variable in JOB_VARIABLES.items()}
    if not told["job_run_id"] and not told["task_run_id"]:
        told |= _runtime_job()
    known = {field: value for field, value in told.items() if value}
    return known if known.keys() & {"job_run_id", "task_run_id"} else {}


def job_tags(job: Mapping[str, str]) -> dict[str, str]:
    """The tags by which the calls of a job's other processes find a run.

    >>> job_tags({"workspace_id": "5", "task_run_id": "78"})
    {'meshml.task_run_id': '78'}
    """
    names = {"job_run_id": JOB_RUN_TAG, "task_run_id": TASK_RUN_TAG}
    return {tag: job[field] for field, tag in names.items() if field in job}


def _runtime_job() -> dict[str, str]:
    """What Databricks' own context says; it is asked only where the runtime has loaded it."""
    module = sys.modules.get(_CONTEXT_MODULE)
    try:
        context = module.get_context() if module else None
    except Exception:  # another runtime's context: the join by time still holds
        return {}
    found = {
        field: next((str(v) for name in names if (v := getattr(context, name, None))), "")
        for field, names in _IN_CONTEXT.items()
    }
    return {field: value for field, value in found.items() if value}


def active_run_id() -> str | None:
    """The MLflow run that is active in this thread, if the program uses MLflow at all.

    MLflow is never imported for it: that takes seconds.
    """
    active_run = getattr(sys.modules.get("mlflow"), "active_run", None)
    if active_run is None:
        return None
    try:
        run = active_run()
        return str(run.info.run_id) if run else None
    except Exception:  # a half-imported or foreign MLflow: the join by time still holds
        return None
