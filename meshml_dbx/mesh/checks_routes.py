"""Rules on routes: weights, time-outs, retries, protocols, and what a gateway changes.

The placed mesh goes in; problems come out.
"""

import math
from collections.abc import Iterator

from meshml_dbx.mesh.places import (
    Declared,
    Problem,
    placed_targets,
    target_listener,
    target_path,
)
from meshml_dbx.mesh.routing import DEFAULT_TIMEOUT_S, timeout_s
from meshml_dbx.mesh.spec import (
    GatewayListener,
    GatewayRoute,
    Listener,
    Route,
    RouterListener,
    TcpRoute,
    VirtualNode,
)

_CHANGING = {"POST", "PATCH"}
_MAY_HAVE_ARRIVED = {"server-error", "gateway-error", "client-error"}
_TAKES_NONE_OF = {"grpc": {"tcp", "http"}}
_RESERVED_PATHS = ("/aws-appmesh", "/aws-app-mesh")
_RESERVED_SERVICES = ("aws.appmesh", "aws.app-mesh")


def find_zero_weights(declared: Declared) -> Iterator[Problem]:
    """Routes whose weights sum to nothing."""
    for path, _, route in declared.routes:
        if not any(target.weight for target in route.spec.weighted_targets):
            what = f"all weights of {route.route_name} are 0: its calls are answered 503"
            place = f"{path}.spec.{route.spec.field}.action.weightedTargets"
            yield Problem("zero-weight", place, what)


# --- time-outs --------------------------------------------------------------------------------


def route_limit_s(route: Route) -> float:
    """How long a route lets a call last with all its tries; without a limit, for ever."""
    return timeout_s(route) or math.inf


def listener_limit_s(listener: Listener) -> float:
    """How long a node's listener lets a call last; without a limit, for ever."""
    timeout = listener.timeout.of_requests if listener.timeout else None
    if listener.port_mapping.protocol == "tcp":
        return math.inf
    if timeout is None or timeout.per_request is None:
        return DEFAULT_TIMEOUT_S
    return timeout.per_request.seconds or math.inf


def find_retry_budgets(declared: Declared) -> Iterator[Problem]:
    """Retries that the route's time-out cuts off."""
    for path, _, route in declared.routes:
        found = route.spec.route
        if isinstance(found, TcpRoute) or found.retry_policy is None:
            continue
        whole = route_limit_s(route)
        each, tries = (
            found.retry_policy.per_retry_timeout.seconds,
            found.retry_policy.max_retries + 1,
        )
        if whole < each * tries:
            what = (
                f"perRequest of {route.route_name} is {whole:g} s, but {tries} tries of "
                f"{each:g} s may take {each * tries:g} s"
            )
            place = f"{path}.spec.{route.spec.field}.timeout.perRequest"
            yield Problem("retry-budget", place, what)


def find_shorter_listeners(declared: Declared) -> Iterator[Problem]:
    """Routes that allow a call longer than the listener that it comes to."""
    for path, _, route in declared.routes:
        found = route.spec.route
        timeout = None if isinstance(found, TcpRoute) else found.timeout
        if timeout is None or timeout.per_request is None:
            continue
        whole = route_limit_s(route)
        for node, listener in _target_listeners(declared, route):
            least = listener_limit_s(listener)
            if least < whole and not node.is_external:
                what = (
                    f"{route.route_name} lets a call last {_spoken(whole)}, "
                    f"and {node.virtual_node_name} ends it after {least:g} s"
                )
                place = f"{path}.spec.{route.spec.field}.timeout.perRequest"
                yield Problem("listener-timeout", place, what)


def _target_listeners(declared: Declared, route: Route) -> Iterator[tuple[VirtualNode, Listener]]:
    for target in route.spec.weighted_targets:
        _, node = declared.node_named.get(target.virtual_node, ("", None))
        listener = target_listener(node, target.port) if node else None
        if node and listener:
            yield node, listener


def _spoken(seconds: float) -> str:
    return "for ever" if math.isinf(seconds) else f"{seconds:g} s"


def find_lifted_limits(declared: Declared) -> Iterator[Problem]:
    """Time-outs of 0, which let a call last for ever."""
    for path, _, route in declared.routes:
        found = route.spec.route
        timeout = None if isinstance(found, TcpRoute) else found.timeout
        if timeout and timeout.per_request and not timeout.per_request.value:
            what = f"a call by {route.route_name} may last for ever"
            place = f"{path}.spec.{route.spec.field}.timeout.perRequest"
            yield Problem("no-time-limit", place, what)


# --- retries ----------------------------------------------------------------------------------


def find_unsafe_retries(declared: Declared) -> Iterator[Problem]:
    """Retries of requests that change something, after failures that they may have survived."""
    for path, _, route in declared.routes:
        http = route.spec.http
        policy = http.retry_policy if http else None
        if http is None or policy is None or not policy.max_retries:
            continue
        events = [it for it in policy.http_retry_events if it in _MAY_HAVE_ARRIVED]
        if http.match.method in _CHANGING and events:
            what = (
                f"{route.route_name} repeats a {http.match.method} after {', '.join(events)}, "
                "when it may have been carried out"
            )
            place = f"{path}.spec.{route.spec.field}.retryPolicy.httpRetryEvents"
            yield Problem("retry-unsafe-method", place, what)


def find_idle_retries(declared: Declared) -> Iterator[Problem]:
    """Retry policies that name no event."""
    for path, _, route in declared.routes:
        found = route.spec.route
        if isinstance(found, TcpRoute) or found.retry_policy is None:
            continue
        policy = found.retry_policy
        events = [*policy.http_retry_events, *policy.tcp_retry_events]
        events += getattr(policy, "grpc_retry_events", ())
        if policy.max_retries and not events:
            what = f"{route.route_name} may retry {policy.max_retries} times, and names no event"
            yield Problem("retry-nothing", f"{path}.spec.{route.spec.field}.retryPolicy", what)


# --- protocols --------------------------------------------------------------------------------


def find_protocol_mismatches(declared: Declared) -> Iterator[Problem]:
    """Routes of another protocol than the listeners before and behind them."""
    for path, router, route in declared.routes:
        port = route.spec.route.match.port if route.spec.route.match else None
        place, wanted = f"{path}.spec.{route.spec.field}", route.spec.protocol
        yield from _never_asked(place, route.route_name, wanted, port, router.spec.listeners)
        for at, target in placed_targets(path, route):
            _, node = declared.node_named.get(target.virtual_node, ("", None))
            listener = target_listener(node, target.port) if node else None
            if listener and listener.port_mapping.protocol != wanted:
                what = (
                    f"{route.route_name} is a route of {wanted}, and {target.virtual_node} "
                    f"speaks {listener.port_mapping.protocol} on port {listener.port_mapping.port}"
                )
                yield Problem("protocol-mismatch", at, what)
    for path, gateway, rule in declared.gateway_routes:
        port = rule.spec.route.match.port
        place, wanted = f"{path}.spec.{rule.spec.field}", rule.spec.protocol
        listeners = gateway.spec.listeners
        yield from _never_asked(place, rule.gateway_route_name, wanted, port, listeners)
        yield from _never_taken(declared, path, rule)


def _never_taken(declared: Declared, path: str, rule: GatewayRoute) -> Iterator[Problem]:
    """A gateway's route to a service none of whose ports could take its requests."""
    wanted, target = rule.spec.protocol, rule.spec.target
    name = target.virtual_service.virtual_service_name
    spoken = {
        it.port_mapping.protocol
        for it in declared.listeners_of(name)
        if target.port in {None, it.port_mapping.port}
    }
    if spoken and spoken <= _TAKES_NONE_OF.get(wanted, {"tcp"}):
        what = f"{rule.gateway_route_name} is a route of {wanted}, and {name} speaks"
        there = " and ".join(sorted(spoken))
        yield Problem("protocol-mismatch", target_path(path, rule), f"{what} {there}")


def _never_asked(
    place: str,
    name: str,
    wanted: str,
    port: int | None,
    listeners: tuple[RouterListener, ...] | tuple[GatewayListener, ...],
) -> Iterator[Problem]:
    spoken = {it.port_mapping.protocol for it in listeners if port in {None, it.port_mapping.port}}
    if spoken and wanted not in spoken:
        there = " and ".join(sorted(spoken))
        yield Problem(
            "protocol-mismatch", place, f"{name} is a route of {wanted}, and calls come by {there}"
        )


def find_lonely_methods(declared: Declared) -> Iterator[Problem]:
    """gRPC methods that are matched without their service."""
    for path, _, route in declared.routes:
        match = route.spec.grpc_route.match if route.spec.grpc_route else None
        if match and match.method_name and not match.service_name:
            what = f"{route.route_name} matches the method {match.method_name} of no service"
            place = f"{path}.spec.grpcRoute.match.methodName"
            yield Problem("method-without-service", place, what)


# --- gateways ---------------------------------------------------------------------------------


def find_wrong_rewrites(declared: Declared) -> Iterator[Problem]:
    """Prefixes put in place of others that do not end with a slash, or in place of none."""
    for path, _, rule in declared.gateway_routes:
        http = rule.spec.http
        rewrite = http.action.rewrite if http else None
        value = rewrite.prefix.value if rewrite and rewrite.prefix else None
        if http is None or value is None:
            continue
        place = f"{path}.spec.{rule.spec.field}.action.rewrite.prefix.value"
        if http.match.prefix is None:
            what = (
                f"{rule.gateway_route_name} puts {value} in place of a prefix, and matches by none"
            )
            yield Problem("rewrite-prefix", place, what)
        elif not value.endswith(("/", "}")):
            what = f"prefix becomes {value}; it must start and end with /"
            yield Problem("rewrite-prefix", place, what)


def find_reserved_paths(declared: Declared) -> Iterator[Problem]:
    """Gateway routes to what App Mesh kept for itself."""
    for path, _, rule in declared.gateway_routes:
        place = f"{path}.spec.{rule.spec.field}.match"
        if rule.spec.http:
            match = rule.spec.http.match
            wanted = match.prefix or (match.path and match.path.exact) or ""
            if wanted.startswith(_RESERVED_PATHS):
                yield Problem("reserved-path", place, f"App Mesh kept {wanted} for itself")
        elif rule.spec.grpc_route:
            service = rule.spec.grpc_route.match.service_name or ""
            if service.startswith(_RESERVED_SERVICES):
                yield Problem("reserved-path", place, f"App Mesh kept {service} for itself")
