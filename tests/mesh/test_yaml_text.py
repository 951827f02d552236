"""YAML text as nodes: the same as PyYAML's own, only sooner, and never unsafe to read."""

import gc

import pytest
import yaml

from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.yaml_text import RefusedTextError, compose_text
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE

WORDS = """\
plain: [a, no, "no", 'no', yes, on, ~, null, "", 7, 007, 0x1F, 1_000, 1:30, 1.5, .inf, .nan, -1]
again: [no, "no", 7, "7", 1.5, "1.5", 2026-01-01, "2026-01-01", =, <, !ref x, !!str 5, ! 5]
folded: >
  7
merged: {<<: {a: no}, b: "<<", <<: [{c: 1}]}
"""


def told(node: yaml.Node | None) -> object:
    """A tree in plain values: tags, styles, lines and texts."""
    if isinstance(node, yaml.MappingNode):
        return node.tag, [(told(key), told(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return node.tag, [told(value) for value in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return node.tag, node.value, node.style or None, node.start_mark.line


@pytest.mark.parametrize(
    "text",
    [WORDS, EXAMPLE.read_text(encoding="utf-8"), EVERY_FIELD.read_text(encoding="utf-8")],
    ids=["words", "example", "every field"],
)
def test_a_tree_is_the_one_that_pyyaml_makes(text: str) -> None:
    """A word that was resolved once is resolved alike where it is quoted, and where it is not."""
    assert told(compose_text(text)) == told(yaml.compose(text, Loader=yaml.SafeLoader))


@pytest.mark.parametrize(("depth", "is_read"), [(99, True), (100, True), (101, False)])
def test_nesting_is_followed_so_far(depth: int, *, is_read: bool) -> None:
    """No file of a person is as deep, and no deeper one ends the process."""
    text = "[" * depth + "a" + "]" * depth
    if is_read:
        assert compose_text(text) is not None
    else:
        with pytest.raises(RefusedTextError, match="nested more than 100 levels deep"):
            compose_text(text)


@pytest.mark.parametrize("text", ["mesh: {meshName: ml}", "mesh: ["], ids=["right", "wrong"])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_search_for_garbage_goes_on_as_before(text: str, *, enabled: bool) -> None:
    """It is paused while a file is read, for whoever had it on."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        load_mesh(text, source="mesh.yml")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
