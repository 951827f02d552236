"""Logs that others write, brought into the log folder as finished files, which ingest then reads.

Part of the hall. Goes in: places, and what a user says of them. Comes out: new files beside those
of sidecars, each with whole lines and a name that is the same each time, and what was not read.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from meshml_dbx.errors import LogFolderError, LogFormatError
from meshml_dbx.lake.follow import next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.spool import remove_parts, spool
from meshml_dbx.logs.locks import locked
from meshml_dbx.mesh_journeys import Say
from meshml_dbx.settings import Settings, prepare_state
from meshml_dbx.traffic.detect_format import detect_format
from meshml_dbx.traffic.known_formats import known_format
from meshml_dbx.traffic.log_folder import LIVE, SidecarLogs
from meshml_dbx.traffic.log_format import LogFormat, json_format, text_format
from meshml_dbx.traffic.log_source import SOURCE_FILE, LogSource

SETTLE_S = 60.0
LOCK_TIMEOUT_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SAMPLE_BYTES, _SAMPLE_LINES = 1 << 16, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What a user says of logs that others write: where they are, and whose.

    ``log_format`` is a known format's name, an Envoy format string or a JSON template; None to
    tell it from the lines. ``settle_s``: a file unchanged for so long has ended.

    >>> Foreign(places=("/var/log/envoy",), source=LogSource(source_id="edge")).settle_s
    60.0
    """

    places: tuple[str, ...]
    source: LogSource
    log_format: str | None = None
    settle_s: float = SETTLE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What of the logs is now in the log folder, and what could not be read."""

    files: int
    bytes: int
    formats: tuple[str, ...]
    notices: tuple[str, ...]


def collect(settings: Settings, foreign: Foreign, *, now: float, say: Say) -> Collected:
    """Copy what is new in these logs; running it again copies nothing twice.

    Raises:
        LogFolderError: a place does not exist, a folder cannot be written, or the name is taken.
        LogFormatError: the format is none of Envoy's.
        UnknownNameError: no format has that name.
    """
    source, given = foreign.source, _format_of(foreign.log_format)
    logs = _folder_of(settings, source.source_id)
    prepare_state(settings.state)
    state_file = settings.folder.checkpoints / f"source-{source.source_id}.json"
    for folder in (logs.closed, state_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(state_file.with_suffix(".lock"), timeout_s=LOCK_TIMEOUT_S) as mine:
        if not mine:
            raise LogFolderError(
                f"another meshml reads the logs of {source.source_id}", advice="let it end"
            )
        remove_parts(logs.closed)
        return _follow(foreign, given, logs, state_file, now=now, say=say)


def _follow(
    foreign: Foreign,
    given: LogFormat | None,
    logs: SidecarLogs,
    state_file: Path,
    *,
    now: float,
    say: Say,
) -> Collected:
    state = FollowState.from_json(_read(state_file)) if state_file.exists() else FollowState()
    found = next_segments(foreign.places, state, now=now, settle_s=foreign.settle_s)
    looked = f"{found.files} files looked at, {len(found.segments)} new parts"
    say(f"{foreign.source.source_id}: {looked}")
    state = found.state
    _write(state_file, state.to_json())
    copied: list[Path] = []
    for segment in found.segments:
        path = spool(segment, logs.closed)
        if path is None:
            continue
        copied.append(path)
        state = state.advanced(segment)
        _write(state_file, state.to_json())
    formats = [given] if given else _detected(copied)
    _note(foreign.source, formats, logs.folder / SOURCE_FILE)
    notices = [str(notice) for notice in found.notices]
    if copied and not formats:
        notices.append(f"no known format reads the lines of {foreign.source.source_id}: --format")
    return Collected(
        files=len(copied),
        bytes=sum(path.stat().st_size for path in copied),
        formats=tuple(it.name for it in formats),
        notices=tuple(notices),
    )


def _folder_of(settings: Settings, source_id: str) -> SidecarLogs:
    if not _NAME.fullmatch(source_id):
        raise LogFolderError(
            f"{source_id!r} cannot be the name of a source of logs",
            advice="take letters, digits, dots, dashes and underscores",
        )
    logs = SidecarLogs(root=settings.logs.absolute(), sidecar_id=source_id)
    if (logs.folder / LIVE).exists():
        raise LogFolderError(
            f"{source_id} is a sidecar's log in {settings.logs}",
            advice="give these logs another --source name",
        )
    return logs


def _format_of(text: str | None) -> LogFormat | None:
    if text is None:
        return None
    if text.lstrip().startswith(("{", "[{")):
        try:
            return json_format(json.loads(text))
        except ValueError as error:
            raise LogFormatError(
                f"the JSON template of the log format cannot be read: {error}",
                advice="give it as one object of keys and operators, as in Envoy's json_format",
            ) from error
    return text_format(text) if "%" in text else known_format(text)


def _detected(paths: Iterable[Path]) -> list[LogFormat]:
    """The formats that these files begin in, each once."""
    found = (detect_format(_sample(path)) for path in paths)
    return list({it.name: it for it in found if it is not None}.values())


def _sample(path: Path) -> list[str]:
    with path.open("rb") as file:
        lines = file.read(_SAMPLE_BYTES).decode(errors="replace").splitlines()
    return list(islice(lines, _SAMPLE_LINES))


def _note(source: LogSource, formats: Iterable[LogFormat], place: Path) -> None:
    """Note whose lines these are, with the formats that were seen before."""
    known = LogSource.from_json(_read(place)).formats if place.exists() else {}
    noted = replace(source, formats=dict(known))
    for log_format in formats:
        noted = noted.with_format(log_format)
    _write(place, noted.to_json())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
