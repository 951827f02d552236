"""YAML that is written for people is read as what it was written from."""

import yaml
from hypothesis import given
from hypothesis import strategies as some

from meshml_dbx.planes.render_yaml import to_yaml

TEXTS = some.text(max_size=30) | some.sampled_from(
    [
        "no",
        "on",
        "Null",
        "1e3",
        "0o7",
        "1:30",
        "- a",
        "a: b",
        "a #b",
        "\n",
        "a\n",
        "a\n\nb\n",
        " a\n",
    ]
)
LEAVES = some.none() | some.booleans() | some.integers() | TEXTS
VALUES = some.recursive(
    LEAVES,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(some.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_as_the_same(value: dict[str, object]) -> None:
    """Whatever texts, numbers and nesting there are, quoting and blocks keep them."""
    assert yaml.safe_load(to_yaml(value)) == value


def test_documents_stay_apart() -> None:
    """Several manifests may share a file."""
    values: list[dict[str, object]] = [{"kind": "A"}, {"kind": "B", "empty": [], "none": {}}]
    assert list(yaml.safe_load_all(to_yaml(*values))) == values


def test_long_texts_are_blocks() -> None:
    """A script is read line by line, not as one long escaped string."""
    assert to_yaml({"command": ["sh", "set -eu\ntrue\n"]}).splitlines()[2:] == [
        "  - |",
        "    set -eu",
        "    true",
    ]
