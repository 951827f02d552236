"""What a route asks of a request: path, headers, query, metadata, host name."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from meshml_dbx.mesh.limits import HostName, Limit, Port, Text, UrlPath

HttpMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """A path that must be met in full: as a text, or by a regular expression."""

    exactly_one: ClassVar = ("exact", "regex")

    exact: UrlPath | None = None
    regex: Text | None = None


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
class QueryParameterMatchMethod:
    """The value that a query parameter must have."""

    exact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParameterMatch:
    """A query parameter that a request must have; without match: with any value."""

    name: str
    match: QueryParameterMatchMethod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostnameMatch:
    """The host that a gateway is called by: in full, or by its end."""

    exactly_one: ClassVar = ("exact", "suffix")

    exact: HostName | None = None
    suffix: HostName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRouteMatch:
    """Which requests a route takes; without prefix and path, whatever their path."""

    at_most_one: ClassVar = ("prefix", "path")

    prefix: UrlPath | None = None
    path: PathMatch | None = None
    method: HttpMethod | None = None
    scheme: Literal["http", "https"] | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Limit(0, 10)] = ()
    query_parameters: Annotated[tuple[QueryParameterMatch, ...], Limit(0, 10)] = ()
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRouteMatch:
    """Which gRPC calls a route takes; a method needs its service."""

    service_name: str | None = None
    method_name: Annotated[str, Limit(1, 50)] | None = None
    metadata: Annotated[tuple[HeaderMatch, ...], Limit(0, 10)] = ()
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRouteMatch:
    """Which connections a route takes."""

    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGatewayRouteMatch:
    """Which requests a gateway's route takes."""

    at_most_one: ClassVar = ("prefix", "path")

    prefix: UrlPath | None = None
    path: PathMatch | None = None
    hostname: HostnameMatch | None = None
    method: HttpMethod | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Limit(0, 10)] = ()
    query_parameters: Annotated[tuple[QueryParameterMatch, ...], Limit(0, 10)] = ()
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcGatewayRouteMatch:
    """Which gRPC calls a gateway's route takes."""

    service_name: str | None = None
    hostname: HostnameMatch | None = None
    metadata: Annotated[tuple[HeaderMatch, ...], Limit(0, 10)] = ()
    port: Port | None = None
