"""Who is in the mesh: virtual nodes, gateways and clients, where they listen, what they call."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from meshml_dbx.mesh.limits import AccountId, Limit, LongText, Name, Port, Tags, Text
from meshml_dbx.mesh.policies import (
    ConnectionPool,
    GatewayConnectionPool,
    GatewayHealthCheck,
    HealthCheck,
    ListenerTimeout,
    Logging,
    OutlierDetection,
    Protocol,
)
from meshml_dbx.mesh.routes import GatewayRoute
from meshml_dbx.mesh.tls import ClientPolicy, ListenerTls

IpPreference = Literal["IPv4_PREFERRED", "IPv6_PREFERRED", "IPv4_ONLY", "IPv6_ONLY"]


# --- listeners --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """Where a listener is reached, and what it speaks (inside TLS or not)."""

    port: Port
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where a node is reached, and on which terms."""

    port_mapping: PortMapping
    tls: ListenerTls | None = None
    health_check: HealthCheck | None = None
    timeout: ListenerTimeout | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPortMapping:
    """Where a gateway is reached; gateways carry no raw tcp."""

    port: Port
    protocol: Literal["http", "http2", "grpc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayListener:
    """Where a gateway is reached, and on which terms."""

    port_mapping: GatewayPortMapping
    tls: ListenerTls | None = None
    health_check: GatewayHealthCheck | None = None
    connection_pool: GatewayConnectionPool | None = None


# --- backends ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServiceBackend:
    """A virtual service that a node or client calls."""

    virtual_service_name: Name
    client_policy: ClientPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One entry of a list of backends."""

    virtual_service: VirtualServiceBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendDefaults:
    """The client policy of every backend that has none of its own."""

    client_policy: ClientPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendGroupSpec:
    """The virtual services of a group."""

    virtual_services: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendGroup:
    """Virtual services that many callers name at once; Kubernetes' controller knew them."""

    backend_group_name: Name
    spec: BackendGroupSpec = BackendGroupSpec()
    tags: Tags = field(default_factory=dict)


# --- discovery --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsDiscovery:
    """A node found by its host name."""

    hostname: Text
    response_type: Literal["LOADBALANCER", "ENDPOINTS"] = "LOADBALANCER"
    ip_preference: IpPreference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudMapAttribute:
    """What an instance in Cloud Map must be registered with to be an endpoint."""

    key: Text
    value: LongText


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudMapDiscovery:
    """A node found in AWS Cloud Map."""

    namespace_name: LongText
    service_name: LongText
    attributes: tuple[CloudMapAttribute, ...] = ()
    ip_preference: IpPreference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDiscovery:
    """How a node's endpoints are found."""

    exactly_one: ClassVar = ("dns", "aws_cloud_map")

    dns: DnsDiscovery | None = None
    aws_cloud_map: CloudMapDiscovery | None = None

    @property
    def hostname(self) -> str:
        """The name that a resolver knows: Cloud Map's namespaces are DNS zones."""
        if self.dns:
            return self.dns.hostname
        found = self.aws_cloud_map
        return f"{found.service_name}.{found.namespace_name}" if found else ""

    @property
    def ip_preference(self) -> IpPreference | None:
        """Which addresses are asked for, where the node says so."""
        found = self.dns or self.aws_cloud_map
        return found.ip_preference if found else None


# --- nodes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabricksUpstream:
    """The Databricks serving endpoint that a virtual node is; its host is the workspace."""

    serving_endpoint: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """The upstream that a virtual node is, where no sidecar stands beside it."""

    kind: Literal["featureStore", "labelApi", "objectStore", "database", "other"]
    name: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNodeSpec:
    """What a virtual node is: where it listens, what it calls, how it is found."""

    listeners: tuple[Listener, ...] = ()
    backends: tuple[Backend, ...] = ()
    backend_groups: tuple[Name, ...] = ()
    backend_defaults: BackendDefaults | None = None
    service_discovery: ServiceDiscovery | None = None
    logging: Logging | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNode:
    """A program that serves, behind its sidecar, or an upstream that has none.

    ``databricks`` and ``data_source`` mark what runs elsewhere: it shows its own certificate, is
    called by its own host name, and nobody starts a sidecar for it.
    """

    at_most_one: ClassVar = ("databricks", "data_source")

    virtual_node_name: Name
    spec: VirtualNodeSpec
    databricks: DatabricksUpstream | None = None
    data_source: DataSource | None = None
    mesh_owner: AccountId | None = None
    tags: Tags = field(default_factory=dict)

    @property
    def is_external(self) -> bool:
        """Whether the node is an upstream that runs outside the mesh."""
        return self.databricks is not None or self.data_source is not None


# --- clients ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabricksIdentity:
    """Which Databricks job, task, notebook or serving endpoint a client is, and as whom it runs."""

    job: Text | None = None
    task: Text | None = None
    notebook: Text | None = None
    serving_endpoint: Text | None = None
    service_principal: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshClientSpec:
    """What a pure client calls, and how."""

    backends: tuple[Backend, ...] = ()
    backend_groups: tuple[Name, ...] = ()
    backend_defaults: BackendDefaults | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshClient:
    """A Databricks job, notebook or serving endpoint that speaks to the mesh."""

    client_name: Name
    role: Literal["ingestion", "processing", "training", "scoring"]
    environment: Text | None = None
    spec: MeshClientSpec = MeshClientSpec()
    databricks: DatabricksIdentity | None = None
    tags: Tags = field(default_factory=dict)


# --- gateways ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualGatewaySpec:
    """Where a virtual gateway listens, and how it calls into the mesh."""

    listeners: Annotated[tuple[GatewayListener, ...], Limit(1)]
    backend_defaults: BackendDefaults | None = None
    logging: Logging | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualGateway:
    """The way into the mesh for callers that are not part of it."""

    virtual_gateway_name: Name
    spec: VirtualGatewaySpec
    gateway_routes: tuple[GatewayRoute, ...] = ()
    mesh_owner: AccountId | None = None
    tags: Tags = field(default_factory=dict)
