"""What VPC Lattice makes of services, routers and routes: the rules that look at a whole route.

A route becomes a rule where its match can be expressed, its port has a listener and some target is
reached; ``lattice_doors`` decides that for the plan and for these rulings alike.
"""

from meshml_dbx.mesh.spec import (
    Route,
    RouterListener,
    TcpRoute,
    VirtualRouter,
    VirtualService,
    WeightedTarget,
)
from meshml_dbx.planes.fit_words import Ruling, Site, approximated, dropped, kept
from meshml_dbx.planes.lattice import MOST_RULES
from meshml_dbx.planes.lattice_doors import MOST_LISTENERS, Door, Rule, share_of
from meshml_dbx.planes.lattice_terms import is_domain

KEPT = kept()
EXPRESSIBLE = "match by path, method or header value or prefix, or keep an Envoy for it"

# --- services and routers ---------------------------------------------------------------------


def rule_service_name(site: Site) -> Ruling:
    """A virtual service by its name: a domain name of its own, or a generated one."""
    if is_domain(str(site.value)):
        return kept("as the service's custom domain name, with a DNS record of your own")
    return approximated(
        "service names",
        "no domain name of yours: callers use the name that Lattice generates",
        "name the service by a domain name",
    )


def rule_service(site: Site) -> Ruling | None:
    """A service that some reachable target answers is made; any other is lost."""
    service = site.value
    if not isinstance(service, VirtualService):
        return None
    doors = site.world.service_doors(service.virtual_service_name)
    if any(not it.problem for door in doors for it in door.targets):
        return None
    if service.spec.provider is None:
        advice = "name a provider, or take it out"
        return dropped("services", "nobody provides it, so Lattice makes no service of it", advice)
    return dropped(
        "services",
        "none of its targets is one that Lattice reaches",
        "let its callers call the host itself, or give it a node in a VPC",
    )


def rule_router(site: Site) -> Ruling | None:
    """A router that some service names becomes listeners; any other nothing."""
    router = site.value
    if not isinstance(router, VirtualRouter):
        return None
    if router.virtual_router_name in site.world.router_services:
        return None
    return dropped(
        "routers that nobody uses",
        "rules belong to a service, and no virtual service names this router",
        "name it as a provider, or take it out",
    )


def rule_router_listener(site: Site) -> Ruling | None:
    """A listener beyond the two that a service may have is lost."""
    door = _door_of(site)
    router = site.near(VirtualRouter)
    if door is None or router is None or door.protocol == "TCP":
        return None
    requests = [it for it in _doors_of(site) if it.protocol != "TCP"]
    if requests.index(door) < MOST_LISTENERS:
        return None
    return dropped(
        "listeners",
        f"a service has at most {MOST_LISTENERS} listeners",
        "make it a virtual service of its own",
    )


def rule_port(site: Site) -> Ruling:
    """A port stays, unless TLS moves it."""
    door = _door_of(site)
    if door is not None and door.port != door.mapping.port:
        return approximated("ports", "HTTPS has port 443 where plain HTTP had 80")
    return KEPT


def _door_of(site: Site) -> Door | None:
    listener = site.near(RouterListener)
    if listener is None:
        return None
    mapping = listener.port_mapping
    return next((door for door in _doors_of(site) if door.mapping is mapping), None)


def _doors_of(site: Site) -> tuple[Door, ...]:
    router = site.near(VirtualRouter)
    return site.world.doors.of_router(router.virtual_router_name) if router else ()


# --- routes -----------------------------------------------------------------------------------


def _rule_of(site: Site) -> tuple[Rule, int] | None:
    """The rule of a route and its place among those made at the first door that has it."""
    route, router = site.near(Route), site.near(VirtualRouter)
    if route is None or router is None:
        return None
    return site.world.rules_of(router.virtual_router_name).get(id(route))


def rule_route_name(site: Site) -> Ruling:
    """Whether a route becomes a rule."""
    found = _rule_of(site)
    if found is None:
        return dropped(
            "routes",
            "no listener of the router has its port and protocol",
            "take it out, or give the router that listener",
        )
    if found[0].gaps:
        return _left_out(site)
    if found[1] >= MOST_RULES:
        return approximated(
            "rules over the quota",
            f"more than {MOST_RULES} rules at one listener",
            "ask AWS for a higher quota, or split the service",
        )
    return KEPT


def _left_out(_: Site) -> Ruling:
    return dropped(
        "rules that cannot be expressed",
        "the route's match cannot be expressed, so no rule is made of it: its requests fall to "
        "the next rule",
        EXPRESSIBLE,
    )


def rule_of_route(site: Site) -> Ruling | None:
    """The ruling that all parts of a route share where it becomes no rule."""
    found = _rule_of(site)
    if found is None:
        return rule_route_name(site)
    return _left_out(site) if found[0].gaps else None


def _topic_of(place: str) -> str:
    field = place.partition("[")[0]
    names = {
        "headers": "header matches",
        "metadata": "header matches",
        "queryParameters": "query matches",
        "scheme": "scheme matches",
    }
    return names.get(field, "path matches")


def rule_match_part(site: Site) -> Ruling | None:
    """A part that has no words is dropped for that, every other with its rule."""
    if isinstance(site.value, tuple):
        return None  # entry by entry
    found = _rule_of(site)
    place = site.path.rpartition(".match.")[2]
    for gap in found[0].gaps if found else ():
        if gap.field == place:
            return dropped(_topic_of(place), gap.why, EXPRESSIBLE)
    return rule_of_route(site) or KEPT


def rule_match_port(site: Site) -> Ruling:
    """A port is the matter of the listener at which the rule stands."""
    return rule_of_route(site) or approximated(
        "port matches", "the rule stands at the listener of that port alone"
    )


def rule_grpc_part(site: Site) -> Ruling | None:
    """A part of a gRPC match, as the path that the call has."""
    ruling = rule_match_part(site)
    return ruling if ruling is not KEPT else approximated("gRPC matches", "as a path of HTTP/2")


def rule_priority(site: Site) -> Ruling:
    """Where a route ranks."""
    return rule_of_route(site) or kept("rules are numbered from 1 in the order of the routes")


def rule_target(site: Site) -> Ruling:
    """A weighted target, where Lattice reaches it."""
    target = site.value
    left_out = rule_of_route(site)
    if left_out or not isinstance(target, WeightedTarget):
        return left_out or KEPT
    share = share_of(site.world.mesh, target.virtual_node, port=target.port, weight=target.weight)
    if share.problem:
        return dropped("targets", share.problem, "give the target a node in a VPC")
    route = site.near(Route)
    if route is not None and route.spec.tcp_route is not None:
        return _tcp_target(route.spec.tcp_route)
    if route is not None and not any(it.weight for it in route.spec.weighted_targets):
        return approximated("weights of 0", "the rule answers 500, where a proxy answered 503")
    return KEPT


def _tcp_target(route: TcpRoute) -> Ruling:
    live = [it for it in route.action.weighted_targets if it.weight]
    if len(live) == 1:
        return approximated("TCP", "a TCP resource is one host, which is this target's")
    return dropped(
        "weights of TCP routes",
        "a TCP resource is one host and knows no weights",
        "choose one target, or put a network load balancer in front of them",
    )
