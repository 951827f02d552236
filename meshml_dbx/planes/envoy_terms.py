"""What every part of an Envoy configuration is written with: the wiring and Envoy's JSON idioms.

The wiring is what the mesh file does not say: ports, paths and names of this one sidecar. The
idioms are the ``@type`` of a message, a duration, and where a resource is read from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshml_dbx.traffic.access_log import METADATA_NAMESPACE

Body = dict[str, object]

CDS_FILE, LDS_FILE = "xds/cds.json", "xds/lds.json"
EGRESS_ROUTES, GRPC_ROUTES = "egress", "grpc"
GATEWAY_ROUTES, INTO_MESH_ROUTES = "gateway", "into-mesh"
LOOPBACK = "127.0.0.1"
UNLIMITED = 2147483647
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPaths:
    """Where the files of one secret lie; a name that is only trusted has an authority alone.

    >>> IdentityPaths(authority="/state/trust/ml/authority.crt").private_key is None
    True
    """

    certificate_chain: str | None = None
    private_key: str | None = None
    authority: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """How one sidecar is connected to its machine.

    ``identities`` has the files of every secret that ``secrets_of`` lists, by ``secret_name``.
    Peers reach a node or gateway at ``bind``; every other port is open to this machine only, since
    whoever reaches it speaks with the member's identity. ``app_port`` is where the program
    listens, unless ``app_ports`` says otherwise for one of the node's ports.

    ``grpc_port`` and ``tcp_ports`` (by ``tcp_addresses``) ask for no token, as gRPC and plain TCP
    have no place for one: any process of this machine may use them. ``grpc_socket`` is the same
    as the port, as a socket that only its owner opens.

    ``declared_log`` is where the access log that the mesh file declares is written; without it,
    at the path that the file says. ``from_environment`` names, by column of the access log, the
    variable in which each replica finds its own value. ``health_log``, beside the configuration
    unless told otherwise, tells which endpoint failed its health check and which was well again.

    >>> Wiring(sidecar_id="churn-training-0a1b2c3d", access_log="/logs/access.jsonl").bind
    '127.0.0.1'
    """

    sidecar_id: str
    access_log: str
    process_id: str | None = None
    environment: str | None = None
    bind: str = LOOPBACK
    egress_port: int | None = None
    grpc_port: int | None = None
    grpc_socket: str | None = None
    tcp_ports: Mapping[str, int] = field(default_factory=dict)
    app_port: int | None = None
    app_ports: Mapping[int, int] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    identities: Mapping[str, IdentityPaths] = field(default_factory=dict)
    admin_socket: str = "admin.sock"
    declared_log: str | None = None
    health_log: str = "health-events.log"
    from_environment: Mapping[str, str] = field(default_factory=dict)
    system_authorities: str = SYSTEM_AUTHORITIES


def typed(message: str, **fields: object) -> Body:
    """An Envoy message with its ``@type``.

    >>> typed("config.cluster.v3.Cluster", name="a")
    {'@type': 'type.googleapis.com/envoy.config.cluster.v3.Cluster', 'name': 'a'}
    """
    return {"@type": f"type.googleapis.com/envoy.{message}", **fields}


def extension(name: str, message: str, **fields: object) -> Body:
    """An Envoy extension: its name and its configuration."""
    return {"name": f"envoy.{name}", "typed_config": typed(message, **fields)}


def duration(seconds: float) -> str:
    """A time span as Envoy reads it from JSON.

    >>> duration(0.5), duration(15), duration(1_000_000)
    ('0.5s', '15s', '1000000s')
    """
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def routes_file(name: str) -> str:
    """The file of a route configuration: Envoy reads one from each.

    >>> routes_file("egress"), routes_file("grpc")
    ('xds/rds.json', 'xds/rds-grpc.json')
    """
    return "xds/rds.json" if name == EGRESS_ROUTES else f"xds/rds-{name}.json"


def file_source(path: str) -> Body:
    """Where Envoy reads a resource from, and watches for a new version of it."""
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def literal(text: str) -> str:
    """A text that Envoy's formatter writes as it is.

    >>> literal("100 %")
    '100 %%'
    """
    return text.replace("%", "%%")


def socket_address(host: str, port: int) -> Body:
    """A TCP address."""
    return {"socket_address": {"address": host, "port_value": port}}


def internal_address(listener: str) -> Body:
    """The address of a listener inside the same Envoy."""
    return {"envoy_internal_address": {"server_listener_name": listener}}


def header(name: str, value: str) -> Body:
    """A header that is set, whatever it was."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def meshml_metadata(values: Mapping[str, str | None]) -> Body:
    """What the access log reads back of a route or a cluster."""
    known = {key: value for key, value in values.items() if value is not None}
    return {"filter_metadata": {METADATA_NAMESPACE: known}}
