"""The mesh as declared: App Mesh's create requests as frozen values.

Every class here and in ``members``, ``routes``, ``matches``, ``policies`` and ``tls`` has the shape
of one object of the App Mesh API (2019-01-25), its fields in snake case, so that ``load`` can read
``mesh.yml`` by walking these classes and the API's documentation stays the documentation of the
fields. A field's range stands beside its type, and where the API is a union, ``exactly_one`` names
the members of which one is set. Ours are clients, backend groups, ``databricks``, ``dataSource``
and ``injectedDefaults``. Import every class from here.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from meshml_dbx.mesh.limits import AccountId, Name, Tags
from meshml_dbx.mesh.matches import (
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HeaderMatch,
    HeaderMatchMethod,
    HostnameMatch,
    HttpGatewayRouteMatch,
    HttpMethod,
    HttpRouteMatch,
    PathMatch,
    QueryParameterMatch,
    QueryParameterMatchMethod,
    RangeMatch,
    TcpRouteMatch,
)
from meshml_dbx.mesh.members import (
    Backend,
    BackendDefaults,
    BackendGroup,
    BackendGroupSpec,
    CloudMapAttribute,
    CloudMapDiscovery,
    DatabricksIdentity,
    DatabricksUpstream,
    DataSource,
    DnsDiscovery,
    GatewayListener,
    GatewayPortMapping,
    IpPreference,
    Listener,
    MeshClient,
    MeshClientSpec,
    PortMapping,
    ServiceDiscovery,
    VirtualGateway,
    VirtualGatewaySpec,
    VirtualNode,
    VirtualNodeSpec,
    VirtualServiceBackend,
)
from meshml_dbx.mesh.policies import (
    AccessLog,
    ConnectionPool,
    Duration,
    FileAccessLog,
    GatewayConnectionPool,
    GatewayHealthCheck,
    GrpcEvent,
    GrpcRetryPolicy,
    HealthCheck,
    HttpConnectionPool,
    HttpEvent,
    HttpTimeout,
    ListenerTimeout,
    LogField,
    LogFormat,
    Logging,
    OutlierDetection,
    Protocol,
    RequestPool,
    RetryPolicy,
    TcpConnectionPool,
    TcpTimeout,
)
from meshml_dbx.mesh.routes import (
    GatewayRoute,
    GatewayRouteSpec,
    GatewayTarget,
    GrpcGatewayAction,
    GrpcGatewayRoute,
    GrpcRewrite,
    GrpcRoute,
    HostnameRewrite,
    HttpGatewayAction,
    HttpGatewayRoute,
    HttpRewrite,
    HttpRoute,
    PathRewrite,
    PrefixRewrite,
    Route,
    RouteAction,
    RouteSpec,
    TargetService,
    TcpRoute,
    WeightedTarget,
)
from meshml_dbx.mesh.tls import (
    AcmCertificate,
    AcmTrust,
    Certificate,
    ClientPolicy,
    ClientTls,
    FileCertificate,
    FileTrust,
    ListenerTls,
    NameMatch,
    SdsReference,
    SubjectAlternativeNames,
    Trust,
    Validation,
)

__all__ = [
    "AccessLog",
    "AcmCertificate",
    "AcmTrust",
    "Backend",
    "BackendDefaults",
    "BackendGroup",
    "BackendGroupSpec",
    "Certificate",
    "ClientPolicy",
    "ClientTls",
    "CloudMapAttribute",
    "CloudMapDiscovery",
    "ConnectionPool",
    "DataSource",
    "DatabricksIdentity",
    "DatabricksUpstream",
    "DnsDiscovery",
    "Duration",
    "EgressFilter",
    "FileAccessLog",
    "FileCertificate",
    "FileTrust",
    "GatewayConnectionPool",
    "GatewayHealthCheck",
    "GatewayListener",
    "GatewayPortMapping",
    "GatewayRoute",
    "GatewayRouteSpec",
    "GatewayTarget",
    "GrpcEvent",
    "GrpcGatewayAction",
    "GrpcGatewayRoute",
    "GrpcGatewayRouteMatch",
    "GrpcRetryPolicy",
    "GrpcRewrite",
    "GrpcRoute",
    "GrpcRouteMatch",
    "HeaderMatch",
    "HeaderMatchMethod",
    "HealthCheck",
    "HostnameMatch",
    "HostnameRewrite",
    "HttpConnectionPool",
    "HttpEvent",
    "HttpGatewayAction",
    "HttpGatewayRoute",
    "HttpGatewayRouteMatch",
    "HttpMethod",
    "HttpRewrite",
    "HttpRoute",
    "HttpRouteMatch",
    "HttpTimeout",
    "InjectedDefaults",
    "IpPreference",
    "Listener",
    "ListenerTimeout",
    "ListenerTls",
    "LogField",
    "LogFormat",
    "Logging",
    "Mesh",
    "MeshClient",
    "MeshClientSpec",
    "MeshHead",
    "MeshServiceDiscovery",
    "MeshSpec",
    "NameMatch",
    "NodeProvider",
    "OutlierDetection",
    "PathMatch",
    "PathRewrite",
    "PortMapping",
    "PrefixRewrite",
    "Protocol",
    "Provider",
    "QueryParameterMatch",
    "QueryParameterMatchMethod",
    "RangeMatch",
    "RequestPool",
    "RetryPolicy",
    "Route",
    "RouteAction",
    "RouteSpec",
    "RouterListener",
    "RouterProvider",
    "SdsReference",
    "ServiceDiscovery",
    "SubjectAlternativeNames",
    "TargetService",
    "TcpConnectionPool",
    "TcpRoute",
    "TcpRouteMatch",
    "TcpTimeout",
    "Trust",
    "Validation",
    "VirtualGateway",
    "VirtualGatewaySpec",
    "VirtualNode",
    "VirtualNodeSpec",
    "VirtualRouter",
    "VirtualRouterSpec",
    "VirtualService",
    "VirtualServiceBackend",
    "VirtualServiceSpec",
    "WeightedTarget",
]

InjectedDefaults = Literal["none", "modern", "legacy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterListener:
    """The port by which a router's services are addressed."""

    port_mapping: PortMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualRouterSpec:
    """Where a virtual router is addressed."""

    listeners: tuple[RouterListener, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualRouter:
    """The rules that spread a virtual service's calls over virtual nodes."""

    virtual_router_name: Name
    spec: VirtualRouterSpec
    routes: tuple[Route, ...] = ()
    mesh_owner: AccountId | None = None
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProvider:
    """A virtual service answered by one node."""

    virtual_node_name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterProvider:
    """A virtual service answered by a router's targets."""

    virtual_router_name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Who answers a virtual service: exactly one of node and router."""

    exactly_one: ClassVar = ("virtual_node", "virtual_router")

    virtual_node: NodeProvider | None = None
    virtual_router: RouterProvider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServiceSpec:
    """Who answers; without a provider, nobody does."""

    provider: Provider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """A name that programs call."""

    virtual_service_name: Name
    spec: VirtualServiceSpec = VirtualServiceSpec()
    mesh_owner: AccountId | None = None
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressFilter:
    """Whether programs may call plain-http hosts that are not in the mesh."""

    type: Literal["ALLOW_ALL", "DROP_ALL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshServiceDiscovery:
    """What holds for the discovery of every node that does not say otherwise."""

    ip_preference: IpPreference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSpec:
    """What holds for the whole mesh; App Mesh drops foreign egress unless told otherwise."""

    egress_filter: EgressFilter = EgressFilter(type="DROP_ALL")
    service_discovery: MeshServiceDiscovery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshHead:
    """The mesh's own create request."""

    mesh_name: Name
    spec: MeshSpec = MeshSpec()
    mesh_owner: AccountId | None = None


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Mesh:
    """One mesh: everything that one mesh file holds.

    ``injected_defaults`` names the policies that App Mesh added without being asked: ``modern``
    retries (accounts whose first mesh came after 2020-07-29), the ``legacy`` limits, or ``none``.

    >>> Mesh(mesh=MeshHead(mesh_name="ml")).mesh.spec.egress_filter.type
    'DROP_ALL'
    """

    mesh: MeshHead
    injected_defaults: InjectedDefaults = "none"
    tags: Tags = field(default_factory=dict)
    clients: tuple[MeshClient, ...] = ()
    virtual_nodes: tuple[VirtualNode, ...] = ()
    virtual_routers: tuple[VirtualRouter, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    virtual_gateways: tuple[VirtualGateway, ...] = ()
    backend_groups: tuple[BackendGroup, ...] = ()
