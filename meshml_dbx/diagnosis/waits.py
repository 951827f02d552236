"""How long the run waited on the mesh, and for whom: a sweep over the calls' begins and ends.

The wait is the time in which at least one call was in flight. At each moment it is split evenly
over the calls in flight, so that the parts of any grouping add up to it exactly. Everything is in
whole microseconds: a call's part is rounded down, and the microseconds left over go to the calls
whose parts lost most by it, so no part is off by more than one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshml_dbx.diagnosis.table import Ints, run_span, table_of
from meshml_dbx.traffic.evidence import Evidence

_FINEST_BITS = 20
_WORD_BITS = 62


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waits:
    """The run's wait and each call's part of it, in microseconds; the parts sum to the total."""

    total_us: int
    parts_us: Ints

    def sums(self, groups: Ints, count: int) -> Ints:
        """The wait of each of ``count`` groups; ``groups`` holds each call's group, -1 for none."""
        summed = np.zeros(count + 1, dtype=np.int64)
        np.add.at(summed, groups, self.parts_us)
        return summed[:count]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdleClock:
    """A clock that stands still while a call is in flight: ``since`` to ``until``, in order.

    >>> clock = IdleClock.of(np.array([0, 5, 30]), np.array([10, 12, 31]))
    >>> clock.at(np.array([12, 20, 40])).tolist()
    [0, 8, 27]
    """

    since: Ints
    until: Ints
    busy: Ints

    @classmethod
    def of(cls, start: Ints, end: Ints) -> "IdleClock":
        """The clock of these calls."""
        order = np.argsort(start, kind="stable")
        begins, reached = start[order], np.maximum.accumulate(end[order])
        fresh = np.insert(begins[1:] > reached[:-1], 0, True)[: len(order)]
        since = begins[fresh]
        until = np.append(reached[:-1][fresh[1:]], reached[-1:])
        lasted = until - since
        return cls(since=since, until=until, busy=np.asarray(np.cumsum(lasted) - lasted))

    def at(self, moments: Ints) -> Ints:
        """The time without a call until each moment, counted from the first call's begin."""
        if not len(self.since):
            return moments
        last = np.maximum(np.searchsorted(self.since, moments, side="right") - 1, 0)
        inside = np.clip(moments - self.since[last], 0, self.until[last] - self.since[last])
        return np.asarray(moments - self.since[0] - self.busy[last] - inside)


def split_waits(start: Ints, end: Ints) -> Waits:
    """The time in which a call was in flight, split evenly over those in flight.

    >>> split_waits(np.array([0, 50]), np.array([100, 150])).parts_us.tolist()
    [75, 75]
    """
    if not len(start):
        return Waits(total_us=0, parts_us=np.zeros(0, dtype=np.int64))
    order, times, active = _sweep(start, end)
    lengths = np.diff(times)
    busy = active[:-1] > 0
    total = int(lengths[busy].sum())
    bits = min(_FINEST_BITS, _WORD_BITS - total.bit_length())
    shares = np.where(busy, (lengths << bits) // np.maximum(active[:-1], 1), 0)
    gathered = np.concatenate([[0], np.cumsum(shares)])
    at_event = np.empty(len(order), dtype=np.int64)
    at_event[order] = gathered
    fine = at_event[len(start) :] - at_event[: len(start)]
    return Waits(total_us=total, parts_us=_whole(fine, bits, total))


def covered_us(start: Ints, end: Ints) -> int:
    """The time that at least one of the intervals covers.

    >>> covered_us(np.array([0, 5, 30]), np.array([10, 12, 31]))
    13
    """
    return split_waits(start, end).total_us


def calls_in_flight(evidence: Evidence, *, bins: int = 240) -> tuple[float, ...]:
    """How many calls were in flight on average in each of ``bins`` equal parts of the run."""
    span = run_span(evidence)
    table = table_of(evidence.calls, evidence.in_flight, span=span)
    if not len(table) or span[0] == span[1]:
        return (0.0,) * bins
    _, times, active = _sweep(table.start, table.end)
    area = np.concatenate([[0], np.cumsum(np.diff(times) * active[:-1])])
    edges = np.linspace(span[0], span[1], bins + 1)
    return tuple((np.diff(np.interp(edges, times, area)) / np.diff(edges)).tolist())


def _sweep(start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """The order of all begins and ends, their times, and the calls in flight after each."""
    moments = np.concatenate([start, end])
    order = np.argsort(moments, kind="stable")
    steps = np.repeat(np.array([1, -1], dtype=np.int64), len(start))
    return order, moments[order], np.cumsum(steps[order])


def _whole(fine: Ints, bits: int, total: int) -> Ints:
    """Whole microseconds that sum to the total, by the largest remainders."""
    parts: Ints = fine >> bits
    missing = total - int(parts.sum())
    if missing <= 0:
        return parts
    rest: npt.NDArray[np.int64] = fine - (parts << bits)
    takers = np.flatnonzero(fine)
    everyone, some = divmod(missing, len(takers))
    parts[takers] += everyone
    if some:
        most = np.argpartition(rest[takers], len(takers) - some)[len(takers) - some :]
        parts[takers[most]] += 1
    return parts
