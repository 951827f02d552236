"""One call, attempt, connection or edge as frozen values; the columns of the Delta tables.

Times are UTC microseconds since 1970; a duration carries its unit in its name; None is "not
known" or "did not happen". The meaning of each field is Envoy's, see ``access_log.FIELDS``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as one observer saw it: at its start, in flight or at its end.

    ``(request_id, start_time, observer, sidecar_id)`` is its key. ``type`` tells how far it was.

    >>> Call(type="DownstreamEnd", start_time=0, observer="egress", sidecar_id="a-1").retries
    0
    """

    type: str
    start_time: int
    observer: str
    sidecar_id: str
    mesh: str | None = None
    process_id: str | None = None
    client: str | None = None
    virtual_node: str | None = None
    environment: str | None = None
    request_id: str | None = None
    method: str | None = None
    authority: str | None = None
    path: str | None = None
    pattern: str | None = None
    protocol: str | None = None
    virtual_service: str | None = None
    mesh_version: str | None = None
    route: str | None = None
    target: str | None = None
    code: int | None = None
    details: str | None = None
    flags: str | None = None
    attempts: int | None = None
    attempt: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    duration_ms: int | None = None
    receive_request_us: int | None = None
    to_upstream_us: int | None = None
    overhead_us: int | None = None
    send_us: int | None = None
    first_byte_us: int | None = None
    receive_us: int | None = None
    respond_us: int | None = None
    total_us: int | None = None
    pool_ready_ms: int | None = None
    connect_us: int | None = None
    tls_us: int | None = None
    upstream_cluster: str | None = None
    upstream_host: str | None = None
    upstream_local_address: str | None = None
    upstream_connection_id: int | None = None
    upstream_peer: str | None = None
    upstream_failure: str | None = None
    connection_id: int | None = None
    downstream_address: str | None = None
    downstream_peer: str | None = None
    origin: str | None = None
    origin_flags: str | None = None
    run_id: str | None = None
    stage: str | None = None
    trace_parent: str | None = None
    thread: str | None = None
    resource: int | None = None
    spark_stage: int | None = None
    spark_partition: int | None = None
    spark_attempt: int | None = None

    @property
    def retries(self) -> int:
        """How many attempts were made after the first."""
        return max((self.attempts or 1) - 1, 0)

    @property
    def duration_us(self) -> int:
        """How long the call took so far: exact where Envoy says it, else its milliseconds."""
        return self.total_us if self.total_us is not None else (self.duration_ms or 0) * 1000

    @property
    def end_time(self) -> int:
        """When the call ended, or, of one in flight, when its last line was written."""
        return self.start_time + self.duration_us

    @property
    def is_tunnel(self) -> bool:
        """Whether this is an https connection that the proxy carried without seeing into it."""
        return self.method == "CONNECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a call; the caller's proxy makes several where the route has a retry policy."""

    start_time: int
    observer: str
    sidecar_id: str
    mesh: str | None = None
    process_id: str | None = None
    client: str | None = None
    virtual_node: str | None = None
    environment: str | None = None
    request_id: str | None = None
    method: str | None = None
    authority: str | None = None
    path: str | None = None
    virtual_service: str | None = None
    mesh_version: str | None = None
    route: str | None = None
    target: str | None = None
    code: int | None = None
    flags: str | None = None
    attempt: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    duration_ms: int | None = None
    to_upstream_us: int | None = None
    send_us: int | None = None
    first_byte_us: int | None = None
    receive_us: int | None = None
    pool_ready_ms: int | None = None
    connect_us: int | None = None
    tls_us: int | None = None
    upstream_cluster: str | None = None
    upstream_host: str | None = None
    upstream_local_address: str | None = None
    upstream_connection_id: int | None = None
    upstream_peer: str | None = None
    upstream_failure: str | None = None
    connection_id: int | None = None
    downstream_address: str | None = None
    downstream_peer: str | None = None
    origin: str | None = None
    origin_flags: str | None = None
    run_id: str | None = None
    stage: str | None = None
    trace_parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection to a sidecar's listener, refused handshakes included (``failure``).

    A caller's plain TCP connection also knows where it led.
    """

    start_time: int
    observer: str
    sidecar_id: str
    mesh: str | None = None
    process_id: str | None = None
    client: str | None = None
    virtual_node: str | None = None
    environment: str | None = None
    connection_id: int | None = None
    downstream_address: str | None = None
    downstream_local_address: str | None = None
    downstream_peer: str | None = None
    downstream_subject: str | None = None
    tls_version: str | None = None
    failure: str | None = None
    virtual_service: str | None = None
    target: str | None = None
    upstream_host: str | None = None
    upstream_failure: str | None = None
    flags: str | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Who called whom in one hour, how often and how it went."""

    hour: int
    client: str | None
    virtual_service: str | None
    route: str | None
    target: str | None
    calls: int
    errors: int
    retries: int
    duration_us: int
    p50_us: int
    p95_us: int
    bytes_in: int
    bytes_out: int
