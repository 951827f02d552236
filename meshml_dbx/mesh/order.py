"""The order in which routes are asked: written once, for whoever renders, checks or explains.

A router or a gateway goes in, its routes in the order of a proxy that takes the first that fits
come out.
"""

from meshml_dbx.mesh.spec import (
    GatewayRoute,
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HttpGatewayRouteMatch,
    HttpRouteMatch,
    Route,
    TcpRouteMatch,
    VirtualGateway,
    VirtualRouter,
)

_AFTER_ALL_PRIORITIES = 1001
_EXACT, _REGEX, _PREFIX = 0, 1, 2


def ordered_routes(router: VirtualRouter) -> tuple[Route, ...]:
    """The routes in the order in which they are asked.

    Low priorities first, those without one last. Among equals full paths come before regular
    expressions and these before prefixes, since a prefix takes most; the longer path before the
    shorter; then as written. A gRPC method is a full path, a service a prefix.
    """
    return tuple(sorted(router.routes, key=_rank))


def ordered_gateway_routes(gateway: VirtualGateway) -> tuple[GatewayRoute, ...]:
    """A gateway's routes by the same rule; of two alike, the one that names a host comes first."""
    return tuple(sorted(gateway.gateway_routes, key=_gateway_rank))


def _gateway_rank(route: GatewayRoute) -> tuple[tuple[int, int, int], bool]:
    return _rank(route), route.spec.route.match.hostname is None


def _rank(route: Route | GatewayRoute) -> tuple[int, int, int]:
    priority, (kind, length) = route.spec.priority, _path_rank(route.spec.route.match)
    return (_AFTER_ALL_PRIORITIES if priority is None else priority, kind, -length)


def _path_rank(
    match: HttpRouteMatch
    | HttpGatewayRouteMatch
    | GrpcRouteMatch
    | GrpcGatewayRouteMatch
    | TcpRouteMatch
    | None,
) -> tuple[int, int]:
    """What kind of path a match asks for, and how long it is; expressions have no length."""
    if isinstance(match, HttpRouteMatch | HttpGatewayRouteMatch):
        if match.path and match.path.exact is not None:
            return _EXACT, len(match.path.exact)
        return (_REGEX, 0) if match.path else (_PREFIX, len(match.prefix or "/"))
    if isinstance(match, GrpcRouteMatch) and match.service_name and match.method_name:
        return _EXACT, len(f"/{match.service_name}/{match.method_name}")
    if isinstance(match, GrpcRouteMatch | GrpcGatewayRouteMatch) and match.service_name:
        return _PREFIX, len(f"/{match.service_name}/")
    return _PREFIX, 1
