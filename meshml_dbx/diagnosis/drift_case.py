"""What drift compares: a mesh file with its places, and the ways that calls took under it.

Goes in: a mesh file and usages. Comes out: counts by way, by route and by target.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshml_dbx.diagnosis.weights import Spread, spreads
from meshml_dbx.findings import Finding, finding
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.places import Declared
from meshml_dbx.mesh.routing import shares_of
from meshml_dbx.mesh.spec import Mesh, Route
from meshml_dbx.traffic.access_log import WAITING_OBSERVERS
from meshml_dbx.traffic.usage import Usage

GATEWAY_OBSERVER = "gateway"
CALLING_OBSERVERS = (*WAITING_OBSERVERS, GATEWAY_OBSERVER)
"""Whose rows are a caller's own: nobody of the mesh waits at a gateway, and yet it calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way through the mesh: who called which service, and who answered.

    >>> Way(caller="churn", virtual_service="labels", route="all", target="v1", calls=2).calls
    2
    """

    caller: str | None
    virtual_service: str | None
    route: str | None
    target: str | None
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCase:
    """One comparison: the mesh with its places, and the calls of its version.

    ``called`` are the callers' own rows: each call counts once.
    """

    loaded: LoadedMesh
    mesh: Mesh
    declared: Declared
    usages: Sequence[Usage]
    called: Sequence[Usage]

    @classmethod
    def of(cls, loaded: LoadedMesh, mesh: Mesh, usages: Sequence[Usage]) -> "DriftCase":
        """The comparison of a mesh file with calls that were all made under its version."""
        called = [it for it in usages if it.observer in CALLING_OBSERVERS]
        declared = Declared.of(mesh)
        return cls(loaded=loaded, mesh=mesh, declared=declared, usages=usages, called=called)

    def report(self, code: str, path: str, what: str) -> Finding:
        """A finding at a place of the mesh file."""
        return finding(code, where=self.loaded.where(path), what=what)

    def ways(self) -> tuple[Way, ...]:
        """Every way that was walked, the busiest first."""
        counted: Counter[tuple[str | None, ...]] = Counter()
        for it in self.called:
            counted[it.caller, it.virtual_service or it.host, it.route, it.target] += it.calls
        ranked = sorted(counted.items(), key=lambda it: (-it[1], str(it[0])))
        return tuple(
            Way(caller=who, virtual_service=service, route=route, target=target, calls=calls)
            for (who, service, route, target), calls in ranked
        )

    def routes(self) -> Iterator[tuple[str, str, Route]]:
        """Every route with its path and its router's name."""
        for path, router in self.declared.routers:
            for route in router.routes:
                name = router.virtual_router_name
                yield f"{path}.routes[{route.route_name}]", name, route

    def router_of(self, virtual_service: str | None) -> str | None:
        """The router that provides a virtual service; None where a node does, or nobody."""
        service = self.declared.service_named.get(virtual_service or "")
        provider = service.spec.provider if service else None
        router = provider.virtual_router if provider else None
        return router.virtual_router_name if router else None

    def calls_by_route(self) -> Mapping[tuple[str, str], Counter[str]]:
        """The calls of each route of each router, by the virtual node that they were sent to."""
        found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for it in self.called:
            router = self.router_of(it.virtual_service)
            if router and it.route and it.target:
                found[router, it.route][it.target] += it.calls
        return found

    def weighed(self) -> list[tuple[str, str, Spread]]:
        """Path, name and spread of every target of every route that was used and has a choice."""
        used, found = self.calls_by_route(), []
        for path, router, route in self.routes():
            calls = used.get((router, route.route_name))
            parts: dict[str, float] = defaultdict(float)
            for share in shares_of(route.spec.weighted_targets):
                parts[share.virtual_node] += share.share
            if calls and len(parts) > 1 and any(parts.values()):
                place = f"{path}.spec.{route.spec.field}.action.weightedTargets"
                found += [(place, route.route_name, one) for one in spreads(parts, calls)]
        return found
