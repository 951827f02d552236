"""``meshml schema`` as a user types it: the JSON Schema on standard output, or in a file."""

import json

from tests.small_mesh import SmallMesh


def test_the_schema_is_printed(mesh: SmallMesh) -> None:
    """It needs no mesh file, and is JSON alone."""
    mesh.file.unlink()
    done = mesh.meshml("schema")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["title"] == "mesh.yml"


def test_the_schema_is_written_to_a_file(mesh: SmallMesh) -> None:
    """The file holds what is printed, and the folder nothing else."""
    done = mesh.meshml("schema", "--out", "mesh.schema.json")
    assert (done.status, done.out) == (0, "")
    written = (mesh.folder / "mesh.schema.json").read_text(encoding="utf-8")
    assert written == mesh.meshml("schema").out
    assert {path.name for path in mesh.folder.iterdir()} == {"mesh.yml", "mesh.schema.json"}


def test_a_file_that_cannot_be_written_is_wrong_use(mesh: SmallMesh) -> None:
    """The message names it."""
    done = mesh.meshml("schema", "--out", "no/folder.json")
    assert (done.status, "no/folder.json" in done.err) == (2, True)
