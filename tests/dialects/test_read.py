"""Texts as located trees: what is read, where it stands, and what is refused with its line."""

import json
import time
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.read_json import read_json
from meshml_dbx.dialects.read_yaml import read_yaml
from meshml_dbx.dialects.tree import (
    Node,
    Place,
    Scalar,
    Table,
    UnreadableError,
    plain,
    scalars,
)

any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def one(text: str, source: str = "a.yaml") -> Node:
    """The one document of a text."""
    (document,) = read_text(text, source)
    return document


def refused(text: str, source: str = "a.yaml") -> tuple[int, str]:
    """The line and the problem of a text that is refused."""
    with pytest.raises(UnreadableError) as caught:
        read_text(text, source)
    return caught.value.line, str(caught.value)


# --- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_yaml, lambda text, source: (read_json(text, source),)])
def test_every_value_knows_its_line_and_path(
    read: Callable[[str, str], tuple[Node, ...]],
) -> None:
    """File, line and path of a value are those of the text, in JSON as in YAML."""
    (tree,) = read('{"spec": {\n  "listeners": [\n    {"port": 80},\n    {"port": 81}]}}', "f")
    assert [str(scalar.place) for scalar in scalars(tree)] == [
        "f:3 spec.listeners[0].port",
        "f:4 spec.listeners[1].port",
    ]


def test_documents_of_one_file_are_told_apart() -> None:
    """The paths of a file with several documents begin with the document's index."""
    text = "---\n# nothing but words\n---\nkind: A\n---\nkind: B\n"
    places = [str(scalar.place) for tree in read_text(text, "f") for scalar in scalars(tree)]
    assert places == ["f:4 [1].kind", "f:6 [2].kind"]


def test_a_single_document_has_plain_paths() -> None:
    """One document needs no index, whether or not it is begun by dashes."""
    for text in ("kind: A", "---\nkind: A", "# words\n---\nkind: A\n"):
        assert [scalar.place.path for scalar in scalars(one(text))] == ["kind"]


# --- values -----------------------------------------------------------------------------------


@given(value=any_json)
def test_json_is_read_as_python_reads_it(value: object) -> None:
    """Any JSON gives the values that the standard library gives."""
    assert plain(read_json(json.dumps(value), "f")) == value
    assert plain(read_json(json.dumps(value, ensure_ascii=False, indent=1), "f")) == value


@given(value=any_json)
def test_yaml_is_read_as_pyyaml_reads_it(value: object) -> None:
    """What PyYAML writes in quotes or plainly is read as the same values."""
    text = yaml.safe_dump({"value": value}, allow_unicode=True)
    assert plain(one(text)) == yaml.load(text, Loader=yaml.CSafeLoader)


@pytest.mark.parametrize("text", ["1.10", "no", "on", "0777", "0x1f", "1_000", "2010-09-09", "1e3"])
def test_what_only_looks_like_another_type_stays_text(text: str) -> None:
    """The field decides what such a value is, so its letters are kept."""
    (scalar,) = scalars(one(f"version: {text}"))
    assert (scalar.value, scalar.quoted) == (text, False)


def test_quotes_and_tags_are_kept() -> None:
    """A quoted number is text, and a tag such as !Ref stays with its value."""
    tree = one("a: '80'\nb: !Ref Port\nc: !GetAtt [Mesh, Name]\nd: !!str 80")
    assert isinstance(tree, Table)
    a, b, c, d = (entry.value for entry in tree.entries)
    assert isinstance(a, Scalar)
    assert (a.value, a.quoted, b.tag, c.tag, d.tag) == ("80", True, "!Ref", "!GetAtt", None)
    assert plain(d) == "80"


def test_a_field_written_twice_is_there_twice() -> None:
    """Nothing is dropped by the reader: what is done about it is a dialect's matter."""
    for text in ("a: 1\na: 2", '{"a": 1, "a": 2}'):
        tree = one(text)
        assert isinstance(tree, Table)
        assert [plain(entry.value) for entry in tree.entries] == [1, 2]


# --- anchors ----------------------------------------------------------------------------------


def test_an_anchor_is_the_same_value_wherever_it_is_named() -> None:
    """An alias is the object itself, so that one account holds for every place."""
    tree = one("a: &x {port: 80}\nb: *x")
    assert isinstance(tree, Table)
    assert tree.get("a") is tree.get("b")


def test_merged_fields_give_way_to_a_tables_own() -> None:
    """<< adds the fields that a table lacks."""
    assert plain(one("base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}")) == {
        "base": {"x": 1, "y": 2},
        "mine": {"y": 3, "x": 1},
    }


@pytest.mark.parametrize("text", ["a: &a [1, *a]", "a: &a {b: *a}", "a: &a {<<: *a}", "a: *b"])
def test_an_anchor_that_leads_nowhere_is_refused(text: str) -> None:
    """An anchor that holds itself, or that nothing carries, ends the reading of that file."""
    line, problem = refused(text)
    assert line == 1
    assert "the anchor" in problem


def test_a_bomb_of_anchors_is_refused_at_once() -> None:
    """Nine lines that would unfold to a billion values cost no time."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    names = "abcdefghijkl"
    for name, before in zip(names[1:], names, strict=False):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    began = time.perf_counter()
    line, problem = refused("\n".join(lines))
    assert time.perf_counter() - began < 0.5
    assert "its anchors stand for more than" in problem
    assert line > 1


# --- templates --------------------------------------------------------------------------------


def test_jq_names_are_placeholders() -> None:
    """$NAME where a value belongs, joined texts and names inside texts are read as ${NAME}."""
    text = '{"a": $HOST, "b": $NAME + ".local", "c": ("x-" + $N), "d": "\\($N).local"}'
    assert plain(one(text, "vn.json")) == {
        "a": "${HOST}",
        "b": "${NAME}.local",
        "c": "x-${N}",
        "d": "${N}.local",
    }


def test_jq_says_of_a_name_whether_it_is_a_number() -> None:
    """--arg gives texts alone, so that a port or a weight is written with tonumber."""
    tree = one('{"a": ($W|tonumber), "b": $N | tostring, "c": "8" | tonumber}', "vn.json")
    assert plain(tree) == {"a": "${W}", "b": "${N}", "c": 8}
    assert [scalar.quoted for scalar in scalars(tree)] == [False, True, False]


@pytest.mark.parametrize(
    "text",
    ['{"a":\n $x | ascii}', '{"a":\n .b}', '{"a":\n if $x then 1 else 2 end}', '{"a":\n 1 + $b}'],
)
def test_other_jq_is_an_error_with_its_line(text: str) -> None:
    """What would have to be computed is refused, where it stands."""
    line, problem = refused(text, "vn.json")
    assert line == 2
    assert problem.startswith("not JSON: ")


def test_unquoted_braces_are_text() -> None:
    """{{ NAME }} without quotes is no YAML, but it is clear what is meant; lines stay right."""
    tree = one("a: {{ X }}\nb: - \n".replace("- ", "") + "c:\n  - {{.Values.y}}-z\n")
    assert plain(tree) == {"a": "{{ X }}", "b": None, "c": ["{{.Values.y}}-z"]}
    assert [scalar.place.line for scalar in scalars(tree)] == [1, 2, 4]


def test_unquoted_braces_are_no_quotes() -> None:
    """What is given for them takes its own type, wherever they stand."""
    text = """\
a: {{ X }}  # why
b: {port: ${PORT}, to: [{{ .Y | default "z" }}, "{{ Z }}"]}
"""
    tree = one(text)
    assert plain(tree) == {
        "a": "{{ X }}",
        "b": {"port": "${PORT}", "to": ['{{ .Y | default "z" }}', "{{ Z }}"]},
    }
    assert [scalar.quoted for scalar in scalars(tree)] == [False, False, False, True]


@pytest.mark.parametrize("control", ["{{- if .Values.mesh }}", "{{ range .x }}", "{{/* why */}}"])
def test_a_helm_template_is_told_apart(control: str) -> None:
    """Only helm can say what comes of it."""
    line, words = refused(f"a: 1\n{control}\nb: {{{{ .Values.b }}}}\n{{{{- end }}}}\n", "a.yaml")
    assert line == 2
    assert words == "a Helm template: import what helm template prints"


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", 1),
        ("a: 1\n\tb: 2", 2),
        ("a: 1\nb: [1", 2),
        ("a: 1\nb: \x07", 2),
        ("? [a]\n: 1", 1),
        ("- <<: 3", 1),
        ('{"a": 1}}', 1),
        ('{\n"a" 1}', 2),
        ("[1,\n2,\n]", 3),
        ('{"a": "\\ud800"}', 1),
        ('{"a": "x\n', 1),
        ("[" * 5000, 1),
        ('{"a":' * 5000, 1),
        ("- " * 5000, 1),
        (f'{{"a": {"(" * 5000}', 1),
    ],
)
def test_what_is_refused_has_its_line(text: str, line: int) -> None:
    """No text brings a reader down: it is read, or refused with a line."""
    assert refused(text, "a.json" if text[0] in "{[" else "a.yaml")[0] in (line, line + 1)


def test_nothing_is_no_document() -> None:
    """An empty file, comments and empty documents hold nothing."""
    for text in ("", "# words\n", "---\n---\n", "null\n"):
        assert read_text(text, "a.yaml") == ()


def test_a_large_file_is_read_in_time_that_grows_with_it() -> None:
    """Twice the lines take about twice the time, never four times."""
    document = "kind: A\nspec:\n  listeners:\n    - portMapping: {port: 80, protocol: http}\n---\n"

    def seconds(count: int) -> float:
        began = time.process_time()
        assert len(read_text(document * count, "a.yaml")) == count
        return time.process_time() - began

    seconds(200)
    assert seconds(4000) < 5 * max(seconds(2000), 0.05)


def test_places_read_as_one_line() -> None:
    """A place is what an editor can jump to."""
    assert str(Place(source="a.yaml", line=3)) == "a.yaml:3"
