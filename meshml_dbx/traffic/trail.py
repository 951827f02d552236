"""A trail: one call and all that it led to, service after service, as far as is known.

Goes in: calls of all observers around it. Comes out: its path as steps, each below the one that it
answers, with what each spent itself. See ``traffic.hops`` for what makes two calls one path.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshml_dbx.traffic.access_log import time_text
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns
from meshml_dbx.traffic.hops import MOST_DEEP, Hop, link_hops, may_nest
from meshml_dbx.traffic.ownership import Run

MOST_STEPS = 200
"""So many steps of one path are told; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootCall:
    """A call that is to be followed, as its caller's evidence has it; times in microseconds."""

    request_id: str
    start_time: int
    sidecar_id: str
    duration_us: int

    @property
    def end_time(self) -> int:
        """When the call ended."""
        return self.start_time + self.duration_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of a path; ``depth`` is 0 for the first, and one more for what it led to."""

    hop: Hop
    depth: int

    def to_json(self) -> dict[str, object]:
        """The step as one object; names are a promise."""
        call = self.hop.call
        return {
            "depth": self.depth,
            "request_id": call.request_id,
            "observer": call.observer,
            "member": call.client or call.virtual_node,
            "service": call.virtual_service or call.authority,
            "target": call.target,
            "pattern": call.pattern,
            "code": call.code,
            "start_time": time_text(call.start_time),
            "duration_ms": round(call.duration_us / 1000, 3),
            "self_ms": round(self.hop.self_us / 1000, 3),
            "how": self.hop.how,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """A call followed: ``steps`` from it downward, each before what it led to.

    ``ambiguous``: calls that services made meanwhile and that fit several callers, so that they
    are on no path. ``left_out``: steps beyond the first ``MOST_STEPS``.
    """

    steps: tuple[Step, ...]
    ambiguous: int = 0
    left_out: int = 0

    def to_json(self) -> dict[str, object]:
        """The trail as one object; names are a promise."""
        return {
            "steps": [step.to_json() for step in self.steps],
            "ambiguous": self.ambiguous,
            "left_out": self.left_out,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Calls of a run, the slowest first, each followed past its first service."""

    run: Run
    trails: tuple[Trail, ...]

    def to_json(self) -> dict[str, object]:
        """Run and trails as one object; names are a promise."""
        return {
            "run_id": self.run.run_id,
            "run_name": self.run.name,
            "calls": [trail.to_json() for trail in self.trails],
        }


def slowest(calls: CallColumns, *, at_most: int, request_id: str | None = None) -> list[RootCall]:
    """The slowest of a run's calls, the slowest first; with an id, of those with it alone."""
    lasted = calls.numbers["duration_us"]
    rows = (
        row
        for row, known in enumerate(calls.request_ids)
        if request_id is None or known == request_id
    )
    chosen = sorted(rows, key=lambda row: (-lasted[row], row))[:at_most]
    return [
        RootCall(
            request_id=calls.request_ids[row],
            start_time=calls.numbers["start_time"][row],
            sidecar_id=calls.texts["sidecar_id"][row] or "",
            duration_us=max(lasted[row], 0),
        )
        for row in chosen
    ]


def follow(calls: Iterable[Call], roots: Iterable[RootCall]) -> tuple[Trail, ...]:
    """The trail of each of these calls that is among the calls, in their order."""
    hops = link_hops(calls)
    below: dict[int, list[int]] = defaultdict(list)
    known: dict[tuple[str, int, str], int] = {}
    for at, hop in enumerate(hops):
        if hop.parent is not None:
            below[hop.parent].append(at)
        if hop.call.observer not in ("ingress", "gateway"):
            known[hop.call.request_id or "", hop.call.start_time, hop.call.sidecar_id] = at
    wanted = (known.get((it.request_id, it.start_time, it.sidecar_id)) for it in roots)
    return tuple(_trail(hops, below, at) for at in wanted if at is not None)


def _trail(hops: Sequence[Hop], below: Mapping[int, Sequence[int]], root: int) -> Trail:
    steps: list[Step] = []
    left = [(root, 0)]
    seen: set[int] = set()
    while left:
        at, depth = left.pop()
        if at in seen or depth > MOST_DEEP:
            continue
        seen.add(at)
        steps.append(Step(hop=hops[at], depth=depth))
        children = sorted(below.get(at, ()), key=lambda it: -hops[it].call.start_time)
        left += [(child, depth + 1) for child in children]
    served = [step.hop.call for step in steps if step.hop.call.observer == "ingress"]
    return Trail(
        steps=tuple(steps[:MOST_STEPS]),
        ambiguous=_count_ambiguous(hops, served),
        left_out=max(len(steps) - MOST_STEPS, 0),
    )


def _count_ambiguous(hops: Iterable[Hop], served: Iterable[Call]) -> int:
    by_node: dict[tuple[str, str | None], list[Call]] = defaultdict(list)
    for call in served:
        by_node[call.sidecar_id, call.virtual_node].append(call)
    asking = (hop.call for hop in hops if hop.how == "ambiguous")
    return sum(
        any(may_nest(one, call) for one in by_node[call.sidecar_id, call.virtual_node])
        for call in asking
    )
