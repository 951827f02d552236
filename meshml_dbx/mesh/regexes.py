"""Regular expressions as Envoy takes them: RE2's, met by the whole of a text, in linear time.

A text goes in, a ``Regex`` comes out that says of any value whether it is met in full. Python's own
``re`` would not do: it reads other expressions, means other characters, and may take forever over a
value that somebody chose for it. Here an automaton steps once for each character, and as Envoy's
RE2 was measured to, it takes each byte of UTF-8 for one.
"""

from collections.abc import Iterator
from functools import lru_cache

from meshml_dbx.mesh.regex_syntax import (
    Assertion,
    Character,
    Choice,
    Node,
    RegexError,
    Repeat,
    Sequence,
    parse,
)

__all__ = ["Regex", "RegexError", "compile_regex"]

_MOST_STEPS = 50_000
_MOST_KEPT = 10_000
_BEGIN = "\0begin"
_END = ""


@lru_cache(maxsize=4096)
def compile_regex(text: str) -> "Regex":
    """The regular expression, ready to be asked.

    >>> compile_regex("/v[12]/.*").meets("/v1/labels"), compile_regex("v1").meets("/v1")
    (True, False)

    Raises:
        RegexError: Envoy would refuse it; the message completes "the expression …".
    """
    return Regex(text)


class _State:
    """Where the automaton may stand between two characters, and where each character leads."""

    __slots__ = ("accepts", "following", "pending", "previous")

    def __init__(self, pending: frozenset[int], previous: str) -> None:
        self.pending = pending
        self.previous = previous
        self.following: dict[str, _State] = {}
        self.accepts: bool | None = None


class Regex:
    """One expression; states are made when a value first leads to them, and kept.

    >>> Regex("a|ab").meets("ab")
    True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps: list[tuple[Character | Assertion | None, tuple[int, ...]]] = []
        final = self._add(None, ())
        self._final = final
        start = self._build(parse(_as_bytes(text)), final)
        self._states: dict[tuple[frozenset[int], str], _State] = {}
        self._start = self._state(frozenset({start}), _BEGIN)

    def meets(self, value: str) -> bool:
        """Whether the whole value is what the expression describes."""
        state = self._start
        for character in _as_bytes(value):
            following = state.following.get(character)
            state = self._step(state, character) if following is None else following
            if not state.pending:
                return False
        if state.accepts is None:
            state.accepts = self._final in self._reached(state, _END)
        return state.accepts

    # --- building ---

    def _add(self, what: Character | Assertion | None, to: tuple[int, ...]) -> int:
        if len(self._steps) >= _MOST_STEPS:
            raise RegexError("is too large once its repetitions are written out")
        self._steps.append((what, to))
        return len(self._steps) - 1

    def _build(self, node: Node, after: int) -> int:
        match node:
            case Sequence():
                for part in reversed(node.parts):
                    after = self._build(part, after)
                return after
            case Choice():
                return self._add(None, tuple(self._build(part, after) for part in node.parts))
            case Repeat():
                return self._build_repeat(node, after)
            case _:
                return self._add(node, (after,))

    def _build_repeat(self, node: Repeat, after: int) -> int:
        if node.most is None:
            loop = self._add(None, ())
            self._steps[loop] = (None, (self._build(node.part, loop), after))
            after = loop
        else:
            out = after
            for _ in range(node.most - node.least):
                after = self._add(None, (self._build(node.part, after), out))
        for _ in range(node.least):
            after = self._build(node.part, after)
        return after

    # --- stepping ---

    def _state(self, pending: frozenset[int], previous: str) -> _State:
        key = (pending, previous)
        if key not in self._states:
            self._states[key] = _State(pending, previous)
        return self._states[key]

    def _step(self, state: _State, character: str) -> _State:
        pending = frozenset(
            to for at in self._reached(state, character) for to in self._taken(at, character)
        )
        if len(self._states) > _MOST_KEPT:
            self._forget()
        made = self._state(pending, _kind(character))
        state.following[character] = made
        return made

    def _taken(self, at: int, character: str) -> tuple[int, ...]:
        what, to = self._steps[at]
        return to if isinstance(what, Character) and what.has(character) else ()

    def _reached(self, state: _State, following: str) -> Iterator[int]:
        """Every step at which the automaton stands before the following character."""
        waiting, seen = list(state.pending), set(state.pending)
        while waiting:
            at = waiting.pop()
            what, to = self._steps[at]
            yield at
            if isinstance(what, Character):
                continue
            if what is None or _holds(what.kind, state.previous, following):
                fresh = [one for one in to if one not in seen]
                seen.update(fresh)
                waiting += fresh

    def _forget(self) -> None:
        """Values of many kinds make many states: begin anew rather than grow."""
        for state in self._states.values():
            state.following.clear()
        self._states = {(self._start.pending, self._start.previous): self._start}


def _as_bytes(text: str) -> str:
    """A text whose characters are the bytes of its UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _kind(character: str) -> str:
    """As much of a character as assertions ask of the one before: a line's end, a word's part."""
    if character == "\n":
        return "\n"
    return "w" if _is_word(character) else " "


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _holds(kind: str, previous: str, following: str) -> bool:
    edge = (previous == "w") != _is_word(following)
    return {
        "begin": previous == _BEGIN,
        "line-begin": previous in {_BEGIN, "\n"},
        "end": following == _END,
        "line-end": following in {_END, "\n"},
        "edge": edge,
        "no-edge": not edge,
    }[kind]
