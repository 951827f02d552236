"""Routes of virtual routers and of virtual gateways: a match, an action, the policies of a call."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from meshml_dbx.mesh.limits import AccountId, Limit, Name, Percent, Port, Tags, UrlPath
from meshml_dbx.mesh.matches import (
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HttpGatewayRouteMatch,
    HttpRouteMatch,
    TcpRouteMatch,
)
from meshml_dbx.mesh.policies import GrpcRetryPolicy, HttpTimeout, RetryPolicy, TcpTimeout

Priority = Annotated[int, Limit(0, 1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedTarget:
    """A virtual node and its share of the route's calls, relative to the other weights."""

    virtual_node: Name
    weight: Percent
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAction:
    """Where a route sends its calls."""

    weighted_targets: Annotated[tuple[WeightedTarget, ...], Limit(1, 10)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """A route of http or http2: match, action and the policies of its calls."""

    match: HttpRouteMatch
    action: RouteAction
    retry_policy: RetryPolicy | None = None
    timeout: HttpTimeout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRoute:
    """A route of gRPC calls."""

    match: GrpcRouteMatch
    action: RouteAction
    retry_policy: GrpcRetryPolicy | None = None
    timeout: HttpTimeout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRoute:
    """A route of connections."""

    action: RouteAction
    match: TcpRouteMatch | None = None
    timeout: TcpTimeout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A route and its rank: lower priorities are asked first, routes without one last."""

    exactly_one: ClassVar = ("http_route", "http2_route", "grpc_route", "tcp_route")

    priority: Priority | None = None
    http_route: HttpRoute | None = None
    http2_route: HttpRoute | None = None
    grpc_route: GrpcRoute | None = None
    tcp_route: TcpRoute | None = None

    @property
    def http(self) -> HttpRoute | None:
        """The route where it is one of http or http2."""
        return self.http_route or self.http2_route

    @property
    def route(self) -> HttpRoute | GrpcRoute | TcpRoute:
        """The one route that is set."""
        found = self.http or self.grpc_route or self.tcp_route
        if found is None:
            raise ValueError("a route's spec has one of httpRoute, http2Route, grpcRoute, tcpRoute")
        return found

    @property
    def protocol(self) -> Literal["http", "http2", "grpc", "tcp"]:
        """The protocol of the one route that is set."""
        if self.http_route:
            return "http"
        if self.http2_route:
            return "http2"
        return "grpc" if self.grpc_route else "tcp"

    @property
    def field(self) -> str:
        """The mesh file's field of the one route that is set, such as ``httpRoute``."""
        return f"{self.protocol}Route"

    @property
    def weighted_targets(self) -> tuple[WeightedTarget, ...]:
        """The targets of the one route that is set."""
        return self.route.action.weighted_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A named rule of a virtual router."""

    route_name: Name
    spec: RouteSpec
    mesh_owner: AccountId | None = None
    tags: Tags = field(default_factory=dict)


# --- gateways ---------------------------------------------------------------------------------

Switch = Literal["ENABLED", "DISABLED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetService:
    """The virtual service that a gateway's route leads to."""

    virtual_service_name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTarget:
    """Where a gateway's route leads."""

    virtual_service: TargetService
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostnameRewrite:
    """Whether the host becomes the virtual service's name; App Mesh's default is ENABLED."""

    default_target_hostname: Switch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixRewrite:
    """What the matched prefix becomes: ``/`` unless it is switched off or a value is given."""

    exactly_one: ClassVar = ("default_prefix", "value")

    default_prefix: Switch | None = None
    value: UrlPath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRewrite:
    """What the whole path becomes."""

    exact: UrlPath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRewrite:
    """What a gateway changes in a request's address."""

    at_most_one: ClassVar = ("prefix", "path")

    hostname: HostnameRewrite | None = None
    prefix: PrefixRewrite | None = None
    path: PathRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRewrite:
    """What a gateway changes in a gRPC call's address."""

    hostname: HostnameRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGatewayAction:
    """Where a gateway's route sends a request, and how it is changed on the way."""

    target: GatewayTarget
    rewrite: HttpRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcGatewayAction:
    """Where a gateway's route sends a gRPC call."""

    target: GatewayTarget
    rewrite: GrpcRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGatewayRoute:
    """A gateway's route of http or http2."""

    match: HttpGatewayRouteMatch
    action: HttpGatewayAction


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcGatewayRoute:
    """A gateway's route of gRPC calls."""

    match: GrpcGatewayRouteMatch
    action: GrpcGatewayAction


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRouteSpec:
    """A gateway's route and its rank."""

    exactly_one: ClassVar = ("http_route", "http2_route", "grpc_route")

    priority: Priority | None = None
    http_route: HttpGatewayRoute | None = None
    http2_route: HttpGatewayRoute | None = None
    grpc_route: GrpcGatewayRoute | None = None

    @property
    def http(self) -> HttpGatewayRoute | None:
        """The route where it is one of http or http2."""
        return self.http_route or self.http2_route

    @property
    def route(self) -> HttpGatewayRoute | GrpcGatewayRoute:
        """The one route that is set."""
        found = self.http or self.grpc_route
        if found is None:
            raise ValueError("a gateway route's spec has one of httpRoute, http2Route, grpcRoute")
        return found

    @property
    def protocol(self) -> Literal["http", "http2", "grpc"]:
        """The protocol of the one route that is set."""
        if self.http_route:
            return "http"
        return "http2" if self.http2_route else "grpc"

    @property
    def field(self) -> str:
        """The mesh file's field of the one route that is set, such as ``httpRoute``."""
        return f"{self.protocol}Route"

    @property
    def target(self) -> GatewayTarget:
        """Where the one route that is set leads."""
        return self.route.action.target


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoute:
    """A named rule of a virtual gateway."""

    gateway_route_name: Name
    spec: GatewayRouteSpec
    mesh_owner: AccountId | None = None
    tags: Tags = field(default_factory=dict)
