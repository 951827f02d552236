"""The regular expressions that Envoy reads, as a tree: the syntax of RE2, which is not Python's.

A text goes in; its parts, or the reason why Envoy would refuse it, come out. RE2 knows neither
backreferences nor looking around, ``\\d``, ``\\s``, ``\\w`` and ``\\b`` mean ASCII to it, and ``$``
is the very end.
"""

import re
import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

MOST_REPEATS = 1000
_LAST = 0xFF  # Envoy's RE2 takes each byte for a character
Ranges = tuple[tuple[int, int], ...]


class RegexError(ValueError):
    """Raised when RE2 refuses a regular expression; the message completes "the expression …"."""


@dataclass(frozen=True, slots=True)
class Item:
    """Characters of a class: in one of the ranges, or, negated, in none; folded, in any case."""

    ranges: Ranges
    negated: bool = False
    folded: bool = False
    category: str = ""

    def has(self, character: str) -> bool:
        """Whether the character is one of these."""
        forms = _forms(character) if self.folded else {character}
        return self.negated != any(self._has_form(form) for form in forms)

    def _has_form(self, form: str) -> bool:
        if self.category:
            return unicodedata.category(form).startswith(self.category)
        return any(low <= ord(form) <= high for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Character:
    """One character out of a class."""

    items: tuple[Item, ...]
    negated: bool = False

    def has(self, character: str) -> bool:
        """Whether the class has the character."""
        return self.negated != any(item.has(character) for item in self.items)


@dataclass(frozen=True, slots=True)
class Assertion:
    """A place rather than a character: begin or end of text or line, an edge of a word or none."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other; none is the empty text."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One part or the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part so many times; without a most, without end."""

    part: "Node"
    least: int
    most: int | None


Node = Character | Assertion | Sequence | Choice | Repeat

_PERL: dict[str, Ranges] = {
    "d": ((0x30, 0x39),),
    "s": ((0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20)),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
}
_POSIX: dict[str, Ranges] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "ascii": ((0x00, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": _PERL["d"],
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": ((0x41, 0x5A),),
    "word": _PERL["w"],
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}
_CONTROL = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_CATEGORIES = re.compile(r"C[cfos]?|L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?")
_COUNT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_NAME = re.compile(r"\(\?P?<(\w+)>")
_FLAGS = re.compile(r"\(\?([imsU]*)(-[imsU]+)?([:)])")


def parse(text: str) -> Node:
    """The parts of a regular expression.

    Raises:
        RegexError: RE2 would refuse it.
    """
    return _Parser(text).whole()


@dataclass(frozen=True, slots=True)
class _Flags:
    folded: bool = False
    lines: bool = False
    dot_all: bool = False

    def changed(self, on: str, off: str) -> "_Flags":
        def now(letter: str, *, was: bool) -> bool:
            return letter not in off and (was or letter in on)

        return _Flags(
            now("i", was=self.folded), now("m", was=self.lines), now("s", was=self.dot_all)
        )


class _Parser:
    """A walk through the text, one method for each form."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._flags = _Flags()
        self._names: set[str] = set()

    def whole(self) -> Node:
        found = self._choice()
        if self._at < len(self._text):
            raise RegexError("has a ) that nothing opens")
        _refuse_too_many(found)
        return found

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise RegexError("ends in a backslash")
        self._at += 1
        return self._text[self._at - 1]

    def _met(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _choice(self) -> Node:
        parts = [self._sequence()]
        while self._peek("|"):
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts += self._atom()
            self._repeat_last(parts)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _atom(self) -> list[Node]:
        """One part; none where only flags change; several where a text is quoted."""
        character = self._take()
        forms: dict[str, Callable[[], list[Node]]] = {
            "(": self._group,
            "[": lambda: [self._class()],
            "\\": self._escape,
            ".": lambda: [self._dot()],
            "^": lambda: [Assertion("line-begin" if self._flags.lines else "begin")],
            "$": lambda: [Assertion("line-end" if self._flags.lines else "end")],
        }
        if character in "*+?" or (character == "{" and _COUNT.match(self._text, self._at - 1)):
            raise RegexError(f"repeats nothing with {character}")
        return forms[character]() if character in forms else [self._literal(character)]

    def _literal(self, character: str) -> Character:
        return Character((Item(((ord(character),) * 2,), folded=self._flags.folded),))

    def _dot(self) -> Character:
        return Character(() if self._flags.dot_all else (Item(((10, 10),)),), negated=True)

    def _repeat_last(self, parts: list[Node]) -> None:
        before = self._at
        bounds = self._bounds()
        if bounds is None:
            return
        if not parts:
            raise RegexError(f"repeats nothing with {self._text[before]}")
        if self._peek("?"):
            self._at += 1
        after = self._at
        if self._bounds() is not None:
            raise RegexError(f"repeats twice: {self._text[before : self._at]}")
        self._at = after
        parts[-1] = Repeat(parts[-1], *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        following = self._text[self._at : self._at + 1]
        if following in simple and following:
            self._at += 1
            return simple[following]
        found = self._met(_COUNT)
        if found is None:
            return None
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
            raise RegexError(f"repeats {found[0]}, which is more than {MOST_REPEATS} or less")
        return least, most

    # --- groups ---

    def _group(self) -> list[Node]:
        self._at -= 1
        flags = self._flags
        if self._peek("(?"):
            named = self._met(_NAME)
            changed = None if named else self._met(_FLAGS)
            if named:
                self._name(named[1])
            elif changed is None:
                raise RegexError(
                    "looks around or ahead, or has another (?…) that RE2 does not know"
                )
            else:
                self._flags = flags.changed(changed[1], changed[2] or "")
                if changed[3] == ")":
                    return []
        else:
            self._at += 1
        found = self._choice()
        if not self._peek(")"):
            raise RegexError("has a ( that nothing closes")
        self._at += 1
        self._flags = flags
        return [found]

    def _name(self, name: str) -> None:
        if name in self._names or not name.isascii():
            raise RegexError(f"names a group twice, or wrongly: {name}")
        self._names.add(name)

    # --- escapes ---

    def _escape(self) -> list[Node]:
        kind = self._take()
        places = {"A": "begin", "z": "end", "b": "edge", "B": "no-edge"}
        if kind in places:
            return [Assertion(places[kind])]
        if kind == "Q":
            return self._quoted()
        if kind == "C":
            return [Character((), negated=True)]
        item = self._class_escape(kind)
        if item:
            return [Character((item,))]
        return [self._literal(chr(self._escaped_code(kind)))]

    def _quoted(self) -> list[Node]:
        end = self._text.find("\\E", self._at)
        quoted = self._text[self._at : end if end >= 0 else None]
        self._at = len(self._text) if end < 0 else end + 2
        return [self._literal(character) for character in quoted]

    def _class_escape(self, kind: str) -> Item | None:
        """``\\d``, ``\\W``, ``\\pL`` and their like, inside a class or out of it."""
        if kind.lower() in _PERL:
            ranges = _PERL[kind.lower()]
            return Item(ranges, negated=kind.isupper(), folded=self._flags.folded)
        if kind not in "pP":
            return None
        name = self._take()
        if name == "{":
            end = self._text.find("}", self._at)
            name, self._at = self._text[self._at : end], max(end, self._at) + 1
        negated = (kind == "P") != name.startswith("^")
        name = name.removeprefix("^")
        if name == "Any":
            return Item(((0, _LAST),), negated=negated)
        if not _CATEGORIES.fullmatch(name):
            raise RegexError(f"names a Unicode class that meshml does not follow: {name}")
        return Item((), negated=negated, folded=self._flags.folded, category=name)

    def _escaped_code(self, kind: str) -> int:
        if kind in _CONTROL:
            return _CONTROL[kind]
        if kind == "x":
            return self._hexadecimal()
        if kind == "0" or (
            kind in "1234567" and self._text[self._at : self._at + 1] in set(string.octdigits)
        ):
            digits = re.compile("[0-7]{0,2}").match(self._text, self._at)
            tail = digits[0] if digits else ""
            self._at += len(tail)
            return int(kind + tail, 8)
        if kind.isascii() and not kind.isalnum():
            return ord(kind)
        raise RegexError(f"has an escape that RE2 does not know: \\{kind}")

    def _hexadecimal(self) -> int:
        found = self._met(re.compile(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\}"))
        code = int(found[1] or found[2], 16) if found else _LAST + 1
        if code > _LAST:
            raise RegexError("has a \\x that is not two digits or {a code}")
        return code

    # --- classes ---

    def _class(self) -> Character:
        negated = self._peek("^")
        self._at += negated
        items: list[Item] = []
        first = True
        while first or not self._peek("]"):
            if self._at >= len(self._text):
                raise RegexError("has a [ that nothing closes")
            items.append(self._class_item())
            first = False
        self._at += 1
        return Character(tuple(items), negated)

    def _class_item(self) -> Item:
        posix = self._met(re.compile(r"\[:(\^?)([^\]]*?):\]"))
        if posix:
            if posix[2] not in _POSIX:
                raise RegexError(f"names a class that RE2 does not know: {posix[0]}")
            return Item(_POSIX[posix[2]], negated=bool(posix[1]), folded=self._flags.folded)
        if self._peek("\\"):
            start = self._at
            self._at += 1
            item = self._class_escape(self._take())
            if item:
                return item
            self._at = start
        low = self._class_code()
        high = low
        if self._peek("-") and self._text[self._at + 1 : self._at + 2] not in {"]", ""}:
            self._at += 1
            high = self._class_code()
            if high < low:
                raise RegexError(f"has a range that ends before it begins: {chr(low)}-{chr(high)}")
        return Item(((low, high),), folded=self._flags.folded)

    def _class_code(self) -> int:
        character = self._take()
        return self._escaped_code(self._take()) if character == "\\" else ord(character)


def _refuse_too_many(node: Node, times: int = 1) -> None:
    """Counted repeats within counted repeats multiply; RE2 has one limit for the product."""
    if isinstance(node, Repeat):
        counted = node.most if node.most is not None else node.least
        times *= max(counted, 1)
        if times > MOST_REPEATS:
            raise RegexError(f"repeats a repetition more than {MOST_REPEATS} times in all")
        _refuse_too_many(node.part, times)
    if isinstance(node, Sequence | Choice):
        for part in node.parts:
            _refuse_too_many(part, times)


def _forms(character: str) -> set[str]:
    """A character in both cases; only letters of ASCII have two."""
    return {character, character.swapcase()} if character.isascii() else {character}
