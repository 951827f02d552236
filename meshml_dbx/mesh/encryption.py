"""Whether a call is encrypted, and whom the caller believes, as the mesh file declares both ends.

A client policy, a node and its listener go in. The Envoy plane renders these rules, and the
explanation of a call tells them.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import ClientTls, Listener, Mesh, VirtualNode
from meshml_dbx.mesh.ways import HTTPS_PORT


def policy_towards(policy: ClientTls | None, listener: Listener) -> ClientTls | None:
    """The policy, where it holds for the listener's port; one without ports holds for all."""
    if policy is None or (policy.ports and listener.port_mapping.port not in policy.ports):
        return None
    return policy


def is_encrypted(policy: ClientTls | None, node: VirtualNode, listener: Listener) -> bool:
    """Whether a caller to whom ``policy`` applies speaks TLS.

    Without a policy it does where the listener insists, as App Mesh's did. A policy that does not
    enforce gives way to a listener without TLS.
    """
    if insists(node, listener):
        return True
    permits = listener.tls is not None and listener.tls.mode == "PERMISSIVE"
    return policy is not None and (policy.enforce or permits)


def insists(node: VirtualNode, listener: Listener) -> bool:
    """Whether a listener is reached by TLS alone; external nodes have no sidecar to say so."""
    if node.databricks or (node.is_external and listener.port_mapping.port == HTTPS_PORT):
        return True
    return listener.tls is not None and listener.tls.mode == "STRICT"


def accepted_names(
    mesh: Mesh, policy: ClientTls | None, node: VirtualNode, listener: Listener
) -> tuple[str, ...]:
    """The names of which the server's certificate must carry one; none: nothing is validated.

    Those that the policy lists, else the server's identity in the mesh, else the host name by
    which it is found. Without a policy, only an external node must carry its own.
    """
    if policy is None:
        return _host_name(node) if node.is_external else ()
    listed = policy.validation.subject_alternative_names
    if listed and listed.match.exact:
        return listed.match.exact
    shown = listener.tls.certificate if listener.tls else None
    if policy.validation.trust.sds and shown and shown.sds:
        return (names.spiffe_id(mesh.mesh.mesh_name, shown.sds.secret_name),)
    return _host_name(node)


def _host_name(node: VirtualNode) -> tuple[str, ...]:
    discovery = node.spec.service_discovery
    return (discovery.hostname,) if discovery and discovery.hostname else ()
