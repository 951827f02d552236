"""Placeholders in text become the values that were given for them, or stay as named unknowns.

``${NAME}``, ``${NAME:-default}``, ``{{ NAME }}`` and a bare ``$NAME`` are known. What has no value
stays in the mesh as ``${NAME}``, whatever form the input wrote it in.
"""

import re
from dataclasses import replace
from operator import is_

from meshml_dbx.dialects.found import Parameters
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, typed

_PLACEHOLDER = re.compile(
    r"\$\{(?P<name>[A-Za-z_](?:[A-Za-z0-9_.-]|:(?!-))*)(?::-(?P<default>[^}]*))?\}"
    r"|\{\{-?\s*\.?(?P<curly>[^{}]+?)\s*-?\}\}"
    r"|\$(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
)


def fill(node: Node, parameters: Parameters) -> Node:
    """The same tree with every placeholder filled; what changes nothing stays the same object.

    A value that stands without quotes and is one placeholder takes the type of what is given.
    """
    if isinstance(node, Scalar):
        return _fill_scalar(node, parameters)
    if isinstance(node, Series):
        items = tuple([fill(item, parameters) for item in node.items])
        return node if all(map(is_, items, node.items)) else replace(node, items=items)
    return fill_table(node, parameters)


def fill_table(table: Table, parameters: Parameters) -> Table:
    """The same table with every placeholder filled."""
    entries = tuple([_fill_entry(entry, parameters) for entry in table.entries])
    return table if all(map(is_, entries, table.entries)) else replace(table, entries=entries)


def _fill_entry(entry: Entry, parameters: Parameters) -> Entry:
    value = fill(entry.value, parameters)
    return entry if value is entry.value else replace(entry, value=value)


def _fill_scalar(scalar: Scalar, parameters: Parameters) -> Scalar:
    text = scalar.value
    if not isinstance(text, str) or ("$" not in text and "{{" not in text):
        return scalar
    given = _PLACEHOLDER.sub(lambda found: _value(found, scalar, parameters), text)
    if given == text:
        return scalar
    whole = not scalar.quoted and _PLACEHOLDER.fullmatch(text) is not None
    return Scalar(
        value=typed(given) if whole else given,
        place=scalar.place,
        quoted=not whole,
        tag=scalar.tag,
        origins=(scalar,),
    )


def _value(found: re.Match[str], scalar: Scalar, parameters: Parameters) -> str:
    name = found["name"] or found["curly"] or found["bare"]
    if found["bare"] and found[0] != scalar.value and name not in parameters.given:
        return found[0]  # a regular expression may well hold a dollar before a letter
    given = parameters.get(name)
    if given is None:
        given = found["default"]
    return parameters.missing(name, scalar.place) if given is None else given
