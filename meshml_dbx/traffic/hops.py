"""Hops: which call was made to answer which, so that a call is followed past its first service.

Goes in: calls of all observers. Comes out: each with its parent, and how that is known. Two kinds
of steps make a path. Between two hosts a call is seen twice, by its caller and by the one called,
under one request id: hosts' clocks differ, so time only chooses where the id is not alone. Within
one host a service calls on: by the same request id where the program forwards it, else the call
lies within one that its sidecar served, by one clock: ``trace`` where both bear one trace id, else
``inferred``, and only where a single call fits. ``lake.hops`` is the same rule in SQL.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meshml_dbx.traffic.call import Call

HOST_SKEW_US = 1_000_000
"""How far two hosts' clocks may be apart for time to still choose between calls of one id."""
CLOCK_STEP_US = 1_000
"""How far a call may stick out of another on one clock, where one of both tells milliseconds."""
MOST_OF_ONE_ID = 100
"""An id that more calls bear in a window is no request's: some program sends always the same."""
MOST_DEEP = 32

TRACE_ID_LENGTH = 32
SERVED, CALLED = ("ingress", "gateway"), ("egress", "gateway")

how_ = Literal["request", "trace", "inferred", "ambiguous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One call on its path: the call that it was made to answer, and how that is known.

    ``parent`` is a position in the same list. ``ambiguous``: several fit, so none is named; a hop
    with neither parent nor ``how`` begins a path. ``self_us``: its time without its children's.
    """

    call: Call
    self_us: int
    parent: int | None = None
    how: how_ | None = None


def link_hops(calls: Iterable[Call]) -> tuple[Hop, ...]:
    """These finished calls in the same order, each with its parent among them.

    >>> called = Call(type="", start_time=0, observer="egress", sidecar_id="a", request_id="r",
    ...               target="labels", total_us=90)
    >>> served = Call(type="", start_time=5, observer="ingress", sidecar_id="b", request_id="r",
    ...               virtual_node="labels", total_us=80)
    >>> [(hop.parent, hop.how, hop.self_us) for hop in link_hops([called, served])]
    [(None, None, 10), (0, 'request', 80)]
    """
    listed = tuple(calls)
    carried = _carried(listed)
    nested = _nested(listed, carried)
    found: dict[int, tuple[int | None, how_]] = {**nested}
    found |= {child: (parent, "request") for child, parent in carried.items()}
    covered = _covered(listed, found)
    return tuple(
        Hop(
            call=call,
            self_us=max(call.duration_us - covered.get(at, 0), 0),
            parent=found[at][0] if at in found else None,
            how=found[at][1] if at in found else None,
        )
        for at, call in enumerate(listed)
    )


def trace_id_of(call: Call) -> str | None:
    """The trace id that the call's traceparent header bears."""
    parts = (call.trace_parent or "").split("-")
    known = len(parts) > 1 and len(parts[1]) == TRACE_ID_LENGTH
    return parts[1] if known else None


# --- by request id --------------------------------------------------------------------------------


def _carried(calls: Sequence[Call]) -> dict[int, int]:
    """Parents by request id."""
    by_id: dict[str, list[int]] = defaultdict(list)
    for at, call in enumerate(calls):
        if call.request_id:
            by_id[call.request_id].append(at)
    found: dict[int, int] = {}
    for members in by_id.values():
        if 1 < len(members) <= MOST_OF_ONE_ID:
            for child in members:
                fitting = [p for p in members if may_carry(calls[p], calls[child])]
                if fitting:
                    found[child] = max(fitting, key=lambda p: _fit(calls[p], calls[child]))
    return found


def may_carry(parent: Call, child: Call) -> bool:
    """Whether a call may be the parent of another with the same request id."""
    if child.observer == "egress":
        here = child.virtual_node is not None and parent.observer == "ingress"
        same = (parent.sidecar_id, parent.virtual_node) == (child.sidecar_id, child.virtual_node)
        before = parent.start_time <= child.start_time + CLOCK_STEP_US
        return here and same and before and child.target != parent.virtual_node
    if child.observer not in SERVED or parent.observer not in CALLED:
        return False
    if child.observer == parent.observer == "gateway":
        return False
    if parent.target is not None and child.virtual_node is not None:
        return parent.target == child.virtual_node
    nameless = parent.virtual_node is None and child.virtual_node is None
    return parent.sidecar_id != child.sidecar_id or nameless


def _fit(parent: Call, child: Call) -> tuple[bool, bool, bool, bool, int, int, str]:
    """How well a parent fits: the target, the path, the time; else what begins nearest."""
    apart = child.start_time - parent.start_time
    return (
        parent.target is not None and parent.target == child.virtual_node,
        parent.path is not None and parent.path == child.path,
        apart >= 0 and child.end_time <= parent.end_time,
        _holds(parent, child, HOST_SKEW_US),
        -abs(apart),
        parent.start_time,
        parent.sidecar_id,
    )


def _holds(parent: Call, child: Call, slack_us: int) -> bool:
    begun = parent.start_time <= child.start_time + slack_us
    return begun and child.end_time <= parent.end_time + slack_us


# --- by time, within one sidecar ------------------------------------------------------------------


def _nested(
    calls: Sequence[Call], carried: Mapping[int, int]
) -> dict[int, tuple[int | None, how_]]:
    """Parents of the calls that services made, where no id tells."""
    by_node: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, call in enumerate(calls):
        if call.virtual_node is not None and call.observer in ("ingress", "egress"):
            by_node[call.sidecar_id, call.virtual_node].append(at)
    found: dict[int, tuple[int | None, how_]] = {}
    for members in by_node.values():
        served = [at for at in members if calls[at].observer == "ingress"]
        asking = [at for at in members if calls[at].observer == "egress" and at not in carried]
        found |= _sweep(calls, served, asking)
    return found


def _sweep(
    calls: Sequence[Call], served: Iterable[int], asking: Iterable[int]
) -> dict[int, tuple[int | None, how_]]:
    """In order of time, with those in flight at hand: as many steps as calls in flight at once."""
    waiting = sorted(served, key=lambda at: calls[at].start_time, reverse=True)
    flying: list[int] = []
    found: dict[int, tuple[int | None, how_]] = {}
    for child in sorted(asking, key=lambda at: calls[at].start_time):
        now = calls[child].start_time
        while waiting and calls[waiting[-1]].start_time <= now + CLOCK_STEP_US:
            flying.append(waiting.pop())
        flying = [at for at in flying if calls[at].end_time + CLOCK_STEP_US >= now]
        holding = [at for at in flying if may_nest(calls[at], calls[child])]
        if holding:
            found[child] = _only_one(calls, holding, child)
    return found


def may_nest(parent: Call, child: Call) -> bool:
    """Whether a served call holds another; what bears another trace is another request's."""
    traces = trace_id_of(parent), trace_id_of(child)
    other_trace = None not in traces and traces[0] != traces[1]
    itself = parent.request_id == child.request_id and child.target == parent.virtual_node
    return not other_trace and not itself and _holds(parent, child, _slack(parent, child))


def _slack(*calls: Call) -> int:
    return CLOCK_STEP_US if any(call.total_us is None for call in calls) else 0


def _only_one(calls: Sequence[Call], holding: Sequence[int], child: int) -> tuple[int | None, how_]:
    trace = trace_id_of(calls[child])
    traced = [at for at in holding if trace is not None and trace_id_of(calls[at]) == trace]
    if len(traced) == 1:
        return traced[0], "trace"
    if len(holding) == 1:
        return holding[0], "inferred"
    return None, "ambiguous"


# --- what is a call's own time --------------------------------------------------------------------


def _covered(calls: Sequence[Call], found: Mapping[int, tuple[int | None, how_]]) -> dict[int, int]:
    """For how long at least one child of each call was in flight.

    A child is moved into its parent, as far as it fits, since its clock may be another.
    """
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for child, (parent, _) in found.items():
        if parent is not None:
            spans[parent].append(_moved_into(calls[parent], calls[child]))
    return {parent: _union(parts) for parent, parts in spans.items()}


def _moved_into(parent: Call, child: Call) -> tuple[int, int]:
    lasted = min(child.duration_us, parent.duration_us)
    begin = max(parent.start_time, min(child.start_time, parent.end_time - lasted))
    return begin, begin + lasted


def _union(spans: Iterable[tuple[int, int]]) -> int:
    reached, total = 0, 0
    for begin, end in sorted(spans):
        total += max(end - max(begin, reached), 0)
        reached = max(reached, end)
    return total
