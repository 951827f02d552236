"""``meshml fit`` as a user types it."""

import json

import pytest

from meshml_dbx.cli.fit_command import PLANES
from meshml_dbx.planes import fit as fit_room
from tests.small_mesh import SmallMesh


def test_the_planes_of_the_option_are_those_that_there_are() -> None:
    """The door names them itself, since it may not look into the room."""
    assert fit_room.PLANES == PLANES


def test_each_plane_is_summed_up_before_the_table(mesh: SmallMesh) -> None:
    """What decides comes first; then one table has a column for each plane."""
    done = mesh.meshml("fit", "mesh.yml")
    assert (done.status, done.err) == (0, "")
    titles = [line.partition(":")[0] for line in done.out.splitlines() if " kept, " in line]
    assert titles == ["self-run Envoy", "VPC Lattice", "ECS Service Connect"]
    (headings,) = [line for line in done.out.splitlines() if line.strip().startswith("where")]
    assert headings.split("  ", 1)[1].split() == " ".join(titles).split()


def test_a_plane_can_be_chosen_and_all_be_shown(mesh: SmallMesh) -> None:
    """One plane, each part in the order of the file, kept ones too."""
    done = mesh.meshml("fit", "--plane", "lattice", "--all")
    assert "Service Connect" not in done.out.partition("where")[2]
    assert "2: mesh.meshName" in done.out
    assert "2: mesh.meshName" not in mesh.meshml("fit", "--plane", "lattice").out


def test_the_json_names_planes_and_fits(mesh: SmallMesh) -> None:
    """Programs read the same rows."""
    document = json.loads(mesh.meshml("fit", "--json").out)
    assert set(document) == {"mesh", "mesh_version", "planes", "fits"}
    assert {row["plane"] for row in document["fits"]} == set(PLANES)
    assert {row["verdict"] for row in document["fits"]} == {"kept", "approximated", "dropped"}


@pytest.mark.parametrize("command", ["fit", "plan"])
def test_a_mesh_file_with_an_error_is_refused_with_its_line(mesh: SmallMesh, command: str) -> None:
    """Nothing is said of a mesh that is none."""
    mesh.change("role: training", "role: trainign")
    done = mesh.meshml(command)
    assert (done.status, done.out) == (1, "")
    assert "mesh.yml:8" in done.err


@pytest.mark.parametrize("command", ["fit", "plan"])
def test_a_parameter_may_be_unknown_yet(mesh: SmallMesh, command: str) -> None:
    """What is only looked at needs no host name."""
    mesh.change("hostname: localhost", "hostname: '${HOST}'")
    assert mesh.meshml(command).status == 0
