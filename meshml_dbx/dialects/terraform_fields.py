"""The fields of Terraform's aws_appmesh resources in mesh.yml's names and shape.

The AWS provider writes the API's fields in snake case, a list as a block that repeats under a
singular name, and an object as a list of one block. The classes of ``mesh.spec`` say which is
which; nothing is checked here, that is the mesh file's own reading.
"""

import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin, get_type_hints

from meshml_dbx.dialects.found import Account, Parameters
from meshml_dbx.dialects.hcl_known import UNKNOWN, as_text
from meshml_dbx.dialects.tree import Entry, Node, Place, Plain, Scalar, Series, Table, made
from meshml_dbx.mesh.spec import CloudMapAttribute

_PLURAL = {
    "listener": "listeners",
    "backend": "backends",
    "header": "headers",
    "query_parameter": "queryParameters",
    "weighted_target": "weightedTargets",
}
_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_:.-]*)\}")
# Where the provider's state holds 0 it means 0 in these fields, in all others that none is set.
_ZERO_COUNTS = {"weight", "maxRetries", "value", "start", "end", "maxEjectionPercent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Turns evaluated values into fields; ``shown``: they are from ``terraform show -json``.

    There, and only there, an empty text, list or number stands for what nobody wrote.
    """

    account: Account
    parameters: Parameters
    shown: bool = False

    def record(self, cls: type, node: Node) -> Table | None:
        """The table of one class, from a block, a list of one block, or an object."""
        if isinstance(node, Series):
            return self._only(cls, node)
        if isinstance(node, Scalar):
            self.account.use(node)
            return None
        entries = []
        for entry in node.entries:
            name = _name(cls, entry.key)
            value = self._value(_hints(cls).get(name, str), name, entry.value)
            if value is None and name in _required(cls):
                value = self._empty(_hints(cls)[name], entry.value)
            if value is not None:
                entries.append(Entry(key=name, place=entry.place, value=value))
        return Table(place=node.place, entries=tuple(entries))

    def scalar(self, hint: object, name: str, node: Node) -> Node | None:
        """A value as its field wants it; None if nothing is set."""
        if not isinstance(node, Scalar):
            return self._any(node)
        if node.value is None or (self.shown and self._is_unset(name, node.value)):
            self.account.use(node)
            return None
        if node.tag == UNKNOWN:
            text = self._filled(str(node.value), node.place)
            node = made(text, node.place, *(node.origins or (node,)))
        value = _coerced(hint, node)
        return node if value is node.value else made(value, node.place, node)

    def _filled(self, text: str, place: Place) -> str:
        """A text with what was given for its unknowns; the others are noted as missing."""
        return _NAMED.sub(lambda found: self._given(found[1], place), text)

    def _given(self, name: str, place: Place) -> str:
        text = self.parameters.get(name)
        return self.parameters.missing(name, place) if text is None else text

    def tags(self, node: Node | None) -> Table | None:
        """A map of texts, as tags are."""
        if not isinstance(node, Table):
            self.account.use(node)
            return None
        kept = ((entry, self.scalar(str, "", entry.value)) for entry in node.entries)
        entries = tuple(Entry(key=it.key, place=it.place, value=v) for it, v in kept if v)
        return Table(place=node.place, entries=entries) if entries else None

    def _only(self, cls: type, node: Series) -> Table | None:
        if not node.items:
            return None
        first, *others = node.items
        for other in others:
            what = f"{other.place.path} is written again, where App Mesh takes one"
            self.account.leave("terraform-block", other, what)
        if isinstance(first, Scalar):  # null: a block without anything in it
            self.account.use(first)
            return Table(place=node.place, entries=())
        return self.record(cls, first)

    def _value(self, hint: object, name: str, node: Node) -> Node | None:
        kind = _kind(hint)
        if get_origin(kind) is tuple:
            return self._series(get_args(kind)[0], name, node)
        if get_origin(kind) is dict:
            return self.tags(node)
        if is_dataclass(kind):
            found = self.record(cast("type", kind), node)
            return found if found is None or found.entries else None
        return self.scalar(kind, name, node)

    def _series(self, hint: object, name: str, node: Node) -> Node | None:
        kind = _kind(hint)
        if kind is CloudMapAttribute and isinstance(node, Table):
            return self._attributes(node)
        if isinstance(node, Scalar):
            return self.scalar(str, name, node)
        items = node.items if isinstance(node, Series) else (node,)
        found = [
            self.record(cast("type", kind), it) if is_dataclass(kind) else self.scalar(kind, "", it)
            for it in items
        ]
        kept = tuple(it for it in found if it is not None)
        return Series(place=node.place, items=kept) if kept else None

    def _attributes(self, node: Table) -> Node | None:
        """Cloud Map's attributes, a map in Terraform, as the API's list of keys and values."""
        items = []
        for entry in node.entries:
            value = self.scalar(str, "", entry.value)
            if value is not None:
                key = Entry(key="key", place=entry.place, value=made(entry.key, entry.place))
                pair = (key, Entry(key="value", place=entry.place, value=value))
                items.append(Table(place=entry.place, entries=pair))
        return Series(place=node.place, items=tuple(items)) if items else None

    def _empty(self, hint: object, node: Node) -> Node | None:
        """A required block that is written without anything in it, such as ``match {}``."""
        written = isinstance(node, Table) or (isinstance(node, Series) and node.items)
        kind = _kind(hint)
        return Table(place=node.place, entries=()) if written and is_dataclass(kind) else None

    def _any(self, node: Node) -> Node | None:
        """What the API has no field for, as it is: the mesh file's reading reports it."""
        if isinstance(node, Table):
            entries = ((it, self.scalar(str, it.key, it.value)) for it in node.entries)
            kept = tuple(
                Entry(key=camel(it.key), place=it.place, value=v) for it, v in entries if v
            )
            return Table(place=node.place, entries=kept) if kept or not self.shown else None
        items = (self.scalar(str, "", it) for it in cast("Series", node).items)
        kept_items = tuple(it for it in items if it is not None)
        return Series(place=node.place, items=kept_items) if kept_items else None

    def _is_unset(self, name: str, value: Plain) -> bool:
        if isinstance(value, bool):
            return False
        return value == "" or (value == 0 and name not in _ZERO_COUNTS)


def _coerced(hint: object, node: Scalar) -> Plain:
    """The value as the type that its field has, where the text says it plainly."""
    value = node.value
    if hint is int and isinstance(value, str) and re.fullmatch(r"-?(0|[1-9]\d{0,17})", value):
        return int(value)
    if hint is bool and value in {"true", "false"}:
        return value == "true"
    wants_text = hint is str or get_origin(hint) is Literal
    return as_text(node) if wants_text and not isinstance(value, str) else value


def _kind(hint: object) -> object:
    """The type behind Annotated and ``| None``."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _kind(get_args(hint)[0])
    if origin in {Union, UnionType}:
        return _kind(next(one for one in get_args(hint) if one is not type(None)))
    return hint


def _name(cls: type, key: str) -> str:
    hints = _hints(cls)
    plain_name = camel(key)
    return plain_name if plain_name in hints else _PLURAL.get(key, plain_name)


def camel(name: str) -> str:
    """A snake-case name as the API writes it.

    >>> camel("virtual_service_name")
    'virtualServiceName'
    """
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@cache
def _hints(cls: type) -> dict[str, object]:
    return {camel(key): hint for key, hint in get_type_hints(cls, include_extras=True).items()}


@cache
def _required(cls: type) -> frozenset[str]:
    return frozenset(_needed(cls))


def _needed(cls: type) -> Iterator[str]:
    for one in fields(cls):
        if one.default is MISSING and one.default_factory is MISSING:
            yield camel(one.name)
