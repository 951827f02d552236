"""Forked, pooled and spawned processes: a folder each, no call lost, none told twice."""

import os
import signal
from pathlib import Path

import pytest

from meshml_dbx.sidecar import adopt, living
from meshml_dbx.traffic.log_folder import StateFolder
from tests.recorder.answering import answering
from tests.recorder.recorder_lab import (
    all_records,
    await_true,
    paths,
    records,
    run_recorded,
    running,
)

NUMBERS = [f"/bytes/{number}" for number in range(1, 21)]


@pytest.mark.parametrize(
    ("program", "folders", "called"),
    [
        ("fork_one", 2, 3),
        ("fork_twice", 3, 3),
        ("fork_process", 3, 3),
        ("fork_executor", 3, 20),
        ("spawn_executor", 2, 4),
    ],
)
def test_each_process_that_calls_has_a_folder_of_its_own(
    tmp_path: Path, program: str, folders: int, called: int
) -> None:
    """All calls are there once, all of one process id, and every folder is finished."""
    with answering() as server:
        status, _ = run_recorded(program, tmp_path, server.url)
    found = records(tmp_path / "logs")
    everything = [one for some in found.values() for one in some]
    assert status == 0
    assert sorted(paths(everything, "DownstreamEnd")) == sorted(NUMBERS[:called])
    assert sorted(paths(everything, "DownstreamStart")) == sorted(NUMBERS[:called])
    assert {one["process_id"] for one in everything} == {"p1"}
    assert len(found) == folders
    assert all(some[-1]["_record"] == "program" for some in found.values())
    assert not living(StateFolder(root=tmp_path))


def test_the_parents_folder_holds_only_its_own_calls(tmp_path: Path) -> None:
    """A child writes nothing into the folder that was opened before the fork."""
    with answering() as server:
        run_recorded("fork_one", tmp_path, server.url)
    shares = sorted(paths(some, "DownstreamEnd") for some in records(tmp_path / "logs").values())
    assert shares == [["/bytes/1", "/bytes/3"], ["/bytes/2"]]


@pytest.mark.parametrize("program", ["fork_pool", "spawn_pool"])
def test_a_pool_that_kills_its_workers_loses_no_call(tmp_path: Path, program: str) -> None:
    """Each call is written when it ends; who is killed is adopted, with nothing left open."""
    with answering() as server:
        status, _ = run_recorded(program, tmp_path, server.url)
    adopt(StateFolder(root=tmp_path), tmp_path / "logs")
    found = all_records(tmp_path / "logs")
    assert status == 0
    assert sorted(paths(found, "DownstreamEnd")) == sorted(NUMBERS)
    assert paths(found, "Unfinished") == []


def test_a_pool_that_kills_its_workers_loses_no_call_on_a_volume(tmp_path: Path) -> None:
    """The process that forked them ships what they left on the local disk."""
    with answering() as server:
        status, _ = run_recorded("volume_pool", tmp_path, server.url)
    found = all_records(tmp_path / "logs")
    assert status == 0
    assert sorted(paths(found, "DownstreamEnd")) == sorted(NUMBERS)


def test_an_idle_child_does_not_keep_its_dead_parent_alive(tmp_path: Path) -> None:
    """The locks that say "I live" die with the parent, though a child inherited its files."""
    state = StateFolder(root=tmp_path)
    with answering() as server, running("leave_idle_child", tmp_path, server.url) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert len(living(state)) == 1
        parent.kill()
        parent.wait(timeout=10)
        try:
            os.kill(child, 0)
            await_true(lambda: living(state) == ())
            assert len(adopt(state, tmp_path / "logs")) == 1
        finally:
            os.kill(child, signal.SIGKILL)
    assert paths(all_records(tmp_path / "logs"), "DownstreamEnd") == ["/bytes/1"]


def test_a_fork_brings_no_warning_and_the_writer_goes_on(tmp_path: Path) -> None:
    """Python 3.12 warns of forks in processes with threads; the recorder's is none of them."""
    status, _ = run_recorded("fork_strictly", tmp_path, "http://nobody")
    assert status == 0
    assert paths(all_records(tmp_path / "logs"), "DownstreamEnd") == ["/after"]


def fork_often(state: Path, forks: int) -> None:
    """Fork while four threads call and the writer writes; every call of everyone is told of.

    Threads that do nothing but begin and end calls may outrun the writer: such calls are counted.
    """
    status, (calls,) = run_recorded("fork_while_calling", state, "http://nobody", forks)
    told = list(records(state / "logs").values())
    found = [paths(some, "DownstreamEnd") for some in told]
    assert status == 0
    assert [some for some in found if "/child" in some] == [["/child"]] * forks
    (busy,) = [n for n, some in enumerate(found) if "/busy" in some]
    (last,) = [one for one in told[busy] if (one["_record"], one["_type"]) == ("sample", "last")]
    assert len(found[busy]) + last["dropped"] == last["requests_total"] == int(calls)


def test_forks_while_others_call_neither_hang_nor_lose(tmp_path: Path) -> None:
    """A fork may come while a thread begins a call, or the writer is inside of its lock."""
    fork_often(tmp_path, 30)


@pytest.mark.soak
def test_many_forks_while_others_call(tmp_path: Path) -> None:
    """The same, two hundred times."""
    fork_often(tmp_path, 200)
