"""The one table of a call record: Envoy's operator, the JSON key, the Delta column, type and unit.

The Envoy plane renders its log format from ``FIELDS`` and ``CONNECTION_FIELDS``, the parser reads
lines by them, the lake makes its DDL of them and the diagnosis names their columns. Goes in: one
decoded JSON object. Comes out: a ``Call``, ``Attempt`` or ``Connection``, or the reason why not.
Operators and their null rules: Envoy 1.40, "Access logging".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.context import (
    ORIGIN_FLAGS_HEADER,
    ORIGIN_HEADER,
    RUN_ID_HEADER,
    STAGE_HEADER,
)
from meshml_dbx.traffic.pattern import pattern_of

RECORD_KEY = "_record"
TYPE_KEY = "_type"
METADATA_NAMESPACE = "meshml"

START_TYPE = "DownstreamStart"
PERIODIC_TYPE = "DownstreamPeriodic"
END_TYPE = "DownstreamEnd"
UNFINISHED_TYPE = "Unfinished"
"""Ours: the last that is known of a call whose sidecar died before it could log the end."""

type_ = Literal["text", "number", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record, from Envoy to Delta.

    ``operator`` is None for what the sidecar writes as a literal into each line, and for what only
    an in-process recorder knows.

    >>> [f.unit for f in FIELDS if f.column == "first_byte_us"]
    ['us']
    """

    column: str
    operator: str | None = None
    kind: type_ = "text"
    unit: str = ""
    on_attempt: bool = True
    key: str = ""

    def json_key(self) -> str:
        """The key in the JSON line: the column's name unless another is given."""
        return self.key or self.column

    @property
    def is_quoted_number(self) -> bool:
        """Whether it is a number that Envoy takes from a header, and so writes as a text: "7"."""
        return self.kind == "number" and (self.operator or "").startswith("%REQ(")


def _duration(column: str, start: str, end: str, *, on_attempt: bool = True) -> Field:
    return Field(
        column=column,
        operator=f"%COMMON_DURATION({start}:{end}:us)%",
        kind="number",
        unit="us",
        on_attempt=on_attempt,
    )


def _metadata(column: str, of: str, key: str) -> Field:
    return Field(column=column, operator=f"%METADATA({of}:{METADATA_NAMESPACE}:{key})%")


LITERALS = (
    Field(column="observer"),
    Field(column="mesh"),
    Field(column="sidecar_id"),
    Field(column="process_id"),
    Field(column="client"),
    Field(column="virtual_node"),
    Field(column="environment"),
)

CLIENT_OBSERVER = "client"
"""Who says what a process itself recorded of its calls; a proxy says ``egress`` or ``ingress``."""
WAITING_OBSERVERS = ("egress", CLIENT_OBSERVER)
"""Whose calls are waits: the caller's side of a call, so that none counts twice."""

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_TIME_LENGTH = len("2026-11-23T05:08:42.566797Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LARGEST_NUMBER = 2**63 - 1
"""What a column of numbers can hold, here as in Delta."""
START_TIME = Field(
    column="start_time",
    operator="%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
    kind="time",
    unit="UTC us",
)
TYPE = Field(column="type", key=TYPE_KEY, operator="%ACCESS_LOG_TYPE%")

CLIENT_FIELDS = (
    Field(column="thread", on_attempt=False),
    Field(column="resource", kind="number", on_attempt=False),
    Field(column="spark_stage", kind="number", on_attempt=False),
    Field(column="spark_partition", kind="number", on_attempt=False),
    Field(column="spark_attempt", kind="number", on_attempt=False),
)
"""What only the calling process itself knows (observer ``client``); no proxy writes these.

``resource`` tells calls for the same thing from others without telling the thing: a hash, with a
key that the process forgets at its end, of method, address and query. 0 is never one."""

FIELDS: tuple[Field, ...] = (
    TYPE,
    *LITERALS,
    START_TIME,
    Field(column="request_id", operator="%REQ(X-REQUEST-ID)%"),
    Field(column="method", operator="%REQ(:METHOD)%"),
    Field(column="authority", operator="%REQ(:AUTHORITY)%"),
    Field(column="path", operator="%PATH(NQ)%"),
    Field(column="protocol", operator="%PROTOCOL%", on_attempt=False),
    _metadata("virtual_service", "ROUTE", "virtual_service"),
    _metadata("mesh_version", "ROUTE", "mesh_version"),
    Field(column="route", operator="%ROUTE_NAME%"),
    _metadata("target", "CLUSTER", "virtual_node"),
    Field(column="code", operator="%RESPONSE_CODE%", kind="number"),
    Field(column="details", operator="%RESPONSE_CODE_DETAILS%", on_attempt=False),
    Field(column="flags", operator="%RESPONSE_FLAGS%"),
    Field(
        column="attempts",
        operator="%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        kind="number",
        on_attempt=False,
    ),
    Field(column="attempt", operator="%REQ(X-ENVOY-ATTEMPT-COUNT)%", kind="number"),
    Field(column="bytes_in", operator="%BYTES_RECEIVED%", kind="number", unit="B"),
    Field(column="bytes_out", operator="%BYTES_SENT%", kind="number", unit="B"),
    Field(column="duration_ms", operator="%DURATION%", kind="number", unit="ms"),
    _duration("receive_request_us", "DS_RX_BEG", "DS_RX_END", on_attempt=False),
    _duration("to_upstream_us", "DS_RX_BEG", "US_TX_BEG"),
    _duration("overhead_us", "DS_RX_END", "US_TX_BEG", on_attempt=False),
    _duration("send_us", "US_TX_BEG", "US_TX_END"),
    _duration("first_byte_us", "US_TX_END", "US_RX_BEG"),
    _duration("receive_us", "US_RX_BEG", "US_RX_END"),
    _duration("respond_us", "DS_TX_BEG", "DS_TX_END", on_attempt=False),
    _duration("total_us", "DS_RX_BEG", "DS_TX_END", on_attempt=False),
    Field(
        column="pool_ready_ms",
        operator="%UPSTREAM_CONNECTION_POOL_READY_DURATION%",
        kind="number",
        unit="ms",
    ),
    # Connect and TLS times are the connection's: Envoy repeats them on each call that reuses it.
    _duration("connect_us", "US_CX_BEG", "US_CX_END"),
    _duration("tls_us", "US_CX_END", "US_HS_END"),
    Field(column="upstream_cluster", operator="%UPSTREAM_CLUSTER%"),
    Field(column="upstream_host", operator="%UPSTREAM_HOST%"),
    Field(column="upstream_local_address", operator="%UPSTREAM_LOCAL_ADDRESS%"),
    Field(column="upstream_connection_id", operator="%UPSTREAM_CONNECTION_ID%", kind="number"),
    Field(column="upstream_peer", operator="%UPSTREAM_PEER_URI_SAN%"),
    Field(column="upstream_failure", operator="%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    Field(column="connection_id", operator="%CONNECTION_ID%", kind="number"),
    Field(column="downstream_address", operator="%DOWNSTREAM_REMOTE_ADDRESS%"),
    Field(column="downstream_peer", operator="%DOWNSTREAM_PEER_URI_SAN%"),
    Field(column="origin", operator=f"%RESP({ORIGIN_HEADER.upper()})%"),
    Field(column="origin_flags", operator=f"%RESP({ORIGIN_FLAGS_HEADER.upper()})%"),
    Field(column="run_id", operator=f"%REQ({RUN_ID_HEADER.upper()})%"),
    Field(column="stage", operator=f"%REQ({STAGE_HEADER.upper()})%"),
    Field(column="trace_parent", operator="%REQ(TRACEPARENT)%"),
    *CLIENT_FIELDS,
)
"""Call records (``_record`` = call); those with ``on_attempt`` make the attempt records too."""

ATTEMPT_FIELDS: tuple[Field, ...] = tuple(field for field in FIELDS if field.on_attempt)

CONNECTION_FIELDS: tuple[Field, ...] = (
    TYPE,
    *LITERALS,
    START_TIME,
    Field(column="connection_id", operator="%CONNECTION_ID%", kind="number"),
    Field(column="downstream_address", operator="%DOWNSTREAM_REMOTE_ADDRESS%"),
    Field(column="downstream_local_address", operator="%DOWNSTREAM_LOCAL_ADDRESS%"),
    Field(column="downstream_peer", operator="%DOWNSTREAM_PEER_URI_SAN%"),
    Field(column="downstream_subject", operator="%DOWNSTREAM_PEER_SUBJECT%"),
    Field(column="tls_version", operator="%DOWNSTREAM_TLS_VERSION%"),
    Field(column="failure", operator="%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"),
    Field(column="virtual_service"),
    _metadata("target", "CLUSTER", "virtual_node"),
    Field(column="upstream_host", operator="%UPSTREAM_HOST%"),
    Field(column="upstream_failure", operator="%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    Field(column="flags", operator="%RESPONSE_FLAGS%"),
    Field(column="bytes_in", operator="%BYTES_RECEIVED%", kind="number", unit="B"),
    Field(column="bytes_out", operator="%BYTES_SENT%", kind="number", unit="B"),
    Field(column="duration_ms", operator="%DURATION%", kind="number", unit="ms"),
)
"""Connection records (``_record`` = connection): the only place where refused handshakes show.

Those of a caller (observer ``egress``) are its plain TCP connections, each with where it led."""


class BadLineError(ValueError):
    """Raised when a line is no record of ours; the text is the reason that quarantine stores."""


def micros_of(text: str) -> int:
    """UTC microseconds since 1970 of a record's time stamp.

    >>> micros_of("2026-11-23T05:08:42.566797Z")
    1795410522566797
    """
    # Ten times as fast as strptime, which counts: every line has a time.
    if len(text) != _TIME_LENGTH or text[10] != "T" or text[-1] != "Z":
        raise ValueError(f"time data {text!r} does not match format {TIME_FORMAT!r}")
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def time_text(micros: int) -> str:
    """The time stamp that a record carries for UTC microseconds since 1970.

    >>> time_text(1795410522566797)
    '2026-11-23T05:08:42.566797Z'
    """
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second_text(seconds)}.{rest:06}Z"


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    """A recorder stamps many lines of one second, and strftime takes longer than all the rest."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def read_text(value: object) -> str | None:
    """A text, or None for what Envoy writes where there is none: null, or a dash."""
    return None if value is None or value == "-" else str(value)


def read_number(value: object) -> int | None:
    """A whole number, however the proxy's version wrote it: 7, 1e+05, "7", "-", null.

    Raises:
        BadLineError: it is no number, or one that a column of 64 bits cannot hold.
    """
    if value is None or value == "-" or isinstance(value, bool):
        return None
    try:
        number = value if isinstance(value, int) else _whole(str(value))
    except (ValueError, OverflowError) as error:
        raise BadLineError(f"not a number: {value!r:.40}") from error
    if not -LARGEST_NUMBER <= number <= LARGEST_NUMBER:
        raise BadLineError(f"not a number of 64 bits: {value!r:.40}")
    return number


def _whole(text: str) -> int:
    """By way of a float only where it must be: those have 53 bits."""
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def read_time(value: object) -> int:
    """UTC microseconds of a time stamp; every record must have one."""
    try:
        return micros_of(str(value))
    except ValueError as error:
        raise BadLineError(f"not a time: {value!r:.40}") from error


READERS: dict[type_, Callable[[object], str | int | None]] = {
    "text": read_text,
    "number": read_number,
    "time": read_time,
}


def read_fields(values: Mapping[str, object], fields: tuple[Field, ...]) -> dict[str, object]:
    """The values of a record by column; keys that we do not know are left out.

    Raises:
        BadLineError: when a number or the time cannot be read.
    """
    return {field.column: READERS[field.kind](values.get(field.json_key())) for field in fields}


def call_of(values: Mapping[str, object]) -> Call:
    """The call that a decoded call line tells of, at start, in flight or at its end.

    Raises:
        BadLineError: when the line is no call record.
    """
    read = read_fields(values, FIELDS)
    kind = str(read.pop("type"))
    pattern = pattern_of(read_text(read["method"]), read_text(read["path"]))
    return Call(type=kind, pattern=pattern, **read)  # type: ignore[arg-type]  # the table and the class have the same columns: tested


def attempt_of(values: Mapping[str, object]) -> Attempt:
    """The attempt that a decoded attempt line tells of.

    Raises:
        BadLineError: when the line is no attempt record.
    """
    read = read_fields(values, ATTEMPT_FIELDS)
    read.pop("type")
    return Attempt(**read)  # type: ignore[arg-type]  # as above


def connection_of(values: Mapping[str, object]) -> Connection:
    """The connection that a decoded listener line tells of.

    Raises:
        BadLineError: when the line is no connection record.
    """
    read = read_fields(values, CONNECTION_FIELDS)
    read.pop("type")
    return Connection(**read)  # type: ignore[arg-type]  # as above
