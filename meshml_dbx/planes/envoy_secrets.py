"""The secrets of a sidecar: which it needs, what they are called, and the files they are read from.

Certificates are always secrets behind files of their own (SDS): only those does Envoy read again
when they are renewed.
"""

import hashlib
import re
from pathlib import PurePath

from meshml_dbx.errors import TrustError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientTls,
    ListenerTls,
    Mesh,
    MeshClient,
    Trust,
    VirtualNode,
)
from meshml_dbx.planes.envoy_terms import Body, Wiring, file_source
from meshml_dbx.planes.plan import Resource

Secret = Certificate | Trust

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def secrets_of(mesh: Mesh, member: str) -> tuple[Secret, ...]:
    """The certificates and authorities that a member's sidecar needs, each once.

    Raises:
        TrustError: one of them is held by AWS Certificate Manager, which no Envoy can ask.
    """
    certificates: list[Certificate | None] = []
    trusts: list[Trust] = []
    for port, served in _listener_tls(mesh, member):
        _refuse_acm_certificate(mesh, member, port, served)
        certificates.append(served.certificate)
        trusts += [served.validation.trust] if served.validation else []
    for service, tls in _client_tls(mesh, member):
        _refuse_acm_trust(mesh, member, service, tls)
        certificates.append(tls.certificate)
        trusts.append(tls.validation.trust)
    return tuple(dict.fromkeys(secret for secret in (*certificates, *trusts) if secret))


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


def sds_config(secret: Secret) -> Body:
    """Where Envoy reads a secret."""
    name = _resource_name(secret)
    return {"name": name, "sds_config": file_source(f"xds/sds-{name}.json")}


def _resource_name(secret: Secret) -> str:
    """One name per file; a certificate and an authority may share theirs in the mesh file."""
    name = secret_name(secret)
    kind = "certificate" if isinstance(secret, Certificate) else "trust"
    if _PLAIN_NAME.fullmatch(name):
        return f"{kind}-{name}"
    hashed = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{kind}-{'file' if secret.file else 'named'}-{hashed}"


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


# --- where they are asked for -----------------------------------------------------------------


def _listener_tls(mesh: Mesh, member: str) -> list[tuple[int, ListenerTls]]:
    found = [(it.port_mapping.port, it.tls) for it in names.member_listeners(mesh, member)]
    return [(port, tls) for port, tls in found if tls and tls.mode != "DISABLED"]


def _client_tls(mesh: Mesh, member: str) -> list[tuple[str, ClientTls]]:
    called = [it.virtual_service_name for it in names.backends_of(mesh, member)]
    policies = [(name, names.client_policy_of(mesh, member, name)) for name in called]
    return [(name, policy.tls) for name, policy in policies if policy and policy.tls]


# --- what no Envoy can ask --------------------------------------------------------------------


def _refuse_acm_certificate(mesh: Mesh, member: str, port: int, tls: ListenerTls) -> None:
    acm = tls.certificate.acm
    if acm:
        where = f"{_kind(mesh, member)} {member}, port {port}"
        raise TrustError(
            f"{where}: its certificate is in AWS Certificate Manager ({acm.certificate_arn}), "
            "which an Envoy of your own cannot ask",
            advice="export it (aws acm export-certificate) and name its files under "
            "certificate.file, or have meshml supply one: "
            f"certificate: {{sds: {{secretName: {member}}}}}",
        )


def _refuse_acm_trust(mesh: Mesh, member: str, service: str, tls: ClientTls) -> None:
    acm = tls.validation.trust.acm
    if acm:
        authorities = ", ".join(acm.certificate_authority_arns)
        raise TrustError(
            f"{_kind(mesh, member)} {member}, backend {service}: it trusts authorities of AWS "
            f"({authorities}), which an Envoy of your own cannot ask",
            advice="save them (aws acm-pca get-certificate-authority-certificate) and name the "
            f"file under trust.file, or trust the mesh's own: "
            f"trust: {{sds: {{secretName: {mesh.mesh.mesh_name}}}}}",
        )


def _kind(mesh: Mesh, member: str) -> str:
    found = names.member(mesh, member)
    if isinstance(found, MeshClient):
        return "client"
    return "virtual node" if isinstance(found, VirtualNode) else "virtual gateway"
