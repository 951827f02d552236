"""Closing live files: nothing is lost, doubled, cut or given a name twice."""

import fcntl
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshml_dbx.logs.files import files_in_order, live_files, next_number
from meshml_dbx.sidecar import request_close
from meshml_dbx.sidecar.admin import Admin
from meshml_dbx.sidecar.closing import close_files
from meshml_dbx.sidecar.sampling import read_counters
from meshml_dbx.traffic.log_folder import SidecarLogs, StateFolder
from tests.sidecar.sidecar_lab import (
    Upstream,
    call,
    ends,
    load,
    logs_of,
    make_plan,
    port_of,
    records,
    supervisor,
)

NOW = datetime(2026, 11, 23, 14, 22, 33, 123456, tzinfo=UTC)


@pytest.fixture
def logs(tmp_path: Path) -> SidecarLogs:
    """A sidecar's empty log folder."""
    made = SidecarLogs(root=tmp_path, sidecar_id="labels-1")
    made.live.mkdir(parents=True)
    return made


def names(folder: Path) -> list[str]:
    """What a folder shows."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def test_a_closed_file_is_named_by_time_and_number(logs: SidecarLogs) -> None:
    """Each live file becomes a file of its own, numbered on; what it was called is kept aside."""
    for path in (logs.access, logs.events, logs.stages(7)):
        path.write_text("{}\n")
    closed = close_files(logs, now=NOW)
    assert [one.origin for one in closed] == ["access.jsonl", "events.jsonl", "stages-7.jsonl"]
    assert names(logs.closed) == [f"20261123T142233.123456Z-{n}.jsonl" for n in (1, 2, 3)]
    assert names(logs.live) == []


def test_numbers_go_on_from_what_is_there(logs: SidecarLogs) -> None:
    """A second closing, by whatever process, gives no number twice."""
    for expected in (1, 2, 3):
        assert next_number(logs) == expected
        logs.events.write_text("{}\n")
        close_files(logs, now=NOW)


def test_empty_files_stay(logs: SidecarLogs) -> None:
    """There is nothing to ingest in them, and closing again does nothing."""
    logs.access.touch()
    assert close_files(logs, now=NOW) == ()
    assert names(logs.live) == ["access.jsonl"]


def test_what_is_not_ours_stays(logs: SidecarLogs) -> None:
    """A user's file in the folder is neither moved nor touched."""
    (logs.live / "notes.txt").write_text("mine")
    logs.access.write_text("{}\n")
    close_files(logs, now=NOW)
    assert names(logs.live) == ["notes.txt"]


def test_half_a_line_is_kept_as_it_is(logs: SidecarLogs) -> None:
    """What a killed process left is evidence: quarantine reports it, closing does not mend it."""
    logs.access.write_bytes(b'{"a":1}\n{"b"')
    (closed,) = close_files(logs, now=NOW)
    assert closed.path.read_bytes() == b'{"a":1}\n{"b"'


def test_a_closing_that_was_interrupted_is_finished(logs: SidecarLogs) -> None:
    """A file that was renamed but not yet moved is moved by the next closing, with its number."""
    (logs.live / "closing-4.jsonl").write_text("{}\n")
    logs.access.write_text("{}\n")
    close_files(logs, now=NOW)
    assert [path.name.rpartition("-")[2] for path in files_in_order(logs)] == ["4.jsonl", "5.jsonl"]


def test_files_are_read_in_the_order_of_their_numbers(logs: SidecarLogs) -> None:
    """Number 10 comes after number 9, and what is live comes last."""
    logs.closed.mkdir()
    for number in (10, 9, 2):
        (logs.closed / f"20261123T142233.123456Z-{number}.jsonl").write_text("{}\n")
    logs.access.write_text("{}\n")
    (logs.live / "closing-11.jsonl").write_text("{}\n")
    found = [path.name.rpartition("-")[2] for path in files_in_order(logs)]
    assert found == ["2.jsonl", "9.jsonl", "10.jsonl", "11.jsonl", "access.jsonl"]


def test_a_program_that_is_writing_is_waited_for(logs: SidecarLogs) -> None:
    """Stages are appended under a lock; a file is not renamed while somebody holds it."""
    logs.stages(7).write_text("{}\n")
    hold = (
        "import fcntl, sys, time\n"
        f"lock = open({str(logs.live / '.lock')!r}, 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(0.5)\n"
        f"open({str(logs.stages(7))!r}, 'a').write('{{}}\\n')\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "held\n"
    (closed,) = close_files(logs, now=NOW)
    writer.communicate()
    assert closed.path.read_text() == "{}\n{}\n"


def test_a_writer_that_never_lets_go_delays_only_its_own_file(logs: SidecarLogs) -> None:
    """A program that was stopped inside its write must not keep the proxy's lines from closing."""
    logs.stages(7).write_text("{}\n")
    logs.access.write_text("{}\n")
    with (logs.live / ".lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert [one.origin for one in close_files(logs, now=NOW)] == ["access.jsonl"]
    assert [one.origin for one in close_files(logs, now=NOW)] == ["stages-7.jsonl"]


def test_an_envoy_that_does_not_answer_keeps_its_file_live(logs: SidecarLogs) -> None:
    """It may still write there: its file is closed at the next call, the others at once."""
    logs.access.write_text("{}\n")
    logs.events.write_text("{}\n")
    mute = Admin(logs.folder / "nobody", timeout_s=0.1)
    assert [one.origin for one in close_files(logs, now=NOW, admin=mute)] == ["events.jsonl"]
    assert names(logs.live) == ["closing-1.jsonl"]
    (late,) = close_files(logs, now=NOW)
    assert late.is_access
    assert live_files(logs) == ()


@pytest.mark.envoy
def test_closing_under_load_loses_and_doubles_nothing(server: Upstream, state: Path) -> None:
    """Ten requests to close while four threads call: every answered call has one end line, no line
    is cut, and no file grows after it was closed."""
    plan = make_plan(state, server.port)
    logs = logs_of(state, plan)
    sizes: dict[Path, int] = {}
    with supervisor(state, plan) as started:
        with load(port_of(plan)) as calls:
            for _ in range(10):
                time.sleep(0.1)
                before = set(calls.answered)
                assert request_close(StateFolder(root=state)).silent == ()
                assert before <= set(ends(logs))
                sizes |= {path: path.stat().st_size for path in logs.closed.iterdir()}
        counted = read_counters(Admin(started.folder)).requests_total
        started.stop()
    found = ends(logs)
    assert all(path.stat().st_size == size for path, size in sizes.items())
    assert set(calls.answered) <= set(found)
    assert (max(found.values()), sum(found.values())) == (1, counted)
    assert all(path.read_bytes().endswith(b"\n") for path in logs.closed.iterdir())


@pytest.mark.envoy
def test_an_idle_envoy_lets_go_at_once(server: Upstream, state: Path) -> None:
    """With nothing to write Envoy still opens its log again, so a request is answered quickly, and
    a second one finds nothing to close."""
    plan = make_plan(state, server.port)
    logs = logs_of(state, plan)
    with supervisor(state, plan):
        call(port_of(plan), "/one")
        time.sleep(0.5)
        begun = time.monotonic()
        assert request_close(StateFolder(root=state)).answered == (plan.sidecar_id,)
        assert time.monotonic() - begun < 2
        assert ends(logs) == {"/one": 1}
        calls_closed = len(records(logs, "call"))
        assert request_close(StateFolder(root=state)).answered == (plan.sidecar_id,)
        assert len(records(logs, "call")) == calls_closed


@pytest.mark.envoy
def test_stopping_under_load_counts_what_is_logged(server: Upstream, state: Path) -> None:
    """Stopped while calls come in: the last sample's counter is the number of end lines."""
    plan = make_plan(state, server.port)
    logs = logs_of(state, plan)
    with supervisor(state, plan) as started, load(port_of(plan)):
        time.sleep(0.5)
        assert started.stop() == 0
    (last,) = records(logs, "sample", "last")
    assert last["requests_total"] == sum(ends(logs).values())
