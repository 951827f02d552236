"""The mesh file's form: what is read, what is refused, and on which line."""

import random
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from meshml_dbx.errors import MeshMLError
from meshml_dbx.mesh.load import LoadedMesh, load_mesh, read_mesh
from meshml_dbx.mesh.spec import Duration, Mesh
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE, line_with, load_changed, mesh_of

HEAD = "mesh: {meshName: ml}\n"


def load(text: str) -> LoadedMesh:
    """A text as mesh.yml."""
    return load_mesh(text, source="mesh.yml")


def only_finding(loaded: LoadedMesh) -> tuple[str, str, str]:
    """Code, place and words of the one finding that there is."""
    assert loaded.mesh is None
    (found,) = loaded.findings
    return found.code, found.where, found.what


# --- what is read -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [EXAMPLE, EVERY_FIELD], ids=lambda path: path.stem)
def test_an_example_is_read_without_a_finding(path: Path) -> None:
    """A right mesh file gives a mesh and no finding."""
    loaded = read_mesh(path)
    assert (loaded.findings, loaded.mesh is not None) == ((), True)


def test_fields_come_out_with_their_values() -> None:
    """Camel case becomes snake case, lists become tuples, numbers numbers."""
    mesh = mesh_of(EXAMPLE.read_text(encoding="utf-8"))
    route = mesh.virtual_routers[0].routes[0].spec.http
    assert route
    assert (
        [target.weight for target in route.action.weighted_targets],
        route.timeout and route.timeout.per_request,
        mesh.virtual_nodes[1].spec.listeners[0].port_mapping.port,
        mesh.clients[0].databricks and mesh.clients[0].databricks.service_principal,
        mesh.tags,
    ) == (
        [70, 30],
        Duration(unit="s", value=5),
        18082,
        "5a1c…",
        {"team": "churn", "environment": "dev"},
    )


def test_every_field_of_every_class_can_be_written() -> None:
    """No field of the words is beyond the reach of the file."""
    written = {re.sub(r".*\.", "", path) for path in read_mesh(EVERY_FIELD).lines}
    assert _camel_names(Mesh) - written == set()


def _camel_names(cls: Any) -> set[str]:
    names: set[str] = set()
    for one in fields(cls):
        first, *rest = one.name.split("_")
        names.add(first + "".join(part.capitalize() for part in rest))
    hints = get_type_hints(cls).values()
    inner = [part for hint in hints for part in (hint, *get_args(hint))]
    return names.union(*(_camel_names(part) for part in inner if is_dataclass(part)))


def test_the_egress_filter_drops_unless_told_otherwise() -> None:
    """A mesh without a spec has App Mesh's own default."""
    assert mesh_of(HEAD).mesh.spec.egress_filter.type == "DROP_ALL"


@pytest.mark.parametrize("word", ["no", "on", "y", "007", "1e3", "1.0", "null_", "2026-01-01"])
def test_a_plain_word_is_taken_as_written_where_a_name_is_expected(word: str) -> None:
    """YAML's own idea of a scalar does not count, the field's type does."""
    assert mesh_of(f"mesh: {{meshName: {word}}}").mesh.mesh_name == word


def test_a_field_without_a_value_is_as_if_not_written() -> None:
    """A heading whose entries are commented out is no error, unless the field is required."""
    assert mesh_of(f"{HEAD}clients:\ntags: ~\n") == mesh_of(HEAD)
    assert only_finding(load("mesh: {meshName: }"))[0] == "missing-field"


def test_anchors_and_merge_keys_mean_what_they_repeat() -> None:
    """``<<`` fills in what an entry does not write itself."""
    labels, features, *_ = mesh_of(EVERY_FIELD.read_text(encoding="utf-8")).virtual_nodes
    assert (
        features.spec.listeners == labels.spec.listeners,
        features.spec.service_discovery == labels.spec.service_discovery,
        features.spec.backends,
    ) == (True, False, ())


def test_an_earlier_merged_mapping_wins_over_a_later_one() -> None:
    """Of several merged mappings, the first that has a field gives it."""
    text = "mesh: &a {meshName: ml}\ntags: {<<: [{a: one}, {a: two, b: three}], c: four}\n"
    assert mesh_of(text).tags == {"a": "one", "b": "three", "c": "four"}


# --- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "needle", "occurrence"),
    [
        ("mesh.meshName", "meshName", 1),
        ("clients[churn-training]", "clientName", 1),
        ("virtualNodes[labels-v2].spec.listeners[0].tls.mode", "mode: STRICT", 2),
        ("virtualRouters[labels].routes[by-day]", "routeName", 1),
        (
            "virtualRouters[labels].routes[by-day].spec.httpRoute.timeout.perRequest",
            "perRequest",
            1,
        ),
        (
            "virtualRouters[labels].routes[by-day].spec.httpRoute.action.weightedTargets[1].weight",
            "weight: 30",
            1,
        ),
        ("virtualServices[labels.ml.local].spec.provider", "provider", 1),
    ],
)
def test_a_line_is_known_by_a_path_of_names(path: str, needle: str, occurrence: int) -> None:
    """An entry with a name is found by it, any other by its index."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert load(text).line_of(path) == line_with(text, needle, occurrence=occurrence)


def test_the_place_of_what_is_not_written_is_the_line_around_it() -> None:
    """A default has no line of its own, but can be pointed at."""
    loaded = read_mesh(EXAMPLE)
    path = "virtualServices[labels.ml.local].spec.provider.virtualNode.virtualNodeName"
    line = line_with(loaded.text, "provider")
    assert (loaded.line_of(path), loaded.where(path)) == (None, f"{EXAMPLE}:{line} {path}")


def test_the_folder_of_the_file_is_kept_for_relative_paths() -> None:
    """Certificates are named relative to the mesh file."""
    assert read_mesh(EXAMPLE).directory == EXAMPLE.parent


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("perRequest:", "perRequst:", "unknown-field", "did you mean perRequest?"),
        ("perRequest:", "per_request:", "unknown-field", "(known here: idle, perRequest)"),
        ("weightedTargets:", "targets:", "unknown-field", "did you mean weightedTargets?"),
        ("mesh:\n  meshName: ml\n", "mesh:\n", "missing-field", "needs the field meshName"),
        (", weight: 70}", "}", "missing-field", "needs the field weight"),
        ("weight: 70", "weight: 101", "wrong-value", "must be from 0 to 100"),
        ("weight: 70", 'weight: "70"', "wrong-value", 'the text "70"; it must be a whole number'),
        ("weight: 70", "weight: 1:10", "wrong-value", "1:10; it must be a whole number"),
        ("weight: 70", "weight: 010", "wrong-value", "010; it must be a whole number"),
        ("weight: 70", "weight: 0x10", "wrong-value", "0x10; it must be a whole number"),
        ("port: 18081", "port: 0", "wrong-value", "must be from 1 to 65535"),
        ("port: 18081", "port: 65536", "wrong-value", "must be from 1 to 65535"),
        ("priority: 1", "priority: 1001", "wrong-value", "must be from 0 to 1000"),
        ("maxRetries: 2", "maxRetries: -1", "wrong-value", "must be at least 0"),
        ("prefix: /v1", "prefix: v1", "wrong-value", "prefix is v1/labels; it must start with /"),
        ("enforce: true", "enforce: maybe", "wrong-value", "maybe; it must be true or false"),
        ("enforce: true", 'enforce: "true"', "wrong-value", "must be true or false"),
        ("role: training", "role: traning", "wrong-value", "did you mean training?"),
        ("mode: STRICT", "mode: strict", "wrong-value", "did you mean STRICT?"),
        ("unit: ms", "unit: min", "wrong-value", "one of s, ms"),
        ("protocol: http}", "protocol: htp2}", "wrong-value", "did you mean http2?"),
        ("[connection-error]", "[]", "wrong-value", "tcpRetryEvents must be 1 entries long"),
        (
            "{prefix: /v1/labels}",
            "{prefix: /v1, path: {exact: /}}",
            "exactly-one",
            "takes one of prefix, path at most; it has prefix and path",
        ),
        (
            "certificate: {sds: {secretName: labels-v1}}",
            "certificate: {}",
            "exactly-one",
            "exactly one of acm, sds, file",
        ),
        ("secretName: labels-v1", "secretName: ../labels", "wrong-value", "start with a letter"),
        ("secretName: labels-v1", "secretName: spiffe://a/..", "wrong-value", "spiffe:// URI"),
        ("databricks: {job", "databricks: {jobs", "unknown-field", "did you mean job?"),
        ("hostname: localhost", "hostname: [localhost]", "wrong-value", "a list; it must be text"),
        ("hostname: localhost", "hostname: !Ref Host", "wrong-value", "the tag !Ref"),
        ("[gateway-error]", "gateway-error", "wrong-value", "gateway-error; it must be a list"),
        ("retryPolicy: {", "retryPolicy: {maxRetries: 1, ", "duplicate-field", "written twice"),
        ("tags: {", "tags: {team: a, ", "duplicate-field", "written twice"),
        ("tags: {", "tags: {<<: team, ", "wrong-value", "<< is team; it must be a mapping"),
        ("tags: {", "tags: {[a]: b, ", "wrong-value", "name is a list; it must be text"),
    ],
)
def test_a_wrong_form_is_one_finding_on_its_line(old: str, new: str, code: str, words: str) -> None:
    """One mistake gives one finding, which says what would be right and where to write it."""
    found_code, where, what = only_finding(load_changed(old, new))
    line = line_with(EXAMPLE.read_text(encoding="utf-8"), old.split("\n", maxsplit=1)[0])
    assert found_code == code
    assert words in what
    assert where.split()[0] == f"mesh.yml:{line}"


@pytest.mark.parametrize("count", [0, 11])
def test_a_route_has_one_to_ten_targets(count: int) -> None:
    """The number of weighted targets is the API's."""
    targets = ", ".join(["{virtualNode: labels-v1, weight: 1}"] * count)
    text = re.sub(
        r"weightedTargets:(\n +- .*){2}",
        f"weightedTargets: [{targets}]",
        EXAMPLE.read_text(encoding="utf-8"),
    )
    assert only_finding(load(text))[2] == "weightedTargets must be from 1 to 10 entries long"


def test_a_route_matches_ten_headers_at_most() -> None:
    """The number of header matches is the API's."""
    headers = ", ".join("{name: a}" for _ in range(11))
    loaded = load_changed("prefix: /v1/labels", f"prefix: /v1, headers: [{headers}]")
    assert only_finding(loaded)[2] == "headers must be from 0 to 10 entries long"


def test_all_mistakes_are_found_in_one_pass() -> None:
    """A person mends a file once, not once for each mistake."""
    text = """\
mesh: {title: ml}
clients: 3
virtualNodes:
  - virtualNodeName: labels
    spec: {listeners: [{portMapping: {port: 0, protocol: udp}}]}
  - 5
extra: true
"""
    loaded = load(text)
    assert [(found.where.split()[0], found.code) for found in loaded.findings] == [
        ("mesh.yml:1", "unknown-field"),
        ("mesh.yml:1", "missing-field"),
        ("mesh.yml:2", "wrong-value"),
        ("mesh.yml:5", "wrong-value"),
        ("mesh.yml:5", "wrong-value"),
        ("mesh.yml:6", "wrong-value"),
        ("mesh.yml:7", "unknown-field"),
    ]


# --- what is no mesh file at all --------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_file_is_one_finding(text: str) -> None:
    """Nothing, in any of YAML's ways, is said to be nothing."""
    assert only_finding(load(text)) == ("mesh-file-empty", "mesh.yml:1", "nothing is declared")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("mesh:\n  meshName: ml\n tags: {}\n", 3, "while parsing a block mapping"),
        ("mesh: {meshName: ml}\ntags:\n\t- a\n", 3, "cannot start any token"),
        ("mesh: {meshName: ml}\n---\nmesh: {meshName: ml}\n", 2, "another document"),
        ("mesh: {meshName: ml}\ntags: *unknown\n", 2, "undefined alias"),
        ("mesh: {meshName: ml}\ntags: {a: 'b}\n", 3, "unexpected end of stream"),
        ("mesh: {meshName: ml}\ntags: \x00\x01\n", 2, "the character U+0000 is no text"),
        ("mesh: \udcff", 1, "the character U+DCFF is no text"),
        ("\n" + "- " * 200_000, 2, "nested more than 100 levels deep"),
    ],
    ids=["indent", "tab", "documents", "alias", "quote", "control", "surrogate", "depth"],
)
def test_what_is_not_yaml_is_one_finding_on_its_line(text: str, line: int, words: str) -> None:
    """The reader's own message is passed on with the line at which it gave up."""
    code, where, what = only_finding(load(text))
    assert (code, where) == ("mesh-file-not-yaml", f"mesh.yml:{line}")
    assert words in what


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "5\n"])
def test_a_file_that_is_no_mapping_is_one_finding(text: str) -> None:
    """The top of the file must be fields."""
    code, where, what = only_finding(load(text))
    assert (code, where) == ("wrong-value", "mesh.yml:1")
    assert "must be a mapping with mesh, injectedDefaults, tags, clients" in what


def test_a_mapping_that_merges_itself_ends() -> None:
    """An anchor may be used inside itself; reading it must not go on for ever."""
    assert load("mesh: &a {<<: *a, meshName: ml}\n").mesh is not None


def test_bytes_that_are_not_utf_8_are_one_finding_on_their_line(tmp_path: Path) -> None:
    """Binary noise is named by the line on which text ends."""
    path = tmp_path / "mesh.yml"
    path.write_bytes(b"mesh: {meshName: ml}\ntags: {a: \xff\xfe}\n")
    assert only_finding(read_mesh(path)) == (
        "mesh-file-not-yaml",
        f"{path}:2",
        "this is not UTF-8 text",
    )


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Editors that write the mark write a right file."""
    path = tmp_path / "mesh.yml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    loaded = read_mesh(path)
    assert (loaded.mesh, loaded.text) == (mesh_of(HEAD), HEAD)


def test_a_missing_file_is_an_error_with_advice(tmp_path: Path) -> None:
    """What cannot be had is no finding: there is no file to have it."""
    path = tmp_path / "mesh.yml"
    with pytest.raises(MeshMLError) as caught:
        read_mesh(path)
    assert caught.value.message == f"could not read the mesh file {path}: No such file or directory"
    assert "--mesh" in caught.value.advice


def test_a_folder_in_place_of_the_file_names_the_file_in_it(tmp_path: Path) -> None:
    """Who names the folder most likely means its mesh.yml."""
    (tmp_path / "mesh.yml").write_text(HEAD)
    with pytest.raises(MeshMLError) as caught:
        read_mesh(tmp_path)
    assert caught.value.advice == f"name the file: --mesh {tmp_path / 'mesh.yml'}"


def test_no_damage_to_a_file_gets_past_findings() -> None:
    """However the bytes are cut and stirred: a mesh or at least one finding, never an exception."""
    rng = random.Random(7)
    raw = EXAMPLE.read_text(encoding="utf-8")
    for _ in range(400):
        text = list(raw[: rng.randrange(len(raw))] if rng.random() < 0.3 else raw)
        for _ in range(rng.randrange(1, 6)):
            text[rng.randrange(len(text)) : rng.randrange(len(text))] = rng.choice(
                [*"[]{}:,-'\"#&*!|>%@\n\t \x00é", "<<: ", "\n- ", "~", "!!int "]
            )
            text = text or [" "]
        loaded = load("".join(text))
        assert (loaded.mesh is None) == bool(loaded.findings)
