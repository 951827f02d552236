"""Time-outs, pools, checks, retries and logs, as App Mesh declares them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from meshml_dbx.mesh.limits import (
    Count,
    Limit,
    LogPart,
    LogText,
    Percent,
    Port,
    PositiveCount,
    Text,
)

Protocol = Literal["http", "http2", "grpc", "tcp"]
HttpEvent = Literal["server-error", "gateway-error", "client-error", "stream-error"]
GrpcEvent = Literal[
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"
]


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


# --- time-outs --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimeout:
    """How long a request, or silence on its connection, may last; 0 lifts the limit."""

    per_request: Duration | None = None
    idle: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpTimeout:
    """How long a connection may be silent; 0 lifts the limit."""

    idle: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTimeout:
    """The time-outs of a listener, by protocol."""

    exactly_one: ClassVar = ("http", "http2", "grpc", "tcp")

    http: HttpTimeout | None = None
    http2: HttpTimeout | None = None
    grpc: HttpTimeout | None = None
    tcp: TcpTimeout | None = None

    @property
    def field(self) -> str:
        """The mesh file's field of the one protocol that is set."""
        return next(name for name in self.exactly_one if getattr(self, name))

    @property
    def of_requests(self) -> HttpTimeout | None:
        """The time-outs of http, http2 or grpc; None for tcp, which has no requests."""
        return self.http or self.http2 or self.grpc

    @property
    def idle(self) -> Duration | None:
        """How long silence may last, whatever the protocol."""
        found = self.of_requests or self.tcp
        return found.idle if found else None


# --- pools, outliers, health checks -----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectionPool:
    """How many connections and waiting requests the program behind a listener gets."""

    max_connections: PositiveCount
    max_pending_requests: PositiveCount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPool:
    """How many requests at a time the program behind an http2 or grpc listener gets."""

    max_requests: PositiveCount


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpConnectionPool:
    """How many connections the program behind a tcp listener gets."""

    max_connections: PositiveCount


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPool:
    """The connection pool of a node's listener, by protocol."""

    exactly_one: ClassVar = ("http", "http2", "grpc", "tcp")

    http: HttpConnectionPool | None = None
    http2: RequestPool | None = None
    grpc: RequestPool | None = None
    tcp: TcpConnectionPool | None = None

    @property
    def field(self) -> str:
        """The mesh file's field of the one protocol that is set."""
        return next(name for name in self.exactly_one if getattr(self, name))

    @property
    def max_connections(self) -> int | None:
        """The most connections, where the protocol counts them."""
        found = self.http or self.tcp
        return found.max_connections if found else None

    @property
    def max_pending_requests(self) -> int | None:
        """The most requests that may wait for a connection, where that is limited."""
        return self.http.max_pending_requests if self.http else None

    @property
    def max_requests(self) -> int | None:
        """The most requests at a time, where the protocol counts them."""
        found = self.http2 or self.grpc
        return found.max_requests if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConnectionPool:
    """The connection pool of a gateway's listener, by protocol."""

    exactly_one: ClassVar = ("http", "http2", "grpc")

    http: HttpConnectionPool | None = None
    http2: RequestPool | None = None
    grpc: RequestPool | None = None

    @property
    def field(self) -> str:
        """The mesh file's field of the one protocol that is set."""
        return next(name for name in self.exactly_one if getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When clients stop calling an endpoint of this node for a while."""

    max_server_errors: PositiveCount
    interval: Duration
    base_ejection_duration: Duration
    max_ejection_percent: Percent


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How each caller's proxy asks an endpoint whether it is well."""

    protocol: Protocol
    interval_millis: Annotated[int, Limit(5000, 300000)]
    timeout_millis: Annotated[int, Limit(2000, 60000)]
    healthy_threshold: Annotated[int, Limit(2, 10)]
    unhealthy_threshold: Annotated[int, Limit(2, 10)]
    path: str | None = None
    port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayHealthCheck:
    """How a gateway's endpoint is asked whether it is well."""

    protocol: Literal["http", "http2", "grpc"]
    interval_millis: Annotated[int, Limit(5000, 300000)]
    timeout_millis: Annotated[int, Limit(2000, 60000)]
    healthy_threshold: Annotated[int, Limit(2, 10)]
    unhealthy_threshold: Annotated[int, Limit(2, 10)]
    path: str | None = None
    port: Port | None = None


# --- retries ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Which failures are tried again, how often, and how long each try may last."""

    max_retries: Count
    per_retry_timeout: Duration
    http_retry_events: Annotated[tuple[HttpEvent, ...], Limit(1, 25)] = ()
    tcp_retry_events: Annotated[tuple[Literal["connection-error"], ...], Limit(1, 1)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRetryPolicy:
    """A retry policy that also knows gRPC's own failures."""

    max_retries: Count
    per_retry_timeout: Duration
    http_retry_events: Annotated[tuple[HttpEvent, ...], Limit(1, 25)] = ()
    tcp_retry_events: Annotated[tuple[Literal["connection-error"], ...], Limit(1, 1)] = ()
    grpc_retry_events: Annotated[tuple[GrpcEvent, ...], Limit(1, 5)] = ()


# --- logs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LogField:
    """One key of a JSON access log and Envoy's operator behind it."""

    key: LogPart
    value: LogPart


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """How a line of the access log looks: a text, or a JSON object."""

    exactly_one: ClassVar = ("text", "json")

    text: LogText | None = None
    json: tuple[LogField, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAccessLog:
    """Where the access log is written, and how."""

    path: Text
    format: LogFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """The access log that App Mesh's proxy wrote, beside meshml's own."""

    file: FileAccessLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """What is logged."""

    access_log: AccessLog | None = None
