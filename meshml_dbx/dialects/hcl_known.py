"""What is known of a value: named unknowns, numbers and truths, and the operators over them."""

import re
from collections.abc import Callable
from hashlib import sha256
from operator import ge, gt, le, lt, mod, mul, sub, truediv

from meshml_dbx.dialects.hcl_functions import NotKnownError
from meshml_dbx.dialects.tree import Node, Place, Plain, Scalar, Series, Table, plain

UNKNOWN = "!unknown"

_LONGEST_NAME = 80
_EXACT = 2**53  # up to here a float holds every whole number
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": float.__add__,
    "-": sub,
    "*": mul,
    "/": truediv,
    "%": mod,
}
_ORDER: dict[str, Callable[[float, float], bool]] = {"<": lt, ">": gt, "<=": le, ">=": ge}


def unknown(name: str, place: Place, *origins: Scalar) -> Scalar:
    """The named unknown of an address or of an expression's text; a long one ends in a digest."""
    tidy = re.sub(r"[^A-Za-z0-9_:.-]+", "-", name).strip("-.")
    if len(tidy) > _LONGEST_NAME:
        digest = sha256(name.encode()).hexdigest()[:8]
        tidy = f"{tidy[:_LONGEST_NAME]}-{digest}"
    tidy = tidy if re.match(r"[A-Za-z_]", tidy) else f"_{tidy}"
    text = f"${{{tidy}}}"
    return Scalar(value=text, place=place, quoted=True, tag=UNKNOWN, origins=origins)


def is_unknown(node: Node) -> bool:
    """Whether a value, or a part of a text, is not known."""
    return isinstance(node, Scalar) and node.tag == UNKNOWN


def is_known(node: Node) -> bool:
    """Whether a value is known with everything in it."""
    if isinstance(node, Table):
        return all(is_known(entry.value) for entry in node.entries)
    if isinstance(node, Series):
        return all(is_known(item) for item in node.items)
    return not is_unknown(node)


def operated(operator: str, left: Node, right: Node) -> Plain:
    """The value of a binary operator, except those that look at one side alone."""
    if operator in {"==", "!="}:
        if not (is_known(left) and is_known(right)):
            raise NotKnownError(f"one side of {operator} is not known")
        return (plain(left) == plain(right)) == (operator == "==")
    one, other = amount(left), amount(right)
    if operator in _ORDER:
        return _ORDER[operator](one, other)
    if operator in {"/", "%"} and other == 0:
        raise NotKnownError("it divides by zero")
    return plain_number(_ARITHMETIC[operator](one, other))


def truth(node: Node) -> bool:
    """Whether a condition is true."""
    value = node.value if isinstance(node, Scalar) and not is_unknown(node) else None
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in words:
        return words[value]
    raise NotKnownError("a condition is not known to be true or false")


def amount(node: Node) -> float:
    """The number that a value is."""
    value = node.value if isinstance(node, Scalar) and not is_unknown(node) else None
    try:
        return float(value) if isinstance(value, str | int | float) else _no_amount()
    except ValueError:
        return _no_amount()


def _no_amount() -> float:
    raise NotKnownError("a number in it is not known")


def as_text(node: Scalar) -> str:
    """A value as Terraform writes it into a text."""
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return "" if node.value is None else str(node.value)


def number(text: str) -> int | float:
    """The number that a text writes."""
    return plain_number(float(text))


def plain_number(value: float) -> int | float:
    """A number as an int where it is whole."""
    return int(value) if float(value).is_integer() and abs(value) < _EXACT else value
