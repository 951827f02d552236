"""The content of a log file, plain or gzip, by its decompressed offset and in constant memory.

Goes in: a path, and how far it was read. Comes out: its head, which tells files apart, how much of
it can be read now, and its bytes from an offset on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from meshml_dbx.lake.gunzip import BLOCK, MAGIC, Damage, file_chunks, gunzip

HEAD = 1024
TAIL = 256
_MARK_BYTES = 6


def short_digest(data: bytes) -> str:
    """A digest that tells one log's bytes from another's, not one that withstands an attacker."""
    return blake2b(data, digest_size=_MARK_BYTES).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How much of a file there is; offsets are of its decompressed content.

    ``lines_end`` is behind its last complete line, or where it was read to when none came since;
    the tails are digests of what stands before three offsets.
    """

    length: int
    lines_end: int
    tail_read: str
    tail_lines: str
    tail_all: str
    is_gzip: bool
    damage: str = ""


class Content:
    """An open log file; it stays the same file when its name goes to another.

    >>> with Content.open(Path("README.md")) as content:
    ...     content.head()[:1]
    b'#'
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.is_gzip = self._bytes(0, len(MAGIC)) == MAGIC

    @classmethod
    def open(cls, path: Path) -> "Content":
        """The file of this name."""
        return cls(path.open("rb"))

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def head(self) -> bytes:
        """Its first bytes, at most ``HEAD``."""
        found = b""
        for block in self.blocks(0):
            found += block[: HEAD - len(found)]
            if len(found) == HEAD:
                break
        return found

    def blocks(self, begin: int) -> Iterator[bytes]:
        """Its bytes from that offset on, up to the end or to where it is damaged."""
        if not self.is_gzip:
            self._file.seek(begin)
            yield from file_chunks(self._file, BLOCK)
            return
        position = 0
        for block in self._decompressed():
            if isinstance(block, Damage):
                return
            if position + len(block) > begin:
                yield block[max(begin - position, 0) :]
            position += len(block)

    def measure(self, read: int) -> Measure:
        """How much there is, of a file that was read up to that offset."""
        return self._measure_gzip(read) if self.is_gzip else self._measure_plain(read)

    def _decompressed(self) -> Iterator[bytes | Damage]:
        self._file.seek(0)
        return (one for one in gunzip(file_chunks(self._file)) if one is not None)

    def _measure_plain(self, read: int) -> Measure:
        length = os.fstat(self._file.fileno()).st_size
        lines_end = self._last_line_end(read, length)
        return Measure(
            length=length,
            lines_end=lines_end,
            tail_read=self._tail(min(read, length)),
            tail_lines=self._tail(lines_end),
            tail_all=self._tail(length),
            is_gzip=False,
        )

    def _tail(self, offset: int) -> str:
        begin = max(offset - TAIL, 0)
        return short_digest(self._bytes(begin, offset))

    def _bytes(self, begin: int, end: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(end - begin)

    def _last_line_end(self, read: int, length: int) -> int:
        end = length
        while end > read:
            begin = max(end - BLOCK, read)
            found = self._bytes(begin, end).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return min(read, length)

    def _measure_gzip(self, read: int) -> Measure:
        position, last, damage = 0, b"", ""
        lines_end, at_lines, at_read = 0, b"", b""
        for block in self._decompressed():
            if isinstance(block, Damage):
                damage = block.reason
                break
            seen, before = last + block, len(last)
            if position < read <= position + len(block):
                at_read = seen[: before + read - position][-TAIL:]
                lines_end, at_lines = read, at_read
            found = block.rfind(b"\n") + 1
            if found and position + found > read:
                lines_end, at_lines = position + found, seen[: before + found][-TAIL:]
            position += len(block)
            last = seen[-TAIL:]
        if position < read:
            lines_end, at_lines, at_read = position, last, last
        return Measure(
            length=position,
            lines_end=lines_end,
            tail_read=short_digest(at_read),
            tail_lines=short_digest(at_lines),
            tail_all=short_digest(last),
            is_gzip=True,
            damage=damage,
        )
