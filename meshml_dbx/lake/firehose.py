"""Log events from objects that a CloudWatch subscription filter has Firehose write to S3.

Goes in: an object's bytes, or an open file. Comes out: its events, in order, and notices of what
could not be read; nothing that an object holds raises an exception. Objects may be gzip members
whose contents are JSON documents without anything between them, the same decompressed by Firehose
or compressed twice, bare messages, or records under the error prefix: the first bytes tell, not
the suffix. Firehose delivers at least once: who needs each event once keeps event ids.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any, BinaryIO, NamedTuple

import orjson

from meshml_dbx.lake.gunzip import BLOCK, MAGIC, Damage, file_chunks, gunzip
from meshml_dbx.lake.log_event import LogEvent, clean_text

MAX_DOCUMENT = 64 << 20
"""CloudWatch sends documents of a megabyte or two; what is longer is not held in memory."""
MAX_NOTICES = 1000

_DEEPEST = 4
_SPACE = b" \t\r\n"
_EVENTS = '"logEvents"'
_BOUNDARY = re.compile(rb'\}[ \t\r\n]*(?=\{[ \t\r\n]*"[^,:\]} \t\r\n])')
"""Between two documents. Within a text a quote is escaped; one that ends it is not followed so."""
_FIELD = r'"{}"\s*:\s*"((?:[^"\\]|\\.)*)"'
_GROUP, _STREAM = re.compile(_FIELD.format("logGroup")), re.compile(_FIELD.format("logStream"))
_ARRAY = re.compile(rf"{_EVENTS}\s*:\s*\[")
_BETWEEN = re.compile(r"[\s,]*")
_SPACES = re.compile(r"[ \t\r\n]*")
_DOCUMENT = r'\{\s*"(?:messageType|owner|logEvents|logGroup|attemptsMade)"\s*:'
"""How documents begin, which cannot be within a text of theirs, where quotes are escaped."""
_LINE_END = re.compile(rf"\n|{_DOCUMENT}")
_ANY_DOCUMENT = re.compile(_DOCUMENT.encode())

_raw_decode = json.JSONDecoder(strict=False).raw_decode


class Batch(NamedTuple):
    """Events of one document as columns; bare messages have neither ids, times nor group."""

    event_ids: list[str] | None
    timestamps_ms: list[int] | None
    messages: list[str]
    log_group: str | None
    log_stream: str | None

    def lines(self) -> bytes:
        """Its messages as lines, each with its end."""
        text = "\n".join(self.messages)
        if "\n\n" in text or text.endswith("\n"):  # some messages bring their own
            text = "\n".join(message.rstrip("\n") for message in self.messages)
        return f"{text}\n".encode() if self.messages else b""

    def events(self) -> Iterator[LogEvent]:
        """Its messages as events."""
        times = (ms * 1000 for ms in self.timestamps_ms or ())
        rows = zip(
            self.event_ids or repeat(None),
            times if self.timestamps_ms else repeat(None),
            self.messages,
            repeat(self.log_group),
            repeat(self.log_stream),
            strict=False,
        )
        return map(LogEvent._make, rows)


class LogBatches:
    """The documents of an object, each as one batch; counts and notices are whole at its end.

    >>> batches = LogBatches(b'{"messageType": "CONTROL_MESSAGE", "logEvents": []}')
    >>> (list(batches), batches.control_messages, batches.notices)
    ([], 1, [])
    """

    def __init__(self, data: bytes | BinaryIO) -> None:
        self.control_messages = 0
        self.failed_records = 0
        self.notices: list[Damage] = []
        self.notices_left_out = 0
        self._batches = self._read(data)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches

    def note(self, offset: int, reason: str) -> None:
        """Tell what could not be read, unless so much was told that one more says nothing."""
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(Damage(offset=offset, reason=reason))
        else:
            self.notices_left_out += 1

    def _read(self, data: bytes | BinaryIO) -> Iterator[Batch]:
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        return self._read_layer(file_chunks(file), depth=0)

    def _read_layer(self, chunks: Iterator[bytes], *, depth: int) -> Iterator[Batch]:
        """One layer of compression off, as long as there is one."""
        first = next(chunks, b"")
        whole = chain((first,), chunks)
        if not first.startswith(MAGIC):
            yield from _Documents(self, depth).read(whole)
        elif depth == _DEEPEST:
            self.note(0, f"compressed more than {_DEEPEST} times")
        else:
            yield from self._unpack(gunzip(whole), depth=depth + 1)

    def _unpack(self, blocks: Iterator[bytes | Damage | None], *, depth: int) -> Iterator[Batch]:
        first = next(blocks, None)
        while isinstance(first, Damage) or first is None:  # members may be empty, or no members
            if isinstance(first, Damage):
                self.note(first.offset, first.reason)
            following = next(blocks, b"")
            if following == b"":
                return
            first = following
        whole = chain((first,), blocks)
        if first.startswith(MAGIC):
            yield from self._read_layer(self._content(whole), depth=depth)
        else:
            yield from _Documents(self, depth).read(whole)

    def _content(self, blocks: Iterable[bytes | Damage | None]) -> Iterator[bytes]:
        for block in blocks:
            if isinstance(block, Damage):
                self.note(block.offset, block.reason)
            elif block is not None:
                yield block

    def read_failed(self, record: dict[str, Any], offset: int, depth: int) -> Iterator[Batch]:
        """What a record under the error prefix holds: the data that could not be processed."""
        self.failed_records += 1
        try:
            data = base64.b64decode(record["rawData"], validate=True)
        except (binascii.Error, ValueError):
            self.note(offset, "a failed record whose rawData is not base64")
            return
        yield from self._read_layer(file_chunks(io.BytesIO(data)), depth=depth)


class LogEvents:
    """The events of an object; counts and notices are whole once all were read.

    >>> events = LogEvents(b"one line\\nand another")
    >>> [event.message for event in events]
    ['one line', 'and another']
    """

    def __init__(self, data: bytes | BinaryIO) -> None:
        self.batches = LogBatches(data)
        self._events = chain.from_iterable(batch.events() for batch in self.batches)

    def __iter__(self) -> Iterator[LogEvent]:
        return self._events

    def __next__(self) -> LogEvent:
        return next(self._events)

    @property
    def notices(self) -> tuple[Damage, ...]:
        """What could not be read: where, and why."""
        return tuple(self.batches.notices)

    @property
    def control_messages(self) -> int:
        """How many probes of CloudWatch were left out."""
        return self.batches.control_messages


def log_events(data: bytes | BinaryIO) -> LogEvents:
    """The events that an object holds, to be gone through once."""
    return LogEvents(data)


class _Documents:
    """Documents, one after the other, in content that has no compression left."""

    def __init__(self, batches: LogBatches, depth: int) -> None:
        self._batches = batches
        self._depth = depth
        self._rest = bytearray()
        self._offset = 0
        self._looked = 0

    def read(self, blocks: Iterable[bytes | Damage | None]) -> Iterator[Batch]:
        for block in blocks:
            if isinstance(block, Damage):
                self._batches.note(block.offset, block.reason)
                yield from self._flush()
            elif block is None:
                yield from self._take(at_end=True)
            else:
                self._rest += block
                if len(self._rest) - self._looked > BLOCK:
                    yield from self._take(at_end=False)
        yield from self._flush()

    def _take(self, *, at_end: bool) -> Iterator[Batch]:
        """All documents that are whole; at the end of a member that is often all there is."""
        if at_end and self._rest.rstrip(_SPACE).endswith(b"}"):
            document = _loads(bytes(self._rest))
            if isinstance(document, dict):
                yield from self._use(document, bytes(self._rest), self._offset)
                self._drop(len(self._rest))
                return
        end = self._whole_end()
        if end:
            yield from self._split(bytes(self._rest[:end]))
            self._drop(end)
        elif len(self._rest) > MAX_DOCUMENT:
            self._batches.note(self._offset, f"a document of more than {MAX_DOCUMENT} bytes")
            self._drop(len(self._rest))
        self._looked = len(self._rest)

    def _whole_end(self) -> int:
        """Behind the last document that is followed by another; behind the last line of text."""
        begin = max(self._looked - 16, 0)
        if not self._rest.lstrip(_SPACE).startswith(b"{"):
            return self._rest.rfind(b"\n", begin) + 1
        ends = [found.end() for found in _BOUNDARY.finditer(self._rest, begin)]
        return ends[-1] if ends else 0

    def _flush(self) -> Iterator[Batch]:
        yield from self._split(bytes(self._rest))
        self._drop(len(self._rest))

    def _drop(self, length: int) -> None:
        del self._rest[:length]
        self._offset += length
        self._looked = 0

    def _split(self, data: bytes) -> Iterator[Batch]:
        """Documents cut at their boundaries, as long as each is one; the rest is gone through."""
        if (lines := _lines_only(data)) is not None:
            yield from _bare(lines)
            return
        begin = 0
        bare: list[str] = []
        for end in (*(found.end() for found in _BOUNDARY.finditer(data)), len(data)):
            piece = data[begin:end]
            document = _loads(piece)
            if not isinstance(document, dict):
                break
            if _is_bare(document):
                bare.append(piece.strip(_SPACE).decode())
            else:
                yield from _bare(bare)
                bare = []
                yield from self._use(document, piece, self._offset + begin)
            begin = end
        yield from _bare(bare)
        yield from self._walk(data[begin:], self._offset + begin)

    def _use(self, document: dict[str, Any], piece: bytes, offset: int) -> Iterator[Batch]:
        if _is_bare(document):
            yield from _bare([piece.strip(_SPACE).decode("utf-8", "backslashreplace")])
        elif "rawData" in document:
            yield from self._batches.read_failed(document, offset, self._depth)
        elif document.get("messageType") == "CONTROL_MESSAGE":
            self._batches.control_messages += 1
        else:
            yield from self._events(document, document.get("logEvents"), offset)

    def _events(self, document: dict[str, Any], events: Any, offset: int) -> Iterator[Batch]:
        group, stream = _text(document.get("logGroup")), _text(document.get("logStream"))
        if not isinstance(events, list):
            self._batches.note(offset, "a document without a list of logEvents")
        elif (columns := _columns(events)) is None:
            for event in events:
                yield from self._odd_event(event, group, stream, offset)
        elif events:
            yield Batch(*columns, group, stream)

    def _odd_event(
        self, event: Any, group: str | None, stream: str | None, offset: int
    ) -> Iterator[Batch]:
        """An event that may lack what all have, beside one that does."""
        values = event if isinstance(event, dict) else {}
        id_, moment, message = (values.get(name) for name in ("id", "timestamp", "message"))
        if not isinstance(message, str):
            self._batches.note(offset, "an event without a message")
            return
        whole = type(id_) in (str, int) and type(moment) is int
        if not whole:
            self._batches.note(offset, "an event without id or timestamp")
        ids, times = ([str(id_)], [int(moment or 0)]) if whole else (None, None)
        yield Batch(ids, times, [message], group, stream)

    # --- slowly, where something is in the way ----------------------------------------------------

    def _walk(self, data: bytes, offset: int) -> Iterator[Batch]:
        """Values and lines one after the other, whatever is between them."""
        text = data.decode("utf-8", "surrogateescape")
        at = 0
        while at < len(text):
            start = at + len(_SPACES.match(text, at)[0])  # type: ignore[index]  # may be empty
            offset += start - at
            value, at = _value_at(text, start) if text[start : start + 1] == "{" else (None, start)
            if isinstance(value, dict):
                piece = text[start:at].encode("utf-8", "surrogateescape")
                if _clean(value):
                    self._batches.note(offset, "text that UTF-8 cannot hold is written out")
                yield from self._use(value, piece, offset)
            else:
                found = _LINE_END.search(text, start + 1)
                at = found.start() if found else len(text)
                piece = text[start:at].encode("utf-8", "surrogateescape")
                yield from self._line(text[start:at], offset)
            offset += len(piece)

    def _line(self, line: str, offset: int) -> Iterator[Batch]:
        """A bare message, or what is left of a document."""
        if _EVENTS in line:
            yield from self._salvage(line, offset)
            return
        try:
            line.encode()
        except UnicodeEncodeError:
            self._batches.note(offset, "bytes that are no text")
            return
        if '"messageType"' in line:
            self._batches.note(offset, "a document that is not whole: none of its events is")
        elif line:
            yield from _bare([line.rstrip("\r")])

    def _salvage(self, text: str, offset: int) -> Iterator[Batch]:
        """The whole events of a document that is not whole."""
        found = _ARRAY.search(text)
        events: list[Any] = []
        end = found.end() if found else len(text)
        while True:
            start = _BETWEEN.match(text, end)
            value, end = _value_at(text, start.end() if start else end)
            if not isinstance(value, dict):
                break
            events.append(value)
        where = offset + len(text[:end].encode("utf-8", "surrogateescape"))
        self._batches.note(where, f"a document that is not whole: {len(events)} events of it are")
        names = {"logGroup": _GROUP.search(text), "logStream": _STREAM.search(text)}
        header = {name: one[1] for name, one in names.items() if one}
        _clean({"logEvents": events})
        yield from self._events(header, events, offset)


def _value_at(text: str, start: int) -> tuple[Any, int]:
    try:
        value, end = _raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return value, end


def _loads(data: bytes) -> Any:
    """A document; None when it is none, or holds what only Python's reader takes."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _lines_only(data: bytes) -> list[str] | None:
    """The lines of text that holds no document; None when it may hold one, or is no text."""
    if data.lstrip(_SPACE).startswith(b"{") or _ANY_DOCUMENT.search(data):
        return None
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return [bare for line in lines if (bare := line.rstrip("\r"))]


def _columns(events: list[Any]) -> tuple[list[str], list[int], list[str]] | None:
    """Ids, times and messages; None when one of the events is not as all should be."""
    try:
        ids = [event["id"] for event in events]
        times = [event["timestamp"] for event in events]
        messages = [event["message"] for event in events]
    except (TypeError, KeyError):
        return None
    whole = _all_of(ids, str) and _all_of(times, int) and _all_of(messages, str)
    return (ids, times, messages) if whole else None


def _clean(document: dict[str, Any]) -> bool:
    """Whether a text of the document's events had to be changed to be text at all."""
    events = document.get("logEvents")
    changed = False
    for event in events if isinstance(events, list) else ():
        for name in ("id", "message"):
            value = event.get(name) if isinstance(event, dict) else None
            if isinstance(value, str) and (cleaned := clean_text(value)) != value:
                event[name] = cleaned
                changed = True
    return changed


def _is_bare(document: dict[str, Any]) -> bool:
    """Whether it is a message that happens to be JSON."""
    if "rawData" in document and "errorCode" in document:
        return False
    return "logEvents" not in document and "messageType" not in document


def _bare(messages: list[str]) -> Iterator[Batch]:
    if messages:
        yield Batch(None, None, messages, None, None)


def _text(value: Any) -> str | None:
    return clean_text(value) if isinstance(value, str) else None


def _all_of(values: list[Any], kind: type) -> bool:
    return set(map(type, values)) <= {kind}
