"""What an operator of an Envoy log format means: the column that it fills, and how it is read.

The meanings are those of ``access_log.FIELDS`` and ``CONNECTION_FIELDS``; beside them stand only
the operators that say the same in other words. Goes in: an operator, as in ``REQ(:METHOD)``.
Comes out: a ``LogValue``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from meshml_dbx.traffic.access_log import CONNECTION_FIELDS, FIELDS, START_TIME, Field
from meshml_dbx.traffic.log_time import has_zone, time_form

kind_ = Literal["text", "number", "time", "flags", "address"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogValue:
    """One value of a log line: where it comes from, which column it fills, how it is read.

    ``operator`` is without percent signs, ``name`` the key in ``more`` where there is no column.
    A number is stored times ``multiply``, divided by ``divide``. A time is of the strftime form
    ``time_format``, ``""`` for ISO 8601. ``key`` leads to the value in a JSON line.

    >>> value_of("RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)").multiply
    1000
    """

    operator: str
    name: str
    column: str | None = None
    kind: kind_ = "text"
    is_exact: bool = True
    multiply: int = 1
    divide: int = 1
    time_format: str = ""
    key: tuple[str, ...] = ()


COLUMNS: dict[str, Field] = {
    field.column: field for table in (CONNECTION_FIELDS, FIELDS) for field in table
}
"""Every column of a call or a connection; one name has one meaning in both."""

FLAGS_COLUMN = "flags"
_ADDRESSES = ("upstream_host", "downstream_address")
_ADDRESS_ENDING = "_local_address"

_HEADER_COMMANDS = {
    "REQ": "REQ",
    "REQUEST_HEADER": "REQ",
    "REQ_WITHOUT_QUERY": "REQ",
    "RESP": "RESP",
    "RESPONSE_HEADER": "RESP",
    "TRAILER": "TRAILER",
    "RESPONSE_TRAILER": "TRAILER",
}
_OPERATOR = re.compile(r"([A-Z0-9_]+)(?:\((.*)\))?(?::[0-9]+)?", re.DOTALL)

_TO_MICROSECONDS = {"ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
_DEFAULT_UNIT = "ms"

# (column, what its number is multiplied by)
_ALIASES: dict[str, tuple[str, int]] = {
    "REQ(:PATH)": ("path", 1),
    "REQ(X-ENVOY-ORIGINAL-PATH)": ("path", 1),
    "PATH": ("path", 1),
    "REQ(HOST)": ("authority", 1),
    "RESP(:STATUS)": ("code", 1),
    "RESPONSE_FLAGS_LONG": (FLAGS_COLUMN, 1),
    # Envoy's own header, in milliseconds, holds the time from the last byte of the request to the
    # first of the answer. It begins when Envoy has the request, not when the upstream has, so it
    # includes a wait for a connection; it is the nearest that Envoy's default format knows.
    "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)": ("first_byte_us", 1000),
    "REQUEST_DURATION": ("receive_request_us", 1000),
    "UPSTREAM_CLUSTER_RAW": ("upstream_cluster", 1),
    "UPSTREAM_REMOTE_ADDRESS": ("upstream_host", 1),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": ("downstream_address", 1),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": ("downstream_address", 1),
    "STREAM_ID": ("request_id", 1),
}
"""Operators that say what one of the table says, in other words or another unit."""

_NAMES = {
    "REQ(USER-AGENT)": "user_agent",
    "REQ(X-FORWARDED-FOR)": "forwarded_for",
    "REQ(REFERER)": "referer",
    "RESP(CONTENT-TYPE)": "content_type",
}
_MORE_NUMBERS = re.compile(r"(?:.*_)?(?:DURATION|COUNT|NUMBER|RTT|US)|.*BYTES_(?:SENT|RECEIVED).*")
_START_TIMES = ("START_TIME", "START_TIME_LOCAL")


def split_operator(operator: str) -> tuple[str, str | None]:
    """Command and argument of an operator; a greatest length is left out.

    >>> split_operator("REQ(USER-AGENT):20")
    ('REQ', 'USER-AGENT')
    """
    found = _OPERATOR.fullmatch(operator)
    return (found[1], found[2]) if found else (operator, None)


def plain_operators(operator: str) -> Iterator[str]:
    """The spellings by which the tables know an operator, those of its alternates in order.

    >>> list(plain_operators("REQUEST_HEADER(x-envoy-original-path?:path):80"))
    ['REQ(X-ENVOY-ORIGINAL-PATH)', 'REQ(:PATH)']
    """
    command, argument = split_operator(operator)
    header = _HEADER_COMMANDS.get(command)
    if header and argument is not None:
        yield from (f"{header}({name.strip().upper()})" for name in argument.split("?"))
    else:
        yield command if argument is None else f"{command}({argument})"


def _table() -> dict[str, Field]:
    """Operator in its plain spelling → field."""
    return {
        plain: field
        for field in COLUMNS.values()
        if field.operator
        for plain in plain_operators(field.operator.strip("%"))
    }


_FIELD_OF = _table()
_FIELD_OF_POINTS = {
    plain.rpartition(":")[0]: field
    for plain, field in _FIELD_OF.items()
    if plain.startswith("COMMON_DURATION(")
}


def value_of(operator: str, *, key: tuple[str, ...] = ()) -> LogValue:
    """What one operator means; what has no column keeps a plain name.

    >>> value_of("REQ(X-ENVOY-ORIGINAL-PATH?:PATH)").column
    'path'
    >>> value_of("REQ(USER-AGENT)").name
    'user_agent'
    """
    command, argument = split_operator(operator)
    if command in _START_TIMES:
        return _start_time(operator, command, argument or "", key)
    if command == "COMMON_DURATION":
        return _duration(operator, argument or "", key)
    for plain in plain_operators(operator):
        if (field := _FIELD_OF.get(plain)) is not None:
            return _of_field(field, operator, key)
    aliases = (_ALIASES.get(plain) for plain in (*plain_operators(operator), *_bare(command)))
    for alias in filter(None, aliases):
        value = _of_field(COLUMNS[alias[0]], operator, key)
        return replace(value, multiply=alias[1], is_exact=False)
    is_number = argument is None and _MORE_NUMBERS.fullmatch(command)
    name = more_name(operator, key)
    return LogValue(operator=operator, name=name, kind="number" if is_number else "text", key=key)


def _bare(command: str) -> tuple[str, ...]:
    """``PATH(WQ:ORIG)`` and its like are paths whatever their arguments."""
    return ("PATH",) if command == "PATH" else ()


def value_of_column(column: str, *, key: tuple[str, ...]) -> LogValue:
    """The value of a JSON key that is known to hold what a column does.

    >>> value_of_column("code", key=("responseCode",)).kind
    'number'
    """
    field = COLUMNS[column]
    return _of_field(field, (field.operator or "").strip("%"), key)


def _of_field(field: Field, operator: str, key: tuple[str, ...]) -> LogValue:
    return LogValue(
        operator=operator,
        name=field.column,
        column=field.column,
        kind=_kind(field),
        key=key,
    )


def _kind(field: Field) -> kind_:
    if field.column == FLAGS_COLUMN:
        return "flags"
    if field.column in _ADDRESSES or field.column.endswith(_ADDRESS_ENDING):
        return "address"
    return field.kind


def _start_time(operator: str, command: str, form: str, key: tuple[str, ...]) -> LogValue:
    """A start time whose form names no moment, or that of an unknown place, is a mere text."""
    is_known = time_form(form) is not None and (command == "START_TIME" or has_zone(form))
    if not is_known:
        return LogValue(operator=operator, name=more_name(operator, key), key=key)
    value = _of_field(START_TIME, operator, key)
    return replace(value, time_format=form, is_exact=command == "START_TIME")


def _duration(operator: str, argument: str, key: tuple[str, ...]) -> LogValue:
    """Envoy takes milliseconds where the third part is missing."""
    start, _, rest = argument.partition(":")
    end, _, unit = rest.partition(":")
    field = _FIELD_OF_POINTS.get(f"COMMON_DURATION({start}:{end}")
    scale = _TO_MICROSECONDS.get(unit or _DEFAULT_UNIT)
    if field is None or scale is None:
        return LogValue(operator=operator, name=more_name(operator, key), kind="number", key=key)
    value = _of_field(field, operator, key)
    return replace(value, multiply=scale[0], divide=scale[1], is_exact=scale == (1, 1))


def more_name(operator: str, key: tuple[str, ...] = ()) -> str:
    """The key in ``more`` of what has no column.

    >>> more_name("GRPC_STATUS"), more_name("REQ(X-TEAM)"), more_name("REQ(X-TEAM)", ("team",))
    ('grpc_status', 'REQ(X-TEAM)', 'team')
    """
    for plain in plain_operators(operator):
        if plain in _NAMES:
            return _NAMES[plain]
    command, argument = split_operator(operator)
    if argument is None and re.fullmatch(r"[A-Z0-9_]+", command):
        return command.lower()
    return ".".join(key) or operator
