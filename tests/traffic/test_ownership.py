"""Whose call it is: the innermost run of the process, else the client's window, never two."""

import random
from itertools import pairwise

import pytest

from meshml_dbx.traffic.ownership import (
    OPEN_END,
    Run,
    Segment,
    header_segments,
    process_segments,
    window_segments,
)

PROCESS = "11111111-1111-1111-1111-111111111111"


def run(run_id: str, start: int, end: int | None, **over: object) -> Run:
    """A run of the process from start to end."""
    values: dict[str, object] = {
        "run_id": run_id,
        "name": f"run {run_id}",
        "experiment_id": "1",
        "status": "FINISHED" if end is not None else "RUNNING",
        "start_time": start,
        "end_time": end,
        "process_id": PROCESS,
        "client": "churn",
    }
    return Run(**(values | over))  # type: ignore[arg-type]  # tests override fields by name


def told(segments: tuple[Segment, ...]) -> list[tuple[int, int, str, bool]]:
    """Segments as short rows; what lasts for ever ends in -1."""
    return [
        (s.start_time, -1 if s.end_time == OPEN_END else s.end_time, s.run_id, s.ambiguous)
        for s in segments
    ]


def test_a_run_owns_its_process_from_begin_to_end() -> None:
    """One run, one segment, and how it was joined is said."""
    (segment,) = process_segments([run("a", 10, 20)])
    assert segment == Segment(
        start_time=10,
        end_time=20,
        run_id="a",
        method="process",
        ambiguous=False,
        process_id=PROCESS,
    )


def test_the_innermost_nested_run_wins() -> None:
    """A child has the time of its own, a grandchild that of it again."""
    runs = [
        run("parent", 0, 100),
        run("child", 10, 50, parent_run_id="parent"),
        run("grandchild", 20, 30, parent_run_id="child"),
    ]
    assert told(process_segments(runs)) == [
        (0, 10, "parent", False),
        (10, 20, "child", False),
        (20, 30, "grandchild", False),
        (30, 50, "child", False),
        (50, 100, "parent", False),
    ]


def test_a_child_of_the_same_millisecond_wins() -> None:
    """MLflow knows milliseconds only: a nested run may begin and end with its parent."""
    runs = [run("z-parent", 0, 9), run("a-child", 0, 9, parent_run_id="z-parent")]
    assert told(process_segments(runs)) == [(0, 9, "a-child", False)]


def test_siblings_that_overlap_are_ambiguous_only_where_they_do() -> None:
    """Threads with a run each: nobody can say whose a call is; the later one has it, marked."""
    runs = [run("first", 0, 50), run("second", 30, 80)]
    assert told(process_segments(runs)) == [
        (0, 30, "first", False),
        (30, 50, "second", True),
        (50, 80, "second", False),
    ]


def test_children_of_one_parent_that_overlap_are_ambiguous() -> None:
    """A parent in common does not tell them apart."""
    runs = [
        run("parent", 0, 90),
        run("one", 10, 40, parent_run_id="parent"),
        run("two", 20, 50, parent_run_id="parent"),
    ]
    assert told(process_segments(runs)) == [
        (0, 10, "parent", False),
        (10, 20, "one", False),
        (20, 40, "two", True),
        (40, 50, "two", False),
        (50, 90, "parent", False),
    ]


def test_a_run_without_an_end_owns_all_that_comes() -> None:
    """It still lasts, or was killed without a word."""
    assert told(process_segments([run("a", 10, None)])) == [(10, -1, "a", False)]


def test_a_run_that_ended_as_it_began_owns_its_moment() -> None:
    """A clock that went back does not make a segment of negative length."""
    runs = [run("instant", 10, 10), run("back", 30, 20)]
    assert told(process_segments(runs)) == [(10, 11, "instant", False), (30, 31, "back", False)]


def test_a_resumed_run_shares_the_pause_with_what_ran_in_it() -> None:
    """MLflow keeps the first start and the last end: what ran in between is marked, not lost."""
    runs = [run("resumed", 0, 100), run("between", 40, 60)]
    assert told(process_segments(runs)) == [
        (0, 40, "resumed", False),
        (40, 60, "between", True),
        (60, 100, "resumed", False),
    ]


def test_a_resumed_run_has_its_second_process_by_window() -> None:
    """Its tag names the first process; calls of the second fall to it by client and time."""
    resumed = run("resumed", 0, 100, process_id="first-process")
    assert [s.process_id for s in process_segments([resumed])] == ["first-process"]
    assert told(window_segments([resumed], ["churn"])) == [(0, 100, "resumed", False)]


def test_processes_do_not_meddle_with_each_other() -> None:
    """Runs of two processes at the same time are not ambiguous."""
    runs = [run("a", 0, 50, process_id="p"), run("b", 10, 60, process_id="q")]
    assert told(process_segments(runs)) == [(0, 50, "a", False), (10, 60, "b", False)]


def test_a_run_without_a_tag_owns_no_process() -> None:
    """It is found by window only."""
    assert process_segments([run("a", 0, 9, process_id=None)]) == ()


@pytest.mark.parametrize(
    ("client", "owned"), [("churn", True), (None, True), ("other", False)], ids=str
)
def test_a_window_is_of_the_same_client_or_of_none(client: str | None, owned: bool) -> None:  # noqa: FBT001  # a parameter of a test
    """A run that names no client may be anybody's; one that names another is not ours."""
    found = window_segments([run("a", 0, 9, client=client)], ["churn"])
    assert told(found) == ([(0, 9, "a", False)] if owned else [])
    assert {s.method for s in found} <= {"window"}


def test_a_client_that_is_named_twice_has_one_set_of_windows() -> None:
    """Callers collect clients from many sidecars."""
    once = window_segments([run("a", 0, 9)], ["churn"])
    assert window_segments([run("a", 0, 9)], ["churn", "churn"]) == once


def test_no_runs_own_nothing() -> None:
    """An empty store is no error."""
    assert (process_segments([]), window_segments([], ["churn"])) == ((), ())


def test_a_call_that_names_a_run_is_its_while_it_lasts() -> None:
    """Every run has one segment of its own, whatever else is on, and never in doubt."""
    runs = [run("b", 0, 50), run("a", 10, None), run("c", 20, 20, process_id=None)]
    found = header_segments(runs)
    assert told(found) == [(10, -1, "a", False), (0, 50, "b", False), (20, 21, "c", False)]
    assert {segment.method for segment in found} == {"header"}


# --- whatever the runs --------------------------------------------------------------------------


def random_runs(seed: int) -> list[Run]:
    """A dozen runs, nested and not, of a few processes and clients, some without an end."""
    chance = random.Random(seed)
    runs: list[Run] = []
    for number in range(chance.randrange(1, 13)):
        start = chance.randrange(40)
        parent = chance.choice([None, *[r.run_id for r in runs]])
        runs.append(
            run(
                f"r{number:02}",
                start,
                chance.choice([None, start, *[start + chance.randrange(30) for _ in range(6)]]),
                parent_run_id=parent,
                process_id=chance.choice(["p", "q", None]),
                client=chance.choice(["churn", "scoring", None]),
            )
        )
    return runs


def lasts(one: Run, moment: int) -> bool:
    """Whether a run is on at that moment."""
    end = OPEN_END if one.end_time is None else max(one.end_time, one.start_time + 1)
    return one.start_time <= moment < end


def owner_by_hand(runs: list[Run], moment: int) -> tuple[str, bool] | None:
    """The owner of a moment by the rule as it is written, looking at that moment alone."""
    on = [one for one in runs if lasts(one, moment)]
    if not on:
        return None
    innermost = [r for r in on if not any(other.parent_run_id == r.run_id for other in on)]
    latest = max(innermost or on, key=lambda r: (r.start_time, r.run_id))
    return latest.run_id, len(innermost) != 1


@pytest.mark.parametrize("seed", range(200))
def test_segments_of_random_runs_say_what_the_rule_says(seed: int) -> None:
    """At every moment the segment's owner is the one that the rule gives by hand."""
    runs = random_runs(seed)
    for process in ("p", "q"):
        mine = [one for one in runs if one.process_id == process]
        segments = [s for s in process_segments(runs) if s.process_id == process]
        for moment in range(75):
            at = [(s.run_id, s.ambiguous) for s in segments if s.start_time <= moment < s.end_time]
            expected = owner_by_hand(mine, moment)
            assert at == ([expected] if expected else [])


@pytest.mark.parametrize("seed", range(200))
def test_segments_are_disjoint_and_in_order(seed: int) -> None:
    """A call belongs to one segment of a process or client, or to none; look-ups may bisect."""
    runs = random_runs(seed)
    found = (*process_segments(runs), *window_segments(runs, ["churn", "scoring"]))
    by_key: dict[tuple[str | None, str | None], list[Segment]] = {}
    for segment in found:
        by_key.setdefault((segment.process_id, segment.client), []).append(segment)
    for segments in by_key.values():
        assert all(s.start_time < s.end_time for s in segments)
        assert all(one.end_time <= two.start_time for one, two in pairwise(segments))


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_runs_does_not_matter(seed: int) -> None:
    """Two stores that list the same runs give the same owners."""
    runs = random_runs(seed)
    shuffled = random.Random(seed).sample(runs, k=len(runs))
    assert process_segments(shuffled) == process_segments(runs)
    assert window_segments(shuffled, ["churn"]) == window_segments(runs, ["churn"])


@pytest.mark.timeout(30)
def test_a_store_of_many_runs_is_split_in_no_time() -> None:
    """Twenty thousand nightly runs one after the other, of which each moment has one."""
    runs = [run(f"{n:05}", n * 10, n * 10 + 9, process_id=None) for n in range(20_000)]
    assert len(window_segments(runs, ["churn"])) == 20_000


def test_a_header_names_a_run_only_while_it_lasts() -> None:
    """One segment for each run, certain, whoever else was on at the time."""
    runs = [run("b", 0, 50), run("a", 10, None), run("c", 70, 70)]
    found = header_segments(runs)
    assert told(found) == [(10, -1, "a", False), (0, 50, "b", False), (70, 71, "c", False)]
    assert {(s.method, s.process_id, s.client) for s in found} == {("header", None, None)}
