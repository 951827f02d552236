"""One line of a foreign access log, read by its format.

Goes in: a ``LogFormat`` and a line. Comes out: a ``LogLine``, whose columns are those of a call, an
attempt or a connection, or a ``BadLineError`` with the reason that quarantine stores. What the
format can know and the line does not have is None; what it cannot know is not there.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CONNECTION_FIELDS,
    FIELDS,
    LARGEST_NUMBER,
    RECORD_KEY,
    BadLineError,
    read_number,
)
from meshml_dbx.traffic.flags import FLAGS, flag_set
from meshml_dbx.traffic.log_format import LogFormat
from meshml_dbx.traffic.log_operators import LogValue
from meshml_dbx.traffic.log_time import read_moment

record_ = Literal["call", "attempt", "connection", "progress"]
Read = str | int | None

OWN_LOG = r"^\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.,]{8,18}\] ?\[[0-9]+\]\[[a-z]{3,8}\]"
"""How Envoy's own log begins, which is mixed into access lines on one stream."""

RECORDS: Mapping[str, record_] = {
    "DownstreamStart": "progress",
    "DownstreamPeriodic": "progress",
    "DownstreamTunnelSuccessfullyEstablished": "progress",
    "UpstreamPoolReady": "progress",
    "UpstreamPeriodic": "progress",
    "TcpUpstreamConnected": "progress",
    "TcpPeriodic": "progress",
    "UdpTunnelUpstreamConnected": "progress",
    "UdpPeriodic": "progress",
    "UpstreamEnd": "attempt",
    "TcpConnectionEnd": "connection",
    "UdpSessionEnd": "connection",
}
"""ACCESS_LOG_TYPE → record. Byte counts of ``progress`` grow from line to line: never add them."""

REQUEST_COLUMNS = ("method", "path", "protocol")
LEAST_KNOWN = 2
"""How many columns beside the time a line of an open format must fill to be an access line."""

INGRESS_CLUSTER = r"^(?:inbound\||cds_ingress_)"
EGRESS_CLUSTER = r"^(?:outbound\||cds_egress_)"
"""Upstream clusters of Istio and App Mesh, which say from which side a line is seen."""
LOOPBACK = r"^(?:127\.|\[::1\]|localhost|/)"
"""An upstream on the proxy's own machine: the node that it stands before."""

_COLUMNS: Mapping[str, frozenset[str]] = {
    "call": frozenset(field.column for field in FIELDS),
    "attempt": frozenset(field.column for field in ATTEMPT_FIELDS),
    "connection": frozenset(field.column for field in CONNECTION_FIELDS),
}
_SHORT_FLAGS = {flag.name: short for short, flag in FLAGS.items()}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_OWN_LOG = re.compile(OWN_LOG)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """What one line says: columns of a call, an attempt or a connection, and all the rest.

    ``values`` has the columns that the format can know, None where the line has none. ``more`` has
    what fills no column of that record, as text. ``is_observer_inferred``: nobody said whose log it
    is, and it was told from the upstream.

    >>> from meshml_dbx.traffic.log_format import text_format
    >>> read_line(text_format("%PROTOCOL% %RESPONSE_FLAGS%"), "HTTP/2 URX,UF").values["flags"]
    'UF,URX'
    """

    record: record_
    values: Mapping[str, Read]
    more: Mapping[str, str]
    is_observer_inferred: bool = False


def read_line(log_format: LogFormat, line: str, *, observer: str | None = None) -> LogLine:
    """The line, read by its format; ``observer`` is whose log it is, where that is known.

    Raises:
        BadLineError: it is no line of that format, or could be read in two ways.
    """
    text = line.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise BadLineError("an empty line")
    if _OWN_LOG.match(text):
        raise BadLineError("a line of Envoy's own log")
    more: dict[str, str] = {}
    find = _find_in_json if log_format.kind == "json" else _find_in_text
    read = _fill(log_format, find(log_format, text, more), more)
    record = _record_of(read)
    columns = _columns_of(record, read)
    values = {column: value for column, value in read.items() if column in columns}
    more |= {
        column: str(value)
        for column, value in read.items()
        if column not in columns and value is not None
    }
    known = observer or log_format.observer
    values["observer"] = known or infer_observer(read)
    return LogLine(record=record, values=values, more=more, is_observer_inferred=known is None)


def infer_observer(values: Mapping[str, Read]) -> str:
    """From which side a line is probably seen: by its cluster's name, else by where it went.

    >>> infer_observer({"upstream_cluster": None, "upstream_host": "127.0.0.1:80"})
    'ingress'
    """
    cluster = str(values.get("upstream_cluster") or "")
    if re.match(INGRESS_CLUSTER, cluster):
        return "ingress"
    if re.match(EGRESS_CLUSTER, cluster):
        return "egress"
    return "ingress" if re.match(LOOPBACK, str(values.get("upstream_host") or "")) else "egress"


# --- finding ------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _ordered(log_format: LogFormat) -> tuple[tuple[int, LogValue], ...]:
    """The values with their positions, what says a column's meaning exactly before the rest."""
    return tuple(sorted(enumerate(log_format.values), key=lambda it: not it[1].is_exact))


@lru_cache(maxsize=64)
def _keys(log_format: LogFormat) -> frozenset[tuple[str, ...]]:
    return frozenset(value.key for value in log_format.values)


def _find_in_text(
    log_format: LogFormat, text: str, _: dict[str, str]
) -> Iterator[tuple[LogValue, object]]:
    found = re.match(log_format.pattern, text)
    if found is None:
        raise BadLineError(f"not of the format {log_format.name}, or to be read in two ways")
    for index, value in _ordered(log_format):
        yield value, found[index + 1]


def _find_in_json(
    log_format: LogFormat, text: str, more: dict[str, str]
) -> Iterator[tuple[LogValue, object]]:
    """The values of the line's keys; unknown keys go to ``more``."""
    held: dict[tuple[str, ...], object] = {}
    _flatten(_decoded(text), (), _keys(log_format), held)
    unknown = {path: it for path, it in held.items() if path not in _keys(log_format)}
    _check_keys(log_format, held, unknown)
    more.update((".".join(path), _as_text(it)) for path, it in unknown.items() if not _is_none(it))
    for _, value in _ordered(log_format):
        if value.key in held or not log_format.is_open:
            yield value, held.get(value.key)


def _decoded(text: str) -> Mapping[str, object]:
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLineError("not JSON") from error
    if not isinstance(decoded, dict):
        raise BadLineError("not a JSON object")
    return decoded


def _flatten(
    part: Mapping[str, object],
    path: tuple[str, ...],
    keys: frozenset[tuple[str, ...]],
    held: dict[tuple[str, ...], object],
) -> None:
    """Leaves by path, going into an object only where the format does."""
    for key, value in part.items():
        here = (*path, key)
        if isinstance(value, dict) and any(it[: len(here)] == here != it for it in keys):
            _flatten(value, here, keys, held)
        else:
            held[here] = value


def _check_keys(
    log_format: LogFormat,
    held: Mapping[tuple[str, ...], object],
    unknown: Mapping[tuple[str, ...], object],
) -> None:
    """A line that lacks keys and has others was written by another format.

    Lacking some is what Envoy's ``omit_empty_values`` does; having more, what a shipper adds.
    """
    missing = [key for key in log_format.needs if (key,) not in held]
    if missing:
        raise BadLineError(f"not of the format {log_format.name}: no key {missing[0]}")
    if log_format.is_open:
        if (RECORD_KEY,) in held:
            raise BadLineError("a record of a log folder of meshml's own")
        return
    lacks = len(held) - len(unknown) < len(_keys(log_format))
    if lacks and (unknown or not held):
        raise BadLineError(f"not of the format {log_format.name}: other keys")


# --- reading ------------------------------------------------------------------------------------


def _fill(
    log_format: LogFormat, found: Iterator[tuple[LogValue, object]], more: dict[str, str]
) -> dict[str, Read]:
    """Columns with what was read; the first source that holds something fills its column.

    So does the first for a name in ``more``. What another source says otherwise is kept under its
    own key or operator.
    """
    read: dict[str, Read] = {}
    for value, raw in found:
        held = more.get(value.name) if value.column is None else read.get(value.column)
        if held is not None:
            if not _is_none(raw) and not _says(value, raw, held):
                more[".".join(value.key) or value.operator] = _as_text(raw)
        elif value.column is not None:
            read[value.column] = None if _is_none(raw) else _READERS[value.kind](value, raw)
        elif not _is_none(raw):
            more[value.name] = _as_text(raw)
    filled = sum(got is not None for column, got in read.items() if column != "start_time")
    if log_format.is_open and filled < LEAST_KNOWN:
        raise BadLineError(f"not of the format {log_format.name}: too few known keys")
    if "start_time" in read and read["start_time"] is None:
        raise BadLineError("no start time")
    return read


def _says(value: LogValue, raw: object, held: Read) -> bool:
    """Whether another source holds the same; it need not even be readable."""
    if value.column is None:
        return _as_text(raw) == held
    try:
        return _READERS[value.kind](value, raw) == held
    except BadLineError:
        return False


def _is_none(raw: object) -> bool:
    return raw is None or raw in ("-", "")


def _as_text(raw: object) -> str:
    if isinstance(raw, str):
        return raw
    try:
        return json.dumps(raw, separators=(",", ":"), ensure_ascii=False)
    except RecursionError as error:
        raise BadLineError("JSON nested too deeply") from error


def _read_text(_: LogValue, raw: object) -> str:
    return _as_text(raw)


def _read_number(value: LogValue, raw: object) -> int:
    """A whole number in the column's unit; half of one would be silently altered."""
    if isinstance(raw, bool) or (isinstance(raw, str) and not _NUMBER.fullmatch(raw)):
        raise BadLineError(f"not a number: {raw!r:.40}")
    number = cast("int", read_number(raw))
    if not isinstance(raw, int) and set(str(raw)) & set(".e") and float(str(raw)) != number:
        raise BadLineError(f"not a whole number: {raw!r:.40}")
    scaled = number * value.multiply // value.divide
    if abs(scaled) > LARGEST_NUMBER:
        raise BadLineError(f"not a number of 64 bits: {raw!r:.40}")
    return scaled


def _read_time(value: LogValue, raw: object) -> int:
    whole = int(raw) if isinstance(raw, float) and raw.is_integer() else raw
    try:
        return read_moment(str(whole), value.time_format)
    except (ValueError, OverflowError) as error:
        raise BadLineError(f"not a time: {raw!r:.40}") from error


def _read_flags(_: LogValue, raw: object) -> str | None:
    """Flags are a set: sorted, each once, by their short names."""
    flags = (_SHORT_FLAGS.get(flag, flag) for flag in flag_set(_as_text(raw)))
    return ",".join(sorted(set(flags))) or None


def _read_address(_: LogValue, raw: object) -> str:
    """Old proxies wrote ``tcp://`` before it."""
    return _as_text(raw).removeprefix("tcp://")


_READERS: Mapping[str, Callable[[LogValue, object], Read]] = {
    "text": _read_text,
    "number": _read_number,
    "time": _read_time,
    "flags": _read_flags,
    "address": _read_address,
}


# --- what it is ---------------------------------------------------------------------------------


def _record_of(read: Mapping[str, Read]) -> record_:
    """By its type where it has one, else by whether there was a request at all."""
    if (record := RECORDS.get(str(read.get("type")))) is not None:
        return record
    is_request = any(read.get(column) is not None for column in REQUEST_COLUMNS)
    return "call" if is_request or read.get("code") else "connection"


def _columns_of(record: record_, read: Mapping[str, Read]) -> frozenset[str]:
    if record != "progress":
        return _COLUMNS[record]
    is_connection = str(read.get("type")).startswith(("Tcp", "Udp"))
    return _COLUMNS["connection" if is_connection else "call"]
