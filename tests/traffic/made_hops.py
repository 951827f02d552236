"""Calls of a small world of services that call each other, and who really called whom.

Goes in: a seed. Comes out: calls as their proxies would have logged them, each host by a clock of
its own, and the true parent of each. Some programs forward request ids, some only trace ids, some
nothing at all.
"""

import random
from dataclasses import dataclass, field

from meshml_dbx.traffic.access_log import END_TYPE
from meshml_dbx.traffic.call import Call

NOON = 1_795_348_800_000_000
"""2026-11-22 12:00 UTC."""
MS = 1_000
FORWARDS = {"relay": "nothing", "scores": "request", "features": "trace", "labels": "nothing"}
SERVICES = tuple(FORWARDS)
"""Each service calls only those after it."""


def made_call(start: int, took: int, /, **values: object) -> Call:
    """A finished call."""
    usual: dict[str, object] = {"type": END_TYPE, "start_time": start, "total_us": took}
    return Call(**{**usual, **values})  # type: ignore[arg-type]  # its own fields


def asked(start: int, took: int, /, **values: object) -> Call:
    """A call as its caller's proxy saw it: the client ``job``, unless a virtual node is given."""
    who = {"client": None} if "virtual_node" in values else {"client": "job", "sidecar_id": "job-1"}
    return made_call(start, took, **{"observer": "egress", **who, **values})


def served(start: int, took: int, /, **values: object) -> Call:
    """A call as the called node's proxy saw it."""
    return made_call(start, took, **{"observer": "ingress", **values})


@dataclass(slots=True, kw_only=True)
class World:
    """Calls so far, and the position of each one's true parent."""

    name: str
    random: random.Random
    skew_us: dict[str, int]
    calls: list[Call] = field(default_factory=list)
    parents: dict[int, int | None] = field(default_factory=dict)
    _ids: int = 0

    def fresh_id(self) -> str:
        """A request id that no call had."""
        self._ids += 1
        return f"{self.name}-{self._ids:06d}"

    def add(self, call: Call, parent: int | None) -> int:
        """Note a call; its position."""
        self.calls.append(call)
        self.parents[len(self.calls) - 1] = parent
        return len(self.calls) - 1

    def call(self, start: int, took: int, service: str, carried: "Carried") -> None:
        """A call to a service, seen from both sides, with all that the service then calls."""
        request = carried.request_id or self.fresh_id()
        path = f"/v1/{service}/{self.random.randrange(10**6)}"
        common = {"request_id": request, "path": path, "trace_parent": _header(carried.trace)}
        by = {"virtual_node": carried.node, "sidecar_id": carried.sidecar_id}
        if carried.node is None:
            by = {"sidecar_id": "job-1"}
        clock = self.skew_us.get(carried.node or "", 0)
        to = {"virtual_service": f"{service}.ml.local", "target": service}
        mine = self.add(asked(start + clock, took, **common, **by, **to), carried.parent)
        inside, sidecar = took - self.random.randrange(200, 900), f"{service}-1"
        at = {"virtual_node": service, "sidecar_id": sidecar}
        arrived = start + self.random.randrange(50, 150)
        there = self.add(served(arrived + self.skew_us[service], inside, **common, **at), mine)
        forwards = FORWARDS[service]
        further = SERVICES[SERVICES.index(service) + 1 :]
        if not further or inside < 8 * MS:
            return
        carried = Carried(
            node=service,
            sidecar_id=sidecar,
            parent=there,
            request_id=request if forwards == "request" else None,
            trace=carried.trace if forwards in ("request", "trace") else None,
        )
        for number in range(self.random.randrange(3)):
            begin = arrived + MS + number * inside // 3
            lasts = self.random.randrange(MS, max(inside // 4, MS + 1))
            self.call(begin, lasts, self.random.choice(further), carried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a program that calls hands on, and where it is."""

    node: str | None = None
    sidecar_id: str | None = None
    parent: int | None = None
    request_id: str | None = None
    trace: str | None = None


def _header(trace: str | None) -> str | None:
    return None if trace is None else f"00-{trace}-00f067aa0ba902b7-01"


def make_world(seed: int, requests: int = 60) -> World:
    """Requests of one client, some of them at the same time; each world has its own minute."""
    chance = random.Random(seed)
    skew = {service: chance.randrange(-400 * MS, 400 * MS) for service in SERVICES}
    world = World(name=f"w{seed}", random=chance, skew_us=skew)
    for number in range(requests):
        start = NOON + seed * 60_000 * MS + number * 20 * MS
        trace = f"{number:032x}" if chance.random() < 0.7 else None
        took = chance.randrange(5 * MS, 60 * MS)
        world.call(start, took, chance.choice(SERVICES), Carried(trace=trace))
    return world
