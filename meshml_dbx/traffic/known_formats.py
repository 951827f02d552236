"""The log formats that people have without having written them: Envoy's, Istio's, AWS's.

Text formats are given as their makers give them to Envoy, JSON ones as tables: key → column of a
call, or the operator that stands behind the key. Where a log is JSON of somebody's own, ``JSON``
has the usual keys; its lines have some of them.
"""

import json
from collections.abc import Mapping

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.traffic.log_format import LogFormat, text_format
from meshml_dbx.traffic.log_operators import value_of, value_of_column

_REQUEST = '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"'
_SIZES = "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"
_HEADERS = (
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" '
    '"%UPSTREAM_HOST%"'
)
_START = f"[%START_TIME%] {_REQUEST} %RESPONSE_CODE%"
_REASON = '"%UPSTREAM_TRANSPORT_FAILURE_REASON%"'
_MIXER = '"%DYNAMIC_METADATA(istio.mixer:status)%"'
_ISTIO_2019 = (
    "%UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME%"
)
_ISTIO = f"{_ISTIO_2019} %ROUTE_NAME%"

ENVOY_TEXT = f"{_START} %RESPONSE_FLAGS% {_SIZES} {_HEADERS}\n"
"""What Envoy writes when nobody says otherwise, and App Mesh with it."""

_TEXTS = {
    "istio-default": (
        f"{_START} %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
        f"{_REASON} {_SIZES} {_HEADERS} {_ISTIO}\n"
    ),
    "istio-2020": f"{_START} %RESPONSE_FLAGS% {_REASON} {_SIZES} {_HEADERS} {_ISTIO}\n",
    "istio-2019-09": f"{_START} %RESPONSE_FLAGS% {_MIXER} {_REASON} {_SIZES} {_HEADERS} {_ISTIO}\n",
    "istio-2019-03": f"{_START} %RESPONSE_FLAGS% {_MIXER} {_SIZES} {_HEADERS} {_ISTIO_2019}\n",
    "istio-2019-01": f"{_START} %RESPONSE_FLAGS% {_SIZES} {_HEADERS} {_ISTIO_2019}\n",
    # As far as it is documented: Envoy's own without the flags, so a fault shows by its code only.
    "service-connect-text": f"{_START} {_SIZES} {_HEADERS}\n",
}

_SERVICE_TIME = "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"
_USER_AGENT = "%REQ(USER-AGENT)%"
_FORWARDED_FOR = "%REQ(X-FORWARDED-FOR)%"

_SERVICE_CONNECT = {
    "start_time": "start_time",
    "method": "method",
    "path": "path",
    "protocol": "protocol",
    "response_code": "code",
    "bytes_received": "bytes_in",
    "bytes_sent": "bytes_out",
    "duration": "duration_ms",
    "upstream_service_time": _SERVICE_TIME,
    "forwarded_for": _FORWARDED_FOR,
    "user_agent": _USER_AGENT,
    "request_id": "request_id",
    "authority": "authority",
    "upstream_host": "upstream_host",
}

LATTICE_OBSERVER = "gateway"
"""Lattice stands between the two, and is neither's sidecar."""

# Lattice's two part durations measure what none of ours does, and stay in `more` under their keys.
_LATTICE = {
    "startTime": "start_time",
    "requestMethod": "method",
    "requestPath": "path",
    "protocol": "protocol",
    "hostHeader": "authority",
    "requestId": "request_id",
    "responseCode": "code",
    "failureReason": "details",
    "bytesReceived": "bytes_in",
    "bytesSent": "bytes_out",
    "duration": "duration_ms",
    "serviceNetworkArn": "mesh",
    "serviceArn": "virtual_service",
    "targetGroupArn": "upstream_cluster",
    "targetIpPort": "upstream_host",
    "sourceIpPort": "downstream_address",
    "callerPrincipal": "downstream_peer",
    "tlsVersion": "tls_version",
    "userAgent": _USER_AGENT,
}

JSON: Mapping[str, str] = {
    **_SERVICE_CONNECT,
    "startTime": "start_time",
    "@timestamp": "start_time",
    "timestamp": "start_time",
    "time": "start_time",
    "access_log_type": "type",
    "http_method": "method",
    "request_method": "method",
    "verb": "method",
    "request_path": "path",
    "x-envoy-original-path": "path",
    "x-envoy-origin-path": "path",
    "url_path": "path",
    "http_version": "protocol",
    "status": "code",
    "status_code": "code",
    "code": "code",
    "responseCode": "code",
    "response_flags": "flags",
    "responseFlags": "flags",
    "flags": "flags",
    "response_flags_long": "%RESPONSE_FLAGS_LONG%",
    "response_code_details": "details",
    "details": "details",
    "upstream_transport_failure_reason": "upstream_failure",
    "upstream_failure_reason": "upstream_failure",
    "downstream_transport_failure_reason": "failure",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytesReceived": "bytes_in",
    "bytes_in": "bytes_in",
    "bytesSent": "bytes_out",
    "bytes_out": "bytes_out",
    "duration_ms": "duration_ms",
    "request_duration": "%REQUEST_DURATION%",
    "x-envoy-upstream-service-time": _SERVICE_TIME,
    "x_envoy_upstream_service_time": _SERVICE_TIME,
    "upstream_service_time_ms": _SERVICE_TIME,
    "x_forwarded_for": _FORWARDED_FOR,
    "x-forwarded-for": _FORWARDED_FOR,
    "user-agent": _USER_AGENT,
    "userAgent": _USER_AGENT,
    "x_request_id": "request_id",
    "x-request-id": "request_id",
    "requestId": "request_id",
    ":authority": "authority",
    "host": "authority",
    "upstreamHost": "upstream_host",
    "upstream_cluster": "upstream_cluster",
    "upstreamCluster": "upstream_cluster",
    "upstream_local_address": "upstream_local_address",
    "upstream_request_attempt_count": "attempts",
    "attempts": "attempts",
    "downstream_remote_address": "downstream_address",
    "downstream_local_address": "downstream_local_address",
    "route_name": "route",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "connection_id": "connection_id",
    "upstream_connection_id": "upstream_connection_id",
    "upstream_peer_uri_san": "upstream_peer",
    "downstream_peer_uri_san": "downstream_peer",
    "downstream_peer_subject": "downstream_subject",
    "downstream_tls_version": "tls_version",
    "traceparent": "trace_parent",
    "trace_id": "%TRACE_ID%",
    "grpc_status": "%GRPC_STATUS%",
}
"""The usual keys of JSON logs of Envoy, Istio, Contour and Envoy Gateway."""


def _table_format(
    name: str, table: Mapping[str, str], *, needs: tuple[str, ...] = (), observer: str | None = None
) -> LogFormat:
    """The open format of a table; of the keys for one thing the first listed is the first asked.

    An operator stands for what its column holds, so it is as good as the column's own.
    """
    values = (
        value_of(it.strip("%"), key=(key,))
        if it.startswith("%")
        else value_of_column(it, key=(key,))
        for key, it in table.items()
    )
    return LogFormat(
        name=name,
        kind="json",
        source=json.dumps(table),
        parts=tuple(values),
        is_open=True,
        needs=needs,
        observer=observer,
    )


ENVOY_DEFAULT = text_format(ENVOY_TEXT, name="envoy-default")
ENVOY_JSON = _table_format("envoy-json", JSON)

KNOWN: tuple[LogFormat, ...] = (
    ENVOY_DEFAULT,
    *(text_format(text, name=name) for name, text in _TEXTS.items()),
    _table_format(
        "vpc-lattice", _LATTICE, needs=("startTime", "serviceArn"), observer=LATTICE_OBSERVER
    ),
    # Others call that header x_forwarded_for; what else a Service Connect line has, they have too.
    _table_format("service-connect-json", _SERVICE_CONNECT, needs=("start_time", "forwarded_for")),
    ENVOY_JSON,
)
"""Every known format; of two that read a line alike the first is meant."""


def known_format(name: str) -> LogFormat:
    """The known format of that name.

    Raises:
        UnknownNameError: there is none; the message names those there are.

    >>> known_format("envoy-default").kind
    'text'
    """
    for known in KNOWN:
        if known.name == name:
            return known
    raise UnknownNameError(
        f"no log format is named {name!r}",
        advice=f"take one of {', '.join(it.name for it in KNOWN)}, or give the format string",
    )
