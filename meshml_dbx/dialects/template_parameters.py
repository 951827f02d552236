"""The values of a template's parameters: given, by default, or unknown.

A parameter's declaration and what was given for it go in; its value as located scalars comes out.
A value that the declaration rules out is reported. What is declared ``NoEcho`` is never quoted,
and its default is never carried into a mesh.
"""

import re
from collections.abc import Iterator

from meshml_dbx.dialects.found import Account, Parameters
from meshml_dbx.dialects.tree import Entry, Node, Plain, Scalar, Series, Table, made

_STORED = "AWS::SSM::Parameter::Value<"
_LIST = re.compile(rf"(?:{_STORED})?(?:CommaDelimitedList|List<.*>)>?")
_PARTITIONS = {"cn-": ("aws-cn", "amazonaws.com.cn"), "us-gov-": ("aws-us-gov", "amazonaws.com")}
_AWS = ("aws", "amazonaws.com")


def parameter_value(entry: Entry, parameters: Parameters, account: Account) -> Node:
    """The value of a declared parameter, a Series where its type is a list's.

    A parameter whose type reads the SSM store has a path by default, not its value: it is unknown
    until its value is given.
    """
    declared = (
        entry.value if isinstance(entry.value, Table) else Table(place=entry.place, entries=())
    )
    found = _known(entry, declared, parameters)
    if found is None:
        return made(parameters.missing(entry.key, entry.place), entry.place)
    kind = text_of(declared.get("Type"))
    is_list = _LIST.fullmatch(kind)
    items = tuple(_split(found)) if is_list else (found,)
    for wrong in (problem for item in items for problem in _problems(item, declared, kind)):
        shown = "a value that is not shown" if _is_hidden(declared) else text_of(found)
        what = f"the parameter {entry.key} is {shown}; it {wrong}"
        account.report("template-parameter", found.place, what)
    return Series(place=found.place, items=items) if is_list else found


def pseudo_value(name: str, parameters: Parameters) -> str | None:
    """The value of ``AWS::Region`` and the like, as given or as it follows from the region."""
    given = parameters.get(name)
    region = parameters.get("AWS::Region") if given is None else None
    if region is None or name not in {"AWS::Partition", "AWS::URLSuffix"}:
        return given
    partition = next((it for start, it in _PARTITIONS.items() if region.startswith(start)), _AWS)
    return partition[name == "AWS::URLSuffix"]


def text_of(node: Node | None) -> str:
    """A scalar as CloudFormation turns it into text; what is no scalar has none.

    >>> from meshml_dbx.dialects.tree import Place
    >>> text_of(Scalar(value=True, place=Place(source="a.yml", line=1)))
    'true'
    """
    return plain_text(node.value, quoted=node.quoted) if isinstance(node, Scalar) else ""


def plain_text(value: Plain, *, quoted: bool = False) -> str:
    """A value as text; an unquoted ``True`` is YAML's truth, not a word."""
    if value is None:
        return ""
    text = str(value)
    is_truth = isinstance(value, bool) or (
        not quoted and text in {"True", "TRUE", "False", "FALSE"}
    )
    return text.lower() if is_truth else text


def _known(entry: Entry, declared: Table, parameters: Parameters) -> Scalar | None:
    given = parameters.get(entry.key)
    if given is not None:
        return made(given, entry.place)
    default = declared.get("Default")
    is_path = text_of(declared.get("Type")).startswith(_STORED)
    if not isinstance(default, Scalar) or is_path or _is_hidden(declared):
        return None
    return default


def _is_hidden(declared: Table) -> bool:
    return text_of(declared.get("NoEcho")).lower() == "true"


def _split(found: Scalar) -> Iterator[Scalar]:
    text = text_of(found)
    for part in text.split(",") if text else ():
        yield made(part.strip(), found.place, found)


def _problems(item: Scalar, declared: Table, kind: str) -> Iterator[str]:
    text = text_of(item)
    allowed = declared.get("AllowedValues")
    choices = [text_of(one) for one in allowed.items] if isinstance(allowed, Series) else []
    if choices and text not in choices:
        yield f"must be one of {', '.join(choices)}"
    if "Number" in kind:
        yield from _number_problems(text, declared)
    elif kind == "String":
        yield from _bound_problems(len(text), declared, "Length", " characters long")


def _number_problems(text: str, declared: Table) -> Iterator[str]:
    number = _number(text)
    if number is None:
        yield "must be a number"
    else:
        yield from _bound_problems(number, declared, "Value", "")


def _bound_problems(size: float, declared: Table, of: str, unit: str) -> Iterator[str]:
    least, most = (_number(text_of(declared.get(f"{end}{of}"))) for end in ("Min", "Max"))
    if least is not None and size < least:
        yield f"must be at least {least:g}{unit}"
    if most is not None and size > most:
        yield f"must be at most {most:g}{unit}"


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[-+]?\d{1,18}(\.\d{1,18})?", text, re.ASCII) else None
