"""What every part of an Envoy configuration is written with: the wiring and Envoy's JSON idioms.

The wiring is what the mesh file does not say: ports, paths and names of this one sidecar. The
idioms are the ``@type`` of a message, a duration, and where a resource is read from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshml_dbx.traffic.access_log import METADATA_NAMESPACE

Body = dict[str, object]

CDS_FILE, RDS_FILE, LDS_FILE = "xds/cds.json", "xds/rds.json", "xds/lds.json"
ROUTE_CONFIGURATION = "egress"
LOOPBACK = "127.0.0.1"
UNLIMITED = 2147483647


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
    Peers reach a node at ``bind``; the egress port is open to this machine only, since whoever
    reaches it speaks with the member's identity.

    >>> Wiring(sidecar_id="churn-training-0a1b2c3d", access_log="/logs/access.jsonl").bind
    '127.0.0.1'
    """

    sidecar_id: str
    access_log: str
    process_id: str | None = None
    environment: str | None = None
    bind: str = LOOPBACK
    egress_port: int | None = None
    app_port: int | None = None
    token: str | None = field(default=None, repr=False)
    identities: Mapping[str, IdentityPaths] = field(default_factory=dict)
    admin_socket: str = "admin.sock"


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


def meshml_metadata(values: Mapping[str, str | None]) -> Body:
    """What the access log reads back of a route or a cluster."""
    known = {key: value for key, value in values.items() if value is not None}
    return {"filter_metadata": {METADATA_NAMESPACE: known}}
