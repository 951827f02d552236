"""Rules on nodes, gateways and the mesh as a whole: addresses, health, pools, ports, logs.

The placed mesh goes in; problems come out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from meshml_dbx.mesh.places import (
    Declared,
    Problem,
    placed_gateway_listeners,
    placed_listeners,
)
from meshml_dbx.mesh.spec import (
    GatewayHealthCheck,
    GatewayListener,
    HealthCheck,
    Listener,
    Logging,
    MeshClient,
    RouterListener,
    VirtualNode,
)

_ROOTS_PORTS = 1024
_MOST_CHECKS_A_SECOND = 10
_SPEAK_FIRST = {
    21: "FTP",
    22: "SSH",
    25: "SMTP",
    110: "POP3",
    143: "IMAP",
    587: "SMTP",
    3306: "MySQL",
}


# --- addresses --------------------------------------------------------------------------------


def find_undiscoverable(declared: Declared) -> Iterator[Problem]:
    """Nodes that listen and cannot be found."""
    for path, node in declared.nodes:
        if node.spec.listeners and node.spec.service_discovery is None:
            what = f"{node.virtual_node_name} has a listener and needs the field serviceDiscovery"
            yield Problem("missing-field", f"{path}.spec", what)


def find_same_addresses(declared: Declared) -> Iterator[Problem]:
    """Nodes that are reached at one host name and port."""
    first: dict[tuple[str, int], tuple[str, str]] = {}
    for path, node, listener in placed_listeners(declared):
        dns = node.spec.service_discovery.dns if node.spec.service_discovery else None
        if dns is None or node.is_external:
            continue
        port, host = listener.port_mapping.port, dns.hostname.lower()
        owner, at = first.setdefault((host, port), (node.virtual_node_name, path))
        if owner != node.virtual_node_name:
            what = f"{node.virtual_node_name} is reached at {host}:{port}, as is {at}"
            yield Problem("same-address", f"{path}.portMapping.port", what)


def find_repeated_ports(declared: Declared) -> Iterator[Problem]:
    """Ports that a node, a gateway or a router has two listeners on."""
    for path, node in declared.nodes:
        yield from _repeated_ports(path, node.virtual_node_name, node.spec.listeners)
    for path, gateway in declared.gateways:
        yield from _repeated_ports(path, gateway.virtual_gateway_name, gateway.spec.listeners)
    for path, router in declared.routers:
        yield from _repeated_ports(path, router.virtual_router_name, router.spec.listeners)


def _repeated_ports(
    path: str, owner: str, listeners: Sequence[Listener | GatewayListener | RouterListener]
) -> Iterator[Problem]:
    seen: set[int] = set()
    for index, listener in enumerate(listeners):
        port = listener.port_mapping.port
        if port in seen:
            place = f"{path}.spec.listeners[{index}].portMapping.port"
            yield Problem("same-address", place, f"{owner} listens on {port} twice")
        seen.add(port)


def find_same_instances(declared: Declared) -> Iterator[Problem]:
    """Nodes that choose the same instances of Cloud Map."""
    first: dict[tuple[object, ...], str] = {}
    for path, node in declared.nodes:
        chosen = node.spec.service_discovery.aws_cloud_map if node.spec.service_discovery else None
        if chosen is None:
            continue
        attributes = frozenset((it.key, it.value) for it in chosen.attributes)
        key = (chosen.namespace_name, chosen.service_name, attributes)
        owner = first.setdefault(key, node.virtual_node_name)
        if owner != node.virtual_node_name:
            what = f"{node.virtual_node_name} chooses the same instances of Cloud Map as {owner}"
            yield Problem("same-instances", f"{path}.spec.serviceDiscovery.awsCloudMap", what)


def find_shared_tcp_ports(declared: Declared) -> Iterator[Problem]:
    """Callers whose tcp services share a port, which is all that tells them apart."""
    ports = {
        it.virtual_service_name: _tcp_ports(declared, it.virtual_service_name)
        for _, it in declared.services
    }
    for member in declared.members:
        first: dict[int, str] = {}
        for path, call in member.calls:
            for port in ports.get(call.virtual_service_name, ()):
                owner = first.setdefault(port, call.virtual_service_name)
                if owner != call.virtual_service_name:
                    what = f"{member.name} calls {call.virtual_service_name} and {owner} on {port}"
                    yield Problem("tcp-same-port", path, what)


def _tcp_ports(declared: Declared, service: str) -> tuple[int, ...]:
    return tuple(
        it.port_mapping.port
        for it in declared.listeners_of(service)
        if it.port_mapping.protocol == "tcp"
    )


def find_low_ports(declared: Declared) -> Iterator[Problem]:
    """Gateways on ports that neither Fargate nor an ordinary user may open."""
    for path, gateway, listener in placed_gateway_listeners(declared):
        port = listener.port_mapping.port
        if port <= _ROOTS_PORTS:
            what = (
                f"{gateway.virtual_gateway_name} listens on {port}, which mostly only root may open"
            )
            yield Problem("low-port", f"{path}.portMapping.port", what)


# --- health -----------------------------------------------------------------------------------


def find_wrong_health_checks(declared: Declared) -> Iterator[Problem]:
    """Health checks at another port than the listener's, or with a path that does not fit."""
    for path, _, listener in placed_listeners(declared):
        if listener.health_check:
            place, port = f"{path}.healthCheck", listener.port_mapping.port
            yield from _wrong_health_check(place, listener.health_check, port)
    for path, _, way_in in placed_gateway_listeners(declared):
        if way_in.health_check:
            place, port = f"{path}.healthCheck", way_in.port_mapping.port
            yield from _wrong_health_check(place, way_in.health_check, port)


def _wrong_health_check(
    place: str, check: HealthCheck | GatewayHealthCheck, port: int
) -> Iterator[Problem]:
    if check.port is not None and check.port != port:
        what = f"the health check asks port {check.port}, and the listener is on {port}"
        yield Problem("health-check-port", f"{place}.port", what)
    if check.protocol in {"http", "http2"} and not check.path:
        what = f"a health check by {check.protocol} asks for a path, and none is given"
        yield Problem("health-check-path", place, what)
    if check.protocol in {"tcp", "grpc"} and check.path:
        what = f"a health check by {check.protocol} never asks for {check.path}"
        yield Problem("health-check-path", f"{place}.path", what)


def find_health_check_load(declared: Declared) -> Iterator[Problem]:
    """Nodes that so many callers check that the checks are a load of their own."""
    callers: Counter[str] = Counter()
    for member in declared.members:
        reached = {
            it.path: it
            for _, call in member.calls
            for it in declared.reached(call.virtual_service_name)
        }
        callers.update(reached.keys())
    for path, node, listener in placed_listeners(declared):
        check = listener.health_check
        if check is None:
            continue
        each_second = callers[path] * 1000 / check.interval_millis
        if each_second > _MOST_CHECKS_A_SECOND:
            what = (
                f"{callers[path]} callers check each endpoint of {node.virtual_node_name}: "
                f"{each_second:.0f} checks a second, or more where callers run many times"
            )
            yield Problem("health-check-load", f"{path}.healthCheck.intervalMillis", what)


def find_lone_outliers(declared: Declared) -> Iterator[Problem]:
    """Outlier detection where there is one host, which is all that could be left out."""
    for path, node, listener in placed_listeners(declared):
        dns = node.spec.service_discovery.dns if node.spec.service_discovery else None
        if listener.outlier_detection and dns and dns.response_type == "LOADBALANCER":
            what = f"{node.virtual_node_name} is one logical host, found by {dns.hostname}"
            yield Problem("outlier-one-host", f"{path}.outlierDetection", what)


# --- pools and policies -----------------------------------------------------------------------


def find_shared_pools(declared: Declared) -> Iterator[Problem]:
    """Connection pools that training takes from while scoring waits."""
    roles: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for member in declared.members:
        if isinstance(member.entry, MeshClient):
            for _, call in member.calls:
                for it in declared.reached(call.virtual_service_name):
                    roles[it.path].setdefault(member.entry.role, member.name)
    for path, node, listener in placed_listeners(declared):
        by_role = roles.get(path, {})
        if listener.connection_pool and {"training", "scoring"} <= by_role.keys():
            what = (
                f"{by_role['training']} (training) and {by_role['scoring']} (scoring) share "
                f"the connection pool of {node.virtual_node_name}"
            )
            yield Problem("shared-pool", f"{path}.connectionPool", what)


def find_void_policies(declared: Declared) -> Iterator[Problem]:
    """What only a node's own sidecar could enforce, at a node that has none."""
    for path, node, listener in placed_listeners(declared):
        if not node.is_external:
            continue
        for field, value in (
            ("connectionPool", listener.connection_pool),
            ("timeout", listener.timeout),
            ("tls", listener.tls),
        ):
            if value is not None:
                what = f"{node.virtual_node_name} has no sidecar that would enforce its {field}"
                yield Problem("external-policy", f"{path}.{field}", what)


def find_other_protocols(declared: Declared) -> Iterator[Problem]:
    """Time-outs and pools of listeners that speak another protocol."""
    for path, _, listener in placed_listeners(declared):
        protocol, port = listener.port_mapping.protocol, listener.port_mapping.port
        if listener.timeout and listener.timeout.field != protocol:
            yield _of_another(f"{path}.timeout", listener.timeout.field, protocol, port)
        if listener.connection_pool and listener.connection_pool.field != protocol:
            field = listener.connection_pool.field
            yield _of_another(f"{path}.connectionPool", field, protocol, port)
    for path, _, way_in in placed_gateway_listeners(declared):
        protocol, port = way_in.port_mapping.protocol, way_in.port_mapping.port
        if way_in.connection_pool and way_in.connection_pool.field != protocol:
            field = way_in.connection_pool.field
            yield _of_another(f"{path}.connectionPool", field, protocol, port)


def _of_another(path: str, field: str, protocol: str, port: int) -> Problem:
    policy = path.rpartition(".")[2]
    what = f"the {policy} is one of {field}, and the listener on port {port} speaks {protocol}"
    return Problem("protocol-mismatch", f"{path}.{field}", what)


def find_void_egress_filter(declared: Declared) -> Iterator[Problem]:
    """An ALLOW_ALL that does not hold for virtual nodes that list backends."""
    if declared.mesh.mesh.spec.egress_filter.type != "ALLOW_ALL":
        return
    callers = (it for it in declared.members if isinstance(it.entry, VirtualNode))
    bound = [it.name for it in callers if it.calls]
    if bound:
        more = f" and {len(bound) - 1} more" if len(bound) > 1 else ""
        what = f"ALLOW_ALL does not hold for {bound[0]}{more}: who lists backends calls no other"
        yield Problem("egress-filter-void", "mesh.spec.egressFilter", what)


def find_lifted_listener_limits(declared: Declared) -> Iterator[Problem]:
    """Listeners whose time-out of 0 lets a call last for ever."""
    for path, node, listener in placed_listeners(declared):
        limit = listener.timeout.of_requests if listener.timeout else None
        if listener.timeout and limit and limit.per_request and not limit.per_request.value:
            what = f"a call to {node.virtual_node_name} may last for ever"
            place = f"{path}.timeout.{listener.timeout.field}.perRequest"
            yield Problem("no-time-limit", place, what)


def find_stalling_listeners(declared: Declared) -> Iterator[Problem]:
    """Raw tcp that is told from TLS by the caller's first bytes, which may never come."""
    for path, node, listener in placed_listeners(declared):
        tls, mapping = listener.tls, listener.port_mapping
        if mapping.protocol == "tcp" and tls and tls.mode == "PERMISSIVE":
            known = _SPEAK_FIRST.get(mapping.port)
            example = f", as {known} does," if known else ""
            what = f"if {node.virtual_node_name} speaks first{example} its callers wait for ever"
            yield Problem("server-first", f"{path}.tls.mode", what)


def find_open_listeners(declared: Declared) -> Iterator[Problem]:
    """Listeners that serve anyone who reaches them."""
    for path, node, listener in placed_listeners(declared):
        mode = listener.tls.mode if listener.tls else "no tls"
        if mode != "STRICT" and not node.is_external:
            what = f"{node.virtual_node_name} serves anyone who reaches it in plain text ({mode})"
            yield Problem("plaintext", f"{path}.tls" if listener.tls else path, what)


# --- logs -------------------------------------------------------------------------------------


def find_endless_log_lines(declared: Declared) -> Iterator[Problem]:
    """Text formats of access logs that end no line."""
    for path, node in declared.nodes:
        yield from _endless(f"{path}.spec.logging", node.spec.logging)
    for path, gateway in declared.gateways:
        yield from _endless(f"{path}.spec.logging", gateway.spec.logging)


def _endless(place: str, logging: Logging | None) -> Iterator[Problem]:
    log = logging.access_log if logging else None
    text = log.file.format.text if log and log.file.format else None
    if text is not None and not text.endswith(("\n", "}")):
        what = "the text format ends no line: all calls come on one"
        yield Problem("log-newline", f"{place}.accessLog.file.format.text", what)
