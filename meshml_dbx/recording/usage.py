"""How often each way was used, straight from a log folder: the same that the lake counts.

Goes in: a log folder. Comes out: ``Usage`` values and versions. Other lines are passed over
here; ``why`` and ``ingest`` report the bad ones.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from meshml_dbx.recording.read import FolderReader, list_sidecars
from meshml_dbx.traffic.access_log import (
    END_TYPE,
    RECORD_KEY,
    TYPE_KEY,
    BadLineError,
    read_text,
    read_time,
)
from meshml_dbx.traffic.log_folder import SidecarLogs
from meshml_dbx.traffic.usage import USAGE_KEY, Usage, usage_host

Key = tuple[str | None, ...]
_PLAIN = tuple(name for name in USAGE_KEY if name != "host")
_TOLD = re.compile(rb'"DownstreamEnd"|"_record": ?"mesh"')


def read_usages(logs: Path, *, since: int = 0) -> tuple[tuple[Usage, ...], frozenset[str]]:
    """The ways used by calls that began at ``since`` or later, and the known versions.

    A version of the mesh is known when a sidecar wrote its document to its log.

    Raises:
        LogFolderError: the folder is missing, cannot be read, or holds no sidecar's log.
    """
    found: dict[Key, list[int]] = {}
    versions: set[str] = set()
    for name in list_sidecars(logs):
        for values in _told(SidecarLogs(root=logs, sidecar_id=name)):
            if values.get(RECORD_KEY) == "mesh":
                versions.add(str(values.get("mesh_version")))
            else:
                _count(found, values, since)
    ordered = sorted(found.items(), key=lambda it: tuple(part or "" for part in it[0]))
    return tuple(_usage(key, counted) for key, counted in ordered), frozenset(versions)


def _told(folder: SidecarLogs) -> Iterator[Mapping[str, object]]:
    for _, blocks in FolderReader(folder=folder).files():
        for block in blocks:
            for _, line in block.lines():
                if _TOLD.search(line) and (values := _decoded(line)):
                    yield values


def _decoded(line: bytes) -> Mapping[str, object] | None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(values, dict):
        return None
    ended = values.get(RECORD_KEY) == "call" and values.get(TYPE_KEY) == END_TYPE
    return values if ended or values.get(RECORD_KEY) == "mesh" else None


def _count(found: dict[Key, list[int]], values: Mapping[str, object], since: int) -> None:
    try:
        moment = read_time(values["start_time"])
    except (KeyError, BadLineError):
        return
    if moment < since or values.get("method") == "CONNECT":
        return
    texts = {name: read_text(values.get(name)) for name in _PLAIN}
    texts["host"] = usage_host(texts["virtual_service"], read_text(values.get("authority")))
    counted = found.setdefault(tuple(texts[name] for name in USAGE_KEY), [0, moment, moment])
    counted[0] += 1
    counted[1:] = min(counted[1], moment), max(counted[2], moment)


def _usage(key: Key, counted: list[int]) -> Usage:
    calls, first, last = counted
    texts = dict(zip(USAGE_KEY, key, strict=True))
    observer = texts.pop("observer") or ""
    return Usage(observer=observer, calls=calls, first=first, last=last, **texts)
