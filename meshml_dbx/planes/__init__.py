"""A mesh becomes a running mesh: what is declared, in the words of the plane that carries it out.

A Mesh and the name of a member go in, the plane's configuration comes out. Nothing here touches a
disk, a socket or a process.
"""

from meshml_dbx.planes.envoy import (
    SYSTEM_AUTHORITIES,
    IdentityPaths,
    Wiring,
    declared_log_file,
    is_gateway,
    needs_grpc_port,
    render,
    require_sidecar,
    secret_name,
    secrets_of,
    tcp_addresses,
)
from meshml_dbx.planes.plan import Resource

__all__ = [
    "SYSTEM_AUTHORITIES",
    "IdentityPaths",
    "Resource",
    "Wiring",
    "declared_log_file",
    "is_gateway",
    "needs_grpc_port",
    "render",
    "require_sidecar",
    "secret_name",
    "secrets_of",
    "tcp_addresses",
]
