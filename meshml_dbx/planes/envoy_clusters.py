"""Where calls go: a cluster per target of a virtual service, the program itself, and all else.

The mesh and a member go in, Envoy's clusters come out. Each names its virtual node in its
metadata, which is how a line of the access log knows the target of a call.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import (
    ConnectionPool,
    Listener,
    Mesh,
    OutlierDetection,
    ServiceDiscovery,
    VirtualNode,
    VirtualService,
    WeightedTarget,
)
from meshml_dbx.planes.envoy_terms import (
    LOOPBACK,
    UNLIMITED,
    Body,
    duration,
    extension,
    meshml_metadata,
    socket_address,
    typed,
)
from meshml_dbx.planes.envoy_tls import upstream_tls
from meshml_dbx.planes.plan import Resource

EXTERNAL_CLUSTER = "egress/external"

CONNECT_TIMEOUT_S = 2.0
EXTERNAL_CONNECT_TIMEOUT_S = 5.0
# Whoever closes an idle connection first is never surprised by it. Peers' sidecars keep theirs
# for much longer than 30 s; common servers close after 5 s, some after 2 s, and to connect anew
# on this machine costs next to nothing.
PEER_IDLE_S, EXTERNAL_IDLE_S, PROGRAM_IDLE_S = 30.0, 4.0, 1.5
# An open connection keeps the identity that it began with, however often that is renewed.
PEER_CONNECTION_LIFE_S = 300.0

_HTTP_OPTIONS = "extensions.upstreams.http.v3.HttpProtocolOptions"
_OPTIONS_KEY = f"envoy.{_HTTP_OPTIONS}"
_FAMILIES = {
    None: "V4_ONLY",  # by default Envoy would ask for ::1 where localhost is 127.0.0.1 alone
    "IPv4_ONLY": "V4_ONLY",
    "IPv6_ONLY": "V6_ONLY",
    "IPv4_PREFERRED": "V4_PREFERRED",
    "IPv6_PREFERRED": "AUTO",
}


# --- out of the program -----------------------------------------------------------------------


def egress_clusters(mesh: Mesh, member: str) -> tuple[Resource, ...]:
    """A cluster for each target of each backend, and the one for hosts outside the mesh."""
    found: dict[str, Resource] = {}
    for backend in names.backends_of(mesh, member):
        service = names.service(mesh, backend.virtual_service_name)
        for target in targets_of(mesh, service):
            resource = _target_cluster(mesh, member, service, target)
            found[resource.name] = resource
    return (*found.values(), _external_cluster())


def targets_of(mesh: Mesh, service: VirtualService) -> tuple[WeightedTarget, ...]:
    """Every virtual node to which a virtual service may lead."""
    provider = service.spec.provider
    if provider and provider.virtual_node:
        return (node_target(provider.virtual_node.virtual_node_name),)
    if provider is None or provider.virtual_router is None:
        return ()
    routes = names.router(mesh, provider.virtual_router.virtual_router_name).routes
    return tuple(it for route in routes for it in route.spec.weighted_targets)


def node_target(virtual_node: str) -> WeightedTarget:
    """The one target of a virtual service that a node provides without a router."""
    return WeightedTarget(virtual_node=virtual_node, weight=100)


def cluster_name(service: VirtualService, target: WeightedTarget) -> str:
    """The name of the cluster that carries a virtual service's calls to one target."""
    port = f"/{target.port}" if target.port else ""
    return f"egress/{service.virtual_service_name}/{target.virtual_node}{port}"


def _target_cluster(
    mesh: Mesh, member: str, service: VirtualService, target: WeightedTarget
) -> Resource:
    name, node = cluster_name(service, target), names.node(mesh, target.virtual_node)
    body = _cluster(name, virtual_node=target.virtual_node, idle_s=PEER_IDLE_S)
    listener = _listener_of(node, target.port)
    discovery = node.spec.service_discovery
    if listener is None or discovery is None:
        return Resource(kind="cluster", name=name, body=body)  # no endpoint: calls end in 503 UH
    port = listener.port_mapping.port
    body |= _discovery(name, discovery, port) | _health(listener.outlier_detection)
    policy = names.client_policy_of(mesh, member, service.virtual_service_name)
    socket = upstream_tls(mesh, policy.tls if policy else None, node, port)
    if socket:
        body["transport_socket"] = socket
    return Resource(kind="cluster", name=name, body=body)


def _listener_of(node: VirtualNode, port: int | None) -> Listener | None:
    fits = (it for it in node.spec.listeners if port in {None, it.port_mapping.port})
    return next(fits, None)


def _discovery(name: str, found: ServiceDiscovery, port: int) -> Body:
    resolve = extension(
        "clusters.dns",
        "extensions.clusters.dns.v3.DnsCluster",
        dns_lookup_family=_FAMILIES[found.ip_preference],
        all_addresses_in_single_endpoint=found.dns is not None
        and found.dns.response_type == "LOADBALANCER",
    )
    return {"cluster_type": resolve, "load_assignment": _endpoint(name, found.hostname, port)}


def _health(outlier: OutlierDetection | None) -> Body:
    """When an endpoint is left out for a while; App Mesh may always leave out one."""
    if outlier is None:
        return {}
    return {
        "outlier_detection": {
            "consecutive_5xx": outlier.max_server_errors,
            "interval": duration(outlier.interval.seconds),
            "base_ejection_time": duration(outlier.base_ejection_duration.seconds),
            "max_ejection_percent": outlier.max_ejection_percent,
            "always_eject_one_host": True,
            "enforcing_success_rate": 0,
        },
        # Nobody left means 503 at once, neither calls to the ejected nor a second's delay.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
    }


def dns_cache() -> Body:
    """How hosts outside the mesh are found; the cluster and the proxy filter must say the same."""
    return {"name": "external", "dns_lookup_family": "V4_PREFERRED"}


def _external_cluster() -> Resource:
    """Hosts outside the mesh, found by the name that the program calls them."""
    body = _cluster(EXTERNAL_CLUSTER, virtual_node=None, idle_s=EXTERNAL_IDLE_S) | {
        "connect_timeout": duration(EXTERNAL_CONNECT_TIMEOUT_S),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": extension(
            "clusters.dynamic_forward_proxy",
            "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            dns_cache_config=dns_cache(),
            allow_insecure_cluster_options=True,  # about TLS of Envoy's own, and there is none
        ),
    }
    return Resource(kind="cluster", name=EXTERNAL_CLUSTER, body=body)


# --- into the program -------------------------------------------------------------------------


def ingress_clusters(mesh: Mesh, member: str, app_port: int) -> tuple[Resource, ...]:
    """The program behind each listener of a virtual node, with that listener's connection pool."""
    node = names.node(mesh, member)
    return tuple(_program_cluster(member, listener, app_port) for listener in node.spec.listeners)


def program_cluster_name(virtual_node: str, listener: Listener) -> str:
    """The name of the cluster that holds the program behind a listener."""
    return f"ingress/{virtual_node}/{listener.port_mapping.port}"


def _program_cluster(virtual_node: str, listener: Listener, app_port: int) -> Resource:
    name = program_cluster_name(virtual_node, listener)
    body = _cluster(name, virtual_node=virtual_node, idle_s=PROGRAM_IDLE_S)
    body["load_assignment"] = _endpoint(name, LOOPBACK, app_port)
    if listener.connection_pool:
        body["circuit_breakers"] = _thresholds(listener.connection_pool)
    return Resource(kind="cluster", name=name, body=body)


# --- what all clusters share ------------------------------------------------------------------


def _cluster(name: str, *, virtual_node: str | None, idle_s: float) -> Body:
    times = {"idle_timeout": duration(idle_s)}
    if idle_s == PEER_IDLE_S:
        times["max_connection_duration"] = duration(PEER_CONNECTION_LIFE_S)
    options = typed(
        _HTTP_OPTIONS,
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options=times,
    )
    return {
        "name": name,
        "connect_timeout": duration(CONNECT_TIMEOUT_S),
        "metadata": meshml_metadata({"virtual_node": virtual_node}),
        "typed_extension_protocol_options": {_OPTIONS_KEY: options},
        "circuit_breakers": _thresholds(None),
    }


def _thresholds(pool: ConnectionPool | None) -> Body:
    """A connection pool's limits; App Mesh has none where none is declared.

    Envoy's own would let three calls at a time be tried again, and drop the retries of all others.
    """
    limits: Body = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), UNLIMITED
    )
    if pool:
        limits["max_connections"] = pool.max_connections or UNLIMITED
        limits["max_requests"] = pool.max_requests or UNLIMITED
        limits["max_pending_requests"] = pool.max_pending_requests or UNLIMITED
    return {"thresholds": [limits]}


def _endpoint(name: str, host: str, port: int) -> Body:
    endpoint = {"endpoint": {"address": socket_address(host, port)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
