"""A log format as a value, and the two compilers that make one: of a text, and of JSON keys.

Goes in: any format that Envoy takes, as ``text_format`` or ``json_format``. Comes out: a
``LogFormat`` that knows the columns it can fill, and how to find each value in a line.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

from meshml_dbx.errors import LogFormatError
from meshml_dbx.traffic.log_operators import LogValue, value_of
from meshml_dbx.traffic.log_pattern import Part, pattern_of_parts

Template = str | int | float | bool | Mapping[str, object] | Sequence[object] | None

_OPERATOR = re.compile(r"%([A-Z0-9_]+(?:\([^\n]*?\))?(?::[0-9]+)?)%")
_HEADER = re.compile(r"(?:REQ|RESP|TRAILER|(?:REQUEST|RESPONSE)_(?:HEADER|TRAILER))\((.*)\).*")
_ESCAPED_NEWLINE = "\\n"
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitField:
    """One field of a line that is split at single blanks outside of quotes.

    ``values`` are the positions in ``LogFormat.values`` of what it holds, itself split at single
    blanks; ``before`` and ``after`` stand around them, such as the brackets of the time.

    >>> text_format('"%REQ(:METHOD)% %PROTOCOL%"').split[0].values
    (0, 1)
    """

    values: tuple[int, ...]
    is_quoted: bool
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """How one kind of log line is written; made by ``text_format`` or ``json_format``.

    ``source`` is the format as it was given. ``pattern`` reads a whole text line, one group for
    each of ``values``; ``""`` for JSON. ``split`` says how to do without it: only for a line with
    that number of fields, exactly two quotes per quoted field and no backslash; None where the
    format is not made of fields. ``is_open`` is a table of usual JSON keys: a line has some of
    them, and what it lacks is unknown; ``needs`` are the keys that each line must have.
    ``observer`` is whose log it is, None where a line must tell.

    >>> text_format("%START_TIME% %DURATION%").columns
    ('start_time', 'duration_ms')
    """

    name: str
    kind: Literal["text", "json"]
    source: str = field(hash=False, repr=False)
    parts: tuple[Part, ...] = field(hash=False, repr=False)
    pattern: str = field(default="", repr=False)
    split: tuple[SplitField, ...] | None = field(default=None, hash=False, repr=False)
    is_open: bool = False
    needs: tuple[str, ...] = ()
    observer: str | None = None

    @property
    def values(self) -> tuple[LogValue, ...]:
        """The values of a line, in their order."""
        return tuple(part for part in self.parts if isinstance(part, LogValue))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that this format can know at all; any other is unknown, not absent."""
        return tuple(dict.fromkeys(it.column for it in self.values if it.column is not None))

    @property
    def sources(self) -> dict[str, tuple[int, ...]]:
        """Column → positions of the values that can fill it: the first that holds something does.

        What says exactly what the column means comes first.
        """
        found: dict[str, list[int]] = {}
        for index, value in sorted(enumerate(self.values), key=lambda it: not it[1].is_exact):
            if value.column is not None:
                found.setdefault(value.column, []).append(index)
        return {column: tuple(positions) for column, positions in found.items()}

    @property
    def names(self) -> dict[str, tuple[int, ...]]:
        """Name in ``more`` → positions of the values without a column that have it.

        Only keys of an open format share one: the first that holds something is kept by it.
        """
        found: dict[str, list[int]] = {}
        for index, value in enumerate(self.values):
            if value.column is None:
                found.setdefault(value.name, []).append(index)
        return {name: tuple(positions) for name, positions in found.items()}


def text_format(text: str, *, name: str | None = None) -> LogFormat:
    """The format of lines that Envoy writes by this text; an end of line belongs to no value.

    Values that touch cannot be told apart and are kept as one.

    Raises:
        LogFormatError: no format of Envoy's, or one whose lines have line breaks within.

    >>> text_format("%RESPONSE_CODE% %REQ(X-TEAM)%").values[1].name
    'REQ(X-TEAM)'
    """
    line = text.removesuffix("\n").removesuffix("\r").removesuffix(_ESCAPED_NEWLINE)
    if "\n" in line:
        raise LogFormatError(
            f"the log format has a line break at position {line.index(chr(10))}",
            advice="give a format that writes one line for each call",
        )
    parts = tuple(_named_apart(_joined(scan_format(line))))
    return LogFormat(
        name=name or _custom_name(line),
        kind="text",
        source=text,
        parts=parts,
        pattern=pattern_of_parts(parts),
        split=_split_fields(parts),
    )


def json_format(
    template: Mapping[str, object] | Sequence[Mapping[str, object]], *, name: str | None = None
) -> LogFormat:
    """The format of JSON lines with these keys, as Envoy or App Mesh (``key``, ``value``) has it.

    A key whose template mixes operators and text is kept whole.

    Raises:
        LogFormatError: a template is none of Envoy's; the message names its key.

    >>> json_format([{"key": "status", "value": "%RESPONSE_CODE%"}]).columns
    ('code',)
    """
    if isinstance(template, Mapping):
        keys = template
    else:
        keys = {str(pair["key"]): pair["value"] for pair in _pairs(template)}
    source = json.dumps(keys, default=str)
    return LogFormat(
        name=name or _custom_name(source),
        kind="json",
        source=source,
        parts=tuple(_named_apart(_leaves(keys, ()))),
    )


def scan_format(text: str) -> Iterator[Part]:
    """Literal texts and values of a format string, as Envoy reads it.

    >>> [part if isinstance(part, str) else part.operator for part in scan_format("a%%%PROTOCOL%")]
    ['a%', 'PROTOCOL']
    """
    literal, at = "", 0
    while at < len(text):
        if text[at] != "%":
            end = text.find("%", at)
            end = len(text) if end < 0 else end
            literal, at = literal + text[at:end], end
        elif text.startswith("%%", at):
            literal, at = literal + "%", at + 2
        else:
            operator = _operator_at(text, at)
            if literal:
                yield literal
            yield value_of(operator)
            literal, at = "", at + len(operator) + 2
    if literal:
        yield literal


def _operator_at(text: str, at: int) -> str:
    found = _OPERATOR.match(text, at)
    header = _HEADER.fullmatch(found[1]) if found else None
    if found is None or (header and not re.fullmatch(r"[^%\s()]+", header[1])):
        raise LogFormatError(
            f"no operator at position {at} of the log format: {text[at : at + _SHOWN]!r}",
            advice="write an operator as %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%, in "
            "capitals, and a percent sign as %%",
        )
    return found[1]


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, but values that touch are one: nothing says where one ends."""
    last: LogValue | None = None
    for part in parts:
        if isinstance(part, str):
            if last is not None:
                yield last
            yield part
            last = None
        elif last is None:
            last = part
        else:
            operator = f"{last.operator}%%{part.operator}"
            last = LogValue(operator=operator, name=operator)
    if last is not None:
        yield last


def _named_apart(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, no two values under one name, unless they are sources of the same column."""
    taken: set[str] = set()
    for part in parts:
        if isinstance(part, str):
            yield part
            continue
        wanted = (part.name, ".".join(part.key) or part.operator)
        numbered = (f"{wanted[-1]}#{number}" for number in range(2, len(taken) + 3))
        name = next(it for it in (*wanted, *numbered) if it not in taken)
        taken.add(name)
        yield replace(part, name=name)


def _custom_name(source: str) -> str:
    return f"custom-{sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _pairs(template: Sequence[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
    for position, pair in enumerate(template):
        if not isinstance(pair, Mapping) or not {"key", "value"} <= set(pair):
            raise LogFormatError(
                f"entry {position} of the JSON log format has no key and value",
                advice="write each as {key: NAME, value: '%OPERATOR%'}",
            )
        yield pair


def _leaves(template: Mapping[str, object], path: tuple[str, ...]) -> Iterator[LogValue]:
    for key, leaf in template.items():
        here = (*path, str(key))
        if isinstance(leaf, Mapping):
            yield from _leaves(leaf, here)
        else:
            yield _leaf(leaf, here)


def _leaf(leaf: object, path: tuple[str, ...]) -> LogValue:
    """One operator is a value; a constant, a list or a mixture is kept under its key."""
    whole = ".".join(path)
    if not isinstance(leaf, str):
        return LogValue(operator="", name=whole, key=path)
    try:
        parts = list(scan_format(leaf))
    except LogFormatError as error:
        raise LogFormatError(f"key {whole!r}: {error.message}", advice=error.advice) from error
    if len(parts) == 1 and isinstance(parts[0], LogValue):
        return value_of(parts[0].operator, key=path)
    is_constant = all(isinstance(part, str) for part in parts)
    return LogValue(operator="" if is_constant else leaf, name=whole, key=path)


_FIELD = re.compile(r'"([^"]*)"|([^ "]+)')


def _split_fields(parts: Sequence[Part]) -> tuple[SplitField, ...] | None:
    """The fields of a format that is quoted and bare values with one blank between, else None."""
    # A value stands as one character that no format holds.
    mark, count, flat = "\0", 0, ""
    for part in parts:
        if isinstance(part, str):
            flat += part
            continue
        count += 1
        flat += mark
        if part.kind == "time" and set(' "') & set(part.time_format):
            return None
    fields: list[SplitField] = []
    at = position = 0
    while at <= len(flat):
        found = _FIELD.match(flat, at)
        made = found and _split_field(found, position, mark)
        if not found or made is None:
            return None
        fields.append(made)
        position += len(made.values)
        at = found.end() + 1
        if found.end() < len(flat) and flat[found.end()] != " ":
            return None
    return tuple(fields) if position == count and "\\" not in flat else None


def _split_field(found: re.Match[str], position: int, mark: str) -> SplitField | None:
    quoted, bare = found.groups()
    text: str = bare if quoted is None else quoted
    count = text.count(mark)
    first = text.find(mark) if count else len(text)
    last = text.rfind(mark) + 1 if count else len(text)
    before, inner, after = text[:first], text[first:last], text[last:]
    if inner != " ".join(mark * count) or (quoted is not None and (before or after)):
        return None
    values = tuple(range(position, position + count))
    return SplitField(values=values, is_quoted=quoted is not None, before=before, after=after)
