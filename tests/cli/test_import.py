"""``meshml import`` as a user types it: a mesh file out, words on standard error, exit statuses."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshml_dbx.mesh.load import load_mesh

TEMPLATE = """
Parameters: {Project: {Type: String}}
Resources:
  Mesh:
    Type: AWS::AppMesh::Mesh
    Properties: {MeshName: !Sub "${Project}-mesh"}
  Node:
    Type: AWS::AppMesh::VirtualNode
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualNodeName: labels
      Spec:
        Listeners: [{PortMapping: {Port: 80, Protocol: http}}]
        ServiceDiscovery: {DNS: {Hostname: labels.local}}
  Queue: {Type: "AWS::SQS::Queue"}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a finished command left behind."""

    status: int
    out: str
    err: str


def meshml(folder: Path, *words: str, given: str = "") -> Done:
    """Run meshml in a folder; ``given`` goes to its standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "meshml_dbx", *words],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one template."""
    (tmp_path / "app.yaml").write_text(TEMPLATE)
    return tmp_path


def test_a_mesh_file_comes_out_and_words_go_to_standard_error(folder: Path) -> None:
    """Standard output is the mesh file alone; dialect, findings and counts are said beside it."""
    done = meshml(folder, "import", "app.yaml", "--param", "Project=shop")
    mesh = load_mesh(done.out, source="mesh.yml").mesh
    assert done.status == 0
    assert mesh is not None
    assert (mesh.mesh.mesh_name, mesh.injected_defaults) == ("shop-mesh", "modern")
    assert done.err.startswith("app.yaml: cloudformation, 2 definitions\n")
    assert "app.yaml:15 Resources.Queue: info: " in done.err
    assert done.err.splitlines()[-1] == "read: 1 mesh, 1 virtualNode; files: 1 cloudformation"


def test_standard_input_is_a_file_too(folder: Path) -> None:
    """A dash reads what another command prints."""
    done = meshml(folder, "import", "-", "--param", "Project=shop", "--quiet", given=TEMPLATE)
    assert load_mesh(done.out, source="mesh.yml").mesh is not None
    assert ": info: " not in done.err


def test_a_pattern_finds_files_and_a_folder_all_of_them(folder: Path) -> None:
    """Patterns in quotes are meshml's own matter, on every shell."""
    (folder / "deep").mkdir()
    (folder / "deep" / "same.yaml").write_text(TEMPLATE)
    counts = [
        json.loads(meshml(folder, "import", *paths, "--json").out)["counts"]
        for paths in (("**/*.yaml",), (".",), ("app.yaml", "deep"))
    ]
    assert counts == [{"mesh": 2, "virtualNode": 2}] * 3


def test_json_holds_mesh_findings_counts_and_files(folder: Path) -> None:
    """One object for programs, and nothing on standard error."""
    done = meshml(folder, "import", "app.yaml", "--json")
    found = json.loads(done.out)
    assert (done.err, done.status) == ("", 0)
    assert found["mesh"]["mesh"]["meshName"] == "${Project}-mesh"
    assert found["files"] == [
        {
            "name": "app.yaml",
            "dialects": ["cloudformation"],
            "definitions": {"mesh": 1, "virtualNode": 1},
        }
    ]
    assert "unresolved-parameter" in [one["code"] for one in found["findings"]]
    assert {"code", "severity", "where", "what", "advice"} <= found["findings"][0].keys()


def test_out_writes_a_file_and_does_not_overwrite_one(folder: Path) -> None:
    """What is there stays, until --force says otherwise."""
    first = meshml(folder, "import", "app.yaml", "--out", "mesh.yml", "--param", "Project=a")
    assert (first.status, first.out) == (0, "")
    assert "next: meshml check mesh.yml" in first.err
    second = meshml(folder, "import", "app.yaml", "--out", "mesh.yml", "--param", "Project=b")
    assert second.status == 2
    assert "mesh.yml is there already; --force overwrites it" in second.err
    assert "a-mesh" in (folder / "mesh.yml").read_text()
    meshml(folder, "import", "app.yaml", "--out", "mesh.yml", "--param", "Project=b", "--force")
    assert "b-mesh" in (folder / "mesh.yml").read_text()
    assert meshml(folder, "check", "mesh.yml").status == 0


def test_nothing_is_written_where_a_definition_is_missing(folder: Path) -> None:
    """Half a mesh looks like a whole one: it takes --partial to get it, and the status stays 1."""
    (folder / "node.json").write_text('{"virtualNodeName": "x", "spec": {')
    done = meshml(folder, "import", ".", "--param", "Project=shop", "--out", "mesh.yml")
    assert (done.status, done.out) == (1, "")
    assert not (folder / "mesh.yml").exists()
    assert "node.json:1: error: not JSON" in done.err
    assert "nothing is written: see the errors, or --partial" in done.err
    part = meshml(folder, "import", ".", "--param", "Project=shop", "--partial")
    assert part.status == 1
    assert load_mesh(part.out, source="mesh.yml").mesh is not None


def test_the_apis_requests_are_a_list_or_a_folder(folder: Path) -> None:
    """--as api prints one list, or writes one file for each request, in the order to send them."""
    words = ("import", "app.yaml", "--param", "Project=shop", "--as", "api")
    listed = json.loads(meshml(folder, *words).out)
    assert [one.get("virtualNodeName") for one in listed] == [None, "labels"]
    done = meshml(folder, *words, "--out", "requests")
    assert done.status == 0
    assert "wrote requests: mesh shop-mesh in 2 requests\n" in done.err
    assert "next: meshml check" not in done.err
    assert sorted(path.name for path in (folder / "requests").iterdir()) == [
        "001-create-mesh-shop-mesh.json",
        "002-create-virtual-node-labels.json",
    ]
    again = meshml(folder, "import", "requests", "--quiet")
    assert load_mesh(again.out, source="mesh.yml").mesh is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "app.yaml", "--param", "Project"), "has no value; write NAME=VALUE"),
        (("import", "app.yaml", "--format", "yaml"), "'yaml' is not one of"),
        (("import",), "Missing argument 'PATH...'"),
    ],
)
def test_wrong_use_is_said_at_once(folder: Path, words: tuple[str, ...], said: str) -> None:
    """A wrong call is status 2 and one sentence."""
    done = meshml(folder, *words)
    assert done.status == 2
    assert said in done.err


def test_a_path_that_leads_nowhere_is_an_error(folder: Path) -> None:
    """The message names the path and what a path may be."""
    done = meshml(folder, "import", "app.yml")
    assert done.status == 3
    assert "could not read app.yml: there is no such file or folder" in done.err
