"""Patterns of the program's own calls: what each needs to be told, and what it would save."""

import json
import time
from array import array
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from meshml_dbx.diagnosis import CAUSES, diagnose, json_text
from meshml_dbx.diagnosis.case import Case, lay_out, sort_out
from meshml_dbx.diagnosis.diagnosis import Habit
from meshml_dbx.diagnosis.groups import folds_of
from meshml_dbx.diagnosis.habits import KINDS, MOST_HABITS, find_habits
from meshml_dbx.diagnosis.rank import find_suspects
from meshml_dbx.diagnosis.repeats import find_repeats
from meshml_dbx.diagnosis.report import render_page
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns, Coded, Evidence
from tests.diagnosis.browser import measure, needs_browser
from tests.diagnosis.client_made import own, row_of, side_by_side, tried
from tests.diagnosis.hand_made import BEGIN, SECOND, call, evidence, past, program, run_of
from tests.diagnosis.sample import sample_evidence, stuck_evidence


def habits(calls: list[Call], **changes: object) -> tuple[Habit, ...]:
    """The habits of a run with these calls that used hardly any CPU."""
    return diagnose(evidence(calls, **{"cpu_s": 0.1} | changes)).habits


def kinds(calls: list[Call], **changes: object) -> list[str]:
    """What the habits of such a run are called."""
    return [one.kind for one in habits(calls, **changes)]


def habit(calls: list[Call], **changes: object) -> Habit:
    """The one habit of such a run."""
    (only,) = habits(calls, **changes)
    return only


def lasting(calls: list[Call], seconds: float) -> dict[str, object]:
    """The same run, so long."""
    return {"run": run_of(calls, end_time=BEGIN + round(seconds * SECOND))}


# --- none -------------------------------------------------------------------------------------


def test_the_samples_have_no_habit() -> None:
    """Healthy programs of the other tests, and those with faults that are not the program's."""
    known = [sample_evidence(labels_v2_us=32_000), sample_evidence(), stuck_evidence()]
    known += [evidence(program(seed=seed)) for seed in range(5)]

    assert [diagnose(one).habits for one in known] == [()] * len(known)


def test_a_run_without_calls_has_none() -> None:
    """Nothing recorded, nothing to mend."""
    assert habits([]) == ()


# --- repeated GETs ----------------------------------------------------------------------------


def test_identical_gets_save_the_wait_of_all_after_the_first() -> None:
    """One answer, kept, would have served them all."""
    found = habit(row_of(213, resource=7, stage="training"))

    assert (found.kind, found.calls, found.stages) == ("repeated_gets", 212, ("training",))
    assert found.saves_s == pytest.approx(212 * 0.02)
    assert found.sentence == (
        "212 identical GETs to features.test GET /v1/features/{}: keep the answer"
    )


def test_things_that_are_asked_for_twice_each_add_up() -> None:
    """Each thing's first call is needed."""
    things = [own(n * 60_000, 50, resource=1 + n % 50) for n in range(100)]

    found = habits(things)[0]

    assert (found.kind, found.calls) == ("repeated_gets", 50)
    assert found.saves_s == pytest.approx(50 * 0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"resource": None},
        {"pattern": "POST /v1/features", "method": "POST"},
        {"code": 404},
        {"code": 500},
        {"code": 200, "flags": "UC"},
    ],
)
def test_what_is_no_answered_get_is_no_repeat(fields: dict[str, object]) -> None:
    """A proxy's row, another method, an error, an answer that broke off."""
    calls = [own(n * 22_000, 20, **{"resource": 7} | fields) for n in range(90)]

    assert "repeated_gets" not in kinds(calls)


def test_tries_of_what_failed_are_no_repeats() -> None:
    """Asking again after a failure is no habit, and nothing had been answered before."""
    calls = [one for n in range(50) for one in tried((503, 200), at_us=n * SECOND, pause_ms=100)]

    assert kinds(calls) == []


def test_an_answer_that_changes_cannot_be_kept() -> None:
    """Another size is another answer; where it stays the same, it may be kept."""
    changing = [
        one for n in range(90) for one in row_of(1, start_us=n * 22_000, resource=7, bytes_out=n)
    ]
    unmodified = row_of(90, resource=7, code=304)

    assert kinds(changing) == []
    assert kinds(unmodified) == ["repeated_gets"]


def test_identical_gets_at_the_same_time_are_no_repeats() -> None:
    """Before the first was answered there was nothing to keep."""
    together = [own(n, 900, resource=7) for n in range(50)]

    assert kinds(together) == []


def test_the_same_hash_in_another_process_is_another_thing() -> None:
    """Each process hashes with a key of its own."""
    calls = [own(n * 22_000, 20, resource=7, sidecar_id=f"worker-{n}") for n in range(90)]

    assert kinds(calls) == []


def test_what_saves_little_is_not_said() -> None:
    """A twentieth of the run, and a fifth of a second, as for causes."""
    calls = row_of(20, resource=7)

    assert kinds(calls) == ["repeated_gets"]
    assert kinds(calls, **lasting(calls, 10)) == []
    assert kinds(calls[:10]) == []


# --- polling ----------------------------------------------------------------------------------


def polls(number: int = 20, *, every_ms: int = 1000, ms: float = 100) -> list[Call]:
    """One thing asked for at regular intervals; its answer's size changes as states do."""
    random = Random(5)
    return [
        own(
            round((n * every_ms + random.uniform(0, every_ms / 20)) * 1000),
            ms,
            resource=7,
            bytes_out=100 + n % 3,
            pattern="GET /jobs/{}",
        )
        for n in range(number)
    ]


def test_polls_save_their_wait_and_half_an_interval() -> None:
    """Being told takes no call but one, and no time after the end."""
    found = habit(polls())

    assert (found.kind, found.calls) == ("polling", 20)
    assert found.saves_s == pytest.approx(19 * 0.1 + 0.5, rel=0.02)
    assert "20 polls to features.test GET /jobs/{}, one every 1.0 s" in found.sentence


def test_four_polls_are_none() -> None:
    """Nor can they be regular."""
    assert kinds(polls(4)) == []


def test_irregular_gets_are_no_polls() -> None:
    """Somebody who comes back at any time does other things in between."""
    random = Random(3)
    moments = np.cumsum([random.choice([200_000, 900_000, 3_000_000]) for _ in range(30)])
    calls = [own(int(at), 100, resource=7) for at in moments]

    assert kinds(calls) == ["repeated_gets"]


def test_gaps_as_long_as_the_calls_are_no_polling() -> None:
    """That is a loop which works with each answer."""
    assert kinds([own(n * 300_000, 100, resource=7) for n in range(30)]) == ["repeated_gets"]


def test_a_loop_that_computes_in_between_does_not_poll() -> None:
    """The same GET in each epoch of a training is a repeat: the gaps are full of CPU."""
    calls = [own(n * SECOND, 100, resource=7) for n in range(30)]

    assert kinds(calls, cpu_s=26.0) == ["repeated_gets"]
    assert kinds(calls, cpu_s=2.0) == ["polling"]


def test_a_loop_that_calls_others_in_between_does_not_poll() -> None:
    """The gaps are full of another call."""
    calls = [own(n * SECOND, 100, resource=7) for n in range(30)]
    others = [own(n * SECOND + 110_000, 880, pattern="POST /train") for n in range(30)]

    assert "polling" not in kinds([*calls, *others], **lasting(calls, 55))


def test_polls_of_many_things_at_once_see_their_end_late_once() -> None:
    """Ten threads that poll together lose one half interval of the run, not ten."""
    calls = [
        replace(one, resource=number, request_id=f"{one.request_id}-{number}")
        for number in range(1, 11)
        for one in polls()
    ]

    (found,) = habits(calls)

    assert found.saves_s == pytest.approx(19 * 0.1 + 0.5, rel=0.1)


def test_sleep_between_polls_is_named_where_nothing_else_explains_the_run() -> None:
    """Polls that cost little themselves still tell what the run slept for."""
    slow = polls(ms=5)

    told = diagnose(evidence(slow, cpu_s=0.1))

    assert told.verdict == "unknown"
    assert "of it between polls" in told.coverage.not_seen[-1]


# --- batchable and serial ---------------------------------------------------------------------


def test_many_small_serial_calls_could_be_batched_or_made_at_once() -> None:
    """A batch spares all fixed costs but one in a hundred; eight at once, seven eighths."""
    found = {one.kind: one for one in habits(row_of(412, stage="training"))}

    assert found.keys() == {"batchable_calls", "serial_calls"}
    assert found["batchable_calls"].saves_s == pytest.approx((412 - 5) * 0.02)
    assert found["serial_calls"].saves_s == pytest.approx(412 * 0.02 * 7 / 8)
    assert {one.calls for one in found.values()} == {412}
    assert "ask for 100 at once; or make several at once" in found["batchable_calls"].sentence
    assert "if they do not depend on each other" in found["serial_calls"].sentence
    assert "or join them into batches" in found["serial_calls"].sentence


def test_a_batch_saves_the_cost_of_the_quickest_calls_only() -> None:
    """What a call takes beyond that is work, which a batch has to do as well."""
    calls = [own(n * 120_000, 10 if n % 10 == 0 else 100) for n in range(200)]

    found = {one.kind: one.saves_s for one in habits(calls)}

    assert found["batchable_calls"] == pytest.approx(198 * 0.01)


def test_a_batch_saves_no_more_than_the_wait_for_its_calls() -> None:
    """Time in which another call was in flight too is saved in part only."""
    calls = row_of(200, pause_ms=0)
    others = [own(n * 200_000, 20, pattern="GET /other") for n in range(20)]

    found = {one.kind: one.saves_s for one in habits([*calls, *others])}

    assert found["batchable_calls"] == pytest.approx(180 * 0.02 + 20 * 0.01)


@pytest.mark.parametrize(
    ("ms", "fields"),
    [
        (20, {"bytes_out": 100_000}),
        (20, {"bytes_in": 100_000}),
        (20, {"bytes_out": None}),
        (400, {}),
    ],
)
def test_large_or_long_calls_cannot_be_batched(ms: int, fields: dict[str, object]) -> None:
    """They may be made at once all the same."""
    calls = [own(n * (ms + 2) * 1000, ms, **fields) for n in range(200)]

    assert kinds(calls) == ["serial_calls"]


@pytest.mark.parametrize(
    ("pattern", "batchable"),
    [
        ("GET /v1/features/{}", True),
        ("GET /v1/features", False),
        ("POST /v1/score", True),
    ],
)
def test_what_a_proxy_saw_is_judged_by_its_pattern(pattern: str, *, batchable: bool) -> None:
    """It knows no thing: a path without a part that varies may be the same each time."""
    calls = [call(n * 22_000, 20, pattern=pattern, bytes_out=900, bytes_in=0) for n in range(200)]

    assert ("batchable_calls" in kinds(calls)) is batchable


def test_a_hundred_short_calls_are_not_many() -> None:
    """They are one batch."""
    assert kinds(row_of(100)) == []
    assert kinds(row_of(101)) == ["batchable_calls", "serial_calls"]


def test_sixteen_long_calls_are_worth_making_at_once() -> None:
    """Two rounds of eight, half a second each."""
    assert kinds(row_of(16, ms=600)) == ["serial_calls"]
    assert kinds(row_of(15, ms=600)) == []
    assert kinds(row_of(16, ms=400)) == []


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_parallel_calls_are_not_serial(workers: int) -> None:
    """Whoever makes several at once knows how."""
    assert kinds(side_by_side(800, workers=workers)) == []


def test_serial_calls_beside_another_thread_s_are_not_serial() -> None:
    """Eight loops over eight services are one program that makes eight calls at once."""
    calls = [
        replace(one, virtual_service=f"host-{n}", request_id=f"{one.request_id}-{n}")
        for n in range(8)
        for one in row_of(200)
    ]

    assert kinds(calls) == []


def test_a_stage_is_judged_by_itself() -> None:
    """A serial stage is told though another makes the same calls at once."""
    serial = row_of(200, stage="scoring")
    parallel = side_by_side(400, workers=4, stage="training")
    later = [replace(one, start_time=one.start_time + 10 * SECOND) for one in parallel]

    assert {one.stages for one in habits([*serial, *later])} == {("scoring",)}


def test_a_loop_that_calls_two_services_in_turn_is_serial() -> None:
    """The other call is no distance."""
    calls = [
        own(n * 200_000 + at, ms, virtual_service=host, bytes_out=50_000)
        for n in range(150)
        for at, ms, host in ((0, 20, "quick.test"), (22_000, 170, "slow.test"))
    ]

    assert {one.virtual_service for one in habits(calls)} == {"quick.test", "slow.test"}


def test_calls_spread_thinly_over_a_long_run_are_not_worth_saying() -> None:
    """Between two of them the program does without any for far longer than a call takes."""
    thin = row_of(1000, ms=60, pause_ms=600)

    assert kinds(thin, cpu_s=500.0) == []


def test_calls_that_wait_for_connections_are_not_serial() -> None:
    """More of them at once would only wait for more connections."""
    starved = {"first_byte_us": 2_000, "pool_ready_ms": 17, "bytes_out": 100_000}

    assert kinds(row_of(200, **starved)) == []


def test_what_a_fault_slowed_down_is_the_fault_s() -> None:
    """Mend the service first; without anything to compare with, its slowness may be its own."""
    slow = row_of(40, ms=2000)
    usual = past(row_of(40, ms=20))

    assert kinds(slow, baseline=(usual,), baseline_kind="named") == []
    assert kinds(slow) == ["serial_calls"]


# --- all --------------------------------------------------------------------------------------


def any_program(seed: int) -> list[Call]:
    """A program of loops with any habit, by several threads, with failures in between."""
    random, calls = Random(seed), []
    for thread in range(random.randrange(1, 4)):
        now = random.randrange(SECOND)
        for loop in range(random.randrange(1, 4)):
            ms, pause_ms = random.choice([(5, 1), (20, 2), (100, 900), (700, 5)])
            things = random.choice([1, 3, 10**6])
            for n in range(random.randrange(5, 300)):
                took = ms * random.uniform(0.8, 1.3)
                code = random.choices([200, 304, 404, 503], [90, 3, 3, 4])[0]
                calls.append(
                    own(
                        now,
                        took,
                        resource=1 + 1000 * thread + n % things,
                        request_id=f"{thread}-{loop}-{n}",
                        pattern=f"GET /v{loop}/{{}}",
                        code=code,
                        bytes_out=random.choice([None, 10, 900, 900, 900]),
                    )
                )
                now += round((took + pause_ms) * 1000)
    return calls


@pytest.mark.parametrize("seed", range(40))
def test_no_habit_saves_more_than_there_was(seed: int) -> None:
    """Repeats, batches and calls at once save wait of the run, polls wait and idle time."""
    told = diagnose(evidence(any_program(seed), cpu_s=None))

    of_wait = [one.saves_s for one in told.habits if one.kind != "polling"]
    assert all(0 < saves <= told.wait_s for saves in of_wait)
    assert all(0 < one.saves_s <= told.duration_s for one in told.habits)
    repeats = sum(one.saves_s for one in told.habits if one.kind == "repeated_gets")
    assert repeats <= told.wait_s + 1e-9


def test_any_program_shows_every_habit() -> None:
    """The property above is about something."""
    seen = {one.kind for seed in range(40) for one in diagnose(evidence(any_program(seed))).habits}

    assert seen == set(KINDS)


def many_habits() -> Evidence:
    """A run with more endpoints than an answer names, each asked for the same again and again."""
    calls = [
        own(n * 22_000, 20, resource=1 + n % 15, pattern=f"GET /p{n % 15:02}", stage="training")
        for n in range(1500)
    ]
    return evidence(calls, cpu_s=0.1)


def test_an_answer_names_ten_at_most_the_dearest_first() -> None:
    """A list that nobody reads to its end helps nobody."""
    found = diagnose(many_habits()).habits

    assert len(found) == MOST_HABITS
    assert [one.saves_s for one in found] == sorted((one.saves_s for one in found), reverse=True)


def test_the_answer_has_a_line_for_each() -> None:
    """What it would save comes first."""
    text = diagnose(evidence(row_of(213, resource=7), cpu_s=0.1)).text

    assert (
        "  could save 4.2 s: 212 identical GETs to features.test GET /v1/features/{}: "
        "keep the answer"
    ) in text.splitlines()


def test_json_has_them_under_a_name_of_their_own() -> None:
    """Plain values, with all that a program needs."""
    told = json.loads(json_text(diagnose(evidence(row_of(213, resource=7), cpu_s=0.1))))

    assert told["client_patterns"] == [
        {
            "kind": "repeated_gets",
            "virtual_service": "features.test",
            "pattern": "GET /v1/features/{}",
            "calls": 212,
            "saves_s": 4.24,
            "sentence": "212 identical GETs to features.test GET /v1/features/{}: keep the answer",
            "stages": [],
        }
    ]


def test_every_kind_is_documented_with_its_formula_and_its_advice() -> None:
    """What the answer may say, the list of causes explains."""
    for kind in KINDS:
        assert "Recognised" in CAUSES[kind]
        assert "Saves" in CAUSES[kind]
        assert "Do: " in CAUSES[kind]


def page_of(known: Evidence) -> str:
    """The page of a run."""
    return render_page(diagnose(known), known, picture="")


def test_the_page_has_a_section_only_where_there_are_some() -> None:
    """Each with what it saves, why, and what to do."""
    page = page_of(many_habits())

    assert page.count("could save") == MOST_HABITS
    assert "Keep the answer, in a variable or with functools.cache." in page
    assert 'aria-label="Client patterns"' not in page_of(evidence(program()))


def test_names_cannot_leave_their_place() -> None:
    """A host or a path is whatever a program calls; it is cut, escaped, and hides no advice."""
    name = "<script>alert(1)</script>" + "y" * 20_000
    known = evidence(
        row_of(213, resource=7, virtual_service=name, pattern=f"GET /{name}"), cpu_s=0.1
    )

    assert "<script>" not in page_of(known)
    assert diagnose(known).habits[0].sentence.endswith("…: keep the answer")


@needs_browser
def test_the_section_fits_a_narrow_screen(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing sticks out at 400 and at 1280 pixels."""
    long = evidence(row_of(213, resource=7, pattern="GET /" + "y" * 500), cpu_s=0.1)
    pages = [(page_of(known), width) for known in (many_habits(), long) for width in (400, 1280)]

    found = measure(pages, folder=tmp_path_factory.mktemp("page"))

    assert [(one.needed == one.width, one.overflowing) for one in found] == [(True, 0)] * 4


def many_calls(size: int) -> Case:
    """So many calls, one after the other, each thing asked for ten times."""
    two = CallColumns.of(row_of(2))
    numbers = {
        name: np.repeat(np.asarray(column[:1]), size) for name, column in two.numbers.items()
    }
    numbers["start_time"] = BEGIN + np.arange(size) * 1000
    numbers["duration_us"] = np.full(size, 900)
    numbers["resource"] = 1 + np.random.default_rng(1).permutation(size) % (size // 10)
    calls = CallColumns(
        request_ids=tuple(map(str, range(size))),
        numbers={name: array("q", column.tobytes()) for name, column in numbers.items()},
        texts={
            name: Coded(codes=column.codes[:1] * size, names=column.names)
            for name, column in two.texts.items()
        },
    )
    run = run_of([], end_time=BEGIN + size * 1000)
    sorted_out = sort_out(replace(evidence([], run=run), calls=calls))
    return lay_out(sorted_out, folds_of([sorted_out.distinct]))


@pytest.mark.timeout(60)
def test_a_million_calls_cost_no_second() -> None:
    """Habits are found without a loop over calls: 300,000 of them in a third of that."""
    case = many_calls(300_000)
    suspects = find_suspects(case)
    begun = time.process_time()

    found = find_habits(case, suspects, find_repeats(case))

    assert time.process_time() - begun < 0.6
    assert found[0].calls == 270_000
