"""Which new bytes of log files that others write may be read now, each of them once.

Goes in: folders or patterns, and the state that the caller keeps as JSON. Comes out: segments to
copy with ``spool``, the next state, and notices of what went wrong. Files may be renamed, copied
and truncated, gzipped, delivered twice, cut off or out of order, grow, or vanish meanwhile: a name
says nothing, the first bytes do. Spark is then given the copies, which never change again.

**What a file is.** The first 1,024 bytes of its content, up to a line end, which stay the same
while a log grows. A file that is shorter has less to show, so a *stream* remembers a digest at
every line end of its first 1,024 bytes, and learns more of them as it grows. Two files are one
stream when the one's beginning is the other's, for as long as this holds: a file that has turned
out to differ becomes a stream of its own, and is read from its first byte. A stream's
``fingerprint``, of what was seen of it first, does not change. So a log that begins like another
(the same first line after each rotation) is read as soon as it differs from it. Logs whose first
1,024 bytes are all the same cannot be told apart by them; the bytes before the place where reading
goes on are compared too, and what does not fit is told by a notice, not read. What ends within its
first line and has settled is read as a log of its own, be it the begin of another.

**Once, also after a kill.** Save ``Found.state`` before anything is copied: it holds what was
planned, and is planned again in the same way. Then, for each segment: ``spool``, then
``state.advanced(segment)``, and save that. One follower at a time: hold a lock meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from meshml_dbx.lake.follow_state import FollowState, Mark, Sighting, Stream
from meshml_dbx.lake.log_content import HEAD, Content, Measure, short_digest
from meshml_dbx.lake.log_files import find_log_files

__all__ = ["Found", "Notice", "Segment", "next_segments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Bytes of one file that may be read: whole lines, unless the file has ended within one.

    Offsets are of the decompressed content. ``mark`` and ``tail`` are what the file must still
    begin with, and have before ``end``, when it is copied.

    >>> whole = Segment(path=Path("a.log"), fingerprint="c0ffee-90", begin=0, end=90,
    ...                 mark=(90, "ab"), tail="cd")
    >>> whole.name
    'c0ffee-90-000000000000000-000000000000090.log'
    """

    path: Path
    fingerprint: str
    begin: int
    end: int
    mark: Mark
    tail: str

    @property
    def name(self) -> str:
        """Of the file that it is copied to: the same each time it is planned."""
        return f"{self.fingerprint}-{self.begin:015d}-{self.end:015d}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that was not read, or not as it should be: never silence.

    ``reason`` is one of shrunk, differs, gone, damaged, zeros, unreadable.

    >>> str(Notice(reason="gone", file="a.log", what="7 bytes were not read"))
    'a.log: 7 bytes were not read [gone]'
    """

    reason: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what} [{self.reason}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What may be copied now; ``files`` is how many were looked at."""

    segments: tuple[Segment, ...]
    state: FollowState
    notices: tuple[Notice, ...]
    files: int


def next_segments(
    patterns: Iterable[str | Path], state: FollowState, *, now: float, settle_s: float
) -> Found:
    """At most one segment a stream: what is new in the files of these folders and patterns.

    Args:
        patterns: files, folders (with all beneath that is not hidden), or glob patterns.
        now: seconds since 1970, as the file system counts them.
        settle_s: a file that was not changed for so long has ended, be it within a line.

    Raises:
        LogFolderError: a folder or file that is named without a pattern does not exist.
    """
    look = _Look(state, now=now, settle_s=settle_s)
    paths = find_log_files(patterns)
    for path in paths:
        look.look_at(path)
    return look.found(len(paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A file that carries a stream now."""

    path: Path
    length: int
    end: int = 0
    tail: str = ""


class _Look:
    """One look at all files: what is known of streams grows with each file."""

    def __init__(self, state: FollowState, *, now: float, settle_s: float) -> None:
        self._before = state.files
        self._shapes = {one.shape: one for one in state.files.values() if one.inode}
        self._now = now
        self._settle_s = settle_s
        self._streams = _Streams(state.streams)
        self._files: dict[str, Sighting] = {}
        self._candidates: dict[str, list[_Candidate]] = {}
        self._notices: list[Notice] = []

    # --- one file ---------------------------------------------------------------------------------

    def look_at(self, path: Path) -> None:
        try:
            stat = path.stat()
            shape = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = self._before.get(str(path))
            before = known if known and known.shape == shape else self._shapes.get(shape)
            sight = Sighting.of(stat, before, now=self._now, settle_s=self._settle_s)
            if before and self._is_done(before, settled=sight.settled):
                self._carry_over(path, before)
            else:
                self._read(path, sight)
        except FileNotFoundError:  # renamed since it was listed: the next look finds it
            return
        except OSError as error:
            self._notice("unreadable", path, f"cannot be read: {error.strerror or error}")

    def _is_done(self, before: Sighting, *, settled: bool) -> bool:
        """Whether an unchanged file has nothing that was not planned yet."""
        unfinished = before.length > before.end or before.damaged or not before.fingerprint
        if settled and not before.settled and before.length and unfinished:
            return False
        stream = self._streams.get(before.fingerprint)
        return not before.fingerprint or (stream is not None and before.end <= stream.planned)

    def _carry_over(self, path: Path, before: Sighting) -> None:
        self._files[str(path)] = before
        if before.fingerprint:
            self._streams.see(before.fingerprint, path, self._now)
            self._add(before.fingerprint, _Candidate(path=path, length=before.length))

    def _read(self, path: Path, sight: Sighting) -> None:
        with Content.open(path) as content:
            head = content.head()
            key = _key(head, settled=sight.settled)
            self._files[str(path)] = replace(sight, length=len(head))
            if head.startswith(b"\0"):
                self._notice("zeros", path, ZEROS)
            elif key:
                known = self._before.get(str(path))
                stream = self._streams.identify(head, key, known.fingerprint if known else "")
                self._streams.see(stream.fingerprint, path, self._now)
                self._weigh(path, sight, stream, content.measure(stream.offset))

    def _weigh(self, path: Path, sight: Sighting, stream: Stream, measure: Measure) -> None:
        """What of a file can be read, and what is odd about it."""
        sight = replace(sight, fingerprint=stream.fingerprint, damaged=bool(measure.damage))
        if measure.length >= stream.offset and measure.tail_read != (stream.tail or _NOTHING):
            self._files[str(path)] = sight
            self._notice("differs", path, DIFFERS.format(stream.offset))
            return
        end, tail = measure.lines_end, measure.tail_lines
        if measure.damage and sight.settled:
            self._notice("damaged", path, DAMAGED.format(measure.damage, end))
        elif sight.settled and (measure.is_gzip or measure.length == sight.size):
            end, tail = measure.length, measure.tail_all
        self._files[str(path)] = replace(sight, length=measure.length, end=end)
        candidate = _Candidate(path=path, length=measure.length, end=end, tail=tail)
        self._add(stream.fingerprint, candidate)

    def _add(self, fingerprint: str, candidate: _Candidate) -> None:
        self._candidates.setdefault(fingerprint, []).append(candidate)

    def _notice(self, reason: str, path: Path | str, what: str) -> None:
        self._notices.append(Notice(reason=reason, file=str(path), what=what))

    # --- all files --------------------------------------------------------------------------------

    def found(self, files: int) -> Found:
        """What all files together have."""
        segments = tuple(
            segment
            for fingerprint, candidates in sorted(self._candidates.items())
            if (segment := self._plan(self._streams[fingerprint], candidates))
        )
        self._tell_shrunk()
        for stream in tuple(self._streams.values()):
            self._tell_gone(stream)
        state = FollowState(streams=self._streams.all(), files=self._files)
        return Found(segments=segments, state=state, notices=tuple(self._notices), files=files)

    def _plan(self, stream: Stream, candidates: Sequence[_Candidate]) -> Segment | None:
        """What is to be copied of a stream, from whichever of its files has it."""
        best = max(candidates, key=lambda one: one.end)
        if stream.pending is None and best.end > stream.offset:
            stream = replace(stream, pending=(best.end, best.tail))
            self._streams.put(stream)
        if stream.pending is None:
            return None
        end, tail = stream.pending
        holders = [one.path for one in candidates if one.length >= end]
        if not holders:
            return None
        return Segment(
            path=min(holders, key=lambda path: (path.suffix == ".gz", path)),
            fingerprint=stream.fingerprint,
            begin=stream.offset,
            end=end,
            mark=max(mark for mark in stream.marks if mark[0] <= end),
            tail=tail,
        )

    def _has(self, fingerprint: str) -> int:
        """How much of a stream its longest file has now."""
        return max((one.length for one in self._candidates.get(fingerprint, ())), default=0)

    def _tell_shrunk(self) -> None:
        """Files that are shorter than they were, and of which no other file has the rest."""
        for name, now in self._files.items():
            before, stream = self._before.get(name), self._streams.get(now.fingerprint)
            if (
                before
                and stream
                and before.fingerprint == now.fingerprint
                and 0 < now.length < before.length
                and self._has(now.fingerprint) < stream.offset
            ):
                self._notice("shrunk", name, SHRUNK.format(now.length, stream.offset))

    def _tell_gone(self, stream: Stream) -> None:
        """What was there, was not read, and was nowhere at this look and the one before."""
        has = self._has(stream.fingerprint)
        lost = stream.length - max(has, stream.offset)
        if lost <= 0:
            self._streams.put(replace(stream, length=max(has, stream.offset), missed=False))
        elif not stream.missed:  # it may have been renamed while the files were listed
            self._streams.put(replace(stream, missed=True))
        else:
            self._notice("gone", stream.name, GONE.format(lost))
            left = max(has, stream.offset)
            self._streams.put(replace(stream, length=left, missed=False))


class _Streams:
    """The streams that are known, found by how a file begins."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = dict(streams)
        self._at: dict[Mark, set[str]] = {}
        self._tops: dict[Mark, str] = {}
        for stream in streams.values():
            self._index(stream)

    def all(self) -> dict[str, Stream]:
        return self._streams

    def values(self) -> Iterable[Stream]:
        return self._streams.values()

    def get(self, fingerprint: str) -> Stream | None:
        return self._streams.get(fingerprint)

    def __getitem__(self, fingerprint: str) -> Stream:
        return self._streams[fingerprint]

    def put(self, stream: Stream) -> None:
        self._streams[stream.fingerprint] = stream

    def see(self, fingerprint: str, path: Path, now: float) -> None:
        """A file of that name carries this stream now."""
        self.put(replace(self._streams[fingerprint], name=str(path), seen=now))

    def identify(self, head: bytes, key: bytes, last: str) -> Stream:
        """The stream of a file, which has learnt what the file's head has to show.

        ``last`` is the stream that the path had before.
        """
        longer = self._at.get((len(key), short_digest(key)), set())
        fingerprint = self._best(longer, last) if longer else self._shorter(head, key)
        stream = self._streams[fingerprint] if fingerprint else _new_stream(key)
        top = stream.marks[-1]
        marks = (*stream.marks, *(mark for mark in _marks(key) if mark[0] > top[0]))
        self._tops.pop(top, None)
        self._index(replace(stream, marks=marks))
        return self._streams[stream.fingerprint]

    def _index(self, stream: Stream) -> None:
        self.put(stream)
        for mark in stream.marks:
            self._at.setdefault(mark, set()).add(stream.fingerprint)
        self._tops[stream.marks[-1]] = stream.fingerprint

    def _best(self, fingerprints: set[str], last: str) -> str:
        """Of streams that begin with all that a file has: its last one, else the furthest read."""
        if last in fingerprints:
            return last
        return max(fingerprints, key=lambda one: (self._streams[one].offset, one))

    def _shorter(self, head: bytes, key: bytes) -> str | None:
        """The stream of which less was seen than this file has, the longest of them."""
        lengths = sorted({top[0] for top in self._tops if top[0] < len(key)}, reverse=True)
        marks = ((length, short_digest(head[:length])) for length in lengths)
        return next((self._tops[mark] for mark in marks if mark in self._tops), None)


ZEROS = (
    "begins with zero bytes and was not read: its writer does not append, so that it goes on "
    "at its old place after the file was truncated; let it open the log for appending"
)
DIFFERS = (
    "begins like a log that was read up to byte {}, but has other bytes before it: not read; "
    "either it was changed in place, or the first 1,024 bytes of two logs are the same"
)
DAMAGED = "{}; read are the {} bytes of whole lines before it"
SHRUNK = "has {} bytes, and was read up to byte {}: it was cut or changed in place"
GONE = "{} bytes that were there at an earlier look are gone, and were not read"

_NOTHING = short_digest(b"")


def _key(head: bytes, *, settled: bool) -> bytes:
    """What of a file's head tells it apart: whole lines; what cannot change, when it has none."""
    if len(head) == HEAD:
        return head
    lines = head[: head.rfind(b"\n") + 1]
    return lines or (head if settled else b"")


def _new_stream(key: bytes) -> Stream:
    digest = blake2b(key, digest_size=12).hexdigest()
    return Stream(fingerprint=f"{digest}-{len(key)}", marks=_marks(key), name="", seen=0)


def _marks(key: bytes) -> tuple[Mark, ...]:
    """The digest of all before it, at each line end and at the end."""
    ends = [at + 1 for at, byte in enumerate(key) if byte == ord("\n")]
    if not ends or ends[-1] != len(key):
        ends.append(len(key))
    return tuple((end, short_digest(key[:end])) for end in ends)
