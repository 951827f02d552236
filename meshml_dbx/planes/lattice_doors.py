"""What becomes of each provider's listeners and routes on VPC Lattice, before it gets its words.

Goes in: a mesh and a virtual router or node. Comes out: its doors, one for each listener, with the
rules of each in the order in which they are asked, and what of each cannot be had. The table of
``fit`` and the resources of a plan are both told from here, so that they agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from meshml_dbx.mesh.names import index
from meshml_dbx.mesh.routing import ordered_routes
from meshml_dbx.mesh.spec import (
    Listener,
    Mesh,
    PortMapping,
    Route,
    VirtualNode,
    VirtualRouter,
    VirtualService,
)
from meshml_dbx.mesh.ways import HTTP_PORT, HTTPS_PORT
from meshml_dbx.planes.lattice_match import Gap, express

MOST_LISTENERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One target of a rule: where its calls arrive, and their weight, or why it cannot be had."""

    virtual_node: str
    weight: int
    node: VirtualNode | None = None
    listener: Listener | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One route at one door; with gaps in its match it is left out."""

    route: Route
    path: str
    match: Mapping[str, object]
    gaps: tuple[Gap, ...]
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What a listener of a router or node becomes: a listener of a service, or a TCP resource.

    ``rules`` are a router's, ``shares`` those of a node that provides its service directly.
    """

    mapping: PortMapping
    port: int
    protocol: Literal["HTTP", "HTTPS", "TCP"]
    path: str
    rules: tuple[Rule, ...] = ()
    shares: tuple[Share, ...] = ()

    @property
    def kept(self) -> tuple[Rule, ...]:
        """The rules that can be expressed, in order."""
        return tuple(rule for rule in self.rules if not rule.gaps)

    @property
    def targets(self) -> tuple[Share, ...]:
        """Every target that calls at this door may come to."""
        return (*self.shares, *(share for rule in self.rules for share in rule.shares))


@dataclass(slots=True)
class Doors:
    """The doors of a mesh's providers, each made once."""

    mesh: Mesh
    _made: dict[str, tuple[Door, ...]] = field(default_factory=dict)

    def of_service(self, service: VirtualService) -> tuple[Door, ...]:
        """The doors by which a virtual service is called; none if nobody provides it."""
        provider = service.spec.provider
        if provider and provider.virtual_router:
            return self.of_router(provider.virtual_router.virtual_router_name)
        if provider and provider.virtual_node:
            return self.of_node(provider.virtual_node.virtual_node_name)
        return ()

    def of_router(self, name: str) -> tuple[Door, ...]:
        """The doors of a virtual router, as its listeners are written."""
        router = index(self.mesh).routers.get(name)
        return self._once(f"router {name}", partial(_router_doors, self.mesh, router))

    def of_node(self, name: str) -> tuple[Door, ...]:
        """The doors of a virtual node that provides a service directly."""
        node = index(self.mesh).nodes.get(name)
        return self._once(f"node {name}", partial(_node_doors, self.mesh, node))

    def _once(self, key: str, make: "partial[tuple[Door, ...]]") -> tuple[Door, ...]:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _router_doors(mesh: Mesh, router: VirtualRouter | None) -> tuple[Door, ...]:
    if router is None:
        return ()
    path = f"virtualRouters[{router.virtual_router_name}]"
    routes = ordered_routes(router)
    doors = []
    for at, listener in enumerate(router.spec.listeners):
        mapping = listener.port_mapping
        here = [route for route in routes if _belongs(route, mapping)]
        rules = tuple(_rule(mesh, route, path) for route in here)
        place = f"{path}.spec.listeners[{at}]"
        doors.append(Door(mapping=mapping, port=0, protocol="TCP", path=place, rules=rules))
    return _placed(doors)


def _node_doors(mesh: Mesh, node: VirtualNode | None) -> tuple[Door, ...]:
    if node is None:
        return ()
    name, doors = node.virtual_node_name, []
    for at, listener in enumerate(node.spec.listeners):
        place = f"virtualNodes[{name}].spec.listeners[{at}]"
        share = share_of(mesh, name, port=listener.port_mapping.port, weight=1)
        mapping = listener.port_mapping
        doors.append(Door(mapping=mapping, port=0, protocol="TCP", path=place, shares=(share,)))
    return _placed(doors)


def _placed(doors: Sequence[Door]) -> tuple[Door, ...]:
    """The doors with Lattice's protocol and port, of which no two are the same."""
    found = [replace(door, protocol=_protocol(door), port=door.mapping.port) for door in doors]
    taken = {door.port for door in found}
    return tuple(
        replace(door, port=HTTPS_PORT)
        if door.protocol == "HTTPS" and door.port == HTTP_PORT and HTTPS_PORT not in taken
        else door
        for door in found
    )


def _protocol(door: Door) -> Literal["HTTP", "HTTPS", "TCP"]:
    """HTTPS where a target has TLS, and where Lattice speaks the protocol over TLS alone."""
    if door.mapping.protocol == "tcp":
        return "TCP"
    secure = any(it.listener is not None and has_tls(it.listener) for it in door.targets)
    return "HTTPS" if secure or door.mapping.protocol in {"http2", "grpc"} else "HTTP"


def has_tls(listener: Listener) -> bool:
    """Whether a listener speaks TLS to its callers."""
    return listener.tls is not None and listener.tls.mode != "DISABLED"


def _belongs(route: Route, mapping: PortMapping) -> bool:
    port = getattr(route.spec.route.match, "port", None)
    return port in {None, mapping.port} and (route.spec.tcp_route is None) == (
        mapping.protocol != "tcp"
    )


def _rule(mesh: Mesh, route: Route, path: str) -> Rule:
    found = express(route)
    return Rule(
        route=route,
        path=f"{path}.routes[{route.route_name}]",
        match=found.match,
        gaps=() if route.spec.tcp_route else found.gaps,
        shares=tuple(
            share_of(mesh, target.virtual_node, port=target.port, weight=target.weight)
            for target in route.spec.weighted_targets
        ),
    )


def share_of(mesh: Mesh, name: str, *, port: int | None, weight: int) -> Share:
    """A target: the node and listener where its calls arrive, or why Lattice cannot reach it."""
    node = index(mesh).nodes.get(name)
    if node is None:
        return Share(virtual_node=name, weight=weight, problem=f"there is no virtual node {name}")
    listener = next(
        (it for it in node.spec.listeners if port in {None, it.port_mapping.port}), None
    )
    if listener is None:
        problem = f"{name} has no listener" + (f" on port {port}" if port else "")
        return Share(virtual_node=name, weight=weight, node=node, problem=problem)
    problem = ""
    if node.is_external and listener.port_mapping.protocol != "tcp":
        problem = f"{name} runs outside: targets are addresses in a VPC"
    return Share(virtual_node=name, weight=weight, node=node, listener=listener, problem=problem)
