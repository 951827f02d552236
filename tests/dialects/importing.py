"""What tests of whole imports share: files in, an import out, and its account seen from outside."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from meshml_dbx.dialects import Imported, Source, Wanted, import_files, read_sources
from meshml_dbx.findings import Finding

EXAMPLES = Path(__file__).parent / "examples"
CORPORA = Path(__file__).parents[3] / "shared" / "corpora" / "appmesh"
NAMES = CORPORA / "cli-names.json"
with_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here")


def imported(*paths: Path, wanted: Wanted | None = None) -> Imported:
    """An import of files and folders."""
    return import_files(read_sources([str(path) for path in paths]), wanted or Wanted())


def imported_text(text: str, *, name: str = "input.yaml", wanted: Wanted | None = None) -> Imported:
    """An import of one text, as if a file of this name held it."""
    source = Source(name=name, raw=text.encode(), named=True)
    return import_files([source], wanted or Wanted())


def codes(found: Imported) -> list[str]:
    """The codes of an import's own findings."""
    return [one.code for one in found.findings]


# --- the account, seen by another parser ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One value of a file as PyYAML sees it: its path in our notation, and where its text stands.

    >>> Leaf(path="a[0]", line=1, value="80", begin=3, end=5).path
    'a[0]'
    """

    path: str
    line: int
    value: str
    begin: int
    end: int


def leaves_of(text: str) -> Iterator[Leaf]:
    """Every value of a YAML or JSON text, also of jq templates: YAML reads their bare names."""
    documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    several = len(documents) > 1
    for index, root in enumerate(documents):
        yield from _leaves(root, f"[{index}]" if several else "")


def _leaves(node: yaml.Node, path: str) -> Iterator[Leaf]:
    if isinstance(node, yaml.ScalarNode):
        begin, end = node.start_mark, node.end_mark
        yield Leaf(
            path=path, line=begin.line + 1, value=node.value, begin=begin.index, end=end.index
        )
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        for key, value in node.value:
            yield from _leaves(value, f"{path}.{key.value}" if path else key.value)


KEPT = {
    "unresolved-parameter",
    "import-several-meshes",
    "import-no-mesh-name",
    "import-made-mesh",
    "import-made-router",
    "api-name-from-file",
    "kubernetes-mesh-unclear",
    "kubernetes-not-selected",
    "kubernetes-gateway-unclear",
    "kubernetes-applied-again",
    "kubernetes-default-namespace",
    "kubernetes-router-listener",
}
"""Codes of findings that say something of a value that is in the mesh; all others leave it out."""


def is_named(leaf: Leaf, source: str, findings: Sequence[Finding]) -> bool:
    """Whether a finding says that a leaf, or a part of the file around it, is not in the mesh."""
    return any(_is_within(leaf.path, path) for path in _named_paths(source, findings))


def _named_paths(source: str, findings: Sequence[Finding]) -> list[str]:
    left = (one.where for one in findings if one.code not in KEPT)
    found = (re.fullmatch(rf"{re.escape(source)}:\d+(?: (.*))?", where) for where in left)
    return [one[1] or "" for one in found if one]


def _is_within(path: str, around: str) -> bool:
    return not around or path == around or path.startswith((f"{around}.", f"{around}["))
