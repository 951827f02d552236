"""Stages cut into spans: each moment of a process has one stage, the one that began last."""

import random
from itertools import pairwise

import pytest

from meshml_dbx.traffic.program_log import OPEN_STAGE, Stage, stage_spans


def stage(name: str, start: int, end: int | None, process_id: str = "p") -> Stage:
    """A stage of a process."""
    return Stage(stage=name, stage_id=name, process_id=process_id, start_time=start, end_time=end)


def told(stages: list[Stage]) -> list[tuple[str, int, int]]:
    """The spans of stages as short rows; what lasts ends in -1."""
    return [
        (s.stage, s.start_time, -1 if s.end_time == OPEN_STAGE else s.end_time or 0)
        for s in stage_spans(stages)
    ]


def test_stages_in_turn_stay_as_they_are() -> None:
    """Nothing overlaps, nothing is cut, and pauses belong to nobody."""
    turns = [stage("load", 0, 10), stage("fit", 10, 20), stage("score", 25, 30)]
    assert told(turns) == [("load", 0, 10), ("fit", 10, 20), ("score", 25, 30)]


def test_the_innermost_stage_has_the_time() -> None:
    """A stage within a stage takes its part out of it."""
    nested = [stage("fit", 0, 30), stage("load", 5, 20), stage("page", 8, 9)]
    assert told(nested) == [
        *(("fit", 0, 5), ("load", 5, 8), ("page", 8, 9), ("load", 9, 20), ("fit", 20, 30))
    ]


def test_of_stages_that_cross_the_later_one_has_the_time() -> None:
    """Threads: the stage that began last has what both cover."""
    assert told([stage("a", 0, 10), stage("b", 5, 15)]) == [("a", 0, 5), ("b", 5, 15)]


def test_a_stage_without_an_end_lasts() -> None:
    """What is going on now has the time from now on, except where an inner stage has it."""
    assert told([stage("fit", 0, None)]) == [("fit", 0, -1)]
    assert told([stage("fit", 0, None), stage("load", 2, 4)]) == [
        *(("fit", 0, 2), ("load", 2, 4), ("fit", 4, -1))
    ]


def test_processes_have_stages_of_their_own() -> None:
    """Two processes at once do not cut each other's stages."""
    both = [stage("a", 0, 10, "p"), stage("b", 5, 15, "q")]
    assert told(both) == [("a", 0, 10), ("b", 5, 15)]


def test_a_stage_of_no_length_has_no_time() -> None:
    """It began and ended in the same microsecond, or the clock went back."""
    assert told([stage("a", 5, 5), stage("b", 9, 3), stage("c", 0, 20)]) == [
        ("c", 0, 5),
        ("c", 5, 9),
        ("c", 9, 20),
    ]


def random_stages(seed: int) -> list[Stage]:
    """Stages of two processes, nested, crossing, empty and open."""
    chance = random.Random(seed)
    made = []
    for number in range(chance.randrange(1, 15)):
        start = chance.randrange(40)
        ends = [None, start, *[start + chance.randrange(30) for _ in range(6)]]
        made.append(stage(f"s{number:02}", start, chance.choice(ends), chance.choice("pq")))
    return made


def stage_by_hand(stages: list[Stage], moment: int) -> str | None:
    """The stage of a moment by the rule as it is written."""
    on = [
        s for s in stages if s.start_time <= moment and (s.end_time is None or moment < s.end_time)
    ]
    latest = max((s.start_time for s in on), default=None)
    return min((s.stage_id for s in on if s.start_time == latest), default=None)


@pytest.mark.parametrize("seed", range(200))
def test_spans_of_random_stages_say_what_the_rule_says(seed: int) -> None:
    """Each moment has the stage that the rule gives by hand, and no moment has two."""
    stages = random_stages(seed)
    for process in "pq":
        mine = [s for s in stages if s.process_id == process]
        spans = [s for s in stage_spans(stages) if s.process_id == process]
        assert all((a.end_time or 0) <= b.start_time for a, b in pairwise(spans))
        for moment in range(75):
            at = [s.stage for s in spans if s.start_time <= moment < (s.end_time or 0)]
            expected = stage_by_hand(mine, moment)
            assert at == ([expected] if expected else [])


def test_no_stages_have_no_spans() -> None:
    """A program that says nothing of its stages is no error."""
    assert stage_spans([]) == ()
