"""Text becomes located trees, by what the text looks like: JSON, a jq template, YAML or HCL."""

import re
from pathlib import PurePath

from yaml.reader import Reader

from meshml_dbx.dialects.read_json import read_json
from meshml_dbx.dialects.read_yaml import read_yaml
from meshml_dbx.dialects.tree import Node, UnreadableError

_HCL = {".tf", ".tfvars", ".hcl"}


def read_text(text: str, source: str) -> tuple[Node, ...]:
    """Every document of a text that holds something; ``source`` names it in places.

    >>> read_text('{"spec": {}}', "mesh.json")[0].keys()
    ('spec',)

    Raises:
        UnreadableError: with the line, if it is in none of the forms that are known.
    """
    noise = Reader.NON_PRINTABLE.search(text)
    if noise:
        line = text.count("\n", 0, noise.start()) + 1
        raise UnreadableError(line, f"the character U+{ord(noise[0]):04X} is no text")
    if PurePath(source).suffix in _HCL:
        return _read_hcl(text, source)
    if re.match(r"\s*(\[|\{(?!\{))", text):
        return _read_braces(text, source)
    return read_yaml(text, source)


def _read_braces(text: str, source: str) -> tuple[Node, ...]:
    """A text that begins as JSON does; YAML's flow style begins so too."""
    try:
        return (read_json(text, source),)
    except UnreadableError as no_json:
        if PurePath(source).suffix in {".yml", ".yaml"}:
            return read_yaml(text, source)
        raise no_json from None


def _read_hcl(text: str, source: str) -> tuple[Node, ...]:
    from meshml_dbx.dialects.hcl import read_hcl

    return (read_hcl(text, source),)
