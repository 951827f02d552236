"""What a route's policies are in Envoy's words: retries and time-outs.

Goes in: a part of a route, as the mesh file declares it. Comes out: the same as Envoy reads it,
with App Mesh's defaults filled in where nothing is declared, and what it injected where the mesh
says so.
"""

from meshml_dbx.mesh.routing import DEFAULT_IDLE_S, DEFAULT_TIMEOUT_S
from meshml_dbx.mesh.spec import (
    Duration,
    GrpcRetryPolicy,
    GrpcRoute,
    HttpRoute,
    HttpTimeout,
    InjectedDefaults,
    RetryPolicy,
)
from meshml_dbx.planes.envoy_terms import UNLIMITED, Body, duration, extension

_PREVIOUS_HOSTS = extension(
    "retry_host_predicates.previous_hosts",
    "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
)
_STATUS_CODES = {
    "server-error": (500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511),
    "gateway-error": (502, 503, 504),
    "client-error": (409,),
}
_AGAIN: Body = {
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    "retry_host_predicate": [_PREVIOUS_HOSTS],
    "host_selection_retry_max_attempts": 3,
}


# --- retries ----------------------------------------------------------------------------------


def retries(route: HttpRoute | GrpcRoute | None, injected: InjectedDefaults) -> Body:
    """The retries of a route, or, without one, of a service that a node provides by itself."""
    if route and route.retry_policy:
        return {"retry_policy": retry_policy(route.retry_policy)}
    return {"retry_policy": _injected_retries()} if injected == "modern" else {}


def retry_policy(policy: RetryPolicy | GrpcRetryPolicy) -> Body:
    """Which failures are tried again.

    Server errors are lists of codes, as App Mesh made them, since Envoy's own 5xx means more: an
    answer is tried again, a connection that breaks or a try that is cut by its time-out is not.
    """
    events = policy.http_retry_events
    codes = sorted({code for event in events for code in _STATUS_CODES.get(event, ())})
    conditions = {
        "retriable-status-codes": bool(codes),
        "refused-stream": "stream-error" in events,
        "connect-failure": "connection-error" in policy.tcp_retry_events,
    }
    named = [name for name, wanted in conditions.items() if wanted]
    if isinstance(policy, GrpcRetryPolicy):
        named += dict.fromkeys(policy.grpc_retry_events)  # Envoy's names are the same
    retry: Body = {
        "retry_on": ",".join(named),
        "retriable_status_codes": codes,
        "num_retries": policy.max_retries,
        **_AGAIN,
    }
    if policy.per_retry_timeout.value:
        retry["per_try_timeout"] = duration(policy.per_retry_timeout.seconds)
    return retry


def _injected_retries() -> Body:
    """What App Mesh did for accounts whose first mesh came after July 2020."""
    return {
        "retry_on": "unavailable,retriable-status-codes,connect-failure,refused-stream,reset",
        "retriable_status_codes": [503],
        "num_retries": 2,
        **_AGAIN,
    }


# --- limits -----------------------------------------------------------------------------------


def caller_limits(injected: InjectedDefaults) -> Body:
    """How much one caller may have in flight towards a target.

    Envoy's own limits, which old accounts had, let three calls at a time be tried again and drop
    the retries of all others; without them there is no limit.
    """
    limits = (1024, 1024, 1024, 3) if injected == "legacy" else (UNLIMITED,) * 4
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict(zip(names, limits, strict=True))]}


# --- time-outs --------------------------------------------------------------------------------


def time_outs(timeout: HttpTimeout | None) -> Body:
    """How long a call, and silence in it, may last; 0 lifts the limit in both vocabularies."""
    whole = timeout.per_request.seconds if timeout and timeout.per_request else DEFAULT_TIMEOUT_S
    return {
        "timeout": duration(whole),
        "idle_timeout": idle_time(timeout.idle if timeout else None),
    }


def grpc_time_outs(timeout: HttpTimeout | None) -> Body:
    """The same for a gRPC call, whose own deadline counts where it is shorter."""
    found = time_outs(timeout)
    return {**found, "max_stream_duration": {"grpc_timeout_header_max": found["timeout"]}}


def idle_time(declared: Duration | None) -> str:
    """How long a stream or a connection may be silent."""
    return duration(declared.seconds if declared else DEFAULT_IDLE_S)
