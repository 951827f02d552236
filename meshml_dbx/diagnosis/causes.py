"""The causes: one rule for each, which claims the calls of a group that the cause explains.

Goes in: a case, a group of it, and the group's calls that no earlier rule has claimed. Comes out: a
claim, with what the cause cost beyond healthy, or None. Whether a claim matters for the run is
decided later, over all patterns of a target (``rank``). Each threshold is a constant below.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.baseline import Profile, Reference, profile_of, quantile
from meshml_dbx.diagnosis.breakdown import PARTS
from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.table import Ints

SLOW_RATIO = 2.0
SLOW_TAIL_RATIO = 3.0
SLOW_EXCESS_US = 20_000
SLOW_LARGE_SHARE = 0.2
"""Slower than healthy: the median doubled, or the slowest 5 % tripled and the mean doubled; and
the mean call lost 20 ms, or all of them together a fifth of the run: below that, a busy machine's
noise decides."""

ABSOLUTE_SHARE = 0.5
ABSOLUTE_FIRST_BYTE_SHARE = 0.8
ABSOLUTE_FIRST_BYTE_US = 1_000_000
"""Slow with nothing to compare: half of the run went to one target, four fifths of that to its
first byte, and the median first byte took a second, which no interactive service should."""

STUCK_US = 3_000_000
STUCK_RATIO = 10.0
STUCK_TAIL_RATIO = 3.0
STUCK_ALONE_US = 30_000_000
STUCK_MOST_SHARE = 0.05
STUCK_MOST_CALLS = 3
"""Stuck: few calls of many took 3 s and ten times the usual; with nothing to compare, one in
flight for 30 s, which is twice App Mesh's time-out of a request."""

STORM_LEAST_RETRIES = 3
STORM_RATIO = 3.0
"""A retry storm: three retries, and three times as many per call as in the baseline. Whether there
are enough of them to speak of a storm, their cost decides."""

_MIN_OWN_CALLS = 5
_HALF = 0.5
_UPSTREAM_PARTS = frozenset({"send", "first_byte", "transfer"})
_CONNECTION_PARTS = frozenset({"pool_wait", "connect", "tls"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claim:
    """Calls that a cause explains, what it cost beyond healthy, and what they were compared with.

    ``reference`` is None where the evidence is absolute.
    """

    rows: Ints
    cost_us: int
    reference: Reference | None = None


Rule = Callable[[Case, int, Ints], Claim | None]


def refused_identity(case: Case, _group: int, rows: Ints) -> Claim | None:
    """Calls that a node, or the caller, refused because of the other's certificate."""
    refused = case.refusals.by_server[rows] | case.refusals.by_client[rows]
    return _whole_cost(case, rows[refused])


def connect_failure(case: Case, _group: int, rows: Ints) -> Claim | None:
    """Calls for which no connection could be had: refused, unresolved, no healthy endpoint."""
    return _whole_cost(case, rows[case.marks.unconnected[rows]])


def stuck_call(case: Case, group: int, rows: Ints) -> Claim | None:
    """Few calls that hung, however they ended, or are still in flight."""
    typical, limit = _stuck_limit(case, group)
    duration = case.table.duration[rows]
    waited = (case.parts["earlier_attempts"][rows] <= _HALF * duration) | case.marks.timed_out[rows]
    hung = rows[(duration >= limit) & waited & (case.table.open[rows] | (typical > 0))]
    calls = len(case.groups.rows[group])
    rare = len(hung) <= max(STUCK_MOST_CALLS, STUCK_MOST_SHARE * calls)
    if not len(hung) or not rare or (len(hung) > 1 and len(hung) > _HALF * calls):
        return None
    reference = case.references.get(case.groups.places[group])
    return Claim(rows=hung, cost_us=_excess(case, hung, typical), reference=reference)


def retry_storm(case: Case, group: int, rows: Ints) -> Claim | None:
    """Calls that were tried more than once, far more often than is usual.

    Where a layer above tries again, the tries are calls of their own: those that failed and were
    tried again cost all their wait and the pauses after them. A later try that was answered is
    what the first should have been, and costs nothing beyond healthy.
    """
    place = case.groups.places[group]
    reference, own = case.references.get(place), case.own[place]
    usual = reference.profile.retries_per_call if reference else 0.0
    again, retries_of = case.marks.tried_again, case.table.retries
    retried = rows[(retries_of[rows] > 0) | again[rows]]
    retries = int(retries_of[retried].sum())
    if retries < STORM_LEAST_RETRIES or own.retries_per_call < STORM_RATIO * usual:
        return None
    wasted = np.where(
        case.marks.failed[retried] | again[retried],
        case.table.duration[retried],
        case.parts["earlier_attempts"][retried],
    )
    cost = _scaled(case, retried, wasted) + int(case.pauses[retried].sum())
    return Claim(rows=retried, cost_us=cost, reference=reference)


def policy_timeout(case: Case, _group: int, rows: Ints) -> Claim | None:
    """Calls that a time limit of the mesh ended, or the program's own."""
    return _whole_cost(case, rows[case.marks.failed[rows] & case.marks.timed_out[rows]])


def no_route(case: Case, _group: int, rows: Ints) -> Claim | None:
    """Calls to a host or path that the mesh has no route for."""
    return _whole_cost(case, rows[case.marks.unrouted[rows]])


def upstream_error(case: Case, _group: int, rows: Ints) -> Claim | None:
    """Calls that the upstream answered with an error, or broke off."""
    return _whole_cost(case, rows[case.marks.failed[rows]])


def slow_upstream(case: Case, group: int, rows: Ints) -> Claim | None:
    """Answered calls that wait longer than healthy for the upstream."""
    return _slower(case, group, rows, _UPSTREAM_PARTS)


def slow_connection(case: Case, group: int, rows: Ints) -> Claim | None:
    """Answered calls that wait longer than healthy for a connection to the upstream."""
    return _slower(case, group, rows, _CONNECTION_PARTS)


RULES: dict[str, Rule] = {
    "refused_identity": refused_identity,
    "connect_failure": connect_failure,
    "stuck_call": stuck_call,
    "retry_storm": retry_storm,
    "policy_timeout": policy_timeout,
    "no_route": no_route,
    "upstream_error": upstream_error,
    "slow_upstream": slow_upstream,
    "slow_connection": slow_connection,
}
"""Every cause and its rule, the most certain evidence first: a call has one cause."""

ERROR_CAUSES = frozenset(
    {
        "refused_identity",
        "connect_failure",
        "policy_timeout",
        "retry_storm",
        "no_route",
        "upstream_error",
    }
)
"""Causes that can end or stall a run without costing it much time in calls."""


def largest_part(case: Case, rows: Ints) -> tuple[str, float]:
    """The part in which some calls spent most of their time, and its share of it."""
    sums = {name: int(case.parts[name][rows].sum()) for name in PARTS}
    name = max(sums, key=lambda part: sums[part])
    return name, sums[name] / max(sum(sums.values()), 1)


def _whole_cost(case: Case, rows: Ints) -> Claim | None:
    """A claim on calls that need not have been: they cost all their wait and the pauses after."""
    if not len(rows):
        return None
    cost = int(case.waits.parts_us[rows].sum()) + int(case.pauses[rows].sum())
    return Claim(rows=rows, cost_us=cost)


def _scaled(case: Case, rows: Ints, part: Ints) -> int:
    """The wait that falls to a part of each call's duration."""
    share = part / np.maximum(case.table.duration[rows], 1)
    return int((case.waits.parts_us[rows] * np.minimum(share, 1.0)).sum())


def _excess(case: Case, rows: Ints, healthy_us: float) -> int:
    over = np.maximum(case.table.duration[rows] - int(healthy_us), 0)
    return _scaled(case, rows, over)


def _stuck_limit(case: Case, group: int) -> tuple[int, float]:
    """The usual duration of a group's calls (0: unknown), and the one from which they hang."""
    reference = case.references.get(case.groups.places[group])
    if reference is not None and reference.profile.answered:
        usual, tail = reference.profile.p50_us, reference.profile.p95_us
        return usual, max(STUCK_US, STUCK_RATIO * usual, STUCK_TAIL_RATIO * tail)
    rows = case.groups.rows[group]
    answered = rows[case.marks.answered[rows]]
    if len(answered) < _MIN_OWN_CALLS:
        return 0, STUCK_ALONE_US
    usual = quantile(case.table.duration[answered], _HALF)
    return usual, max(STUCK_US, STUCK_RATIO * usual)


def _slower(case: Case, group: int, rows: Ints, parts: frozenset[str]) -> Claim | None:
    answered = rows[case.marks.answered[rows]]
    if not len(answered):
        return None
    reference = case.references.get(case.groups.places[group])
    if reference is None or not reference.profile.answered:
        return _slow_by_itself(case, group, answered, parts)
    common = case.common[case.groups.places[group]] if reference.kind == "baseline" else 1.0
    own = case.own[case.groups.places[group]]
    if len(answered) < own.answered:
        own = profile_of(case.table, answered, answered)
    if not _got_slower(own, reference.profile, common):
        return None
    cost = _excess(case, answered, reference.profile.p50_us * common)
    excess = own.mean_us - reference.profile.mean_us * common
    if excess < SLOW_EXCESS_US and not _is_large(case, group, answered, cost):
        return None
    if largest_part(case, answered)[0] not in parts:
        return None
    return Claim(rows=answered, cost_us=cost, reference=reference)


def _got_slower(own: Profile, healthy: Profile, common: float) -> bool:
    """Whether calls are slower than healthy ones by more than what slows everything; see SLOW."""
    median = own.p50_us / max(healthy.p50_us * common, 1)
    tail = own.p95_us / max(healthy.p95_us * common, 1)
    mean = own.mean_us / max(healthy.mean_us * common, 1)
    return median >= SLOW_RATIO or (tail >= SLOW_TAIL_RATIO and mean >= SLOW_RATIO)


def _is_large(case: Case, group: int, rows: Ints, cost_us: int) -> bool:
    """Whether a cost like that of these calls, over all patterns of the target, fills the run."""
    place = case.groups.places[group]
    share = cost_us / max(int(case.waits.parts_us[rows].sum()), 1)
    wait = case.target_waits[place.service, place.route, place.target]
    return share * wait >= SLOW_LARGE_SHARE * case.duration_us


def _slow_by_itself(case: Case, group: int, rows: Ints, parts: frozenset[str]) -> Claim | None:
    """Slow with nothing to compare it with; see the ABSOLUTE constants."""
    place = case.groups.places[group]
    wait = case.target_waits[place.service, place.route, place.target]
    if wait < ABSOLUTE_SHARE * case.duration_us:
        return None
    part, share = largest_part(case, rows)
    first_byte = quantile(case.parts["first_byte"][rows], _HALF)
    if (
        part != "first_byte"
        or part not in parts
        or share < ABSOLUTE_FIRST_BYTE_SHARE
        or first_byte < ABSOLUTE_FIRST_BYTE_US
    ):
        return None
    return Claim(rows=rows, cost_us=int(case.waits.parts_us[rows].sum()))
