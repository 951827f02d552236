"""What goes wrong before a program runs: one message, the right status, nothing left behind."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_mesh import Done, SmallMesh, envoys_below

FINDINGS, WRONG_USE, OURS = 1, 2, 3


def assert_refused(done: Done, status: int, *words: str) -> None:
    """One message that holds these words, with its next step; no traceback, no output."""
    assert (done.status, done.out) == (status, "")
    lines = [line for line in done.err.splitlines() if ": Envoy 1." not in line]
    assert [line for line in lines if line.startswith("error: ")] == lines[:1]
    assert [word for word in words if word not in done.err] == []
    assert [line[:8] for line in lines[1:]] == ["  next: "]


def assert_nothing_left(mesh: SmallMesh) -> None:
    """No Envoy, no run folder, no log folder and no start of the program."""
    assert envoys_below(mesh.folder) == []
    folders = [mesh.state / "run", mesh.state / "logs"]
    assert [path for it in folders if it.is_dir() for path in it.iterdir()] == []
    assert not (mesh.folder / "started").exists()


def run_program(mesh: SmallMesh, *options: str, **variables: str) -> Done:
    """A program that would leave a trace, run as ``job`` unless the options say otherwise."""
    client = () if "--client" in options else ("--client", "job")
    return mesh.meshml("run", *client, *options, "--", "touch", "started", **variables)


# --- the mesh file ----------------------------------------------------------------------------


def test_a_mesh_file_that_is_not_there(mesh: SmallMesh) -> None:
    """The file is named, and how to name another."""
    mesh.file.unlink()
    for done in (mesh.meshml("check"), run_program(mesh)):
        assert_refused(done, OURS, "could not read the mesh file mesh.yml: No such file", "--mesh")
    assert_nothing_left(mesh)


def test_a_folder_instead_of_a_mesh_file(mesh: SmallMesh) -> None:
    """The file in it is what was meant, and the advice says so."""
    for done in (mesh.meshml("check", "."), run_program(mesh, "--mesh", ".")):
        assert_refused(done, OURS, "the mesh file .: Is a directory", "--mesh mesh.yml")


BROKEN_FILES = {
    "empty": ("", "mesh.yml:1: error: nothing is declared"),
    "only a comment": ("# later\n", "mesh.yml:1: error: nothing is declared"),
    "not YAML": ("mesh: [\n", "mesh.yml:2: error: "),
    "binary noise": ("\x00\x01\x7f", "mesh.yml:1: error: "),
    "unknown field": (
        "mesh:\n  meshName: small\n  sepc: {}\n",
        'mesh.yml:3 mesh.sepc: error: unknown field "sepc"; did you mean spec?',
    ),
    "dangling reference": (
        "mesh: {meshName: small}\nvirtualServices:\n  - virtualServiceName: a.local\n"
        "    spec: {provider: {virtualNode: {virtualNodeName: labels}}}\n",
        "there is no virtual node labels",
    ),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_mesh_file_with_errors(mesh: SmallMesh, name: str) -> None:
    """``check`` lists them with line and path; ``run`` names the first and starts nothing."""
    text, message = BROKEN_FILES[name]
    mesh.file.write_text(text)
    checked = mesh.meshml("check")
    assert (checked.status, checked.err) == (FINDINGS, "")
    assert message in checked.out
    assert_refused(run_program(mesh), FINDINGS, message, "meshml check mesh.yml")
    assert_nothing_left(mesh)
    assert not mesh.state.exists()


# --- names and words --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("run", "--client", "jbo"), ("no client jbo; did you mean job?", "there are: job")),
        (("run", "--client", "xyz"), ("mesh small has no client xyz\n", "there are: job")),
        (("run", "--client", "labels"), ("is a virtual node", "meshml sidecar --node labels")),
        (
            ("sidecar", "--node", "lables"),
            ("no virtual node lables; did you mean labels?", "there are: labels, relay"),
        ),
        (("sidecar", "--node", "job"), ("is a client", "meshml run --client job")),
    ],
)
def test_a_name_that_the_mesh_does_not_have(
    mesh: SmallMesh, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """The closest name and the names there are; a name of the other kind gets the other verb."""
    assert_refused(mesh.meshml(*options, "--", "touch", "started"), OURS, *words)
    assert not mesh.state.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--client", "job"), "which program? meshml run --client job -- "),
        (("sidecar", "--node", "labels"), "give a program after --, or the --app-port"),
        (("run", "--", "true"), "Missing option '--client'"),
        (("sidecar", "--node", "labels", "--app-port", "0", "--", "true"), "'--app-port': 0"),
        (("sidecar", "--node", "labels", "--bind", "localhost", "--", "true"), "is not an IP"),
        (("run", "--node", "labels", "--", "true"), "No such option"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
def test_wrong_use(mesh: SmallMesh, words: tuple[str, ...], message: str) -> None:
    """A command that makes no sense is explained in one line, with the usage."""
    done = mesh.meshml(*words)
    assert (done.status, done.out) == (WRONG_USE, "")
    assert done.err.startswith("Usage: ")
    assert [line for line in done.err.splitlines() if message in line] != []
    assert not mesh.state.exists()


# --- the program ------------------------------------------------------------------------------


def test_a_program_that_is_not_there(mesh: SmallMesh) -> None:
    """Said before anything is issued or started."""
    done = mesh.run("no-such-program")
    assert_refused(done, OURS, "there is no program 'no-such-program' to run")
    assert not mesh.state.exists()


@pytest.mark.envoy
def test_a_program_that_the_system_refuses(mesh: SmallMesh) -> None:
    """A script without an interpreter is found only when it is started; Envoy goes with it."""
    script = mesh.folder / "job.sh"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert_refused(mesh.run(str(script)), OURS, f"cannot run '{script}'", "interpreter")
    assert envoys_below(mesh.folder) == []


# --- ports ------------------------------------------------------------------------------------


@pytest.mark.envoy
def test_a_nodes_port_that_is_taken(mesh: SmallMesh) -> None:
    """The port is named, with the command that shows who has it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", mesh.ports["labels"]))
        holder.listen()
        done = mesh.meshml("sidecar", "--node", "labels", "--", "touch", "started")
    port = mesh.ports["labels"]
    assert_refused(done, OURS, f"port {port} on 127.0.0.1 is taken", "ss -ltnp")
    assert_nothing_left(mesh)


@pytest.mark.envoy
def test_an_app_port_that_is_taken(mesh: SmallMesh) -> None:
    """A program that is to be started cannot share its port."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        options = ("--node", "labels", "--app-port", port)
        done = mesh.meshml("sidecar", *options, "--", "touch", "started")
    assert_refused(done, OURS, f"port {port} on 127.0.0.1 is taken")
    assert_nothing_left(mesh)


@pytest.mark.envoy
def test_an_address_that_this_machine_does_not_have(mesh: SmallMesh) -> None:
    """The address is named, and the option that gave it."""
    options = ("--node", "labels", "--bind", "192.0.2.1")
    done = mesh.meshml("sidecar", *options, "--", "touch", "started")
    assert_refused(done, OURS, "cannot listen on 192.0.2.1:", "--bind")
    assert_nothing_left(mesh)


# --- Envoy ------------------------------------------------------------------------------------


def not_there(folder: Path) -> Path:
    """A path to nothing."""
    return folder / "envoy"


def not_executable(folder: Path) -> Path:
    """A file that cannot be run."""
    (folder / "envoy").write_text("")
    return folder / "envoy"


def other_program(folder: Path) -> Path:
    """A program that answers --version with something else."""
    (folder / "envoy").write_text("#!/bin/sh\necho nginx 1.25.3\n")
    (folder / "envoy").chmod(0o755)
    return folder / "envoy"


def broken_program(folder: Path) -> Path:
    """A file for another machine."""
    (folder / "envoy").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(100))
    (folder / "envoy").chmod(0o755)
    return folder / "envoy"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_there, "there is no file {path} (ENVOY_PATH)"),
        (not_executable, "{path} (ENVOY_PATH) is not an executable file"),
        (other_program, "{path} (ENVOY_PATH) is no Envoy"),
        (broken_program, "{path} (ENVOY_PATH) does not run"),
    ],
)
def test_an_envoy_path_that_leads_nowhere(
    mesh: SmallMesh, make: Callable[[Path], Path], message: str
) -> None:
    """The path, the variable that named it, and what to install or set instead."""
    path = make(mesh.folder)
    done = run_program(mesh, ENVOY_PATH=str(path))
    assert_refused(done, OURS, message.format(path=path), 'pip install "meshml_dbx[envoy]"')
    assert_nothing_left(mesh)
    assert not mesh.state.exists()


def python_without_envoy(folder: Path) -> str:
    """An interpreter that has every package of this one, except the one that brings Envoy."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith("envoy") and not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    return str(folder / "bin" / "python")


def test_no_envoy_at_all(mesh: SmallMesh, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither variable nor wheel nor PATH has one: one line says what to install."""
    path = "/usr/bin:/bin"
    if shutil.which("envoy", path=path):
        pytest.skip("this system has an Envoy of its own")
    python = python_without_envoy(tmp_path_factory.mktemp("bare") / "venv")
    words = ("run", "--client", "job", "--", "touch", "started")
    done = mesh.meshml(*words, python=python, PATH=path)
    advice = ('pip install "meshml_dbx[envoy]"', "ENVOY_PATH")
    assert_refused(done, OURS, "there is no Envoy on this machine", *advice)
    assert_nothing_left(mesh)


@pytest.mark.envoy
def test_a_configuration_that_envoy_refuses(mesh: SmallMesh) -> None:
    """What no check foresees: Envoy's own words, the kind of resource, and where to look."""
    mesh.change("{prefix: /v1/labels}", r'{prefix: /v1/labels, headers: [{name: "x\nday"}]}')
    assert mesh.meshml("check").status == 0
    done = run_program(mesh)
    words = ("Envoy refused its routes (rds)", "HeaderMatcher", "look for it in mesh.yml")
    assert_refused(done, OURS, *words)
    assert_nothing_left(mesh)


# --- folders ----------------------------------------------------------------------------------


@pytest.mark.envoy
@pytest.mark.parametrize("place", ["/sys/meshml", "/proc/meshml"])
def test_a_log_folder_that_cannot_be_written(mesh: SmallMesh, place: str) -> None:
    """The folder is named, and the options that choose another; not even root can write these."""
    assert_refused(run_program(mesh, "--logs", place), OURS, f"cannot write {place}", "--logs")
    assert_nothing_left(mesh)


@pytest.mark.envoy
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_log_folder_without_permission(mesh: SmallMesh) -> None:
    """A folder of somebody else's."""
    (mesh.folder / "logs").mkdir(mode=0o500)
    assert_refused(run_program(mesh, "--logs", "logs"), OURS, "Permission denied", "--logs")
    assert_nothing_left(mesh)


@pytest.mark.envoy
def test_a_state_folder_that_is_a_file(mesh: SmallMesh) -> None:
    """It is left as it is."""
    (mesh.folder / "state").write_text("mine")
    done = run_program(mesh, "--state", "state")
    assert_refused(done, OURS, "cannot use the state folder state: it is a file", "--state")
    assert (mesh.folder / "state").read_text() == "mine"
    assert_nothing_left(mesh)


@pytest.mark.envoy
@pytest.mark.parametrize("place", ["/sys/meshml", "/proc/meshml"])
def test_a_state_folder_that_cannot_be_written(mesh: SmallMesh, place: str) -> None:
    """The same words, wherever it fails."""
    done = run_program(mesh, "--state", place)
    assert_refused(done, OURS, f"cannot use the state folder {place}: ", "--state")
    assert_nothing_left(mesh)
