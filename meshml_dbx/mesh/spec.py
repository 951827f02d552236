"""The mesh as declared: App Mesh's create requests as frozen values.

Every class here has the shape of one object of the App Mesh API (2019-01-25), its fields in snake
case, so that ``load`` can read ``mesh.yml`` by walking these classes and the API's documentation
stays the documentation of the fields. A field's range stands beside its type, and where the API is
a union, ``exactly_one`` names the members of which one is set. ``MeshClient`` is ours. What is not
listed here, this version does not read.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from meshml_dbx.mesh.limits import (
    Count,
    Limit,
    Name,
    Percent,
    Port,
    PositiveCount,
    Tags,
    Text,
    UrlPath,
)

HttpMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
IpPreference = Literal["IPv4_PREFERRED", "IPv6_PREFERRED", "IPv4_ONLY", "IPv6_ONLY"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A time span as App Mesh writes it.

    >>> Duration(unit="ms", value=500).seconds
    0.5
    """

    unit: Literal["s", "ms"]
    value: Count

    @property
    def seconds(self) -> float:
        """The span in seconds."""
        return self.value / 1000 if self.unit == "ms" else float(self.value)


# --- certificates -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SdsReference:
    """An identity, or an authority, that meshml supplies: a name in the trust store."""

    secret_name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCertificate:
    """A certificate chain and key of the user's own, as paths relative to the mesh file."""

    certificate_chain: Text
    private_key: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTrust:
    """Authorities of the user's own, as a path relative to the mesh file."""

    certificate_chain: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a side of a connection shows: exactly one of sds and file."""

    exactly_one: ClassVar = ("sds", "file")

    sds: SdsReference | None = None
    file: FileCertificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom a side of a connection believes: exactly one of sds and file."""

    exactly_one: ClassVar = ("sds", "file")

    sds: SdsReference | None = None
    file: FileTrust | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameMatch:
    """The subject alternative names that are accepted, each in full."""

    exact: tuple[Annotated[str, Limit(1, 254)], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectAlternativeNames:
    """The names that a peer's certificate must carry one of."""

    match: NameMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How a peer's certificate is checked."""

    trust: Trust
    subject_alternative_names: SubjectAlternativeNames | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """The TLS of a node's listener; with a validation it is mutual."""

    mode: Literal["STRICT", "PERMISSIVE", "DISABLED"]
    certificate: Certificate
    validation: Validation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """The TLS of calls to a backend."""

    enforce: bool = True
    ports: tuple[Port, ...] = ()
    certificate: Certificate | None = None
    validation: Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """How a backend is called."""

    tls: ClientTls | None = None


# --- nodes and clients: listeners, backends, discovery -----------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """Where a listener is reached; this version serves plain HTTP/1.1 (inside TLS or not)."""

    port: Port
    protocol: Literal["http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimeout:
    """How long a request, or silence on its connection, may last; 0 lifts the limit."""

    per_request: Duration | None = None
    idle: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTimeout:
    """The time-outs of a listener, by protocol."""

    http: HttpTimeout


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectionPool:
    """How many connections and waiting requests the program behind a listener gets."""

    max_connections: PositiveCount
    max_pending_requests: PositiveCount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPool:
    """The connection pool of a listener, by protocol."""

    http: HttpConnectionPool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When clients stop calling an endpoint of this node for a while."""

    max_server_errors: PositiveCount
    interval: Duration
    base_ejection_duration: Duration
    max_ejection_percent: Percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where a node is reached, and on which terms."""

    port_mapping: PortMapping
    tls: ListenerTls | None = None
    timeout: ListenerTimeout | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None


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
class DnsDiscovery:
    """A node found by its host name."""

    hostname: Text
    response_type: Literal["LOADBALANCER", "ENDPOINTS"] = "LOADBALANCER"
    ip_preference: Literal["IPv4_PREFERRED", "IPv6_PREFERRED", "IPv4_ONLY", "IPv6_ONLY"] | None = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDiscovery:
    """How a node's endpoints are found."""

    dns: DnsDiscovery


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNodeSpec:
    """What a virtual node is: where it listens, what it calls, how it is found."""

    listeners: tuple[Listener, ...] = ()
    backends: tuple[Backend, ...] = ()
    backend_defaults: BackendDefaults | None = None
    service_discovery: ServiceDiscovery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNode:
    """A program that serves, behind its sidecar."""

    virtual_node_name: Name
    spec: VirtualNodeSpec
    tags: Tags = field(default_factory=dict)


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
    backend_defaults: BackendDefaults | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshClient:
    """A Databricks job, notebook or serving endpoint that speaks to the mesh."""

    client_name: Name
    role: Literal["ingestion", "processing", "training", "scoring"]
    spec: MeshClientSpec = MeshClientSpec()
    databricks: DatabricksIdentity | None = None
    tags: Tags = field(default_factory=dict)


# --- routes, services and the mesh -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """A path that must be met in full."""

    exact: UrlPath


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeMatch:
    """Whole numbers from start up to, but not including, end."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatchMethod:
    """How a header's value is compared: exactly one is set."""

    exactly_one: ClassVar = ("exact", "prefix", "suffix", "regex", "range")

    exact: Text | None = None
    prefix: Text | None = None
    suffix: Text | None = None
    regex: Text | None = None
    range: RangeMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """A header that a request must (or, inverted, must not) have; without match: be present."""

    name: Annotated[str, Limit(1, 50)]
    invert: bool = False
    match: HeaderMatchMethod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRouteMatch:
    """Which requests a route takes: exactly one of prefix and path."""

    exactly_one: ClassVar = ("prefix", "path")

    prefix: UrlPath | None = None
    path: PathMatch | None = None
    method: HttpMethod | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Limit(0, 10)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedTarget:
    """A virtual node and its share of the route's calls, relative to the other weights."""

    virtual_node: Name
    weight: Percent
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRouteAction:
    """Where a route sends its calls."""

    weighted_targets: Annotated[tuple[WeightedTarget, ...], Limit(1, 10)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Which failures are tried again, how often, and how long each try may last."""

    max_retries: Count
    per_retry_timeout: Duration
    http_retry_events: Annotated[
        tuple[Literal["server-error", "gateway-error", "client-error", "stream-error"], ...],
        Limit(1, 25),
    ] = ()
    tcp_retry_events: Annotated[tuple[Literal["connection-error"], ...], Limit(1, 1)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """An HTTP route: match, action and the policies of its calls."""

    match: HttpRouteMatch
    action: HttpRouteAction
    retry_policy: RetryPolicy | None = None
    timeout: HttpTimeout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A route and its rank: lower priorities are asked first, routes without one last."""

    priority: Annotated[int, Limit(0, 1000)] | None = None
    http_route: HttpRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A named rule of a virtual router."""

    route_name: Name
    spec: RouteSpec
    tags: Tags = field(default_factory=dict)


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
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressFilter:
    """Whether programs may call plain-http hosts that are not in the mesh."""

    type: Literal["ALLOW_ALL", "DROP_ALL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSpec:
    """What holds for the whole mesh; App Mesh drops foreign egress unless told otherwise."""

    egress_filter: EgressFilter = EgressFilter(type="DROP_ALL")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshHead:
    """The mesh's own create request."""

    mesh_name: Name
    spec: MeshSpec = MeshSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """One mesh: everything that one mesh file holds.

    >>> Mesh(mesh=MeshHead(mesh_name="ml")).mesh.spec.egress_filter.type
    'DROP_ALL'
    """

    mesh: MeshHead
    tags: Tags = field(default_factory=dict)
    clients: tuple[MeshClient, ...] = ()
    virtual_nodes: tuple[VirtualNode, ...] = ()
    virtual_routers: tuple[VirtualRouter, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
