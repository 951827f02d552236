"""What a call says of itself, from the program to headers and back."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from meshml_dbx.traffic.context import CONTEXT_HEADERS, CallContext, job_context

WHOLE = CallContext(run_id="4f1c0b", stage="training", client="churn-training")


@pytest.mark.parametrize(
    "context",
    [WHOLE, CallContext(), CallContext(run_id="4f1c0b"), CallContext(stage="fit", client="c")],
)
def test_a_context_comes_back_from_its_headers(context: CallContext) -> None:
    """What was sent is what is read, and what was not known stays unknown."""
    assert CallContext.from_headers(context.to_headers()) == context


def test_a_whole_context_uses_every_header() -> None:
    """The names are written once; none is left without a part of the context."""
    assert tuple(WHOLE.to_headers()) == CONTEXT_HEADERS


@pytest.mark.parametrize("change", [str.upper, str.title, str.lower])
def test_the_case_of_headers_does_not_matter(change: Callable[[str], str]) -> None:
    """HTTP/1 clients write them as they like."""
    headers = {change(name): value for name, value in WHOLE.to_headers().items()}
    assert CallContext.from_headers(headers) == WHOLE


def test_other_headers_are_left_alone() -> None:
    """A request has many headers that are none of ours."""
    others = {"authorization": "Bearer x", "x-meshml-origin": "y"}
    assert CallContext.from_headers(others) == CallContext()


def test_unknown_and_empty_parts_send_nothing() -> None:
    """An empty header would be logged as a stage without a name."""
    assert CallContext(stage="", client="c").to_headers() == {"x-meshml-client": "c"}


@pytest.mark.parametrize("stage", ["étape", "段階 2", "a\r\nx-evil: 1", "100 %", "a%20b", "fit 2"])
def test_any_name_of_a_stage_can_be_sent(stage: str) -> None:
    """Headers are printable ASCII: what is not is escaped, so that no name breaks a request."""
    headers = CallContext(stage=stage).to_headers()
    sent = headers["x-meshml-stage"]
    assert sent.isascii()
    assert sent.isprintable()
    assert CallContext.from_headers(headers).stage == stage


@pytest.mark.parametrize(
    ("variables", "context", "job"),
    [
        ({}, {}, {}),
        ({"MESHML_TASK_RUN_ID": " 78 "}, {"currentRunId": 1}, {"task_run_id": "78"}),
        ({"MESHML_JOB_RUN_ID": ""}, {"idInJob": 78}, {"task_run_id": "78"}),
        (
            {},
            {"workspaceId": "5", "multitaskParentRunId": "77", "currentRunId": 78, "idInJob": "9"},
            {"workspace_id": "5", "job_run_id": "77", "task_run_id": "78"},
        ),
        ({}, {"workspaceId": "5", "isInNotebook": True}, {}),
    ],
)
def test_the_job_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    context: dict[str, object],
    job: dict[str, str],
) -> None:
    """What the job hands over counts, else what Databricks' runtime says; elsewhere nothing."""
    runtime = ModuleType("dbruntime.databricks_repl_context")
    runtime.get_context = lambda: SimpleNamespace(**context)  # type: ignore[attr-defined]  # theirs
    monkeypatch.setitem(sys.modules, runtime.__name__, runtime)
    assert job_context(variables) == job
