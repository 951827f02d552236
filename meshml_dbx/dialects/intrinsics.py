"""CloudFormation's intrinsic functions: how each is written, and what those of values come to.

A node that is a function goes in, in its short form (``!Join``) or its long one (``Fn::Join``); its
name and arguments come out. The functions that look nothing up are here: worked-out arguments go
in, the value comes out, with the place of the function and the scalars that it was made from.
"""

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from meshml_dbx.dialects.template_parameters import text_of
from meshml_dbx.dialects.tree import (
    Node,
    Place,
    Plain,
    Scalar,
    Series,
    Table,
    made,
    plain,
    scalars,
    sources_of,
)

UNKNOWN = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_:.-]*)\}")

_LONGEST = 100_000  # characters of one text: references to references can double it each time
_MOST_BLOCKS = 256


class UnusableError(Exception):
    """Raised, and turned into a finding, for a function that cannot be worked out.

    >>> UnusableError("Fn::Select takes an index and a list").code
    'template-intrinsic'
    """

    def __init__(self, what: str, code: str = "template-intrinsic") -> None:
        super().__init__(what)
        self.code = code


@dataclass(frozen=True, slots=True)
class Call:
    """A function in a template, by its long name.

    >>> from meshml_dbx.dialects.tree import Place, Scalar
    >>> call_of(Scalar(value="Env", tag="!Ref", place=Place(source="a.yml", line=1))).name
    'Ref'
    """

    name: str
    arguments: Node


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only a running stack knows, by the name that it is given by.

    >>> Unknown("AWS::StackName").name
    'AWS::StackName'
    """

    name: str
    origins: tuple[Scalar, ...] = ()


def call_of(node: Node) -> Call | None:
    """The function that a node is, by its tag or by the only key of its table."""
    if node.tag:
        name = node.tag[1:] if node.tag in {"!Ref", "!Condition"} else f"Fn::{node.tag[1:]}"
        return Call(name, _untagged(node))
    if isinstance(node, Table) and len(node.entries) == 1:
        (entry,) = node.entries
        if entry.key == "Ref" or entry.key.startswith("Fn::"):
            return Call(entry.key, entry.value)
    return None


def is_no_value(node: Node) -> bool:
    """Whether a node is a reference to AWS::NoValue, which takes a field away."""
    call = call_of(node)
    return call is not None and call.name == "Ref" and text_of(call.arguments) == "AWS::NoValue"


def arguments_of(node: Node, least: int, most: int, usage: str) -> tuple[Node, ...]:
    """The arguments of a function that takes so many in a list.

    Raises:
        UnusableError: saying the usage, if they are not.
    """
    if isinstance(node, Series) and not node.tag and least <= len(node.items) <= most:
        return node.items
    raise UnusableError(usage)


def composed(value: Plain, place: Place, *parts: Scalar) -> Scalar:
    """A value with the scalars of the input that it was made from, each once.

    Raises:
        UnusableError: if it is longer than any value of a template can be.
    """
    if isinstance(value, str) and len(value) > _LONGEST:
        raise UnusableError(f"this comes to more than {_LONGEST:,} characters", "template-cycle")
    return made(value, place, *dict.fromkeys(it for part in parts for it in sources_of(part)))


def moved(node: Node, place: Place, *origins: Scalar) -> Node:
    """A value at the place from which it is referred to."""
    if isinstance(node, Scalar):
        value = text_of(node) if isinstance(node.value, str) else node.value
        return composed(value, place, *origins, node)
    if isinstance(node, Series):
        items = (moved(item, place, *origins) for item in node.items)
        return Series(place=place, items=tuple(items))
    return node


def _untagged(node: Node) -> Node:
    if isinstance(node, Scalar):
        return made(node.value, node.place, node)
    if isinstance(node, Series):
        return Series(place=node.place, items=node.items)
    return Table(place=node.place, entries=node.entries)


# --- functions of worked-out arguments --------------------------------------------------------


def _join(node: Node, place: Place) -> Node | Unknown:
    between, listed = arguments_of(node, 2, 2, "Fn::Join takes a delimiter and a list")
    found = _items(listed, "Fn::Join")
    if isinstance(found, Unknown):
        return found
    texts = [_text(one, "Fn::Join's entry") for one in found]
    delimiter = _text(between, "Fn::Join's delimiter")
    return composed(text_of(delimiter).join(map(text_of, texts)), place, delimiter, *texts)


def _split(node: Node, place: Place) -> Node:
    between, source = arguments_of(node, 2, 2, "Fn::Split takes a delimiter and a text")
    delimiter, text = text_of(_text(between, "Fn::Split's delimiter")), _text(source, "Fn::Split")
    if not delimiter:
        raise UnusableError("Fn::Split's delimiter must not be empty")
    if UNKNOWN.fullmatch(text_of(text)):
        return text
    parts = (composed(part, place, text) for part in _parts(text_of(text), delimiter))
    return Series(place=place, items=tuple(parts))


def _parts(text: str, delimiter: str) -> list[str]:
    """A text in parts; a delimiter in the name of an unknown is no delimiter of its value."""
    parts, done = [], 0
    for found in re.finditer(rf"({UNKNOWN.pattern})|{re.escape(delimiter)}", text):
        if not found[1]:
            parts.append(text[done : found.start()])
            done = found.end()
    return [*parts, text[done:]]


def _select(node: Node, place: Place) -> Node | Unknown:
    index, listed = arguments_of(node, 2, 2, "Fn::Select takes an index and a list")
    number = text_of(_text(index, "Fn::Select's index"))
    found = _items(listed, "Fn::Select")
    if isinstance(found, Unknown):
        return Unknown(f"{found.name}.{number}", found.origins)
    if not re.fullmatch(r"\d{1,9}", number, re.ASCII) or int(number) >= len(found):
        raise UnusableError(f"Fn::Select has no entry {number} among {len(found)}")
    return moved(found[int(number)], place)


def _base64(node: Node, place: Place) -> Node | Unknown:
    text = _text(node, "Fn::Base64")
    if UNKNOWN.search(text_of(text)):
        return Unknown("Fn::Base64", (text,))
    return composed(base64.b64encode(text_of(text).encode()).decode("ascii"), place, text)


def _cidr(node: Node, place: Place) -> Node | Unknown:
    usage = "Fn::Cidr takes an address block, a count from 1 to 256 and the bits of each part"
    texts = [_text(one, "Fn::Cidr") for one in arguments_of(node, 2, 3, usage)]
    if any(UNKNOWN.search(text_of(text)) for text in texts):
        return Unknown("Fn::Cidr", tuple(texts))
    block, count, bits = (*map(text_of, texts), "8")[:3]
    try:
        network, wanted = ipaddress.ip_network(block, strict=False), int(count)
        blocks = network.subnets(new_prefix=network.max_prefixlen - int(bits))
        found = [str(one) for one in islice(blocks, min(max(wanted, 0), _MOST_BLOCKS))]
    except ValueError as error:
        raise UnusableError(f"{usage}: {error}") from error
    if not found or len(found) != wanted:
        raise UnusableError(usage)
    return Series(place=place, items=tuple(composed(one, place, *texts) for one in found))


def _get_azs(node: Node, _place: Place) -> Unknown:
    return Unknown("Fn::GetAZs", tuple(scalars(node)))


def _length(node: Node, place: Place) -> Node | Unknown:
    found = _items(node, "Fn::Length")
    if isinstance(found, Unknown):
        return Unknown(f"{found.name}.Length", found.origins)
    return composed(len(found), place, *(one for item in found for one in scalars(item)))


def _to_json(node: Node, place: Place) -> Node:
    if isinstance(node, Scalar):
        raise UnusableError("Fn::ToJsonString takes a list or a table")
    return composed(json.dumps(plain(node), separators=(",", ":")), place, *scalars(node))


def _text(node: Node, of: str) -> Scalar:
    if isinstance(node, Scalar):
        return node
    raise UnusableError(f"{of} must come to a text")


def _items(node: Node, of: str) -> Sequence[Node] | Unknown:
    if isinstance(node, Series):
        return node.items
    whole = UNKNOWN.fullmatch(text_of(node))
    if whole and isinstance(node, Scalar):
        return Unknown(whole[1], (node,))
    raise UnusableError(f"{of} takes a list")


FUNCTIONS: Mapping[str, Callable[[Node, Place], Node | Unknown]] = MappingProxyType(
    {
        "Fn::Base64": _base64,
        "Fn::Cidr": _cidr,
        "Fn::GetAZs": _get_azs,
        "Fn::Join": _join,
        "Fn::Length": _length,
        "Fn::Select": _select,
        "Fn::Split": _split,
        "Fn::ToJsonString": _to_json,
    }
)
"""The functions whose value follows from their arguments alone."""
