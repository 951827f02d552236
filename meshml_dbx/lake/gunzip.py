"""Gzip as log shippers leave it: many members in a row, cut off, damaged, with zeros behind.

Goes in: the bytes of an object or file, in chunks. Comes out: its content in blocks of bounded
size, ``None`` where a member ends, and ``Damage`` where something is wrong; reading then goes on
at the next member, so that one bad byte costs one member and not all that follow it.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"\x1f\x8b"
BLOCK = 1 << 20
CHUNK = 1 << 16
"""Of compressed bytes: what follows a member is copied once a member, so it is kept small."""

_HEADER = MAGIC + b"\x08"
_GZIP = 31
_STEP = 64
"""After an error the chunk is read again in such steps, to have all that came before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What could not be read, and at which byte of the compressed input.

    >>> Damage(offset=20, reason="ends within a gzip member").offset
    20
    """

    offset: int
    reason: str


def file_chunks(file: BinaryIO, size: int = CHUNK) -> Iterator[bytes]:
    """What is left of a file, in chunks."""
    while chunk := file.read(size):
        yield chunk


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes | Damage | None]:
    """Blocks of content, ``None`` at each member's end, ``Damage`` where bytes are no gzip."""
    source = _Source(chunks)
    while source.skip_zeros():
        if source.has_header():
            yield from _member(source)
        else:
            yield Damage(offset=source.offset, reason="no gzip member begins here")
            source.find_header()


class _Source:
    """Compressed bytes that were not read yet, and where they stand."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.data = b""
        self.offset = 0

    def fill(self) -> bool:
        chunk = next(self._chunks, b"")
        self.data += chunk
        return bool(chunk)

    def keep(self, rest: bytes) -> None:
        """All but the rest was used."""
        self.offset += len(self.data) - len(rest)
        self.data = rest

    def skip_zeros(self) -> bool:
        """Whether anything but padding is left."""
        while True:
            self.keep(self.data.lstrip(b"\0"))
            if self.data or not self.fill():
                return bool(self.data)

    def has_header(self) -> bool:
        while len(self.data) < len(_HEADER) and self.fill():
            pass
        return self.data.startswith(_HEADER)

    def find_header(self) -> None:
        """Go to the next place after this byte that may be a member's begin, or to the end."""
        self.keep(self.data[1:])
        while (found := self.data.find(_HEADER)) < 0:
            self.keep(self.data[-len(_HEADER) + 1 :])
            if not self.fill():
                self.keep(b"")
                return
        self.keep(self.data[found:])


def _member(source: _Source) -> Iterator[bytes | Damage | None]:
    machine = zlib.decompressobj(_GZIP)
    while not machine.eof:
        if not source.data and not source.fill():
            if block := machine.flush():
                yield block
            yield Damage(offset=source.offset, reason="ends within a gzip member")
            return
        before = machine.copy()
        try:
            block = machine.decompress(source.data, BLOCK)
        except zlib.error as error:
            yield from _up_to_the_error(source, before, str(error))
            return
        source.keep(machine.unused_data if machine.eof else machine.unconsumed_tail)
        if block:
            yield block
    yield None


def _up_to_the_error(source: _Source, machine: Any, reason: str) -> Iterator[bytes | Damage]:
    try:
        for start in range(0, len(source.data), _STEP):
            if block := machine.decompress(source.data[start : start + _STEP]):
                yield block
    except zlib.error:
        pass
    yield Damage(offset=source.offset, reason=f"damaged gzip member: {reason}")
    source.find_header()
