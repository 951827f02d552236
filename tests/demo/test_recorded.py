"""The recording answers like the demo, with nothing but the base install."""

import json
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

from meshml_dbx.demo.recorded import ARCHIVE, LIMIT, RUNS_FILE, unpack_recording

NOT_BASE = ("pyspark", "delta", "mlflow", "pandas", "sklearn", "requests", "envoy", "pyarrow")
BASE_ONLY = f"""
import sys
for name in {NOT_BASE!r}:
    sys.modules[name] = None
from meshml_dbx.cli import main
main()
"""


def play(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`meshml demo --recorded` where only the base install can be imported."""
    command = [sys.executable, "-c", BASE_ONLY, "demo", "--recorded", "--dir", "demo", *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PATH": "/nowhere"}
    )


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The recording's answer as JSON."""
    done = play(tmp_path_factory.mktemp("recorded"), "--json")
    assert done.returncode == 0, done.stderr
    loaded: dict[str, object] = json.loads(done.stdout)
    return loaded


def test_the_recorded_fault_is_named(answer: dict[str, object]) -> None:
    """The recording is of the default fault, a slow version of the label API."""
    culprits = answer["culprits"]
    assert isinstance(culprits, list)
    first = culprits[0]
    assert (first["cause"], first["target"]) == ("slow_upstream", "labels-v2")


def test_the_recording_lost_nothing(answer: dict[str, object]) -> None:
    """Every call that the program counted is in the recording."""
    ledger = answer["ledger"]
    assert isinstance(ledger, dict)
    assert (ledger["lost"], ledger["sent"]) == (0, ledger["rows"])


def test_the_text_ends_with_a_command_that_works(tmp_path: Path) -> None:
    """What `next:` prints can be pasted."""
    done = play(tmp_path)
    command = done.stdout.split("next: ")[1].splitlines()[0].split()
    again = subprocess.run(
        [sys.executable, "-m", "meshml_dbx", *command[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (again.returncode, "labels-v2" in again.stdout) == (0, True)


def test_the_page_is_written_once_and_stands_alone(tmp_path: Path) -> None:
    """The report is one file that loads nothing."""
    play(tmp_path)
    page = (tmp_path / "demo" / "recorded" / "report.html").read_text(encoding="utf-8")
    assert "labels-v2" in page
    assert len(page.encode()) <= 1_000_000


def test_the_archive_is_small_and_names_no_machine(tmp_path: Path) -> None:
    """At most 300 kB in the wheel, and no path or host of where it was made."""
    packed = files("meshml_dbx.demo").joinpath(ARCHIVE)
    assert len(packed.read_bytes()) <= LIMIT
    state = unpack_recording(tmp_path).state
    logs = sorted((state / "logs").rglob("*.jsonl"))
    text = b"".join(path.read_bytes() for path in (state / RUNS_FILE, *logs))
    assert [word for word in (b"/tmp/", b"/root", b"/home") if word in text] == []


def test_the_archive_holds_logs_and_runs_only() -> None:
    """Nothing of the trust store, the run folder or the lake is packed."""
    stream = files("meshml_dbx.demo").joinpath(ARCHIVE).open("rb")
    with stream, tarfile.open(fileobj=stream, mode="r:xz") as archive:
        names = archive.getnames()
    assert [n for n in names if n != RUNS_FILE and not n.startswith("logs/")] == []
