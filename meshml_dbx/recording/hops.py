"""The calls around some moments, whoever saw them, straight from a log folder.

Goes in: a log folder and spans of time. Comes out: finished calls as words, for ``traffic.trail``.
Lines that cannot be read are passed over here; ``why`` and ``ingest`` report them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from meshml_dbx.recording.read import FolderReader
from meshml_dbx.recording.sidecars import find_sidecars
from meshml_dbx.traffic.access_log import RECORD_KEY, BadLineError, call_of, read_time
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import call_order
from meshml_dbx.traffic.hops import HOST_SKEW_US
from meshml_dbx.traffic.log_folder import SidecarLogs

Moments = tuple[int, int]
"""From when until when, in UTC microseconds."""
_ENDED = re.compile(rb'"_type": ?"DownstreamEnd"')


def calls_around(logs: Path, spans: Sequence[Moments]) -> tuple[Call, ...]:
    """The finished calls that were in flight at some time of these spans.

    Raises:
        LogFolderError: the folder is missing, cannot be read, or holds no sidecar's log.
    """
    if not spans:
        return ()
    wide = [(begin - HOST_SKEW_US, end + HOST_SKEW_US) for begin, end in spans]
    sidecars = find_sidecars(logs, since=min(begin for begin, _ in wide))
    found = (call for one in sidecars for call in _calls(one.folder, wide))
    unique = {(call.observer, *call_order(call)): call for call in found}
    return tuple(unique[key] for key in sorted(unique, key=lambda key: (key[1:], key[0])))


def _calls(folder: SidecarLogs, spans: Sequence[Moments]) -> Iterator[Call]:
    last = max(end for _, end in spans)
    for _, blocks in FolderReader(folder=folder).files():
        for block in blocks:
            for _, line in block.matches(_ENDED):
                call = _call(line, last)
                if call and any(call.start_time <= e and call.end_time >= b for b, e in spans):
                    yield call


def _call(line: bytes, last: int) -> Call | None:
    """The call of a line; None when it is none, is a tunnel, or began later than ``last``."""
    try:
        values = orjson.loads(line)
        wanted = values[RECORD_KEY] == "call" and values.get("method") != "CONNECT"
        return call_of(values) if wanted and read_time(values["start_time"]) <= last else None
    except (orjson.JSONDecodeError, BadLineError, KeyError, TypeError):
        return None
