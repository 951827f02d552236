"""Which call takes which way: the virtual hosts of the services that a member calls.

A mesh and a member go in, Envoy's route configurations come out. A route carries the mesh's
version and its virtual service in its metadata, for the access log; what meshml answers by itself
has a route named ``meshml:…`` and a body that says why.
"""

from collections.abc import Collection, Iterable, Mapping

from meshml_dbx.mesh import names
from meshml_dbx.mesh.matcher import NO_PROVIDER, NO_ROUTE
from meshml_dbx.mesh.spec import GrpcRoute, HttpRoute, Mesh, Protocol, Route, WeightedTarget
from meshml_dbx.mesh.ways import (
    HTTP_PORT,
    HTTPS_PORT,
    Provided,
    Way,
    node_target,
    target_listener,
)
from meshml_dbx.planes.envoy_matches import route_match
from meshml_dbx.planes.envoy_policies import grpc_time_outs, retries, time_outs
from meshml_dbx.planes.envoy_terms import Body, header, meshml_metadata
from meshml_dbx.planes.envoy_upstreams import cluster_name
from meshml_dbx.traffic.context import (
    CLIENT_HEADER,
    CONTEXT_HEADERS,
    ORIGIN_FLAGS_HEADER,
    ORIGIN_HEADER,
)

OUR_HEADERS = (*CONTEXT_HEADERS, ORIGIN_HEADER, ORIGIN_FLAGS_HEADER)
"""What only members of the mesh may say to one another."""

# --- hosts ------------------------------------------------------------------------------------


def service_hosts(
    mesh: Mesh,
    member: str,
    called: Iterable[Provided],
    *,
    first: Mapping[str, tuple[Body, ...]] | None = None,
    bare: Collection[Protocol] = (),
) -> list[Body]:
    """The virtual hosts of services; ``first`` has routes that are asked before a service's own.

    A name without a port means the first port of the protocols in ``bare``, else that of http.
    """
    hosts, taken = [], {"*"}
    for one in called:
        for host in one.hosts_preferring(bare):
            free = [domain for domain in host.domains if domain.lower() not in taken]
            taken |= {domain.lower() for domain in free}
            if free:
                own = _service_routes(mesh, member, one, host.way)
                hosts.append(
                    _service_host(host.name, free, [*(first or {}).get(one.name, ()), *own])
                )
    return hosts


def _service_host(name: str, domains: list[str], routes: list[Body]) -> Body:
    return {
        "name": name,
        "domains": domains,
        "include_request_attempt_count": True,
        "routes": routes,
    }


# --- routes -----------------------------------------------------------------------------------


def _service_routes(mesh: Mesh, member: str, called: Provided, way: Way) -> list[Body]:
    metadata = route_metadata(mesh, called.name)
    if called.node:
        route = _node_route(mesh, member, called.name, node_target(called.node, way))
        injected = mesh.injected_defaults
        return [{**route, "metadata": route_metadata(mesh, called.name, injected=injected)}]
    if called.router is None:
        reason = f"meshml: virtual service {called.name} has no provider"
        return [{**catch_all(NO_PROVIDER, **answer(503, reason)), "metadata": metadata}]
    reason = (
        f"meshml: virtual router {called.router.virtual_router_name} has no route for this request"
    )
    routes = [_route(mesh, member, called, route) for route in called.routes_at(way)]
    return [*routes, {**catch_all(NO_ROUTE, **answer(404, reason)), "metadata": metadata}]


def _node_route(mesh: Mesh, member: str, virtual_service: str, target: WeightedTarget) -> Body:
    action: Body = {
        "cluster": cluster_name(virtual_service, target),
        **time_outs(None),
        **retries(None, mesh.injected_defaults),
    }
    changes = _header_changes(mesh, member, target)
    rewrite = changes.pop("host_rewrite_literal", None)
    if rewrite:
        action["host_rewrite_literal"] = rewrite
    return catch_all(target.virtual_node, route=action, **changes)


def _route(mesh: Mesh, member: str, called: Provided, route: Route) -> Body:
    found = route.spec.http or route.spec.grpc_route
    if found is None:
        raise ValueError("a tcp route takes connections, not requests")
    injected = None if found.retry_policy else mesh.injected_defaults
    named: Body = {
        "name": route.route_name,
        "match": route_match(route),
        "metadata": route_metadata(mesh, called.name, injected=injected),
    }
    targets = found.action.weighted_targets
    if not any(target.weight for target in targets):
        reason = f"meshml: all targets of route {route.route_name} have weight 0"
        return {**named, **answer(503, reason)}
    return {**named, "route": _action(mesh, member, called, found)}


def _action(mesh: Mesh, member: str, called: Provided, route: HttpRoute | GrpcRoute) -> Body:
    limits = grpc_time_outs if isinstance(route, GrpcRoute) else time_outs
    shares = [
        {
            "name": cluster_name(called.name, it),
            "weight": it.weight,
            **_header_changes(mesh, member, it),
        }
        for it in route.action.weighted_targets
    ]
    return {
        "weighted_clusters": {"clusters": shares},
        **limits(route.timeout),
        **retries(route, mesh.injected_defaults),
    }


def _header_changes(mesh: Mesh, member: str, target: WeightedTarget) -> Body:
    """Who calls, for a node of the mesh; for one outside its own host, and nothing of ours."""
    node = names.node(mesh, target.virtual_node)
    listener = target_listener(node, target.port, is_tcp=False)
    discovery = node.spec.service_discovery
    if not node.is_external or listener is None or discovery is None:
        return {"request_headers_to_add": [header(CLIENT_HEADER, member)]}
    port = listener.port_mapping.port
    shown = "" if port in {HTTP_PORT, HTTPS_PORT} else f":{port}"
    return {
        "host_rewrite_literal": f"{discovery.hostname}{shown}",
        "request_headers_to_remove": list(OUR_HEADERS),
        "response_headers_to_remove": [ORIGIN_HEADER, ORIGIN_FLAGS_HEADER],
    }


# --- what all routes share --------------------------------------------------------------------


def route_configuration(name: str, hosts: list[Body], *, drop: tuple[str, ...] = ()) -> Body:
    """A route configuration; headers in ``drop`` are taken from every request."""
    return {
        "name": name,
        "validate_clusters": False,
        "request_headers_to_remove": list(drop),
        "virtual_hosts": hosts,
    }


def route_metadata(mesh: Mesh, virtual_service: str | None, *, injected: str | None = None) -> Body:
    """What a line of the access log knows of a route, and whether its retries were injected."""
    return meshml_metadata(
        {
            "mesh_version": names.mesh_version(mesh),
            "virtual_service": virtual_service,
            "injected_defaults": None if injected == "none" else injected,
        }
    )


def catch_all(name: str, **action: object) -> Body:
    """A route for every request."""
    return {"name": name, "match": {"prefix": "/"}, **action}


def answer(status: int, reason: str) -> Body:
    """What meshml says by itself."""
    return {"direct_response": {"status": status, "body": {"inline_string": f"{reason}\n"}}}
