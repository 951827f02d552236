"""The mesh with the place of each of its entries: what the rules of ``checks`` walk over.

A Mesh goes in; its entries by path and by name, and who reaches which listener, come out. Names
that lead nowhere are passed over here, since a rule of their own reports them. Everything is built
once, so that a rule costs no more than the mesh is large.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from meshml_dbx.mesh.names import entry_keys
from meshml_dbx.mesh.spec import (
    BackendDefaults,
    BackendGroup,
    GatewayListener,
    GatewayRoute,
    Listener,
    Mesh,
    MeshClient,
    Route,
    RouterListener,
    VirtualGateway,
    VirtualNode,
    VirtualRouter,
    VirtualService,
    VirtualServiceBackend,
    WeightedTarget,
)

_Entry = TypeVar("_Entry")
Question = Callable[["Declared"], bool]
"""Something about the whole mesh that is so or is not."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding before its line is looked up.

    >>> Problem("no-provider", "virtualServices[a]", "a has no provider").code
    'no-provider'
    """

    code: str
    path: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node, client or gateway as a caller: the virtual services that it calls, with their places.

    >>> client = MeshClient(client_name="a", role="training")
    >>> Member(path="clients[a]", name="a", entry=client, defaults=None, calls=()).calls
    ()
    """

    path: str
    name: str
    entry: VirtualNode | MeshClient | VirtualGateway
    defaults: BackendDefaults | None
    calls: tuple[tuple[str, VirtualServiceBackend], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A listener of a node to which the calls of a virtual service may come.

    >>> Reached.__slots__
    ('path', 'node', 'listener')
    """

    path: str
    node: VirtualNode
    listener: Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The mesh with its entries by path and by name; of two with one name, the first.

    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> Declared.of(Mesh(mesh=MeshHead(mesh_name="ml"))).members
    ()
    """

    mesh: Mesh
    mesh_name: str
    clients: tuple[tuple[str, MeshClient], ...]
    nodes: tuple[tuple[str, VirtualNode], ...]
    routers: tuple[tuple[str, VirtualRouter], ...]
    routes: tuple[tuple[str, VirtualRouter, Route], ...]
    services: tuple[tuple[str, VirtualService], ...]
    gateways: tuple[tuple[str, VirtualGateway], ...]
    gateway_routes: tuple[tuple[str, VirtualGateway, GatewayRoute], ...]
    groups: tuple[tuple[str, BackendGroup], ...]
    members: tuple[Member, ...]
    node_named: dict[str, tuple[str, VirtualNode]]
    router_named: dict[str, tuple[str, VirtualRouter]]
    service_named: dict[str, VirtualService]
    group_named: dict[str, BackendGroup]
    _reached: dict[str, tuple[Reached, ...]] = field(default_factory=dict)
    _answers: dict[Question, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, mesh: Mesh) -> "Declared":
        """The entries of a mesh with their paths, as the file and its findings name them."""
        clients = _placed("clients", [(it.client_name, it) for it in mesh.clients])
        nodes = _placed("virtualNodes", [(it.virtual_node_name, it) for it in mesh.virtual_nodes])
        routers = _placed(
            "virtualRouters", [(it.virtual_router_name, it) for it in mesh.virtual_routers]
        )
        services = _placed(
            "virtualServices", [(it.virtual_service_name, it) for it in mesh.virtual_services]
        )
        gateways = _placed(
            "virtualGateways", [(it.virtual_gateway_name, it) for it in mesh.virtual_gateways]
        )
        groups = _placed(
            "backendGroups", [(it.backend_group_name, it) for it in mesh.backend_groups]
        )
        group_named = {it.backend_group_name: it for _, it in reversed(groups)}
        return cls(
            mesh=mesh,
            mesh_name=mesh.mesh.mesh_name,
            clients=clients,
            nodes=nodes,
            routers=routers,
            routes=tuple(
                (at, it, route) for p, it in routers for at, route in placed_routes(p, it)
            ),
            services=services,
            gateways=gateways,
            gateway_routes=tuple(
                (at, it, route) for p, it in gateways for at, route in placed_gateway_routes(p, it)
            ),
            groups=groups,
            members=(
                *(_caller(path, it.client_name, it, group_named) for path, it in clients),
                *(_caller(path, it.virtual_node_name, it, group_named) for path, it in nodes),
                *(_gateway(path, it) for path, it in gateways),
            ),
            node_named={it.virtual_node_name: (path, it) for path, it in reversed(nodes)},
            router_named={it.virtual_router_name: (path, it) for path, it in reversed(routers)},
            service_named={it.virtual_service_name: it for _, it in reversed(services)},
            group_named=group_named,
        )

    def reached(self, service_name: str) -> tuple[Reached, ...]:
        """The listeners to which the calls of a virtual service may come."""
        if service_name not in self._reached:
            found = {it.path: it for it in _reached(self, service_name)}
            self._reached[service_name] = tuple(found.values())
        return self._reached[service_name]

    def answer(self, question: Question) -> bool:
        """The answer to what several rules ask of the whole mesh, found once."""
        if question not in self._answers:
            self._answers[question] = question(self)
        return self._answers[question]

    def provider_of(self, service_name: str) -> VirtualRouter | VirtualNode | None:
        """Who answers a virtual service, if that is declared."""
        service = self.service_named.get(service_name)
        provider = service.spec.provider if service else None
        if provider and provider.virtual_node:
            return self.node_named.get(provider.virtual_node.virtual_node_name, ("", None))[1]
        if provider and provider.virtual_router:
            return self.router_named.get(provider.virtual_router.virtual_router_name, ("", None))[1]
        return None

    def listeners_of(self, service_name: str) -> Sequence[Listener | RouterListener]:
        """Where a virtual service is addressed: its router's listeners, or its node's own."""
        provider = self.provider_of(service_name)
        return provider.spec.listeners if provider else ()


# --- placing ----------------------------------------------------------------------------------


def _placed(kind: str, named: Sequence[tuple[str, _Entry]]) -> tuple[tuple[str, _Entry], ...]:
    keys = entry_keys([name for name, _ in named])
    return tuple((f"{kind}[{key}]", it) for key, (_, it) in zip(keys, named, strict=True))


def placed_routes(path: str, router: VirtualRouter) -> tuple[tuple[str, Route], ...]:
    """The routes of a router, as written."""
    return _placed(f"{path}.routes", [(it.route_name, it) for it in router.routes])


def placed_gateway_routes(
    path: str, gateway: VirtualGateway
) -> tuple[tuple[str, GatewayRoute], ...]:
    """The routes of a gateway, as written."""
    named = [(it.gateway_route_name, it) for it in gateway.gateway_routes]
    return _placed(f"{path}.gatewayRoutes", named)


def _caller(
    path: str, name: str, entry: VirtualNode | MeshClient, groups: dict[str, BackendGroup]
) -> Member:
    spec = entry.spec
    own = (
        (f"{path}.spec.backends[{index}].virtualService", backend.virtual_service)
        for index, backend in enumerate(spec.backends)
    )
    grouped = (
        (f"{path}.spec.backendGroups[{index}]", VirtualServiceBackend(virtual_service_name=service))
        for index, group in enumerate(spec.backend_groups)
        if group in groups
        for service in groups[group].spec.virtual_services
    )
    return Member(
        path=path,
        name=name,
        entry=entry,
        defaults=spec.backend_defaults,
        calls=_first_of_each([*own, *grouped]),
    )


def _gateway(path: str, gateway: VirtualGateway) -> Member:
    calls = [
        (target_path(at, route), _backend(route))
        for at, route in placed_gateway_routes(path, gateway)
    ]
    return Member(
        path=path,
        name=gateway.virtual_gateway_name,
        entry=gateway,
        defaults=gateway.spec.backend_defaults,
        calls=_first_of_each(calls),
    )


def _backend(route: GatewayRoute) -> VirtualServiceBackend:
    name = route.spec.target.virtual_service.virtual_service_name
    return VirtualServiceBackend(virtual_service_name=name)


def _first_of_each(
    calls: Sequence[tuple[str, VirtualServiceBackend]],
) -> tuple[tuple[str, VirtualServiceBackend], ...]:
    first: dict[str, tuple[str, VirtualServiceBackend]] = {}
    for path, call in calls:
        first.setdefault(call.virtual_service_name, (path, call))
    return tuple(first.values())


def target_path(path: str, route: GatewayRoute) -> str:
    """Where a gateway's route names its virtual service."""
    return f"{path}.spec.{route.spec.field}.action.target.virtualService"


def placed_listeners(declared: Declared) -> Iterator[tuple[str, VirtualNode, Listener]]:
    """Every listener of every virtual node."""
    for path, node in declared.nodes:
        for index, listener in enumerate(node.spec.listeners):
            yield f"{path}.spec.listeners[{index}]", node, listener


def placed_gateway_listeners(
    declared: Declared,
) -> Iterator[tuple[str, VirtualGateway, GatewayListener]]:
    """Every listener of every virtual gateway."""
    for path, gateway in declared.gateways:
        for index, listener in enumerate(gateway.spec.listeners):
            yield f"{path}.spec.listeners[{index}]", gateway, listener


def placed_targets(path: str, route: Route) -> Iterator[tuple[str, WeightedTarget]]:
    """The weighted targets of a route."""
    for index, target in enumerate(route.spec.weighted_targets):
        yield f"{path}.spec.{route.spec.field}.action.weightedTargets[{index}]", target


# --- reaching ---------------------------------------------------------------------------------


def target_listener(node: VirtualNode, port: int | None) -> Listener | None:
    """The listener that a target means: the one of its port, else the only one."""
    listeners = node.spec.listeners
    if port is None:
        return listeners[0] if len(listeners) == 1 else None
    return next((it for it in listeners if it.port_mapping.port == port), None)


def _reached(declared: Declared, service_name: str) -> Iterator[Reached]:
    for node_name, port in _ends(declared, service_name):
        if node_name in declared.node_named:
            path, node = declared.node_named[node_name]
            for index, listener in enumerate(node.spec.listeners):
                if port in {None, listener.port_mapping.port}:
                    at = f"{path}.spec.listeners[{index}]"
                    yield Reached(path=at, node=node, listener=listener)


def _ends(declared: Declared, service_name: str) -> Iterator[tuple[str, int | None]]:
    provider = declared.provider_of(service_name)
    if isinstance(provider, VirtualNode):
        yield provider.virtual_node_name, None
    elif provider is not None:
        for route in provider.routes:
            for target in route.spec.weighted_targets:
                yield target.virtual_node, target.port
