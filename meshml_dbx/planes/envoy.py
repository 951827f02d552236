"""A member of a mesh as an Envoy sidecar: bootstrap and filesystem xDS, no control plane.

Goes in: the mesh, a client, virtual node or virtual gateway, and its wiring. Comes out: the text of
each file, by its path relative to Envoy's working directory. Everything is JSON, since Envoy reads
YAML 1.1, where a plain ``no`` is false.
"""

import json
from collections.abc import Iterable

from meshml_dbx.errors import EnvoyError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.load import collector_paused
from meshml_dbx.mesh.spec import Mesh, MeshClient, VirtualNode
from meshml_dbx.planes.envoy_clusters import external_cluster, internal_cluster
from meshml_dbx.planes.envoy_egress import egress_listeners
from meshml_dbx.planes.envoy_gateway import gateway_resources
from meshml_dbx.planes.envoy_listeners import ingress_listeners
from meshml_dbx.planes.envoy_log import declared_log_file
from meshml_dbx.planes.envoy_program import program_clusters
from meshml_dbx.planes.envoy_routes import egress_routes, grpc_routes
from meshml_dbx.planes.envoy_secrets import secret_name, secret_resources, secrets_of
from meshml_dbx.planes.envoy_services import is_gateway, needs_grpc_port, tcp_addresses
from meshml_dbx.planes.envoy_terms import (
    CDS_FILE,
    GRPC_ROUTES,
    LDS_FILE,
    SYSTEM_AUTHORITIES,
    UNLIMITED,
    Body,
    IdentityPaths,
    Wiring,
    extension,
    file_source,
    routes_file,
    typed,
)
from meshml_dbx.planes.envoy_upstreams import upstream_clusters
from meshml_dbx.planes.plan import Resource

__all__ = [
    "SYSTEM_AUTHORITIES",
    "IdentityPaths",
    "Wiring",
    "declared_log_file",
    "desired",
    "is_gateway",
    "needs_grpc_port",
    "render",
    "require_sidecar",
    "secret_name",
    "secrets_of",
    "tcp_addresses",
]

_MESSAGES = {
    "cluster": "config.cluster.v3.Cluster",
    "listener": "config.listener.v3.Listener",
    "route_configuration": "config.route.v3.RouteConfiguration",
    "secret": "extensions.transport_sockets.tls.v3.Secret",
}
_ONLY_OWNER = 0o600
# Envoy refuses expressions of more than 100 instructions, which App Mesh's 255 characters exceed.
_RUNTIME: Body = {
    "re2.max_program_size.error_level": UNLIMITED,
    "re2.max_program_size.warn_level": UNLIMITED,
}


@collector_paused()
def render(mesh: Mesh, member: str, wiring: Wiring) -> dict[str, str]:
    """The files of a member's sidecar: relative name to JSON text.

    The program's proxy is there when the wiring has an egress port, the listeners of a virtual
    node when it has an application's port; a gateway needs neither.

    Raises:
        UnknownNameError: the mesh has no client, virtual node or gateway of that name.
        TrustError: a certificate that it needs is held by AWS Certificate Manager.
        EnvoyError: the member is an upstream outside the mesh, which has no sidecar.
    """
    version = names.mesh_version(mesh)
    files = {"bootstrap.json": json.dumps(_bootstrap(mesh, member, wiring), indent=1)}
    grouped: dict[str, list[Resource]] = {}
    for resource in desired(mesh, member, wiring):
        grouped.setdefault(_file_of(resource), []).append(resource)
    return files | {name: _discovery_response(version, it) for name, it in grouped.items()}


def desired(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """Everything that a member's sidecar reads from files, as values."""
    require_sidecar(mesh, member)
    resources = list(secret_resources(mesh, member, wiring))
    if is_gateway(mesh, member):
        resources += upstream_clusters(mesh, member, wiring)
        resources += gateway_resources(mesh, member, wiring)
        return tuple(resources)
    if wiring.egress_port is not None:
        resources += _egress(mesh, member, wiring, wiring.egress_port)
    is_node = isinstance(names.member(mesh, member), VirtualNode)
    if is_node and (wiring.app_port is not None or wiring.app_ports):
        resources += program_clusters(mesh, member, wiring)
        resources += ingress_listeners(mesh, member, wiring)
    return tuple(resources)


def _egress(mesh: Mesh, member: str, wiring: Wiring, egress_port: int) -> list[Resource]:
    found = [*upstream_clusters(mesh, member, wiring), external_cluster()]
    found.append(egress_routes(mesh, member, wiring.token))
    if needs_grpc_port(mesh, member):
        found += [internal_cluster(GRPC_ROUTES), grpc_routes(mesh, member)]
    return [*found, *egress_listeners(mesh, member, wiring, egress_port)]


def require_sidecar(mesh: Mesh, member: str) -> None:
    """Refuse a member that has no sidecar.

    Raises:
        EnvoyError: it is an upstream outside the mesh.
    """
    found = names.member(mesh, member)
    if isinstance(found, VirtualNode) and found.is_external:
        raise EnvoyError(
            f"virtual node {member} runs outside the mesh, so it has no sidecar",
            advice="start the sidecars of those who call it",
        )


def _file_of(resource: Resource) -> str:
    match resource.kind:
        case "cluster":
            return CDS_FILE
        case "listener":
            return LDS_FILE
        case "route_configuration":
            return routes_file(resource.name)
        case _:
            return f"xds/sds-{resource.name}.json"


def _discovery_response(version: str, resources: Iterable[Resource]) -> str:
    """One resource to a line: the whole indented takes Python ten times as long to write."""
    bodies = (typed(_MESSAGES[it.kind], **it.body) for it in resources)
    lines = ",\n".join(json.dumps(body, sort_keys=True) for body in bodies)
    return f'{{"version_info": {json.dumps(version)}, "resources": [\n{lines}\n]}}\n'


def _bootstrap(mesh: Mesh, member: str, wiring: Wiring) -> Body:
    internal = "bootstrap.internal_listener"
    return {
        "node": {
            "id": wiring.sidecar_id,
            "cluster": f"mesh/{mesh.mesh.mesh_name}/{_kind(mesh, member)}/{member}",
        },
        # Whoever reaches the admin interface rules the sidecar: a socket that only its owner opens.
        "admin": {"address": {"pipe": {"path": wiring.admin_socket, "mode": _ONLY_OWNER}}},
        "layered_runtime": {"layers": [{"name": "meshml", "static_layer": _RUNTIME}]},
        "bootstrap_extensions": [extension(internal, f"extensions.{internal}.v3.InternalListener")],
        "dynamic_resources": {
            "cds_config": file_source(CDS_FILE),
            "lds_config": file_source(LDS_FILE),
        },
    }


def _kind(mesh: Mesh, member: str) -> str:
    found = names.member(mesh, member)
    if isinstance(found, MeshClient):
        return "client"
    return "virtualNode" if isinstance(found, VirtualNode) else "virtualGateway"
