"""The TLS of both ends of a connection: what an end shows, and whom it believes.

Goes in: a listener's TLS or a caller's policy. Comes out: Envoy's transport socket. Inside the mesh
TLS is 1.3, never less; what stands outside, before a gateway or behind an external node, may
still speak 1.2.
"""

from contextlib import suppress
from ipaddress import ip_address

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientTls,
    GatewayListener,
    Listener,
    Mesh,
    Protocol,
    Validation,
    VirtualNode,
)
from meshml_dbx.planes.envoy_secrets import sds_config
from meshml_dbx.planes.envoy_terms import Body, Wiring, extension

HTTPS_PORT = 443

_TLS = "extensions.transport_sockets.tls.v3"
_INSIDE = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
_OUTSIDE = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
_HTTP2 = {"http2", "grpc"}


def downstream_tls(listener: Listener | GatewayListener) -> Body | None:
    """The transport socket of a listener; with a validation, callers must show who they are."""
    tls = listener.tls
    if tls is None or tls.mode == "DISABLED":
        return None
    common = _common(tls.certificate, tls.validation, _exact_names(tls.validation))
    common["tls_params"] = _OUTSIDE if isinstance(listener, GatewayListener) else _INSIDE
    if listener.port_mapping.protocol != "tcp":
        common["alpn_protocols"] = ["h2", "http/1.1"]
    return extension(
        "transport_sockets.tls",
        f"{_TLS}.DownstreamTlsContext",
        require_client_certificate=tls.validation is not None,
        common_tls_context=common,
    )


def upstream_tls(
    mesh: Mesh, policy: ClientTls | None, node: VirtualNode, listener: Listener, wiring: Wiring
) -> Body | None:
    """The transport socket towards a node's listener, or None where the call is plain text.

    Without a policy the call is encrypted where the listener insists, and nothing is validated,
    as App Mesh does it; of an external node, the machine's authorities must have signed for it. A
    policy that does not enforce gives way to a listener without TLS.
    """
    if policy is None or (policy.ports and listener.port_mapping.port not in policy.ports):
        if not _insists(node, listener):
            return None
        common = _signed_for(node, wiring) if node.is_external else {}
        return _upstream_socket(common, node, listener)
    speaks_tls = _insists(node, listener) or _permits(listener)
    if not policy.enforce and not speaks_tls:
        return None
    expected = _exact_names(policy.validation) or (_server_name(mesh, policy, node, listener),)
    common = _common(policy.certificate, policy.validation, expected)
    return _upstream_socket(common, node, listener)


def _insists(node: VirtualNode, listener: Listener) -> bool:
    """Whether a listener is reached by TLS alone; external nodes have no sidecar to say so."""
    if node.databricks or (node.is_external and listener.port_mapping.port == HTTPS_PORT):
        return True
    return listener.tls is not None and listener.tls.mode == "STRICT"


def _permits(listener: Listener) -> bool:
    return listener.tls is not None and listener.tls.mode == "PERMISSIVE"


def _upstream_socket(common: Body, node: VirtualNode, listener: Listener) -> Body:
    common["tls_params"] = _OUTSIDE if node.is_external else _INSIDE
    offered = _offered(listener.port_mapping.protocol)
    if offered:
        common["alpn_protocols"] = offered
    sni = _hostname(node)
    return extension(
        "transport_sockets.tls",
        f"{_TLS}.UpstreamTlsContext",
        **({"sni": sni} if _is_host_name(sni) else {}),
        common_tls_context=common,
    )


def _offered(protocol: Protocol) -> list[str]:
    return ["h2"] if protocol in _HTTP2 else []


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
    common: Body = {}
    if certificate:
        common["tls_certificate_sds_secret_configs"] = [sds_config(certificate)]
    if validation:
        common["combined_validation_context"] = {
            "default_validation_context": {
                "match_typed_subject_alt_names": [_name_matcher(name) for name in accepted]
            },
            "validation_context_sds_secret_config": sds_config(validation.trust),
        }
    return common


def _signed_for(node: VirtualNode, wiring: Wiring) -> Body:
    """An external node's own certificate, by whom this machine believes."""
    return {
        "validation_context": {
            "trusted_ca": {"filename": wiring.system_authorities},
            "match_typed_subject_alt_names": [_name_matcher(_hostname(node))],
        }
    }


def _name_matcher(name: str) -> Body:
    return {"san_type": _kind_of(name), "matcher": {"exact": name}}


def _kind_of(name: str) -> str:
    """In which kind of alternative name a certificate carries a name."""
    with suppress(ValueError):
        ip_address(name)
        return "IP_ADDRESS"
    return "URI" if ":" in name else "DNS"
