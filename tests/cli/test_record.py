"""``meshml record`` as users type it: real programs, which know nothing of us, and real calls."""

import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.desk import Desk, plain_environment
from tests.recorder.answering import AnsweringServer, answering
from tests.small_mesh import LABELS, Done, SmallMesh, wait_for

DEADLINE_S = 300.0
CALL = "import sys, urllib.request as r\nr.urlopen(sys.argv[1]).read()\n"
TRAINING = """
import sys
import mlflow, requests
from meshml_dbx import stage

with mlflow.start_run() as run:
    print(run.info.run_id)
    with stage("ingestion"):
        for _ in range(3):
            requests.get(sys.argv[1] + "/kb").raise_for_status()
    requests.get(sys.argv[1] + "/slow/1.5")
"""
SPAWNING = """
import multiprocessing, sys, urllib.request

def call(url):
    urllib.request.urlopen(url).read()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for target, arguments in ((call, (sys.argv[1],)), (print, ())):
        child = context.Process(target=target, args=arguments)
        child.start()
        child.join()
"""
Line = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A folder in which programs are recorded, and a service that they call."""

    desk: Desk
    service: AnsweringServer

    @property
    def folder(self) -> Path:
        """Where the programs run."""
        return self.desk.folder

    def record(self, *words: str, variables: Mapping[str, str] | None = None) -> Done:
        """``meshml record`` with these words."""
        return self.desk.meshml("record", *words, cwd=None, **(variables or {}))

    def python(
        self, code: str, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> Done:
        """A Python program, recorded."""
        return self.record("--", sys.executable, "-c", code, *arguments, variables=variables)

    def write(self, name: str, text: str) -> str:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    @property
    def recorders(self) -> list[Path]:
        """The log folders so far."""
        return sorted(self.desk.logs.glob("*")) if self.desk.logs.is_dir() else []

    def lines(self, **values: object) -> list[Line]:
        """Every line so far that has these values."""
        files = self.desk.logs.glob("*/*/*.jsonl")
        lines = (json.loads(line) for path in files for line in path.read_bytes().splitlines())
        return [line for line in lines if values.items() <= line.items()]

    def calls(self, **values: object) -> list[Line]:
        """The finished calls so far."""
        return self.lines(_record="call", _type="DownstreamEnd", **values)

    @contextmanager
    def start(self, *command: str) -> "Iterator[subprocess.Popen[str]]":
        """A recorded program that goes on; it is killed at the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "meshml_dbx", "record", "--", *command],
            cwd=self.folder,
            env=plain_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def service() -> Iterator[AnsweringServer]:
    """One service for all programs."""
    with answering() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, service: AnsweringServer) -> Shell:
    """A folder of the test's own."""
    return Shell(desk=Desk(folder=tmp_path, runs={}), service=service)


def processes(lines: Sequence[Line]) -> set[object]:
    """The processes that these lines belong to."""
    return {line["process_id"] for line in lines}


# --- the journey ------------------------------------------------------------------------------


def test_a_training_program_is_recorded_and_answered(shell: Shell, mlflow_store: Path) -> None:
    """All it knows of us is its stage; its run is tagged, and `why` names what it called."""
    shell.write("train.py", TRAINING)
    store = f"sqlite:///{mlflow_store}"
    url = shell.service.url
    done = shell.record(
        *("--client", "churn", "--tracking", store, "--", sys.executable, "train.py", url)
    )
    assert done.status == 0, done.err
    run_id = done.out.strip()
    assert done.err == f"recorded; next: meshml why last --tracking {store}\n"
    shown = shell.desk.meshml("why", "last", "--tracking", store, "--json")
    answer = json.loads(shown.out)
    assert answer["run_id"] == run_id
    calls = shell.calls(authority=shell.service.authority)
    assert [(call["path"], call["stage"]) for call in calls] == [
        *[("/kb", "ingestion")] * 3,
        ("/slow/1.5", None),
    ]
    assert {call["run_id"] for call in calls} == {run_id}
    assert {call["client"] for call in calls} == {"churn"}
    (begin,) = shell.lines(_record="program", _type="begin")
    assert tags_of(mlflow_store, run_id) == {
        "meshml.process_id": begin["process_id"],
        "meshml.client": "churn",
    }
    text = shell.desk.meshml("why", "last", "--tracking", store).out
    assert shell.service.authority in text


def tags_of(store: Path, run_id: str) -> dict[str, str]:
    """Our tags on a run."""
    import sqlite3

    with sqlite3.connect(store) as connection:
        rows = connection.execute(
            "select key, value from tags where run_uuid = ? and key like 'meshml.%'", (run_id,)
        )
        return dict(rows.fetchall())


def test_without_a_name_the_program_has_its_files(shell: Shell) -> None:
    """Runs of one file are compared with each other without a word from the user."""
    shell.write("src/churn_v1.py", CALL)
    done = shell.record(
        *("--", sys.executable, "-u", "src/churn_v1.py", f"{shell.service.url}/kb"),
        variables={"MESHML_JOB_RUN_ID": "77", "MESHML_TASK_RUN_ID": "78"},
    )
    assert done.status == 0, done.err
    assert [call["client"] for call in shell.calls()] == ["churn_v1"]
    (begin,) = shell.lines(_record="program", _type="begin")
    assert begin["program"] == "churn_v1.py"
    assert (begin["job_run_id"], begin["task_run_id"]) == ("77", "78")


def test_code_on_the_command_line_is_never_a_name(shell: Shell) -> None:
    """It may hold a secret: the client of ``python -c`` is python."""
    shell.python(CALL + "password = 's3cret'", f"{shell.service.url}/kb?key=s3cret")
    (call,) = shell.calls()
    (begin,) = shell.lines(_record="program", _type="begin")
    assert (call["client"], begin["program"]) == ("python", "python")
    written = [path for path in shell.folder.rglob("*") if path.is_file()]
    assert [path for path in written if b"s3cret" in path.read_bytes()] == []


def test_a_mesh_file_names_the_addresses(shell: Shell) -> None:
    """What a node answers at is shown as its service, with the node."""
    port = shell.service.server_port
    shell.write("here.yml", MESH.replace("PORT", str(port)))
    done = shell.record(
        *("--mesh", "here.yml", "--", sys.executable, "-c", CALL, f"http://localhost:{port}/kb")
    )
    assert done.status == 0, done.err
    (call,) = shell.calls()
    assert (call["virtual_service"], call["target"]) == ("labels.small.local", "labels")
    assert (call["mesh"], call["authority"]) == ("small", f"localhost:{port}")


MESH = """\
mesh: {meshName: small}
virtualNodes:
  - virtualNodeName: labels
    spec:
      listeners: [{portMapping: {port: PORT, protocol: http}}]
      serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
  - virtualServiceName: labels.small.local
    spec: {provider: {virtualNode: {virtualNodeName: labels}}}
"""


# --- the program is the user's ----------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 7])
def test_the_exit_status_is_the_programs(shell: Shell, status: int) -> None:
    """Whatever watches the command sees what it saw before."""
    assert shell.python(f"raise SystemExit({status})").status == status


def test_a_killed_program_shows_as_in_a_shell(shell: Shell) -> None:
    """A program that a signal ends has 128 and its number."""
    done = shell.python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert done.status == 128 + signal.SIGTERM


def test_output_is_the_programs_alone(shell: Shell) -> None:
    """Byte for byte on standard output; on standard error one line of ours comes after it."""
    code = CALL + "sys.stdout.write('out'); sys.stderr.write('err\\n'); print(sys.stdin.read())"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "meshml_dbx", "record", "--quiet", "--"),
            *(sys.executable, "-c", code, f"{shell.service.url}/kb"),
        ],
        cwd=shell.folder,
        env=plain_environment(),
        input="in",
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("outin\n", "err\n")


def test_a_signal_reaches_the_program(shell: Shell) -> None:
    """Who ends ``meshml`` ends the program; what it called before is kept, what was open too."""
    code = CALL + (
        "import signal, threading\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "r.urlopen(sys.argv[2])\n"
    )
    url = shell.service.url
    with shell.start(sys.executable, "-c", code, f"{url}/kb", f"{url}/never") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_for(lambda: shell.lines(_type="DownstreamStart", path="/never"), "the call's start")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err.splitlines()[-1]) == (5, "recorded; next: meshml why last")
    assert [call["path"] for call in shell.calls(code=200)] == ["/kb"]
    assert len(shell.calls(path="/never", flags="DC")) == 1


def test_a_program_that_is_killed_leaves_its_open_calls(shell: Shell) -> None:
    """After kill -9 the files are closed in its stead, and say what it was waiting for."""
    code = CALL + "print('ready', flush=True); r.urlopen(sys.argv[2])"
    url = shell.service.url
    with shell.start(sys.executable, "-c", code, f"{url}/kb", f"{url}/never") as process:
        wait_for(lambda: shell.lines(_type="DownstreamStart", path="/never"), "the call's start")
        facts = next((shell.folder / ".meshml" / "run").glob("*/sidecar.json"))
        os.kill(int(json.loads(facts.read_text())["pid"]), signal.SIGKILL)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (137, "recorded; next: meshml why last\n")
    (recorder,) = shell.recorders
    assert list((recorder / "live").glob("*.jsonl")) == []
    assert len(shell.lines(_type="Unfinished", path="/never")) == 1
    (end,) = shell.lines(_record="program", _type="end")
    assert (end["observer"], end["exit_code"]) == ("client", None)
    assert list((shell.folder / ".meshml" / "run").glob("[!.]*")) == []


# --- children ---------------------------------------------------------------------------------


def test_spawned_children_are_recorded_as_the_same_process(shell: Shell) -> None:
    """Their calls join the parent's runs; one that calls nothing leaves no folder."""
    shell.write("spawning.py", SPAWNING)
    done = shell.record("--", sys.executable, "spawning.py", f"{shell.service.url}/kb")
    assert (done.status, len(shell.calls())) == (0, 1), done.err
    assert len(shell.recorders) == 2
    assert len(processes(shell.lines())) == 1


def test_programs_that_it_starts_are_recorded_as_the_same_process(shell: Shell) -> None:
    """A Python that a Python starts, by whatever way, is recorded; one without calls is not."""
    code = (
        "import subprocess, sys\n"
        f"for code in ({CALL!r}, 'pass'):\n"
        "    subprocess.run([sys.executable, '-c', code, sys.argv[1]], check=True)\n"
    )
    done = shell.python(code, f"{shell.service.url}/kb")
    assert (done.status, len(shell.calls())) == (0, 1), done.err
    assert len(shell.recorders) == 2
    assert len(processes(shell.lines())) == 1


def test_a_shell_script_is_recorded_through_its_pythons(shell: Shell) -> None:
    """The command itself need be no Python."""
    script = shell.write("job.sh", f'{sys.executable} -c "$CODE" {shell.service.url}/kb')
    done = shell.record("--", "sh", script, variables={"CODE": CALL})
    assert (done.status, [call["client"] for call in shell.calls()]) == (0, ["job"]), done.err


def test_recorded_inside_recorded_is_one_process(shell: Shell) -> None:
    """The inner program keeps the outer's process, so that its calls join the outer's runs."""
    inner = [sys.executable, "-m", "meshml_dbx", "record", "--client", "inner", "--"]
    command = [*inner, sys.executable, "-c", CALL, f"{shell.service.url}/kb"]
    done = shell.python(f"import subprocess; subprocess.run({command!r}, check=True)")
    assert done.status == 0, done.err
    assert [call["client"] for call in shell.calls()] == ["inner"]
    assert len(processes(shell.lines())) == 1


# --- nothing is recorded ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("true",), (sys.executable, "-I", "-c", CALL, "URL"), (sys.executable, "-S", "-c", "pass")],
)
def test_what_cannot_be_recorded_is_told(shell: Shell, command: tuple[str, ...]) -> None:
    """It runs as it would, and the user learns why there is nothing to ask about."""
    words = [shell.service.url + "/kb" if word == "URL" else word for word in command]
    done = shell.record("--", *words)
    assert (done.status, shell.recorders) == (0, [])
    assert done.err.startswith("warning: nothing was recorded: is it a Python program")


def test_earlier_recordings_do_not_count(shell: Shell) -> None:
    """Only what this command recorded is called recorded."""
    shell.python("pass")
    assert shell.record("--", "true").err.startswith("warning: nothing was recorded")


def test_a_program_that_is_not_there(shell: Shell) -> None:
    """A typing error costs a message and leaves nothing behind."""
    done = shell.record("--", "no-such-program")
    assert (done.status, "there is no program 'no-such-program'" in done.err) == (3, True)
    assert list(shell.folder.iterdir()) == []


def test_a_python_without_the_package_is_refused(shell: Shell) -> None:
    """Better no run than one that turns out unrecorded hours later; what to do is said."""
    venv.create(shell.folder / "bare", with_pip=False, symlinks=True)
    done = shell.record("--", str(shell.folder / "bare" / "bin" / "python"), "-c", "pass")
    assert done.status == 3
    assert "meshml_dbx is not installed for" in done.err
    assert "next: install it there" in done.err


def test_a_python_without_the_package_below_a_script_goes_on(shell: Shell) -> None:
    """Found only when it starts: it says so, and runs."""
    venv.create(shell.folder / "bare", with_pip=False, symlinks=True)
    script = shell.write("job.sh", f"{shell.folder}/bare/bin/python -c 'print(7)'")
    done = shell.record("--", "sh", script)
    assert (done.status, done.out) == (0, "7\n")
    assert "meshml: not recorded: this Python has no meshml_dbx" in done.err


def test_a_state_folder_that_cannot_be(shell: Shell) -> None:
    """Said before the program starts."""
    shell.write("file", "")
    done = shell.record("--state", "file/below", "--", sys.executable, "-c", "print('ran')")
    assert (done.status, done.out) == (3, "")
    assert "cannot use the state folder file/below" in done.err


def test_a_log_folder_that_cannot_be_does_not_stop_the_program(shell: Shell) -> None:
    """It is the program that opens its log; when that fails it says so, and runs."""
    logs = shell.write("file", "")
    done = shell.record("--logs", logs, "--", sys.executable, "-c", "print('ran')")
    assert (done.status, done.out) == (0, "ran\n")
    assert "meshml: this program is not recorded" in done.err


# --- meshes ------------------------------------------------------------------------------------


def test_a_named_mesh_file_with_errors_is_refused(shell: Shell) -> None:
    """Who names a file wants its names; nothing is started without them."""
    shell.write("wrong.yml", "mesh: {meshNam: x}\n")
    done = shell.record("--mesh", "wrong.yml", "--", sys.executable, "-c", "print('ran')")
    assert (done.status, done.out) == (1, "")
    missing = shell.record("--mesh", "none.yml", "--", sys.executable, "-c", "print('ran')")
    assert (missing.status, missing.out) == (3, "")


def test_a_mesh_file_that_happens_to_lie_here_may_be_wrong(shell: Shell) -> None:
    """It is noted once, by ``meshml`` and not by the program, and its names go unused."""
    shell.write("mesh.yml", "mesh: {meshNam: x}\n")
    done = shell.python(CALL, f"{shell.service.url}/kb")
    assert (done.status, len(shell.calls())) == (0, 1)
    assert done.err.startswith("warning: mesh.yml is not used for names of services: ")
    assert done.err.count("mesh.yml is not used") == 1


# --- under a sidecar --------------------------------------------------------------------------


def test_under_a_sidecar_nothing_is_recorded_twice(shell: Shell) -> None:
    """The sidecar sees the calls already; the program runs, and the user is told once."""
    sidecar = {"MESHML_SIDECAR_ID": "job-12345678"}
    done = shell.python(CALL, f"{shell.service.url}/kb", variables=sidecar)
    assert (done.status, shell.recorders) == (0, [])
    assert done.err.count("runs under a sidecar, which records its calls already") == 1


def test_a_run_inside_a_recorded_program_is_left_to_its_sidecar(shell: Shell) -> None:
    """``meshml run`` empties the variable, so its program does not record itself as well."""
    code = (
        "import os, subprocess, sys\n"
        "own = {'MESHML_RECORD': '', 'MESHML_SIDECAR_ID': 'job-12345678'}\n"
        "done = subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]],\n"
        "                      env={**os.environ, **own}, check=True)\n"
    )
    done = shell.python(code, CALL, f"{shell.service.url}/kb")
    assert (done.status, len(shell.recorders), shell.calls()) == (0, 1, [])


def test_help_shows_what_to_type(shell: Shell) -> None:
    """Two examples, one of them the shortest there is."""
    done = shell.desk.meshml("record", "--help")
    assert "meshml record -- python train.py\n" in done.out
    assert "--client churn-training" in done.out


def test_without_a_program_the_question_has_an_example() -> None:
    """Wrong use, and what would be right."""
    done = subprocess.run(
        [sys.executable, "-m", "meshml_dbx", "record"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "meshml record -- python train.py" in done.stderr) == (2, True)


@pytest.mark.envoy
def test_a_real_run_inside_a_recorded_program_is_recorded_once(serving_mesh: SmallMesh) -> None:
    """Its calls are on the sidecar's lines alone; what ``meshml`` asks its Envoy is nobody's."""
    run = (sys.executable, "-m", "meshml_dbx", "run", "--client", "job", "--")
    program = (sys.executable, "-c", CALL, LABELS)
    before = set(serving_mesh.sidecars("job"))
    done = serving_mesh.meshml("record", "--client", "outer", "--", *run, *program)
    assert done.status == 0, done.err
    (job,) = set(serving_mesh.sidecars("job")) - before
    assert [call["observer"] for call in serving_mesh.calls(job)] == ["egress"]
    assert serving_mesh.sidecars("outer") == []
