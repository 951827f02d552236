"""Values as YAML that people read and change: one field a line, long texts as blocks.

Goes in: dicts, lists and plain values. Comes out: text that every reader of YAML 1.1 and 1.2 takes
as the same values.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_NO_TEXT = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
_UNCLEAN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def to_yaml(*documents: Mapping[str, object]) -> str:
    """The text of one document or of several.

    >>> print(to_yaml({"kind": "Job", "ports": [80, "no"]}), end="")
    kind: Job
    ports:
      - 80
      - "no"
    """
    texts = ("".join(f"{line}\n" for line in _fields(one, "")) for one in documents)
    return "---\n".join(texts)


def _fields(value: Mapping[str, object], indent: str) -> Iterator[str]:
    for key, item in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", item, indent)


def _items(value: Sequence[object], indent: str) -> Iterator[str]:
    for item in value:
        if isinstance(item, Mapping) and item:
            lines = list(_fields(item, f"{indent}  "))
            yield f"{indent}- {lines[0].lstrip()}"
            yield from lines[1:]
        else:
            yield from _entry(f"{indent}-", item, indent)


def _entry(head: str, item: object, indent: str) -> Iterator[str]:
    below = f"{indent}  "
    if isinstance(item, Mapping) and item:
        yield head
        yield from _fields(item, below)
    elif isinstance(item, list | tuple) and item:
        yield head
        yield from _items(item, below)
    elif isinstance(item, str) and _is_block(item):
        yield f"{head} |"
        yield from (f"{below}{line}" if line else "" for line in item[:-1].split("\n"))
    else:
        yield f"{head} {_scalar(item)}"


def _is_block(text: str) -> bool:
    """Whether a text can stand as it is, line by line."""
    plain_end = text.endswith("\n") and not text.endswith("\n\n")
    readable = text[:1] not in (" ", "\n", "\t") and not _UNCLEAN.search(text)
    return plain_end and "\n" in text[:-1] and readable


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    if isinstance(value, list | tuple):
        return "[]"
    if isinstance(value, Mapping):
        return "{}"
    return _UNCLEAN.sub(_escape, json.dumps(value, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
