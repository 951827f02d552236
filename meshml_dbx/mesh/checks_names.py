"""Rules on names: what is named twice, what is named and is not there, what nobody names.

The placed mesh goes in; problems come out.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from meshml_dbx.mesh.limits import has_parameter
from meshml_dbx.mesh.names import closest
from meshml_dbx.mesh.places import (
    Declared,
    Problem,
    placed_gateway_routes,
    placed_routes,
    placed_targets,
    target_path,
)
from meshml_dbx.mesh.spec import (
    MeshClient,
    VirtualGateway,
    VirtualNode,
    VirtualServiceBackend,
    WeightedTarget,
)

_MOST_GUESSES = 20

# --- twice ------------------------------------------------------------------------------------


def find_duplicate_names(declared: Declared) -> Iterator[Problem]:
    """Entries of one kind with one name; of members, of any kind: a name is an identity."""
    yield from _repeated("client", [(p, it.client_name) for p, it in declared.clients])
    yield from _repeated("virtual node", [(p, it.virtual_node_name) for p, it in declared.nodes])
    yield from _repeated(
        "virtual router", [(p, it.virtual_router_name) for p, it in declared.routers]
    )
    # authorities are compared without regard to case
    yield from _repeated(
        "virtual service", [(p, it.virtual_service_name.lower()) for p, it in declared.services]
    )
    yield from _repeated(
        "virtual gateway", [(p, it.virtual_gateway_name) for p, it in declared.gateways]
    )
    yield from _repeated("backend group", [(p, it.backend_group_name) for p, it in declared.groups])
    yield from _shared_names(declared)


def find_duplicate_entries(declared: Declared) -> Iterator[Problem]:
    """Routes of one router or gateway, and backends of one caller, with one name."""
    for path, router in declared.routers:
        routes = [(at, route.route_name) for at, route in placed_routes(path, router)]
        yield from _repeated(f"route of {router.virtual_router_name}", routes)
    for path, gateway in declared.gateways:
        rules = [(at, it.gateway_route_name) for at, it in placed_gateway_routes(path, gateway)]
        yield from _repeated(f"route of {gateway.virtual_gateway_name}", rules)
    for member in declared.members:
        if isinstance(member.entry, MeshClient | VirtualNode):
            named = [
                (f"{member.path}.spec.backends[{at}].virtualService", it.virtual_service)
                for at, it in enumerate(member.entry.spec.backends)
            ]
            yield from _repeated(
                f"backend of {member.name}", [(p, it.virtual_service_name) for p, it in named]
            )


def _repeated(kind: str, named: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, name in named:
        if name in seen:
            yield Problem("duplicate-name", path, f"a second {kind} is named {name}")
        seen.add(name)


def _shared_names(declared: Declared) -> Iterator[Problem]:
    """Clients and gateways that are named as a virtual node, or as one another."""
    owner = dict.fromkeys(declared.node_named, "a virtual node")
    for path, client in declared.clients:
        if client.client_name in owner:
            what = f"client {client.client_name} is named as a virtual node"
            yield Problem("duplicate-name", path, f"{what}: they would be one identity")
    owner |= {it.client_name: "a client" for _, it in declared.clients}
    for path, gateway in declared.gateways:
        name = gateway.virtual_gateway_name
        if name in owner:
            what = f"virtual gateway {name} is named as {owner[name]}"
            yield Problem("duplicate-name", path, f"{what}: they would be one identity")


def find_duplicate_targets(declared: Declared) -> Iterator[Problem]:
    """One target that a route names twice."""
    for path, _, route in declared.routes:
        seen = set()
        for place, target in placed_targets(path, route):
            key = (target.virtual_node, target.port)
            if key in seen:
                what = f"{route.route_name} names the target {target.virtual_node} twice"
                yield Problem("duplicate-target", place, what)
            seen.add(key)


# --- not there --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reference:
    """A name that must be somebody's, and who could carry it."""

    kind: str
    path: str
    name: str
    known: Collection[str]


def find_dangling_references(declared: Declared) -> Iterator[Problem]:
    """Names that nothing carries: of services, groups, providers and targets."""
    dangling = (it for it in _unmet(declared) if not has_parameter(it.name))
    for number, one in enumerate(dangling):
        # each guess looks at every name there is
        guess = closest(one.name, one.known) if number < _MOST_GUESSES else None
        asked = f"; did you mean {guess}?" if guess else ""
        yield Problem("dangling-reference", one.path, f"there is no {one.kind} {one.name}{asked}")


def _unmet(declared: Declared) -> Iterator[_Reference]:
    return (it for it in _references(declared) if it.name not in it.known)


def _references(declared: Declared) -> Iterator[_Reference]:
    yield from _named_backends(declared)
    yield from _named_providers(declared)
    for path, _, route in declared.routes:
        for place, target in placed_targets(path, route):
            at, name = f"{place}.virtualNode", target.virtual_node
            yield _Reference("virtual node", at, name, declared.node_named)
    for path, _, rule in declared.gateway_routes:
        name = rule.spec.target.virtual_service.virtual_service_name
        at = f"{target_path(path, rule)}.virtualServiceName"
        yield _Reference("virtual service", at, name, declared.service_named)


def _named_backends(declared: Declared) -> Iterator[_Reference]:
    for member in declared.members:
        if isinstance(member.entry, VirtualGateway):
            continue
        for index, backend in enumerate(member.entry.spec.backends):
            name = backend.virtual_service.virtual_service_name
            at = f"{member.path}.spec.backends[{index}].virtualService.virtualServiceName"
            yield _Reference("virtual service", at, name, declared.service_named)
        for index, group in enumerate(member.entry.spec.backend_groups):
            at = f"{member.path}.spec.backendGroups[{index}]"
            yield _Reference("backend group", at, group, declared.group_named)
    for path, entry in declared.groups:
        for index, name in enumerate(entry.spec.virtual_services):
            at = f"{path}.spec.virtualServices[{index}]"
            yield _Reference("virtual service", at, name, declared.service_named)


def _named_providers(declared: Declared) -> Iterator[_Reference]:
    for path, service in declared.services:
        provider = service.spec.provider
        place = f"{path}.spec.provider"
        if provider and provider.virtual_router:
            name = provider.virtual_router.virtual_router_name
            at = f"{place}.virtualRouter.virtualRouterName"
            yield _Reference("virtual router", at, name, declared.router_named)
        if provider and provider.virtual_node:
            name = provider.virtual_node.virtual_node_name
            at = f"{place}.virtualNode.virtualNodeName"
            yield _Reference("virtual node", at, name, declared.node_named)


def find_missing_ports(declared: Declared) -> Iterator[Problem]:
    """Ports of targets that nobody listens on, and those that would have to be written."""
    for path, _, route in declared.routes:
        for place, target in placed_targets(path, route):
            if target.virtual_node in declared.node_named:
                _, node = declared.node_named[target.virtual_node]
                ports = [it.port_mapping.port for it in node.spec.listeners]
                yield from _target_port(place, target, ports)
    for path, service in declared.services:
        provider = declared.provider_of(service.virtual_service_name)
        if isinstance(provider, VirtualNode) and not provider.spec.listeners:
            what = _no_listener(provider.virtual_node_name)
            yield Problem("dangling-reference", f"{path}.spec.provider", what)


def _target_port(path: str, target: WeightedTarget, ports: Sequence[int]) -> Iterator[Problem]:
    there = ", ".join(str(port) for port in ports)
    if not ports:
        what = _no_listener(target.virtual_node)
        yield Problem("dangling-reference", f"{path}.virtualNode", what)
    elif target.port is None and len(ports) > 1:
        what = f"{target.virtual_node} listens on {there}: the target needs the field port"
        yield Problem("missing-field", path, what)
    elif target.port is not None and target.port not in ports:
        what = f"{target.virtual_node} does not listen on {target.port}, but on {there}"
        yield Problem("dangling-reference", f"{path}.port", what)


def _no_listener(node: str) -> str:
    return f"{node} has no listener to be called at"


def find_missing_gateway_ports(declared: Declared) -> Iterator[Problem]:
    """Ports of gateways' targets that their services lack, or that would have to be written."""
    for path, _, rule in declared.gateway_routes:
        target = rule.spec.target
        name = target.virtual_service.virtual_service_name
        ports = [it.port_mapping.port for it in declared.listeners_of(name)]
        there = ", ".join(str(port) for port in ports)
        at = f"{path}.spec.{rule.spec.field}.action.target"
        if target.port is None and len(ports) > 1:
            yield Problem("ambiguous-port", at, f"{name} answers on {there}: which is meant?")
        elif target.port is not None and ports and target.port not in ports:
            what = f"{name} does not answer on {target.port}, but on {there}"
            yield Problem("dangling-reference", f"{at}.port", what)


def leads_nowhere(declared: Declared) -> bool:
    """Whether some call cannot be followed to its end: what seems unused may be what it lacks."""
    wrong = (_unmet, find_missing_ports, find_no_provider, find_no_routes)
    return any(problem for check in wrong for problem in check(declared))


# --- nobody names -----------------------------------------------------------------------------


def find_no_provider(declared: Declared) -> Iterator[Problem]:
    """Virtual services that nobody answers."""
    for path, service in declared.services:
        if service.spec.provider is None:
            what = f"{service.virtual_service_name} has no provider: its calls are answered 503"
            yield Problem("no-provider", path, what)


def find_no_routes(declared: Declared) -> Iterator[Problem]:
    """Virtual routers that take no call of the services that name them."""
    named, _ = _named_by_providers(declared)
    for name, (path, router) in declared.router_named.items():
        if name in named and not router.routes:
            what = f"{name} has no route: calls of its services find none"
            yield Problem("no-routes", path, what)


def find_unused(declared: Declared) -> Iterator[Problem]:
    """Nodes, routers and services that no call can come to.

    Nothing is said while another name leads nowhere: it may be the one that is missing.
    """
    if declared.answer(leads_nowhere):
        return
    called = {call.virtual_service_name for it in declared.members for _, call in it.calls}
    for path, service in declared.services:
        name = service.virtual_service_name
        if name not in called:
            what = f"nobody lists {name} among its backends, and no gateway leads to it"
            yield Problem("unused-service", path, what)
    routers, nodes = _named_by_providers(declared)
    for path, router in declared.routers:
        if router.virtual_router_name not in routers:
            what = f"no virtual service names {router.virtual_router_name} as its provider"
            yield Problem("unused-router", path, what)
    for _, _, route in declared.routes:
        nodes |= {target.virtual_node for target in route.spec.weighted_targets}
    for path, node in declared.nodes:
        calls = node.spec.backends or node.spec.backend_groups  # from outside, as a front does
        if node.spec.listeners and not calls and node.virtual_node_name not in nodes:
            what = f"no virtual service leads to {node.virtual_node_name}, which listens"
            yield Problem("unused-node", path, what)


def _named_by_providers(declared: Declared) -> tuple[set[str], set[str]]:
    """The routers and the nodes that virtual services name."""
    providers = [it.spec.provider for _, it in declared.services if it.spec.provider]
    routers = {it.virtual_router.virtual_router_name for it in providers if it.virtual_router}
    nodes = {it.virtual_node.virtual_node_name for it in providers if it.virtual_node}
    return routers, nodes


# --- circles ----------------------------------------------------------------------------------


def find_cycles(declared: Declared) -> Iterator[Problem]:
    """Nodes that call one another in a circle, each circle once."""
    leads = {
        it.name: [(at, reached) for at, call in it.calls for reached in _nodes(declared, call)]
        for it in declared.members
        if isinstance(it.entry, VirtualNode)
    }
    done: set[str] = set()
    for start in leads:
        yield from _circles_from(start, leads, done)


def _nodes(declared: Declared, call: VirtualServiceBackend) -> list[str]:
    reached = declared.reached(call.virtual_service_name)
    return list(dict.fromkeys(it.node.virtual_node_name for it in reached))


def _circles_from(
    start: str, leads: dict[str, list[tuple[str, str]]], done: set[str]
) -> Iterator[Problem]:
    """A walk in depth that reports each call back to a node that it came through."""
    way = [start]
    at = {start: 0}
    pending = [iter(leads.get(start, ()))] if start not in done else []
    while pending:
        place, node = next(pending[-1], ("", ""))
        if not node:
            pending.pop()
            left = way.pop()
            del at[left]
            done.add(left)
        elif node in at:
            circle = " -> ".join([*way[at[node] :], node])
            yield Problem("backend-cycle", place, f"calls can go round: {circle}")
        elif node not in done:
            at[node] = len(way)
            way.append(node)
            pending.append(iter(leads.get(node, ())))
