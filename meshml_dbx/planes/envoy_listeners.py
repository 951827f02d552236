"""Where a sidecar listens: the proxy of its own program, and the node's ports towards its peers.

A mesh, a member and its wiring go in, Envoy's listeners come out. Each writes the access log as
the observer that it is: ``egress`` for the program's own calls, ``ingress`` for those it serves.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Listener, Mesh
from meshml_dbx.planes.envoy_clusters import dns_cache, program_cluster_name
from meshml_dbx.planes.envoy_log import FLUSH, access_log
from meshml_dbx.planes.envoy_routes import ingress_routes
from meshml_dbx.planes.envoy_terms import (
    LOOPBACK,
    RDS_FILE,
    ROUTE_CONFIGURATION,
    Body,
    Wiring,
    duration,
    extension,
    file_source,
    literal,
    socket_address,
    typed,
)
from meshml_dbx.planes.envoy_tls import downstream_tls
from meshml_dbx.planes.plan import Resource
from meshml_dbx.traffic.context import ORIGIN_FLAGS_HEADER, ORIGIN_HEADER

_HTTP = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_FILTERS = "extensions.filters.http"
# Longer than the peers keep theirs: the side that closes must be the side that calls.
_CALLER_IDLE_S = 3600.0

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


def egress_listener(mesh: Mesh, member: str, wiring: Wiring, port: int) -> Resource:
    """The explicit proxy of a member's program; it is open to this machine only."""
    manager = _connection_manager(
        "egress",
        access_log(mesh, member, wiring, record="call", observer="egress"),
        http_protocol_options={"accept_http_10": True},  # Python 3.11 sends CONNECT as HTTP/1.0
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        rds={"route_config_name": ROUTE_CONFIGURATION, "config_source": file_source(RDS_FILE)},
        http_filters=[
            _forward_proxy(),
            _router(access_log(mesh, member, wiring, record="attempt", observer="egress")),
        ],
    )
    body = {
        "name": "egress",
        **_alone_at(LOOPBACK, port),
        "socket_options": [_SMALL_SEGMENTS],
        "filter_chains": [{"filters": [manager]}],
    }
    return Resource(kind="listener", name="egress", body=body)


def ingress_listeners(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """The listeners of a virtual node, each at the port that the mesh file gives it."""
    node = names.node(mesh, member)
    return tuple(_ingress(mesh, member, wiring, listener) for listener in node.spec.listeners)


def _ingress(mesh: Mesh, member: str, wiring: Wiring, listener: Listener) -> Resource:
    port = listener.port_mapping.port
    name = f"ingress/{port}"
    body: Body = {
        "name": name,
        **_alone_at(wiring.bind, port),
        # The only place where a refused handshake leaves a trace.
        "access_log": access_log(mesh, member, wiring, record="connection", observer="ingress"),
        **_filter_chains(listener, _ingress_manager(mesh, member, wiring, listener)),
    }
    return Resource(kind="listener", name=name, body=body)


def _alone_at(host: str, port: int) -> Body:
    """An address that is refused when it is taken; two Envoys would share it and its calls."""
    return {"address": socket_address(host, port), "enable_reuse_port": False}


def _filter_chains(listener: Listener, manager: Body) -> Body:
    plain: Body = {"filters": [manager]}
    tls = listener.tls
    if tls is None or tls.mode == "DISABLED":
        return {"filter_chains": [plain]}
    encrypted = {**plain, "transport_socket": downstream_tls(tls)}
    if tls.mode == "STRICT":
        return {"filter_chains": [encrypted]}
    inspector = "filters.listener.tls_inspector"
    return {
        "listener_filters": [extension(inspector, f"extensions.{inspector}.v3.TlsInspector")],
        "filter_chains": [
            {**encrypted, "filter_chain_match": {"transport_protocol": "tls"}},
            {**plain, "filter_chain_match": {"transport_protocol": "raw_buffer"}},
        ],
    }


def _ingress_manager(mesh: Mesh, member: str, wiring: Wiring, listener: Listener) -> Body:
    routes = ingress_routes(
        mesh,
        member,
        cluster=program_cluster_name(member, listener),
        timeout=listener.timeout.http if listener.timeout else None,
    )
    return _connection_manager(
        "ingress",
        access_log(mesh, member, wiring, record="call", observer="ingress"),
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True, "subject": True},
        common_http_protocol_options={"idle_timeout": duration(_CALLER_IDLE_S)},
        local_reply_config=_marked_replies(member),
        route_config=routes,
        http_filters=[_router([])],
    )


def _marked_replies(member: str) -> Body:
    """Marks what the sidecar answers by itself, so that a caller can tell it from the program."""
    comparison = {"op": "GE", "value": {"default_value": 400, "runtime_key": "unused"}}
    marks = {ORIGIN_HEADER: literal(member), ORIGIN_FLAGS_HEADER: "%RESPONSE_FLAGS%"}
    headers = [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in marks.items()
    ]
    own_failure = {"status_code_filter": {"comparison": comparison}}
    return {"mappers": [{"filter": own_failure, "headers_to_add": headers}]}


def _connection_manager(observer: str, log: list[Body], **fields: object) -> Body:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(
            _HTTP,
            codec_type="HTTP1",
            stat_prefix=observer,
            preserve_external_request_id=True,
            server_header_transformation="PASS_THROUGH",
            access_log=log,
            access_log_options=FLUSH,
            **fields,
        ),
    }


def _forward_proxy() -> Body:
    name = "filters.http.dynamic_forward_proxy"
    message = f"{_FILTERS}.dynamic_forward_proxy.v3.FilterConfig"
    return extension(name, message, dns_cache_config=dns_cache())


def _router(upstream_log: list[Body]) -> Body:
    return extension(
        "filters.http.router", f"{_FILTERS}.router.v3.Router", upstream_log=upstream_log
    )
