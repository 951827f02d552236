"""On which terms a caller meets a node: plain or encrypted, who is expected, who is shown.

A caller, a service and a target go in, the terms of the connection come out, by the rules of
``encryption``, which the Envoy plane renders.
"""

from dataclasses import dataclass

from meshml_dbx.mesh import names
from meshml_dbx.mesh.encryption import accepted_names, is_encrypted, policy_towards
from meshml_dbx.mesh.limits import PARAMETER
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.routing import TargetShare
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientTls,
    Listener,
    Mesh,
    MeshClient,
    VirtualGateway,
    VirtualNode,
)
from meshml_dbx.mesh.ways import target_listener

_OPEN = "a parameter that is still to be given with --param"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTerms:
    """A connection's two ends: the names that the peer must carry one of, and what it is shown.

    ``expected`` is empty where nothing is validated; ``shown`` is None where no certificate is.
    """

    address: str
    encrypted: bool
    expected: tuple[str, ...]
    shown: str | None
    asked: bool
    said: str
    where: str
    listener_index: int | None


def peer_terms(
    loaded: LoadedMesh,
    mesh: Mesh,
    member: str | None,
    virtual_service: str,
    target: TargetShare,
    *,
    is_tcp: bool,
) -> PeerTerms:
    """The terms on which a member's calls of a service reach one target."""
    if PARAMETER.search(target.virtual_node) and target.virtual_node not in names.index(mesh).nodes:
        return _nobody(loaded, f"virtualServices[{virtual_service}]", _OPEN)
    node = names.node(mesh, target.virtual_node)
    listener = target_listener(node, target.port, is_tcp=is_tcp)
    if listener is None:
        place = f"virtualNodes[{node.virtual_node_name}]"
        return _nobody(loaded, place, "there is no listener to be called at: answered 503")
    policy = names.client_policy_of(mesh, member, virtual_service) if member else None
    tls = policy_towards(policy.tls if policy else None, listener)
    index = node.spec.listeners.index(listener)
    place = f"virtualNodes[{node.virtual_node_name}].spec.listeners[{index}]"
    if tls:
        place = _policy_place(mesh, member, virtual_service)
    encrypted = is_encrypted(tls, node, listener)
    expected = accepted_names(mesh, tls, node, listener) if encrypted and member else ()
    return PeerTerms(
        address=_address(node, listener),
        encrypted=encrypted,
        expected=expected,
        shown=_name_of(mesh, tls.certificate) if tls and encrypted else None,
        asked=listener.tls is not None and listener.tls.validation is not None,
        said=_said(tls, node, encrypted=encrypted, member=member),
        where=loaded.where(place),
        listener_index=index,
    )


def _nobody(loaded: LoadedMesh, place: str, why: str) -> PeerTerms:
    return PeerTerms(
        address="nowhere",
        encrypted=False,
        expected=(),
        shown=None,
        asked=False,
        said=why,
        where=loaded.where(place),
        listener_index=None,
    )


def _said(tls: ClientTls | None, node: VirtualNode, *, encrypted: bool, member: str | None) -> str:
    if member is None:
        return "who calls is not said, so the caller's policy is not known"
    if not encrypted:
        return "plain text"
    if tls is None and node.is_external:
        return "TLS; the authorities of the caller's machine must have signed for the host"
    if tls is None:
        return "TLS because the node asks for it; without a client policy nothing is validated"
    return "TLS by the client policy"


def _name_of(mesh: Mesh, certificate: Certificate | None) -> str | None:
    if certificate is None:
        return None
    if certificate.sds:
        return names.spiffe_id(mesh.mesh.mesh_name, certificate.sds.secret_name)
    if certificate.file:
        return f"the certificate in {certificate.file.certificate_chain}"
    return certificate.acm.certificate_arn if certificate.acm else None


def _address(node: VirtualNode, listener: Listener) -> str:
    host = node.spec.service_discovery.hostname if node.spec.service_discovery else ""
    return f"{host or 'nowhere'}:{listener.port_mapping.port}"


def _policy_place(mesh: Mesh, member: str | None, virtual_service: str) -> str:
    """Where the client policy of a member's calls stands: at the backend, else the defaults."""
    if member is None:
        return f"virtualServices[{virtual_service}]"
    found = names.member(mesh, member)
    kinds = {MeshClient: "clients", VirtualNode: "virtualNodes", VirtualGateway: "virtualGateways"}
    base = f"{kinds[type(found)]}[{member}].spec"
    own = names.backend_of(mesh, member, virtual_service)
    if own and own.client_policy and not isinstance(found, VirtualGateway):
        called = [it.virtual_service.virtual_service_name for it in found.spec.backends]
        return f"{base}.backends[{called.index(virtual_service)}].virtualService.clientPolicy"
    return f"{base}.backendDefaults.clientPolicy"
