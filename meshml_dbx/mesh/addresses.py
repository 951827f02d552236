"""What a mesh calls the addresses that a program may call: services by name, nodes by their own.

Goes in: a mesh. Comes out: address → virtual service, and the node where the address is its own.
"""

from meshml_dbx.mesh.names import domains_of
from meshml_dbx.mesh.spec import Mesh, VirtualNode

HTTP_PORT, HTTPS_PORT = 80, 443


def named_addresses(mesh: Mesh) -> dict[str, tuple[str, str | None]]:
    """``host[:port]`` → virtual service and node; a scheme's own port is left out, as in calls.

    A node that several services use is the first one's.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for service in mesh.virtual_services:
        name = service.virtual_service_name
        for node in _nodes_behind(mesh, name):
            for address in _addresses_of(node):
                found.setdefault(address, (name, node.virtual_node_name))
    for service in mesh.virtual_services:
        for domain in domains_of(mesh, service.virtual_service_name):
            found[domain.lower().removesuffix(f":{HTTP_PORT}")] = (
                service.virtual_service_name,
                None,
            )
    return found


def _nodes_behind(mesh: Mesh, virtual_service: str) -> list[VirtualNode]:
    """The nodes that a service's provider names: one, or the targets of its routes."""
    names: list[str] = []
    for service in mesh.virtual_services:
        provider = service.spec.provider
        if service.virtual_service_name != virtual_service or provider is None:
            continue
        if provider.virtual_node:
            names.append(provider.virtual_node.virtual_node_name)
        if provider.virtual_router:
            names += _targets_of(mesh, provider.virtual_router.virtual_router_name)
    return [node for node in mesh.virtual_nodes if node.virtual_node_name in names]


def _targets_of(mesh: Mesh, router_name: str) -> list[str]:
    return [
        target.virtual_node
        for router in mesh.virtual_routers
        if router.virtual_router_name == router_name
        for route in router.routes
        for target in route.spec.weighted_targets
    ]


def _addresses_of(node: VirtualNode) -> list[str]:
    discovery = node.spec.service_discovery
    if discovery is None or discovery.dns is None:
        return []
    host = discovery.dns.hostname.lower()
    names = (host, "127.0.0.1") if host == "localhost" else (host,)
    ports = [listener.port_mapping.port for listener in node.spec.listeners]
    return [_shown(name, port) for name in names for port in ports]


def _shown(host: str, port: int) -> str:
    return host if port in (HTTP_PORT, HTTPS_PORT) else f"{host}:{port}"
