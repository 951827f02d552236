"""The routes of a member's own proxy: its backends, https tunnels, and all other hosts.

A mesh and a member go in, Envoy's route configurations come out: ``egress`` for the proxy of http,
whose callers show a token, and ``grpc`` for the ports of http2 and gRPC, whose callers cannot.
"""

import base64

from meshml_dbx.mesh.matcher import AMAZON_HOSTS, DROPPED, EXTERNAL, TUNNEL, why_others_dropped
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.mesh.ways import HTTP2_PROTOCOLS, Provided
from meshml_dbx.planes.envoy_clusters import EXTERNAL_CLUSTER
from meshml_dbx.planes.envoy_hosts import (
    OUR_HEADERS,
    answer,
    catch_all,
    route_configuration,
    route_metadata,
    service_hosts,
)
from meshml_dbx.planes.envoy_services import called_services
from meshml_dbx.planes.envoy_terms import EGRESS_ROUTES, GRPC_ROUTES, Body, header
from meshml_dbx.planes.plan import Resource
from meshml_dbx.traffic.context import ORIGIN_FLAGS_HEADER, ORIGIN_HEADER

NO_TOKEN = "meshml:no-token"  # noqa: S105  # the name of a route

_CREDENTIALS = "proxy-authorization"
_USER = "meshml"


def egress_routes(mesh: Mesh, member: str, token: str | None) -> Resource:
    """The routes of a member's proxy of http."""
    gate = tuple({**it, "metadata": route_metadata(mesh, None)} for it in _gate(token))
    called = called_services(mesh, member)
    first = {one.name: (*gate, _tunnel(mesh, _way_of_tunnels(one))) for one in called}
    hosts = service_hosts(mesh, member, called, first=first)
    body = route_configuration(
        EGRESS_ROUTES, [*hosts, _other_hosts(mesh, member, gate)], drop=(_CREDENTIALS,)
    )
    return Resource(kind="route_configuration", name=EGRESS_ROUTES, body=body)


def grpc_routes(mesh: Mesh, member: str) -> Resource:
    """The routes of the ports for http2 and gRPC: services that speak it, and nothing else."""
    called = [one for one in called_services(mesh, member) if one.speaks_http2]
    reason = f"meshml: {member} has no backend of http2 or gRPC by this name"
    nobody: Body = {
        "name": "other hosts",
        "domains": ["*"],
        "routes": [
            {**catch_all(DROPPED, **answer(403, reason)), "metadata": route_metadata(mesh, None)}
        ],
    }
    hosts = [*service_hosts(mesh, member, called, bare=HTTP2_PROTOCOLS), nobody]
    body = route_configuration(GRPC_ROUTES, hosts, drop=(_CREDENTIALS,))
    return Resource(kind="route_configuration", name=GRPC_ROUTES, body=body)


# --- who may speak ----------------------------------------------------------------------------


def _gate(token: str | None) -> list[Body]:
    """The first routes of every host: whoever lacks the token is told so, tunnels included."""
    if token is None:
        return []
    shown = base64.b64encode(f"{_USER}:{token}".encode()).decode()
    lacking: Body = {
        "name": _CREDENTIALS,
        "string_match": {"exact": f"Basic {shown}"},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    refusal = answer(407, "meshml: this proxy serves one program; use the address it was given")
    challenge = header("proxy-authenticate", f'Basic realm="{_USER}"')
    requests: tuple[Body, ...] = ({"prefix": "/"}, {"connect_matcher": {}})
    return [
        {
            "name": NO_TOKEN,
            "match": {**request, "headers": [lacking]},
            "response_headers_to_add": [challenge],
            **refusal,
        }
        for request in requests
    ]


# --- beyond the mesh --------------------------------------------------------------------------


def _other_hosts(mesh: Mesh, member: str, gate: tuple[Body, ...]) -> Body:
    """All hosts that are no backend: what leaves the mesh takes none of our headers along."""
    why = why_others_dropped(mesh, member)
    if why is None:
        routes = [catch_all(EXTERNAL, **_leaving())]
    else:
        refusal = f"{member} has no backend for this host; {why}"
        amazon = {"name": ":authority", "string_match": {"safe_regex": {"regex": AMAZON_HOSTS}}}
        routes = [
            {"name": EXTERNAL, "match": {"prefix": "/", "headers": [amazon]}, **_leaving()},
            catch_all(DROPPED, **answer(403, f"meshml: {refusal}")),
        ]
    metadata = route_metadata(mesh, None)
    tunnel = _tunnel(mesh, EXTERNAL_CLUSTER)
    return {
        "name": "other hosts",
        "domains": ["*"],
        "request_headers_to_remove": list(OUR_HEADERS),
        "routes": [*gate, tunnel, *({**it, "metadata": metadata} for it in routes)],
    }


def _leaving() -> Body:
    """To the host that the program named; App Mesh sets no time-out for what is not its own."""
    return {
        "route": {"cluster": EXTERNAL_CLUSTER, "timeout": "0s", "idle_timeout": "0s"},
        # Only a sidecar of the mesh may mark an answer as its own.
        "response_headers_to_remove": [ORIGIN_HEADER, ORIGIN_FLAGS_HEADER],
    }


def _way_of_tunnels(called: Provided) -> str:
    return f"internal/{GRPC_ROUTES}" if called.speaks_http2 else EXTERNAL_CLUSTER


def _tunnel(mesh: Mesh, cluster: str) -> Body:
    """What a client carries by CONNECT: https to the host that it names, without being opened.

    Clients of gRPC come so too when a proxy is set: what a tunnel to a service of http2 or gRPC
    holds is taken as calls of that service.
    """
    return {
        "name": TUNNEL,
        "match": {"connect_matcher": {}},
        "metadata": route_metadata(mesh, None),
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }
