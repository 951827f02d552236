"""The rules of drift: each looks at one way in which what happened can differ from the mesh file.

Goes in: a comparison. Comes out: findings, each at its line of the mesh file.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from meshml_dbx.diagnosis.drift_case import CALLING_OBSERVERS, GATEWAY_OBSERVER, DriftCase
from meshml_dbx.diagnosis.weights import Spread, beyond_chance
from meshml_dbx.findings import Finding
from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Certificate, Mesh
from meshml_dbx.traffic.usage import Usage

# --- versions ---------------------------------------------------------------------------------


def find_versions(
    case: DriftCase, usages: Sequence[Usage], version: str, known: frozenset[str]
) -> Iterator[Finding]:
    """Calls of other versions, which are counted but not compared."""
    others: Counter[str | None] = Counter()
    for it in usages:
        if it.mesh_version != version and it.observer in CALLING_OBSERVERS:
            others[it.mesh_version] += it.calls
    for other, calls in sorted(others.items(), key=lambda it: -it[1]):
        if other is None:
            what = f"{calls} calls did not pass a proxy of the mesh, and are not compared"
            yield case.report("drift-outside-mesh", "mesh", what)
        elif other in known:
            what = f"{calls} calls were made under version {other}, and are not compared"
            yield case.report("drift-other-version", "mesh", what)
        else:
            what = f"{calls} calls carry version {other}, of which no mesh file is known"
            yield case.report("drift-unknown-version", "mesh", what)
    if version not in {it.mesh_version for it in usages}:
        what = f"no call was made under version {version}, which this file is"
        yield case.report("drift-not-in-use", "mesh", what)


# --- who calls whom ---------------------------------------------------------------------------


def find_undeclared(case: DriftCase) -> Iterator[Finding]:
    """Calls to services that are no backend of their caller, and to hosts outside the mesh."""
    listed = {it.name: _backends(case, it.name) for it in case.declared.members}
    path_of = {it.name: it.path for it in case.declared.members}
    by_name = {name.lower(): name for name in case.declared.service_named}
    counted: Counter[tuple[str, str]] = Counter()
    for it in case.called:
        if it.observer == GATEWAY_OBSERVER and not it.virtual_service:
            continue  # whoever is outside asked for what no gateway route takes
        where = it.virtual_service or it.host
        if it.caller in listed and where and it.virtual_service not in listed[it.caller]:
            counted[it.caller, where] += it.calls
    for (caller, where), calls in counted.items():
        service = by_name.get(where) or by_name.get(where.rsplit(":", 1)[0])
        if service:
            what = f"{caller} called {service} {calls} times, which is none of its backends"
            yield case.report("drift-undeclared-backend", path_of[caller], what)
        else:
            what = f"{caller} called {where} {calls} times, which the mesh does not know"
            yield case.report("drift-unknown-host", path_of[caller], what)


def _backends(case: DriftCase, member: str) -> frozenset[str | None]:
    backends = names.backends_of(case.mesh, member)
    return frozenset(it.virtual_service_name for it in backends)


def find_unused_backends(case: DriftCase) -> Iterator[Finding]:
    """Backends that their caller never called, and callers that never called at all."""
    used = {(it.caller, it.virtual_service) for it in case.called}
    callers = {caller for caller, _ in used}
    for member in case.declared.members:
        backends = member.calls
        if backends and member.name not in callers:
            what = f"{member.name} made no call: its {len(backends)} backends cannot be judged"
            yield case.report("drift-silent-caller", member.path, what)
            continue
        for path, backend in backends:
            if (member.name, backend.virtual_service_name) not in used:
                what = f"{member.name} never called {backend.virtual_service_name}"
                yield case.report("drift-unused-backend", path, what)


def find_unused_routes(case: DriftCase) -> Iterator[Finding]:
    """Routes that took none of the calls that came to their router."""
    used = case.calls_by_route()
    routers = {router for router, _ in used}
    for path, router, route in case.routes():
        if router in routers and (router, route.route_name) not in used:
            what = f"route {route.route_name} took none of the calls of {router}"
            yield case.report("drift-unused-route", path, what)


def find_off_weights(
    case: DriftCase, weighed: Sequence[tuple[str, str, Spread]]
) -> Iterator[Finding]:
    """Targets whose part of the calls is further from their weight than chance explains."""
    odd = beyond_chance([one for _, _, one in weighed])
    for path, route, one in weighed:
        if one in odd:
            what = (
                f"{one.target} got {one.observed:.1%} of the {one.of} calls of {route}, declared "
                f"are {one.declared:.1%}; by chance at most {one.chance:.0e}"
            )
            yield case.report("drift-weights", path, what)


# --- who is who -------------------------------------------------------------------------------


def find_strange_servers(case: DriftCase) -> Iterator[Finding]:
    """Nodes that showed another identity than the declared one."""
    counted: Counter[tuple[str, str]] = Counter()
    for it in case.called:
        if it.target and it.upstream_peer:
            counted[it.target, it.upstream_peer] += it.calls
    for (target, peer), calls in counted.items():
        found = case.declared.node_named.get(target)
        if found is None:
            continue
        path, node = found
        tls = [listener.tls for listener in node.spec.listeners if listener.tls]
        expected = {_identity(case.mesh, it.certificate) for it in tls}
        if None not in expected and expected and not expected & set(peer.split(",")):
            what = f"{target} answered {calls} calls as {peer}; declared is {_shown(expected)}"
            yield case.report("drift-identity", path, what)


def find_strange_callers(case: DriftCase) -> Iterator[Finding]:
    """Callers that a node served though none of its declared callers shows that identity."""
    allowed = _callers_of_nodes(case)
    counted: Counter[tuple[str, str]] = Counter()
    for it in case.usages:
        if it.observer == "ingress" and it.virtual_node and it.downstream_peer:
            counted[it.virtual_node, it.downstream_peer] += it.calls
    for (node, peer), calls in counted.items():
        expected = allowed.get(node, set())
        if node in case.declared.node_named and None not in expected and peer not in expected:
            path, _ = case.declared.node_named[node]
            what = f"{node} answered {calls} calls of {peer}, which declares no backend there"
            yield case.report("drift-identity", path, what)


def _callers_of_nodes(case: DriftCase) -> Mapping[str, set[str | None]]:
    """The identities that each node's declared callers show; None for one that is not known."""
    found: dict[str, set[str | None]] = defaultdict(set)
    for member in case.declared.members:
        for _, backend in member.calls:
            policy = names.policy_for(member.defaults, backend)
            shown = policy.tls.certificate if policy and policy.tls else None
            identity = _identity(case.mesh, shown) if shown else None
            for reached in case.declared.reached(backend.virtual_service_name):
                found[reached.node.virtual_node_name].add(identity)
    return found


def _identity(mesh: Mesh, certificate: Certificate) -> str | None:
    """The identity in a certificate that meshml supplies; what is in a file is not known here."""
    if certificate.sds is None:
        return None
    return names.spiffe_id(mesh.mesh.mesh_name, certificate.sds.secret_name)


def _shown(identities: set[str | None]) -> str:
    return " or ".join(sorted(it for it in identities if it))
