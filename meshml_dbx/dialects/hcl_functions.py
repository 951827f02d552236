"""Terraform's functions that need nothing but their arguments, over located values.

Functions that read files, the clock, the network or a provider are left out on purpose: an import
must give the same mesh wherever it runs.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Series, Table, made, plain

SET = "!set"
"""The tag of a series without an order: its items are their own keys."""


class NotKnownError(Exception):
    """Raised where an expression cannot be worked out; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function; ``takes_unknown``: it only puts its arguments together, known or not."""

    work: Callable[[Sequence[Node], Place], Node]
    takes_unknown: bool = False


def _text(node: Node) -> str:
    if not isinstance(node, Scalar) or node.value is None:
        raise TypeError("a text is wanted")
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return str(node.value)


def _number(node: Node) -> int | float:
    value = float(_text(node))
    return int(value) if value.is_integer() else value


def _items(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Series):
        return node.items
    raise TypeError("a list is wanted")


def _entries(node: Node) -> tuple[Entry, ...]:
    if isinstance(node, Table):
        return node.entries
    raise TypeError("a map is wanted")


# --- texts ------------------------------------------------------------------------------------


def _format(given: Sequence[Node], place: Place) -> Node:
    """``format``: its verbs %s, %d, %v, %q, %t and %f, with a width."""
    arguments = iter(given[1:])

    def filled(found: re.Match[str]) -> str:
        flags, verb = found[1], found[2]
        if len(flags) > len("-255"):
            raise ValueError("too wide")
        if verb == "%":
            return "%"
        argument = next(arguments, None)
        if argument is None:
            raise ValueError("too few arguments")
        if verb in "df":
            return f"%{flags}{verb}" % _number(argument)
        text = json.dumps(_text(argument)) if verb == "q" else _text(argument)
        return f"%{flags}s" % text

    text = re.sub(r"%([-+0-9.# ]*)([sdvqtf%])", filled, _text(given[0]))
    return made(text, place)


def _join(given: Sequence[Node], place: Place) -> Node:
    parts = [_text(item) for series in given[1:] for item in _items(series)]
    return made(_text(given[0]).join(parts), place)


def _split(given: Sequence[Node], place: Place) -> Node:
    parts = _text(given[1]).split(_text(given[0]))
    return Series(place=place, items=tuple(made(part, place) for part in parts))


def _replace(given: Sequence[Node], place: Place) -> Node:
    text, old, new = (_text(it) for it in given)
    if len(old) > 1 and old.startswith("/") and old.endswith("/"):
        raise NotKnownError("the function replace is not worked out with a regular expression")
    return made(text.replace(old, new), place)


def _substr(given: Sequence[Node], place: Place) -> Node:
    text, start, length = _text(given[0]), int(_number(given[1])), int(_number(given[2]))
    start = max(start + len(text), 0) if start < 0 else start
    return made(text[start:] if length < 0 else text[start : start + length], place)


def _texts(work: Callable[..., str]) -> Function:
    """A function of texts alone."""
    return Function(work=lambda given, place: made(work(*map(_text, given)), place))


def _truths(work: Callable[..., bool]) -> Function:
    return Function(work=lambda given, place: made(work(*map(_text, given)), place))


def _numbers(work: Callable[..., int | float]) -> Function:
    return Function(work=lambda given, place: made(work(*map(_number, given)), place))


# --- lists ------------------------------------------------------------------------------------


def _concat(given: Sequence[Node], place: Place) -> Node:
    return Series(place=place, items=tuple(item for it in given for item in _items(it)))


def _flatten(given: Sequence[Node], place: Place) -> Node:
    def flat(node: Node) -> list[Node]:
        if isinstance(node, Series):
            return [inner for item in node.items for inner in flat(item)]
        return [node]

    return Series(place=place, items=tuple(flat(given[0])))


def _distinct(given: Sequence[Node], place: Place) -> Node:
    found: dict[str, Node] = {}
    for item in _items(given[0]):
        found.setdefault(json.dumps(plain(item), sort_keys=True), item)
    return Series(place=place, items=tuple(found.values()))


def _to_set(given: Sequence[Node], place: Place) -> Node:
    found = _items(_distinct(given, place))
    if all(isinstance(it, Scalar) for it in found):
        found = tuple(sorted(found, key=_text))
    return Series(place=place, items=found, tag=SET)


def _compact(given: Sequence[Node], place: Place) -> Node:
    kept = (it for it in _items(given[0]) if isinstance(it, Scalar) and it.value not in (None, ""))
    return Series(place=place, items=tuple(kept))


def _sort(given: Sequence[Node], place: Place) -> Node:
    return Series(place=place, items=tuple(sorted(_items(given[0]), key=_text)))


def _reverse(given: Sequence[Node], place: Place) -> Node:
    return Series(place=place, items=_items(given[0])[::-1])


def _element(given: Sequence[Node], _place: Place) -> Node:
    items = _items(given[0])
    if not items:
        raise ValueError("the list is empty")
    return items[int(_number(given[1])) % len(items)]


def _slice(given: Sequence[Node], place: Place) -> Node:
    start, end = int(_number(given[1])), int(_number(given[2]))
    return Series(place=place, items=_items(given[0])[start:end])


def _length(given: Sequence[Node], place: Place) -> Node:
    node = given[0]
    if isinstance(node, Table):
        return made(len(node.entries), place)
    return made(len(node.items if isinstance(node, Series) else _text(node)), place)


def _contains(given: Sequence[Node], place: Place) -> Node:
    return made(plain(given[1]) in [plain(it) for it in _items(given[0])], place)


def _one(given: Sequence[Node], place: Place) -> Node:
    items = _items(given[0])
    if len(items) > 1:
        raise ValueError("the list has several items")
    return items[0] if items else made(None, place)


def _range(given: Sequence[Node], place: Place) -> Node:
    numbers = range(*(int(_number(it)) for it in given))
    if len(numbers) > 1024:  # noqa: PLR2004 - Terraform's own limit
        raise ValueError("too long")
    return Series(place=place, items=tuple(made(it, place) for it in numbers))


# --- maps -------------------------------------------------------------------------------------


def _merge(given: Sequence[Node], place: Place) -> Node:
    """``merge``: of two entries of one key, the later."""
    written = [it for it in given if not (isinstance(it, Scalar) and it.value is None)]
    found = {entry.key: entry for it in written for entry in _entries(it)}
    return Table(place=place, entries=tuple(found.values()))


def _keys(given: Sequence[Node], place: Place) -> Node:
    entries = sorted(_entries(given[0]), key=lambda it: it.key)
    return Series(place=place, items=tuple(made(it.key, it.place) for it in entries))


def _values(given: Sequence[Node], place: Place) -> Node:
    entries = sorted(_entries(given[0]), key=lambda it: it.key)
    return Series(place=place, items=tuple(it.value for it in entries))


def _lookup(given: Sequence[Node], _place: Place) -> Node:
    wanted = _text(given[1])
    for entry in _entries(given[0]):
        if entry.key == wanted:
            return entry.value
    return given[2]


def _zip_map(given: Sequence[Node], place: Place) -> Node:
    pairs = zip(_items(given[0]), _items(given[1]), strict=True)
    entries = (Entry(key=_text(key), place=place, value=value) for key, value in pairs)
    return Table(place=place, entries=tuple(entries))


# --- values -----------------------------------------------------------------------------------


def _coalesce(given: Sequence[Node], _place: Place) -> Node:
    for node in given:
        if not (isinstance(node, Scalar) and node.value in (None, "")):
            return node
    raise ValueError("nothing is set")


def _same(given: Sequence[Node], _place: Place) -> Node:
    (node,) = given
    return node


def _to_text(given: Sequence[Node], place: Place) -> Node:
    (node,) = given
    return node if isinstance(node, Scalar) and node.value is None else made(_text(node), place)


def _to_number(given: Sequence[Node], place: Place) -> Node:
    (node,) = given
    return node if isinstance(node, Scalar) and node.value is None else made(_number(node), place)


def _to_truth(given: Sequence[Node], place: Place) -> Node:
    return made({"true": True, "false": False}[_text(given[0])], place)


def _putting(work: Callable[[Sequence[Node], Place], Node]) -> Function:
    """A function that puts its arguments together, known or not."""
    return Function(work=work, takes_unknown=True)


FUNCTIONS: dict[str, Function] = {
    "abs": _numbers(abs),
    "ceil": _numbers(ceil),
    "coalesce": Function(work=_coalesce),
    "compact": Function(work=_compact),
    "concat": _putting(_concat),
    "contains": Function(work=_contains),
    "distinct": Function(work=_distinct),
    "element": _putting(_element),
    "endswith": _truths(str.endswith),
    "flatten": _putting(_flatten),
    "floor": _numbers(floor),
    "format": _putting(_format),
    "join": _putting(_join),
    "keys": _putting(_keys),
    "length": _putting(_length),
    "lookup": _putting(_lookup),
    "lower": _texts(str.lower),
    "max": _numbers(max),
    "merge": _putting(_merge),
    "min": _numbers(min),
    "nonsensitive": _putting(_same),
    "one": _putting(_one),
    "range": Function(work=_range),
    "replace": Function(work=_replace),
    "reverse": _putting(_reverse),
    "sensitive": _putting(_same),
    "slice": Function(work=_slice),
    "sort": Function(work=_sort),
    "split": Function(work=_split),
    "startswith": _truths(str.startswith),
    "substr": Function(work=_substr),
    "title": _texts(lambda text: re.sub(r"\b\w", lambda it: it[0].upper(), text)),
    "tobool": Function(work=_to_truth),
    "tolist": _putting(_same),
    "tomap": _putting(_same),
    "tonumber": Function(work=_to_number),
    "toset": Function(work=_to_set),
    "tostring": _putting(_to_text),
    "trimprefix": _texts(str.removeprefix),
    "trimspace": _texts(str.strip),
    "trimsuffix": _texts(str.removesuffix),
    "upper": _texts(str.upper),
    "values": _putting(_values),
    "zipmap": _putting(_zip_map),
}
