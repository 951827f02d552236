"""What all listeners share, and the listeners of a node: its ports towards its peers.

A mesh, a member and its wiring go in, Envoy's listeners come out. Each writes the access log as
the observer that it is: ``ingress`` for the calls that a node serves.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import GatewayListener, Listener, Mesh
from meshml_dbx.planes.envoy_hosts import catch_all, route_metadata
from meshml_dbx.planes.envoy_log import FLUSH, access_log, declared_log
from meshml_dbx.planes.envoy_policies import idle_time, time_outs
from meshml_dbx.planes.envoy_program import program_cluster_name
from meshml_dbx.planes.envoy_terms import (
    Body,
    Wiring,
    duration,
    extension,
    literal,
    socket_address,
    typed,
)
from meshml_dbx.planes.envoy_tls import downstream_tls
from meshml_dbx.planes.plan import Resource
from meshml_dbx.traffic.context import ORIGIN_FLAGS_HEADER, ORIGIN_HEADER

_NETWORK = "extensions.filters.network"
_ROUTER = "extensions.filters.http.router.v3.Router"
# Longer than the peers keep theirs: the side that closes must be the side that calls.
CALLER_IDLE_S = 3600.0
_AFTER_HANDSHAKE: Body = {
    "upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE",
    "max_early_data_bytes": 65536,
}
# Whoever says nothing for so long waits for the server to speak, as clients of databases do.
_SERVER_MAY_SPEAK_FIRST: Body = {
    "listener_filters_timeout": "1s",
    "continue_on_listener_filters_timeout": True,
}
WEBSOCKET: Body = {"upgrade_type": "websocket"}


def ingress_listeners(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """The listeners of a virtual node, each at the port that the mesh file gives it."""
    node = names.node(mesh, member)
    return tuple(_ingress(mesh, member, wiring, listener) for listener in node.spec.listeners)


def _ingress(mesh: Mesh, member: str, wiring: Wiring, listener: Listener) -> Resource:
    port = listener.port_mapping.port
    is_tcp = listener.port_mapping.protocol == "tcp"
    served = (_ingress_tcp if is_tcp else _ingress_requests)(mesh, member, wiring, listener)
    name = f"ingress/{port}"
    body: Body = {
        "name": name,
        **alone_at(wiring.bind, port),
        # The only place where a refused handshake leaves a trace.
        "access_log": access_log(mesh, member, wiring, record="connection", observer="ingress"),
        **filter_chains(listener, served),
    }
    return Resource(kind="listener", name=name, body=body)


def _ingress_requests(mesh: Mesh, member: str, wiring: Wiring, listener: Listener) -> Body:
    route = catch_all(
        member,
        route={
            "cluster": program_cluster_name(member, listener),
            **time_outs(listener.timeout.of_requests if listener.timeout else None),
        },
    )
    routes: Body = {
        "name": "ingress",
        "virtual_hosts": [
            {
                "name": member,
                "domains": ["*"],
                "routes": [{**route, "metadata": route_metadata(mesh, None)}],
            }
        ],
        "response_headers_to_remove": [ORIGIN_HEADER, ORIGIN_FLAGS_HEADER],
    }
    log = access_log(mesh, member, wiring, record="call", observer="ingress")
    return connection_manager(
        "ingress",
        [*log, *declared_log(mesh, member, wiring)],
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True, "subject": True},
        common_http_protocol_options={"idle_timeout": duration(CALLER_IDLE_S)},
        upgrade_configs=[WEBSOCKET],
        local_reply_config=marked_replies(member),
        route_config=routes,
        http_filters=[router([])],
    )


def _ingress_tcp(mesh: Mesh, member: str, wiring: Wiring, listener: Listener) -> Body:
    is_encrypted = listener.tls is not None and listener.tls.mode != "DISABLED"
    # Else the program would be called for a stranger, before anybody knows who that is.
    proven: Body = _AFTER_HANDSHAKE if is_encrypted else {}
    return tcp_proxy(
        "ingress",
        {program_cluster_name(member, listener): 1},
        idle=idle_time(listener.timeout.idle if listener.timeout else None),
        log=declared_log(mesh, member, wiring),
        **proven,
    )


# --- what all listeners share -----------------------------------------------------------------


def alone_at(host: str, port: int) -> Body:
    """An address that is refused when it is taken; two Envoys would share it and its calls."""
    return {"address": socket_address(host, port), "enable_reuse_port": False}


def filter_chains(listener: Listener | GatewayListener, served: Body) -> Body:
    """A listener's filter behind its TLS: none, always, or for those who come with it."""
    plain: Body = {"filters": [served]}
    socket = downstream_tls(listener)
    if socket is None or listener.tls is None:
        return {"filter_chains": [plain]}
    encrypted = {**plain, "transport_socket": socket}
    if listener.tls.mode == "STRICT":
        return {"filter_chains": [encrypted]}
    inspector = "filters.listener.tls_inspector"
    waits = _SERVER_MAY_SPEAK_FIRST if listener.port_mapping.protocol == "tcp" else {}
    return {
        **waits,
        "listener_filters": [extension(inspector, f"extensions.{inspector}.v3.TlsInspector")],
        "filter_chains": [
            {**encrypted, "filter_chain_match": {"transport_protocol": "tls"}},
            {**plain, "filter_chain_match": {"transport_protocol": "raw_buffer"}},
        ],
    }


def connection_manager(
    stat_prefix: str,
    log: list[Body],
    *,
    codec: str = "AUTO",
    normal_paths: bool = False,
    **fields: object,
) -> Body:
    """The filter of a listener that takes requests."""
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(
            f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager",
            codec_type=codec,
            stat_prefix=stat_prefix,
            preserve_external_request_id=True,
            server_header_transformation="PASS_THROUGH",
            access_log=log,
            access_log_options=FLUSH,
            normalize_path=normal_paths,
            merge_slashes=normal_paths,
            **fields,
        ),
    }


def tcp_proxy(
    stat_prefix: str, weights: dict[str, int], *, idle: str, log: list[Body], **fields: object
) -> Body:
    """The filter of a listener that takes connections, and the clusters that share them."""
    shares = [{"name": name, "weight": weight} for name, weight in weights.items()]
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": typed(
            f"{_NETWORK}.tcp_proxy.v3.TcpProxy",
            stat_prefix=stat_prefix,
            weighted_clusters={"clusters": shares},
            idle_timeout=idle,
            access_log=log,
            **fields,
        ),
    }


def marked_replies(member: str) -> Body:
    """Marks what the sidecar answers by itself, so that a caller can tell it from the program."""
    comparison = {"op": "GE", "value": {"default_value": 400, "runtime_key": "unused"}}
    marks = {ORIGIN_HEADER: literal(member), ORIGIN_FLAGS_HEADER: "%RESPONSE_FLAGS%"}
    headers = [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in marks.items()
    ]
    own_failure = {"status_code_filter": {"comparison": comparison}}
    return {"mappers": [{"filter": own_failure, "headers_to_add": headers}]}


def router(upstream_log: list[Body]) -> Body:
    """The last filter of requests, which writes a line for each attempt."""
    return extension("filters.http.router", _ROUTER, upstream_log=upstream_log)
