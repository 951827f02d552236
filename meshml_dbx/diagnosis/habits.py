"""Patterns of the program's own calls that cost it time and that it can mend alone.

Goes in: a case and its suspects. Comes out: habits, each with the seconds that one change would
save by a stated formula, the dearest first. All are estimates on the safe side: only calls that
were answered count, and what a fault slowed down is the fault's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.baseline import quantile
from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.diagnosis import Habit
from meshml_dbx.diagnosis.rank import NONE, Suspect
from meshml_dbx.diagnosis.repeats import Repeats
from meshml_dbx.diagnosis.table import Bools, Ints
from meshml_dbx.diagnosis.units import counted, seconds

MOST_HABITS = 10

MANY_CALLS = 100
"""More than this many calls of one kind, one after the other, are worth joining."""

BATCH = 100
"""How many small calls one larger one is taken to stand for."""

SMALL_BYTES = 16_384
SHORT_US = 250_000
"""Small calls: 95 % of the requests and answers have up to 16 KiB, the median takes 250 ms."""

DISTINCT_SHARE = 0.9
"""Calls that ask for different things: this share of them does."""

AT_ONCE = 8
"""How many calls at once are taken for granted: what common clients keep connections for."""

LONG_US = 500_000
FEWEST_LONG = 2 * AT_ONCE
"""Of calls that take half a second, two rounds are enough to be worth making at once."""

SERIAL_SHARE = 0.9
"""One after the other: nothing else was in flight in nine tenths of their time."""

DENSE_RATIO = 5.0
"""Calls are spread thinly where the program does without any for this many times their median."""

UPSTREAM_SHARE = 0.5
"""Calls that wait for the service: this share of their time is sending, first byte, transfer."""

_UPSTREAM_PARTS = ("send", "first_byte", "transfer")
_TAIL, _LOW = 0.95, 0.05
_HALF = 0.5
_LETTERS = 80
_OK, _ERROR = 200, 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Calls of one endpoint that make a habit, and what mending it saves."""

    rows: Ints
    saves_us: int
    advice: str


def find_habits(case: Case, suspects: Sequence[Suspect], repeats: Repeats) -> tuple[Habit, ...]:
    """What the program could do otherwise, each worth what matters to the run."""
    endpoints = _endpoints(case)
    plain = _plain_calls(case, suspects) & ~repeats.repeated & ~repeats.polled
    found: list[list[Habit]] = []
    for (service, pattern), groups in endpoints.items():
        rows = np.sort(np.concatenate([case.groups.rows[group] for group in groups]))
        is_folded = any(case.groups.patterns[group] for group in groups)
        kinds = {
            "repeated_gets": _repeated(case, rows, repeats),
            "polling": _polled(case, rows, repeats),
            **_one_by_one(case, rows[plain[rows]], None if is_folded else pattern),
        }
        listed = [
            _habit(case, kind, service, pattern, one)
            for kind, one in kinds.items()
            if one is not None and one.saves_us >= case.matters_us
        ]
        found.append(sorted(listed, key=lambda one: -one.saves_s))
    found = sorted(filter(None, found), key=lambda listed: -listed[0].saves_s)
    return tuple(one for listed in found for one in listed)[:MOST_HABITS]


def _endpoints(case: Case) -> dict[tuple[str, str], list[int]]:
    """The groups of each service and pattern: which of its targets answers, no client chooses."""
    endpoints: dict[tuple[str, str], list[int]] = {}
    for group, place in enumerate(case.groups.places):
        endpoints.setdefault((place.service, place.pattern), []).append(group)
    return endpoints


def _plain_calls(case: Case, suspects: Sequence[Suspect]) -> Bools:
    """The calls that were answered and that no fault slowed down.

    A service that is only called slow since nothing is known to compare it with may well be so
    when healthy: its calls count.
    """
    code = case.table.numbers["code"]
    plain = case.marks.answered & (code >= _OK) & (code < _ERROR)
    for one in suspects:
        if one.cause != NONE and not (one.cause.startswith("slow_") and one.reference is None):
            plain[one.rows] = False
    return np.asarray(plain)


def _habit(case: Case, kind: str, service: str, pattern: str, found: Found) -> Habit:
    where = f"{_brief(service)} {_brief(pattern)}"
    return Habit(
        kind=kind,
        virtual_service=service,
        pattern=pattern,
        calls=len(found.rows),
        saves_s=found.saves_us / 1e6,
        sentence=f"{_CALLED[kind](len(found.rows))} to {where}{found.advice}",
        stages=case.stages(found.rows),
    )


_CALLED: Mapping[str, Callable[[int], str]] = {
    "repeated_gets": lambda calls: counted(calls, "identical GET"),
    "polling": lambda calls: counted(calls, "poll"),
    "batchable_calls": lambda calls: counted(calls, "small call"),
    "serial_calls": lambda calls: counted(calls, "call"),
}
KINDS = tuple(_CALLED)


def _brief(name: str) -> str:
    """A name of bounded length: what is said of it must not be cut off with it."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _repeated(case: Case, rows: Ints, repeats: Repeats) -> Found | None:
    """What a kept answer saves: the wait of every call for what had been answered before."""
    chosen = rows[repeats.repeated[rows]]
    saves = int(case.waits.parts_us[chosen].sum())
    return Found(rows=chosen, saves_us=saves, advice=": keep the answer")


def _polled(case: Case, rows: Ints, repeats: Repeats) -> Found | None:
    """What being told saves: the wait of all polls but the first, and the overshoot of the last."""
    polls = rows[repeats.polled[rows]]
    if not len(polls):
        return None
    again = polls[~repeats.first[polls]]
    overshoot = repeats.overshoot_us(polls)
    interval = seconds(float(np.median(repeats.interval_us[polls])))
    return Found(
        rows=polls,
        saves_us=int(case.waits.parts_us[again].sum()) + overshoot,
        advice=f", one every {interval}: use a call that waits for the end, or be told of it",
    )


def _one_by_one(case: Case, rows: Ints, pattern: str | None) -> dict[str, Found | None]:
    """What batches, or several calls at once, save of calls that are made one after the other.

    Calls of several kinds, which have no one pattern, cannot be joined.
    """
    if case.waits.parts_us[rows].sum() < case.matters_us:
        return {}
    serial = _serial_rows(case, rows)
    batched = None if pattern is None else _batched(case, serial, pattern)
    at_once = _at_once(case, serial)
    if batched and at_once:
        batched = _with(batched, "; or make several at once")
        at_once = _with(at_once, "; or join them into batches")
    return {"batchable_calls": batched, "serial_calls": at_once}


def _with(found: Found, alternative: str) -> Found:
    return Found(rows=found.rows, saves_us=found.saves_us, advice=f"{found.advice}{alternative}")


def _serial_rows(case: Case, rows: Ints) -> Ints:
    """The calls of stages in which they follow each other closely, with nothing beside them."""
    kept = [
        dense
        for stage_rows in _by_stage(case, rows)
        if len(dense := _dense(case, stage_rows)) and _is_serial(case, dense)
    ]
    return np.sort(np.concatenate(kept)) if kept else rows[:0]


def _by_stage(case: Case, rows: Ints) -> Iterator[Ints]:
    stage = case.table.codes["stage"][rows]
    for code in np.unique(stage):
        yield rows[stage == code]


def _dense(case: Case, rows: Ints) -> Ints:
    """The calls, in order of their begin, with a neighbour that is not far from them.

    Other calls that are in between take no part in the distance: they are a loop's other half.
    """
    gaps = case.idle.at(case.table.start[rows[1:]]) - case.idle.at(case.table.end[rows[:-1]])
    near = gaps <= DENSE_RATIO * quantile(case.table.duration[rows], _HALF)
    return np.asarray(rows[np.append(near, False) | np.insert(near, 0, False)])


def _is_serial(case: Case, rows: Ints) -> bool:
    lasted = int((case.table.end[rows] - case.table.start[rows]).sum())
    return bool(case.waits.parts_us[rows].sum() >= SERIAL_SHARE * lasted)


def _batched(case: Case, rows: Ints, pattern: str) -> Found | None:
    """Small calls for different things: a batch spares the fixed cost of all its calls but one.

    The fixed cost of a call is what its fastest 5 % take, and never more than its wait.
    """
    if len(rows) <= MANY_CALLS or not _are_small(case, rows) or not _differ(case, rows, pattern):
        return None
    spared = len(rows) - -(-len(rows) // BATCH)
    fixed = spared * quantile(case.table.duration[rows], _LOW)
    return Found(
        rows=rows,
        saves_us=min(fixed, int(case.waits.parts_us[rows].sum())),
        advice=f", one after the other: ask for {BATCH} at once",
    )


def _are_small(case: Case, rows: Ints) -> bool:
    numbers = case.table.numbers
    known = numbers["bytes_out"][rows]
    known = known[known >= 0]
    return (
        len(known) >= _HALF * len(rows)
        and quantile(known, _TAIL) <= SMALL_BYTES
        and quantile(numbers["bytes_in"][rows], _TAIL) <= SMALL_BYTES
        and quantile(case.table.duration[rows], _HALF) <= SHORT_US
    )


def _differ(case: Case, rows: Ints, pattern: str) -> bool:
    """Whether the calls are for different things.

    A body may differ where the address does not. Where a proxy saw them, only the pattern tells.
    """
    resource = case.table.numbers["resource"][rows]
    if not pattern.startswith("GET "):
        return True
    if (resource <= 0).any():
        return "{" in pattern
    return len(np.unique(resource)) >= DISTINCT_SHARE * len(rows)


def _at_once(case: Case, rows: Ints) -> Found | None:
    """Calls that wait for the service one by one: with 8 at once, seven eighths of the wait go."""
    if not len(rows):
        return None
    long = quantile(case.table.duration[rows], _HALF) >= LONG_US
    enough = len(rows) > MANY_CALLS or (long and len(rows) >= FEWEST_LONG)
    if not enough or not _wait_upstream(case, rows):
        return None
    wait = int(case.waits.parts_us[rows].sum())
    return Found(
        rows=rows,
        saves_us=wait - wait // AT_ONCE,
        advice=(
            f", one after the other: make {AT_ONCE} at once, if they do not depend on each other "
            "(pages that name the next one do)"
        ),
    )


def _wait_upstream(case: Case, rows: Ints) -> bool:
    upstream = sum(int(case.parts[name][rows].sum()) for name in _UPSTREAM_PARTS)
    return upstream >= UPSTREAM_SHARE * int(case.table.duration[rows].sum())
