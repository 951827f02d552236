"""What is remembered of log files that others write, from one look at them to the next.

Goes in: JSON that was saved, or nothing. Comes out: a value that never changes, and its next ones.
It holds digests and names, none of the bytes of a log.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from meshml_dbx.errors import LakeError

if TYPE_CHECKING:
    from meshml_dbx.lake.follow import Segment

VERSION = 1

Mark = tuple[int, str]
"""So many of a log's first bytes, and their digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One log, whatever its files are called.

    ``marks`` are of each line end among its first 1,024 bytes, as far as it was seen; ``tail`` is
    the digest of what stands before ``offset``, up to which it was read; ``pending`` is the end,
    and tail, of what was planned and may be copied already. ``missed`` when its last look found
    less than ``length`` in all files.

    >>> Stream(fingerprint="ab-3", marks=((3, "cd"),), name="a.log", seen=0, offset=3).planned
    3
    """

    fingerprint: str
    marks: tuple[Mark, ...]
    name: str
    seen: float
    offset: int = 0
    tail: str = ""
    pending: Mark | None = None
    length: int = 0
    missed: bool = False

    @property
    def planned(self) -> int:
        """How far it is read once all that is planned is copied."""
        return self.pending[0] if self.pending else self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a path held at the last look; as long as it looks the same it is not opened again.

    ``length`` and ``end`` are of the content: all of it, and what of it can be read.
    """

    size: int
    mtime_ns: int
    inode: int
    since: float
    settled: bool
    fingerprint: str = ""
    length: int = 0
    end: int = 0
    damaged: bool = False

    @classmethod
    def of(
        cls, stat: os.stat_result, before: "Sighting | None", *, now: float, settle_s: float
    ) -> "Sighting":
        """A file as it is now; it is settled when it was not changed for so long."""
        same = before is not None and before.shape == (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        since = before.since if before and same else now
        return cls(
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            inode=stat.st_ino,
            since=since,
            settled=now - min(since, stat.st_mtime) >= settle_s,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """What changes when the file does; only to save opening it, never to know it by."""
        return (self.inode, self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowState:
    """How far the logs of some folders were read.

    >>> FollowState.from_json(FollowState().to_json()) == FollowState()
    True
    """

    streams: Mapping[str, Stream] = field(default_factory=dict)
    files: Mapping[str, Sighting] = field(default_factory=dict)

    def to_json(self) -> str:
        """As it is saved."""
        streams = {name: _lean(stream) for name, stream in self.streams.items()}
        files = {name: _lean(sighting) for name, sighting in self.files.items()}
        whole = {"version": VERSION, "streams": streams, "files": files}
        return json.dumps(whole, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "FollowState":
        """As it was saved.

        Raises:
            LakeError: it was written by a newer version, or is not whole.
        """
        try:
            found = json.loads(text)
            version = int(found["version"])
            if version <= VERSION:
                streams = {name: _stream(values) for name, values in found["streams"].items()}
                files = {name: Sighting(**values) for name, values in found["files"].items()}
                return cls(streams=streams, files=files)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"the state of followed logs is not whole: {error or type(error).__name__}"
            advice = "restore the file, or remove it to read all logs from their beginning"
            raise LakeError(message, advice=advice) from error
        raise LakeError(
            f"the state of followed logs has version {version}, this one knows {VERSION}",
            advice="upgrade meshml_dbx to the version that wrote it",
        )

    def advanced(self, segment: "Segment") -> "FollowState":
        """The state after a segment was copied; the same again when that was told before."""
        stream = self.streams[segment.fingerprint]
        if stream.offset != segment.begin:
            return self
        read = replace(stream, offset=segment.end, tail=segment.tail, pending=None)
        return replace(self, streams={**self.streams, stream.fingerprint: read})

    def forget(self, *, before: float) -> "FollowState":
        """The state without logs that were last seen before that time; if such a log comes back,
        it is read from its beginning."""
        kept = {name: stream for name, stream in self.streams.items() if stream.seen >= before}
        files = {
            name: sighting
            for name, sighting in self.files.items()
            if not sighting.fingerprint or sighting.fingerprint in kept
        }
        return FollowState(streams=kept, files=files)


def _lean(value: Stream | Sighting) -> dict[str, Any]:
    """Its fields, without those that are as they are by default."""
    defaults = {one.name: one.default for one in fields(value)}
    return {name: one for name, one in asdict(value).items() if one != defaults[name]}


def _stream(values: Mapping[str, Any]) -> Stream:
    pending = values.get("pending")
    marks = tuple((int(length), str(digest)) for length, digest in values["marks"])
    told = {**values, "marks": marks, "pending": (pending[0], pending[1]) if pending else None}
    return Stream(**told)
