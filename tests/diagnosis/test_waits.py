"""The sweep that splits a run's wait over its calls."""

from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from meshml_dbx.diagnosis.table import Ints
from meshml_dbx.diagnosis.waits import calls_in_flight, covered_us, split_waits
from tests.diagnosis.hand_made import BEGIN, SECOND, call, evidence, run_of


def random_intervals(random: Random, calls: int, moments: int) -> list[tuple[int, int]]:
    """Intervals with many equal begins and ends, some empty."""
    pairs = [(random.randrange(moments), random.randrange(moments)) for _ in range(calls)]
    return [(min(pair), max(pair)) for pair in pairs]


def columns(intervals: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Begins and ends as columns."""
    both = np.array(intervals, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def naive_parts(intervals: list[tuple[int, int]]) -> list[Fraction]:
    """Each interval's exact part, moment by moment."""
    parts = [Fraction(0)] * len(intervals)
    edges = sorted({edge for pair in intervals for edge in pair})
    for begin, end in pairwise(edges):
        inside = [n for n, (first, last) in enumerate(intervals) if first <= begin and end <= last]
        for number in inside:
            parts[number] += Fraction(end - begin, len(inside))
    return parts


@pytest.mark.parametrize("seed", range(60))
def test_parts_sum_to_the_covered_time_exactly_and_are_right_to_a_microsecond(seed: int) -> None:
    """Whatever overlaps, the parts are whole, sum to the total, and within 1 us of exact."""
    random = Random(seed)
    intervals = random_intervals(random, random.randrange(1, 40), random.choice([5, 50, 10**9]))
    exact = naive_parts(intervals)

    waits = split_waits(*columns(intervals))

    assert sum(exact) == waits.total_us == int(waits.parts_us.sum())
    assert all(
        abs(part - true) <= 1 for part, true in zip(waits.parts_us.tolist(), exact, strict=True)
    )


def test_groups_sum_to_the_total() -> None:
    """Any grouping of the parts adds up to the whole; calls of no group are left out."""
    starts, ends = columns(random_intervals(Random(7), 500, 10_000))
    waits = split_waits(starts, ends)

    grouped = waits.sums(np.arange(500) % 7, 7)
    without = waits.sums(np.full(500, -1), 7)

    assert int(grouped.sum()) == waits.total_us
    assert int(without.sum()) == 0


def test_an_empty_call_gets_nothing() -> None:
    """A call without duration takes no part of anyone's wait."""
    assert split_waits(*columns([(0, 3), (1, 1), (0, 3), (2, 2)])).parts_us[[1, 3]].tolist() == [
        0,
        0,
    ]


def test_no_calls_no_wait() -> None:
    """Without calls the wait is nothing."""
    assert split_waits(*columns([])).total_us == 0


def test_a_very_long_run_does_not_overflow() -> None:
    """A hundred years in microseconds still add up."""
    century = 100 * 365 * 86_400 * SECOND
    waits = split_waits(*columns([(BEGIN, BEGIN + century), (BEGIN, BEGIN + century)]))

    assert waits.parts_us.tolist() == [century // 2, century // 2]


def test_covered_time_counts_overlaps_once() -> None:
    """The union of intervals is not their sum."""
    assert covered_us(*columns([(0, 10), (5, 12), (30, 31)])) == 13


def test_calls_in_flight_average_over_each_part_of_the_run() -> None:
    """A curve of the run integrates to the calls' own time."""
    made = [call(0, 1000), call(0, 1000), call(3 * SECOND, 500)]
    run = run_of(made, end_time=BEGIN + 4 * SECOND)

    curve = calls_in_flight(evidence(made, run=run), bins=4)

    assert curve == pytest.approx((2.0, 0.0, 0.0, 0.5))
