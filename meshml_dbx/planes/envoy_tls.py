"""Who a sidecar is and whom it believes: secrets, and the TLS of both ends of a connection.

Certificates are always secrets behind files of their own (SDS): only those does Envoy read again
when they are renewed. TLS is 1.3, never less.
"""

import hashlib
from pathlib import PurePath

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientTls,
    Listener,
    ListenerTls,
    Mesh,
    Trust,
    Validation,
    VirtualNode,
)
from meshml_dbx.planes.envoy_terms import Body, Wiring, extension, file_source
from meshml_dbx.planes.plan import Resource

_TLS = "extensions.transport_sockets.tls.v3"
_ONLY_1_3 = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}

Secret = Certificate | Trust


def secrets_of(mesh: Mesh, member: str) -> tuple[Secret, ...]:
    """The certificates and authorities that a member's sidecar needs, each once."""
    validations: list[Validation] = []
    certificates: list[Certificate | None] = []
    ends: list[ListenerTls | ClientTls] = [
        *_listener_tls(mesh, member),
        *_client_tls(mesh, member),
    ]
    for tls in ends:
        certificates.append(tls.certificate)
        if tls.validation:
            validations.append(tls.validation)
    found = [*certificates, *(validation.trust for validation in validations)]
    return tuple(dict.fromkeys(secret for secret in found if secret))


def _listener_tls(mesh: Mesh, member: str) -> list[ListenerTls]:
    found = names.member(mesh, member)
    listeners = found.spec.listeners if isinstance(found, VirtualNode) else ()
    return [it.tls for it in listeners if it.tls and it.tls.mode != "DISABLED"]


def _client_tls(mesh: Mesh, member: str) -> list[ClientTls]:
    policies = [
        names.client_policy_of(mesh, member, backend.virtual_service_name)
        for backend in names.backends_of(mesh, member)
    ]
    return [policy.tls for policy in policies if policy and policy.tls]


def secret_name(secret: Secret) -> str:
    """The key of a secret in ``Wiring.identities``.

    What meshml supplies has its name; a file of the user's own has ``file:`` and its path as the
    mesh file writes it.

    >>> from meshml_dbx.mesh.spec import FileTrust, SdsReference
    >>> secret_name(Certificate(sds=SdsReference(secret_name="labels-v1")))
    'labels-v1'
    >>> secret_name(Trust(file=FileTrust(certificate_chain="pki/ca.pem")))
    'file:pki/ca.pem'
    """
    if secret.file:
        return f"file:{secret.file.certificate_chain}"
    return secret.sds.secret_name if secret.sds else ""


def secret_resources(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """The SDS secrets of a member; a resource's name is its file's name without folder."""
    return tuple(_secret(secret, wiring) for secret in secrets_of(mesh, member))


def secret_file(secret: Secret) -> str:
    """The file in which Envoy finds a secret."""
    return f"xds/sds-{_resource_name(secret)}.json"


def _resource_name(secret: Secret) -> str:
    """One name per file; a certificate and an authority may share theirs in the mesh file."""
    name = secret_name(secret)
    if secret.file:
        name = f"file-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{'certificate' if isinstance(secret, Certificate) else 'trust'}-{name}"


def _secret(secret: Secret, wiring: Wiring) -> Resource:
    paths = wiring.identities[secret_name(secret)]
    if isinstance(secret, Certificate):
        kind, main = "tls_certificate", paths.certificate_chain
        content: Body = {
            "certificate_chain": {"filename": paths.certificate_chain},
            "private_key": {"filename": paths.private_key},
        }
    else:
        kind, main = "validation_context", paths.authority
        content = {"trusted_ca": {"filename": paths.authority}}
    content["watched_directory"] = {"path": str(PurePath(str(main)).parent)}
    name = _resource_name(secret)
    return Resource(kind="secret", name=name, body={"name": name, kind: content})


def _sds_config(secret: Secret) -> Body:
    return {"name": _resource_name(secret), "sds_config": file_source(secret_file(secret))}


# --- the two ends -----------------------------------------------------------------------------


def downstream_tls(tls: ListenerTls) -> Body:
    """The transport socket of a listener; with a validation, callers must show who they are."""
    names_accepted = _exact_names(tls.validation)
    return extension(
        "transport_sockets.tls",
        f"{_TLS}.DownstreamTlsContext",
        require_client_certificate=tls.validation is not None,
        common_tls_context=_common(tls.certificate, tls.validation, names_accepted),
    )


def upstream_tls(mesh: Mesh, policy: ClientTls | None, node: VirtualNode, port: int) -> Body | None:
    """The transport socket towards a node's listener, or None where the call is plain text.

    Without a policy the call is encrypted where the listener insists, and nothing is validated,
    as App Mesh does it. A policy that does not enforce gives way to a listener without TLS.
    """
    listener = next(it for it in node.spec.listeners if it.port_mapping.port == port)
    if policy is None or (policy.ports and port not in policy.ports):
        insists = listener.tls is not None and listener.tls.mode == "STRICT"
        return _upstream_socket(_common(None, None, ()), node) if insists else None
    speaks_tls = listener.tls is not None and listener.tls.mode != "DISABLED"
    if not policy.enforce and not speaks_tls:
        return None
    expected = _exact_names(policy.validation) or (_server_name(mesh, policy, node, listener),)
    return _upstream_socket(_common(policy.certificate, policy.validation, expected), node)


def _upstream_socket(common: Body, node: VirtualNode) -> Body:
    sni = _hostname(node)
    return extension(
        "transport_sockets.tls",
        f"{_TLS}.UpstreamTlsContext",
        **({"sni": sni} if _is_host_name(sni) else {}),
        common_tls_context=common,
    )


def _server_name(mesh: Mesh, policy: ClientTls, node: VirtualNode, listener: Listener) -> str:
    """Who the mesh says the server is: its identity, else the host name by which it is found."""
    certificate = listener.tls.certificate if listener.tls else None
    if policy.validation.trust.sds and certificate and certificate.sds:
        return names.spiffe_id(mesh.mesh.mesh_name, certificate.sds.secret_name)
    return _hostname(node)


def _hostname(node: VirtualNode) -> str:
    return node.spec.service_discovery.hostname if node.spec.service_discovery else ""


def _is_host_name(text: str) -> bool:
    """Whether TLS lets a server be asked for by this name: addresses it does not."""
    return bool(text) and ":" not in text and not text.rsplit(".", 1)[-1].isdigit()


def _exact_names(validation: Validation | None) -> tuple[str, ...]:
    listed = validation.subject_alternative_names if validation else None
    return listed.match.exact if listed else ()


def _common(
    certificate: Certificate | None, validation: Validation | None, accepted: tuple[str, ...]
) -> Body:
    common: Body = {"tls_params": _ONLY_1_3}
    if certificate:
        common["tls_certificate_sds_secret_configs"] = [_sds_config(certificate)]
    if validation:
        common["combined_validation_context"] = {
            "default_validation_context": {
                "match_typed_subject_alt_names": [_name_matcher(name) for name in accepted]
            },
            "validation_context_sds_secret_config": _sds_config(validation.trust),
        }
    return common


def _name_matcher(name: str) -> Body:
    return {"san_type": "URI" if ":" in name else "DNS", "matcher": {"exact": name}}
