"""What was decided of one request, in words: every rule in order, the winner, its policies, peers.

A loaded mesh, who calls and a request go in, a ``RequestExplanation`` comes out. It narrates
``matcher``: each line is read off a condition that was asked, and each value has the place in the
mesh file, or the default, that it comes from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.explained_text import lines_of
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.matcher import Decision, MemberRoutes, Rule, compile_routes, service_rules
from meshml_dbx.mesh.peers import PeerTerms, peer_terms
from meshml_dbx.mesh.requests import Facts, Request
from meshml_dbx.mesh.settings_of import Setting, listener_settings, route_settings
from meshml_dbx.mesh.spec import Mesh, VirtualService
from meshml_dbx.mesh.unrouted import advice_of, sentence_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One condition of a rule, what the request had of it, and whether that was enough."""

    met: bool
    wanted: str
    seen: str
    where: str

    def __str__(self) -> str:
        return f"{'met:' if self.met else 'NOT met:'} {self.seen}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One rule in the order of asking; what comes after the winner is not asked.

    ``asks_for`` is the request as a gateway's route, if it takes it, sends it on into the mesh.
    """

    kind: str
    name: str
    where: str
    taken: bool
    checks: tuple[Checked, ...]
    asks_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A virtual node that the request may go to: its share, its terms, its own limits."""

    virtual_node: str
    share: float
    address: str
    where: str
    peer: PeerTerms
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExplanation:
    """Which way a request goes, and why; ``route`` is the name that the proxy logs."""

    mesh: str
    mesh_version: str
    caller: str
    request: str
    outcome: str
    route: str
    virtual_service: str | None
    sentence: str
    advice: str
    considered: tuple[Considered, ...]
    not_asked: tuple[str, ...]
    """Names of the routes that come after the one that takes it, in their order."""
    settings: tuple[Setting, ...]
    targets: tuple[Target, ...]

    @property
    def is_taken(self) -> bool:
        """Whether somebody takes the request, be it a host outside the mesh."""
        return self.outcome in {"route", "node", "external", "tunnel"}

    def to_json(self) -> dict[str, object]:
        """The same as plain data."""
        return asdict(self)

    def lines(self) -> tuple[str, ...]:
        """The same for a person's eyes."""
        return tuple(lines_of(self))


def explain_request(
    loaded: LoadedMesh, mesh: Mesh, member: str, request: Request
) -> RequestExplanation:
    """Which way a member's request goes.

    Raises:
        UnknownNameError: the mesh has no such member, or a rule names what is not there.
    """
    rules = compile_routes(mesh, member)
    decision = rules.decide(request)
    considered = tuple(_considered(loaded, rules, decision, request))
    return _explanation(loaded, mesh, member, _shown(request), (decision, considered))


def explain_service(
    loaded: LoadedMesh, mesh: Mesh, service: VirtualService, request: Request
) -> RequestExplanation:
    """Which way a request goes that came to a service, whoever called."""
    ways = [
        it for it in service_rules(mesh, service.virtual_service_name) if it.way.protocol != "tcp"
    ]
    port = request.authority.rpartition(":")[2]
    found = next((it for it in ways if str(it.way.port) == port), ways[0] if ways else None)
    if found is None:
        raise UnknownNameError(
            f"{service.virtual_service_name} takes connections of TCP, not requests",
            advice="ask with --tcp NAME:PORT and --client",
        )
    facts = Facts(request, normal_paths=True)
    decision = found.decide(facts)
    considered = tuple(_rules_asked(loaded, "route", found.rules, decision.rule, facts))
    return _explanation(loaded, mesh, None, _shown(request), (decision, considered))


def explain_connection(
    loaded: LoadedMesh, mesh: Mesh, member: str, address: str
) -> RequestExplanation:
    """Which way a member's connection of plain TCP to a service goes; ``address`` is name:port."""
    rules = compile_routes(mesh, member)
    found = rules.connect(address)
    decision = (
        Decision(outcome="dropped", route="")
        if found is None
        else found.decide(Facts(Request(authority=address)))
    )
    considered = tuple(
        Considered(
            kind="tcp route",
            name=rule.name,
            where=loaded.where(rule.place),
            taken=rule is decision.rule,
            checks=(),
        )
        for rule in (found.rules[:1] if found else ())
    )
    return _explanation(loaded, mesh, member, f"TCP {address}", (decision, considered))


def _shown(request: Request) -> str:
    return f"{request.method} {request.scheme}://{request.authority}{request.path}"


# --- rules ------------------------------------------------------------------------------------


def _considered(
    loaded: LoadedMesh, rules: MemberRoutes, decision: Decision, request: Request
) -> Iterator[Considered]:
    if rules.gateway:
        asked = rules.gateway.rules_at(request)
        facts = rules.gateway.facts(request)
        inner = _shown(decision.request) if decision.request else ""
        for one in _rules_asked(loaded, "gateway route", asked, decision.gateway_rule, facts):
            yield replace(one, asks_for=inner) if one.taken else one
    if decision.reached:
        facts = Facts(decision.request or request, normal_paths=rules.normal_paths)
        yield from _rules_asked(loaded, "route", decision.reached.rules, decision.rule, facts)


def _rules_asked(
    loaded: LoadedMesh, kind: str, rules: Sequence[Rule], winner: Rule | None, facts: Facts
) -> Iterator[Considered]:
    for rule in rules:
        yield Considered(
            kind=kind,
            name=rule.name,
            where=loaded.where(rule.place),
            taken=rule is winner,
            checks=tuple(_checks(loaded, rule, facts)),
        )
        if rule is winner:
            return


def _not_asked(decision: Decision) -> tuple[str, ...]:
    rules = decision.reached.rules if decision.reached else ()
    asked = next((at for at, rule in enumerate(rules, 1) if rule is decision.rule), len(rules))
    return tuple(rule.name for rule in rules[asked:])


def _checks(loaded: LoadedMesh, rule: Rule, facts: Facts) -> Iterator[Checked]:
    base = f"{rule.place}.spec.{rule.declared.spec.field}.match"
    for condition in rule.conditions:
        yield Checked(
            met=condition.meets(facts),
            wanted=condition.wanted,
            seen=condition.seen(facts),
            where=loaded.where(f"{base}.{condition.field}".rstrip(".")),
        )


# --- the answer -------------------------------------------------------------------------------


def _explanation(
    loaded: LoadedMesh,
    mesh: Mesh,
    member: str | None,
    request: str,
    decided: tuple[Decision, tuple[Considered, ...]],
) -> RequestExplanation:
    caller, (decision, considered) = member or "anyone", decided
    return RequestExplanation(
        mesh=mesh.mesh.mesh_name,
        mesh_version=names.mesh_version(mesh),
        caller=caller,
        request=request,
        outcome=decision.outcome,
        route=decision.route,
        virtual_service=decision.virtual_service,
        sentence=sentence_of(decision, caller, request),
        advice=advice_of(mesh, decision, member, request),
        considered=considered,
        not_asked=_not_asked(decision),
        settings=tuple(route_settings(loaded, mesh, decision)),
        targets=tuple(_targets(loaded, mesh, member, decision)),
    )


def _targets(
    loaded: LoadedMesh, mesh: Mesh, member: str | None, decision: Decision
) -> Iterator[Target]:
    reached = decision.reached
    for share in decision.targets if reached else ():
        node = names.index(mesh).nodes.get(share.virtual_node)
        is_tcp = reached is not None and reached.way.protocol == "tcp"
        terms = peer_terms(
            loaded, mesh, member, decision.virtual_service or "", share, is_tcp=is_tcp
        )
        yield Target(
            virtual_node=share.virtual_node,
            share=share.share,
            address=terms.address,
            where=loaded.where(f"virtualNodes[{share.virtual_node}]"),
            peer=terms,
            settings=tuple(listener_settings(loaded, node, terms.listener_index) if node else ()),
        )
