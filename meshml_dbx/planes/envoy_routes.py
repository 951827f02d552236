"""Which call takes which way: the routes of the egress proxy and of a node's own listener.

A mesh and a member go in, Envoy's route configurations come out. A route carries the mesh's
version and its virtual service in its metadata, for the access log; what meshml answers by itself
has a route named ``meshml:…`` and a body that says why.
"""

import base64

from meshml_dbx.mesh import names
from meshml_dbx.mesh.routing import ordered_routes
from meshml_dbx.mesh.spec import (
    HttpRoute,
    HttpTimeout,
    Mesh,
    Route,
    VirtualService,
    WeightedTarget,
)
from meshml_dbx.planes.envoy_clusters import EXTERNAL_CLUSTER, cluster_name, node_target
from meshml_dbx.planes.envoy_policies import request_match, retry_policy, time_outs
from meshml_dbx.planes.envoy_terms import (
    ROUTE_CONFIGURATION,
    Body,
    meshml_metadata,
)
from meshml_dbx.planes.plan import Resource
from meshml_dbx.traffic.context import (
    CLIENT_HEADER,
    CONTEXT_HEADERS,
    ORIGIN_FLAGS_HEADER,
    ORIGIN_HEADER,
)

NO_TOKEN, NO_ROUTE, NO_PROVIDER = "meshml:no-token", "meshml:no-route", "meshml:no-provider"
DROPPED, EXTERNAL, TUNNEL = "meshml:drop-all", "meshml:external", "meshml:tunnel"

_CREDENTIALS = "proxy-authorization"
_USER = "meshml"
# App Mesh's DROP_ALL lets these through.
_AMAZON = r"(?i)[a-z0-9.-]+\.amazonaws\.com(:[0-9]+)?"


def egress_routes(mesh: Mesh, member: str, token: str | None) -> Resource:
    """The routes of a member's proxy: its backends, https tunnels, and all other hosts."""
    gate = [{**it, "metadata": _metadata(mesh, None)} for it in _gate(token)]
    services = [
        names.service(mesh, backend.virtual_service_name)
        for backend in names.backends_of(mesh, member)
    ]
    hosts = [_service_host(mesh, member, service, gate) for service in services]
    body = {
        "name": ROUTE_CONFIGURATION,
        "validate_clusters": False,
        "request_headers_to_remove": [_CREDENTIALS],
        "virtual_hosts": [*hosts, _other_hosts(mesh, member, gate)],
    }
    return Resource(kind="route_configuration", name=ROUTE_CONFIGURATION, body=body)


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
    refusal = _answer(407, "meshml: this proxy serves one program; use the address it was given")
    challenge = _header("proxy-authenticate", f'Basic realm="{_USER}"')
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


# --- the mesh ---------------------------------------------------------------------------------


def _service_host(mesh: Mesh, member: str, service: VirtualService, gate: list[Body]) -> Body:
    name = service.virtual_service_name
    metadata = _metadata(mesh, name)
    routes = [{**route, "metadata": metadata} for route in _service_routes(mesh, service)]
    return {
        "name": name,
        "domains": list(names.domains_of(mesh, name)),
        "include_request_attempt_count": True,
        "request_headers_to_add": [_header(CLIENT_HEADER, member)],
        "routes": [*gate, _tunnel(mesh), *routes],
    }


def _service_routes(mesh: Mesh, service: VirtualService) -> list[Body]:
    name, provider = service.virtual_service_name, service.spec.provider
    if provider and provider.virtual_node:
        return [_node_route(service, provider.virtual_node.virtual_node_name)]
    if provider is None or provider.virtual_router is None:
        reason = f"meshml: virtual service {name} has no provider"
        return [_catch_all(NO_PROVIDER, **_answer(503, reason))]
    router = names.router(mesh, provider.virtual_router.virtual_router_name)
    reason = f"meshml: virtual router {router.virtual_router_name} has no route for this request"
    routes = [_route(service, route) for route in ordered_routes(router)]
    return [*routes, _catch_all(NO_ROUTE, **_answer(404, reason))]


def _node_route(service: VirtualService, virtual_node: str) -> Body:
    action = {"cluster": cluster_name(service, node_target(virtual_node)), **time_outs(None)}
    return _catch_all(virtual_node, route=action)


def _route(service: VirtualService, route: Route) -> Body:
    http_route = route.spec.http
    if http_route is None:
        raise NotImplementedError(route.spec.protocol)
    named: Body = {"name": route.route_name, "match": request_match(http_route.match)}
    targets = http_route.action.weighted_targets
    if not any(target.weight for target in targets):
        reason = f"meshml: all targets of route {route.route_name} have weight 0"
        return {**named, **_answer(503, reason)}
    return {**named, "route": _action(service, http_route, targets)}


def _action(
    service: VirtualService, http_route: HttpRoute, targets: tuple[WeightedTarget, ...]
) -> Body:
    shares = [{"name": cluster_name(service, it), "weight": it.weight} for it in targets]
    action: Body = {"weighted_clusters": {"clusters": shares}, **time_outs(http_route.timeout)}
    if http_route.retry_policy:
        action["retry_policy"] = retry_policy(http_route.retry_policy)
    return action


# --- beyond the mesh --------------------------------------------------------------------------


def _other_hosts(mesh: Mesh, member: str, gate: list[Body]) -> Body:
    """All hosts that are no backend: what leaves the mesh takes none of our headers along."""
    if mesh.mesh.spec.egress_filter.type == "ALLOW_ALL":
        routes = [_catch_all(EXTERNAL, **_leaving())]
    else:
        reason = f"meshml: {member} has no backend for this host; egressFilter is DROP_ALL"
        amazon = {"name": ":authority", "string_match": {"safe_regex": {"regex": _AMAZON}}}
        routes = [
            {"name": EXTERNAL, "match": {"prefix": "/", "headers": [amazon]}, **_leaving()},
            _catch_all(DROPPED, **_answer(403, reason)),
        ]
    metadata = _metadata(mesh, None)
    return {
        "name": "other hosts",
        "domains": ["*"],
        "request_headers_to_remove": [*CONTEXT_HEADERS, ORIGIN_HEADER, ORIGIN_FLAGS_HEADER],
        "routes": [*gate, _tunnel(mesh), *({**it, "metadata": metadata} for it in routes)],
    }


def _leaving() -> Body:
    """To the host that the program named; App Mesh sets no time-out for what is not its own."""
    return {
        "route": {"cluster": EXTERNAL_CLUSTER, "timeout": "0s", "idle_timeout": "0s"},
        # Only a sidecar of the mesh may mark an answer as its own.
        "response_headers_to_remove": [ORIGIN_HEADER, ORIGIN_FLAGS_HEADER],
    }


def _tunnel(mesh: Mesh) -> Body:
    """https, carried to the host that it names without being opened."""
    return {
        "name": TUNNEL,
        "match": {"connect_matcher": {}},
        "metadata": _metadata(mesh, None),
        "route": {
            "cluster": EXTERNAL_CLUSTER,
            "timeout": "0s",
            "idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }


# --- into the program -------------------------------------------------------------------------


def ingress_routes(
    mesh: Mesh, virtual_node: str, *, cluster: str, timeout: HttpTimeout | None
) -> Body:
    """The one route of a node's listener: everything goes to the program behind it."""
    route = {
        **_catch_all(virtual_node, route={"cluster": cluster, **time_outs(timeout)}),
        "metadata": _metadata(mesh, None),
    }
    return {
        "name": "ingress",
        "virtual_hosts": [{"name": virtual_node, "domains": ["*"], "routes": [route]}],
        "response_headers_to_remove": [ORIGIN_HEADER, ORIGIN_FLAGS_HEADER],
    }


# --- what all routes share --------------------------------------------------------------------


def _metadata(mesh: Mesh, virtual_service: str | None) -> Body:
    version = names.mesh_version(mesh)
    return meshml_metadata({"mesh_version": version, "virtual_service": virtual_service})


def _catch_all(name: str, **action: object) -> Body:
    return {"name": name, "match": {"prefix": "/"}, **action}


def _answer(status: int, reason: str) -> Body:
    return {"direct_response": {"status": status, "body": {"inline_string": f"{reason}\n"}}}


def _header(name: str, value: str) -> Body:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
