"""YAML text becomes located trees, straight from the events of PyYAML's parser.

Anchors become the same objects, merged fields stand behind a table's own, a field that is written
twice is there twice. What would harm a reader is refused: deep nesting, and anchors that stand for
more than memory holds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from meshml_dbx.dialects.tree import (
    Entry,
    Node,
    Place,
    Scalar,
    Series,
    Table,
    UnreadableError,
    typed,
)

_Loader: type[yaml.CSafeLoader] | type[yaml.SafeLoader]
_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_CORE = "tag:yaml.org,2002:"
_DEEPEST = 100  # tables in tables; the reader and all that follow it go down by recursion
_MOST_REPEATED = 500_000  # values that the aliases of one file may stand for
_BRACES = re.compile(r"\{\{[^{}\n]*\}\}|\$\{[^{}\n]*\}")
_HIDE = str.maketrans("{}", "\ue000\ue001")  # of the private use area: letters to YAML
_SHOW = str.maketrans("\ue000\ue001", "{}")
_HELM = re.compile(
    r"^[ \t]*\{\{-?[ \t]*(?:/\*|\$|(?:if|else|end|range|with|define|template|block)\b)",
    re.MULTILINE,
)


def read_yaml(text: str, source: str) -> tuple[Node, ...]:
    """Every document of a YAML text that holds something, its path led by its index if several.

    An unquoted ``{{ NAME }}``, or ``${NAME}`` within brackets, which is no YAML, is read as the
    text that it stands for.

    >>> [document.place.line for document in read_yaml("a: 1\\n---\\nb: 2", "a.yml")]
    [1, 3]

    Raises:
        UnreadableError: with the line, if it is not YAML.
    """
    try:
        return _read(text, source, _events(text))
    except UnreadableError as no_yaml:
        control = _HELM.search(text)
        if control:
            line = text.count("\n", 0, control.end()) + 1
            raise UnreadableError(
                line, "a Helm template: import what helm template prints"
            ) from no_yaml
        hidden = _BRACES.sub(lambda found: found[0].translate(_HIDE), text)
        if hidden == text:
            raise
        return _read(text, source, _shown(_events(hidden)))


def _read(text: str, source: str, events: Iterator[yaml.Event]) -> tuple[Node, ...]:
    starts = re.findall(r"^---(?=\s|$)", text, re.MULTILINE)
    begins_bare = not re.match(r"(\s*(#.*|%.*)?\n)*---(\s|$)", text)
    try:
        found = _Builder(source, events).documents(numbered=len(starts) + begins_bare > 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        line = min(mark.line, text.count("\n")) + 1 if mark else 1  # libyaml may count past the end
        raise UnreadableError(line, f"not YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise UnreadableError(1, f"not YAML: {error}") from error
    return tuple(one for one in found if not (isinstance(one, Scalar) and one.value is None))


def _shown(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    """The same, with the braces that were hidden from YAML."""
    for event in events:
        if isinstance(event, yaml.ScalarEvent):
            event.value = event.value.translate(_SHOW)
        yield event


def _events(text: str) -> Iterator[yaml.Event]:
    """What ``yaml.parse`` gives, which asks for each event twice."""
    loader = _Loader(text)
    try:
        yield from iter(loader.get_event, None)
    finally:
        loader.dispose()


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1


@dataclass(slots=True)
class _Builder:
    """Builds the trees of one text; ``sizes`` counts the values that each anchor stands for."""

    source: str
    events: Iterator[yaml.Event]
    anchors: dict[str, Node | None] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    size: int = 0
    repeated: int = 0

    def documents(self, *, numbered: bool) -> list[Node]:
        """The root of every document."""
        found: list[Node] = []
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                first = next(self.events)
                path = f"[{len(found)}]" if numbered else ""
                place = Place(source=self.source, line=_line(first), path=path)
                found.append(self._node(first, place, 0))
        return found

    def _node(self, event: yaml.Event, place: Place, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event)
        if depth > _DEEPEST:
            problem = f"not YAML: nested more than {_DEEPEST} levels deep"
            raise UnreadableError(place.line, problem)
        before = self.size
        self.size += 1
        anchor: str | None = event.anchor  # type: ignore[attr-defined]  # every node's event has it
        if anchor:
            self.anchors[anchor] = None
        node = self._build(event, place, depth)
        if anchor:
            self.anchors[anchor] = node
            self.sizes[anchor] = self.size - before
        return node

    def _repeat(self, event: yaml.AliasEvent) -> Node:
        anchor = str(event.anchor)
        node = self.anchors.get(anchor)
        if node is None:
            why = "holds itself" if anchor in self.anchors else "is not known here"
            raise UnreadableError(_line(event), f"the anchor {anchor} {why}")
        self.size += self.sizes[anchor]
        self.repeated += self.sizes[anchor]
        if self.repeated > _MOST_REPEATED:
            problem = f"its anchors stand for more than {_MOST_REPEATED:,} values"
            raise UnreadableError(_line(event), problem)
        return node

    def _build(self, event: yaml.Event, place: Place, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            items = tuple(self._items(place, depth + 1))
            return Series(place=place, items=items, tag=_tag(event))
        if not isinstance(event, yaml.MappingStartEvent):
            raise UnreadableError(place.line, "not YAML: a value is missing")
        own, merged = self._fields(place, depth + 1)
        known = {entry.key for entry in own}
        for table in merged:
            own += [entry for entry in table.entries if entry.key not in known]
            known |= {entry.key for entry in table.entries}
        return Table(place=place, entries=tuple(own), tag=_tag(event))

    def _items(self, place: Place, depth: int) -> Iterator[Node]:
        for index, event in enumerate(self.events):
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, place.step(index, _line(event)), depth)

    def _fields(self, place: Place, depth: int) -> tuple[list[Entry], list[Table]]:
        own: list[Entry] = []
        merged: list[Table] = []
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key, line = self._key(event), _line(event)
            at = place.step(key, line)
            value = self._node(next(self.events), at, depth)
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                merged += self._merged(value, line)
            else:
                own.append(Entry(key=key, place=at, value=value))
        return own, merged

    def _key(self, event: yaml.Event) -> str:
        if isinstance(event, yaml.AliasEvent):
            key = self._repeat(event)
            if isinstance(key, Scalar):
                return str(key.value)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                place = Place(source=self.source, line=_line(event))
                self.anchors[event.anchor] = _scalar(event, place)
                self.sizes[event.anchor] = 1
            return str(event.value)
        raise UnreadableError(_line(event), "a field's name is a table or a list; it must be text")

    def _merged(self, value: Node, line: int) -> list[Table]:
        parts = value.items if isinstance(value, Series) else (value,)
        tables = [part for part in parts if isinstance(part, Table)]
        if len(tables) < len(parts):
            raise UnreadableError(line, "what << merges must be a mapping")
        return tables


def _scalar(event: yaml.ScalarEvent, place: Place) -> Scalar:
    tag = _tag(event)
    quoted = bool(event.style) or event.tag in {"!", f"{_CORE}str"}
    value = event.value if quoted or tag else typed(event.value)
    return Scalar(value=value, place=place, quoted=quoted, tag=tag)


def _tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> str | None:
    """A tag that YAML's own types do not explain, such as !Ref."""
    tag: str | None = event.tag
    return None if tag is None or tag == "!" or tag.startswith(_CORE) else tag
