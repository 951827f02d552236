"""What a decision means in one sentence, and what to do where nobody takes the request."""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.matcher import Decision, compile_routes
from meshml_dbx.mesh.spec import Mesh, MeshClient, VirtualGateway

_CONNECTIONS = {
    "no-route": "no tcp route takes it: the connection is closed",
    "no-provider": "nobody provides it: the connection is closed",
    "no-weight": "every target of the route has weight 0: the connection is closed",
    "dropped": "it is no TCP backend of the caller: there is no local port for it",
}
_ANSWERS = {
    "no-route": "no route takes it: the proxy answers 404",
    "no-provider": "nobody provides it: the proxy answers 503",
    "no-weight": "every target of the route has weight 0: the proxy answers 503",
    "no-gateway-route": "no gateway route takes it: the gateway answers 404",
    "dropped": "it is no backend of the caller: the proxy answers 403",
    "external": "it is not in the mesh: it goes to the host itself, without retries or time-outs",
    "tunnel": "https goes through the proxy as a tunnel to the host itself: no route is asked",
}


def sentence_of(decision: Decision, caller: str, request: str) -> str:
    """What becomes of the request."""
    if decision.outcome == "route":
        return f"{request} of {caller} takes route {decision.route}"
    if decision.outcome == "node":
        return f"{request} of {caller} goes to virtual node {decision.route}, without a route"
    if decision.gateway_rule and decision.outcome == "no-gateway-route":
        rule, service = decision.gateway_rule.name, _led_to(decision)
        what = f"gateway route {rule} sends it to {service}, where nobody takes it: answered 404"
        return f"{request} of {caller}: {what}"
    answers = _CONNECTIONS if request.startswith("TCP ") else _ANSWERS
    return f"{request} of {caller}: {answers[decision.outcome]}"


def advice_of(mesh: Mesh, decision: Decision, member: str | None, request: str) -> str:
    """What to change if that was not meant; nothing where somebody takes the request."""
    if decision.outcome == "dropped":
        return _dropped(mesh, member or "", request)
    if decision.gateway_rule and decision.outcome == "no-gateway-route":
        rule = decision.gateway_rule.name
        return f"give {_led_to(decision)} a listener of http, or route {rule} another target"
    router = decision.reached.provided.router if decision.reached else None
    name = router.virtual_router_name if router else ""
    service = decision.virtual_service
    return {
        "no-route": f"add a route to virtualRouters[{name}] that takes it, such as prefix: /",
        "no-provider": f"give virtualServices[{service}] a provider: a virtual router or node",
        "no-weight": f"give a target of route {decision.route} a weight above 0",
        "no-gateway-route": f"add a gateway route to virtualGateways[{member}] that takes it",
        "tunnel": "call http:// so that the mesh routes the call and encrypts it by itself",
    }.get(decision.outcome, "")


def _led_to(decision: Decision) -> str:
    """The authority that a gateway's route asks the mesh for."""
    return decision.request.authority if decision.request else ""


def _dropped(mesh: Mesh, member: str, request: str) -> str:
    authority = request.split(" ", 1)[1].partition("://")[2].partition("/")[0] or request[4:]
    host = authority.lower().partition(":")[0]
    known = {name.lower(): name for name in names.index(mesh).services}
    rules = compile_routes(mesh, member)
    domains = sorted(it for it in {*rules.hosts, *rules.tcp} if it.partition(":")[0] == host)
    if domains:
        return f"{authority} is not how it is called; {member} reaches it by {', '.join(domains)}"
    if host in known:
        found = names.member(mesh, member)
        kind = "clients" if isinstance(found, MeshClient) else "virtualNodes"
        if isinstance(found, VirtualGateway):
            return f"add a gateway route that leads to {known[host]}"
        return f"add virtual service {known[host]} to {kind}[{member}].spec.backends"
    guess = names.closest(host, known)
    meant = f"did you mean {known[guess]}? else " if guess else ""
    why = rules.drops_others or ""
    return f"{meant}declare the host as a virtual node with a virtual service; {why}".rstrip("; ")
