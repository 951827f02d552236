"""Meshes that are not one finished file: trees made of other files, and parameters without a value.

The trees here are made as an importer makes them: from YAML text, each node's place by its id.
"""

import time

import pytest
import yaml

from meshml_dbx.errors import MeshInvalidError
from meshml_dbx.findings import Severity
from meshml_dbx.mesh.checks import check_mesh, require_mesh
from meshml_dbx.mesh.load import LoadedMesh, load_mesh, load_tree
from tests.mesh.ml_example import EXAMPLE, changed, load_changed, mesh_of


def load_as_tree(text: str, *, forgotten: str = "") -> LoadedMesh:
    """A text as a tree of scalars with places; those that hold ``forgotten`` have none."""
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    assert root is not None
    places = dict(_places(root, ""))
    known = {key: place for key, place in places.items() if not forgotten or forgotten not in place}
    return load_tree(root, source="import", where=lambda node: known.get(id(node)))


def _places(node: yaml.Node, path: str) -> list[tuple[int, str]]:
    if isinstance(node, yaml.MappingNode):
        return [it for key, value in node.value for it in _places(value, f"{path}/{key.value}")]
    if isinstance(node, yaml.SequenceNode):
        return [it for at, value in enumerate(node.value) for it in _places(value, f"{path}/{at}")]
    return [(id(node), f"app.json:{node.start_mark.line + 1} {path}")]


# --- trees ------------------------------------------------------------------------------------


def test_a_tree_is_read_as_the_file_is() -> None:
    """Where the nodes come from makes no difference to the mesh."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert load_as_tree(text).mesh == mesh_of(text)


def test_a_wrong_value_of_a_tree_is_named_by_its_original_place() -> None:
    """A person mends the file that they have, not the one that was made of it."""
    (found,) = load_as_tree(changed("weight: 70", "weight: 700")).findings
    assert found.where.startswith("app.json:55 /virtualRouters/0/routes/0/spec/httpRoute/action")
    assert found.where.endswith("/weightedTargets/0/weight")
    assert found.what == "weight is 700; it must be from 0 to 100"


def test_a_check_of_a_tree_is_named_by_its_original_place() -> None:
    """Rules that look at two places speak of the original too."""
    (found,) = check_mesh(load_as_tree(changed("virtualNode: labels-v2", "virtualNode: x")))
    assert found.code == "dangling-reference"
    assert found.where.startswith("app.json:56 /virtualRouters/0/routes/0/spec/httpRoute")


def test_a_node_that_was_only_made_is_named_by_what_stands_around_it() -> None:
    """A place a little too wide is better than none."""
    loaded = load_as_tree(changed("weight: 70", "weight: 700"), forgotten="weight")
    assert loaded.findings[0].where == "import"


def test_problems_of_a_tree_come_in_its_own_order() -> None:
    """Lines of many files do not compare."""
    text = changed("weight: 70", "weight: 700").replace("role: training", "role: t")
    assert [it.what.split()[0] for it in load_as_tree(text).findings] == ["role", "weight"]


# --- parameters -------------------------------------------------------------------------------


def test_a_parameter_in_a_text_is_kept_and_said_once() -> None:
    """What was not given stays a named unknown: one finding, whatever the number of places."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("labels.ml.local", '"labels.${ENV:x}"')
    loaded = load_mesh(text, source="mesh.yml")
    (found,) = loaded.findings
    assert loaded.mesh is not None
    assert loaded.mesh.virtual_services[0].virtual_service_name == "labels.${ENV:x}"
    assert (found.code, found.severity) == ("unresolved-parameter", Severity.WARNING)
    assert found.what == "the parameter ENV:x has no value; it stands in 2 places"
    assert check_mesh(loaded) == loaded.findings


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("port: 18081", "port: '${PORT}'"),
        ("enforce: true", "enforce: '${PORT}'"),
        ("mode: STRICT", "mode: '${PORT}'"),
    ],
    ids=["number", "truth", "choice"],
)
def test_a_parameter_where_its_value_decides_is_an_error(old: str, new: str) -> None:
    """A number, a truth or a choice cannot stay open; the advice says how to give it."""
    loaded = load_changed(old, new)
    (found,) = loaded.findings
    assert loaded.mesh is None
    assert (found.code, found.severity) == ("wrong-value", Severity.ERROR)
    assert "--param PORT=…" in found.advice


def test_the_length_of_an_unknown_text_is_not_judged() -> None:
    """A long parameter may stand for a short value."""
    name = "${" + "A" * 60 + "}"
    text = changed("prefix: /v1/labels", f'prefix: /v1, headers: [{{name: "{name}"}}]')
    assert [it.code for it in load_mesh(text, source="m").findings] == ["unresolved-parameter"]


def test_a_mesh_with_an_unknown_parameter_is_not_started() -> None:
    """Nothing is run under a name that nobody knows yet."""
    loaded = load_changed("hostname: localhost", 'hostname: "${HOST}"')
    with pytest.raises(MeshInvalidError, match="the parameter HOST has no value"):
        require_mesh(loaded)
    assert require_mesh(loaded, unknowns=True) is loaded.mesh


# --- anchors ----------------------------------------------------------------------------------


def test_anchors_that_stand_for_more_than_memory_are_refused_at_once() -> None:
    """Ten lines can mean a billion values; they are counted, not written out."""
    levels = "\n".join(f"  a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9))
    began = time.monotonic()
    (found,) = load_mesh(f"tags:\n  a0: &a0 [x]\n{levels}\n", source="mesh.yml").findings
    assert (found.code, found.where) == ("mesh-file-not-yaml", "mesh.yml:8")
    assert "stand for more than 500,000 values" in found.what
    assert time.monotonic() - began < 2


def test_an_anchor_that_holds_itself_is_refused() -> None:
    """A tree without an end is no file."""
    (found,) = load_mesh("clients: &a\n  - *a\n", source="mesh.yml").findings
    assert (found.where, found.what) == ("mesh.yml:1", "an anchor holds itself")
