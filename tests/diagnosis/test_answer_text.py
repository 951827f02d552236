"""The answer as people read it in a terminal."""

import time

import pytest

from meshml_dbx.diagnosis import EVIDENCE_HEADINGS, answer_text, diagnose, evidence_rows
from meshml_dbx.traffic.evidence import NOTHING_RECORDED, PAST_THE_PROXY, Ledger
from tests.diagnosis.hand_made import (
    BEGIN,
    SECOND,
    call,
    compared,
    evidence,
    program,
    run_of,
    slow_route,
)


def test_the_answer_has_the_shape_of_the_sample() -> None:
    """Run line, culprits of two lines each, ledger, and what to do next."""
    ledger = Ledger(sent=240, proxied=240, rows=240)
    answer = diagnose(compared(program(slow_route), ledger=ledger))

    text = answer_text(answer, report="report.html")

    assert text.splitlines() == [
        "run 4f1c0b churn-training   41.9 s   waited 36.9 s on the mesh (88 %)   "
        "baseline: run 9be27a, healthy",
        "  1  labels.ml.local / by-day → v2                31.4 s   p95 950 ms (baseline 47 ms)   "
        "33 calls   0 retries",
        "     cause: slow upstream: time to first byte is 100 % of each call; "
        "v1 on the same route is healthy",
        "  2  labels.ml.local / by-day → v1                2.7 s   p95 47 ms (baseline 47 ms)   "
        "67 calls   0 retries",
        "     cause: healthy: as in run 9be27a",
        "ledger: sent 240 · proxied 240 · rows 240 · quarantined 0 · lost 0",
        "report: report.html      next: meshml why 4f1c0b --evidence",
    ]


def test_a_sibling_is_named_where_it_is_the_measure() -> None:
    """Without a baseline the figure in brackets is the sibling's."""
    assert "p95 950 ms (v1 47 ms)" in diagnose(evidence(program(slow_route))).text


def test_a_call_in_flight_is_shown() -> None:
    """What a run hangs on is in the answer."""
    flying = call(SECOND, 0, type="DownstreamPeriodic", code=0, total_us=None, stage="scoring")
    running = run_of([], status="RUNNING", end_time=None)
    known = evidence([], run=running, read_at=BEGIN + 41 * SECOND, in_flight=(flying,))

    text = diagnose(known).text

    assert "run 4f1c0b churn-training   RUNNING   41.0 s" in text
    assert "in flight: GET /v1/labels/{} to v1, 40.0 s, stage scoring" in text


def test_evidence_rows_are_the_worst_calls_of_the_culprits() -> None:
    """Five calls of each culprit, the longest first, one text per heading."""
    rows = evidence_rows(diagnose(compared(program(slow_route))))

    assert len(rows) == 5
    assert all(len(row) == len(EVIDENCE_HEADINGS) for row in rows)
    assert rows[0][3:] == ("v2", "200", "-", "1", "950 ms", "950 ms", "time to first byte 100 %")


def test_a_healthy_run_shows_its_longest_calls() -> None:
    """Evidence is shown even where nobody is to blame."""
    assert evidence_rows(diagnose(compared(program())))


def test_names_cannot_steer_the_terminal() -> None:
    """Control characters of a run's name are shown as question marks."""
    named = run_of(program(), name="\x1b[2Jgone\nrun")

    first = diagnose(compared(program(), run=named)).text.splitlines()[0]

    assert "?[2Jgone?run" in first


def test_that_nothing_was_recorded_is_said_once() -> None:
    """The sentence says it; below it stand the other gaps, and then the command that records."""
    gaps = (NOTHING_RECORDED, "no sample of the program's CPU")
    text = diagnose(evidence([], cpu_s=None, not_seen=gaps)).text

    told = text.splitlines()[1:]
    assert told[0] == "  No call of this run was recorded, so nothing can be said about its waits."
    assert next(line for line in told if "not seen" in line) == f"  not seen: {gaps[1]}"
    assert text.lower().count("recorded") == 1
    assert text.count("CPU") == 1


def test_calls_that_went_past_the_proxy_are_shown_whatever_the_verdict() -> None:
    """Somebody is to blame, and still the answer knows of part of the calls only."""
    gaps = (f"9 calls {PAST_THE_PROXY}", "no sample of the program's CPU")
    text = diagnose(compared(program(slow_route), not_seen=gaps)).text

    assert [line for line in text.splitlines() if "not seen" in line] == [f"  not seen: {gaps[0]}"]


@pytest.mark.timeout(30)
def test_endless_names_cost_no_time_and_hide_no_figure() -> None:
    """Whoever calls chooses how long a name is: it is cut, and what follows it is still shown."""
    endless = "\x1b" * 100_000
    calls = [
        call(n * SECOND, 900, target=endless, route=endless, pattern=endless) for n in range(10)
    ]
    answer = diagnose(evidence(calls, run=run_of(calls, name=endless), not_seen=(endless,) * 50))
    begun = time.process_time()

    lines = [answer_text(answer), *(cell for row in evidence_rows(answer) for cell in row)]

    assert time.process_time() - begun < 0.2
    assert "waited 9.0 s on the mesh" in lines[0]
    assert "10 calls" in lines[0]
    assert max(len(line) for text in lines for line in text.splitlines()) < 2_500
