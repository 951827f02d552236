"""The rules that both makers of evidence share: columns, ledger, baseline, CPU, stages, gaps."""

import random

import pytest

from meshml_dbx.traffic.call import Attempt, Call
from meshml_dbx.traffic.evidence import (
    COUNTED_BY_PROGRAM,
    DROPPED_TEXT,
    NUMBER_COLUMNS,
    PAST_THE_PROXY,
    RECENT_RUNS,
    TEXT_COLUMNS,
    UNKNOWN,
    CallColumns,
    Coded,
    Ledger,
    Retried,
    SidecarCount,
    attempts_of,
    calls_sent,
    cpu_seconds,
    ledger_of,
    recent_runs,
    stages_during,
    unseen,
)
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.program_log import Stage

SECOND = 1_000_000


def run(number: int = 9, **over: object) -> Run:
    """A finished run; higher numbers began later."""
    values: dict[str, object] = {
        "run_id": f"r{number}",
        "name": "churn",
        "experiment_id": "1",
        "status": "FINISHED",
        "start_time": number * 100,
        "end_time": number * 100 + 50,
        "process_id": f"p{number}",
        "client": "churn",
    }
    return Run(**(values | over))  # type: ignore[arg-type]  # tests override fields by name


def call(number: int, **over: object) -> Call:
    """A finished call."""
    values: dict[str, object] = {
        "type": "DownstreamEnd",
        "start_time": number,
        "observer": "egress",
        "sidecar_id": "churn-1",
        "request_id": f"req-{number}",
    }
    return Call(**(values | over))  # type: ignore[arg-type]  # tests override fields by name


# --- columns ------------------------------------------------------------------------------------


def test_columns_are_in_one_order_whatever_the_calls_came_in() -> None:
    """Start, then request id, then sidecar: two makers of the same evidence are equal."""
    calls = [call(n % 7, request_id=f"q{n % 3}", sidecar_id=f"s{n}") for n in range(30)]
    shuffled = random.Random(7).sample(calls, k=len(calls))
    assert CallColumns.of(shuffled) == CallColumns.of(calls)


def test_a_row_of_columns_is_a_call() -> None:
    """Each value is found in its column, and what is not known is marked as such."""
    columns = CallColumns.of(
        [call(3, code=503, target="labels-v2", total_us=1_234), call(1)], ["process", "window"]
    )
    assert columns.request_ids == ("req-1", "req-3")
    assert list(columns.numbers["code"]) == [UNKNOWN, 503]
    assert list(columns.numbers["duration_us"]) == [0, 1_234]
    assert [columns.texts["target"][row] for row in (0, 1)] == [None, "labels-v2"]
    assert [columns.texts["join_method"][row] for row in (0, 1)] == ["window", "process"]


def test_every_column_is_there_also_without_a_call() -> None:
    """Readers need not ask whether a column exists."""
    empty = CallColumns.of([])
    assert (tuple(empty.numbers), tuple(empty.texts)) == (NUMBER_COLUMNS, TEXT_COLUMNS)
    assert len(empty) == 0


def test_as_many_methods_as_calls() -> None:
    """A method too few would join every later call wrongly."""
    with pytest.raises(ValueError, match="shorter"):
        CallColumns.of([call(1), call(2)], ["process"])


@pytest.mark.parametrize("values", [[], [None], ["a"], ["b", None, "a", "b"], ["", "é", "-"]])
def test_coded_texts_come_back(values: list[str | None]) -> None:
    """Codes are a smaller spelling of the same column."""
    coded = Coded.of(values)
    assert [coded[row] for row in range(len(coded))] == values
    assert list(coded.names) == sorted({value for value in values if value is not None})


# --- the ledger ---------------------------------------------------------------------------------


def count(**over: object) -> SidecarCount:
    """A sidecar that ended well and of which all is known."""
    values: dict[str, object] = {
        "sidecar_id": "churn-1",
        "rows": 3,
        "counted": 3,
        "counted_at": 0,
        "ended": True,
    }
    return SidecarCount(**(values | over))  # type: ignore[arg-type]  # tests override fields


def test_a_whole_ledger_adds_its_sidecars_up() -> None:
    """Nothing is lost, and nothing needs an explanation."""
    counts = [count(), count(sidecar_id="churn-2", rows=2, others=5, counted=7)]
    assert ledger_of(counts, sent=5, read_at=0) == Ledger(sent=5, proxied=5, rows=5)


def test_what_the_counter_has_and_no_line_is_lost() -> None:
    """A loss at a clean end is not explained away."""
    found = ledger_of([count(counted=5)], sent=None, read_at=0)
    assert (found.proxied, found.rows, found.lost, found.explained) == (5, 3, 2, ())


CLIENT: dict[str, object] = {"observer": "client"}


@pytest.mark.parametrize(
    ("over", "read_at", "words"),
    [
        ({"ended": False}, 2 * SECOND, "is still running"),
        ({"ended": False}, 9 * SECOND, "was killed"),
        ({"quarantined": 2}, 0, "2 lines of its log cannot be read"),
        (CLIENT | {"ended": False}, 2 * SECOND, "the process is still running"),
        (CLIENT | {"ended": False}, 9 * SECOND, "the process was killed: up to 200 ms of its log"),
        (
            CLIENT | {"dropped": 1},
            0,
            f"1 call {DROPPED_TEXT}",
        ),
        (CLIENT | {"dropped": 1, "ended": False}, 9 * SECOND, "1 call dropped"),
    ],
)
def test_a_loss_is_explained_where_it_can_be(
    over: dict[str, object], read_at: int, words: str
) -> None:
    """By what is known: the sidecar lives, was killed, or wrote what cannot be read."""
    found = ledger_of([count(**({"counted": 4} | over))], sent=None, read_at=read_at)
    assert found.lost == 1
    assert [words in text and text.startswith("churn-1: ") for text in found.explained] == [True]


def test_a_recorder_that_dropped_and_was_killed_says_both() -> None:
    """More is lost than was dropped: the rest was in memory."""
    lossy = count(counted=9, dropped=2, ended=False, **CLIENT)
    found = ledger_of([lossy], sent=None, read_at=9 * SECOND)
    assert (found.lost, found.explained) == (
        6,
        (
            f"churn-1: 2 calls {DROPPED_TEXT}",
            "churn-1: the process was killed: up to 200 ms of its log were still in memory",
        ),
    )


def test_no_more_calls_are_called_dropped_than_are_lost() -> None:
    """A recorder of many runs dropped some of theirs: this run lost one."""
    found = ledger_of([count(counted=4, dropped=70, **CLIENT)], sent=None, read_at=0)
    assert found.explained == (f"churn-1: 1 call {DROPPED_TEXT}",)


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({}, True),
        ({"counted_at": 899, "begun_at": 5}, False),
        ({"counted_at": 899, "ended": False}, True),
        ({"counted_at": 901, "begun_at": 949}, True),
        ({"counted_at": 999, "begun_at": 950}, False),
        ({"counted_at": None, "ended": False}, True),
    ],
)
def test_a_recorder_of_another_time_is_not_the_runs_affair(
    over: dict[str, object], *, expected: bool
) -> None:
    """One that had ended before the run began, or began after it; in doubt it was there."""
    assert count(**({"counted_at": 901} | over)).lasted_during(run(9)) is expected


def test_without_a_counter_nothing_is_proxied_and_the_ledger_says_so() -> None:
    """Unknown is not zero."""
    found = ledger_of([count(counted=None, counted_at=None, ended=False)], sent=3, read_at=0)
    assert found == Ledger(
        sent=3, proxied=None, rows=3, explained=("churn-1: no sample of the proxy's counters",)
    )


def test_without_a_counter_a_recorder_is_not_called_a_proxy() -> None:
    """The words are of what was there."""
    unknown = count(counted=None, counted_at=None, ended=False, **CLIENT)
    found = ledger_of([unknown], sent=None, read_at=0)
    assert found.explained == ("churn-1: no sample of the recorder's counters",)


def test_one_sidecar_without_a_counter_does_not_hide_anothers_loss() -> None:
    """Its rows stand for what it proxied."""
    counts = [count(counted=None, ended=False), count(sidecar_id="churn-2", counted=4)]
    found = ledger_of(counts, sent=None, read_at=0)
    assert (found.proxied, found.rows, found.lost) == (7, 6, 1)


def test_lines_newer_than_the_counter_are_no_gain() -> None:
    """A sample of a second ago is behind the lines, never ahead of nothing."""
    found = ledger_of([count(counted=1, others=1, ended=False)], sent=None, read_at=0)
    assert (found.proxied, found.lost, found.explained) == (3, 0, ())


# --- what a run is compared with ----------------------------------------------------------------


def test_recent_runs_are_the_last_finished_ones_before_it() -> None:
    """Newest first, no more than five, and never the run itself or a later one."""
    runs = [run(n) for n in range(12)]
    assert [r.run_id for r in recent_runs(run(9), runs)] == ["r8", "r7", "r6", "r5", "r4"]
    assert len(recent_runs(run(9), runs)) == RECENT_RUNS


@pytest.mark.parametrize(
    "unlike",
    [
        *({"status": "FAILED"}, {"status": "RUNNING"}, {"status": "KILLED"}),
        *({"experiment_id": "2"}, {"client": "other"}, {"client": None}),
    ],
    ids=str,
)
def test_an_unlike_run_is_no_baseline(unlike: dict[str, object]) -> None:
    """Only like is compared with like."""
    assert recent_runs(run(9), [run(1, **unlike), run(2)]) == (run(2),)


# --- CPU ----------------------------------------------------------------------------------------

RISING = [(0, 0), (10 * SECOND, 10 * SECOND), (20 * SECOND, 10 * SECOND)]


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [(0, 10, 10.0), (5, 10, 5.0), (5, 15, 5.0), (10, 20, 0.0), (-5, 5, 5.0), (15, 99, 0.0)],
)
def test_cpu_is_the_rise_of_the_counter(start_s: int, end_s: int, expected: float) -> None:
    """Between samples it rises evenly, outside of them it stands still."""
    assert cpu_seconds(RISING, start_s * SECOND, end_s * SECOND) == pytest.approx(expected)


@pytest.mark.parametrize("samples", [[], [(0, 0)], [(5, 1), (5, 1)]])
def test_cpu_of_less_than_two_samples_is_unknown(samples: list[tuple[int, int]]) -> None:
    """One point makes no line, also when it is told twice."""
    assert cpu_seconds(samples, 0, 9) is None


def test_the_parts_of_a_run_have_its_cpu_in_sum() -> None:
    """Cutting a span in two loses and makes no CPU time."""
    chance = random.Random(5)
    points = sorted((chance.randrange(10**8), chance.randrange(10**7)) for _ in range(30))
    samples = list(zip((t for t, _ in points), sorted(c for _, c in points), strict=True))
    whole = cpu_seconds(samples, 0, 10**8) or 0.0
    for cut in range(0, 10**8, 7_777_777):
        parts = (cpu_seconds(samples, 0, cut) or 0.0) + (cpu_seconds(samples, cut, 10**8) or 0.0)
        assert parts == pytest.approx(whole)


# --- stages -------------------------------------------------------------------------------------


def stage(name: str, start: int, end: int | None, **over: object) -> Stage:
    """A stage of the run's process."""
    values: dict[str, object] = {
        "stage": name,
        "stage_id": name,
        "process_id": "p9",
        "start_time": start,
        "end_time": end,
    }
    return Stage(**(values | over))  # type: ignore[arg-type]  # tests override fields by name


def test_stages_during_a_run_are_those_of_its_processes_at_that_time() -> None:
    """What ended before it, began after it, or is another process's stays out."""
    kept = [stage("around", 0, 2_000), stage("inside", 910, 920), stage("open", 930, None)]
    out = [
        stage("before", 0, 900),
        stage("after", 950, 960),
        stage("else", 910, 920, process_id="x"),
    ]
    found = stages_during(run(9), [*reversed(kept), *out], processes=["p9"], read_at=5_000)
    assert [one.stage for one in found] == ["around", "inside", "open"]


def test_stages_of_a_run_that_lasts_are_those_until_now() -> None:
    """Its end is when the evidence is read."""
    stages = [stage("begun", 2_000, None), stage("later", 3_000, None)]
    found = stages_during(run(9, end_time=None), stages, processes=["p9"], read_at=2_500)
    assert [one.stage for one in found] == ["begun"]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], None),
        ([stage("a", 910, 920)], None),
        ([stage("a", 910, 920, sent=0)], 0),
        ([stage("a", 910, 920, sent=3, run_id="r9"), stage("b", 930, 940, sent=4)], 7),
        ([stage("a", 910, 920, sent=3), stage("b", 930, 940)], 3),
        ([stage("a", 910, 920, sent=3, run_id="r9"), stage("b", 930, 940, sent=4, run_id="x")], 3),
        ([stage("around", 100, 2_000, sent=9)], None),
    ],
)
def test_what_a_program_sent_is_what_it_counted_in_this_run(
    stages: list[Stage], expected: int | None
) -> None:
    """Not counted is not zero; a stage of another run, or begun before this one, is not its."""
    assert calls_sent(run(9), stages) == expected


# --- what was not seen --------------------------------------------------------------------------

SEEN = {
    "calls": 3,
    "open_calls": (),
    "ambiguous_calls": 0,
    "windowed_calls": 0,
    "cpu_s": 1.0,
}


def test_where_all_was_seen_nothing_is_listed() -> None:
    """No caveat without a reason."""
    assert unseen(run(9), **SEEN) == ()  # type: ignore[arg-type]  # of the right types, above


@pytest.mark.parametrize(
    ("over", "process_id", "words"),
    [
        ({"calls": 0}, "p9", "no call of the run was recorded"),
        ({"cpu_s": None}, "p9", "no sample of the program's CPU"),
        ({"ambiguous_calls": 2}, "p9", "2 calls could belong to another run"),
        ({"windowed_calls": 2}, "p9", "2 calls are joined by client and time only"),
        ({"windowed_calls": 3}, None, "the run carries no process tag"),
        ({"open_calls": (call(1),)}, None, "the run carries no process tag"),
    ],
)
def test_each_gap_is_said_once(over: dict[str, object], process_id: str | None, words: str) -> None:
    """In words that the answer shows as they are."""
    found = unseen(run(9, process_id=process_id), **(SEEN | over))  # type: ignore[arg-type]  # as above
    assert [words in text for text in found] == [True]


def test_an_untagged_run_whose_calls_all_name_it_lacks_nothing() -> None:
    """Calls joined by their header are certain: no caveat about client and time."""
    flying = call(1, type="DownstreamPeriodic", run_id="r9")
    assert unseen(run(9, process_id=None), **(SEEN | {"open_calls": (flying,)})) == ()  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("sent", "counts", "open_calls", "said"),
    [
        (None, [count()], [], ()),
        (3, [count()], [], ()),
        (2, [count()], [], ()),
        (9, [], [], ()),
        (9, [count(counted=None)], [], ()),
        (4, [count()], [call(1)], ()),
        (4, [count()], [], ("1 call that the program counted did not pass the proxy",)),
        (7, [count(rows=0, counted=0)], [], (f"7 calls {PAST_THE_PROXY}",)),
    ],
)
def test_calls_that_only_the_program_counted_are_named(
    sent: int | None, counts: list[SidecarCount], open_calls: list[Call], said: tuple[str, ...]
) -> None:
    """As many as are missing; those in flight are not, and without a counter nobody can say."""
    over = {"sent": sent, "counts": counts, "open_calls": open_calls}
    assert unseen(run(9), **(SEEN | over)) == said  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("counts", "open_calls", "words"),
    [
        ([count(others=2, counted=5)], [], "inside an https connection or as another run's"),
        ([count()], [call(1, method="CONNECT")], "inside an https connection"),
        ([count(ended=False)], [], "just before its log was read or cut off"),
    ],
)
def test_calls_that_may_have_passed_after_all_are_not_called_past_the_proxy_for_certain(
    counts: list[SidecarCount], open_calls: list[Call], words: str
) -> None:
    """A nested run, a tunnel or a log that is still being written may hold what is missing."""
    over = {"sent": 9, "counts": counts, "open_calls": open_calls}
    (text,) = unseen(run(9), **(SEEN | over))  # type: ignore[arg-type]  # as above
    assert text.startswith(f"6 calls {PAST_THE_PROXY}, or passed it {words}")


@pytest.mark.parametrize(
    ("sent", "over", "said"),
    [
        (3, {}, ()),
        (4, {}, ("1 call that the program counted was not recorded",)),
        (9, {}, ("6 calls that the program counted were not recorded",)),
        (
            9,
            {"others": 2, "counted": 5, "ended": False},
            (
                "6 calls that the program counted were not recorded, or were recorded as "
                "another run's or just before its log was read or cut off",
            ),
        ),
    ],
)
def test_calls_that_a_recorder_missed_passed_no_proxy(
    sent: int, over: dict[str, object], said: tuple[str, ...]
) -> None:
    """Without a proxy nothing went past one; also where another process of the run has one."""
    for counts in ([count(**(CLIENT | over))], [count(**over), count(rows=0, counted=0, **CLIENT)]):
        found = unseen(run(9), **(SEEN | {"sent": sent, "counts": counts}))  # type: ignore[arg-type]  # as above
        assert found == said
        assert all(COUNTED_BY_PROGRAM in text for text in found)


# --- attempts -----------------------------------------------------------------------------------


def attempt(start: int, **over: object) -> Attempt:
    """An attempt of the call on connection 1."""
    values: dict[str, object] = {
        "start_time": start,
        "observer": "egress",
        "sidecar_id": "churn-1",
        "request_id": "shared",
        "connection_id": 1,
    }
    return Attempt(**(values | over))  # type: ignore[arg-type]  # tests override fields by name


def retried(start: int, end: int | None, connection: int = 1) -> Retried:
    """A call that was tried more than once."""
    return Retried(
        sidecar_id="churn-1",
        request_id="shared",
        connection_id=connection,
        start_time=start,
        end_time=end,
    )


def test_an_attempt_is_of_the_call_that_was_in_flight_on_its_connection() -> None:
    """Others with the same request id, before, after, elsewhere and at the same time, stay out."""
    own = [attempt(10), attempt(15), attempt(20), attempt(40), attempt(12, connection_id=2)]
    others = [
        *(attempt(9), attempt(21), attempt(39), attempt(51), attempt(12, connection_id=3)),
        *(attempt(12, sidecar_id="churn-2"), attempt(12, request_id="else")),
    ]
    calls = [retried(40, 50), retried(10, 20), retried(11, 13, connection=2)]
    found = attempts_of(calls, [*others, *reversed(own)])
    assert found == tuple(sorted(own, key=lambda one: one.start_time))


def test_a_call_in_flight_has_every_attempt_since_it_began() -> None:
    """It has no end yet."""
    assert attempts_of([retried(10, None)], [attempt(9), attempt(99)]) == (attempt(99),)


@pytest.mark.timeout(30)
def test_one_request_id_for_all_calls_costs_no_time() -> None:
    """A program that sends the same id ten thousand times on one connection."""
    calls = [retried(n * 10, n * 10 + 5) for n in range(10_000)]
    attempts = [attempt(n * 10 + part) for n in range(10_000) for part in (0, 3)]
    assert len(attempts_of(calls, attempts)) == 20_000
