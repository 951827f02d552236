"""CloudFormation's names and texts become the mesh file's: PascalCase to camelCase, "80" to 80.

A tree and the class of ``mesh.spec`` that it is meant for go in. A field is known by its letters,
whatever their case, so that TLS, AWSCloudMap and Http2Route need no list of their own; one that
the class does not have is only recased, and stays visible as an unknown field of its own place.
"""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin

from meshml_dbx.dialects.template_parameters import text_of
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, made
from meshml_dbx.mesh.shapes import shape_of

_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_UNKNOWN = re.compile(r"\$\{[^${}]+\}")
_TRUTHS = {"true": True, "false": False}


def shaped(node: Node, hint: object) -> Node:
    """The tree in the mesh file's names, its scalars of the type that the class wants.

    What does not fit the class is passed on as it is: loading the mesh reports it at its place.
    """
    wanted = _bare(hint)
    if isinstance(node, Table):
        return _table(node, wanted)
    if isinstance(node, Series):
        item = get_args(wanted)[0] if get_origin(wanted) is tuple else None
        return Series(place=node.place, items=tuple(shaped(one, item) for one in node.items))
    if (
        get_origin(wanted) is tuple
        and isinstance(node.value, str)
        and _UNKNOWN.fullmatch(node.value)
    ):
        return Series(place=node.place, items=(node,))  # a list that is still unknown
    return _coerced(node, wanted)


def camel_case(name: str) -> str:
    """A CloudFormation name in the API's case, for names that no class knows.

    >>> camel_case("TLSMode"), camel_case("ACM"), camel_case("PortMapping")
    ('tlsMode', 'acm', 'portMapping')
    """
    leading = re.match(r"[A-Z0-9]+(?=[A-Z][a-z]|$)|[A-Z]", name)
    return name if leading is None else leading[0].lower() + name[leading.end() :]


def _table(node: Table, wanted: object) -> Table:
    known = _fields(cast("type", wanted)) if is_dataclass(wanted) else {}
    entries = []
    for entry in node.entries:
        key, hint = known.get(entry.key.lower()) or (camel_case(entry.key), None)
        entries.append(Entry(key=key, place=entry.place, value=shaped(entry.value, hint)))
    return Table(place=node.place, entries=tuple(entries))


def _coerced(node: Scalar, wanted: object) -> Scalar:
    text = text_of(node)
    if node.value is None:
        return node
    if wanted is int and _WHOLE.fullmatch(text):
        return node if _is_whole(node) else made(int(text), node.place, node)
    if wanted is bool and text.lower() in _TRUTHS:
        truth = _TRUTHS[text.lower()]
        return node if node.value is truth else made(truth, node.place, node)
    if (wanted is str or get_origin(wanted) is Literal) and text != node.value:
        return made(text, node.place, node)
    return node


def _is_whole(node: Scalar) -> bool:
    return isinstance(node.value, int) and not isinstance(node.value, bool) and not node.quoted


@cache
def _fields(cls: type) -> Mapping[str, tuple[str, object]]:
    """The fields of a class by their lower-case letters: the mesh file's name, and the type."""
    hints = shape_of(cls).hints
    return MappingProxyType({name.lower(): (name, hint) for name, hint in hints.items()})


@cache
def _bare(hint: object) -> object:
    """A type without its limits and without None."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) in {Union, UnionType}:
        return _bare(next(one for one in get_args(hint) if one is not type(None)))
    return hint
