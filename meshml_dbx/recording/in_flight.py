"""Calls in flight right now, from the files that sidecars and recorders are writing.

Goes in: a log folder, looked at again and again. Comes out: the calls that a caller waits for and
that have no end yet. Each byte is read once; of a call that ended nothing is kept. What was in
flight before the first look shows up as soon as its proxy tells of it again, which is each second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from meshml_dbx.errors import LogFolderError
from meshml_dbx.recording.read import FolderReader, list_sidecars
from meshml_dbx.traffic.access_log import (
    END_TYPE,
    WAITING_OBSERVERS,
    BadLineError,
    call_of,
)
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.log_folder import LIVE, SidecarLogs

Key = tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class _Sidecar:
    """What one sidecar has in flight."""

    reader: FolderReader
    open: dict[Key, Mapping[str, Any]] = field(default_factory=dict)

    def read_on(self) -> None:
        for _, blocks in self.reader.grown_files():
            for block in blocks:
                self._take(line for _, line in block.lines())

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            try:
                values = orjson.loads(line)
                if values["_record"] != "call" or values["observer"] not in WAITING_OBSERVERS:
                    continue
                key = values["request_id"], values["start_time"], values["observer"]
                if values["_type"] == END_TYPE:
                    self.open.pop(key, None)
                else:
                    self.open[key] = values
            except (ValueError, KeyError, TypeError):  # for ingest to tell of
                continue


@dataclass(slots=True, kw_only=True)
class InFlight:
    """Looks at a log folder again and again.

    >>> InFlight(logs=Path("/no/such/folder")).look()
    ()
    """

    logs: Path
    _sidecars: dict[str, _Sidecar] = field(default_factory=dict)

    def look(self) -> tuple[Call, ...]:
        """The calls in flight, longest first; those of sidecars that are gone are not."""
        living = {name for name in self._names() if (self.logs / name / LIVE).is_dir()}
        for gone in self._sidecars.keys() - living:
            del self._sidecars[gone]
        for name in living:
            self._sidecar(name).read_on()
        found = [
            call
            for sidecar in self._sidecars.values()
            for values in sidecar.open.values()
            if (call := _call(values)) is not None and not call.is_tunnel
        ]
        return tuple(sorted(found, key=lambda call: call.start_time))

    def _names(self) -> tuple[str, ...]:
        try:
            return list_sidecars(self.logs)
        except LogFolderError:  # nobody has written yet
            return ()

    def _sidecar(self, name: str) -> _Sidecar:
        if name not in self._sidecars:
            reader = FolderReader(folder=SidecarLogs(root=self.logs, sidecar_id=name))
            self._sidecars[name] = _Sidecar(reader=reader)
        return self._sidecars[name]


def _call(values: Mapping[str, Any]) -> Call | None:
    try:
        return call_of(values)
    except BadLineError:
        return None
