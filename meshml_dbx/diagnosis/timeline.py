"""Calls in flight over the time of a run, in at most 600 steps, and its stages beside them.

Goes in: when calls began and ended, and which of them are a culprit's. Comes out: per step the
exact mean and the exact maximum of calls in flight; no call is sampled away. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.table import Bools, CallTable, Ints
from meshml_dbx.traffic.program_log import Stage

MOST_STEPS = 600
MOST_LANES = 6
MOST_BANDS = 200
NICE_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Calls in flight, step by step: the mean over the step, and the most at any moment of it."""

    mean: tuple[float, ...]
    most: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One stretch of a stage, in microseconds since the run's begin; lanes do not overlap."""

    stage: str
    start: int
    end: int
    lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A run's time: ``span`` microseconds in steps of ``step``, all calls and the culprits'."""

    span: int
    step: int
    all_calls: Steps
    culprits: Steps
    bands: tuple[Band, ...] = ()
    bands_left_out: int = 0


def timeline_of(
    table: CallTable, blamed: Bools, stages: Iterable[Stage], *, span: tuple[int, int]
) -> Timeline:
    """The timeline of a run.

    Args:
        table: its calls, those in flight among them.
        blamed: for each call, whether it is a culprit's.
        stages: what the program said of itself.
        span: the run's interval.
    """
    length = max(span[1] - span[0], 1)
    step = step_of(length)
    bands = _bands(stages, begin=span[0], span=length, joint=step)
    drawn = tuple(band for band in bands if band.lane < MOST_LANES)[:MOST_BANDS]
    starts, ends = table.start - span[0], table.end - span[0]
    return Timeline(
        span=length,
        step=step,
        all_calls=steps_of(starts, ends, span=length, step=step),
        culprits=steps_of(starts[blamed], ends[blamed], span=length, step=step),
        bands=drawn,
        bands_left_out=len(bands) - len(drawn),
    )


def step_of(span: int) -> int:
    """The smallest plain step of which at most 600 cover the span.

    >>> step_of(14_800_000)
    25000
    """
    least = max(span / MOST_STEPS, 1.0)
    power = 10.0 ** np.floor(np.log10(least))
    return int(next(n * power for n in NICE_STEPS if int(n * power) * MOST_STEPS >= span))


def steps_of(starts: Ints, ends: Ints, *, span: int, step: int) -> Steps:
    """How many intervals hold each moment: mean and maximum per step, exact.

    >>> steps_of(np.array([0, 5]), np.array([10, 10]), span=20, step=10)
    Steps(mean=(1.5, 0.0), most=(2, 0))
    """
    edges = np.arange(-(-span // step) + 1, dtype=np.int64) * step
    times, levels = _levels(np.clip(starts, 0, span), np.clip(ends, 0, span))
    if not len(times):
        return Steps(mean=(0.0,) * (len(edges) - 1), most=(0,) * (len(edges) - 1))
    area = np.concatenate([[0], np.cumsum(levels[:-1] * np.diff(times))])
    widths = np.diff(np.minimum(edges, span))
    mean = np.diff(np.interp(edges, times, area)) / widths
    at_edge = np.searchsorted(times, edges[:-1], side="right") - 1
    most = np.where(at_edge < 0, 0, levels[at_edge])
    np.maximum.at(most, np.minimum(times // step, len(most) - 1), levels)
    return Steps(mean=tuple(np.round(mean, 6).tolist()), most=tuple(most.tolist()))


def _levels(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The moments at which the number in flight changes, and the number from then on."""
    times, where = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    changes = np.zeros(len(times), dtype=np.int64)
    np.add.at(changes, where[: len(starts)], 1)
    np.add.at(changes, where[len(starts) :], -1)
    return times, np.cumsum(changes)


def _bands(stages: Iterable[Stage], *, begin: int, span: int, joint: int) -> tuple[Band, ...]:
    """The stages in lanes, those of one name joined where no more than a step lies between."""
    spans: list[tuple[int, int, str]] = []
    last: dict[str, int] = {}
    for stage in sorted(stages, key=lambda stage: (stage.start_time, stage.stage)):
        start = min(max(stage.start_time - begin, 0), span)
        end = min(max((stage.end_time or begin + span) - begin, start), span)
        index = last.get(stage.stage)
        if index is not None and start - spans[index][1] <= joint:
            spans[index] = (spans[index][0], max(end, spans[index][1]), stage.stage)
        else:
            last[stage.stage] = len(spans)
            spans.append((start, end, stage.stage))
    return _in_lanes(spans)


def _in_lanes(spans: Iterable[tuple[int, int, str]]) -> tuple[Band, ...]:
    """Each span in the first lane that is free when it begins."""
    free_from: list[int] = []
    bands = []
    for start, end, stage in spans:
        lane = next((i for i, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[lane : lane + 1] = [end]
        bands.append(Band(stage=stage, start=start, end=end, lane=lane))
    return tuple(bands)
