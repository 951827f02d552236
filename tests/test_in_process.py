"""``meshml_dbx.record()`` as a notebook has it, in this process or another; all calls are real."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshml_dbx
from meshml_dbx.errors import LogFolderError, MeshInvalidError, MeshMLError
from meshml_dbx.in_process import (
    UNDER_A_SIDECAR,
    KnownHosts,
    client_name,
    plan_recording,
    program_environment,
    program_name,
    record_with,
    safe_name,
    unrecorded,
)
from meshml_dbx.mesh.load import read_mesh
from meshml_dbx.recorder import active_recording
from meshml_dbx.settings import read_settings
from tests.desk import plain_environment
from tests.mesh.ml_example import changed
from tests.recorder.answering import AnsweringServer, answering

Line = dict[str, object]


@pytest.fixture(scope="module")
def service() -> Iterator[AnsweringServer]:
    """One service for all calls."""
    with answering() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_recorded() -> Iterator[None]:
    """Before and after, this process records nothing, and its variables are as they were."""
    before = own_variables()
    yield
    meshml_dbx.stop()
    assert own_variables() == before


def own_variables() -> dict[str, str]:
    """The variables of this process that are ours."""
    return {name: value for name, value in os.environ.items() if name.startswith("MESHML_")}


def call(service: AnsweringServer, path: str = "/kb") -> None:
    """One call from here."""
    urllib.request.urlopen(service.url + path).read()  # noqa: S310  # our own address


def lines_in(folder: Path, **values: object) -> list[Line]:
    """Every line below a folder that has these values."""
    files = sorted(folder.rglob("*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_bytes().splitlines()]
    return [line for line in lines if values.items() <= line.items()]


def calls_in(folder: Path) -> list[Line]:
    """The finished calls below a folder."""
    return lines_in(folder, _record="call", _type="DownstreamEnd")


def run_python(
    folder: Path, code: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A program in a folder, with no variables of ours but these."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=plain_environment() | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- one line ---------------------------------------------------------------------------------


def test_a_block_is_recorded_and_nothing_around_it(
    tmp_path: Path, service: AnsweringServer
) -> None:
    """From ``record()`` to the end of the block; the folder says whose calls they are."""
    call(service)
    with meshml_dbx.record("churn", state=tmp_path) as recording:
        call(service)
    call(service)
    assert recording.calls == 1
    (found,) = calls_in(tmp_path / "logs")
    assert (found["client"], found["observer"]) == ("churn", "client")


def test_its_text_says_what_is_recorded_and_where(tmp_path: Path) -> None:
    """In a notebook the line shows it."""
    with meshml_dbx.record("churn", state=tmp_path) as recording:
        shown = repr(recording)
        assert "recording the calls of 'churn' through http.client" in shown
        assert str(tmp_path / "logs" / recording.sidecar_id) in shown


def test_a_second_line_changes_nothing(tmp_path: Path, service: AnsweringServer) -> None:
    """A cell that is run again: the first recording goes on, whatever the second asked for."""
    first = meshml_dbx.record("one", state=tmp_path / "one")
    with meshml_dbx.record("two", state=tmp_path / "two") as second:
        assert second is first
    call(service)
    assert active_recording() is first
    meshml_dbx.stop()
    assert (len(calls_in(tmp_path / "one")), (tmp_path / "two").exists()) == (1, False)


def test_a_misspelt_setting_is_refused(tmp_path: Path) -> None:
    """It would be a recording in another place than the one that was meant."""
    with pytest.raises(TypeError, match="log"):
        meshml_dbx.record(log=tmp_path)  # type: ignore[call-arg]  # the mistake that is meant


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Said at the line itself, with what to do, and nothing is left half begun."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LogFolderError, match="cannot use the state folder") as caught:
        meshml_dbx.record(state=tmp_path / "file")
    assert "--state" in caught.value.advice
    with pytest.raises(MeshMLError):
        meshml_dbx.record(state=tmp_path / "state", logs=tmp_path / "file")
    assert active_recording() is None


def test_under_a_sidecar_it_does_nothing(
    tmp_path: Path, service: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The sidecar sees the calls; the line may stay in the program, and says so once."""
    settings = read_settings({}, state=tmp_path)
    with caplog.at_level(logging.WARNING, logger="meshml_dbx"):
        recording = record_with(settings, None, KnownHosts(), {"MESHML_SIDECAR_ID": "job-12345678"})
        with recording:
            call(service)
    assert (recording.is_on, recording.calls, list(tmp_path.iterdir())) == (False, 0, [])
    assert recording.notes == (UNDER_A_SIDECAR,)
    assert [one.getMessage() for one in caplog.records] == [f"meshml: {UNDER_A_SIDECAR}"]


def test_our_own_calls_are_no_part_of_it(tmp_path: Path, service: AnsweringServer) -> None:
    """What ``why()`` asks a tracking server is none of the run's calls; other threads' are."""
    with meshml_dbx.record(state=tmp_path) as recording:
        with unrecorded():
            call(service)
            other = threading.Thread(target=call, args=(service, "/bytes/7"))
            other.start()
            other.join()
        call(service, "/bytes/9")
    assert recording.calls == 2
    assert [found["path"] for found in calls_in(tmp_path)] == ["/bytes/7", "/bytes/9"]


# --- a mesh file ------------------------------------------------------------------------------


def test_a_mesh_file_gives_addresses_their_services_names(
    tmp_path: Path, service: AnsweringServer
) -> None:
    """The node's own address is its service's, seen from a call."""
    mesh = tmp_path / "mesh.yml"
    mesh.write_text(changed("port: 18081", f"port: {service.server_port}"))
    with meshml_dbx.record(state=tmp_path / "state", mesh=mesh):
        call(service)
    (found,) = calls_in(tmp_path / "state")
    expected = {"mesh": "ml", "virtual_service": "labels.ml.local", "target": "labels-v1"}
    assert {key: found[key] for key in expected} == expected
    assert read_mesh(mesh).mesh is not None


def test_without_one_the_host_is_the_service(tmp_path: Path, service: AnsweringServer) -> None:
    """With its port, and without a target."""
    with meshml_dbx.record(state=tmp_path):
        call(service)
    (found,) = calls_in(tmp_path)
    told = (found["mesh"], found["virtual_service"], found["target"])
    assert told == (None, service.authority, None)


def test_a_mesh_file_that_was_named_must_be_right(tmp_path: Path) -> None:
    """Who names it wants its names."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("mesh: {meshNam: x}\n")
    with pytest.raises(MeshInvalidError):
        meshml_dbx.record(state=tmp_path / "state", mesh=wrong)
    with pytest.raises(MeshMLError, match=r"none\.yml"):
        meshml_dbx.record(state=tmp_path / "state", mesh=tmp_path / "none.yml")
    assert active_recording() is None


def test_a_mesh_file_that_happens_to_lie_here_may_be_wrong(
    tmp_path: Path, service: AnsweringServer
) -> None:
    """The recording goes on without names, says why in its text, and logs it once."""
    (tmp_path / "mesh.yml").write_text("mesh: {meshNam: x}\n")
    code = (
        "import sys, urllib.request, meshml_dbx\n"
        "recording = meshml_dbx.record()\n"
        "meshml_dbx.record()\n"
        "urllib.request.urlopen(sys.argv[1]).read()\n"
        "print(recording)\n"
    )
    done = run_python(tmp_path, code, service.url + "/kb")
    note = "mesh.yml is not used for names of services: "
    assert f"\n  warning: {note}" in done.stdout
    assert (done.stderr.count(note), len(calls_in(tmp_path))) == (1, 1)


# --- names and places --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"JPY_SESSION_NAME": "/home/me/Churn model.ipynb"}, "Churn model"),
        ({"JPY_SESSION_NAME": "churn-v1.2"}, "churn-v1.2"),
        ({"MESHML_CLIENT": "churn.v2", "JPY_SESSION_NAME": "x.ipynb"}, "churn.v2"),
    ],
)
def test_a_notebook_is_called_as_its_file(environ: dict[str, str], name: str) -> None:
    """Without its folder and ending; what the user said goes first, as it was said."""
    assert client_name(environ) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("train.v2.py",), "train.v2"),
        (("-m", "churn"), "churn"),
        (("-m", "churn.fit"), "fit"),
        (("-c", "TELL"), "python"),
        (("-",), "python"),
        (("ipykernel_launcher.py",), "notebook"),
        (("editor.py",), "Churn"),
    ],
)
def test_a_program_is_called_as_its_file(tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    """A module by its name, a package by the package's; a kernel and code have none of their own.

    An editor that runs a notebook tells its file.
    """
    tell = "import os; from meshml_dbx.in_process import client_name; print(client_name({}))"
    package = tmp_path / "churn"
    package.mkdir()
    (package / "__init__.py").write_text("")
    names = ("train.v2.py", "ipykernel_launcher.py", "churn/__main__.py", "churn/fit.py")
    for path in names:
        (tmp_path / path).write_text(tell)
    editor = "__vsc_ipynb_file__ = '/home/me/Churn.ipynb'\n"
    (tmp_path / "editor.py").write_text(editor + tell)
    done = subprocess.run(
        [sys.executable, *(tell if word == "TELL" else word for word in words)],
        cwd=tmp_path,
        input=tell,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python train.py --rows 10", "train"),
        ("/usr/bin/python3.11 -u -W ignore -X dev src/churn.py", "churn"),
        ("python -m churn.train --rows 10", "train"),
        ("python -u -m churn", "churn"),
        ("python -mchurn.fit", "fit"),
        ("python -m churn.__main__", "churn"),
        ("python -c pass", "python"),
        ("python", "python"),
        ("bash jobs/nightly.sh", "nightly"),
        ("bash -c x", "bash"),
        ("./train.py", "train"),
        ("torchrun train.py", "torchrun"),
    ],
)
def test_a_command_is_called_as_what_it_runs(line: str, name: str) -> None:
    """The script or module of an interpreter, else the program."""
    assert program_name(line.split()) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("churn-training_1.2", "churn-training_1.2"),
        ("../../etc/passwd", "etc-passwd"),
        ("My notebook (2)", "My-notebook-2"),
        ("…", "notebook"),
        ("a" * 200, "a" * 64),
    ],
)
def test_a_name_can_be_a_folders(name: str, safe: str) -> None:
    """Nothing in it can lead elsewhere, and it is never empty."""
    assert safe_name(name) == safe


def test_on_databricks_the_state_lies_on_the_local_disk() -> None:
    """A notebook's folder there takes no appended lines."""
    settings = read_settings({"DATABRICKS_RUNTIME_VERSION": "17.3"})
    assert settings.state.parent == Path(tempfile.gettempdir())
    plan = plan_recording(settings, "nb", KnownHosts(), {})
    assert (plan.logs, plan.refuses_appends) == (settings.state / "logs", False)


@pytest.mark.parametrize(
    ("logs", "refuses"),
    [
        ("/Volumes/main/meshml/logs", True),
        ("/dbfs/Volumes/main/meshml/logs", True),
        ("/tmp/Volumes/logs", False),  # noqa: S108  # only a name
    ],
)
def test_a_volume_takes_whole_files_only(logs: str, *, refuses: bool) -> None:
    """So the recorder writes elsewhere and brings them there; the address alone tells."""
    settings = read_settings({}, logs=logs)
    plan = plan_recording(settings, "nb", KnownHosts(), {})
    assert (str(plan.logs), plan.refuses_appends) == (logs, refuses)


@pytest.mark.parametrize(
    ("given", "variable", "address"),
    [
        (None, "http://me:pw@mlflow.corp:5000/base", "mlflow.corp:5000"),
        ("https://mlflow.corp", "http://other", "mlflow.corp"),
        (None, "sqlite:///mlflow.db", None),
        (None, "databricks", None),
        (None, "http://[half", None),
    ],
)
def test_the_tracking_server_is_known_by_its_address(
    given: str | None, variable: str, address: str | None
) -> None:
    """As calls to it show it: host and port, and no password."""
    settings = read_settings({}, tracking=given)
    plan = plan_recording(settings, "nb", KnownHosts(), {"MLFLOW_TRACKING_URI": variable})
    assert plan.tracking == address


@pytest.mark.parametrize("host", ["dbc-1.example.com", "https://dbc-1.example.com/?o=1"])
def test_the_workspace_is_known_by_its_address(host: str) -> None:
    """``DATABRICKS_HOST`` is written with and without its scheme."""
    settings = read_settings({})
    plan = plan_recording(settings, "nb", KnownHosts(), {"DATABRICKS_HOST": host})
    assert plan.workspace == "dbc-1.example.com"


def test_a_child_writes_where_its_parent_was_told_to(tmp_path: Path) -> None:
    """Not where the parent keeps its live files while it brings whole ones to a volume."""
    volume = "/Volumes/main/meshml/logs"
    inherited = {"MESHML_RECORD": volume, "MESHML_LOGS": str(tmp_path)}
    plan = plan_recording(read_settings(inherited), None, KnownHosts(), inherited)
    assert (str(plan.logs), plan.refuses_appends) == (volume, True)
    made = program_environment(read_settings({}, logs=volume), None, KnownHosts(), ["a"], {})
    assert made["MESHML_RECORD"] == volume


# --- a program's environment --------------------------------------------------------------------


def test_a_program_inside_a_recorded_one_keeps_its_process() -> None:
    """Its calls join the outer's runs, under a name and in a folder of its own."""
    outer = {"MESHML_RECORD": "1", "MESHML_PROCESS_ID": "p", "MESHML_SIDECAR_ID": "a-1"}
    made = program_environment(read_settings({}), None, KnownHosts(), ["python", "a.py"], outer)
    assert (made["MESHML_PROCESS_ID"], made["MESHML_CLIENT"]) == ("p", "a")
    assert "MESHML_SIDECAR_ID" not in made


def test_a_process_id_of_somebody_else_is_not_taken() -> None:
    """Only a recording's own: what a sidecar left behind would join calls to strangers' runs."""
    left = {"MESHML_PROCESS_ID": "p"}
    made = program_environment(read_settings({}), None, KnownHosts(), ["python"], left)
    again = program_environment(read_settings({}), None, KnownHosts(), ["python"], left)
    assert len({"p", made["MESHML_PROCESS_ID"], again["MESHML_PROCESS_ID"]}) == 3


def test_our_folder_is_on_the_path_once() -> None:
    """However deep recorded programs start recorded programs."""
    settings, known = read_settings({}), KnownHosts()
    first = program_environment(settings, None, known, ["python"], {"PYTHONPATH": "a"})
    second = program_environment(settings, None, known, ["python"], first)
    assert second["PYTHONPATH"] == first["PYTHONPATH"]
    assert first["PYTHONPATH"].endswith(f"{os.pathsep}a")
