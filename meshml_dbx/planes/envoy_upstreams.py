"""The clusters of a caller: one for each target of each virtual service that it calls.

A mesh and a member go in, Envoy's clusters come out. The client policy that holds between the
member and the service decides the TLS, the target's listener all else.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import (
    GatewayConnectionPool,
    Mesh,
    Protocol,
    ServiceDiscovery,
    VirtualGateway,
    WeightedTarget,
)
from meshml_dbx.mesh.ways import HTTP2_PROTOCOLS, target_listener
from meshml_dbx.planes.envoy_clusters import (
    PEER_CONNECTION_LIFE_S,
    cluster,
    endpoint,
    nobody_cluster,
    spoken,
)
from meshml_dbx.planes.envoy_health import health
from meshml_dbx.planes.envoy_policies import caller_limits
from meshml_dbx.planes.envoy_program import pool_limits
from meshml_dbx.planes.envoy_services import called_services, targets_of
from meshml_dbx.planes.envoy_terms import Body, Wiring, extension
from meshml_dbx.planes.envoy_tls import upstream_tls
from meshml_dbx.planes.plan import Resource

# Whoever closes an idle connection first is never surprised by it. Peers' sidecars keep theirs
# for much longer than 30 s; common servers close after 5 s, some after 2 s.
PEER_IDLE_S, SERVER_IDLE_S = 30.0, 4.0

_FAMILIES = {
    None: "V4_ONLY",  # by default Envoy would ask for ::1 where localhost is 127.0.0.1 alone
    "IPv4_ONLY": "V4_ONLY",
    "IPv6_ONLY": "V6_ONLY",
    "IPv4_PREFERRED": "V4_PREFERRED",
    "IPv6_PREFERRED": "AUTO",
}


def upstream_clusters(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """A cluster for each target of each service that a member calls."""
    found: dict[str, Resource] = {}
    services = called_services(mesh, member)
    for called in services:
        for target, is_tcp in targets_of(called):
            name = _name(called.name, target, is_tcp=is_tcp)
            if name not in found:
                body = _target_cluster(mesh, member, wiring, called.name, target, is_tcp=is_tcp)
                found[name] = Resource(kind="cluster", name=name, body=body)
    if any(called.tcp_ways for called in services):
        found["nobody"] = nobody_cluster()
    return tuple(found.values())


def cluster_name(virtual_service: str, target: WeightedTarget) -> str:
    """The name of the cluster that carries a virtual service's calls to one target."""
    port = f"/{target.port}" if target.port else ""
    return f"egress/{virtual_service}/{target.virtual_node}{port}"


def tcp_cluster_name(virtual_service: str, target: WeightedTarget) -> str:
    """The same of plain connections, which may lead to another listener of the node."""
    return f"{cluster_name(virtual_service, target)}/tcp"


def _name(virtual_service: str, target: WeightedTarget, *, is_tcp: bool) -> str:
    named = tcp_cluster_name if is_tcp else cluster_name
    return named(virtual_service, target)


def _target_cluster(
    mesh: Mesh,
    member: str,
    wiring: Wiring,
    virtual_service: str,
    target: WeightedTarget,
    *,
    is_tcp: bool,
) -> Body:
    name = _name(virtual_service, target, is_tcp=is_tcp)
    node = names.node(mesh, target.virtual_node)
    body = cluster(name, virtual_node=target.virtual_node)
    listener = target_listener(node, target.port, is_tcp=is_tcp)
    discovery = node.spec.service_discovery
    if listener is None or discovery is None:
        return body  # no endpoint: calls end in 503 UH
    idle_s = SERVER_IDLE_S if node.is_external else PEER_IDLE_S
    declared = listener.port_mapping.protocol
    body["circuit_breakers"] = _limits(mesh, member, declared)
    protocol: Protocol = "tcp" if is_tcp else "http" if declared == "tcp" else declared
    body |= spoken(protocol, idle_s=idle_s, life_s=PEER_CONNECTION_LIFE_S)
    body |= _discovery(mesh, name, discovery, listener.port_mapping.port)
    body |= health(listener, discovery.hostname, wiring)
    policy = names.client_policy_of(mesh, member, virtual_service)
    socket = upstream_tls(mesh, policy.tls if policy else None, node, listener, wiring)
    return body | ({"transport_socket": socket} if socket else {})


def _limits(mesh: Mesh, member: str, protocol: Protocol) -> Body:
    """A caller's limits are those that App Mesh injected; a gateway may declare its own."""
    found = names.member(mesh, member)
    pool = _gateway_pool(found, protocol) if isinstance(found, VirtualGateway) else None
    return pool_limits(pool) if pool else caller_limits(mesh.injected_defaults)


def _gateway_pool(gateway: VirtualGateway, protocol: Protocol) -> GatewayConnectionPool | None:
    """The pool of the listeners by which calls of a protocol come, the nearest that there are."""
    listeners = gateway.spec.listeners
    same = [it for it in listeners if it.port_mapping.protocol == protocol]
    alike = [it for it in listeners if _is_http2(it.port_mapping.protocol) == _is_http2(protocol)]
    pools = (it.connection_pool for it in same or alike or listeners if it.connection_pool)
    return next(pools, None)


def _is_http2(protocol: Protocol) -> bool:
    return protocol in HTTP2_PROTOCOLS


def _discovery(mesh: Mesh, name: str, found: ServiceDiscovery, port: int) -> Body:
    common = mesh.mesh.spec.service_discovery
    preferred = found.ip_preference or (common.ip_preference if common else None)
    resolve = extension(
        "clusters.dns",
        "extensions.clusters.dns.v3.DnsCluster",
        dns_lookup_family=_FAMILIES[preferred],
        all_addresses_in_single_endpoint=found.dns is not None
        and found.dns.response_type == "LOADBALANCER",
    )
    return {"cluster_type": resolve, **endpoint(name, found.hostname, port)}
