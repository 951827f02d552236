"""Logs that others write, brought into the log folder as finished files, which ingest then reads.

Part of the hall. Goes in: places, and what a user says of them. Comes out: new files beside those
of sidecars, each with whole lines and a name that is the same each time, and what was not read.
Files and folders, log groups of CloudWatch and buckets of S3 are followed each in its own way, with
a state of its own, so that each line is brought once.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from meshml_dbx import connect
from meshml_dbx.errors import LogFolderError, LogFormatError
from meshml_dbx.lake.bucket import Brought, follow_bucket
from meshml_dbx.lake.envelope import Unwrapped
from meshml_dbx.lake.follow import next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.group_follow import follow_group
from meshml_dbx.lake.places import (
    CLOUDWATCH,
    BucketPlace,
    FilePlace,
    GroupPlace,
    Place,
    by_source,
    parse_place,
    place_digest,
)
from meshml_dbx.lake.spool import remove_parts, spool
from meshml_dbx.lake.telling import Telling
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
MOST_NOTICES = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SAMPLE_BYTES, _SAMPLE_LINES, _SAMPLE_FILES = 1 << 16, 50, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccess:
    """How AWS is asked: what is None, AWS's own chain of settings tells.

    >>> AwsAccess(region="eu-west-1").profile is None
    True
    """

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What a user says of logs that others write: where they are, and whose.

    A source whose id is empty is called after each place: its log group, its bucket, ``others`` for
    files. ``log_format`` is a known format's name, an Envoy format string or a JSON template; None
    to tell it from the lines. ``settle_s``: a file unchanged for so long has ended. ``since_s``,
    seconds since 1970: how far back log groups and buckets are read, None for an hour of a group
    and all of a bucket, then from where it stopped.

    >>> Foreign(places=("/var/log/envoy",), source=LogSource(source_id="edge")).settle_s
    60.0
    """

    places: tuple[str, ...]
    source: LogSource
    log_format: str | None = None
    settle_s: float = SETTLE_S
    since_s: float | None = None
    aws: AwsAccess = AwsAccess()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What of the logs is now in the log folder, of which sources, and what could not be read."""

    files: int
    bytes: int
    formats: tuple[str, ...]
    notices: tuple[str, ...]
    sources: tuple[str, ...] = ()


def collect(settings: Settings, foreign: Foreign, *, now: float, say: Say) -> Collected:
    """Copy what is new in these logs; running it again copies nothing twice.

    Raises:
        LogFolderError: a place does not exist, a folder cannot be written, or the name is taken.
        LogFormatError: the format is none of Envoy's.
        UnknownNameError: no format has that name.
        MissingToolError: boto3, which AWS's places need, is not installed.
        LakeError: AWS refuses: no such group or bucket, no credentials, access denied, throttled.
    """
    given = format_of(foreign.log_format)
    places = by_source(map(parse_place, foreign.places), foreign.source.source_id)
    folders = {name: _folder_of(settings, name) for name in places}
    told = [
        _collect_source(settings, foreign, given, folders[name], ones, now=now, say=say)
        for name, ones in places.items()
    ]
    return Collected(
        files=sum(one.files for one in told),
        bytes=sum(one.bytes for one in told),
        formats=tuple(dict.fromkeys(name for one in told for name in one.formats)),
        notices=tuple(notice for one in told for notice in one.notices),
        sources=tuple(places),
    )


def _collect_source(
    settings: Settings,
    foreign: Foreign,
    given: LogFormat | None,
    logs: SidecarLogs,
    places: Sequence[Place],
    *,
    now: float,
    say: Say,
) -> Collected:
    prepare_state(settings.state)
    reading = _Reading(foreign, logs, settings.folder.checkpoints, now, say)
    for folder in (logs.closed, settings.folder.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(reading.state_file().with_suffix(".lock"), timeout_s=LOCK_TIMEOUT_S) as mine:
        if not mine:
            raise LogFolderError(
                f"another meshml reads the logs of {logs.sidecar_id}", advice="let it end"
            )
        remove_parts(logs.closed)
        return _note_all(foreign, given, logs, places, reading.read(places))


class _Reading:
    """One reading of a source's places, kind by kind."""

    def __init__(
        self, foreign: Foreign, logs: SidecarLogs, checkpoints: Path, now: float, say: Say
    ) -> None:
        self._foreign = foreign
        self._logs = logs
        self._checkpoints = checkpoints
        self._now = now
        self._say = say

    def state_file(self, *parts: str) -> Path:
        """Where it is remembered how far a place of this source was read."""
        name = "-".join(("source", self._logs.sidecar_id, *parts))
        return self._checkpoints / f"{name}.json"

    def read(self, places: Sequence[Place]) -> Brought:
        """What is new in all these places."""
        patterns = [one.pattern for one in places if isinstance(one, FilePlace)]
        told = [self._files(patterns)] if patterns else []
        for place in places:
            match place:
                case GroupPlace():
                    told.append(self._group(place))
                case BucketPlace():
                    told.append(self._bucket(place))
        return Brought(
            files=tuple(path for one in told for path in one.files),
            groups=tuple(dict.fromkeys(group for one in told for group in one.groups)),
            notices=tuple(notice for one in told for notice in one.notices),
        )

    def _files(self, patterns: Sequence[str]) -> Brought:
        state_file = self.state_file()
        state = FollowState.from_json(_read(state_file)) if state_file.exists() else FollowState()
        settle_s = self._foreign.settle_s
        found = next_segments(patterns, state, now=self._now, settle_s=settle_s)
        new = len(found.segments)
        self._say(f"{self._logs.sidecar_id}: {found.files} files looked at, {new} new parts")
        state = found.state
        _write(state_file, state.to_json())
        files, groups, notices = [], dict[str, None](), [str(one) for one in found.notices]
        telling = Telling(self._say)
        for number, segment in enumerate(found.segments):
            seen = Unwrapped()
            path = spool(segment, self._logs.closed, seen)
            if path is None:
                continue
            files.append(path)
            groups.update(dict.fromkeys(seen.groups))
            notices += [f"{segment.path}: {notice}" for notice in seen.notices]
            state = state.advanced(segment)
            if telling.is_due():  # what a kill leaves unsaid, ``spool`` finds in the folder
                _write(state_file, state.to_json())
                self._say(f"{self._logs.sidecar_id}: {number + 1} of {new} new parts copied")
        _write(state_file, state.to_json())
        return Brought(files=tuple(files), groups=tuple(groups), notices=tuple(notices))

    def _group(self, place: GroupPlace) -> Brought:
        access, since_s = self._foreign.aws, self._foreign.since_s
        client = connect.logs_client(access.region, access.endpoint_url, access.profile)
        region = client.meta.region_name
        self._say(f"{self._logs.sidecar_id}: reading {place} in {region}")
        digest = place_digest(region, place.group, place.stream_prefix)
        files = follow_group(
            client,
            place,
            state_file=self.state_file("cloudwatch", digest),
            closed=self._logs.closed,
            since_ms=None if since_s is None else int(since_s * 1000),
            now_ms=int(self._now * 1000),
            say=self._say,
        )
        return Brought(files=files)

    def _bucket(self, place: BucketPlace) -> Brought:
        access = self._foreign.aws
        client = connect.s3_client(access.region, access.endpoint_url, access.profile)
        self._say(f"{self._logs.sidecar_id}: reading {place}")
        return follow_bucket(
            client,
            place,
            state_file=self.state_file("s3", place_digest(place.bucket)),
            closed=self._logs.closed,
            since_s=self._foreign.since_s,
            say=self._say,
        )


def _note_all(
    foreign: Foreign,
    given: LogFormat | None,
    logs: SidecarLogs,
    places: Sequence[Place],
    brought: Brought,
) -> Collected:
    """Note whose lines came, from where and in which formats."""
    formats = [given] if given else _detected(brought.files)
    source = replace(foreign.source, source_id=logs.sidecar_id)
    origins = (*map(str, places), *(f"{CLOUDWATCH}{group}" for group in brought.groups))
    _note(source, formats, origins, logs.folder / SOURCE_FILE)
    notices = list(brought.notices[:MOST_NOTICES])
    if left_out := len(brought.notices) - len(notices):
        notices.append(f"{logs.sidecar_id}: {left_out} more of such")
    if brought.files and not formats:
        notices.append(f"no known format reads the lines of {logs.sidecar_id}: --format")
    return Collected(
        files=len(brought.files),
        bytes=sum(path.stat().st_size for path in brought.files),
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


def format_of(text: str | None) -> LogFormat | None:
    """The format that a user means: a known one's name, an Envoy format string, a JSON template.

    Raises:
        LogFormatError: it is none of Envoy's.
        UnknownNameError: no format has that name.
    """
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


def add_format(settings: Settings, source_id: str, log_format: str) -> None:
    """Note a format as a source's newest, for lines that are read from now on, or again.

    Raises:
        LogFolderError: there are no logs of such a source.
        LogFormatError: the format is none of Envoy's.
        UnknownNameError: no format has that name.
    """
    given, logs = format_of(log_format), _folder_of(settings, source_id)
    if not logs.closed.is_dir():
        raise LogFolderError(
            f"there are no logs of {source_id} in {settings.logs}",
            advice="name a source whose lines are in quarantine: meshml quarantine",
        )
    place = logs.folder / SOURCE_FILE
    known = LogSource.from_json(_read(place)) if place.exists() else LogSource(source_id=source_id)
    _note(known, [given] if given else [], (), place)


def _detected(paths: Sequence[Path]) -> list[LogFormat]:
    """The formats that these files begin in, each once; of very many, some are looked at."""
    step = max(len(paths) // _SAMPLE_FILES, 1)
    found = (detect_format(_sample(path)) for path in paths[::step])
    return list({it.name: it for it in found if it is not None}.values())


def _sample(path: Path) -> list[str]:
    with path.open("rb") as file:
        lines = file.read(_SAMPLE_BYTES).decode(errors="replace").splitlines()
    return list(islice(lines, _SAMPLE_LINES))


def _note(
    source: LogSource, formats: Iterable[LogFormat], origins: Iterable[str], place: Path
) -> None:
    """Note whose lines these are, with the formats and origins that were seen before."""
    known = LogSource.from_json(_read(place)) if place.exists() else source
    every = tuple(dict.fromkeys((*known.origins, *origins)))
    noted = replace(source, formats=dict(known.formats), origins=every)
    for log_format in formats:
        noted = noted.with_format(log_format)
    _write(place, noted.to_json())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
