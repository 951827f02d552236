"""``meshml check`` as a user types it: findings, a summary, JSON, and the exit status of each."""

import json

import pytest

from tests.small_mesh import SmallMesh


def test_a_good_mesh_file_is_summed_up(mesh: SmallMesh) -> None:
    """One line on what the file holds, and status 0."""
    done = mesh.meshml("check", "mesh.yml")
    assert (done.status, done.err, len(done.out.splitlines())) == (0, "", 1)
    assert done.out.startswith("mesh.yml: mesh small, version ")


@pytest.mark.parametrize("words", [("mesh.yml",), ("--mesh", "mesh.yml"), ()])
def test_the_file_is_an_argument_an_option_or_the_default(
    mesh: SmallMesh, words: tuple[str, ...]
) -> None:
    """All three mean the same file."""
    assert mesh.meshml("check", *words).out == mesh.meshml("check").out


def test_the_environment_can_name_the_file(mesh: SmallMesh) -> None:
    """MESHML_MESH stands in for --mesh."""
    (mesh.folder / "other.yml").write_text(mesh.file.read_text())
    assert mesh.meshml("check", MESHML_MESH="other.yml").out.startswith("other.yml: mesh small")


def test_every_finding_has_its_line_and_advice(mesh: SmallMesh) -> None:
    """All problems in one go, in the order of the file, each with what to do."""
    mesh.change("role: training", "role: trainign")
    mesh.change("mode: STRICT", "mode: STRICTLY")
    done = mesh.meshml("check")
    found = [line for line in done.out.splitlines() if ": error: " in line]
    lines = [int(line.split(":")[1].split()[0]) for line in found]
    assert (done.status, len(found), lines) == (1, 3, sorted(lines))
    assert [line for line in found if not line.endswith("[MESH007 wrong-value]")] == []
    advice = [line for line in done.out.splitlines() if line.startswith("    ")]
    assert len(advice) == len(found)


def test_a_warning_is_no_error(mesh: SmallMesh) -> None:
    """What works, but perhaps not as meant, is said and does not fail a pipeline."""
    mesh.change("{virtualNode: labels, weight: 1}", "{virtualNode: labels, weight: 0}")
    done = mesh.meshml("check")
    assert done.status == 0
    assert "warning: " in done.out
    assert "[MESH011 zero-weight]" in done.out


def test_json_holds_the_same_findings(mesh: SmallMesh) -> None:
    """A list of objects on standard output and nothing else; the status is the same."""
    assert json.loads(mesh.meshml("check", "--json").out) == []
    mesh.change("meshName: small", "meshName: small\n  colour: red")
    done = mesh.meshml("check", "--json")
    (found,) = json.loads(done.out)
    assert (done.status, found["code"], found["severity"]) == (1, "unknown-field", "error")
    assert found["number"] == "MESH003"
    assert found["where"].startswith("mesh.yml:3 mesh.colour")
    assert "colour" in found["what"]
    assert found["advice"]


def test_a_check_writes_nothing(mesh: SmallMesh) -> None:
    """Looking at a file leaves no state behind."""
    mesh.meshml("check")
    assert [path.name for path in mesh.folder.iterdir()] == ["mesh.yml"]


# --- --explain --------------------------------------------------------------------------------


def test_a_finding_is_explained_by_its_number(mesh: SmallMesh) -> None:
    """Title, severity, why, advice and a file that shows it."""
    done = mesh.meshml("check", "--explain", "MESH012")
    assert done.status == 0
    assert done.out.startswith("MESH012 retry-budget (warning): ")
    assert "What to do: make perRequest at least" in done.out
    assert "    virtualRouters:\n" in done.out
    assert done.out.rstrip().endswith("Mended: {unit: s, value: 2} -> {unit: s, value: 3}")


def test_without_a_code_all_are_listed(mesh: SmallMesh) -> None:
    """A table for eyes, a list for programs; neither needs a mesh file."""
    mesh.file.unlink()
    table = mesh.meshml("check", "--explain")
    assert table.status == 0
    found = json.loads(mesh.meshml("check", "--json", "--explain").out)
    assert [one["number"] for one in found if one["number"] not in table.out] == []
    assert found[0].keys() >= {"number", "slug", "title", "severity", "why", "advice", "example"}


def test_an_unknown_code_is_an_error_of_ours(mesh: SmallMesh) -> None:
    """With the way to those that there are."""
    done = mesh.meshml("check", "--explain", "MESH999")
    assert (done.status, done.out) == (3, "")
    assert "there is no finding MESH999" in done.err
    assert "meshml check --explain" in done.err
