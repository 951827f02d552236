"""JSON text, also a jq template, becomes a located tree.

jq's ``$NAME`` where a value belongs is read as the placeholder ``${NAME}``, and so are parts of
text that ``+`` or ``\\(…)`` join; ``tonumber`` and ``tostring`` say of which type a value is. Any
other jq is an error with its line.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, NoReturn

from meshml_dbx.dialects.tree import (
    Entry,
    Node,
    Place,
    Plain,
    Scalar,
    Series,
    Table,
    UnreadableError,
    typed,
)

_DEEPEST = 100
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|\#[^\n]*)
    | (?P<text>"[^"\\]*(?:\\.[^"\\]*)*")
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<word>true|false|null)(?!\w)
    | \$(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | \|\s*(?P<filter>tonumber|tostring)\b
    | (?P<mark>[{}\[\],:+()])
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_TEXT = re.compile(r"\\\(\s*\$([A-Za-z_][A-Za-z0-9_]*)\s*\)")
_HALF = re.compile("[\ud800-\udfff]")
_DECODER = json.JSONDecoder(strict=False)  # control characters may stand in a text


def read_json(text: str, source: str) -> Node:
    """The tree of a JSON text or of a jq template that needs no more than its values.

    >>> read_json('{"port": $PORT}', "vn.json").get("port").value
    '${PORT}'

    Raises:
        UnreadableError: with the line, if it is neither.
    """
    reader = _Reader(_tokens(text))
    root = reader.value(Place(source=source, line=1), 0)
    if reader.token.kind != "end":
        reader.refuse("one value and then nothing")
    return root


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            shown = text[at : at + 20].partition("\n")[0]
            raise UnreadableError(line, f"not JSON: {shown!r} is no value")
        kind, part = str(found.lastgroup), found[0]
        if kind != "space":
            yield _Token(kind, part, line)
        if len(part) > 1:
            line += part.count("\n")
        elif part == "\n":
            line += 1
        at += len(part)
    yield _Token("end", "", line)


class _Reader:
    """One token ahead, by recursive descent."""

    def __init__(self, tokens: Iterator[_Token]) -> None:
        self.tokens = tokens
        self.token = next(tokens)

    def refuse(self, wanted: str) -> NoReturn:
        """Raise for the token that comes next."""
        shown = f"{self.token.text[:20]!r}" if self.token.text else "the end"
        raise UnreadableError(self.token.line, f"not JSON: expected {wanted}, found {shown}")

    def value(self, place: Place, depth: int) -> Node:
        """The value that begins here, with all that is in it."""
        if depth > _DEEPEST:
            raise UnreadableError(self.token.line, f"nested more than {_DEEPEST} levels deep")
        place = Place(source=place.source, line=self.token.line, path=place.path)
        match self.token.text:
            case "{":
                return Table(place=place, entries=tuple(self._fields(place, depth + 1)))
            case "[":
                return Series(place=place, items=tuple(self._items(place, depth + 1)))
        scalar = self._term(place, depth)
        while self.token.text == "+" or self.token.kind == "filter":
            passed = self._step()
            if passed.kind == "filter":
                scalar = _filtered(scalar, is_text=passed.text.endswith("tostring"))
            else:
                scalar = _joined(scalar, self._term(place, depth))
        return scalar

    def _step(self) -> _Token:
        passed = self.token
        self.token = next(self.tokens, passed)
        return passed

    def _fields(self, place: Place, depth: int) -> Iterator[Entry]:
        self._step()
        while self.token.text != "}":
            if self.token.kind != "text":
                self.refuse("a field's name in quotes")
            key = _text_of(self._step())
            at = place.step(key, self.token.line)
            self._pass(":")
            yield Entry(key=key, place=at, value=self.value(at, depth))
            if not self._goes_on("}"):
                break
        self._pass("}")

    def _items(self, place: Place, depth: int) -> Iterator[Node]:
        self._step()
        index = 0
        while self.token.text != "]":
            yield self.value(place.step(index, self.token.line), depth)
            index += 1
            if not self._goes_on("]"):
                break
        self._pass("]")

    def _goes_on(self, end: str) -> bool:
        if self.token.text != ",":
            return False
        self._step()
        if self.token.text == end:
            self.refuse("another entry after the comma")
        return True

    def _pass(self, mark: str) -> None:
        if self.token.text != mark:
            self.refuse(f"{mark!r}")
        self._step()

    def _term(self, place: Place, depth: int) -> Scalar:
        token = self.token
        if token.text == "(":
            return self._bracketed(place, depth)
        match token.kind:
            case "text":
                scalar = Scalar(value=_text_of(token), place=place, quoted=True)
            case "number":
                scalar = Scalar(value=_number(token), place=place)
            case "word":
                scalar = Scalar(value=typed(token.text), place=place)
            case "name":
                scalar = Scalar(value=f"${{{token.text[1:]}}}", place=place)
            case _:
                self.refuse("a value")
        self._step()
        return scalar

    def _bracketed(self, place: Place, depth: int) -> Scalar:
        self._step()
        inner = self.value(place, depth + 1)
        self._pass(")")
        if not isinstance(inner, Scalar):
            self.refuse("a text in the brackets before")
        return inner


def _joined(first: Scalar, second: Scalar) -> Scalar:
    if not (isinstance(first.value, str) and isinstance(second.value, str)):
        raise UnreadableError(second.place.line, "not JSON: only texts can be joined with +")
    return Scalar(value=first.value + second.value, place=first.place, quoted=True)


def _filtered(scalar: Scalar, *, is_text: bool) -> Scalar:
    value = scalar.value if is_text or not isinstance(scalar.value, str) else typed(scalar.value)
    return replace(scalar, value=value, quoted=is_text)


def _text_of(token: _Token) -> str:
    if "\\" not in token.text:
        return token.text[1:-1]
    try:
        text = str(_DECODER.decode(_IN_TEXT.sub(r"${\1}", token.text)))
    except ValueError as error:
        raise UnreadableError(token.line, f"not JSON: {token.text[:40]} is no text") from error
    if _HALF.search(text):
        raise UnreadableError(token.line, f"not JSON: {token.text[:40]} holds half a character")
    return text


def _number(token: _Token) -> Plain:
    return int(token.text) if re.fullmatch(r"-?[0-9]{1,18}", token.text) else token.text
