"""Which route and which targets a request to a virtual service takes, decided as Envoy decides it.

A mesh and a request go in, the route with its weighted targets and policies comes out. What a match
means is written in ``conditions``, the order of routes in ``order``; ``matcher`` decides for a
member of the mesh, with hosts, ports, gateways and all that is not in the mesh.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meshml_dbx.mesh.conditions import conditions_of, header_meets
from meshml_dbx.mesh.order import ordered_gateway_routes, ordered_routes
from meshml_dbx.mesh.requests import Facts, Request, header_pairs
from meshml_dbx.mesh.spec import (
    GrpcRetryPolicy,
    Mesh,
    RetryPolicy,
    Route,
    TcpRoute,
    TcpRouteMatch,
    VirtualRouter,
    WeightedTarget,
)
from meshml_dbx.mesh.ways import provided

__all__ = [
    "DEFAULT_IDLE_S",
    "DEFAULT_TIMEOUT_S",
    "RouteMatch",
    "TargetShare",
    "header_meets",
    "match_request",
    "ordered_gateway_routes",
    "ordered_routes",
    "route_takes",
    "shares_of",
    "timeout_s",
]

DEFAULT_TIMEOUT_S = 15.0  # App Mesh's, and Envoy's own, when a route sets none
DEFAULT_IDLE_S = 300.0
"""How long a stream or a connection may be silent where nothing is declared: App Mesh's own."""


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
    retry_policy: RetryPolicy | GrpcRetryPolicy | None
    timeout_s: float | None


def match_request(
    mesh: Mesh, *, virtual_service: str, method: str, path: str, headers: Mapping[str, str]
) -> RouteMatch | None:
    """The route that a request to a virtual service takes; None if no route, or nobody, takes it.

    The path is the one that the proxy saw; its query does not count.
    """
    found = provided(mesh, virtual_service)
    if found.node:
        return _straight_to(found.node.virtual_node_name)
    for route in found.routes:
        if found.router and route_takes(route, method=method, path=path, headers=headers):
            return _by_route(found.router, route)
    return None


def route_takes(route: Route, *, method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a route's match meets a request; a tcp route takes connections, not requests."""
    match = route.spec.route.match
    if match is None or isinstance(match, TcpRouteMatch):
        return False
    facts = Facts(Request(authority="", method=method, path=path, headers=header_pairs(headers)))
    return all(condition.meets(facts) for condition in conditions_of(match))


def timeout_s(route: Route) -> float | None:
    """How long a call by this route may last with all its tries; None is without limit."""
    found = route.spec.route
    if isinstance(found, TcpRoute):
        return None
    declared = found.timeout.per_request if found.timeout else None
    return DEFAULT_TIMEOUT_S if declared is None else declared.seconds or None


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
        retry_policy=_retry_policy(route),
        timeout_s=timeout_s(route),
    )


def _retry_policy(route: Route) -> RetryPolicy | GrpcRetryPolicy | None:
    found = route.spec.route
    return None if isinstance(found, TcpRoute) else found.retry_policy
