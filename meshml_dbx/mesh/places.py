"""The mesh with the place of each of its entries: what the rules of ``checks`` walk over.

A Mesh goes in; its entries by path and by name, and who reaches which listener, come out. Names
that lead nowhere are passed over here, since a rule of their own reports them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from meshml_dbx.mesh.names import entry_keys
from meshml_dbx.mesh.spec import (
    Listener,
    Mesh,
    MeshClientSpec,
    Route,
    VirtualNode,
    VirtualNodeSpec,
    VirtualRouter,
    VirtualService,
    VirtualServiceBackend,
    WeightedTarget,
)

_Entry = TypeVar("_Entry")


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
    """A node or client as a caller.

    >>> Member(path="clients[a]", name="a", spec=MeshClientSpec()).spec.backends
    ()
    """

    path: str
    name: str
    spec: VirtualNodeSpec | MeshClientSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The mesh with its entries by path and by name; of two with one name, the first.

    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> Declared.of(Mesh(mesh=MeshHead(mesh_name="ml"))).members
    ()
    """

    mesh_name: str
    nodes: tuple[tuple[str, VirtualNode], ...]
    routers: tuple[tuple[str, VirtualRouter], ...]
    routes: tuple[tuple[str, Route], ...]
    services: tuple[tuple[str, VirtualService], ...]
    members: tuple[Member, ...]
    node_named: dict[str, tuple[str, VirtualNode]]
    router_named: dict[str, VirtualRouter]
    service_named: dict[str, VirtualService]

    @classmethod
    def of(cls, mesh: Mesh) -> "Declared":
        """The entries of a mesh, each with the path by which ``load`` knows its line."""
        clients = _placed("clients", [(it.client_name, it) for it in mesh.clients])
        nodes = _placed("virtualNodes", [(it.virtual_node_name, it) for it in mesh.virtual_nodes])
        routers = _placed(
            "virtualRouters", [(it.virtual_router_name, it) for it in mesh.virtual_routers]
        )
        services = _placed(
            "virtualServices", [(it.virtual_service_name, it) for it in mesh.virtual_services]
        )
        return cls(
            mesh_name=mesh.mesh.mesh_name,
            nodes=nodes,
            routers=routers,
            routes=tuple(
                placed for path, router in routers for placed in placed_routes(path, router)
            ),
            services=services,
            members=(
                *(Member(path=path, name=it.client_name, spec=it.spec) for path, it in clients),
                *(Member(path=path, name=it.virtual_node_name, spec=it.spec) for path, it in nodes),
            ),
            node_named={it.virtual_node_name: (path, it) for path, it in reversed(nodes)},
            router_named={it.virtual_router_name: it for _, it in reversed(routers)},
            service_named={it.virtual_service_name: it for _, it in reversed(services)},
        )


def _placed(kind: str, named: Sequence[tuple[str, _Entry]]) -> tuple[tuple[str, _Entry], ...]:
    keys = entry_keys([name for name, _ in named])
    return tuple((f"{kind}[{key}]", it) for key, (_, it) in zip(keys, named, strict=True))


def placed_routes(path: str, router: VirtualRouter) -> tuple[tuple[str, Route], ...]:
    """The routes of a router, as written."""
    return _placed(f"{path}.routes", [(it.route_name, it) for it in router.routes])


def placed_backends(member: Member) -> Iterator[tuple[str, VirtualServiceBackend]]:
    """What a member calls."""
    for index, backend in enumerate(member.spec.backends):
        yield f"{member.path}.spec.backends[{index}].virtualService", backend.virtual_service


def placed_listeners(declared: Declared) -> Iterator[tuple[str, VirtualNode, Listener]]:
    """Every listener of every virtual node."""
    for path, node in declared.nodes:
        for index, listener in enumerate(node.spec.listeners):
            yield f"{path}.spec.listeners[{index}]", node, listener


def placed_targets(path: str, route: Route) -> Iterator[tuple[str, WeightedTarget]]:
    """The weighted targets of a route."""
    for index, target in enumerate(route.spec.weighted_targets):
        yield f"{path}.spec.{route.spec.field}.action.weightedTargets[{index}]", target


def reached_listeners(
    declared: Declared, service_name: str
) -> Iterator[tuple[str, VirtualNode, Listener]]:
    """The listeners to which the calls of a virtual service may come."""
    for node_name, port in _ends(declared, service_name):
        if node_name in declared.node_named:
            path, node = declared.node_named[node_name]
            for index, listener in enumerate(node.spec.listeners):
                if port in {None, listener.port_mapping.port}:
                    yield f"{path}.spec.listeners[{index}]", node, listener


def _ends(declared: Declared, service_name: str) -> Iterator[tuple[str, int | None]]:
    service = declared.service_named.get(service_name)
    provider = service.spec.provider if service else None
    if provider and provider.virtual_node:
        yield provider.virtual_node.virtual_node_name, None
    if provider and provider.virtual_router:
        router = declared.router_named.get(provider.virtual_router.virtual_router_name)
        for route in router.routes if router else ():
            for target in route.spec.weighted_targets:
                yield target.virtual_node, target.port
