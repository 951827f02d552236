"""Would the two ends of each declared call accept one another, as far as the mesh file tells.

The mesh goes in; authorities that nobody is, callers that a node would refuse and nodes that a
caller would refuse come out. Under TLS 1.3 a refused caller sees only a 503, so it is said here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from meshml_dbx.mesh.names import policy_for, spiffe_id
from meshml_dbx.mesh.places import (
    Declared,
    Problem,
    placed_backends,
    placed_listeners,
    reached_listeners,
)
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientPolicy,
    Listener,
    SubjectAlternativeNames,
    Validation,
)


def find_foreign_authorities(declared: Declared) -> Iterator[Problem]:
    """Trust in an sds authority other than the mesh's own, the only one that meshml supplies."""
    for path, validation in _validations(declared):
        sds = validation.trust.sds
        if sds and sds.secret_name != declared.mesh_name:
            what = (
                f"there is no authority {sds.secret_name}: in trust, sds names the mesh, "
                f"{declared.mesh_name}"
            )
            yield Problem("dangling-reference", f"{path}.trust.sds.secretName", what)


def _validations(declared: Declared) -> Iterator[tuple[str, Validation]]:
    for path, _, listener in placed_listeners(declared):
        if listener.tls and listener.tls.validation:
            yield f"{path}.tls.validation", listener.tls.validation
    for path, policy in _policies(declared):
        if policy and policy.tls:
            yield f"{path}.tls.validation", policy.tls.validation


def _policies(declared: Declared) -> Iterator[tuple[str, ClientPolicy | None]]:
    for member in declared.members:
        if member.spec.backend_defaults:
            defaults = member.spec.backend_defaults
            yield f"{member.path}.spec.backendDefaults.clientPolicy", defaults.client_policy
        for path, backend in placed_backends(member):
            yield f"{path}.clientPolicy", backend.client_policy


def find_refused_peers(declared: Declared) -> Iterator[Problem]:
    """Calls that the file declares and whose ends would not accept one another."""
    for member in declared.members:
        for path, backend in placed_backends(member):
            policy = policy_for(member.spec.backend_defaults, backend)
            own = f"{path}.clientPolicy" if backend.client_policy else ""
            policy_path = own or f"{member.path}.spec.backendDefaults.clientPolicy"
            for place, node, listener in reached_listeners(declared, backend.virtual_service_name):
                call = _Call(
                    caller=member.name,
                    backend_path=path,
                    policy=policy,
                    policy_path=policy_path,
                    node=node.virtual_node_name,
                    listener=listener,
                    listener_path=place,
                )
                yield from _refused_client(declared, call)
                yield from _refused_server(declared, call)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One way on which a member meets a node's listener."""

    caller: str
    backend_path: str
    policy: ClientPolicy | None
    policy_path: str
    node: str
    listener: Listener
    listener_path: str


def _refused_client(declared: Declared, call: _Call) -> Iterator[Problem]:
    tls, own = call.listener.tls, call.policy.tls if call.policy else None
    if tls is None or tls.validation is None or tls.mode == "DISABLED":
        return
    if own is None and tls.mode == "PERMISSIVE":
        return
    if own is None or own.certificate is None:
        what = f"{call.caller} shows no certificate, and {call.node} asks for one"
        yield Problem("client-refused", call.backend_path, what)
        return
    names = tls.validation.subject_alternative_names
    identity = _left_out(declared, own.certificate, names)
    if identity:
        path = f"{call.listener_path}.tls.validation.subjectAlternativeNames.match.exact"
        what = f"{call.node} refuses {call.caller}, which lists its service: {identity} is left out"
        yield Problem("client-refused", path, what)


def _refused_server(declared: Declared, call: _Call) -> Iterator[Problem]:
    own = call.policy.tls if call.policy else None
    port = call.listener.port_mapping.port
    if own is None or not own.enforce or (own.ports and port not in own.ports):
        return
    tls = call.listener.tls
    if tls is None or tls.mode == "DISABLED":
        what = f"{call.caller} insists on TLS, and {call.node} speaks none on port {port}"
        yield Problem("server-refused", f"{call.policy_path}.tls", what)
        return
    identity = _left_out(declared, tls.certificate, own.validation.subject_alternative_names)
    if identity:
        path = f"{call.policy_path}.tls.validation.subjectAlternativeNames.match.exact"
        what = (
            f"{call.caller} refuses {call.node}, which its backend leads to: {identity} is left out"
        )
        yield Problem("server-refused", path, what)


def _left_out(
    declared: Declared, certificate: Certificate, names: SubjectAlternativeNames | None
) -> str:
    """The identity that a list leaves out; of a certificate in a file it is not known here."""
    if names is None or certificate.sds is None:
        return ""
    identity = spiffe_id(declared.mesh_name, certificate.sds.secret_name)
    return "" if identity in names.match.exact else identity
