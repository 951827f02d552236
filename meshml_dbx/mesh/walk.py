"""The walk over a tree of YAML nodes along the classes of ``spec``.

A field's type hint says how its text is read, so that a plain ``no`` stays the text "no" where a
name is expected. One walk collects every problem, every parameter without a value, and the place of
every element by a path that people can read.
"""

import builtins
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, is_dataclass
from typing import cast, get_args, get_origin

import yaml

from meshml_dbx.findings import Finding, finding
from meshml_dbx.mesh.limits import PARAMETER, Form, Limit
from meshml_dbx.mesh.names import closest, entry_keys
from meshml_dbx.mesh.shapes import Shape, shape_of
from meshml_dbx.mesh.yaml_text import CORE, MERGE, is_null, line_of

Where = Callable[[yaml.Node], object]
"""Tells of a node what shows, as text, where its original stands; None if it has none.

Only what a finding names is ever shown: a mesh has a hundred places for each.
"""

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII)
_INVALID = object()  # a value that has its finding already


def nearest(path: str, known: Mapping[str, object]) -> str:
    """The path itself or, if it is not known, the nearest known one around it.

    >>> nearest("mesh.spec.egressFilter", {"": 1, "mesh": 1})
    'mesh'
    """
    while path and path not in known:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return path


class Walk:
    """One walk over one tree; it remembers lines, places and problems.

    ``order`` ranks elements as findings are sorted: by line, or as met where a tree has no lines.
    """

    def __init__(self, source: str, where: Where | None = None) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        self.places: dict[str, object] = {}
        self.order: dict[str, int] = {} if where else self.lines
        self._where = where
        self._problems: list[tuple[int, Finding]] = []
        self._unknown: dict[str, list[tuple[str, yaml.Node]]] = {}
        self._flat: dict[int, list[tuple[yaml.Node, yaml.Node]]] = {}

    def read(self, hint: object, node: yaml.Node, path: str, at: yaml.Node) -> object:
        """The value of a node as its hint wants it; ``at`` is the key, or the entry, it is at."""
        return self._read(_reader_of(hint), node, path, at)

    def _read(self, reader: "_Reader", node: yaml.Node, path: str, at: yaml.Node) -> object:
        """The value of a node, or _INVALID with the finding noted."""
        self._note(path, node, at)
        if not node.tag.startswith(CORE):
            return self._wrong(path, at, f"{_name(path)} carries the tag {node.tag}; use none")
        return reader(self, node, path, at)

    def is_broken(self) -> bool:
        """Whether what was read is no mesh."""
        return bool(self._problems)

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, and each parameter that has no value, in the order of the file."""
        for name, places in self._unknown.items():
            path, at = places[0]
            count = f"; it stands in {len(places)} places" if len(places) > 1 else ""
            what = f"the parameter {name} has no value{count}"
            self._wrong(path, at, what, "unresolved-parameter")
        self._unknown = {}
        return tuple(found for _, found in sorted(self._problems, key=lambda it: it[0]))

    # --- places -------------------------------------------------------------------------------

    def _note(self, path: str, node: yaml.Node, at: yaml.Node) -> None:
        if path in self.lines:
            return
        self.lines[path] = line_of(at)
        if self._where:
            self.order[path] = len(self.order)
            self.places[path] = self._where(node) or self._where(at) or self._around(path)

    def _around(self, path: str) -> object:
        return self.places.get(nearest(path, self.places), self.source)

    def _wrong(
        self, path: str, at: yaml.Node, what: str, code: str = "wrong-value", advice: str = ""
    ) -> object:
        if self._where:
            rank = self.order[nearest(path, self.order)]
            place = str(self._where(at) or self._around(path))
        else:
            rank = line_of(at)
            place = f"{self.source}:{rank} {path}".rstrip()
        self._problems.append((rank, finding(code, where=place, what=what, advice=advice)))
        return _INVALID

    def _expected(self, wanted: str, node: yaml.Node, path: str, at: yaml.Node) -> object:
        what = f"{_name(path)} is {_describe(node)}; it must be {wanted}"
        return self._wrong(path, at, what, advice=_how_to_give(node))

    # --- values -------------------------------------------------------------------------------

    def _text(self, node: yaml.Node, path: str, at: yaml.Node) -> object:
        if not isinstance(node, yaml.ScalarNode):
            return self._expected("text", node, path, at)
        for name in PARAMETER.findall(node.value) if "${" in node.value else ():
            self._unknown.setdefault(name, []).append((path, at))
        return node.value

    def _whole_number(self, node: yaml.Node, path: str, at: yaml.Node) -> object:
        plain = isinstance(node, yaml.ScalarNode) and not node.style
        if plain and _WHOLE.fullmatch(node.value):
            return int(node.value)
        return self._expected("a whole number, without quotes", node, path, at)

    def _truth(self, node: yaml.Node, path: str, at: yaml.Node) -> object:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{CORE}bool" and not node.style:
            return node.value.lower() in {"true", "yes", "on"}
        return self._expected("true or false", node, path, at)

    def _choice(self, allowed: Sequence[str], node: yaml.Node, path: str, at: yaml.Node) -> object:
        if isinstance(node, yaml.ScalarNode) and node.value in allowed:
            return node.value
        guess = closest(node.value, allowed) if isinstance(node, yaml.ScalarNode) else None
        hinted = f"; did you mean {guess}?" if guess and len(allowed) > 1 else ""
        wanted = allowed[0] if len(allowed) == 1 else f"one of {', '.join(allowed)}"
        return self._expected(wanted + hinted, node, path, at)

    def _ranged(self, ranged: "_Ranged", node: yaml.Node, path: str, at: yaml.Node) -> object:
        value = ranged.reader(self, node, path, at)
        if value is _INVALID:
            return value
        unknown = isinstance(value, str) and "${" in value and PARAMETER.search(value) is not None
        for rule in ranged.rules:
            if unknown and isinstance(rule, Limit):
                continue  # how long it will be is not known
            broken = rule.broken_by(cast("str", value))
            if broken:
                shown = _describe(node) if isinstance(node, yaml.ScalarNode) else ""
                verb = f" is {shown}; it {broken}" if shown else f" {broken}"
                return self._wrong(path, at, f"{_name(path)}{verb}")
        return value

    # --- lists and mappings -------------------------------------------------------------------

    def _tuple(self, item: object, node: yaml.Node, path: str, at: yaml.Node) -> object:
        if not isinstance(node, yaml.SequenceNode):
            return self._expected("a list", node, path, at)
        reader = _reader_of(item)
        values = tuple(
            self._read(reader, entry, f"{path}[{key}]", entry)
            for key, entry in zip(self._keys(item, node), node.value, strict=True)
        )
        return _INVALID if any(value is _INVALID for value in values) else values

    def _keys(self, item: object, node: yaml.SequenceNode) -> Iterable[str | int]:
        """What stands in brackets for each entry of a list."""
        name_field = shape_of(cast("type", item)).name_field if is_dataclass(item) else None
        if name_field is None:
            return range(len(node.value))
        return entry_keys([self._entry_name(name_field, entry) for entry in node.value])

    def _entry_name(self, name_field: str, entry: yaml.Node) -> str | None:
        if not isinstance(entry, yaml.MappingNode):
            return None
        for key, value in self._pairs(entry):
            if key.value == name_field and isinstance(value, yaml.ScalarNode):
                return str(value.value)
        return None

    def _dict(self, node: yaml.Node, path: str, at: yaml.Node) -> object:
        if not isinstance(node, yaml.MappingNode):
            return self._expected("a mapping of text to text", node, path, at)
        read = {
            key: self._read(Walk._text, value, _join(path, key), key_node)
            for key, key_node, value in self._unique(node, path)
        }
        return _INVALID if any(value is _INVALID for value in read.values()) else read

    def _record(self, record: "_Record", node: yaml.Node, path: str, at: yaml.Node) -> object:
        if not isinstance(node, yaml.MappingNode):
            wanted = f"a mapping with {', '.join(record.readers)}"
            return self._expected(wanted, node, path, at)
        before = len(self._problems)
        values: dict[str, object] = {}
        meant = set()  # a misspelt field is one mistake, not also a missing field
        for key, key_node, value in self._unique(node, path):
            reader = record.readers.get(key)
            if reader is None:
                self._note(_join(path, key), value, key_node)
                meant.add(self._unknown_field(record.shape, key, path, key_node))
            elif not is_null(value):  # written without a value: as if it were not written
                values[key] = self._read(reader, value, _join(path, key), key_node)
        self._require(record.shape, values.keys() | meant if meant else values.keys(), path, at)
        if len(self._problems) > before:
            return _INVALID
        attributes = record.shape.attributes
        return record.cls(**{attributes[key]: value for key, value in values.items()})

    def _unknown_field(self, shape: Shape, key: str, path: str, at: yaml.Node) -> str | None:
        guess = closest(key, shape.hints)
        asked = f"; did you mean {guess}?" if guess else ""
        known = ", ".join(sorted(shape.hints))
        what = f'unknown field "{key}"{asked} (known here: {known})'
        self._wrong(_join(path, key), at, what, "unknown-field")
        return guess

    def _require(self, shape: Shape, values: Set[str | None], path: str, at: yaml.Node) -> None:
        for key in shape.required:
            if key not in values:
                self._wrong(path, at, f"{_name(path)} needs the field {key}", "missing-field")
        several = [key for key in shape.at_most_one if key in values]
        if len(several) > 1:
            choice = ", ".join(shape.at_most_one)
            what = f"{_name(path)} takes one of {choice} at most; it has {_listed(several)}"
            self._wrong(path, at, what, "exactly-one")
        given = [key for key in shape.exactly_one if key in values]
        if shape.exactly_one and len(given) != 1:
            has = _listed(given) if given else "none of them"
            choice = ", ".join(shape.exactly_one)
            what = f"{_name(path)} needs exactly one of {choice}; it has {has}"
            self._wrong(path, at, what, "exactly-one")

    def _unique(
        self, node: yaml.MappingNode, path: str
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Each field's name, key and value once; what is written twice becomes a finding."""
        first: dict[str, yaml.Node] = {}
        for key, value in self._pairs(node):
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(path, key, f"a field's name is {_describe(key)}; it must be text")
            elif key.value not in first:
                first[key.value] = key
                yield key.value, key, value
            elif any(key is own for own, _ in node.value):  # merged fields give way in silence
                before = "" if self._where else f", first on line {line_of(first[key.value])}"
                what = f"{key.value} is written twice{before}"
                self._wrong(_join(path, key.value), key, what, "duplicate-field")

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
        """A mapping's own keys and values, then those that ``<<`` merges into it."""
        for key, _ in node.value:
            if key.tag == MERGE:
                break
        else:
            return cast("list[tuple[yaml.Node, yaml.Node]]", node.value)
        if id(node) not in self._flat:
            self._flat[id(node)] = []  # an anchor that merges itself ends here
            merged = [value for key, value in node.value if key.tag == MERGE]
            own = [pair for pair in node.value if pair[0].tag != MERGE]
            self._flat[id(node)] = own + [
                pair for value in merged for part in self._merged(value) for pair in part
            ]
        return self._flat[id(node)]

    def _merged(self, value: yaml.Node) -> Iterator[list[tuple[yaml.Node, yaml.Node]]]:
        parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for part in parts:
            if isinstance(part, yaml.MappingNode):
                yield self._pairs(part)
            else:
                self._wrong("<<", part, f"<< is {_describe(part)}; it must be a mapping")


# --- readers ----------------------------------------------------------------------------------

_Reader = Callable[[Walk, yaml.Node, str, yaml.Node], object]
_PLAIN: dict[object, _Reader] = {str: Walk._text, int: Walk._whole_number, bool: Walk._truth}
_READERS: dict[int, tuple[object, _Reader]] = {}


@dataclass(frozen=True, slots=True)
class _Ranged:
    """A type with the rules that bind it."""

    reader: _Reader
    rules: tuple[Limit | Form, ...]


@dataclass(frozen=True, slots=True)
class _Record:
    """A class with the reader of each of its fields."""

    cls: type
    shape: Shape
    readers: Mapping[str, _Reader]


def _reader_of(hint: object) -> _Reader:
    """The reader of a type, made once; the hint is kept, so that its id stays its own."""
    known = _READERS.get(id(hint))
    if known is None:
        known = _READERS[id(hint)] = hint, _made_reader(hint)
    return known[1]


def _made_reader(hint: object) -> _Reader:
    parts = get_args(hint)
    match get_origin(hint):
        case typing.Union | types.UnionType:
            return _reader_of(next(one for one in parts if one is not type(None)))
        case typing.Annotated:
            ranged = _Ranged(_reader_of(parts[0]), tuple(parts[1:]))
            return lambda walk, node, path, at: walk._ranged(ranged, node, path, at)
        case typing.Literal:
            return lambda walk, node, path, at: walk._choice(parts, node, path, at)
        case builtins.tuple:
            return lambda walk, node, path, at: walk._tuple(parts[0], node, path, at)
        case builtins.dict:
            return Walk._dict
    return _PLAIN.get(hint) or _record_reader(cast("type", hint))


def _record_reader(cls: type) -> _Reader:
    shape = shape_of(cls)
    record = _Record(cls, shape, {key: _reader_of(one) for key, one in shape.hints.items()})
    return lambda walk, node, path, at: walk._record(record, node, path, at)


# --- words ------------------------------------------------------------------------------------


def _describe(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    if is_null(node):
        return "nothing"
    shown = textwrap.shorten(node.value, 80, placeholder=" …")
    return f'the text "{shown}"' if node.style else shown


def _how_to_give(node: yaml.Node) -> str:
    """The advice for a parameter where its value has to be known, else the code's own."""
    names = PARAMETER.findall(node.value) if isinstance(node, yaml.ScalarNode) else []
    given = " ".join(f"--param {name}=…" for name in names)
    return f"say what it is: {given} with meshml import" if given else ""


def _listed(names: Set[str] | list[str] | tuple[str, ...]) -> str:
    return " and ".join(names)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _name(path: str) -> str:
    """The last step of a path; a name in brackets may hold dots itself."""
    step = re.search(r"[^.\[\]]+(\[[^\[]*\])?$", path)
    return step[0] if step else "the file"
