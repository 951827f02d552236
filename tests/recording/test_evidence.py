"""Evidence of a run from a log folder: whose calls, in which stage, compared with what."""

import os
from pathlib import Path

import pytest

from meshml_dbx.errors import LogFolderError, UnknownRunError
from meshml_dbx.recording.evidence import read_evidence
from meshml_dbx.recording.sidecars import find_sidecars
from meshml_dbx.traffic.evidence import DROPPED_TEXT, Evidence, Ledger
from meshml_dbx.traffic.ownership import Run
from tests.log_writing import SECOND, T0, Writer, run_of

MINUTE = 60 * SECOND
OTHER = "22222222-2222-2222-2222-222222222222"


def evidence_of(
    logs: Path, run: Run, *others: Run, read_at: int = T0 + 2 * MINUTE, baseline: str | None = None
) -> Evidence:
    """The evidence of a run in a folder, read two minutes after the tests' runs began."""
    return read_evidence(logs, run, (run, *others), read_at=read_at, baseline=baseline)


def starts(evidence: Evidence) -> list[int]:
    """The numbers of the calls in evidence."""
    return [(start - T0) // 1000 for start in evidence.calls.numbers["start_time"]]


def test_a_run_has_the_calls_of_its_process_within_its_time(tmp_path: Path) -> None:
    """Calls before the run, after it and of other processes are not the run's."""
    writer = Writer(logs=tmp_path)
    writer.close(*(writer.call(n) for n in (-1, 0, 59_999, 60_000)))
    stranger = Writer(logs=tmp_path, sidecar_id="other-1", process_id=OTHER, client="other")
    stranger.close(stranger.call(5))
    evidence = evidence_of(tmp_path, run_of(writer))
    assert starts(evidence) == [0, 59_999]
    assert evidence.calls.texts["join_method"].names == ("process",)
    assert evidence.ambiguous_calls == 0


def test_calls_come_in_the_order_of_their_start_whatever_the_files(tmp_path: Path) -> None:
    """Order is by start, request id and sidecar, so that two makers agree."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(3), writer.call(1))
    writer.live(writer.call(2))
    assert starts(evidence_of(tmp_path, run_of(writer))) == [1, 2, 3]


def test_a_nested_run_takes_its_calls_from_its_parent(tmp_path: Path) -> None:
    """The innermost run that lasts at a call's start owns the call."""
    writer = Writer(logs=tmp_path)
    writer.close(*(writer.call(n) for n in (5, 15, 25)))
    parent = run_of(writer)
    child = run_of(
        writer, run_id="c", parent_run_id="4f1c0b", start_time=T0 + 10_000, end_time=T0 + 20_000
    )
    assert starts(evidence_of(tmp_path, parent, child)) == [5, 25]
    assert starts(evidence_of(tmp_path, child, parent)) == [15]


def test_siblings_in_one_process_make_the_calls_of_both_ambiguous(tmp_path: Path) -> None:
    """Of runs that overlap without nesting the later one has the call, and says so."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1), writer.call(30))
    first, second = run_of(writer), run_of(writer, run_id="s", start_time=T0 + 20_000)
    evidence = evidence_of(tmp_path, second, first)
    assert (starts(evidence), evidence.ambiguous_calls) == ([30], 1)
    assert "1 calls could belong to another run" in evidence.not_seen


def test_a_run_without_a_tag_is_joined_by_client_and_time(tmp_path: Path) -> None:
    """It has the calls that no process's run has, and the evidence says how they were joined."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    tagged = Writer(logs=tmp_path, sidecar_id="tagged-1", process_id=OTHER)
    tagged.close(tagged.call(2))
    untagged = run_of(writer, run_id="u", process_id=None, client=None)
    evidence = evidence_of(tmp_path, untagged, run_of(tagged, run_id="t"))
    assert starts(evidence) == [1]
    assert evidence.calls.texts["join_method"].names == ("window",)
    assert any("no process tag" in text for text in evidence.not_seen)


def test_a_call_that_names_its_run_is_its_alone(tmp_path: Path) -> None:
    """The header beats the process: the later of two siblings does not get it, nor any doubt."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(30, run_id="4f1c0b"), writer.call(31), writer.start(32, run_id="s"))
    first, second = run_of(writer), run_of(writer, run_id="s", start_time=T0 + 20_000)
    named, other = (evidence_of(tmp_path, *pair) for pair in ((first, second), (second, first)))
    assert (starts(named), starts(other)) == ([30], [31])
    assert named.calls.texts["join_method"].names == ("header",)
    assert (named.ambiguous_calls, other.ambiguous_calls) == (0, 1)
    assert (len(named.in_flight), len(other.in_flight)) == (0, 1)


def test_a_process_of_the_same_task_has_its_calls_in_the_run(tmp_path: Path) -> None:
    """Another client's, joined by the task run of its program's line; another task's stays out."""
    helper = Writer(logs=tmp_path, sidecar_id="helper-1", process_id=OTHER, client="helper")
    helper.close(helper.call(2), helper.call(70_000))
    job = {"job_run_id": "77", "task_run_id": "771"}
    helper.close(helper.program("begin", T0 - SECOND, **job))
    stranger = Writer(logs=tmp_path, sidecar_id="other-1", process_id="other", client="other")
    begin = stranger.program("begin", T0 - SECOND, job_run_id="77", task_run_id="772")
    stranger.close(begin, stranger.call(3))
    run = run_of(helper, process_id=None, client="churn", job_run_id="77", task_run_id="771")
    evidence = evidence_of(tmp_path, run)
    assert starts(evidence) == [2]
    assert evidence.calls.texts["join_method"].names == ("job",)
    whole = run_of(helper, process_id=None, client="churn", job_run_id="77")
    assert starts(evidence_of(tmp_path, whole)) == [2, 3]


def test_a_call_of_another_client_that_names_the_run_is_its(tmp_path: Path) -> None:
    """The header beats client and time too; what else that sidecar saw stays out."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    helper = Writer(logs=tmp_path, sidecar_id="helper-1", process_id=OTHER, client="helper")
    sample = helper.sample(T0 + SECOND, kind="last", requests_total=2, requests_active=0)
    helper.close(helper.call(2), helper.call(3, run_id="4f1c0b"), sample)
    evidence = evidence_of(tmp_path, run_of(writer))
    assert starts(evidence) == [1, 3]
    assert [evidence.calls.texts["join_method"][row] for row in (0, 1)] == ["process", "header"]
    assert (evidence.ledger.rows, evidence.ledger.lost) == (2, 0)


@pytest.mark.parametrize("named", ["ffff", "over"], ids=["unknown", "over when it began"])
def test_a_header_that_names_no_run_of_that_time_names_none(tmp_path: Path, named: str) -> None:
    """The call falls to its process: programs keep headers for longer than their run."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(30, run_id=named))
    over = run_of(writer, run_id="over", start_time=T0 - SECOND, end_time=T0 + 10_000)
    evidence = evidence_of(tmp_path, run_of(writer), over)
    assert starts(evidence) == [30]
    assert evidence.calls.texts["join_method"].names == ("process",)


def test_a_node_that_passes_headers_on_makes_no_calls_of_the_run(tmp_path: Path) -> None:
    """What a service calls while it answers is its wait, and within the program's own."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1, run_id="4f1c0b"))
    node = Writer(logs=tmp_path, sidecar_id="scoring-1", process_id=None, client=None)
    node.close(node.call(2, run_id="4f1c0b"))
    assert starts(evidence_of(tmp_path, run_of(writer))) == [1]


def test_a_past_run_has_the_calls_that_name_it(tmp_path: Path) -> None:
    """What a run is compared with is joined by the same rule."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    (past,) = past_runs(tmp_path, 1)
    moment = (past.start_time - T0) // 1000
    helper = Writer(logs=tmp_path, sidecar_id="helper-1", process_id=OTHER, client="helper")
    helper.close(helper.call(moment + 5, run_id=past.run_id), at=past.start_time + MINUTE)
    (compared,) = evidence_of(tmp_path, run_of(writer), past).baseline
    assert len(compared.calls) == 2


def test_calls_without_an_end_are_in_flight_and_tunnels_apart(tmp_path: Path) -> None:
    """Neither is a finished call; both are the run's, with their stage."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.start(1), writer.start(2), writer.call(2, method="CONNECT"))
    writer.live(writer.stage("begin", "a", T0), name="stages-17.jsonl")
    evidence = evidence_of(tmp_path, run_of(writer, end_time=None, status="RUNNING"))
    assert len(evidence.calls) == 0
    assert [(c.request_id, c.stage) for c in evidence.in_flight] == [("req-00000001", "training")]
    assert [(c.request_id, c.stage) for c in evidence.tunnels] == [("req-00000002", "training")]


def test_the_stage_is_the_headers_else_the_innermost_at_the_calls_start(tmp_path: Path) -> None:
    """A header is exact; otherwise the stage that began last and is not over has the call."""
    writer = Writer(logs=tmp_path)
    writer.close(
        *(writer.call(n) for n in (1, 15, 25, 45)),
        writer.call(16, stage="by-header"),
        writer.stage("begin", "a", T0, stage="fit"),
        writer.stage("begin", "b", T0 + 10_000, stage="load"),
        writer.stage("end", "b", T0 + 20_000, stage="load"),
        writer.stage("end", "a", T0 + 40_000, stage="fit"),
    )
    evidence = evidence_of(tmp_path, run_of(writer))
    stages = evidence.calls.texts["stage"]
    assert [stages[row] for row in range(5)] == ["fit", "load", "by-header", "fit", None]
    assert [stage.stage for stage in evidence.stages] == ["fit", "load"]


def test_attempts_are_those_of_the_runs_retried_calls(tmp_path: Path) -> None:
    """Attempts of calls of other times stay out."""
    writer = Writer(logs=tmp_path)
    lines = [
        (writer.attempt(n, 1), writer.attempt(n, 2), writer.call(n, attempts=2)) for n in (-5, 5)
    ]
    writer.close(*(line for group in lines for line in group))
    evidence = evidence_of(tmp_path, run_of(writer))
    assert [(a.request_id, a.attempt) for a in evidence.attempts] == [
        ("req-00000005", 1),
        ("req-00000005", 2),
    ]


def test_attempts_of_calls_that_share_a_request_id_are_told_apart(tmp_path: Path) -> None:
    """Of two calls at the same time with one id, only the one that was tried again has any."""
    writer = Writer(logs=tmp_path)
    one, two = ({"request_id": "shared", "connection_id": number} for number in (1, 2))
    writer.close(
        *(writer.attempt(1, n, **one) for n in (1, 2)),
        *(writer.attempt(2, 1, **two), writer.call(2, **two)),
        writer.call(1, attempts=2, **one),
    )
    found = evidence_of(tmp_path, run_of(writer)).attempts
    assert [(a.connection_id, a.attempt) for a in found] == [(1, 1), (1, 2)]


def test_refused_connections_of_any_sidecar_count_while_the_run_lasts(tmp_path: Path) -> None:
    """The called node's sidecar has the reason of a refusal that the caller cannot see."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    node = Writer(
        logs=tmp_path, sidecar_id="labels-1", process_id=None, client=None, observer="ingress"
    )
    node.close(*(node.refused(T0 + second * SECOND) for second in (-1, 1, 61)), node.call(1))
    found = evidence_of(tmp_path, run_of(writer)).connections
    assert [(c.sidecar_id, c.start_time) for c in found] == [("labels-1", T0 + SECOND)]


def test_cpu_is_the_samples_between_the_runs_begin_and_end(tmp_path: Path) -> None:
    """Between samples the counter is taken to rise evenly; time outside the run does not count."""
    writer = Writer(logs=tmp_path)
    writer.close(
        writer.call(1),
        *(
            writer.sample(T0 + s * SECOND, cpu_us=c * SECOND)
            for s, c in ((-10, 0), (10, 10), (50, 20), (70, 40))
        ),
    )
    evidence = evidence_of(tmp_path, run_of(writer))
    assert evidence.cpu_s == pytest.approx(25.0)


def test_without_samples_the_cpu_is_unknown_not_zero(tmp_path: Path) -> None:
    """What was not sampled is None and named among what was not seen."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    evidence = evidence_of(tmp_path, run_of(writer))
    assert evidence.cpu_s is None
    assert evidence.not_seen == ("no sample of the program's CPU",)


def test_the_mesh_documents_are_those_that_calls_crossed(tmp_path: Path) -> None:
    """A mesh that no call of the run crossed is not evidence."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.mesh("v1", "mesh: {}"), writer.mesh("v2", "mesh: {x: 1}"), writer.call(1))
    found = evidence_of(tmp_path, run_of(writer)).mesh_documents
    assert found == {"v1": ("mesh.yml", "mesh: {}")}


def ledger_of_two_calls(
    tmp_path: Path, *extra: bytes, writer: Writer, read_at: int = T0 + 2 * MINUTE
) -> Ledger:
    """The ledger of a run with two recorded calls."""
    writer.close(writer.call(1), writer.call(2), *extra)
    return evidence_of(tmp_path, run_of(writer), read_at=read_at).ledger


def test_a_whole_ledger_has_the_same_number_everywhere(tmp_path: Path) -> None:
    """Sent, proxied and rows agree, and nothing is lost."""
    writer = Writer(logs=tmp_path)
    last = writer.sample(T0 + MINUTE, kind="last", requests_total=2, requests_active=0)
    stages = (
        writer.stage("begin", "a", T0, run_id="4f1c0b"),
        writer.stage("end", "a", T0 + SECOND, sent=2),
    )
    found = ledger_of_two_calls(tmp_path, last, *stages, writer=writer)
    assert found == Ledger(sent=2, proxied=2, rows=2)


def test_calls_past_the_proxy_are_not_seen(tmp_path: Path) -> None:
    """The program counted more than its proxy: the rest went another way, and that is said."""
    writer = Writer(logs=tmp_path)
    writer.close(
        *(writer.call(1), writer.stage("begin", "a", T0, run_id="4f1c0b")),
        writer.stage("end", "a", T0 + SECOND, sent=5),
        writer.sample(T0 + MINUTE, kind="last", requests_total=1, requests_active=0, cpu_us=1),
        writer.sample(T0, cpu_us=0),
    )
    evidence = evidence_of(tmp_path, run_of(writer))
    assert evidence.not_seen == ("4 calls that the program counted did not pass the proxy",)


def test_a_killed_sidecar_explains_what_is_lost(tmp_path: Path) -> None:
    """What the counter has and no line tells of is lost, and the ledger says why it can be."""
    writer = Writer(logs=tmp_path)
    sample = writer.sample(T0 + SECOND, requests_total=6, requests_active=1)
    found = ledger_of_two_calls(tmp_path, sample, writer=writer)
    assert (found.proxied, found.rows, found.lost) == (5, 2, 3)
    assert found.explained == (
        "churn-training-0a1b2c3d: the sidecar was killed: up to 200 ms of its log "
        "were still in memory",
    )


def test_a_living_sidecar_is_not_called_killed(tmp_path: Path) -> None:
    """A sample of just now means that the rest of the log may still come."""
    writer = Writer(logs=tmp_path)
    sample = writer.sample(T0 + SECOND, requests_total=3, requests_active=0)
    found = ledger_of_two_calls(tmp_path, sample, writer=writer, read_at=T0 + 2 * SECOND)
    assert "is still running" in found.explained[0]


def test_a_loss_at_a_clean_end_stays_unexplained(tmp_path: Path) -> None:
    """Where nothing was killed and no line is bad, the ledger makes no excuse."""
    writer = Writer(logs=tmp_path)
    last = writer.sample(T0 + SECOND, kind="last", requests_total=3, requests_active=0)
    found = ledger_of_two_calls(tmp_path, last, writer=writer)
    assert (found.lost, found.explained) == (1, ())


def test_lines_newer_than_the_counter_raise_it(tmp_path: Path) -> None:
    """A counter of a second ago does not make calls of now disappear."""
    writer = Writer(logs=tmp_path)
    sample = writer.sample(T0, requests_total=1, requests_active=1)
    found = ledger_of_two_calls(tmp_path, sample, writer=writer)
    assert (found.proxied, found.rows, found.lost) == (2, 2, 0)


def test_bad_lines_are_counted_and_explain_a_loss(tmp_path: Path) -> None:
    """A call whose line cannot be read is lost from the rows and found in quarantine."""
    writer = Writer(logs=tmp_path)
    last = writer.sample(T0 + SECOND, kind="last", requests_total=3, requests_active=0)
    found = ledger_of_two_calls(tmp_path, b"\x00noise\n", last, writer=writer)
    assert (found.quarantined, found.lost) == (1, 1)
    assert found.explained == ("churn-training-0a1b2c3d: 1 lines of its log cannot be read",)


def test_a_sidecars_other_calls_are_not_the_runs_loss(tmp_path: Path) -> None:
    """Calls of other runs, outside any run and tunnels are taken off the counter."""
    writer = Writer(logs=tmp_path)
    last = writer.sample(T0 + SECOND, kind="last", requests_total=5, requests_active=0)
    others = (writer.call(-9), writer.call(70_000), writer.call(3, method="CONNECT"))
    found = ledger_of_two_calls(tmp_path, *others, last, writer=writer)
    assert found == Ledger(proxied=2, rows=2)


def test_files_closed_before_the_run_are_skimmed_and_still_counted(tmp_path: Path) -> None:
    """A notebook's old runs cost no parsing, and the ledger of the new one comes out even."""
    writer = Writer(logs=tmp_path)
    early = writer.stage("begin", "a", T0 - 20 * SECOND, stage="session")
    noise = b"noise of another time\n"
    lines = (writer.mesh("v1", "mesh: {}"), early, noise, writer.call(-9_000))
    writer.close(*lines, at=T0 - 5 * SECOND)
    last = writer.sample(T0 + SECOND, kind="last", requests_total=2, requests_active=0)
    writer.close(writer.call(1), last)
    evidence = evidence_of(tmp_path, run_of(writer))
    assert evidence.ledger == Ledger(proxied=1, rows=1)
    assert evidence.calls.texts["stage"].names == ("session",)
    assert set(evidence.mesh_documents) == {"v1"}


def test_sidecars_that_stopped_before_the_run_are_not_even_opened(tmp_path: Path) -> None:
    """The names of closed files and the times of live ones tell that enough."""
    old, new = Writer(logs=tmp_path, sidecar_id="old-1"), Writer(logs=tmp_path)
    old.close(old.call(-MINUTE // 1000), at=T0 - MINUTE // 2)
    stale = old.live(old.call(-40_000))
    os.utime(stale, ns=(0, (T0 - MINUTE // 2) * 1000))
    new.close(new.call(1))
    found = find_sidecars(tmp_path, since=T0)
    assert [sidecar.folder.sidecar_id for sidecar in found] == [new.sidecar_id]


def recorders(logs: Path, count: int, **over: str) -> list[Writer]:
    """Recorders of one program: its own, and those of its forked children or Spark executors."""
    values: dict[str, str] = {"observer": "client", **over}
    return [
        Writer(logs=logs, sidecar_id=f"churn-training-{number:08x}", **values)  # type: ignore[arg-type]  # of the right types
        for number in range(count)
    ]


def recorded(one: Writer, number: int, **over: object) -> tuple[bytes, ...]:
    """What a recorder writes of one call and the two CPU seconds that it takes."""
    end = {"requests_total": 1, "requests_active": 0, "cpu_us": 2 * SECOND, "dropped": 0}
    return (
        one.program("begin", T0),
        one.call(number, **over),
        one.sample(T0 + SECOND, requests_total=1, requests_active=1, cpu_us=SECOND),
        one.sample(T0 + 2 * SECOND, kind="last", **end),
        one.program("end", T0 + 2 * SECOND, cpu_us=2 * SECOND),
    )


def test_every_recorder_of_the_process_adds_calls_cpu_and_counts(tmp_path: Path) -> None:
    """Children and executors write folders of their own under the program's process id."""
    for number, one in enumerate(recorders(tmp_path, 3)):
        one.close(*recorded(one, number, spark_stage=7, spark_partition=number))
    evidence = evidence_of(tmp_path, run_of(Writer(logs=tmp_path)))
    assert starts(evidence) == [0, 1, 2]
    assert evidence.calls.texts["join_method"].names == ("process",)
    assert evidence.calls.texts["observer"].names == ("client",)
    assert list(evidence.calls.numbers["resource"]) == [2**62, 2**62 + 1, 2**62 + 2]
    assert evidence.cpu_s == pytest.approx(6.0)
    assert evidence.ledger == Ledger(proxied=3, rows=3)
    assert evidence.not_seen == ()


def test_recorded_calls_that_name_their_run_are_its_alone(tmp_path: Path) -> None:
    """The run in the line beats the process, on every recorder of it."""
    first, second = run_of(Writer(logs=tmp_path)), run_of(Writer(logs=tmp_path), run_id="s")
    for number, one in enumerate(recorders(tmp_path, 2)):
        other = one.call(9 + number, run_id="s")
        one.close(*recorded(one, number, run_id=first.run_id), other)
    named, rest = (evidence_of(tmp_path, *pair) for pair in ((first, second), (second, first)))
    assert (starts(named), starts(rest)) == ([0, 1], [9, 10])
    assert named.calls.texts["join_method"].names == ("header",)
    assert (named.ambiguous_calls, rest.ambiguous_calls) == (0, 0)


def test_recorded_calls_fall_to_an_untagged_run_by_client_and_time(tmp_path: Path) -> None:
    """Every recorder of a client counts, whatever its process, and the evidence says how."""
    for number, one in enumerate(recorders(tmp_path, 2)):
        one.process_id = f"{number}{OTHER[1:]}"
        one.close(*recorded(one, number))
    evidence = evidence_of(tmp_path, run_of(Writer(logs=tmp_path), process_id=None))
    assert starts(evidence) == [0, 1]
    assert evidence.calls.texts["join_method"].names == ("window",)
    assert evidence.cpu_s == pytest.approx(4.0)
    assert evidence.ledger.rows == 2


def test_tries_of_a_recorded_call_are_its_attempts(tmp_path: Path) -> None:
    """Tries within one call of the library have lines; calls made again by the program have none.

    The number of such a call is that of the try that it is.
    """
    (one,) = recorders(tmp_path, 1)
    tries = (one.attempt(1, n) for n in (1, 2, 3))
    one.close(*tries, one.call(1, attempts=3), one.attempt(2, 1), one.call(2, attempt=4))
    evidence = evidence_of(tmp_path, run_of(one))
    assert [(a.request_id, a.attempt) for a in evidence.attempts] == [
        ("req-00000001", 1),
        ("req-00000001", 2),
        ("req-00000001", 3),
    ]
    assert list(evidence.calls.numbers["attempt"]) == [1, 4]
    assert list(evidence.calls.numbers["attempts"]) == [3, 1]


def test_a_recorder_says_how_many_ends_it_dropped(tmp_path: Path) -> None:
    """What its queue could not hold is lost, and explained in a recorder's words."""
    (one,) = recorders(tmp_path, 1)
    last = one.sample(T0 + SECOND, kind="last", requests_total=5, requests_active=0, dropped=3)
    found = ledger_of_two_calls(tmp_path, one.start(3), last, writer=one)
    assert (found.proxied, found.rows, found.lost) == (5, 2, 3)
    assert found.explained == (f"churn-training-00000000: 3 calls {DROPPED_TEXT}",)
    assert evidence_of(tmp_path, run_of(one)).in_flight == ()


def test_a_recorder_that_ended_before_the_run_is_not_its_affair(tmp_path: Path) -> None:
    """A notebook records more than once: what was lost then is no gap of this run."""
    early, late = recorders(tmp_path, 2)
    lost = early.sample(T0 - SECOND // 10, kind="last", requests_total=9, requests_active=0)
    early.close(early.call(-200), lost, at=T0)
    late.close(*recorded(late, 1))
    evidence = evidence_of(tmp_path, run_of(late))
    assert evidence.ledger == Ledger(proxied=1, rows=1)


def test_a_recorder_that_began_late_in_its_process_counts_no_cpu_of_before(tmp_path: Path) -> None:
    """Where the begin of a program says how much was used until then, that is not the run's."""
    (one,) = recorders(tmp_path, 1)
    begin = one.program("begin", T0 + SECOND, cpu_us=500 * SECOND)
    one.close(begin, one.call(1), one.sample(T0 + 3 * SECOND, cpu_us=501 * SECOND))
    assert evidence_of(tmp_path, run_of(one)).cpu_s == pytest.approx(1.0)


def test_a_recorder_is_known_by_the_line_that_it_begins_with(tmp_path: Path) -> None:
    """Whom it serves and that it is one, before any call."""
    (one,) = recorders(tmp_path, 1)
    one.live(one.sample(T0), one.program("begin", T0))
    (found,) = find_sidecars(tmp_path, since=T0)
    assert (found.known, found.observer, found.process_id, found.client) == (
        *(True, "client", one.process_id),
        one.client,
    )


def past_runs(tmp_path: Path, count: int, **over: object) -> list[Run]:
    """Finished runs of a minute each before T0, oldest first, with one call each."""
    runs = []
    for number in range(count):
        begin = T0 - (count - number) * 2 * MINUTE
        writer = Writer(logs=tmp_path, sidecar_id=f"past-{number}", process_id=f"past-{number}")
        writer.close(writer.call((begin - T0) // 1000 + 1), at=begin + MINUTE)
        times = {"start_time": begin, "end_time": begin + MINUTE}
        runs.append(run_of(writer, run_id=f"past{number}", **(times | over)))
    return runs


def test_the_baseline_is_the_last_five_finished_runs(tmp_path: Path) -> None:
    """The same experiment and client, newest first, each with its own calls."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    evidence = evidence_of(tmp_path, run_of(writer), *past_runs(tmp_path, 7))
    found = [(past.run.run_id, len(past.calls)) for past in evidence.baseline]
    assert found == [(f"past{number}", 1) for number in (6, 5, 4, 3, 2)]
    assert evidence.baseline_kind == "recent"


@pytest.mark.parametrize(
    "unlike", [{"status": "FAILED"}, {"experiment_id": "2"}, {"client": "other"}]
)
def test_unlike_runs_are_no_baseline(tmp_path: Path, unlike: dict[str, object]) -> None:
    """Failed runs, other experiments and other clients say nothing about this one."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    evidence = evidence_of(tmp_path, run_of(writer), *past_runs(tmp_path, 2, **unlike))
    assert (evidence.baseline, evidence.baseline_kind) == ((), "none")


def test_a_named_baseline_is_taken_whatever_it_is(tmp_path: Path) -> None:
    """The person who names a run knows better than the rule."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    failed = past_runs(tmp_path, 2, status="FAILED")
    evidence = evidence_of(tmp_path, run_of(writer), *failed, baseline="past0")
    assert [past.run.run_id for past in evidence.baseline] == ["past0"]
    assert evidence.baseline_kind == "named"


def test_an_unknown_baseline_is_an_error(tmp_path: Path) -> None:
    """No silent fall-back to another comparison than the one asked for."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    with pytest.raises(UnknownRunError, match="ffff"):
        evidence_of(tmp_path, run_of(writer), baseline="ffff")


def test_a_run_that_no_sidecar_saw_says_so(tmp_path: Path) -> None:
    """Nothing recorded is no error here: the answer is unknown, and why."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1))
    elsewhere = run_of(writer, process_id=OTHER, client="other")
    evidence = evidence_of(tmp_path, elsewhere)
    assert len(evidence.calls) == 0
    assert "no call of the run was recorded" in evidence.not_seen


def test_a_missing_log_folder_is_an_error(tmp_path: Path) -> None:
    """An answer from a folder that is not there would be an answer about nothing."""
    with pytest.raises(LogFolderError):
        evidence_of(tmp_path / "none", run_of(Writer(logs=tmp_path)))


def test_a_sidecar_whose_first_lines_are_noise_is_read_all_the_same(tmp_path: Path) -> None:
    """When no line says early whom a sidecar served, its calls still find their run."""
    writer = Writer(logs=tmp_path)
    writer.close(b"\x00" * 100_000 + b"\n", writer.call(1))
    evidence = evidence_of(tmp_path, run_of(writer))
    assert (starts(evidence), evidence.ledger.quarantined) == ([1], 1)
