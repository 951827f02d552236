"""The same GET again: which calls asked for what had been answered, and which were polls.

Goes in: a case. Comes out: masks over its calls. Only a process that records itself knows what is
the same (``resource``); of what a proxy saw nothing is marked. Pure, and without a loop over calls.
"""

from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.table import Bools, Ints
from meshml_dbx.diagnosis.tries import things_of
from meshml_dbx.diagnosis.waits import covered_us

LEAST_POLLS = 5
REGULAR_SHARE = 0.75
REGULAR_SPREAD = 0.25
IDLE_RATIO = 4.0
IDLE_SHARE = 0.8
"""Polling: five GETs for the same thing; three quarters of the intervals within a quarter of their
median; gaps four times as long as the calls, in four fifths of which the program did nothing: no
call was in flight, and the run's idle time, its CPU time left out, has room for them."""

_NOT_MODIFIED = 304
_OK, _REDIRECT = 200, 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repeats:
    """GETs for the same thing, as masks over a table.

    ``repeated``: it had been answered before, alike, and was no poll. ``polled``: one of a series
    of polls; ``first`` of it. ``interval_us`` is the median interval of a poll's series.
    """

    repeated: Bools
    polled: Bools
    first: Bools
    interval_us: Ints
    ends: Ints
    """The last poll of each series, and in ``idle_at`` the run's idle time until it began."""
    idle_at: Ints
    between_us: int
    """The time between polls in which no call was in flight, each moment once."""

    def overshoot_us(self, rows: Ints) -> int:
        """How long the ends of some polls' series went unseen: idle time, each moment once.

        What is polled for comes true between two polls, half an interval before the last.
        """
        last = np.flatnonzero(np.isin(self.ends, rows))
        until = self.idle_at[last]
        half = self.interval_us[self.ends[last]] // 2
        return covered_us(until - half, until)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Series:
    """GETs for the same things: ``rows`` by thing, then by time; ``of`` numbers the things from 0.

    ``again``: the row before it is of the same thing. ``gap``, the ``idle`` part of it, and
    ``interval`` are counted from that row.
    """

    rows: Ints
    of: Ints
    again: Bools
    gap: Ints
    interval: Ints
    idle: Ints


def find_repeats(case: Case) -> Repeats:
    """The repeated GETs and polls of a run."""
    series = _series(case)
    rows, count = series.rows, len(case.table)
    polls, usual = _polls(case, series)
    polled, first, repeated = (np.zeros(count, dtype=np.bool_) for _ in range(3))
    interval = np.zeros(count, dtype=np.int64)
    polled[rows[polls]] = True
    first[rows[~series.again]] = True
    interval[rows] = usual
    repeated[rows[_repeated(case, series) & ~polls]] = True
    ends = rows[polls & np.append(~series.again[1:], True)[: len(rows)]]
    return Repeats(
        repeated=repeated,
        polled=polled,
        first=first,
        interval_us=interval,
        ends=ends,
        idle_at=case.idle.at(case.table.start[ends]),
        between_us=_between(case, series, polls),
    )


def _series(case: Case) -> _Series:
    """The answered GETs whose thing was asked for more than once."""
    table = case.table
    rows, thing = _sorted_things(case)
    again = np.append(False, thing[1:] == thing[:-1])[: len(rows)]
    before = rows[np.maximum(np.arange(len(rows)) - 1, 0)]
    gap = np.maximum(table.start[rows] - table.end[before], 0) * again
    idle = case.idle.at(table.start[rows]) - case.idle.at(table.end[before])
    return _Series(
        rows=rows,
        of=np.cumsum(~again) - 1,
        again=again,
        gap=gap,
        interval=(table.start[rows] - table.start[before]) * again,
        idle=np.maximum(idle, 0) * again,
    )


def _sorted_things(case: Case) -> tuple[Ints, Ints]:
    """The rows of those GETs by thing, then by time, which is their order; and their things."""
    table = case.table
    code = table.numbers["code"]
    good = ((code >= _OK) & (code < _REDIRECT)) | (code == _NOT_MODIFIED)
    known = good & case.marks.answered & (table.numbers["resource"] > 0)
    rows = np.flatnonzero(known & table.where("pattern", lambda name: name.startswith("GET ")))
    thing = things_of(table, rows)
    order = np.argsort(thing, kind="stable")
    rows, thing = rows[order], thing[order]
    same = thing[1:] == thing[:-1]
    often = (np.append(same, False) | np.insert(same, 0, False))[: len(rows)]
    return rows[often], thing[often]


def _between(case: Case, series: _Series, polls: Bools) -> int:
    until = case.idle.at(case.table.start[series.rows[polls & series.again]])
    return covered_us(until - series.idle[polls & series.again], until)


def _repeated(case: Case, series: _Series) -> Bools:
    """The calls for what had been answered before, whose answer has not changed as far as seen."""
    rows, numbers = series.rows, case.table.numbers
    answered = case.table.end[rows[~series.again]]
    size, code = numbers["bytes_out"][rows], numbers["code"][rows]
    size_before, code_before = np.roll(size, 1), np.roll(code, 1)
    unknown = (size < 0) | (size_before < 0)
    unmodified = (code == _NOT_MODIFIED) | (code_before == _NOT_MODIFIED)
    alike = (size == size_before) | unknown | unmodified
    return np.asarray(series.again & (case.table.start[rows] >= answered[series.of]) & alike)


def _polls(case: Case, series: _Series) -> tuple[Bools, Ints]:
    """Which calls are of a series of polls, and the median interval of each call's series."""
    idle_enough = _often_and_idle(case, series)[series.of]
    kept = np.flatnonzero(idle_enough)
    usual = np.zeros(len(series.rows), dtype=np.int64)
    if not len(kept):
        return idle_enough, usual
    _, of = np.unique(series.of[kept], return_inverse=True)
    of, later = of.reshape(-1), series.again[kept]
    interval = series.interval[kept]
    typical = _medians(interval[later], of[later])
    lasting = _medians(case.table.duration[series.rows[kept]], of)
    off = np.abs(interval - typical[of]) <= REGULAR_SPREAD * typical[of]
    regular = np.bincount(of, weights=off & later)
    is_poll = (regular >= REGULAR_SHARE * (np.bincount(of) - 1)) & (
        _medians(series.gap[kept][later], of[later]) >= IDLE_RATIO * lasting
    )
    polls = np.zeros(len(series.rows), dtype=np.bool_)
    polls[kept] = is_poll[of]
    usual[kept] = typical[of]
    return polls, usual


def _often_and_idle(case: Case, series: _Series) -> Bools:
    """The series that are long enough, with gaps in which the program did nothing."""
    gaps = np.bincount(series.of, weights=series.gap)
    idle = np.bincount(series.of, weights=series.idle)
    return np.asarray(
        (np.bincount(series.of) >= LEAST_POLLS)
        & (idle >= IDLE_SHARE * gaps)
        & (IDLE_SHARE * gaps <= case.idle_us)
    )


def _medians(values: Ints, of: Ints) -> Ints:
    """The lower median of the values of each thing; each, counted from 0, has at least one."""
    order = np.lexsort((values, of))
    sizes = np.bincount(of)
    begin = np.cumsum(sizes) - sizes
    return np.asarray(values[order][begin + (sizes - 1) // 2])
