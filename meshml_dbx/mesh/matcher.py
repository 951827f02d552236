"""What becomes of any call of a member of the mesh: the whole model compiled, and asked in order.

A mesh and a member's name go in, ``MemberRoutes`` come out, which decide request by request: by the
authority to a virtual service, by its rules to a route and its targets, else to what a proxy says
by itself. A gateway's request passes the gateway's rules first. The rules are those that the Envoy
plane renders, and the names of routes those that Envoy logs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from meshml_dbx.mesh import names
from meshml_dbx.mesh.conditions import Condition, conditions_of
from meshml_dbx.mesh.limits import PARAMETER
from meshml_dbx.mesh.once import once_per_mesh
from meshml_dbx.mesh.order import ordered_gateway_routes
from meshml_dbx.mesh.requests import Facts, Request
from meshml_dbx.mesh.routing import TargetShare, shares_of
from meshml_dbx.mesh.spec import (
    GatewayRoute,
    HttpGatewayRouteMatch,
    HttpRewrite,
    HttpRouteMatch,
    Mesh,
    Protocol,
    Route,
    TcpRouteMatch,
    VirtualGateway,
    VirtualNode,
)
from meshml_dbx.mesh.ways import HTTP2_PROTOCOLS, Provided, Way, node_target, provided

Outcome = Literal[
    "route",
    "node",
    "no-weight",
    "no-route",
    "no-provider",
    "no-gateway-route",
    "dropped",
    "external",
    "tunnel",
]
NO_ROUTE, NO_PROVIDER = "meshml:no-route", "meshml:no-provider"
NO_GATEWAY_ROUTE = "meshml:no-gateway-route"
DROPPED, EXTERNAL, TUNNEL = "meshml:drop-all", "meshml:external", "meshml:tunnel"

AMAZON_HOSTS = r"(?i)[a-z0-9.-]+\.amazonaws\.com(:[0-9]+)?"
"""The hosts outside the mesh that App Mesh's DROP_ALL let through."""

_AMAZON = re.compile(AMAZON_HOSTS, re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """A route, ready to be asked; ``place`` is its path in the mesh file."""

    name: str
    place: str
    conditions: tuple[Condition, ...]
    declared: Route | GatewayRoute

    def takes(self, facts: Facts) -> bool:
        """Whether every condition is met."""
        return all(condition.meets(facts) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """What is asked of the requests that come to a service by one way."""

    provided: Provided
    way: Way
    rules: tuple[Rule, ...]
    fixed: "Decision | None"
    kept: dict[int, "Decision"] = field(default_factory=dict, repr=False, compare=False)

    def decide(self, facts: Facts) -> "Decision":
        """The first rule that takes the request, or what stands at the end of the list."""
        if self.fixed is not None:
            return self.fixed
        for rule in self.rules:
            if rule.takes(facts):
                return self.kept.get(id(rule)) or self._taken_by(rule)
        return Decision(outcome="no-route", route=NO_ROUTE, reached=self)

    def _taken_by(self, rule: Rule) -> "Decision":
        targets = rule.declared.spec.weighted_targets if isinstance(rule.declared, Route) else ()
        outcome: Outcome = "route" if any(it.weight for it in targets) else "no-weight"
        self.kept[id(rule)] = Decision(
            outcome=outcome,
            route=rule.name,
            reached=self,
            rule=rule,
            targets=shares_of(targets),
        )
        return self.kept[id(rule)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a request; ``route`` is the name that the proxy logs."""

    outcome: Outcome
    route: str
    reached: ServiceRules | None = None
    rule: Rule | None = None
    targets: tuple[TargetShare, ...] = ()
    gateway_rule: Rule | None = None
    request: Request | None = None

    @property
    def virtual_service(self) -> str | None:
        """The service that the request came to."""
        return self.reached.provided.name if self.reached else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRoutes:
    """Everything that a client's, node's or gateway's proxy decides by."""

    member: str
    hosts: Mapping[str, ServiceRules]
    http2_hosts: Mapping[str, ServiceRules]
    tcp: Mapping[str, ServiceRules]
    normal_paths: bool
    drops_others: str | None
    gateway: "GatewayRules | None" = None

    def decide(self, request: Request) -> Decision:
        """The way of one request."""
        if self.gateway:
            return self.gateway.decide(request, self)
        if request.method == "CONNECT":
            return Decision(outcome="tunnel", route=TUNNEL)
        found = self.service_of(request)
        if found is None:
            return self._leaves(request)
        return found.decide(Facts(request, normal_paths=self.normal_paths))

    def service_of(self, request: Request) -> ServiceRules | None:
        """The rules that an authority leads to, whatever its case."""
        hosts = self.hosts if request.protocol == "http" or self.gateway else self.http2_hosts
        return hosts.get(request.authority.lower())

    def connect(self, address: str) -> ServiceRules | None:
        """The rules of a connection of plain TCP to a service, by its name and port."""
        return self.tcp.get(address.lower())

    def _leaves(self, request: Request) -> Decision:
        if request.protocol != "http":
            return Decision(outcome="dropped", route=DROPPED)
        if self.drops_others and not _AMAZON.fullmatch(request.authority):
            return Decision(outcome="dropped", route=DROPPED)
        return Decision(outcome="external", route=EXTERNAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRules:
    """The rules at a gateway's ports, before the rules of the services that they lead to."""

    ports: Mapping[int, tuple[Rule, ...]]
    normal_paths: bool

    def decide(self, request: Request, into: MemberRoutes) -> Decision:
        """The gateway's route, and then what the service's rules say of the rewritten request."""
        facts = self.facts(request)
        for rule in self.rules_at(request):
            if rule.takes(facts) and isinstance(rule.declared, GatewayRoute):
                inner = rewritten(rule.declared, request, facts)
                return replace(self._inside(inner, into), gateway_rule=rule, request=inner)
        return Decision(outcome="no-gateway-route", route=NO_GATEWAY_ROUTE)

    def facts(self, request: Request) -> Facts:
        """The request as the gateway's own listener sees it."""
        return Facts(_seen_outside(request), normal_paths=self.normal_paths)

    def rules_at(self, request: Request) -> tuple[Rule, ...]:
        """The rules of the port that was called; without one that it has, of its first."""
        port = _port_of(request.authority)
        return self.ports.get(port or 0, next(iter(self.ports.values()), ()))

    def _inside(self, request: Request, into: MemberRoutes) -> Decision:
        found = into.service_of(request)
        if found is None:
            return Decision(outcome="no-gateway-route", route=NO_GATEWAY_ROUTE)
        return found.decide(Facts(request, normal_paths=into.normal_paths))


def _seen_outside(request: Request) -> Request:
    """A gateway believes no caller about addresses; it says itself who called, and how."""
    kept = [it for it in request.headers if it[0].lower() != "x-forwarded-proto"]
    sent = [("x-forwarded-proto", request.scheme), ("x-forwarded-for", "the caller's address")]
    return replace(request, headers=(*kept, *sent))


def rewritten(route: GatewayRoute, request: Request, facts: Facts) -> Request:
    """A request as a gateway's route sends it on into the mesh."""
    target = route.spec.target
    service = target.virtual_service.virtual_service_name
    authority = f"{service}:{target.port}" if target.port else service
    path, query = facts.path, request.path[len(request.path.partition("?")[0]) :]
    if route.spec.http:
        path = _new_path(route.spec.http.match, route.spec.http.action.rewrite, path)
    outside = _seen_outside(request)
    headers = (*outside.headers, ("x-forwarded-host", request.authority))
    return replace(outside, authority=authority, path=path + query, headers=headers)


def _new_path(match: HttpGatewayRouteMatch, rewrite: HttpRewrite | None, path: str) -> str:
    """App Mesh replaced a matched prefix, with the slashes after it, by / unless told not to."""
    if rewrite and rewrite.path and rewrite.path.exact is not None:
        return rewrite.path.exact
    prefix = rewrite.prefix if rewrite else None
    if match.prefix is None or (prefix and prefix.default_prefix == "DISABLED"):
        return path
    value = prefix.value if prefix and prefix.value is not None else "/"
    if value == match.prefix:
        return path
    return value + path[len(match.prefix) :].lstrip("/")


def _port_of(authority: str) -> int | None:
    found = re.search(r":([0-9]{1,5})$", authority)
    return int(found[1]) if found else None


# --- compiling --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was compiled of one mesh so far."""

    services: dict[str, tuple[ServiceRules, ...]] = field(default_factory=dict)
    members: dict[str, MemberRoutes] = field(default_factory=dict)


@once_per_mesh
def _kept(mesh: Mesh) -> _Kept:
    del mesh
    return _Kept()


def compile_routes(mesh: Mesh, member: str) -> MemberRoutes:
    """The rules of a member's proxy, compiled when they are first asked for.

    Raises:
        UnknownNameError: the mesh has no member of that name, or a rule names what is not there.
    """
    members = _kept(mesh).members
    if member not in members:
        members[member] = _compile(mesh, member)
    return members[member]


def service_rules(mesh: Mesh, virtual_service: str) -> tuple[ServiceRules, ...]:
    """The rules of each way of a virtual service, whoever calls it."""
    services = _kept(mesh).services
    if virtual_service not in services:
        found = provided(mesh, virtual_service)
        services[virtual_service] = tuple(_rules_of(found, way) for way in found.ways)
    return services[virtual_service]


def _compile(mesh: Mesh, member: str) -> MemberRoutes:
    found = names.member(mesh, member)
    called = [
        rules
        for backend in names.backends_of(mesh, member)
        if not _is_open(mesh, backend.virtual_service_name)
        for rules in service_rules(mesh, backend.virtual_service_name)
    ]
    http2 = [it for it in called if it.provided.speaks_http2]
    return MemberRoutes(
        member=member,
        hosts=_by_domain(called),
        http2_hosts=_by_domain(http2, bare=HTTP2_PROTOCOLS),
        tcp=_by_address(called),
        normal_paths=any(asks_for_path(route) for it in called for route in it.provided.routes),
        drops_others=why_others_dropped(mesh, member),
        gateway=_gateway_rules(found) if isinstance(found, VirtualGateway) else None,
    )


def _is_open(mesh: Mesh, virtual_service: str) -> bool:
    """Whether a service, or its router or node, is a parameter that nobody gave yet."""
    known = names.index(mesh)
    found = known.services.get(virtual_service)
    if found is None:
        return PARAMETER.search(virtual_service) is not None
    provider = found.spec.provider
    if provider and provider.virtual_router:
        name = provider.virtual_router.virtual_router_name
        return name not in known.routers and PARAMETER.search(name) is not None
    if provider and provider.virtual_node:
        name = provider.virtual_node.virtual_node_name
        return name not in known.nodes and PARAMETER.search(name) is not None
    return False


def _by_domain(
    called: Sequence[ServiceRules], *, bare: Sequence[Protocol] = ()
) -> dict[str, ServiceRules]:
    """The rules behind each authority; of two services that claim one, the first has it.

    A name without a port means the first port of the protocols in ``bare``, else that of http.
    """
    hosts: dict[str, ServiceRules] = {}
    for rules in called:
        for host in rules.provided.hosts_preferring(bare):
            if host.way == rules.way:
                for domain in host.domains:
                    hosts.setdefault(domain.lower(), rules)
    return hosts


def _by_address(called: Sequence[ServiceRules]) -> dict[str, ServiceRules]:
    tcp: dict[str, ServiceRules] = {}
    for rules in called:
        if rules.way.protocol == "tcp":
            port = rules.way.port
            tcp.setdefault(f"{rules.provided.name}:{port}".lower(), rules)
            tcp.setdefault(rules.provided.name.lower(), rules)
    return tcp


def why_others_dropped(mesh: Mesh, member: str) -> str | None:
    """Why hosts that are no backends are not called: a node that lists backends lists them all."""
    if mesh.mesh.spec.egress_filter.type == "DROP_ALL":
        return "egressFilter is DROP_ALL"
    if isinstance(names.member(mesh, member), VirtualNode) and names.backends_of(mesh, member):
        return "egressFilter ALLOW_ALL is void for a virtual node that lists backends"
    return None


def _rules_of(found: Provided, way: Way) -> ServiceRules:
    place = f"virtualRouters[{found.router.virtual_router_name}].routes" if found.router else ""
    rules = tuple(
        Rule(
            name=route.route_name,
            place=f"{place}[{route.route_name}]",
            conditions=_conditions(route),
            declared=route,
        )
        for route in found.routes_at(way)
    )
    made = ServiceRules(found, way, rules, None)
    return replace(made, fixed=_fixed(made), kept={})


def _fixed(rules: ServiceRules) -> Decision | None:
    """What becomes of every request where there is nothing to ask."""
    node = rules.provided.node
    if node:
        return Decision(
            outcome="node",
            route=node.virtual_node_name,
            reached=rules,
            targets=shares_of((node_target(node, rules.way),)),
        )
    if rules.provided.router is None:
        return Decision(outcome="no-provider", route=NO_PROVIDER, reached=rules)
    return None


def _conditions(route: Route | GatewayRoute) -> tuple[Condition, ...]:
    match = route.spec.route.match
    return () if match is None or isinstance(match, TcpRouteMatch) else conditions_of(match)


def _gateway_rules(gateway: VirtualGateway) -> GatewayRules:
    place = f"virtualGateways[{gateway.virtual_gateway_name}].gatewayRoutes"
    rules = [
        Rule(
            name=route.gateway_route_name,
            place=f"{place}[{route.gateway_route_name}]",
            conditions=_conditions(route),
            declared=route,
        )
        for route in ordered_gateway_routes(gateway)
    ]
    ports = [it.port_mapping.port for it in gateway.spec.listeners]
    asked = {
        route.gateway_route_name: route.spec.route.match.port for route in gateway.gateway_routes
    }
    return GatewayRules(
        ports={
            port: tuple(rule for rule in rules if asked[rule.name] in {None, port})
            for port in ports
        },
        normal_paths=any(map(asks_for_path, gateway.gateway_routes)),
    )


def asks_for_path(route: Route | GatewayRoute) -> bool:
    """Whether a route looks at the path: one that does makes its listener's paths normal."""
    match = route.spec.route.match
    if isinstance(match, HttpRouteMatch | HttpGatewayRouteMatch):
        return match.prefix is not None or match.path is not None
    return False
