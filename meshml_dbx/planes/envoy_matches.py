"""Which requests a route takes, in Envoy's words.

Goes in: the match of a route or gateway route, as the mesh file declares it. Comes out: the same as
Envoy's ``RouteMatch``. Ports are no part of it: they decide which routes a listener or a virtual
host has at all.
"""

import re

from meshml_dbx.mesh.spec import (
    GatewayRoute,
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HeaderMatch,
    HostnameMatch,
    HttpGatewayRouteMatch,
    HttpRouteMatch,
    QueryParameterMatch,
    Route,
)
from meshml_dbx.planes.envoy_terms import Body

HttpMatch = HttpRouteMatch | HttpGatewayRouteMatch
GrpcMatch = GrpcRouteMatch | GrpcGatewayRouteMatch

_ANY_PORT = "(:[0-9]+)?"


def route_match(route: Route | GatewayRoute) -> Body:
    """Which requests a route takes; a tcp route takes none."""
    match = route.spec.route.match
    if isinstance(match, HttpRouteMatch | HttpGatewayRouteMatch):
        return http_match(match)
    if isinstance(match, GrpcRouteMatch | GrpcGatewayRouteMatch):
        return grpc_match(match)
    raise ValueError("a tcp route takes connections, not requests")


def http_match(match: HttpMatch) -> Body:
    """The match of an http or http2 route."""
    headers = [_header_match(header) for header in match.headers]
    if match.method:
        headers.append(_exactly(":method", match.method))
    if isinstance(match, HttpRouteMatch) and match.scheme:
        headers.append(_exactly(":scheme", match.scheme))
    if isinstance(match, HttpGatewayRouteMatch) and match.hostname:
        headers.append(_host_match(match.hostname))
    found: Body = {**_path_match(match), "headers": headers}
    if match.query_parameters:
        found["query_parameters"] = [_query_match(it) for it in match.query_parameters]
    return found


def grpc_match(match: GrpcMatch) -> Body:
    """The match of a gRPC route: a call of a method, of any method of a service, or any call."""
    headers = [_header_match(header) for header in match.metadata]
    if isinstance(match, GrpcGatewayRouteMatch) and match.hostname:
        headers.append(_host_match(match.hostname))
    return {**_call_match(match), "grpc": {}, "headers": headers}


def host_pattern(hostname: HostnameMatch) -> str:
    """The authorities that a gateway route's host name means: whatever their case and port."""
    ends = f".*{re.escape(hostname.suffix)}" if hostname.suffix is not None else ""
    whole = re.escape(hostname.exact) if hostname.exact is not None else ends
    return f"(?i){whole}{_ANY_PORT}"


def _path_match(match: HttpMatch) -> Body:
    if match.path and match.path.regex is not None:
        return {"safe_regex": {"regex": match.path.regex}}
    if match.path:
        return {"path": match.path.exact}
    return {"prefix": "/" if match.prefix is None else match.prefix}


def _call_match(match: GrpcMatch) -> Body:
    if match.service_name is None:
        return {"prefix": "/"}
    if isinstance(match, GrpcRouteMatch) and match.method_name is not None:
        return {"path": f"/{match.service_name}/{match.method_name}"}
    return {"prefix": f"/{match.service_name}/"}


def _host_match(hostname: HostnameMatch) -> Body:
    return {
        "name": ":authority",
        "string_match": {"safe_regex": {"regex": host_pattern(hostname)}},
    }


def _exactly(name: str, value: str) -> Body:
    return {"name": name, "string_match": {"exact": value}}


def _query_match(query: QueryParameterMatch) -> Body:
    if query.match is None or query.match.exact is None:
        return {"name": query.name, "present_match": True}
    return {"name": query.name, "string_match": {"exact": query.match.exact}}


def _header_match(header: HeaderMatch) -> Body:
    return {"name": header.name, "invert_match": header.invert, **_value_match(header)}


def _value_match(header: HeaderMatch) -> Body:
    method = header.match
    if method is None:
        return {"present_match": True}
    if method.range:
        return {"range_match": {"start": method.range.start, "end": method.range.end}}
    if method.regex is not None:
        return {"string_match": {"safe_regex": {"regex": method.regex}}}
    values = {"exact": method.exact, "prefix": method.prefix, "suffix": method.suffix}
    return {"string_match": {key: value for key, value in values.items() if value is not None}}
