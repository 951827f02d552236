"""A virtual gateway: the way into the mesh for callers that are not part of it.

A mesh, a gateway and its wiring go in, Envoy's listeners, routes and clusters come out. A request
passes two filters. The first, at the gateway's port, finds the gateway route and rewrites host and
path; the second, inside the same Envoy, routes what came of it as any member's call is routed,
since a virtual router must see the request as it was rewritten. The second writes the access log,
as observer ``gateway``.
"""

import re
from typing import cast

from meshml_dbx.mesh import names
from meshml_dbx.mesh.matcher import NO_GATEWAY_ROUTE, asks_for_path
from meshml_dbx.mesh.order import ordered_gateway_routes
from meshml_dbx.mesh.spec import (
    GatewayListener,
    GatewayRoute,
    HttpGatewayRouteMatch,
    HttpRewrite,
    Mesh,
    VirtualGateway,
)
from meshml_dbx.planes.envoy_clusters import internal_cluster
from meshml_dbx.planes.envoy_egress import requests_manager
from meshml_dbx.planes.envoy_hosts import (
    OUR_HEADERS,
    answer,
    catch_all,
    route_configuration,
    route_metadata,
    service_hosts,
)
from meshml_dbx.planes.envoy_listeners import (
    CALLER_IDLE_S,
    WEBSOCKET,
    alone_at,
    connection_manager,
    filter_chains,
    marked_replies,
    router,
)
from meshml_dbx.planes.envoy_log import access_log, declared_log
from meshml_dbx.planes.envoy_matches import route_match
from meshml_dbx.planes.envoy_services import called_services
from meshml_dbx.planes.envoy_terms import (
    GATEWAY_ROUTES,
    INTO_MESH_ROUTES,
    Body,
    Wiring,
    duration,
    file_source,
    routes_file,
)
from meshml_dbx.planes.plan import Resource

UNLOGGED = "unlogged"
"""The counters of what another listener of the same Envoy counts, and logs, as well."""

_KEPT = "kept-host."
_ORIGINAL_HOST = "x-forwarded-host"
_NOWHERE = "no-gateway-route"


def gateway_resources(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """What a gateway has beside the clusters of the services that it calls."""
    gateway = names.gateway(mesh, member)
    found = [internal_cluster(INTO_MESH_ROUTES), _into_mesh_routes(mesh, gateway)]
    for listener in gateway.spec.listeners:
        found.append(_gateway_routes(mesh, gateway, listener))
        found.append(_gateway_listener(mesh, gateway, wiring, listener))
    found.append(_into_mesh_listener(mesh, member, wiring))
    return tuple(found)


# --- from outside -----------------------------------------------------------------------------


def _gateway_listener(
    mesh: Mesh, gateway: VirtualGateway, wiring: Wiring, listener: GatewayListener
) -> Resource:
    port, member = listener.port_mapping.port, gateway.virtual_gateway_name
    routes = _routes_name(listener)
    manager = connection_manager(
        UNLOGGED,
        declared_log(mesh, member, wiring),
        use_remote_address=True,
        forward_client_cert_details="SANITIZE",
        common_http_protocol_options={"idle_timeout": duration(CALLER_IDLE_S)},
        upgrade_configs=[WEBSOCKET],
        rds={"route_config_name": routes, "config_source": file_source(routes_file(routes))},
        http_filters=[router([])],
        normal_paths=any(map(asks_for_path, gateway.gateway_routes)),
    )
    name = f"gateway/{port}"
    body: Body = {
        "name": name,
        **alone_at(wiring.bind, port),
        # The only place where a refused handshake leaves a trace.
        "access_log": access_log(mesh, member, wiring, record="connection", observer="gateway"),
        **filter_chains(listener, manager),
    }
    return Resource(kind="listener", name=name, body=body)


def _gateway_routes(mesh: Mesh, gateway: VirtualGateway, listener: GatewayListener) -> Resource:
    """The gateway's routes in their order; whatever meets none is told so further in."""
    port = listener.port_mapping.port
    routes = [
        _gateway_route(route)
        for route in ordered_gateway_routes(gateway)
        if route.spec.route.match.port in {None, port}
    ]
    nowhere = catch_all(NO_GATEWAY_ROUTE, route=_into_mesh(_NOWHERE))
    metadata = route_metadata(mesh, None)
    host: Body = {
        "name": gateway.virtual_gateway_name,
        "domains": ["*"],
        "routes": [{**route, "metadata": metadata} for route in (*routes, nowhere)],
    }
    name = _routes_name(listener)
    body = route_configuration(name, [host], drop=OUR_HEADERS)
    return Resource(kind="route_configuration", name=name, body=body)


def _routes_name(listener: GatewayListener) -> str:
    return f"{GATEWAY_ROUTES}-{listener.port_mapping.port}"


def _gateway_route(route: GatewayRoute) -> Body:
    target = route.spec.target
    service = target.virtual_service.virtual_service_name
    authority = f"{service}:{target.port}" if target.port else service
    action = _into_mesh(authority)
    rewrite = route.spec.route.action.rewrite
    if route.spec.http:
        action |= _path_rewrite(route.spec.http.match, route.spec.http.action.rewrite)
    found: Body = {"name": route.gateway_route_name, "match": route_match(route)}
    hostname = rewrite.hostname if rewrite else None
    if hostname and hostname.default_target_hostname == "DISABLED":
        action["host_rewrite_literal"] = f"{_KEPT}{authority}"
        found["request_headers_to_remove"] = [_ORIGINAL_HOST]  # only ours may stand there
    return {**found, "route": action}


def _into_mesh(authority: str) -> Body:
    """On to the second filter, whose routes have the time-outs."""
    return {
        "cluster": f"internal/{INTO_MESH_ROUTES}",
        "host_rewrite_literal": authority,
        "append_x_forwarded_host": True,
        "timeout": "0s",
        "idle_timeout": "0s",
    }


def _path_rewrite(match: HttpGatewayRouteMatch, rewrite: HttpRewrite | None) -> Body:
    """What becomes of the path; App Mesh replaced a matched prefix by / unless told not to."""
    if rewrite and rewrite.path and rewrite.path.exact is not None:
        return _replaced("^/.*$", rewrite.path.exact)
    if match.prefix is None:
        return {}
    prefix = rewrite.prefix if rewrite else None
    if prefix and prefix.default_prefix == "DISABLED":
        return {}
    value = prefix.value if prefix and prefix.value is not None else "/"
    if value == match.prefix:
        return {}
    # The slashes that follow go with the prefix, for the value ends with one.
    return _replaced(f"^{re.escape(match.prefix)}/*", value)


def _replaced(pattern: str, value: str) -> Body:
    substitution = value.replace("\\", "\\\\")
    return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": substitution}}


# --- into the mesh ----------------------------------------------------------------------------


def _into_mesh_listener(mesh: Mesh, member: str, wiring: Wiring) -> Resource:
    manager = requests_manager(
        mesh,
        member,
        wiring,
        observer="gateway",
        routes=INTO_MESH_ROUTES,
        upgrade_configs=[WEBSOCKET],
        local_reply_config=marked_replies(member),
    )
    body: Body = {
        "name": INTO_MESH_ROUTES,
        "internal_listener": {},
        "filter_chains": [{"filters": [manager]}],
    }
    return Resource(kind="listener", name=INTO_MESH_ROUTES, body=body)


def _into_mesh_routes(mesh: Mesh, gateway: VirtualGateway) -> Resource:
    member = gateway.virtual_gateway_name
    hosts = service_hosts(mesh, member, called_services(mesh, member))
    reason = f"meshml: virtual gateway {member} has no route for this request"
    refusal = catch_all(NO_GATEWAY_ROUTE, **answer(404, reason))
    nowhere: Body = {
        "name": "other hosts",
        "domains": ["*"],
        "routes": [{**refusal, "metadata": route_metadata(mesh, None)}],
    }
    kept = [_keeping_host(host) for host in hosts] if _keeps_a_host(gateway) else []
    body = route_configuration(INTO_MESH_ROUTES, [*hosts, *kept, nowhere])
    return Resource(kind="route_configuration", name=INTO_MESH_ROUTES, body=body)


def _keeps_a_host(gateway: VirtualGateway) -> bool:
    rewrites = [route.spec.route.action.rewrite for route in gateway.gateway_routes]
    hostnames = [it.hostname for it in rewrites if it]
    return any(it and it.default_target_hostname == "DISABLED" for it in hostnames)


def _keeping_host(host: Body) -> Body:
    """The same host for requests that keep the host name by which the gateway was called."""
    return {
        **host,
        "name": f"{_KEPT}{host['name']}",
        "domains": [f"{_KEPT}{domain}" for domain in cast("list[str]", host["domains"])],
        "routes": [_route_keeping_host(route) for route in cast("list[Body]", host["routes"])],
    }


def _route_keeping_host(route: Body) -> Body:
    action = route.get("route")
    if not isinstance(action, dict) or "host_rewrite_literal" in action:
        return route
    return {**route, "route": {**action, "host_rewrite_header": _ORIGINAL_HOST}}
