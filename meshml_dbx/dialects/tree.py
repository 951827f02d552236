"""A definition as a tree of located values: what every dialect is read into and written from.

A reader (YAML, JSON, HCL) makes nodes that know their file, line and path. A dialect rearranges
them into the shape of ``mesh.yml`` and keeps each scalar's own object, so that a value in the mesh
still knows where it came from, and a scalar that appears nowhere is known to be missing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, dataclass_transform

_Made = TypeVar("_Made")
Plain = str | int | float | bool | None
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_WORDS: dict[str, Plain] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "false": False}


class UnreadableError(Exception):
    """Raised by a reader for a text that is not in its form, and turned into a finding.

    >>> UnreadableError(11, "a list has no end").line
    11
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@dataclass_transform(eq_default=False, kw_only_default=True, frozen_default=True)
def node_class(cls: type[_Made]) -> type[_Made]:
    """A data class that is frozen to the type checker alone, and each object of it one of its own.

    To be frozen at run time too triples the time that an object takes to make; an import makes
    hundreds of thousands.
    """
    return dataclass(slots=True, kw_only=True, eq=False)(cls)


class Place(NamedTuple):
    """Where a value is written: its file, its line from 1, and its path in the file's own words.

    >>> str(Place(source="app.yaml", line=7, path="Resources.Mesh").step("Type", 8))
    'app.yaml:8 Resources.Mesh.Type'
    """

    source: str
    line: int
    path: str = ""

    def step(self, key: str | int, line: int | None = None) -> "Place":
        """The place one step further in: a field's name, or an entry's index."""
        if isinstance(key, int):
            path = f"{self.path}[{key}]"
        else:
            path = f"{self.path}.{key}" if self.path else key
        return Place(self.source, self.line if line is None else line, path)

    def __str__(self) -> str:
        return f"{self.source}:{self.line} {self.path}".rstrip()


@node_class
class Scalar:
    """One value; ``quoted``: the file marks it as text; ``tag``: a YAML tag such as !Ref.

    ``origins`` are the scalars that it was made from, where it was put together from several.

    >>> Scalar(value=80, place=Place(source="a.json", line=1)).value
    80
    """

    value: Plain
    place: Place
    quoted: bool = False
    tag: str | None = None
    origins: "tuple[Scalar, ...]" = ()


@node_class
class Entry:
    """One field of a table: its name, where the name is written, and its value."""

    key: str
    place: Place
    value: "Node"


@node_class
class Table:
    """Named fields in the order of the file; a name that is written twice is there twice.

    >>> table = Table(place=Place(source="a.json", line=1), entries=())
    >>> table.get("spec") is None
    True
    """

    place: Place
    entries: tuple[Entry, ...]
    tag: str | None = None

    def get(self, key: str) -> "Node | None":
        """The value of a field, the first of that name; None if there is none."""
        return next((entry.value for entry in self.entries if entry.key == key), None)

    def __contains__(self, key: object) -> bool:
        """Whether the table has a field of that name."""
        return any(entry.key == key for entry in self.entries)

    def keys(self) -> tuple[str, ...]:
        """The fields' names."""
        return tuple(entry.key for entry in self.entries)


@node_class
class Series:
    """Values in their order."""

    place: Place
    items: "tuple[Node, ...]"
    tag: str | None = None


Node = Scalar | Table | Series


def scalars(node: Node) -> Iterator[Scalar]:
    """Every scalar of a tree, in the file's order; an empty table or list has none."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Scalar):
            yield one
        elif isinstance(one, Table):
            waiting += [entry.value for entry in reversed(one.entries)]
        else:
            waiting += reversed(one.items)


def sources_of(scalar: Scalar) -> Iterator[Scalar]:
    """The scalars of the input that a value was made from: itself, or its origins' own."""
    if not scalar.origins:
        yield scalar
    for origin in scalar.origins:
        yield from sources_of(origin)


def made(value: Plain, place: Place, *origins: Scalar) -> Scalar:
    """A value that the input does not write as it is, such as a joined text, with its origins."""
    return Scalar(value=value, place=place, quoted=isinstance(value, str), origins=origins)


def typed(text: str) -> Plain:
    """The value of a text that stands without quotes, where it is written in the plainest way.

    ``1.10`` and ``no`` stay text: the field that takes them decides what they are.

    >>> typed("80"), typed("true"), typed("1.10")
    (80, True, '1.10')
    """
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _WHOLE.fullmatch(text) else text


def table(place: Place, **fields: "Node | None") -> Table:
    """A table of these fields, without those that are None; names as ``mesh.yml`` writes them.

    >>> table(Place(source="a", line=1), spec=None).entries
    ()
    """
    entries = (
        Entry(key=key, place=value.place, value=value)
        for key, value in fields.items()
        if value is not None
    )
    return Table(place=place, entries=tuple(entries))


def plain(node: Node) -> object:
    """The tree as Python's own dicts, lists and values; of two fields of one name, the first."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Series):
        return [plain(item) for item in node.items]
    found: dict[str, object] = {}
    for entry in node.entries:
        found.setdefault(entry.key, plain(entry.value))
    return found
