"""Where a member's own program finds its services: the proxy of http, the ports of gRPC and of TCP.

A mesh, a member and its wiring go in, Envoy's listeners come out. All are open to this machine
only. The proxy asks for a token; gRPC and plain TCP have no place for one, so that every process
of the machine may use their ports: where that is too many, gRPC has a socket of its owner's.
"""

from meshml_dbx.mesh.matcher import asks_for_path
from meshml_dbx.mesh.spec import Mesh, TcpRoute
from meshml_dbx.mesh.ways import Provided, Way, node_target
from meshml_dbx.planes.envoy_clusters import NOBODY_CLUSTER, dns_cache
from meshml_dbx.planes.envoy_listeners import (
    WEBSOCKET,
    alone_at,
    connection_manager,
    router,
    tcp_proxy,
)
from meshml_dbx.planes.envoy_log import access_log, declared_log
from meshml_dbx.planes.envoy_policies import idle_time
from meshml_dbx.planes.envoy_services import (
    called_services,
    needs_grpc_port,
    tcp_address,
)
from meshml_dbx.planes.envoy_terms import (
    EGRESS_ROUTES,
    GRPC_ROUTES,
    LOOPBACK,
    Body,
    Wiring,
    extension,
    file_source,
    routes_file,
)
from meshml_dbx.planes.envoy_upstreams import tcp_cluster_name
from meshml_dbx.planes.plan import Resource

_ONLY_OWNER = 0o600
# urllib3 turns Nagle's algorithm on when it speaks to a proxy: a POST's body then waits for the
# kernel to acknowledge its headers, which takes 40 ms unless they fill more than one segment.
_TCP, _TCP_MAXSEG = 6, 2
_SMALL_SEGMENTS: Body = {
    "description": "headers fill several segments, so that they are acknowledged at once",
    "level": _TCP,
    "name": _TCP_MAXSEG,
    "int_value": 128,
    "state": "STATE_PREBIND",
}


def egress_listeners(
    mesh: Mesh, member: str, wiring: Wiring, egress_port: int
) -> tuple[Resource, ...]:
    """Every way of a program into the mesh."""
    return (
        _proxy(mesh, member, wiring, egress_port),
        *_grpc_listeners(mesh, member, wiring),
        *_tcp_listeners(mesh, member, wiring),
    )


# --- http -------------------------------------------------------------------------------------


def _proxy(mesh: Mesh, member: str, wiring: Wiring, port: int) -> Resource:
    """The explicit proxy of a member's program."""
    manager = requests_manager(
        mesh,
        member,
        wiring,
        observer="egress",
        routes=EGRESS_ROUTES,
        codec="HTTP1",
        filters=[_forward_proxy()],
        http_protocol_options={"accept_http_10": True},  # Python 3.11 sends CONNECT as HTTP/1.0
        upgrade_configs=[{"upgrade_type": "CONNECT"}, WEBSOCKET],
    )
    body = {
        "name": "egress",
        **alone_at(LOOPBACK, port),
        "socket_options": [_SMALL_SEGMENTS],
        "filter_chains": [{"filters": [manager]}],
    }
    return Resource(kind="listener", name="egress", body=body)


def requests_manager(
    mesh: Mesh,
    member: str,
    wiring: Wiring,
    *,
    observer: str,
    routes: str,
    codec: str = "AUTO",
    filters: list[Body] | None = None,
    **fields: object,
) -> Body:
    """A listener's filter for calls into the mesh, by the routes of a file of their own."""
    called = called_services(mesh, member)
    own = [] if observer == "gateway" else declared_log(mesh, member, wiring)
    return connection_manager(
        observer,
        [*access_log(mesh, member, wiring, record="call", observer=observer), *own],
        codec=codec,
        rds={"route_config_name": routes, "config_source": file_source(routes_file(routes))},
        http_filters=[
            *(filters or []),
            router(access_log(mesh, member, wiring, record="attempt", observer=observer)),
        ],
        normal_paths=_asks_for_paths(called),
        **fields,
    )


def _asks_for_paths(called: tuple[Provided, ...]) -> bool:
    return any(asks_for_path(route) for one in called for route in one.routes)


def _forward_proxy() -> Body:
    name = "filters.http.dynamic_forward_proxy"
    message = f"extensions.{name}.v3.FilterConfig"
    return extension(name, message, dns_cache_config=dns_cache())


# --- http2 and gRPC ---------------------------------------------------------------------------


def _grpc_listeners(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """The same routes by a port, by a socket, and by tunnels that the proxy ends."""
    if not needs_grpc_port(mesh, member):
        return ()
    manager = requests_manager(mesh, member, wiring, observer="egress", routes=GRPC_ROUTES)
    places: dict[str, Body] = {GRPC_ROUTES: {"internal_listener": {}}}
    if wiring.grpc_port:
        places["egress/grpc"] = alone_at(LOOPBACK, wiring.grpc_port)
    if wiring.grpc_socket:
        pipe = {"pipe": {"path": wiring.grpc_socket, "mode": _ONLY_OWNER}}
        places["egress/grpc-socket"] = {"address": pipe}
    chains = [{"filters": [manager]}]
    return tuple(
        Resource(kind="listener", name=name, body={"name": name, **place, "filter_chains": chains})
        for name, place in places.items()
    )


# --- tcp --------------------------------------------------------------------------------------


def _tcp_listeners(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """A local port for each service of plain TCP: connections carry no name to be routed by."""
    return tuple(
        _tcp_listener(mesh, member, wiring, called, way)
        for called in called_services(mesh, member)
        for way in called.tcp_ways
        if tcp_address(called, way) in wiring.tcp_ports
    )


def _tcp_listener(mesh: Mesh, member: str, wiring: Wiring, called: Provided, way: Way) -> Resource:
    address = tcp_address(called, way)
    name = f"egress/tcp/{address}"
    weights, idle = _tcp_way(called, way)
    log = access_log(
        mesh, member, wiring, record="connection", observer="egress", service=called.name
    )
    proxy = tcp_proxy("egress", weights, idle=idle, log=[*log, *declared_log(mesh, member, wiring)])
    body = {
        "name": name,
        **alone_at(LOOPBACK, wiring.tcp_ports[address]),
        "filter_chains": [{"filters": [proxy]}],
    }
    return Resource(kind="listener", name=name, body=body)


def _tcp_way(called: Provided, way: Way) -> tuple[dict[str, int], str]:
    """The clusters that share the connections of a service, and how long one may be silent."""
    if called.node:
        return {tcp_cluster_name(called.name, node_target(called.node, way)): 1}, idle_time(None)
    found = next(iter(called.routes_at(way)), None)
    route = found.spec.route if found else None
    if not isinstance(route, TcpRoute):
        return {NOBODY_CLUSTER: 1}, idle_time(None)
    weights: dict[str, int] = {}
    for target in route.action.weighted_targets:
        if target.weight:
            name = tcp_cluster_name(called.name, target)
            weights[name] = weights.get(name, 0) + target.weight
    idle = idle_time(route.timeout.idle if route.timeout else None)
    return weights or {NOBODY_CLUSTER: 1}, idle
