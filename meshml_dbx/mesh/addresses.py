"""What a mesh calls the addresses that a program may call: services by name, nodes by their own.

Goes in: a mesh. Comes out: address → virtual service, and the node where the address is its own.
"""

from collections.abc import Iterator

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Mesh, Provider, VirtualNode, VirtualService
from meshml_dbx.mesh.ways import HTTP_PORT, HTTPS_PORT


def named_addresses(mesh: Mesh) -> dict[str, tuple[str, str | None]]:
    """``host[:port]`` → virtual service and node; a scheme's own port is left out, as in calls.

    A node that several services use is the first one's.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for service in mesh.virtual_services:
        for node in _nodes_behind(mesh, service):
            for address in _addresses_of(node):
                found.setdefault(address, (service.virtual_service_name, node.virtual_node_name))
    for service in mesh.virtual_services:
        name = service.virtual_service_name
        for domain in names.domains_of(mesh, name):
            found[domain.lower().removesuffix(f":{HTTP_PORT}")] = (name, None)
    return found


def _nodes_behind(mesh: Mesh, service: VirtualService) -> Iterator[VirtualNode]:
    """The nodes that a service's provider names, one or the targets of its routes."""
    known = names.index(mesh).nodes
    if service.spec.provider:
        for name in dict.fromkeys(_targets_of(mesh, service.spec.provider)):
            if name in known:
                yield known[name]


def _targets_of(mesh: Mesh, provider: Provider) -> Iterator[str]:
    if provider.virtual_node:
        yield provider.virtual_node.virtual_node_name
    known = names.index(mesh).routers
    router = provider.virtual_router
    if router and router.virtual_router_name in known:
        for route in known[router.virtual_router_name].routes:
            yield from (target.virtual_node for target in route.spec.weighted_targets)


def _addresses_of(node: VirtualNode) -> list[str]:
    discovery = node.spec.service_discovery
    if discovery is None or not discovery.hostname:
        return []
    host = discovery.hostname.lower()
    hosts = (host, "127.0.0.1") if host == "localhost" else (host,)
    ports = [listener.port_mapping.port for listener in node.spec.listeners]
    return [_shown(one, port) for one in hosts for port in ports]


def _shown(host: str, port: int) -> str:
    return host if port in (HTTP_PORT, HTTPS_PORT) else f"{host}:{port}"
