"""A mesh becomes the text of a ``mesh.yml`` again, which ``load`` reads as the same mesh.

The order is that of the classes of ``spec``, so that the same mesh is always the same text. What is
set is written, defaults too; anchors are not used.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache, lru_cache
from types import NoneType
from typing import cast, get_args

import yaml

from meshml_dbx.mesh.shapes import shape_of
from meshml_dbx.mesh.spec import Mesh

_WIDTH = 100
_MOST_IN_LINE = 4  # values on one line; more are easier to read below each other
_LONGEST_KEY = 128  # YAML takes longer ones only where they are marked
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*")
_ESCAPED = re.compile(
    '["\\\\]|[^ -~\xa1-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]'
)
_SHORT = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_RESOLVER = yaml.resolver.Resolver()
_TEXT = "tag:yaml.org,2002:str"


def mesh_to_yaml(mesh: Mesh) -> str:
    """The text of a ``mesh.yml`` that declares this mesh.

    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> print(mesh_to_yaml(Mesh(mesh=MeshHead(mesh_name="ml"))), end="")
    mesh:
      meshName: ml
      spec: {egressFilter: {type: DROP_ALL}}
    injectedDefaults: none
    """
    plain = mesh_to_plain(mesh)
    lines = ["mesh:", *_below(plain.pop("mesh"), "  ")]
    for key, value in plain.items():
        if isinstance(value, list):
            lines.append("")
        lines += _field(key, value, "")
    return "".join(f"{line}\n" for line in lines)


def mesh_to_plain(mesh: Mesh) -> dict[str, object]:
    """The mesh as dicts, lists and values in the shape of ``mesh.yml``."""
    return plain_fields(mesh)


def plain_fields(value: object) -> dict[str, object]:
    """One of spec's values as a dict by the API's field names, without what is not set."""
    found: dict[str, object] = {}
    cls: type = type(value)
    for key, attribute, always in _fields_of(cls):
        item = getattr(value, attribute)
        if item is not None and (always or item not in ((), {})):
            found[key] = _plain(item)
    return found


@cache
def _fields_of(cls: type) -> tuple[tuple[str, str, bool], ...]:
    """Each field's name and attribute, and whether it says something though it is empty."""
    shape = shape_of(cls)
    return tuple(
        (key, attribute, key in shape.required or NoneType in get_args(shape.hints[key]))
        for key, attribute in shape.attributes.items()
    )


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return dict(value)
    return plain_fields(value) if is_dataclass(value) else value


# --- YAML -------------------------------------------------------------------------------------


def _field(key: str, value: object, indent: str) -> Iterator[str]:
    if len(key) > _LONGEST_KEY:
        yield f"{indent}? {_scalar(key)}"
        beginning = f"{indent}:"
    else:
        beginning = f"{indent}{_scalar(key)}:"
    line = _in_line(value, _WIDTH - len(beginning) - 1)
    if line is not None:
        yield f"{beginning} {line}"
        return
    yield beginning
    yield from _below(value, f"{indent}  ")


def _below(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _item(item, indent)
    else:
        for key, inner in cast("Mapping[str, object]", value).items():
            yield from _field(key, inner, indent)


def _item(item: object, indent: str) -> Iterator[str]:
    line = _in_line(item, _WIDTH - len(indent) - 2)
    if line is not None:
        yield f"{indent}- {line}"
        return
    first, *others = _below(item, f"{indent}  ")
    yield f"{indent}- {first.lstrip(' ')}"
    yield from others


def _in_line(value: object, width: int) -> str | None:
    """The value on one line; None if it is better written below."""
    if not isinstance(value, dict | list):
        return _scalar(value)
    if value and (_has_entries(value) or _count(value) > _MOST_IN_LINE):
        return None
    line = _flow(value)
    return line if len(line) <= width or not value else None


def _has_entries(value: dict[str, object] | list[object]) -> bool:
    """Whether this is a list of several tables, which are read below each other."""
    return isinstance(value, list) and len(value) > 1 and isinstance(value[0], dict)


def _count(value: object) -> int:
    """How many values there are, as far as it matters."""
    if not isinstance(value, dict | list):
        return 1
    total = 0
    for inner in value.values() if isinstance(value, dict) else value:
        total += _count(inner)
        if total > _MOST_IN_LINE:
            break
    return total


def _flow(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow_key(key)}: {_flow(one)}' for key, one in value.items())}}}"
    return _scalar(value)


def _flow_key(key: str) -> str:
    return f"? {_scalar(key)} " if len(key) > _LONGEST_KEY else _scalar(key)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else str(value)


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    """Text as YAML reads it back: bare where nobody could take it for anything else."""
    if _PLAIN.fullmatch(text) and _resolved(text) == _TEXT:
        return text
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _resolved(text: str) -> str:
    """The tag that YAML gives a bare text."""
    tag: str = _RESOLVER.resolve(  # type: ignore[no-untyped-call]  # the stubs leave it open
        yaml.ScalarNode, text, (True, False)
    )
    return tag


def _escape(found: re.Match[str]) -> str:
    return _SHORT.get(found[0]) or f"\\u{ord(found[0]):04X}"
