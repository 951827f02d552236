"""Lines out of a log folder that others are writing to: whole lines, each once, with their place.

Goes in: the folder of one sidecar. Comes out: lines. Files are renamed from live to closed while
we read, so a file is known by its inode, and one that was closed meanwhile is read on from where
we were. A half line at the end of a live file is not finished yet; of a closed file it is bad.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from meshml_dbx.errors import LogFolderError
from meshml_dbx.traffic.log_folder import CLOSED_NAME, SidecarLogs

BLOCK_BYTES = 1 << 22
MAX_LISTINGS = 8
"""How often a folder is listed again because files moved: they move every few seconds at most."""

_CLOSED_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One file of a sidecar's log; ``closed_at`` (UTC microseconds) is None while it is live.

    >>> LogFile(path=Path("logs/a-1/live/access.jsonl")).is_live
    True
    """

    path: Path
    number: int = 0
    closed_at: int | None = None

    @property
    def is_live(self) -> bool:
        """Whether the file may still grow."""
        return self.closed_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no record of ours: where it starts, and why it is none."""

    file: Path
    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some whole lines of a file, and where in the file they begin."""

    file: Path
    offset: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, with its offset in the file."""
        offset = self.offset
        for line in self.data.split(b"\n"):
            if line and not line.isspace():
                yield offset, line
            offset += len(line) + 1

    def lines_but(self, prefixes: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
        """Each line that does not begin in one of these ways."""
        return ((offset, line) for offset, line in self.lines() if not line.startswith(prefixes))

    def matches(self, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
        """Each line in which the pattern is found, with its offset in the file."""
        position = 0
        while found := pattern.search(self.data, position):
            begin = self.data.rfind(b"\n", 0, found.start()) + 1
            end = self.data.find(b"\n", found.end())
            position = len(self.data) if end < 0 else end
            yield self.offset + begin, self.data[begin:position]


def list_sidecars(logs: Path) -> tuple[str, ...]:
    """The sidecars that ever wrote to a log folder.

    Raises:
        LogFolderError: the folder is missing, cannot be read, or holds no sidecar's log.
    """
    advice = (
        "record a run first: meshml record -- python train.py, "
        "or with a mesh meshml run --client NAME -- python train.py; or see --logs"
    )
    try:
        found = sorted(entry.name for entry in os.scandir(logs) if entry.is_dir())
    except OSError as error:
        raise LogFolderError(
            f"the log folder {logs} cannot be read: {error.strerror}", advice=advice
        ) from error
    if not found:
        raise LogFolderError(f"the log folder {logs} is empty", advice=advice)
    return tuple(found)


def list_files(folder: SidecarLogs) -> tuple[LogFile, ...]:
    """The files of one sidecar in the order in which they were written: closed ones, then live.

    Live files are listed first, so that one that is closed in between is listed twice, not never.
    """
    live = [LogFile(path=path) for path in _names(folder.live)]
    closed = [file for path in _names(folder.closed) if (file := _closed_file(path))]
    return (*sorted(closed, key=lambda file: (file.number, file.path.name)), *live)


def _names(folder: Path) -> list[Path]:
    try:
        return sorted(Path(e.path) for e in os.scandir(folder) if e.name.endswith(".jsonl"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LogFolderError(
            f"the log folder {folder} cannot be read: {error.strerror}",
            advice="see who owns it, or name another with --logs",
        ) from error


def _closed_file(path: Path) -> LogFile | None:
    """The closed file of that name; None for a name that the log folder does not give."""
    found = CLOSED_NAME.match(path.name)
    if not found:
        return None
    try:
        moment = datetime.strptime(found["time"], _CLOSED_TIME).replace(tzinfo=UTC)
    except ValueError:  # looks like one, but is no time: 20261399T…
        return None
    micros = int(moment.timestamp()) * 1_000_000 + moment.microsecond
    return LogFile(path=path, number=int(found["number"]), closed_at=micros)


@dataclass(slots=True, kw_only=True)
class FolderReader:
    """Reads a sidecar's files, each byte once, however they are renamed meanwhile.

    >>> reader = FolderReader(folder=SidecarLogs(root=Path("/none"), sidecar_id="a-1"))
    >>> list(reader.files())
    []
    """

    folder: SidecarLogs
    bad_lines: list[BadLine] = field(default_factory=list)
    _read_until: dict[tuple[int, int], int] = field(default_factory=dict)

    def files(self) -> Iterator[tuple[LogFile, Iterator[Block]]]:
        """Each file with its blocks; a file's blocks are to be used up before the next."""
        for listing in range(MAX_LISTINGS):
            fresh = [file for file in list_files(self.folder) if listing == 0 or self._is_new(file)]
            if not fresh:
                return
            for file in fresh:
                yield file, self._blocks(file)

    def grown_files(self) -> Iterator[tuple[LogFile, Iterator[Block]]]:
        """Each file that has more than when it was read last; what moves meanwhile has next time.

        At the first look closed files are passed over: who looks at live ones has no need of them.
        """
        is_first = not self._read_until
        for file in list_files(self.folder):
            try:
                status = file.path.stat()
            except FileNotFoundError:
                continue
            key = (status.st_dev, status.st_ino)
            if is_first and not file.is_live:
                self._read_until[key] = status.st_size
            elif status.st_size > self._read_until.get(key, 0):
                yield file, self._blocks(file)

    def _is_new(self, file: LogFile) -> bool:
        """Whether there is more to read: a file not seen before, or closed with more lines."""
        try:
            status = file.path.stat()
        except FileNotFoundError:
            return False
        seen = self._read_until.get((status.st_dev, status.st_ino))
        return seen is None or (not file.is_live and status.st_size > seen)

    def _blocks(self, file: LogFile) -> Iterator[Block]:
        try:
            stream = file.path.open("rb")
        except FileNotFoundError:  # moved since it was listed: the next listing has it
            return
        with stream:
            status = os.fstat(stream.fileno())
            key = (status.st_dev, status.st_ino)
            for block in _whole_lines(stream, file, self._read_until.get(key, 0)):
                self._read_until[key] = block.offset + len(block.data)
                yield block
            self._read_until.setdefault(key, 0)


def _whole_lines(stream: BinaryIO, file: LogFile, offset: int) -> Iterator[Block]:
    """Blocks that end with a line's end; what follows the last one is only taken if closed."""
    stream.seek(offset)
    pieces: list[bytes] = []
    while data := stream.read(BLOCK_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            pieces.append(data)
            continue
        block = Block(file=file.path, offset=offset, data=b"".join((*pieces, data[:cut])))
        pieces = [data[cut:]] if cut < len(data) else []
        offset += len(block.data)
        yield block
    if pieces and not file.is_live:
        yield Block(file=file.path, offset=offset, data=b"".join(pieces))
