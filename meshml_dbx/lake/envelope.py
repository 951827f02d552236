"""The lines that a file or object holds, whatever is wrapped around them; its content tells.

Goes in: an open file: lines, or documents that a CloudWatch subscription filter has Firehose write,
plain or compressed once or more. Comes out: the lines in blocks, and what was seen of them: the log
groups that they came from, and what could not be read. An event that an object has twice, which
Firehose's at-least-once delivery allows, comes once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from meshml_dbx.lake.firehose import Batch, LogBatches
from meshml_dbx.lake.gunzip import CHUNK, MAGIC, Damage, file_chunks, gunzip

DEEPEST = 4
SHOWN_NOTICES = 5
HEAD = 1 << 16

_DOCUMENT = re.compile(
    rb'\s*\{\s*"(?:messageType|owner|logGroup|logStream|subscriptionFilters|logEvents'
    rb'|attemptsMade|arrivalTimestamp|errorCode|rawData)"\s*:'
)
_GLUED = re.compile(rb'\}[ \t]*\{[ \t]*"[^,:\]} \t\r\n]')
"""Two documents in one line, as Firehose writes them that is told to extract bare messages."""


@dataclass(slots=True, kw_only=True)
class Unwrapped:
    """What was seen of a file while its lines were read; whole once all were.

    >>> Unwrapped().groups
    []
    """

    is_envelope: bool = False
    groups: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def is_envelope(head: bytes) -> bool:
    """Whether content that begins so, without compression, is what Firehose writes.

    >>> is_envelope(b'{"messageType":"DATA_MESSAGE","logEvents":[]}')
    True
    >>> is_envelope(b'{"start_time":"2026-03-04T09:15:01.114Z"}')
    False
    """
    if _DOCUMENT.match(head):
        return True
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and _GLUED.search(first) is not None


def head_of(data: bytes) -> bytes:
    """The begin of what is in these first bytes of a file once all compression is off."""
    for _ in range(DEEPEST):
        if not data.startswith(MAGIC):
            return data
        found = b""
        for block in gunzip(iter((data,))):
            found += block if isinstance(block, bytes) else b""
            if len(found) >= HEAD:
                break
        data = found
    return data


def is_wrapped(data: bytes) -> bool:
    """Whether a file with these first bytes holds anything but lines as they are."""
    return data.startswith(MAGIC) or is_envelope(data[:HEAD])


def unwrap(file: BinaryIO, seen: Unwrapped) -> Iterator[bytes]:
    """The lines of a file that can be read from its start again, in blocks of whole lines or parts
    of one."""
    start = file.tell()
    first = file.read(HEAD)
    file.seek(start)
    seen.is_envelope = is_envelope(head_of(first))
    if seen.is_envelope:
        yield from _events(file, seen)
    else:
        yield from _plain(file_chunks(file, CHUNK), seen, depth=0)


def _events(file: BinaryIO, seen: Unwrapped) -> Iterator[bytes]:
    batches = LogBatches(file)
    known: set[int] = set()
    for batch in batches:
        if batch.log_group and batch.log_group not in seen.groups:
            seen.groups.append(batch.log_group)
        if lines := _new(batch, known).lines():
            yield lines
    told = [f"{one.reason} at byte {one.offset}" for one in batches.notices[:SHOWN_NOTICES]]
    left_out = len(batches.notices) + batches.notices_left_out - len(told)
    seen.notices += [*told, *([f"{left_out} more of such"] if left_out else [])]


def _new(batch: Batch, known: set[int]) -> Batch:
    """The events whose ids did not come before in this file."""
    if batch.event_ids is None:
        return batch
    keys = [hash(one) for one in batch.event_ids]
    fresh = set(keys)
    if len(fresh) == len(keys) and known.isdisjoint(fresh):
        known |= fresh
        return batch
    messages = []
    for key, message in zip(keys, batch.messages, strict=True):
        if key not in known:
            known.add(key)
            messages.append(message)
    return batch._replace(event_ids=None, timestamps_ms=None, messages=messages)


def _plain(chunks: Iterator[bytes], seen: Unwrapped, *, depth: int) -> Iterator[bytes]:
    """Bytes as they are, without the compression around them; damage ends a line."""
    first = next(chunks, b"")
    if not first.startswith(MAGIC):
        if first:
            yield first
        yield from chunks
    elif depth == DEEPEST:
        seen.notices.append(f"compressed more than {DEEPEST} times")
    else:
        yield from _plain(_layer(chain((first,), chunks), seen), seen, depth=depth + 1)


def _layer(chunks: Iterator[bytes], seen: Unwrapped) -> Iterator[bytes]:
    last = b"\n"
    for block in gunzip(chunks):
        if isinstance(block, Damage):
            seen.notices.append(f"{block.reason} at byte {block.offset}")
            if not last.endswith(b"\n"):
                yield b"\n"
            last = b"\n"
        elif block:
            yield block
            last = block
