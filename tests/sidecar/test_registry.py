"""Living and dead sidecars: who is asked, who is adopted, and what adoption saves."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from meshml_dbx.sidecar import adopt, living, request_close
from meshml_dbx.sidecar.unfinished import read_remains
from meshml_dbx.traffic.log_folder import SidecarLogs, StateFolder
from tests.sidecar.sidecar_lab import (
    Supervisor,
    Upstream,
    await_true,
    call,
    ends,
    logs_of,
    make_plan,
    port_of,
    records,
    supervisor,
)

ADOPT = """
import sys
from pathlib import Path
from meshml_dbx.sidecar import adopt
from meshml_dbx.traffic.log_folder import StateFolder
sys.stdin.readline()
state = Path(sys.argv[1])
print(len(adopt(StateFolder(root=state), state / "logs")))
"""


def line(kind: str, request: str, *, record: str = "call", path: str = "/a") -> str:
    """One line of Envoy's log."""
    values = {
        "_record": record,
        "_type": kind,
        "observer": "egress",
        "path": path,
        "request_id": request,
        "start_time": "2026-11-23T14:22:33.000001Z",
    }
    return json.dumps(values, separators=(",", ":")) + "\n"


@pytest.fixture
def dead(state: Path) -> SidecarLogs:
    """What a killed sidecar leaves: a run folder nobody holds, and live files."""
    logs = SidecarLogs(root=state / "logs", sidecar_id="labels-1")
    run = state / "run" / "labels-1"
    run.mkdir(parents=True)
    (run / "lock").touch()
    facts = {"logs": str(logs.root), "mesh": "ml", "observer": "egress", "process_id": "p"}
    (run / "sidecar.json").write_text(json.dumps(facts))
    logs.live.mkdir(parents=True)
    logs.access.write_text(line("DownstreamStart", "r1") + line("DownstreamEnd", "r1"))
    return logs


def adopt_all(state: Path) -> dict[str, int]:
    """Adopt, and how many calls each dead sidecar had left open."""
    found = adopt(StateFolder(root=state), state / "logs")
    return {one.sidecar_id: one.unfinished for one in found}


def test_a_dead_sidecars_files_are_closed(dead: SidecarLogs, state: Path) -> None:
    """Its lines are in closed files, its run folder is gone, and it has an end with a note."""
    assert adopt_all(state) == {"labels-1": 0}
    assert ends(dead) == {"/a": 1}
    (end,) = records(dead, "program", "end")
    assert (end["exit_code"], end["process_id"]) == (None, "p")
    assert "killed" in str(end["note"])
    assert not (state / "run" / "labels-1").exists()


def test_adopting_twice_does_nothing(dead: SidecarLogs, state: Path) -> None:
    """The second time there is nothing to adopt and no file changes."""
    adopt_all(state)
    before = {path.name: path.read_bytes() for path in dead.closed.iterdir()}
    assert adopt_all(state) == {}
    assert {path.name: path.read_bytes() for path in dead.closed.iterdir()} == before


def test_open_calls_get_one_line_each(dead: SidecarLogs, state: Path) -> None:
    """A call with a start, in whatever file, and no end gets the fields of its last line."""
    dead.closed.mkdir()
    earlier = dead.closed / "20261123T142200.000000Z-1.jsonl"
    earlier.write_text(line("DownstreamStart", "r2", path="/old") + line("DownstreamStart", "r3"))
    with dead.access.open("a") as file:
        file.write(line("DownstreamPeriodic", "r2", path="/new") + line("DownstreamEnd", "r3"))
        file.write(line("UpstreamEnd", "r4", record="attempt") + '{"_record":"call","_ty')
    assert adopt_all(state) == {"labels-1": 1}
    unfinished = [
        text
        for path in sorted(dead.closed.iterdir())
        for text in path.read_text().splitlines()
        if '"Unfinished"' in text
    ]
    assert [json.loads(text) for text in unfinished] == [
        json.loads(line("Unfinished", "r2", path="/new"))
    ]


def test_an_interrupted_adoption_is_done_again(dead: SidecarLogs, state: Path) -> None:
    """Killed after the unfinished lines but before the live files: nothing is told twice."""
    with dead.access.open("a") as file:
        file.write(line("DownstreamStart", "r2"))
    run = state / "run" / "labels-1"
    kept = state / "kept"
    shutil.copytree(run, kept)
    live = dead.access.read_text()
    assert adopt_all(state) == {"labels-1": 1}
    for path in dead.closed.iterdir():
        if "DownstreamStart" in path.read_text():
            path.unlink()
    shutil.copytree(kept, run)
    dead.access.write_text(live)
    assert adopt_all(state) == {"labels-1": 0}
    assert len(records(dead, "call", "Unfinished")) == 1
    assert len(records(dead, "program", "end")) == 1
    assert ends(dead) == {"/a": 1}


def test_a_folder_that_somebody_holds_is_left_alone(dead: SidecarLogs, state: Path) -> None:
    """The lock, not the process id, says whether a sidecar lives."""
    with (state / "run" / "labels-1" / "lock").open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert [one.sidecar_id for one in living(StateFolder(root=state))] == ["labels-1"]
        assert adopt_all(state) == {}
    assert living(StateFolder(root=state)) == ()
    assert dead.access.exists()


def test_a_sidecar_that_does_not_answer_is_named(dead: SidecarLogs, state: Path) -> None:
    """One that is stopped keeps ingest waiting no longer than told."""
    with (state / "run" / "labels-1" / "lock").open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        answers = request_close(StateFolder(root=state), timeout_s=0.2)
    assert (answers.answered, answers.silent) == ((), ("labels-1",))


def test_logs_without_a_run_folder_are_adopted_once_they_are_quiet(
    dead: SidecarLogs, state: Path
) -> None:
    """Copied from elsewhere, or the run folder removed by hand: closed when no more lines come."""
    shutil.rmtree(state / "run")
    assert adopt_all(state) == {}
    os.utime(dead.access, (time.time() - 60,) * 2)
    assert adopt_all(state) == {"labels-1": 0}
    assert ends(dead) == {"/a": 1}


def test_logs_whose_live_folder_is_held_are_left_alone(dead: SidecarLogs, state: Path) -> None:
    """A living sidecar whose run folder somebody removed is not adopted under its feet."""
    shutil.rmtree(state / "run")
    os.utime(dead.access, (time.time() - 60,) * 2)
    holder = os.open(dead.live, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert adopt_all(state) == {}
    os.close(holder)


def test_two_adopters_at_once_double_nothing(dead: SidecarLogs, state: Path) -> None:
    """Four processes adopt forty dead sidecars together: each is adopted by one of them."""
    for number in range(2, 41):
        name = f"labels-{number}"
        shutil.copytree(state / "run" / "labels-1", state / "run" / name)
        shutil.copytree(dead.folder, dead.root / name)
    adopters = [
        subprocess.Popen(
            [sys.executable, "-c", ADOPT, str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: one.communicate("go\n")[0], adopters))
    assert sum(int(answer) for answer in answers) == 40
    for folder in dead.root.iterdir():
        logs = SidecarLogs(root=dead.root, sidecar_id=folder.name)
        assert ends(logs) == {"/a": 1}
        assert len(records(logs, "program", "end")) == 1


def test_nothing_to_adopt_is_no_trouble(state: Path) -> None:
    """A state folder that does not exist has no sidecars."""
    assert adopt_all(state) == {}
    assert request_close(StateFolder(root=state)).answered == ()


def test_memory_is_bounded_by_open_calls(tmp_path: Path) -> None:
    """Of twenty thousand calls that ended, nothing is kept."""
    path = tmp_path / "calls.jsonl"
    with path.open("w") as file:
        for number in range(20_000):
            file.write(line("DownstreamStart", str(number)) + line("DownstreamEnd", str(number)))
        file.write(line("DownstreamStart", "open"))
    tracemalloc.start()
    remains = read_remains([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(remains.open_calls) == 1
    assert peak < 1_000_000


@pytest.mark.envoy
def test_a_call_that_is_in_flight_at_the_kill_is_unfinished(server: Upstream, state: Path) -> None:
    """The supervisor is killed while a call waits: adoption tells of that call, and of it alone."""
    plan = make_plan(state, server.port)
    with supervisor(state, plan) as started:
        call(port_of(plan), "/done")
        waiting = threading.Thread(target=call_and_fail, args=(port_of(plan), "/slow/30"))
        waiting.start()
        await_true(
            lambda: b"/slow/30" in logs_of(state, plan).access.read_bytes(),
            within_s=10,
            what="the call's first line",
        )
        kill_and_wait(started)
        waiting.join()
    assert adopt_all(state) == {plan.sidecar_id: 1}
    assert ends(logs_of(state, plan)) == {"/done": 1}
    (left,) = records(logs_of(state, plan), "call", "Unfinished")
    assert left["path"] == "/slow/30"


def call_and_fail(port: int, path: str) -> None:
    """A call whose connection will be cut."""
    with suppress(OSError):
        call(port, path)


def kill_and_wait(started: Supervisor) -> None:
    """Kill the supervisor; its Envoy holds the lock until it is dead too."""
    started.kill()
    await_true(
        lambda: not living(StateFolder(root=started.state)), within_s=2, what="the lock is free"
    )
