"""Calls that a dead sidecar could not finish logging: one ``Unfinished`` line each.

In go the files of one sidecar, oldest first; out comes what is known of each call that has a start
but no end. Files are read line by line: memory holds only the calls that are open.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meshml_dbx.logs.files import add_closed, files_in_order
from meshml_dbx.traffic.access_log import (
    END_TYPE,
    PERIODIC_TYPE,
    RECORD_KEY,
    START_TYPE,
    TYPE_KEY,
    UNFINISHED_TYPE,
)
from meshml_dbx.traffic.log_folder import SidecarLogs

_Key = tuple[object, object, object]
_KEPT = (b'{"_record":"call"', b'{"_record":"program"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a sidecar's files leave open: the last line of each open call, and its own end.

    >>> Remains(open_calls=(), has_ended=True).has_ended
    True
    """

    open_calls: tuple[bytes, ...]
    has_ended: bool


def read_remains(files: Iterable[Path]) -> Remains:
    """Which calls are open after all lines of these files, and whether a program's end is told."""
    open_calls: dict[_Key, bytes] = {}
    told: set[_Key] = set()
    has_ended = False
    for line, values in _records(files):
        kind = values.get(TYPE_KEY)
        if values.get(RECORD_KEY) == "program":
            has_ended = has_ended or kind == "end"
            continue
        key = (values.get("request_id"), values.get("start_time"), values.get("observer"))
        if kind in (START_TYPE, PERIODIC_TYPE):
            open_calls[key] = line
        elif kind == END_TYPE:
            open_calls.pop(key, None)
        elif kind == UNFINISHED_TYPE:
            told.add(key)
    lines = tuple(line for key, line in open_calls.items() if key not in told)
    return Remains(open_calls=lines, has_ended=has_ended)


def close_unfinished(logs: SidecarLogs, *, now: datetime, end: bytes = b"") -> int:
    """Write a closed file with a line for each call that nobody will end now; how many.

    Before the live files are closed, so that whoever is interrupted finds them and does it again.

    Args:
        end: the sidecar's own last record, added when its files do not have one.
    """
    remains = read_remains(files_in_order(logs))
    lines = [unfinished_line(last) for last in remains.open_calls]
    if end and not remains.has_ended:
        lines.append(end)
    if lines:
        add_closed(logs, lines, now=now)
    return len(remains.open_calls)


def unfinished_line(last: bytes) -> bytes:
    """The record of a call that never ended: the fields of its last line, of type Unfinished.

    >>> unfinished_line(b'{"_record":"call","_type":"DownstreamStart","path":"/a"}')
    b'{"_record":"call","_type":"Unfinished","path":"/a"}\\n'
    """
    values = json.loads(last) | {TYPE_KEY: UNFINISHED_TYPE}
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _records(files: Iterable[Path]) -> Iterator[tuple[bytes, dict[str, object]]]:
    """Lines that are no JSON object are left to quarantine, which reports them."""
    for path in files:
        with path.open("rb") as file:
            for line in file:
                if not line.startswith(_KEPT):
                    continue
                try:
                    values = json.loads(line)
                except ValueError:
                    continue
                yield line, values
