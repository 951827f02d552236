"""A member of a mesh as an Envoy sidecar: bootstrap and filesystem xDS, no control plane.

Goes in: the mesh, a client or virtual node, and its wiring. Comes out: the text of each file,
by its path relative to Envoy's working directory. Everything is JSON, since Envoy reads YAML 1.1,
where a plain ``no`` is false.
"""

import json
from collections.abc import Iterable

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Mesh, VirtualNode
from meshml_dbx.planes.envoy_clusters import egress_clusters, ingress_clusters
from meshml_dbx.planes.envoy_listeners import egress_listener, ingress_listeners
from meshml_dbx.planes.envoy_routes import egress_routes
from meshml_dbx.planes.envoy_terms import (
    CDS_FILE,
    LDS_FILE,
    RDS_FILE,
    Body,
    IdentityPaths,
    Wiring,
    file_source,
    typed,
)
from meshml_dbx.planes.envoy_tls import secret_name, secret_resources, secrets_of
from meshml_dbx.planes.plan import Resource

__all__ = ["IdentityPaths", "Wiring", "desired", "render", "secret_name", "secrets_of"]

_MESSAGES = {
    "cluster": "config.cluster.v3.Cluster",
    "listener": "config.listener.v3.Listener",
    "route_configuration": "config.route.v3.RouteConfiguration",
    "secret": "extensions.transport_sockets.tls.v3.Secret",
}
_FILES = {"cluster": CDS_FILE, "listener": LDS_FILE, "route_configuration": RDS_FILE}
_ONLY_OWNER = 0o600


def render(mesh: Mesh, member: str, wiring: Wiring) -> dict[str, str]:
    """The files of a member's sidecar: relative name to JSON text.

    The program's proxy is there when the wiring has an egress port, the listeners of a virtual
    node when it has an application's port.

    Raises:
        UnknownNameError: the mesh has no client and no virtual node of that name.
    """
    version = names.mesh_version(mesh)
    files = {"bootstrap.json": _bootstrap(mesh, member, wiring)}
    grouped: dict[str, list[Resource]] = {}
    for resource in desired(mesh, member, wiring):
        grouped.setdefault(_file_of(resource), []).append(resource)
    files |= {name: _discovery_response(version, found) for name, found in grouped.items()}
    return {name: json.dumps(body, indent=1, sort_keys=True) for name, body in files.items()}


def desired(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """Everything that a member's sidecar reads from files, as values."""
    resources = list(secret_resources(mesh, member, wiring))
    if wiring.egress_port is not None:
        resources += egress_clusters(mesh, member)
        resources.append(egress_routes(mesh, member, wiring.token))
        resources.append(egress_listener(mesh, member, wiring, wiring.egress_port))
    is_node = isinstance(names.member(mesh, member), VirtualNode)
    if is_node and wiring.app_port is not None:
        resources += ingress_clusters(mesh, member, wiring.app_port)
        resources += ingress_listeners(mesh, member, wiring)
    return tuple(resources)


def _file_of(resource: Resource) -> str:
    return _FILES.get(resource.kind) or f"xds/sds-{resource.name}.json"


def _discovery_response(version: str, resources: Iterable[Resource]) -> Body:
    bodies = [typed(_MESSAGES[it.kind], **it.body) for it in resources]
    return {"version_info": version, "resources": bodies}


def _bootstrap(mesh: Mesh, member: str, wiring: Wiring) -> Body:
    kind = "virtualNode" if isinstance(names.member(mesh, member), VirtualNode) else "client"
    return {
        "node": {"id": wiring.sidecar_id, "cluster": f"mesh/{mesh.mesh.mesh_name}/{kind}/{member}"},
        # Whoever reaches the admin interface rules the sidecar: a socket that only its owner opens.
        "admin": {"address": {"pipe": {"path": wiring.admin_socket, "mode": _ONLY_OWNER}}},
        "dynamic_resources": {
            "cds_config": file_source(CDS_FILE),
            "lds_config": file_source(LDS_FILE),
        },
    }
