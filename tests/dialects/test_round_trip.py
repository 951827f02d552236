"""Written and imported again, a mesh is the mesh that it was: in our form and in the API's."""

import json

from hypothesis import HealthCheck, given, settings

from meshml_dbx.dialects import Imported, Wanted
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.mesh.write import mesh_to_yaml
from meshml_dbx.mesh.write_api import mesh_to_api
from tests.dialects.importing import codes, imported_text
from tests.mesh.any_mesh import any_mesh

any_size = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)


def found_same(mesh: Mesh, found: Imported) -> bool:
    """Whether an import found this very mesh and left nothing."""
    return found.mesh == mesh and "import-leftover" not in codes(found)


@given(mesh=any_mesh())
@any_size
def test_our_own_form_is_imported_as_the_same_mesh(mesh: Mesh) -> None:
    """Mesh to mesh.yml to import is the identity."""
    assert found_same(mesh, imported_text(mesh_to_yaml(mesh), name="mesh.yml"))


@given(mesh=any_mesh(api_only=True))
@any_size
def test_the_apis_form_is_imported_as_the_same_mesh(mesh: Mesh) -> None:
    """Mesh to create requests to import is the identity, for what the API has words for."""
    text = json.dumps([request.body for request in mesh_to_api(mesh).requests])
    wanted = Wanted(injected_defaults=mesh.injected_defaults)
    assert found_same(mesh, imported_text(text, name="requests.json", wanted=wanted))
