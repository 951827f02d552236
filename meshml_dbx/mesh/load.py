"""Reading mesh.yml: text in, the Mesh and everything that is wrong with its form out.

The YAML node tree is walked along the classes of ``spec``: a field's type hint says how its text is
read, so that a plain ``no`` stays the text "no" where a name is expected. One pass collects every
finding, and the line of every element by a path that people can read.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin, get_type_hints

import yaml

from meshml_dbx.errors import MeshMLError
from meshml_dbx.findings import Finding, finding
from meshml_dbx.mesh.limits import Form, Limit
from meshml_dbx.mesh.names import closest, entry_keys
from meshml_dbx.mesh.spec import Mesh

_Loader: type[yaml.CSafeLoader] | type[yaml.SafeLoader]
_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_CORE = "tag:yaml.org,2002:"
_MERGE = f"{_CORE}merge"
_NO_TEXT = yaml.reader.Reader.NON_PRINTABLE
_INVALID = object()  # a value that has its finding already
_DEEPEST = 100  # libyaml follows nesting on the C stack and would end the process


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedMesh:
    """A mesh file as read: its mesh, unless a finding is an error, and where all of it stands.

    >>> loaded = load_mesh("mesh: {meshName: ml}", source="mesh.yml")
    >>> loaded.where("mesh.meshName")
    'mesh.yml:1 mesh.meshName'
    """

    mesh: Mesh | None
    findings: tuple[Finding, ...]
    source: str
    text: str
    directory: Path | None
    lines: Mapping[str, int]

    def line_of(self, path: str) -> int | None:
        """The line, from 1, on which an element is written; None if the file does not write it."""
        return self.lines.get(path)

    def line_near(self, path: str) -> int:
        """The line of an element or, if it is not written, of what is written around it."""
        place = path
        while place and place not in self.lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return self.lines.get(place, 1)

    def where(self, path: str) -> str:
        """Source, line and path of an element, as findings show it."""
        return f"{self.source}:{self.line_near(path)} {path}".rstrip()


def read_mesh(path: Path) -> LoadedMesh:
    """The mesh file at a path; raises MeshMLError only when the file itself cannot be had."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MeshMLError(
            f"could not read the mesh file {path}: {error.strerror}", advice=_advice(path)
        ) from error
    try:
        return load_mesh(raw.decode("utf-8-sig"), source=str(path), directory=path.parent)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        text = raw.decode("utf-8", errors="replace")
        broken = finding(
            "mesh-file-not-yaml", where=f"{path}:{line}", what="this is not UTF-8 text"
        )
        return _unreadable(broken, source=str(path), text=text, directory=path.parent)


def load_mesh(text: str, *, source: str, directory: Path | None = None) -> LoadedMesh:
    """The mesh that a text declares; ``source`` names it in findings."""
    try:
        root = _compose(text)
    except (yaml.YAMLError, _RefusedError) as error:
        line, problem = _yaml_problem(error)
        broken = finding("mesh-file-not-yaml", where=f"{source}:{line}", what=problem)
        return _unreadable(broken, source=source, text=text, directory=directory)
    if root is None or _is_null(root):
        empty = finding("mesh-file-empty", where=f"{source}:1", what="nothing is declared")
        return _unreadable(empty, source=source, text=text, directory=directory)
    walk = _Walk(source)
    value = walk.read(Mesh, root, "", _line(root))
    return LoadedMesh(
        mesh=None if walk.problems else cast("Mesh", value),
        findings=tuple(found for _, found in sorted(walk.problems, key=lambda it: it[0])),
        source=source,
        text=text,
        directory=directory,
        lines=MappingProxyType(walk.lines),
    )


def _advice(path: Path) -> str:
    if path.is_dir() and (path / "mesh.yml").is_file():
        return f"name the file: --mesh {path / 'mesh.yml'}"
    if path.exists():
        return "name a file that you may read with --mesh"
    return "name the file with --mesh, or start from the example in the README"


def _unreadable(found: Finding, *, source: str, text: str, directory: Path | None) -> LoadedMesh:
    return LoadedMesh(
        mesh=None,
        findings=(found,),
        source=source,
        text=text,
        directory=directory,
        lines=MappingProxyType({}),
    )


# --- YAML -------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """Raised, and turned into a finding, for a text that is not handed to the YAML reader."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def _compose(text: str) -> yaml.Node | None:
    noise = _NO_TEXT.search(text)
    if noise:
        line = text.count("\n", 0, noise.start()) + 1
        raise _RefusedError(f"the character U+{ord(noise[0]):04X} is no text", line)
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise _RefusedError(f"nested more than {_DEEPEST} levels deep", _line(event))
    return yaml.compose(text, Loader=_Loader)


def _yaml_problem(error: yaml.YAMLError | _RefusedError) -> tuple[int, str]:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        return (mark.line + 1 if mark else 1), f"not YAML: {problem}"
    return getattr(error, "line", 1), f"not YAML: {error}"


def _line(place: yaml.Node | yaml.Event) -> int:
    return int(place.start_mark.line) + 1 if place.start_mark else 1


def _is_null(node: yaml.Node) -> bool:
    return node.tag == f"{_CORE}null" and isinstance(node, yaml.ScalarNode)


def _describe(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    if _is_null(node):
        return "nothing"
    shown = textwrap.shorten(node.value, 80, placeholder=" …")
    return f'the text "{shown}"' if node.style else shown


# --- the classes of spec ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """One class of spec as the file writes it: fields by their camel-case name."""

    hints: Mapping[str, object]
    attributes: Mapping[str, str]
    required: tuple[str, ...]
    exactly_one: tuple[str, ...]
    at_most_one: tuple[str, ...]
    name_field: str | None


@cache
def _shape(cls: type) -> _Shape:
    hints = get_type_hints(cls, include_extras=True)
    own = fields(cls)
    first = own[0].name
    return _Shape(
        hints={_camel(one.name): hints[one.name] for one in own},
        attributes={_camel(one.name): one.name for one in own},
        required=tuple(
            _camel(one.name)
            for one in own
            if one.default is MISSING and one.default_factory is MISSING
        ),
        exactly_one=tuple(_camel(name) for name in getattr(cls, "exactly_one", ())),
        at_most_one=tuple(_camel(name) for name in getattr(cls, "at_most_one", ())),
        name_field=_camel(first) if first.endswith("_name") else None,
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


# --- the walk ---------------------------------------------------------------------------------


class _Walk:
    """One walk over one file; it remembers lines and problems."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        self.problems: list[tuple[int, Finding]] = []
        self._flat: dict[int, list[tuple[yaml.Node, yaml.Node]]] = {}

    def read(self, hint: object, node: yaml.Node, path: str, line: int) -> object:
        """The value of a node as its hint wants it, or _INVALID with the finding noted."""
        self.lines.setdefault(path, line)
        if not node.tag.startswith(_CORE):
            return self._wrong(path, line, f"{_name(path)} carries the tag {node.tag}; use none")
        reader = _READERS.get(get_origin(hint) or hint, _Walk._record)
        return reader(self, hint, node, path, line)

    def _wrong(self, path: str, line: int, what: str, code: str = "wrong-value") -> object:
        where = f"{self.source}:{line} {path}".rstrip()
        self.problems.append((line, finding(code, where=where, what=what)))
        return _INVALID

    def _expected(self, wanted: str, node: yaml.Node, path: str, line: int) -> object:
        return self._wrong(path, line, f"{_name(path)} is {_describe(node)}; it must be {wanted}")

    def _text(self, _hint: object, node: yaml.Node, path: str, line: int) -> object:
        if isinstance(node, yaml.ScalarNode):
            return node.value
        return self._expected("text", node, path, line)

    def _whole_number(self, _hint: object, node: yaml.Node, path: str, line: int) -> object:
        plain = isinstance(node, yaml.ScalarNode) and not node.style
        if plain and re.fullmatch(r"-?(0|[1-9]\d{0,17})", node.value, re.ASCII):
            return int(node.value)
        return self._expected("a whole number, without quotes", node, path, line)

    def _truth(self, _hint: object, node: yaml.Node, path: str, line: int) -> object:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_CORE}bool" and not node.style:
            return node.value.lower() in {"true", "yes", "on"}
        return self._expected("true or false", node, path, line)

    def _choice(self, hint: object, node: yaml.Node, path: str, line: int) -> object:
        allowed = [str(one) for one in get_args(hint)]
        if isinstance(node, yaml.ScalarNode) and node.value in allowed:
            return node.value
        guess = closest(node.value, allowed) if isinstance(node, yaml.ScalarNode) else None
        hinted = f"; did you mean {guess}?" if guess and len(allowed) > 1 else ""
        wanted = allowed[0] if len(allowed) == 1 else f"one of {', '.join(allowed)}"
        return self._expected(wanted + hinted, node, path, line)

    def _optional(self, hint: object, node: yaml.Node, path: str, line: int) -> object:
        (inner,) = (one for one in get_args(hint) if one is not type(None))
        return self.read(inner, node, path, line)

    def _ranged(self, hint: object, node: yaml.Node, path: str, line: int) -> object:
        inner, *rules = get_args(hint)
        value = self.read(inner, node, path, line)
        if value is _INVALID:
            return value
        for rule in cast("list[Limit | Form]", rules):
            broken = rule.broken_by(cast("str", value))
            if broken:
                shown = _describe(node) if isinstance(node, yaml.ScalarNode) else ""
                verb = f" is {shown}; it {broken}" if shown else f" {broken}"
                return self._wrong(path, line, f"{_name(path)}{verb}")
        return value

    def _tuple(self, hint: object, node: yaml.Node, path: str, line: int) -> object:
        if not isinstance(node, yaml.SequenceNode):
            return self._expected("a list", node, path, line)
        item = get_args(hint)[0]
        keys = entry_keys([self._entry_name(item, entry) for entry in node.value])
        values = tuple(
            self.read(item, entry, f"{path}[{key}]", _line(entry))
            for key, entry in zip(keys, node.value, strict=True)
        )
        return _INVALID if any(value is _INVALID for value in values) else values

    def _entry_name(self, item: object, entry: yaml.Node) -> str | None:
        if not (is_dataclass(item) and isinstance(entry, yaml.MappingNode)):
            return None
        name_field = _shape(cast("type", item)).name_field
        for key, value in self._pairs(entry):
            if key.value == name_field and isinstance(value, yaml.ScalarNode):
                return str(value.value)
        return None

    def _dict(self, _hint: object, node: yaml.Node, path: str, line: int) -> object:
        if not isinstance(node, yaml.MappingNode):
            return self._expected("a mapping of text to text", node, path, line)
        read = {
            key: self.read(str, value, _join(path, key), _line(value_key))
            for key, value_key, value in self._unique(node, path)
        }
        return _INVALID if any(value is _INVALID for value in read.values()) else read

    def _record(self, hint: object, node: yaml.Node, path: str, line: int) -> object:
        cls = cast("type", hint)
        shape = _shape(cls)
        if not isinstance(node, yaml.MappingNode):
            wanted = f"a mapping with {', '.join(shape.hints)}"
            return self._expected(wanted, node, path, line)
        before = len(self.problems)
        values: dict[str, object] = {}
        meant = set()  # a misspelt field is one mistake, not also a missing field
        for key, key_node, value in self._unique(node, path):
            if key not in shape.hints:
                meant.add(self._unknown(shape, key, path, _line(key_node)))
            elif not _is_null(value):  # written without a value: as if it were not written
                hint = shape.hints[key]
                values[key] = self.read(hint, value, _join(path, key), _line(key_node))
        self._require(shape, values.keys() | meant, path, line)
        if len(self.problems) > before:
            return _INVALID
        return cls(**{shape.attributes[key]: value for key, value in values.items()})

    def _unknown(self, shape: _Shape, key: str, path: str, line: int) -> str | None:
        guess = closest(key, shape.hints)
        asked = f"; did you mean {guess}?" if guess else ""
        known = ", ".join(sorted(shape.hints))
        what = f'unknown field "{key}"{asked} (known here: {known})'
        self._wrong(_join(path, key), line, what, "unknown-field")
        return guess

    def _require(self, shape: _Shape, values: Set[str | None], path: str, line: int) -> None:
        for key in shape.required:
            if key not in values:
                self._wrong(path, line, f"{_name(path)} needs the field {key}", "missing-field")
        both = [key for key in shape.at_most_one if key in values]
        if len(both) > 1:
            what = f"{_name(path)} takes one of {' and '.join(both)}, not both"
            self._wrong(path, line, what, "exactly-one")
        given = [key for key in shape.exactly_one if key in values]
        if shape.exactly_one and len(given) != 1:
            has = " and ".join(given) if given else "none of them"
            choice = ", ".join(shape.exactly_one)
            what = f"{_name(path)} needs exactly one of {choice}; it has {has}"
            self._wrong(path, line, what, "exactly-one")

    def _unique(
        self, node: yaml.MappingNode, path: str
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Each field's name, key and value once; what is written twice becomes a finding."""
        own = {id(key) for key, _ in node.value}
        first: dict[str, int] = {}
        for key, value in self._pairs(node):
            line = _line(key)
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(path, line, f"a field's name is {_describe(key)}; it must be text")
            elif key.value not in first:
                first[key.value] = line
                yield key.value, key, value
            elif id(key) in own:  # a merged field gives way in silence, that is its purpose
                what = f"{key.value} is written twice, first on line {first[key.value]}"
                self._wrong(_join(path, key.value), line, what, "duplicate-field")

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
        """A mapping's own keys and values, then those that ``<<`` merges into it."""
        if id(node) not in self._flat:
            self._flat[id(node)] = []  # an anchor that merges itself ends here
            merged = [value for key, value in node.value if key.tag == _MERGE]
            own = [pair for pair in node.value if pair[0].tag != _MERGE] if merged else node.value
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
                self._wrong("<<", _line(part), f"<< is {_describe(part)}; it must be a mapping")


_Reader = Callable[[_Walk, object, yaml.Node, str, int], object]
_READERS: dict[object, _Reader] = {
    str: _Walk._text,
    int: _Walk._whole_number,
    bool: _Walk._truth,
    tuple: _Walk._tuple,
    dict: _Walk._dict,
    Literal: _Walk._choice,
    Annotated: _Walk._ranged,
    Union: _Walk._optional,
    UnionType: _Walk._optional,
}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _name(path: str) -> str:
    """The last step of a path; a name in brackets may hold dots itself."""
    step = re.search(r"[^.\[\]]+(\[[^\[]*\])?$", path)
    return step[0] if step else "the file"
