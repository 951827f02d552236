"""Whose call it is in Delta is whose call it is by the words' own rule, whatever comes when."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from meshml_dbx.lake.join import spans_with_calls
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.spans import HOUR_US, LAST_MOMENT, Span
from meshml_dbx.traffic.ownership import Run, Segment, process_segments, window_segments
from tests.lake.conftest import Lab
from tests.lake.writing import NOON, SECOND

PROCESSES = tuple(f"{n}1111111-1111-1111-1111-111111111111" for n in range(4))
CLIENTS = ("churn", "fraud")

Owner = tuple[str, str, bool]


def a_run(run_id: str, start: int, end: int | None, **values: str | None) -> Run:
    """A run whose times are seconds after noon."""
    return Run(
        run_id=run_id,
        name=run_id,
        experiment_id="0",
        status="RUNNING" if end is None else "FINISHED",
        start_time=NOON + start * SECOND,
        end_time=None if end is None else NOON + end * SECOND,
        **values,  # type: ignore[arg-type]  # all of its texts
    )


def owner_by_words(
    runs: list[Run], process: str | None, client: str | None, t: int
) -> Owner | None:
    """Whose call this is, found by looking at every segment."""

    def holding(segments: Iterable[Segment]) -> Iterator[Owner]:
        return (
            (s.run_id, s.method, s.ambiguous) for s in segments if s.start_time <= t < s.end_time
        )

    by_process = (s for s in process_segments(runs) if s.process_id == process)
    by_window = (s for s in window_segments(runs, CLIENTS) if s.client == client)
    return next(holding(by_process), None) or next(holding(by_window), None)


def owners_in_lake(lab: Lab) -> dict[str, Owner]:
    """Whose call it is, by request id, as calls_by_run has it."""
    rows = lab.values("calls_by_run", "request_id", "run_id", "join_method", "ambiguous")
    assert len(rows) == len({row[0] for row in rows}), "a call has two owners"
    return {str(row[0]): (str(row[1]), str(row[2]), bool(row[3])) for row in rows}


def stages_in_lake(lab: Lab) -> dict[object, object]:
    """The stage of each call, by request id."""
    rows = lab.table("calls_by_run").select("request_id", "stage").collect()
    return {row["request_id"]: row["stage"] for row in rows}


def random_runs(chance: random.Random) -> list[Run]:
    """Runs that nest, overlap, follow each other, last, and have or lack process and client."""
    runs: list[Run] = []
    for number in range(60):
        start = chance.randrange(0, 3000)
        parent = chance.choice(runs).run_id if runs and chance.random() < 0.3 else None
        run = a_run(
            f"run{number:02d}",
            start,
            None if chance.random() < 0.05 else start + chance.randrange(0, 600),
            process_id=chance.choice((*PROCESSES, None)),
            client=chance.choice((*CLIENTS, None)),
            parent_run_id=parent,
        )
        runs.append(run)
    return runs


@pytest.mark.spark
def test_the_lake_agrees_with_the_words(lab: Lab) -> None:
    """On random runs and calls, across hours, before and after the runs are known."""
    chance = random.Random(3)
    runs, expected = random_runs(chance), {}
    who = [(process, client) for process in (*PROCESSES, None) for client in (*CLIENTS, None)]
    writers = [
        lab.writer(sidecar_id=f"s-{number:08x}", process_id=process, client=client)
        for number, (process, client) in enumerate(who)
    ]
    for number in range(900):
        writer, moment = chance.choice(writers), NOON + chance.randrange(-100, 9000) * SECOND // 2
        writer.call(moment, request_id=f"r{number}")
        owner = owner_by_words(runs, writer.process_id, writer.client, moment)
        if owner:
            expected[f"r{number}"] = owner
    for writer in writers:
        writer.close()
    early, late = runs[:30], runs[30:]
    store_runs(lab.spark, lab.names, early)
    lab.ingest()
    assert store_runs(lab.spark, lab.names, late) == 30
    assert owners_in_lake(lab) == expected
    assert store_runs(lab.spark, lab.names, runs) == 0


@pytest.mark.spark
def test_runs_that_change(lab: Lab) -> None:
    """Calls follow a run that ends, one that is nested later, and one that loses its time."""
    writer = lab.writer()
    for second in (1, 5, 9):
        writer.call(NOON + second * SECOND, request_id=f"at{second}")
    writer.close()
    lab.ingest()
    assert owners_in_lake(lab) == {}
    process = str(writer.process_id)
    outer = a_run("outer", 0, None, process_id=process)
    store_runs(lab.spark, lab.names, [outer])
    assert {owner[0] for owner in owners_in_lake(lab).values()} == {"outer"}
    ended = replace(outer, end_time=NOON + 8 * SECOND, status="FINISHED")
    inner = a_run("inner", 4, 6, process_id=process, parent_run_id="outer")
    store_runs(lab.spark, lab.names, [ended, inner])
    assert owners_in_lake(lab) == {
        "at1": ("outer", "process", False),
        "at5": ("inner", "process", False),
    }


@pytest.mark.spark
def test_untagged_and_overlapping_runs(lab: Lab) -> None:
    """A run without the tag owns by client and time; two that overlap are marked ambiguous."""
    writer = lab.writer()
    for second in (1, 5):
        writer.call(NOON + second * SECOND, request_id=f"at{second}")
    writer.close()
    runs = [a_run("one", 0, 9, client="churn"), a_run("two", 4, 9, client="churn")]
    store_runs(lab.spark, lab.names, [*runs, a_run("other", 0, 9, client="fraud")])
    lab.ingest()
    assert owners_in_lake(lab) == {
        "at1": ("one", "window", False),
        "at5": ("two", "window", True),
    }


@pytest.mark.spark
def test_the_stage_of_a_call(lab: Lab) -> None:
    """A call has its header's stage, else the innermost of its process, known now or later."""
    writer = lab.writer()
    writer.stage("begin", NOON, "outer")
    writer.call(NOON + 1 * SECOND, request_id="in-outer")
    writer.call(NOON + 2 * SECOND, request_id="by-header", stage="told")
    writer.stage("begin", NOON + 3 * SECOND, "inner")
    writer.call(NOON + 4 * SECOND, request_id="in-inner")
    writer.call(NOON + 6 * SECOND, request_id="after-inner")
    writer.close()
    store_runs(lab.spark, lab.names, [a_run("run", 0, 60, process_id=writer.process_id)])
    lab.ingest()
    assert stages_in_lake(lab)["after-inner"] == "inner"
    writer.stage("end", NOON + 5 * SECOND, "inner")
    writer.close()
    lab.ingest()
    assert stages_in_lake(lab) == {
        "in-outer": "outer",
        "by-header": "told",
        "in-inner": "inner",
        "after-inner": "outer",
    }


def test_only_spans_with_calls_are_joined_again(lab: Lab) -> None:
    """Of many runs' times, those count that touch an hour with calls, open ends included."""
    writer = lab.writer()
    writer.call(NOON + SECOND)
    writer.close()
    lab.ingest()
    before, during, after, still = (
        Span(start=NOON - HOUR_US, end=NOON),
        Span(start=NOON + 2 * SECOND, end=NOON + 3 * SECOND),
        Span(start=NOON + HOUR_US, end=NOON + 2 * HOUR_US),
        Span(start=NOON + HOUR_US // 2, end=LAST_MOMENT),
    )
    assert spans_with_calls(lab.spark, lab.names, [before, during, after]) == (during,)
    assert spans_with_calls(lab.spark, lab.names, [before, still]) == (still,)
    assert spans_with_calls(lab.spark, lab.names, []) == ()
