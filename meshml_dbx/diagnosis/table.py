"""The calls of a run as numpy columns: what every step of the diagnosis counts on.

Goes in: the finished calls of the evidence, which are columns already, and those in flight. Comes
out: one table, finished calls first, where a call in flight lasts until the moment of reading.
Unknown numbers stay -1; a text is a code into the names of its column, -1 where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshml_dbx.traffic.access_log import CLIENT_OBSERVER, UNFINISHED_TYPE
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    CallColumns,
    Coded,
    Evidence,
)
from meshml_dbx.traffic.flags import flag_set

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STALE_US = 60_000_000
"""A run without an end, whose sidecar died this long before the reading, is taken to have died."""

FIRST_ERROR = 500
"""Codes from here on are failures; below stand answers, the program's own mistakes included."""

PROXY_TOKEN_MISSING = 407
CALLER_GONE = ("DC", "DR")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallTable:
    """Calls by row; ``start`` and ``end`` are clipped to the run, ``duration`` is not.

    ``retries`` counts the tries of a row after its first. A layer above the recorded library
    tries again by a call of its own: such a row is itself one retry.
    """

    request_ids: tuple[str, ...]
    numbers: Mapping[str, Ints]
    codes: Mapping[str, Ints]
    names: Mapping[str, tuple[str, ...]]
    start: Ints
    end: Ints
    duration: Ints
    open: Bools
    by_client: Bools
    retries: Ints

    def __len__(self) -> int:
        return len(self.request_ids)

    def text(self, column: str, row: int) -> str | None:
        """The text of one row."""
        code = int(self.codes[column][row])
        return None if code < 0 else self.names[column][code]

    def where(self, column: str, test: Callable[[str], bool]) -> Bools:
        """The rows whose text passes a test; a missing text never does."""
        passed = np.array([*(test(name) for name in self.names[column]), False])
        return np.asarray(passed[self.codes[column]])

    def flagged(self, *flags: str, column: str = "flags") -> Bools:
        """The rows that carry at least one of these response flags."""
        return self.where(column, lambda text: bool(flag_set(text) & set(flags)))

    @property
    def failed(self) -> Bools:
        """The finished calls that got no answer, a 5xx, or no route.

        A process that records itself knows also of answers that broke off, whatever their code.
        """
        code = self.numbers["code"]
        unanswered = (code >= FIRST_ERROR) | ((code <= 0) & ~self.flagged(*CALLER_GONE))
        broken = self.where("flags", lambda text: bool(flag_set(text) - {*CALLER_GONE}))
        return (unanswered | self.unrouted | (broken & self.by_client)) & ~self.open

    @property
    def unrouted(self) -> Bools:
        """The calls that the caller's own proxy answered, since the mesh has no way for them.

        A missing token (407) is left out: some programs send it only when they are asked.
        """
        own = self.where("details", lambda text: text == "direct_response")
        return np.asarray(
            self.flagged("NR") | (own & (self.numbers["code"] != PROXY_TOKEN_MISSING))
        )

    @property
    def answered(self) -> Bools:
        """The calls whose duration says how fast the upstream is: answered, or given up on."""
        return ~self.failed & ~self.open


def run_span(evidence: Evidence) -> tuple[int, int]:
    """The run's interval in UTC microseconds.

    A run that has no end lasts until the reading, unless its proxy died with it: then until the
    last that is known of it.
    """
    run = evidence.run
    if run.end_time is not None:
        return run.start_time, max(run.end_time, run.start_time)
    dead = [call for call in evidence.in_flight if call.type == UNFINISHED_TYPE]
    last = max([last_seen(evidence.calls), *(call.end_time for call in evidence.in_flight)])
    alone = bool(dead) and len(dead) == len(evidence.in_flight)
    end = last if alone and last < evidence.read_at - STALE_US else evidence.read_at
    return run.start_time, max(end, run.start_time)


def last_seen(calls: CallColumns) -> int:
    """When the last of the finished calls ended; 0 when there is none."""
    if not len(calls):
        return 0
    ends = _ints(calls.numbers["start_time"]) + _ints(calls.numbers["duration_us"])
    return int(np.max(ends))


def table_of(
    calls: CallColumns, in_flight: Sequence[Call] = (), *, span: tuple[int, int]
) -> CallTable:
    """The table of finished calls and of those in flight, within the run's interval."""
    flying = CallColumns.of(in_flight)
    numbers = {name: _joined(calls, flying, name) for name in NUMBER_COLUMNS}
    pairs = {name: _merged(calls.texts[name], flying.texts[name]) for name in TEXT_COLUMNS}
    is_open = np.arange(len(calls) + len(flying)) >= len(calls)
    begun, duration = numbers["start_time"], np.maximum(numbers["duration_us"], 0)
    dead, by_client = _are(pairs["type"], UNFINISHED_TYPE), _are(pairs["observer"], CLIENT_OBSERVER)
    ended = np.where(is_open & ~dead, np.maximum(begun, span[1]), begun + duration)
    return CallTable(
        request_ids=calls.request_ids + flying.request_ids,
        numbers=numbers,
        codes={name: codes for name, (codes, _) in pairs.items()},
        names={name: names for name, (_, names) in pairs.items()},
        start=np.clip(begun, *span),
        end=np.clip(ended, *span),
        duration=ended - begun,
        open=is_open,
        by_client=by_client,
        retries=_retries(numbers, by_client),
    )


def seen_by_client(evidence: Evidence) -> bool:
    """Whether the calling process alone recorded the calls, so that no proxy saw any."""
    observers = {*evidence.calls.texts["observer"].names}
    return observers | {one.observer for one in evidence.in_flight} == {CLIENT_OBSERVER}


def _are(column: tuple[Ints, tuple[str, ...]], wanted: str) -> Bools:
    """The rows of a merged column that hold this text."""
    codes, names = column
    return np.asarray(np.array([*(name == wanted for name in names), False])[codes])


def _retries(numbers: Mapping[str, Ints], by_client: Bools) -> Ints:
    """A proxy's ``attempt`` is the number of its last try, which ``attempts`` tells already."""
    later = by_client & (numbers["attempt"] > 1)
    return np.where(numbers["attempts"] > 1, numbers["attempts"] - 1, later.astype(np.int64))


def _ints(values: object) -> Ints:
    return np.asarray(values, dtype=np.int64)


def _joined(first: CallColumns, second: CallColumns, name: str) -> Ints:
    return np.concatenate([_ints(first.numbers[name]), _ints(second.numbers[name])])


def _merged(first: Coded, second: Coded) -> tuple[Ints, tuple[str, ...]]:
    names = tuple(sorted({*first.names, *second.names}))
    place = {name: code for code, name in enumerate(names)}
    parts = [
        np.array([*(place[name] for name in column.names), -1], dtype=np.int64)[_ints(column.codes)]
        for column in (first, second)
    ]
    return np.concatenate(parts), names
