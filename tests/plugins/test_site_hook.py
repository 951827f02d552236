"""The site hook in real Pythons: who else's start-up code runs, and what is left of ours."""

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from meshml_dbx.in_process import KnownHosts, program_environment
from meshml_dbx.settings import read_settings
from tests.desk import plain_environment

TELL_PATH = "import json, sys; print(json.dumps(sys.path))"
RECORDING = (
    "from meshml_dbx.recorder import active_recording; print(active_recording() is not None)"
)


def run_python(
    folder: Path, *words: str, python: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A Python program in a folder, with no variables of ours but these."""
    return subprocess.run(
        [python, *words],
        cwd=folder,
        env=plain_environment() | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def hooked(folder: Path, *others: str, is_on: bool = True) -> dict[str, str]:
    """The variables by which ``meshml record`` starts a program in that folder."""
    settings = read_settings({}, state=folder / ".meshml")
    before = {"PYTHONPATH": os.pathsep.join(others)}
    made = program_environment(settings, None, KnownHosts(), [sys.executable], before)
    return made if is_on else made | {"MESHML_RECORD": ""}


def write_startup(folder: Path, text: str, *, name: str = "sitecustomize") -> str:
    """A folder with a start-up file in it."""
    (folder / f"{name}.py").write_text(text)
    return str(folder)


def test_it_begins_a_recording_and_says_nothing(tmp_path: Path) -> None:
    """The program finds itself recorded, and its output is its own."""
    done = run_python(tmp_path, "-c", RECORDING, **hooked(tmp_path))
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_without_the_variable_it_does_nothing(tmp_path: Path) -> None:
    """The folder alone on somebody's path records nothing, and imports nothing of ours."""
    code = "import sys; print([name for name in sys.modules if name.startswith('meshml')])"
    done = run_python(tmp_path, "-c", code, **hooked(tmp_path, is_on=False))
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("[]\n", "", [])


@pytest.mark.parametrize("others", [(), ("",), ("", ""), ("", "a"), ("a", "", "b"), ("b", "b/")])
def test_the_programs_path_is_what_it_would_be(tmp_path: Path, others: tuple[str, ...]) -> None:
    """No trace of our folder, and empty entries mean what they mean to Python."""
    plain = {"PYTHONPATH": os.pathsep.join(others)} if others else {}
    expected = run_python(tmp_path, "-c", TELL_PATH, **plain)
    done = run_python(tmp_path, "-c", TELL_PATH, **hooked(tmp_path, *others))
    assert (done.stdout, done.stderr) == (expected.stdout, "")


def test_the_users_own_startup_code_runs_as_before(tmp_path: Path) -> None:
    """It is hidden by ours, so ours runs it: with the usual path, and before the recording."""
    text = f"import sys\n{TELL_PATH}\n{RECORDING}\nvalue = 7\nprint(__name__, __file__)"
    other = write_startup(tmp_path, text)
    plain = run_python(tmp_path, "-c", "pass", PYTHONPATH=other)
    code = f"import sitecustomize; print(sitecustomize.value); {RECORDING}"
    done = run_python(tmp_path, "-c", code, **hooked(tmp_path, other))
    assert (done.stdout, done.stderr) == (plain.stdout + "7\nTrue\n", "")
    assert plain.stdout.splitlines()[1:] == ["False", f"sitecustomize {tmp_path}/sitecustomize.py"]


@pytest.mark.parametrize(
    "text",
    [
        "raise ValueError('theirs')",
        "import no_such_module",
        "raise ImportError('theirs')",
        "def broken(",
    ],
)
def test_startup_code_that_fails_fails_as_before(tmp_path: Path, text: str) -> None:
    """Python's own message, word for word; the program runs, and is recorded."""
    other = write_startup(tmp_path, text)
    plain = run_python(tmp_path, "-c", "print(1)", PYTHONPATH=other)
    done = run_python(tmp_path, "-c", f"print(1); {RECORDING}", **hooked(tmp_path, other))
    assert (plain.stdout, done.stdout) == ("1\n", "1\nTrue\n")
    assert done.stderr == plain.stderr
    assert plain.stderr != ""


def test_usercustomize_is_left_alone(tmp_path: Path) -> None:
    """Python runs it after ours, where it runs it at all: outside virtual environments."""
    base = getattr(sys, "_base_executable", sys.executable)
    other = write_startup(tmp_path, "print('theirs')", name="usercustomize")
    packages = [other, str(Path(__file__).parents[2]), *site.getsitepackages()]
    plain = run_python(tmp_path, "-c", "pass", python=base, PYTHONPATH=other)
    variables = hooked(tmp_path, *packages)
    done = run_python(tmp_path, "-c", RECORDING, python=base, **variables)
    assert (done.stdout, done.stderr) == (plain.stdout + "True\n", "")
    assert plain.stdout == "theirs\n"


def test_a_python_without_the_package_says_so(tmp_path: Path) -> None:
    """Whatever else starts below a recorded program goes on."""
    base = getattr(sys, "_base_executable", sys.executable)
    done = run_python(tmp_path, "-c", "print(7)", python=base, **hooked(tmp_path))
    told = "meshml: not recorded: this Python has no meshml_dbx\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", told)


def test_a_recording_that_cannot_begin_is_told(tmp_path: Path) -> None:
    """Why, and what to do; the program runs."""
    (tmp_path / ".meshml").write_text("")
    done = run_python(tmp_path, "-c", "print(7)", **hooked(tmp_path))
    assert (done.returncode, done.stdout) == (0, "7\n")
    assert done.stderr.startswith("meshml: this program is not recorded: cannot use the state")
    assert "next: " in done.stderr


def test_an_interrupt_while_it_starts_ends_the_program(tmp_path: Path) -> None:
    """What start-up code raises to end Python is not swallowed."""
    other = write_startup(tmp_path, "raise SystemExit(5)")
    plain = run_python(tmp_path, "-c", "print(1)", PYTHONPATH=other)
    done = run_python(tmp_path, "-c", "print(1)", **hooked(tmp_path, other))
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout)


@pytest.mark.parametrize(
    ("name", "is_recorded"), [("meshml", "False"), ("train", "True"), ("meshml.py", "True")]
)
def test_our_own_command_is_no_program(tmp_path: Path, name: str, is_recorded: str) -> None:
    """``meshml run`` in a recorded script asks its Envoy much, which no run waits for."""
    (tmp_path / name).write_text(RECORDING)
    done = run_python(tmp_path, name, "-m", "meshml_dbx", **hooked(tmp_path))
    assert (done.stdout.strip(), done.stderr) == (is_recorded, "")


def test_our_own_module_is_no_program(tmp_path: Path) -> None:
    """However it is started."""
    done = run_python(tmp_path, "-u", "-m", "meshml_dbx", "--version", **hooked(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])


# --- what a recorded program starts -------------------------------------------------------------

CHILD = """
import sys
before = "meshml_dbx" in sys.modules
import http.client
from meshml_dbx.recorder import active_recording
print(before, active_recording() is not None, type(http.client.__loader__).__name__)
print(http.client.__spec__.loader is http.client.__loader__)
print([type(one).__name__ for one in sys.meta_path if "site" in type(one).__module__])
"""


def test_a_child_is_recorded_from_its_first_http_library_on(tmp_path: Path) -> None:
    """Before, nothing of ours is imported; afterwards nobody sees that we waited for it."""
    variables = hooked(tmp_path) | {"MESHML_SIDECAR_ID": "job-12345678"}
    done = run_python(tmp_path, "-c", CHILD, **variables)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["False True SourceFileLoader", "True", "[]"]


def test_a_child_that_calls_nothing_leaves_nothing(tmp_path: Path) -> None:
    """Neither a folder, nor modules of ours, nor a word."""
    variables = hooked(tmp_path) | {"MESHML_SIDECAR_ID": "job-12345678"}
    code = "import sys, json, email; print([n for n in sys.modules if n.startswith('meshml')])"
    done = run_python(tmp_path, "-c", code, **variables)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("[]\n", "", [])


def test_a_child_whose_startup_code_came_first_is_recorded(tmp_path: Path) -> None:
    """Where an HTTP library is there already, there is nothing to wait for."""
    other = write_startup(tmp_path, "import http.client")
    variables = hooked(tmp_path, other) | {"MESHML_SIDECAR_ID": "job-12345678"}
    done = run_python(tmp_path, "-c", RECORDING, **variables)
    assert (done.stdout, done.stderr) == ("True\n", "")
