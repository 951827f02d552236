"""What a call says of itself: a header that names its run, and a request id that others share."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from meshml_dbx.lake.evidence import read_evidence
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.recording import evidence as recording
from meshml_dbx.traffic.evidence import PAST_THE_PROXY, Evidence
from meshml_dbx.traffic.ownership import Run
from tests.lake.conftest import Lab
from tests.lake.test_join import Owner, a_run
from tests.lake.writing import NOON, SECOND, LogWriter

pytestmark = pytest.mark.spark

READ_AT = NOON + 3600 * SECOND
HELPER = "33333333-3333-3333-3333-333333333333"


@dataclass(slots=True, kw_only=True)
class Told:
    """Calls that name a run, the runs, and whose each call is."""

    runs: tuple[Run, ...]
    owners: dict[str, Owner] = field(default_factory=dict)


def tell(lab: Lab) -> Told:
    """A program with two sibling runs, a helper of another client, and a node, all in one log."""
    writer = lab.writer()
    process = str(writer.process_id)
    runs = (
        a_run("over", -60, -30, process_id=process, client="churn"),
        a_run("first", 0, 60, process_id=process, client="churn"),
        a_run("second", 10, 60, process_id=process, client="churn"),
    )
    told = Told(runs=runs)
    helper = lab.writer(sidecar_id="helper-00000001", process_id=HELPER, client="helper")
    node = lab.writer(sidecar_id="scoring-00000001", process_id=None, client=None)
    calls: tuple[tuple[LogWriter, str | None, Owner | None], ...] = (
        (writer, "first", ("first", "header", False)),
        (writer, None, ("second", "process", True)),
        (writer, "over", ("second", "process", True)),
        (writer, "unknown", ("second", "process", True)),
        (helper, "first", ("first", "header", False)),
        (helper, None, None),
        (node, "first", None),
    )
    for number, (by, named, owner) in enumerate(calls):
        request_id = by.call(NOON + (20 + number) * SECOND, run_id=named)
        if owner:
            told.owners[request_id] = owner
    writer.unfinished(NOON + 51 * SECOND, run_id="first")
    for number, tries in ((1, 2), (2, 1)):
        moment = NOON + 40 * SECOND
        same: dict[str, Any] = {"connection_id": number, "run_id": "first"}
        for attempt in range(tries):
            writer.attempt(moment + attempt, "shared", attempt=attempt + 1, **same)
        writer.call(moment + number - 1, request_id="shared", attempts=tries, **same)
    writer.stage("begin", NOON + SECOND, "a", run_id="first")
    writer.stage("end", NOON + 59 * SECOND, "a", run_id="first", sent=20)
    writer.sample(NOON + 59 * SECOND, type_="last", requests_total=6, cpu_us=1)
    for one in (writer, helper, node):
        one.close()
    return told


def test_headers_decide_in_the_lake_as_in_the_log_folder(lab: Lab) -> None:
    """A named run owns its calls for certain, and both makers give the same evidence."""
    told = tell(lab)
    store_runs(lab.spark, lab.names, told.runs)
    lab.ingest()
    owners = owners_of_single_calls(lab)
    assert owners == told.owners
    first = told.runs[1]
    lake = read_evidence(lab.spark, lab.names, "first", read_at=READ_AT, baseline="over")
    assert lake is not None
    folder = recording.read_evidence(lab.logs, first, told.runs, read_at=READ_AT, baseline="over")
    for name in Evidence.__slots__:
        assert getattr(lake, name) == getattr(folder, name), name
    assert [(one.connection_id, one.attempt) for one in lake.attempts] == [(1, 1), (1, 2)]
    assert (len(lake.calls), len(lake.in_flight), lake.ambiguous_calls) == (4, 1, 0)
    assert [PAST_THE_PROXY in text for text in lake.not_seen][-1:] == [True]


def owners_of_single_calls(lab: Lab) -> dict[str, Owner]:
    """Whose each call is, by request id, but for the two that share one."""
    rows = lab.values("calls_by_run", "request_id", "run_id", "join_method", "ambiguous")
    assert [row[1:] for row in rows if row[0] == "shared"] == [("first", "header", False)] * 2
    return {str(r[0]): (str(r[1]), str(r[2]), bool(r[3])) for r in rows if r[0] != "shared"}
