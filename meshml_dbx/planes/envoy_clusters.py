"""Where calls go that name no virtual node: outside the mesh, and through this Envoy itself.

Also what all clusters share. Each cluster names its virtual node in its metadata, which is how a
line of the access log knows the target of a call.
"""

from meshml_dbx.mesh.spec import Protocol
from meshml_dbx.planes.envoy_policies import caller_limits
from meshml_dbx.planes.envoy_terms import (
    Body,
    duration,
    extension,
    internal_address,
    meshml_metadata,
    socket_address,
    typed,
)
from meshml_dbx.planes.plan import Resource

EXTERNAL_CLUSTER = "egress/external"
NOBODY_CLUSTER = "egress/nobody"

CONNECT_TIMEOUT_S = 2.0
EXTERNAL_CONNECT_TIMEOUT_S = 5.0
EXTERNAL_IDLE_S = 4.0
# An open connection keeps the identity that it began with, however often that is renewed.
PEER_CONNECTION_LIFE_S = 300.0

_HTTP_OPTIONS = "extensions.upstreams.http.v3.HttpProtocolOptions"
_OPTIONS_KEY = f"envoy.{_HTTP_OPTIONS}"
_HTTP2 = {"http2", "grpc"}


def cluster(
    name: str, *, virtual_node: str | None = None, connect_s: float = CONNECT_TIMEOUT_S
) -> Body:
    """A cluster without endpoints, protocol or limits of its own."""
    return {
        "name": name,
        "connect_timeout": duration(connect_s),
        "metadata": meshml_metadata({"virtual_node": virtual_node}),
        "circuit_breakers": caller_limits("none"),
    }


def spoken(protocol: Protocol, *, idle_s: float, life_s: float | None = None) -> Body:
    """How a cluster's endpoints are spoken to, and how long a connection is kept."""
    if protocol == "tcp":
        return {}
    version = "http2_protocol_options" if protocol in _HTTP2 else "http_protocol_options"
    times = {"idle_timeout": duration(idle_s)}
    if life_s:
        times["max_connection_duration"] = duration(life_s)
    return _http_options(
        explicit_http_config={version: {}},
        common_http_protocol_options=times,
    )


def endpoint(name: str, host: str, port: int) -> Body:
    """The one address of a cluster."""
    return _endpoints(name, socket_address(host, port))


def internal_cluster(listener: str) -> Resource:
    """The way from one listener of this Envoy to another, in the protocol that came."""
    name = f"internal/{listener}"
    body = cluster(name) | _endpoints(name, internal_address(listener))
    versions: Body = {"http_protocol_options": {}, "http2_protocol_options": {}}
    body |= _http_options(use_downstream_protocol_config=versions)
    return Resource(kind="cluster", name=name, body=body)


def nobody_cluster() -> Resource:
    """Where connections go that no target may take: they end at once."""
    body = cluster(NOBODY_CLUSTER) | {"type": "STATIC"}
    return Resource(kind="cluster", name=NOBODY_CLUSTER, body=body)


def external_cluster() -> Resource:
    """Hosts outside the mesh, found by the name that the program calls them."""
    body = cluster(EXTERNAL_CLUSTER, connect_s=EXTERNAL_CONNECT_TIMEOUT_S)
    body |= spoken("http", idle_s=EXTERNAL_IDLE_S) | {
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": extension(
            "clusters.dynamic_forward_proxy",
            "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            dns_cache_config=dns_cache(),
            allow_insecure_cluster_options=True,  # about TLS of Envoy's own, and there is none
        ),
    }
    return Resource(kind="cluster", name=EXTERNAL_CLUSTER, body=body)


def dns_cache() -> Body:
    """How hosts outside the mesh are found; the cluster and the proxy filter must say the same."""
    return {"name": "external", "dns_lookup_family": "V4_PREFERRED"}


def _http_options(**fields: object) -> Body:
    return {"typed_extension_protocol_options": {_OPTIONS_KEY: typed(_HTTP_OPTIONS, **fields)}}


def _endpoints(name: str, address: Body) -> Body:
    found = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"load_assignment": {"cluster_name": name, "endpoints": found}}
