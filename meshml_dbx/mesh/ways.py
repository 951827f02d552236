"""By which ports a virtual service is called, what it speaks there, and which routes hold there.

A mesh and a service's name go in, its ways and the host names of each come out. The Envoy plane
renders them as virtual hosts, and the matcher decides by them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from meshml_dbx.mesh import names
from meshml_dbx.mesh.order import ordered_routes
from meshml_dbx.mesh.spec import (
    Listener,
    Mesh,
    Protocol,
    Route,
    VirtualNode,
    VirtualRouter,
    WeightedTarget,
)

HTTP_PORT, HTTPS_PORT = 80, 443
HTTP2_PROTOCOLS: tuple[Protocol, ...] = ("http2", "grpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One port by which a service is called, and what it speaks there.

    >>> Way(port=80, protocol="http").port
    80
    """

    port: int | None
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The authorities that lead to one way of a service."""

    name: str
    domains: tuple[str, ...]
    way: Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """A virtual service with who answers it: a node, or a router's routes in their order."""

    name: str
    router: VirtualRouter | None
    node: VirtualNode | None
    routes: tuple[Route, ...]
    ways: tuple[Way, ...]

    @property
    def request_ways(self) -> tuple[Way, ...]:
        """Where it takes requests: http, http2 or gRPC."""
        return tuple(way for way in self.ways if way.protocol != "tcp")

    @property
    def tcp_ways(self) -> tuple[Way, ...]:
        """Where it takes connections of which the mesh knows nothing more."""
        return tuple(way for way in self.ways if way.protocol == "tcp")

    @property
    def speaks_http2(self) -> bool:
        """Whether callers come with http2 or gRPC."""
        return any(way.protocol in HTTP2_PROTOCOLS for way in self.ways)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """One host for all ports that take requests, or one for each where a port matters."""
        ways = self.request_ways
        if not ways:
            return ()
        named = {way: f"{self.name}:{way.port}" if way.port else self.name for way in ways}
        first = next((way for way in ways if way.port == HTTP_PORT), ways[0])
        if not self._ports_matter():
            domains = dict.fromkeys([self.name, *named.values()])
            return (Host(name=self.name, domains=tuple(domains), way=first),)
        bare = {first: [self.name]}
        return tuple(
            Host(
                name=named[way],
                domains=tuple(dict.fromkeys([*bare.get(way, []), named[way]])),
                way=way,
            )
            for way in ways
        )

    def hosts_preferring(self, protocols: Collection[Protocol]) -> tuple[Host, ...]:
        """The hosts, the bare name meaning the first port that speaks one of these protocols."""
        preferred = next((host for host in self.hosts if host.way.protocol in protocols), None)
        if preferred is None or self.name in preferred.domains:
            return self.hosts
        own = {host: tuple(it for it in host.domains if it != self.name) for host in self.hosts}
        own[preferred] = (self.name, *own[preferred])
        return tuple(replace(host, domains=domains) for host, domains in own.items())

    def routes_at(self, way: Way) -> tuple[Route, ...]:
        """The routes that a call by this way may take."""
        is_tcp = way.protocol == "tcp"
        return tuple(
            route
            for route in self.routes
            if (route.spec.protocol == "tcp") == is_tcp and port_of(route) in {None, way.port}
        )

    def _ports_matter(self) -> bool:
        if self.node:
            return len(self.request_ways) > 1
        return any(port_of(route) for route in self.routes)


def port_of(route: Route) -> int | None:
    """The port that a route asks for."""
    match = route.spec.route.match
    return match.port if match else None


def provided(mesh: Mesh, virtual_service: str) -> Provided:
    """A virtual service with everything that answers it."""
    provider = names.service(mesh, virtual_service).spec.provider
    node = router = None
    if provider and provider.virtual_node:
        node = names.node(mesh, provider.virtual_node.virtual_node_name)
    if provider and provider.virtual_router:
        router = names.router(mesh, provider.virtual_router.virtual_router_name)
    routes = ordered_routes(router) if router else ()
    listeners = [it.port_mapping for it in names.listeners_of(mesh, virtual_service)]
    return Provided(
        name=virtual_service,
        router=router,
        node=node,
        routes=routes,
        ways=_ways([(it.port, it.protocol) for it in listeners], routes),
    )


def _ways(ports: Sequence[tuple[int, Protocol]], routes: tuple[Route, ...]) -> tuple[Way, ...]:
    """A router's routes say what is spoken; its listeners, by which port.

    Where the two differ the routes hold: teams wrote listeners of http for routes of http2.
    """
    spoken = dict.fromkeys(route.spec.protocol for route in routes)
    if not spoken:
        return tuple(Way(port=port, protocol=spoke) for port, spoke in ports) or (_UNSAID,)
    if not ports:
        return tuple(Way(port=None, protocol=protocol) for protocol in _told_apart(spoken))
    takes_requests = bool(set(spoken) - {"tcp"})
    found = []
    for port, declared in ports:
        is_tcp = not takes_requests or (declared == "tcp" and "tcp" in spoken)
        found.append(Way(port=port, protocol="tcp" if is_tcp else _richest(declared, spoken)))
    return tuple(found)


_UNSAID = Way(port=None, protocol="http")


def _richest(declared: Protocol, spoken: dict[Protocol, None]) -> Protocol:
    """What callers may come with: whoever speaks http2 is also served plain http."""
    return next((it for it in ("grpc", "http2") if it in (declared, *spoken)), "http")


def _told_apart(spoken: dict[Protocol, None]) -> list[Protocol]:
    found: list[Protocol] = [_richest("http", spoken)] if set(spoken) - {"tcp"} else []
    if "tcp" in spoken:
        found.append("tcp")
    return found


def node_target(node: VirtualNode, way: Way) -> WeightedTarget:
    """The one target of a service that a node provides without a router."""
    port = way.port if len(node.spec.listeners) > 1 else None
    return WeightedTarget(virtual_node=node.virtual_node_name, weight=100, port=port)


def target_listener(node: VirtualNode, port: int | None, *, is_tcp: bool) -> Listener | None:
    """The listener of a node that a target means: that of its port, else the first that fits."""
    listeners = node.spec.listeners
    if port is not None:
        return next((it for it in listeners if it.port_mapping.port == port), None)
    fitting = (it for it in listeners if (it.port_mapping.protocol == "tcp") == is_tcp)
    return next(fitting, next(iter(listeners), None))
