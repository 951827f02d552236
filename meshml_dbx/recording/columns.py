"""The calls of a run as columns, made from decoded lines without an object per call.

Goes in: the decoded line of a finished call. Comes out: a row, and of many rows the columns of
evidence. The values are those of ``access_log.call_of``, tested to be; only the way is shorter,
since a run of ten thousand calls and five to compare it with are to be read in a second.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, TypeVar

from meshml_dbx.traffic.access_log import (
    CLIENT_FIELDS,
    FIELDS,
    LARGEST_NUMBER,
    call_of,
    read_number,
    read_text,
    read_time,
)
from meshml_dbx.traffic.evidence import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    UNKNOWN,
    CallColumns,
    Coded,
)
from meshml_dbx.traffic.pattern import pattern_of

Value = TypeVar("Value")

_KEYS = {field.column: field.json_key() for field in FIELDS}
_COMPUTED = ("start_time", "duration_us", "pattern", "join_method")
_QUOTED = tuple(field.column for field in FIELDS if field.is_quoted_number)
_ONLY_CLIENT = tuple(field.column for field in CLIENT_FIELDS if field.kind == "number")
_TEXTS = tuple(name for name in TEXT_COLUMNS if name not in _COMPUTED)
_PLAIN_NUMBERS = frozenset((int, type(None)))
_PLAIN_TEXTS = frozenset((str, type(None)))


def _wanted_first(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the columns of numbers that evidence has, and these followed by the others."""
    listed = tuple(names)
    wanted = tuple(name for name in NUMBER_COLUMNS if name in listed)
    return wanted, (*wanted, *(name for name in listed if name not in wanted))


_PROXY_NUMBERS, _proxy_columns = _wanted_first(
    f.column for f in FIELDS if f.kind == "number" and f.column not in (*_QUOTED, *_ONLY_CLIENT)
)
_CLIENT_NUMBERS, _client_columns = _wanted_first(_ONLY_CLIENT)
_NUMBERS = (*_PROXY_NUMBERS, *_QUOTED, *_CLIENT_NUMBERS)
_STAGE = _TEXTS.index("stage")
_ATTEMPTS = _NUMBERS.index("attempts")

# All numbers of a line are looked at, not only those of evidence: a bad one makes a bad line.
_numbers_of = itemgetter(*(_KEYS[name] for name in _proxy_columns))
_client_numbers_of = itemgetter(*(_KEYS[name] for name in _client_columns))
_QUOTED_KEYS = tuple(_KEYS[name] for name in _QUOTED)
_CLIENT_MARK = CLIENT_FIELDS[0].json_key()
"""A proxy writes no key of these fields, a process that records itself writes all of them."""
_NO_CLIENT_NUMBERS: tuple[int | None, ...] = (None,) * len(_CLIENT_NUMBERS)
_texts_of = itemgetter(*(_KEYS[name] for name in _TEXTS))
_whole_of = itemgetter(
    *(_KEYS[name] for name in ("total_us", "duration_ms", "request_id", "process_id")),
    *(_KEYS[name] for name in ("client", "run_id", "connection_id", "method", "path")),
)
_pattern = lru_cache(maxsize=1 << 14)(pattern_of)
_quoted_number = lru_cache(maxsize=1 << 10, typed=True)(read_number)


class Row(NamedTuple):
    """One finished call: what orders it, what joins it, and its columns in their order."""

    start_time: int
    request_id: str
    sidecar_id: str
    process_id: str | None
    client: str | None
    run_id: str | None
    connection_id: int | None
    duration_us: int
    pattern: str
    numbers: tuple[int | None, ...]
    texts: tuple[object, ...]


class Joined(NamedTuple):
    """A row that belongs to a run: how it was joined, and the stage that it began in."""

    row: Row
    method: str
    stage: str | None


def row_of(values: Mapping[str, object]) -> Row:
    """The row of a finished call's decoded line.

    Raises:
        BadLineError: when the line is no call record.
    """
    try:
        numbers = _numbers_of(values)
        own = _client_numbers_of(values) if _CLIENT_MARK in values else _NO_CLIENT_NUMBERS
        quoted = tuple(map(_quoted_number, map(values.__getitem__, _QUOTED_KEYS)))
        texts = _texts_of(values)
        total, duration_ms, request_id, process_id, *more = _whole_of(values)
        client, run_id, connection_id, method, path = more
    except (KeyError, TypeError):  # of another version, with other fields, or no number at all
        return _row_of_call(values)
    if not (
        _PLAIN_NUMBERS.issuperset(map(type, numbers + own))
        and _PLAIN_TEXTS.issuperset(map(type, texts))
        and max([number or 0 for number in numbers + own]) <= LARGEST_NUMBER
    ):
        return _row_of_call(values)
    return Row(
        read_time(values[_KEYS["start_time"]]),
        read_text(request_id) or "",
        str(values["sidecar_id"]),
        read_text(process_id),
        read_text(client),
        read_text(run_id),
        connection_id,
        total if total is not None else (duration_ms or 0) * 1000,
        _pattern(read_text(method), read_text(path)),
        numbers[: len(_PROXY_NUMBERS)] + quoted + own[: len(_CLIENT_NUMBERS)],
        texts,
    )


def _row_of_call(values: Mapping[str, object]) -> Row:
    """The same row by way of the call: for lines in which not everything is where it should be."""
    call = call_of(values)
    return Row(
        call.start_time,
        call.request_id or "",
        call.sidecar_id,
        call.process_id,
        call.client,
        call.run_id,
        call.connection_id,
        call.duration_us,
        call.pattern or "",
        tuple(getattr(call, name) for name in _NUMBERS),
        tuple(getattr(call, name) for name in _TEXTS),
    )


def attempts_made(row: Row) -> int:
    """How many attempts the proxy made of the call; 1 where it does not say."""
    return row.numbers[_ATTEMPTS] or 1


def header_stage(row: Row) -> str | None:
    """The stage that the call itself named in its header."""
    return read_text(row.texts[_STAGE])


def columns_of(calls: Iterable[Joined]) -> CallColumns:
    """The columns of these calls in the order of evidence."""
    joined = sorted(calls, key=lambda call: call.row[:3])
    rows = [call.row for call in joined]
    numbers: dict[str, Sequence[int | None]] = {
        "start_time": [row.start_time for row in rows],
        "duration_us": [row.duration_us for row in rows],
        **dict(zip(_NUMBERS, _transposed([r.numbers for r in rows], len(_NUMBERS)), strict=True)),
    }
    texts: dict[str, Sequence[object]] = {
        **dict(zip(_TEXTS, _transposed([r.texts for r in rows], len(_TEXTS)), strict=True)),
        "pattern": [row.pattern for row in rows],
        "join_method": [call.method for call in joined],
        "stage": [call.stage for call in joined],
    }
    return CallColumns(
        request_ids=tuple(row.request_id for row in rows),
        numbers={
            name: array("q", [UNKNOWN if v is None else v for v in numbers[name]])
            for name in NUMBER_COLUMNS
        },
        texts={name: _coded(texts[name]) for name in TEXT_COLUMNS},
    )


def _coded(values: Sequence[object]) -> Coded:
    """The column of raw values, each distinct one read once: there are few."""
    texts = {value: read_text(value) for value in set(values)}
    return Coded.of(map(texts.__getitem__, values))


def _transposed(rows: list[tuple[Value, ...]], width: int) -> list[tuple[Value, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width
