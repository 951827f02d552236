"""Calls in flight over time: exact means and maxima, and stages in lanes."""

from random import Random

import numpy as np
import pytest

from meshml_dbx.diagnosis.chart import chart_of
from meshml_dbx.diagnosis.table import run_span, table_of
from meshml_dbx.diagnosis.timeline import MOST_STEPS, Timeline, step_of, steps_of, timeline_of
from meshml_dbx.traffic.program_log import Stage
from tests.diagnosis.sample import sample_evidence


def stage(name: str, start: int, end: int | None) -> Stage:
    """A stage between two moments."""
    return Stage(stage=name, stage_id=name, process_id="p", start_time=start, end_time=end)


def bands_of(stages: list[Stage], *, span: int = 6000) -> list[tuple[str, int, int, int]]:
    """Stage, begin, end and lane of each band; a step is 10 microseconds."""
    table = table_of(sample_evidence().calls, span=(0, span))
    nobody = np.zeros(len(table), dtype=np.bool_)
    found = timeline_of(table, nobody, stages, span=(0, span))
    return [(one.stage, one.start, one.end, one.lane) for one in found.bands]


def sample_timeline() -> Timeline:
    """The timeline of the sample, with every second call blamed."""
    evidence = sample_evidence()
    span = run_span(evidence)
    table = table_of(evidence.calls, evidence.in_flight, span=span)
    return timeline_of(table, np.arange(len(table)) % 2 == 0, evidence.stages, span=span)


@pytest.mark.parametrize("seed", range(8))
def test_means_and_maxima_are_exact(seed: int) -> None:
    """Counted microsecond by microsecond, each step has the same mean and the same maximum."""
    chance = Random(seed)
    span, step = 97, 10
    starts = [chance.randrange(0, span) for _ in range(20)]
    ends = [start + chance.randrange(0, 40) for start in starts]
    held = [sum(s <= t < e for s, e in zip(starts, ends, strict=True)) for t in range(span)]
    pieces = [held[at : at + step] for at in range(0, span, step)]
    found = steps_of(np.array(starts), np.array(ends), span=span, step=step)
    assert found.mean == pytest.approx([sum(piece) / len(piece) for piece in pieces], abs=1e-5)
    assert found.most == tuple(max(piece) for piece in pieces)


@pytest.mark.parametrize("span", [1, 599, 600, 601, 14_800_000, 86_400_000_000, 2_592_000_000_000])
def test_no_run_has_more_than_six_hundred_steps(span: int) -> None:
    """Whatever a run's length, its steps cover it and stay few."""
    steps = steps_of(np.array([0]), np.array([span]), span=span, step=step_of(span))
    assert (len(steps.mean) <= MOST_STEPS, set(steps.mean)) == (True, {1.0})


def test_the_area_is_the_calls_own_time() -> None:
    """The means times their steps add up to the time of all calls within the run."""
    timeline = sample_timeline()
    evidence = sample_evidence()
    table = table_of(evidence.calls, span=run_span(evidence))
    widths = [
        min(timeline.step, timeline.span - number * timeline.step)
        for number in range(len(timeline.all_calls.mean))
    ]
    area = sum(m * w for m, w in zip(timeline.all_calls.mean, widths, strict=True))
    assert area == pytest.approx(int((table.end - table.start).sum()), rel=1e-5)


def test_culprits_are_a_part_of_all_calls() -> None:
    """In no step are there more blamed calls than calls."""
    timeline = sample_timeline()
    pairs = zip(timeline.culprits.mean, timeline.all_calls.mean, strict=True)
    assert all(part <= whole + 1e-6 for part, whole in pairs)


def test_nested_stages_lie_in_lanes_of_their_own() -> None:
    """A stage that begins while another lasts goes one lane down; a later one goes up again."""
    stages = [stage("train", 0, 3000), stage("fold", 100, 900), stage("score", 3000, None)]
    assert bands_of(stages) == [
        ("train", 0, 3000, 0),
        ("fold", 100, 900, 1),
        ("score", 3000, 6000, 0),
    ]


def test_a_stage_that_comes_again_at_once_is_one_band() -> None:
    """Stretches of one stage with no more than a step between them are drawn as one."""
    stages = [stage("fold", at, at + 95) for at in range(0, 3000, 100)]
    assert bands_of(stages) == [("fold", 0, 2995, 0)]


def test_stages_outside_the_run_are_cut_to_it() -> None:
    """A band never leaves the plot."""
    assert bands_of([stage("early", -500, 100), stage("late", 5900, 9000)]) == [
        ("early", 0, 100, 0),
        ("late", 5900, 6000, 0),
    ]


def test_the_chart_says_how_it_was_made() -> None:
    """The caption names the step, and that means and maxima are of all calls."""
    chart = chart_of(sample_timeline())
    assert chart.caption == (
        "Each step is 30 ms: the area is the mean of the calls in flight in it,"
        " the line the most at any moment of it, both exact over all calls."
    )


def test_the_axes_have_few_round_ticks() -> None:
    """Ticks are round, within the plot, and few enough for 400 pixels."""
    chart = chart_of(sample_timeline())
    assert [tick.text for tick in chart.ticks_x] == [f"{at} s" for at in range(0, 15, 2)]
    assert [tick.text for tick in chart.ticks_y] == ["1", "2", "3", "4"]
    assert all(0 <= tick.at <= 100 for tick in (*chart.ticks_x, *chart.ticks_y))
