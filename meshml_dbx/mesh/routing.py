"""Which route and which targets a request takes, decided as Envoy decides it.

A mesh and a request go in, the route with its weighted targets and policies comes out. The order
of routes and the meaning of a match are written here once: the Envoy plane renders
``ordered_routes``, and header rules are those measured on Envoy 1.40, where a header that is absent
fails every match but an inverted presence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import (
    HeaderMatch,
    HeaderMatchMethod,
    HttpRouteMatch,
    Mesh,
    RetryPolicy,
    Route,
    VirtualRouter,
    WeightedTarget,
)

DEFAULT_TIMEOUT_S = 15.0  # App Mesh's, and Envoy's own, when a route sets none
_AFTER_ALL_PRIORITIES = 1001


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetShare:
    """A virtual node and the part of the calls, from 0 to 1, that it gets.

    >>> TargetShare(virtual_node="labels-v1", port=None, share=0.7).share
    0.7
    """

    virtual_node: str
    port: int | None
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """What becomes of a request; a node that provides its service directly has no route.

    >>> RouteMatch(
    ...     virtual_router=None, route=None, targets=(), retry_policy=None, timeout_s=15.0
    ... ).route is None
    True
    """

    virtual_router: str | None
    route: str | None
    targets: tuple[TargetShare, ...]
    retry_policy: RetryPolicy | None
    timeout_s: float | None


def ordered_routes(router: VirtualRouter) -> tuple[Route, ...]:
    """The routes in the order in which they are asked.

    Low priorities first, those without one last; then the longer path, a full path before a prefix
    of the same length; then as written.
    """
    return tuple(sorted(router.routes, key=_rank))


def match_request(
    mesh: Mesh, *, virtual_service: str, method: str, path: str, headers: Mapping[str, str]
) -> RouteMatch | None:
    """The route that a request to a virtual service takes; None if no route, or nobody, takes it.

    The path is the one that the proxy saw; its query does not count.
    """
    provider = names.service(mesh, virtual_service).spec.provider
    if provider and provider.virtual_node:
        return _straight_to(provider.virtual_node.virtual_node_name)
    if provider is None or provider.virtual_router is None:
        return None
    router = names.router(mesh, provider.virtual_router.virtual_router_name)
    for route in ordered_routes(router):
        if route_takes(route, method=method, path=path, headers=headers):
            return _by_route(router, route)
    return None


def route_takes(route: Route, *, method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a route's match meets a request."""
    if route.spec.http is None:
        return False
    match = route.spec.http.match
    lower = {name.lower(): value for name, value in headers.items()}
    return (
        _path_meets(match, path.split("?", 1)[0])
        and match.method in {None, method}
        and all(header_meets(header, lower.get(header.name.lower())) for header in match.headers)
    )


def header_meets(header: HeaderMatch, value: str | None) -> bool:
    """Whether a header's value, None if it is absent, meets a match."""
    if header.match is None:
        return (value is not None) != header.invert
    if value is None:
        return False
    return _value_meets(header.match, value) != header.invert


def timeout_s(route: Route) -> float | None:
    """How long a call by this route may last with all its tries; None is without limit."""
    timeout = route.spec.http.timeout if route.spec.http else None
    if timeout is None or timeout.per_request is None:
        return DEFAULT_TIMEOUT_S
    return timeout.per_request.seconds or None


def shares_of(targets: tuple[WeightedTarget, ...]) -> tuple[TargetShare, ...]:
    """Each target's part of the calls; where all weights are zero, so are all parts."""
    total = sum(target.weight for target in targets)
    return tuple(
        TargetShare(
            virtual_node=target.virtual_node,
            port=target.port,
            share=target.weight / total if total else 0.0,
        )
        for target in targets
    )


def _rank(route: Route) -> tuple[int, int, bool]:
    priority = route.spec.priority
    match = route.spec.http.match if route.spec.http else HttpRouteMatch()
    length = len((match.path.exact if match.path else match.prefix) or "")
    return (
        _AFTER_ALL_PRIORITIES if priority is None else priority,
        -length,
        match.path is None,
    )


def _straight_to(virtual_node: str) -> RouteMatch:
    return RouteMatch(
        virtual_router=None,
        route=None,
        targets=(TargetShare(virtual_node=virtual_node, port=None, share=1.0),),
        retry_policy=None,
        timeout_s=DEFAULT_TIMEOUT_S,
    )


def _by_route(router: VirtualRouter, route: Route) -> RouteMatch:
    return RouteMatch(
        virtual_router=router.virtual_router_name,
        route=route.route_name,
        targets=shares_of(route.spec.weighted_targets),
        retry_policy=route.spec.http.retry_policy if route.spec.http else None,
        timeout_s=timeout_s(route),
    )


def _path_meets(match: HttpRouteMatch, path: str) -> bool:
    if match.path:
        return path == match.path.exact
    return path.startswith(match.prefix or "")


def _value_meets(match: HeaderMatchMethod, value: str) -> bool:
    if match.range:
        number = value.strip()
        whole = re.fullmatch(r"[+-]?\d{1,19}", number, re.ASCII) is not None
        return whole and match.range.start <= int(number) < match.range.end
    if match.regex is not None:
        return re.fullmatch(match.regex, value) is not None
    if match.exact is not None:
        return value == match.exact
    if match.prefix is not None:
        return value.startswith(match.prefix)
    return value.endswith(match.suffix or "")
