"""The whole answer: verdict, account of time, promised names, DataFrames."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from meshml_dbx.diagnosis import Diagnosis, diagnose, json_text
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import Evidence, Ledger
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

PROMISED = {
    "": {
        "run_id",
        "run_name",
        "status",
        "duration_s",
        "wait_s",
        "verdict",
        "baseline",
        "culprits",
        "client_patterns",
        "in_flight",
        "coverage",
        "ledger",
    },
    "culprits": {
        "rank",
        "virtual_service",
        "route",
        "target",
        "upstream",
        "pattern",
        "cause",
        "wait_s",
        "share",
        "calls",
        "retries",
        "p95_ms",
        "baseline_p95_ms",
        "stages",
        "sentence",
        "sql",
    },
    "in_flight": {"request_id", "age_s", "virtual_service", "target", "stage"},
    "coverage": {"cpu_s", "tunnel_s", "unexplained_s", "not_seen"},
    "ledger": {"sent", "proxied", "rows", "quarantined", "lost"},
}
"""The names that programs outside rely on."""


def lasting(seconds: float, calls: list[Call], **changes: object) -> Evidence:
    """A run of a given length with these calls."""
    run = run_of(calls, end_time=BEGIN + round(seconds * SECOND))
    return evidence(calls, **{"run": run} | changes)


def accounted(answer: Diagnosis) -> float:
    """The sum of all that the run's time went to."""
    rest = answer.coverage
    return answer.wait_s + rest.tunnel_s + (rest.cpu_s or 0.0) + rest.unexplained_s


# --- the verdict ------------------------------------------------------------------------------


def test_a_run_without_calls_is_unknown_and_says_how_to_record_the_next() -> None:
    """Nothing recorded: no verdict, and what comes next is the command that records a run."""
    answer = diagnose(lasting(10, []))

    assert (answer.verdict, answer.culprits, answer.wait_s) == ("unknown", (), 0.0)
    assert answer.text.splitlines()[-1] == (
        "next: meshml record -- python PROGRAM   (in a notebook: meshml_dbx.record(); "
        "with a mesh: meshml run --mesh mesh.yml --client NAME -- python PROGRAM)"
    )


def test_a_gap_that_the_evidence_names_is_not_named_again() -> None:
    """The makers of evidence say what they missed; the account adds only what it alone shows."""
    missed = ("no sample of the program's CPU", "1 calls could belong to another run")
    known = lasting(10, [call(0, 9_900)], cpu_s=None, not_seen=missed, ambiguous_calls=1)

    assert diagnose(known).coverage.not_seen == missed


@pytest.mark.parametrize(
    ("waits_s", "cpu_s", "verdict"),
    [
        (1, 9.0, "program"),
        (1, 2.0, "unknown"),
        (1, None, "unknown"),
        (3, 7.0, "unknown"),
        (6, 0.5, "mesh"),
        (6, 40.0, "mesh"),
    ],
)
def test_the_program_is_named_only_when_its_cpu_explains_the_time(
    waits_s: int, cpu_s: float | None, verdict: str
) -> None:
    """Ten seconds: small waits and much CPU, neither, CPU unknown, and large waits."""
    calls = [call(n * SECOND // 10, 100) for n in range(10 * waits_s)]

    assert diagnose(lasting(10, calls, cpu_s=cpu_s)).verdict == verdict


def test_unknown_says_what_was_not_seen() -> None:
    """Time that neither calls nor CPU explain is named with its likely homes."""
    answer = diagnose(lasting(10, [call(0, 100)], cpu_s=1.0, not_seen=("the log of features",)))

    assert answer.verdict == "unknown"
    assert answer.coverage.not_seen[0] == "the log of features"
    assert "8.9 s in which no call was in flight" in answer.coverage.not_seen[-1]


def test_a_small_slow_call_in_a_run_full_of_cpu_is_listed_but_the_program_is_to_blame() -> None:
    """A culprit that costs a little does not turn a slow program into a slow mesh."""
    calls = program(slow_route)
    busy = run_of(calls, end_time=calls[-1].end_time + 400 * SECOND)

    answer = diagnose(compared(calls, run=busy, cpu_s=400.0))

    assert answer.verdict == "program"
    assert [one.cause for one in answer.blamed] == ["slow_upstream"]


def test_a_run_that_hangs_after_hours_of_work_hangs_on_the_mesh() -> None:
    """A call in flight is why a run is stuck now, though its waits were small until then."""
    calls = [call(n * SECOND, 20) for n in range(9)]
    flying = call(3600 * SECOND, 0, type="DownstreamPeriodic", code=0, total_us=None)
    running = run_of(calls, status="RUNNING", end_time=None)
    known = evidence(
        calls,
        run=running,
        read_at=BEGIN + 3640 * SECOND,
        in_flight=(flying,),
        cpu_s=3500.0,
    )

    assert diagnose(known).verdict == "mesh"


# --- the account of time ----------------------------------------------------------------------


def tunnel(at_us: int, ms: float, **changes: object) -> Call:
    """An https connection."""
    return call(at_us, ms, method="CONNECT", **changes)


@pytest.mark.parametrize("cpu_s", [None, 0.0, 2.5, 1000.0])
def test_wall_time_is_waits_tunnels_cpu_and_the_rest(cpu_s: float | None) -> None:
    """The parts add up to the run's duration, however much CPU its threads used."""
    known = lasting(10, [call(0, 4000), call(2 * SECOND, 4000)], cpu_s=cpu_s)
    answer = diagnose(replace(known, tunnels=(tunnel(5 * SECOND, 2000),)))

    assert accounted(answer) == pytest.approx(10.0)
    assert (answer.wait_s, answer.coverage.tunnel_s) == (6.0, 1.0)
    assert (answer.coverage.cpu_s or 0.0) <= 3.0
    assert answer.coverage.cpu_total_s == cpu_s


def test_an_open_tunnel_lasts_until_the_reading() -> None:
    """A tunnel without an end bounds the wait up to now."""
    open_tunnel = tunnel(SECOND, 0, type="DownstreamPeriodic", total_us=None, duration_ms=1000)

    answer = diagnose(lasting(10, [call(0, 500)], tunnels=(open_tunnel,)))

    assert answer.coverage.tunnel_s == 9.0


def test_calls_are_clipped_to_the_run() -> None:
    """A call that outlives the run counts until the run's end."""
    answer = diagnose(lasting(2, [call(0, 500), call(SECOND, 9000)]))

    assert (answer.duration_s, answer.wait_s) == (2.0, 1.5)


def test_a_run_that_lasts_ends_at_the_reading() -> None:
    """A running run's calls in flight are waited for until now."""
    flying = call(SECOND, 0, type="DownstreamStart", code=0, total_us=None)
    running = run_of([], status="RUNNING", end_time=None)

    answer = diagnose(
        evidence([call(0, 500)], run=running, read_at=BEGIN + 5 * SECOND, in_flight=(flying,))
    )

    assert (answer.duration_s, answer.wait_s) == (5.0, 4.5)


def test_a_run_that_died_with_its_proxy_ends_with_its_last_line() -> None:
    """A run that MLflow still believes to run, read a day later, is not a day long."""
    cut = call(SECOND, 0, type="Unfinished", code=0, total_us=None, duration_ms=3000)
    dead = run_of([], status="RUNNING", end_time=None)
    known = evidence([call(0, 500)], run=dead, in_flight=(cut,), read_at=BEGIN + 86_400 * SECOND)

    answer = diagnose(known)

    assert (answer.duration_s, answer.wait_s) == (4.0, 3.5)
    assert [one.is_cut_off for one in answer.in_flight] == [True]


def test_waits_by_stage_and_target_add_up_to_the_wait() -> None:
    """The rows under the answer are the answer, split."""
    answer = diagnose(compared(program(slow_route)))

    assert sum(row.wait_us for row in answer.wait_rows) == answer.wait_us
    assert {row.stage for row in answer.wait_rows} == {
        "ingestion",
        "processing",
        "training",
        "scoring",
    }


# --- the promised names -----------------------------------------------------------------------


def test_json_has_the_promised_names() -> None:
    """Every promised name is there, at every level."""
    flying = call(SECOND, 0, type="DownstreamStart", code=0, total_us=None)
    known = compared(program(slow_route), in_flight=(flying,), ledger=Ledger(proxied=240, rows=240))

    answer = json.loads(json_text(diagnose(known)))

    parts = {name: answer[name] for name in PROMISED if name}
    levels = {"": answer} | {
        name: part[0] if isinstance(part, list) else part for name, part in parts.items()
    }
    missing = {name: PROMISED[name] - levels[name].keys() for name in PROMISED}
    assert missing == {name: set() for name in PROMISED}


def test_json_says_what_the_answer_says() -> None:
    """Times in seconds and milliseconds, unknown values null, lists as lists."""
    answer = diagnose(evidence([call(n * SECOND, 900) for n in range(9)])).to_json()

    assert (answer["duration_s"], answer["wait_s"], answer["baseline"]) == (9.0, 8.1, None)
    assert answer["ledger"] == {
        "sent": None,
        "proxied": None,
        "rows": 0,
        "quarantined": 0,
        "lost": 0,
        "explained": [],
    }


def test_the_same_evidence_gives_the_same_answer() -> None:
    """Nothing in the answer depends on chance or on the clock."""
    assert diagnose(compared(program(slow_route))) == diagnose(compared(program(slow_route)))


# --- DataFrames and notebooks -----------------------------------------------------------------


def test_calls_are_a_data_frame_with_unknown_values_missing() -> None:
    """One row per finished call, times as times."""
    pandas = pytest.importorskip("pandas")

    frame = diagnose(evidence([call(0, 5), call(9, 5, code=None, stage="training")])).calls

    assert frame["code"].tolist() == [200, pandas.NA]
    assert frame["stage"].astype(object).where(frame["stage"].notna(), None).tolist() == [
        None,
        "training",
    ]
    assert str(frame["start_time"][0]) == "2026-11-23 05:08:42+00:00"


def test_waits_are_a_data_frame_that_adds_up() -> None:
    """The DataFrame's seconds sum to the run's wait."""
    pytest.importorskip("pandas")
    answer = diagnose(compared(program(slow_route)))

    assert answer.waits["wait_s"].sum() == pytest.approx(answer.wait_s)
    assert answer.waits.iloc[0][["target", "cause"]].tolist() == ["v2", "slow_upstream"]


def test_an_empty_run_has_empty_data_frames() -> None:
    """No calls, no rows, the same columns."""
    pytest.importorskip("pandas")
    empty, full = diagnose(lasting(1, [])), diagnose(compared(program()))

    assert (len(empty.calls), len(empty.waits)) == (0, 0)
    assert list(empty.calls.columns) == list(full.calls.columns)


def test_without_pandas_the_error_names_the_extra() -> None:
    """An interpreter without pandas diagnoses all the same, and says what a DataFrame needs."""
    program_text = (
        "import sys; sys.modules['pandas'] = None\n"
        "from hand_made import *\n"
        "from meshml_dbx.diagnosis import diagnose\n"
        "from meshml_dbx.errors import MissingToolError\n"
        "try: diagnose(evidence(program())).waits\n"
        "except MissingToolError as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program_text],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(__file__).rsplit("/", 1)[0]},
    )

    assert 'pip install "meshml_dbx[local]"' in done.stdout


def test_a_notebook_shows_the_page_or_else_the_text_escaped() -> None:
    """Without a page the text is shown, and no name in it becomes markup."""
    named = run_of(program(), name="<script>alert(1)</script>")
    answer = diagnose(compared(program(), run=named))

    assert "<script>" not in answer._repr_html_()
    assert "&lt;script&gt;" in answer._repr_html_()
    assert answer.with_page("<html>page</html>")._repr_html_() == "<html>page</html>"
