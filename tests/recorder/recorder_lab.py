"""What tests of the recorder's process side share: plans, programs that record, and what they left.

Goes in: a state folder. Comes out: processes of ``recorded_programs``, and decoded records.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from meshml_dbx.recorder import RecorderPlan
from meshml_dbx.recorder.recorder import Recorder

Record = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 550.0


def plan_in(state: Path, *, is_volume: bool = False) -> RecorderPlan:
    """Records into the state folder; a volume, where it is one, is beside it."""
    logs = state / ("volume" if is_volume else "logs")
    return RecorderPlan(
        logs=logs, run=state / "run", client="train", process_id="p1", refuses_appends=is_volume
    )


def run_recorded(name: str, state: Path, url: str, *more: object) -> tuple[int, list[str]]:
    """Run a program to its end: its exit status and the lines that it printed."""
    done = subprocess.run(
        _command(name, state, url, more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode not in (0, 3):
        sys.stderr.write(done.stderr)
    return done.returncode, done.stdout.splitlines()


@contextmanager
def running(name: str, state: Path, url: str) -> "Iterator[subprocess.Popen[str]]":
    """A program that lasts until the test ends it."""
    process = subprocess.Popen(
        _command(name, state, url, ()), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def _command(name: str, state: Path, url: str, more: tuple[object, ...]) -> list[str]:
    module = "tests.recorder.recorded_programs"
    return [sys.executable, "-m", module, name, str(state), url, *map(str, more)]


def records(logs: Path) -> dict[str, list[Record]]:
    """Every record of a log folder, live or finished, by recorder; each line must be whole."""
    return {
        folder.name: [
            json.loads(line)
            for path in sorted(folder.rglob("*.jsonl"), key=_age)
            for line in path.read_bytes().splitlines()
            if line
        ]
        for folder in sorted(logs.iterdir())
        if folder.is_dir()
    }


def _age(path: Path) -> tuple[bool, int]:
    number = path.stem.rpartition("-")[2]
    return path.parent.name != "closed", int(number) if number.isdigit() else 0


def all_records(logs: Path) -> list[Record]:
    """Those of all recorders."""
    return [one for found in records(logs).values() for one in found]


def paths(found: list[Record], kind: str) -> list[str]:
    """The paths of the call records of one type, as often as they were written."""
    return [r["path"] for r in found if r["_record"] == "call" and r["_type"] == kind]


def last_sample(found: list[Record]) -> Record:
    """What a recorder counted at its end."""
    return [r for r in found if r["_record"] == "sample"][-1]


def await_true(question: Callable[[], object], *, within_s: float = 10.0) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    while not question():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s} s")
        time.sleep(0.01)
    return time.monotonic() - began


def fetch(url: str) -> None:
    """One GET by urllib, read to its end."""
    with urlopen(url, timeout=60) as answer:  # noqa: S310  # a server of the test's
        answer.read()


def make_call(recorder: Recorder, path: str = "/v1", *, is_over: bool = True) -> None:
    """A call that a hook would have made."""
    call = recorder.begin("GET", "http", "labels.example.com", 80, path)
    if is_over:
        call.note_answered(200, "HTTP/1.1")
        recorder.finish(call)
