"""A mesh that is written is the same mesh when it is read again."""

import pytest
from hypothesis import HealthCheck, given, settings

from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.spec import Mesh, MeshHead
from meshml_dbx.mesh.write import mesh_to_yaml
from tests.mesh.any_mesh import any_mesh, connected

# Whole meshes are large for hypothesis, and it says so.
any_size = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)


@given(mesh=any_mesh())
@any_size
def test_written_mesh_loads_as_itself(mesh: Mesh) -> None:
    """Mesh to mesh.yml to mesh is the identity, whatever is in the mesh."""
    loaded = load_mesh(mesh_to_yaml(mesh), source="mesh.yml")
    assert [str(one) for one in loaded.findings] == []
    assert loaded.mesh == mesh


@given(mesh=any_mesh())
@any_size
def test_written_text_is_the_same_after_a_second_round(mesh: Mesh) -> None:
    """The same mesh is the same text, so that a version store shows real changes alone."""
    text = mesh_to_yaml(mesh)
    again = load_mesh(text, source="mesh.yml").mesh
    assert again is not None
    assert mesh_to_yaml(again) == text


@given(mesh=any_mesh().map(connected))
@any_size
def test_connected_mesh_has_no_dangling_service_or_node(mesh: Mesh) -> None:
    """A mesh that was connected names no service, node or router that it does not declare."""
    found = check_mesh(load_mesh(mesh_to_yaml(mesh), source="mesh.yml"))
    dangling = [one.what for one in found if one.code == "dangling-reference"]
    declared = bool(mesh.virtual_services and mesh.virtual_nodes and mesh.virtual_routers)
    named = [what for what in dangling if "no virtual" in what]
    assert not (declared and named)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "1.10",
        "0x1f",
        "~",
        "",
        "a: b",
        "- a",
        "#",
        "${ENV}",
        'é\n\t"\\',
        "\x85\u2028\x07",
        "😀",
    ],
)
def test_text_that_yaml_would_take_for_something_else_survives(text: str) -> None:
    """A text stays the text it is, quoted where YAML would read another value or none."""
    mesh = Mesh(mesh=MeshHead(mesh_name="ml"), tags={"key": text, text or "empty": "value"})
    assert load_mesh(mesh_to_yaml(mesh), source="mesh.yml").mesh == mesh


def test_a_very_long_name_of_a_tag_survives() -> None:
    """YAML bounds a bare field name at 1,024 characters; a longer one is marked as such."""
    mesh = Mesh(mesh=MeshHead(mesh_name="ml"), tags={"k" * 3000: "value"})
    assert load_mesh(mesh_to_yaml(mesh), source="mesh.yml").mesh == mesh
