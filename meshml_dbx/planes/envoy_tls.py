"""The TLS of both ends of a connection: what an end shows, and whom it believes.

Goes in: a listener's TLS or a caller's policy. Comes out: Envoy's transport socket. Inside the mesh
TLS is 1.3, never less; what stands outside, before a gateway or behind an external node, may
still speak 1.2.
"""

from contextlib import suppress
from ipaddress import ip_address

from meshml_dbx.mesh.encryption import accepted_names, is_encrypted, policy_towards
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

    Without a policy nothing is validated, as App Mesh did it; of an external node, the machine's
    authorities must have signed for it.
    """
    own = policy_towards(policy, listener)
    if not is_encrypted(own, node, listener):
        return None
    accepted = accepted_names(mesh, own, node, listener)
    if own:
        common = _common(own.certificate, own.validation, accepted)
    else:
        common = _signed_for(accepted, wiring) if accepted else {}
    return _upstream_socket(common, node, listener)


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


def _signed_for(accepted: tuple[str, ...], wiring: Wiring) -> Body:
    """An external node's own certificate, by whom this machine believes."""
    return {
        "validation_context": {
            "trusted_ca": {"filename": wiring.system_authorities},
            "match_typed_subject_alt_names": [_name_matcher(name) for name in accepted],
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
