"""Would the two ends of each declared call accept one another, as far as the mesh file tells.

The placed mesh goes in; authorities that nobody is, callers that a node would refuse, nodes that a
caller would refuse, and names that nobody carries come out. Under TLS 1.3 a refused caller sees
only a 503, so it is said here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from meshml_dbx.mesh.checks_names import leads_nowhere
from meshml_dbx.mesh.encryption import policy_towards
from meshml_dbx.mesh.limits import has_parameter
from meshml_dbx.mesh.names import SPIFFE, closest, policy_for, spiffe_id
from meshml_dbx.mesh.places import (
    Declared,
    Member,
    Problem,
    Reached,
    placed_gateway_listeners,
    placed_listeners,
)
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientPolicy,
    ClientTls,
    ListenerTls,
    SubjectAlternativeNames,
    Validation,
)

# --- what stands where ------------------------------------------------------------------------


def _listener_tls(declared: Declared) -> Iterator[tuple[str, str, ListenerTls]]:
    """The TLS of every listener, with its place and its owner's name."""
    for path, node, listener in placed_listeners(declared):
        if listener.tls and not node.is_external:
            yield f"{path}.tls", node.virtual_node_name, listener.tls
    for path, gateway, way_in in placed_gateway_listeners(declared):
        if way_in.tls:
            yield f"{path}.tls", gateway.virtual_gateway_name, way_in.tls


def _policies(declared: Declared) -> Iterator[tuple[str, str, ClientPolicy]]:
    """Every client policy, with its place and its owner's name."""
    for member in declared.members:
        if member.defaults and member.defaults.client_policy:
            place = f"{member.path}.spec.backendDefaults.clientPolicy"
            yield place, member.name, member.defaults.client_policy
        for path, backend in member.calls:
            if backend.client_policy:
                yield f"{path}.clientPolicy", member.name, backend.client_policy


def _certificates(declared: Declared) -> Iterator[tuple[str, str, Certificate]]:
    """Every certificate that somebody shows, with its place and who."""
    for path, owner, tls in _listener_tls(declared):
        yield f"{path}.certificate", owner, tls.certificate
    for path, owner, policy in _policies(declared):
        if policy.tls and policy.tls.certificate:
            yield f"{path}.tls.certificate", owner, policy.tls.certificate


def _validations(declared: Declared) -> Iterator[tuple[str, Validation]]:
    for path, _, tls in _listener_tls(declared):
        if tls.validation:
            yield f"{path}.validation", tls.validation
    for path, _, policy in _policies(declared):
        if policy.tls:
            yield f"{path}.tls.validation", policy.tls.validation


# --- authorities and certificates -------------------------------------------------------------


def find_foreign_authorities(declared: Declared) -> Iterator[Problem]:
    """Trust in an sds authority other than the mesh's own, the only one that meshml supplies."""
    for path, validation in _validations(declared):
        sds = validation.trust.sds
        if sds is None or sds.secret_name.startswith(SPIFFE):
            continue
        if sds.secret_name != declared.mesh_name and not has_parameter(sds.secret_name):
            what = (
                f"there is no authority {sds.secret_name}: in trust, sds names the mesh, "
                f"{declared.mesh_name}"
            )
            yield Problem("dangling-reference", f"{path}.trust.sds.secretName", what)


def find_acm(declared: Declared) -> Iterator[Problem]:
    """ACM where App Mesh takes none, and where it did but no Envoy of ours can fetch it."""
    for path, _, tls in _listener_tls(declared):
        if tls.certificate.acm:
            arn = tls.certificate.acm.certificate_arn
            what = f"no Envoy outside App Mesh can fetch {arn}"
            yield Problem("acm-unfetchable", f"{path}.certificate.acm", what)
        if tls.validation and tls.validation.trust.acm:
            what = "a listener trusts by file or sds; ACM's authorities are for callers"
            yield Problem("acm-wrong-side", f"{path}.validation.trust.acm", what)
    for path, owner, policy in _policies(declared):
        if policy.tls and policy.tls.certificate and policy.tls.certificate.acm:
            what = f"{owner} shows a certificate by file or sds; ACM's are for listeners"
            yield Problem("acm-wrong-side", f"{path}.tls.certificate.acm", what)
        if policy.tls and policy.tls.validation.trust.acm:
            what = f"no Envoy outside App Mesh can fetch the authorities that {owner} trusts"
            yield Problem("acm-unfetchable", f"{path}.tls.validation.trust.acm", what)


def find_shared_identities(declared: Declared) -> Iterator[Problem]:
    """Certificates that two members show: whoever accepts the one accepts the other."""
    first: dict[str, str] = {}
    for path, owner, certificate in _certificates(declared):
        if certificate.sds:
            name = certificate.sds.secret_name
            other = first.setdefault(name, owner)
            if other != owner:
                what = f"{owner} shows the certificate {name}, as does {other}"
                yield Problem("shared-identity", f"{path}.sds.secretName", what)


# --- accepted names ---------------------------------------------------------------------------


def find_unknown_names(declared: Declared) -> Iterator[Problem]:
    """Accepted names that no certificate of this mesh carries."""
    carried = set(_identities(declared))
    said = {problem.path for problem in find_refused_peers(declared)}
    own = spiffe_id(declared.mesh_name, "")
    for path, validation in _validations(declared):
        names = validation.subject_alternative_names
        listed = f"{path}.subjectAlternativeNames.match.exact"
        for index, name in enumerate(names.match.exact if names and listed not in said else ()):
            place = f"{listed}[{index}]"
            if "*" in name:
                what = f"{name} accepts that very text alone"
                yield Problem("wildcard-name", place, what)
            elif name.startswith(own) and name not in carried and not has_parameter(name):
                guess = closest(name, carried)
                asked = f"; did you mean {guess}?" if guess else ""
                yield Problem("unknown-identity", place, f"nobody in this mesh is {name}{asked}")


def _identities(declared: Declared) -> Iterator[str]:
    """What the certificates that meshml supplies carry: members' own names as well."""
    for _, _, certificate in _certificates(declared):
        if certificate.sds:
            yield spiffe_id(declared.mesh_name, certificate.sds.secret_name)
    for member in declared.members:
        yield spiffe_id(declared.mesh_name, member.name)


def find_unused_permissions(declared: Declared) -> Iterator[Problem]:
    """Callers that a node accepts by name and that list none of its services."""
    if declared.answer(leads_nowhere):
        return
    shown = _shown_by_callers(declared)
    callers: dict[str, set[str]] = {}
    for member in declared.members:
        for _, call in member.calls:
            for reached in declared.reached(call.virtual_service_name):
                callers.setdefault(reached.path, set()).add(member.name)
    for path, node, listener in placed_listeners(declared):
        validation = listener.tls.validation if listener.tls else None
        names = validation.subject_alternative_names if validation else None
        for index, name in enumerate(names.match.exact if names else ()):
            known = shown.get(name, set())
            if known and not known & callers.get(path, set()):
                who = " and ".join(sorted(known))
                what = f"{node.virtual_node_name} accepts {who}, which lists none of its services"
                place = f"{path}.tls.validation.subjectAlternativeNames.match.exact[{index}]"
                yield Problem("unused-permission", place, what)


def _shown_by_callers(declared: Declared) -> dict[str, set[str]]:
    """Each identity that callers show, with the callers' names."""
    found: dict[str, set[str]] = {}
    for _, owner, policy in _policies(declared):
        certificate = policy.tls.certificate if policy.tls else None
        if certificate and certificate.sds:
            identity = spiffe_id(declared.mesh_name, certificate.sds.secret_name)
            found.setdefault(identity, set()).add(owner)
    return found


# --- the two ends of a call -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One way on which a member meets a node's listener."""

    caller: str
    backend_path: str
    policy: ClientPolicy | None
    policy_path: str
    reached: Reached


def find_refused_peers(declared: Declared) -> Iterator[Problem]:
    """Calls that the file declares and whose ends would not accept one another."""
    for member in declared.members:
        for call in _calls(declared, member):
            yield from _refused_client(declared, call)
            yield from _refused_server(declared, call)


def _calls(declared: Declared, member: Member) -> Iterator[_Call]:
    for path, backend in member.calls:
        own = f"{path}.clientPolicy" if backend.client_policy else ""
        for reached in declared.reached(backend.virtual_service_name):
            if not reached.node.is_external:  # it shows a certificate that no file here tells of
                yield _Call(
                    caller=member.name,
                    backend_path=path,
                    policy=policy_for(member.defaults, backend),
                    policy_path=own or f"{member.path}.spec.backendDefaults.clientPolicy",
                    reached=reached,
                )


def _policy_here(call: _Call) -> ClientTls | None:
    return policy_towards(call.policy.tls if call.policy else None, call.reached.listener)


def _refused_client(declared: Declared, call: _Call) -> Iterator[Problem]:
    tls, own = call.reached.listener.tls, _policy_here(call)
    node = call.reached.node.virtual_node_name
    if tls is None or tls.validation is None or tls.mode == "DISABLED":
        return
    if own is None and tls.mode == "PERMISSIVE":
        return
    if own is None or own.certificate is None:
        what = f"{call.caller} shows no certificate, and {node} asks for one"
        yield Problem("client-refused", call.backend_path, what)
        return
    names = tls.validation.subject_alternative_names
    identity = _left_out(declared, own.certificate, names)
    if identity:
        path = f"{call.reached.path}.tls.validation.subjectAlternativeNames.match.exact"
        what = f"{node} refuses {call.caller}, which lists its service: {identity} is left out"
        yield Problem("client-refused", path, what)


def _refused_server(declared: Declared, call: _Call) -> Iterator[Problem]:
    own = _policy_here(call)
    node, listener = call.reached.node.virtual_node_name, call.reached.listener
    if own is None or not own.enforce:
        return
    tls = listener.tls
    if tls is None or tls.mode == "DISABLED":
        port = listener.port_mapping.port
        what = f"{call.caller} insists on TLS, and {node} speaks none on port {port}"
        yield Problem("server-refused", f"{call.policy_path}.tls", what)
        return
    identity = _left_out(declared, tls.certificate, own.validation.subject_alternative_names)
    if identity:
        path = f"{call.policy_path}.tls.validation.subjectAlternativeNames.match.exact"
        what = f"{call.caller} refuses {node}, which its backend leads to: {identity} is left out"
        yield Problem("server-refused", path, what)


def _left_out(
    declared: Declared, certificate: Certificate, names: SubjectAlternativeNames | None
) -> str:
    """The identity that a list leaves out; of a certificate in a file it is not known here."""
    if names is None or certificate.sds is None:
        return ""
    name = certificate.sds.secret_name
    if has_parameter(declared.mesh_name, name, *names.match.exact):
        return ""
    identity = spiffe_id(declared.mesh_name, name)
    return "" if identity in names.match.exact else identity
