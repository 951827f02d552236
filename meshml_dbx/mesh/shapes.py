"""The classes of ``spec`` as a file writes them: each field by its camel-case name, with its type.

A class goes in; its shape comes out. ``walk`` reads a tree along shapes, and ``schema`` tells
editors of them.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import get_type_hints


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One class of spec as the file writes it: its fields by their camel-case names.

    >>> from meshml_dbx.mesh.spec import PortMapping
    >>> shape_of(PortMapping).required
    ('port', 'protocol')
    """

    hints: Mapping[str, object]
    attributes: Mapping[str, str]
    required: tuple[str, ...]
    exactly_one: tuple[str, ...]
    at_most_one: tuple[str, ...]
    name_field: str | None


@cache
def shape_of(cls: type) -> Shape:
    """The shape of a class of spec."""
    hints = get_type_hints(cls, include_extras=True)
    own = fields(cls)
    first = own[0].name
    return Shape(
        hints={camel(one.name): hints[one.name] for one in own},
        attributes={camel(one.name): one.name for one in own},
        required=tuple(
            camel(one.name)
            for one in own
            if one.default is MISSING and one.default_factory is MISSING
        ),
        exactly_one=tuple(camel(name) for name in getattr(cls, "exactly_one", ())),
        at_most_one=tuple(camel(name) for name in getattr(cls, "at_most_one", ())),
        name_field=camel(first) if first.endswith("_name") else None,
    )


def camel(name: str) -> str:
    """A field's name as the API writes it.

    >>> camel("per_retry_timeout")
    'perRetryTimeout'
    """
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
