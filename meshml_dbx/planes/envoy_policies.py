"""What a route's match and policies are in Envoy's words.

Goes in: a part of a route, as the mesh file declares it. Comes out: the same as Envoy reads it,
with App Mesh's defaults filled in where nothing is declared.
"""

from meshml_dbx.mesh.routing import DEFAULT_TIMEOUT_S
from meshml_dbx.mesh.spec import HeaderMatch, HttpRouteMatch, HttpTimeout, RetryPolicy
from meshml_dbx.planes.envoy_terms import Body, duration, extension

DEFAULT_IDLE_S = 300.0
_PREVIOUS_HOSTS = extension(
    "retry_host_predicates.previous_hosts",
    "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
)
_STATUS_CODES = {
    "server-error": (500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511),
    "gateway-error": (502, 503, 504),
    "client-error": (409,),
}


def request_match(match: HttpRouteMatch) -> Body:
    """Which requests a route takes."""
    path: Body = {"path": match.path.exact} if match.path else {"prefix": match.prefix}
    headers = [_header_match(header) for header in match.headers]
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    return {**path, "headers": headers}


def _header_match(header: HeaderMatch) -> Body:
    return {"name": header.name, "invert_match": header.invert, **_value_match(header)}


def _value_match(header: HeaderMatch) -> Body:
    method = header.match
    if method is None:
        return {"present_match": True}
    if method.range:
        return {"range_match": {"start": method.range.start, "end": method.range.end}}
    if method.regex is not None:
        return {"string_match": {"safe_regex": {"regex": method.regex}}}
    values = {"exact": method.exact, "prefix": method.prefix, "suffix": method.suffix}
    return {"string_match": {key: value for key, value in values.items() if value is not None}}


def retry_policy(policy: RetryPolicy) -> Body:
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
    retry: Body = {
        "retry_on": ",".join(name for name, wanted in conditions.items() if wanted),
        "retriable_status_codes": codes,
        "num_retries": policy.max_retries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [_PREVIOUS_HOSTS],
        "host_selection_retry_max_attempts": 3,
    }
    if policy.per_retry_timeout.value:
        retry["per_try_timeout"] = duration(policy.per_retry_timeout.seconds)
    return retry


def time_outs(timeout: HttpTimeout | None) -> Body:
    """How long a call, and silence in it, may last; 0 lifts the limit in both vocabularies."""
    whole = timeout.per_request.seconds if timeout and timeout.per_request else DEFAULT_TIMEOUT_S
    idle = timeout.idle.seconds if timeout and timeout.idle else DEFAULT_IDLE_S
    return {"timeout": duration(whole), "idle_timeout": duration(idle)}
