"""Recording in a process: begun once, undone without a trace, whoever ends it and when."""

import http.client
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
import urllib3

from meshml_dbx.errors import LogFolderError
from meshml_dbx.recorder import (
    Recording,
    active_recording,
    start_recording,
    stop_recording,
)
from meshml_dbx.sidecar import living
from meshml_dbx.traffic.log_folder import StateFolder
from tests.recorder.answering import AnsweringServer, answering
from tests.recorder.recorder_lab import (
    all_records,
    await_true,
    fetch,
    last_sample,
    paths,
    plan_in,
    records,
    run_recorded,
)

HOOKED = (
    HTTPConnection,
    HTTPSConnection,
    http.client.HTTPResponse,
    ssl.SSLContext,
    urllib3.connectionpool.HTTPConnectionPool,
    urllib3.connectionpool.HTTPSConnectionPool,
    urllib3.connection.HTTPConnection,
    urllib3.connection.HTTPSConnection,
    urllib3.response.HTTPResponse,
)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test does, the next one begins unrecorded."""
    yield
    stop_recording()


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    """Something to call."""
    with answering() as made:
        yield made


def call(server: AnsweringServer, path: str) -> None:
    """One GET, read to its end."""
    fetch(server.url + path)


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def ends(state: Path) -> list[str]:
    """The paths of the calls that were recorded to their end."""
    return paths(all_records(state / "logs"), "DownstreamEnd")


def face() -> tuple[object, ...]:
    """All that recording changes in a process."""
    methods = tuple(dict(vars(kind)) for kind in HOOKED)
    return methods, tuple(sys.meta_path), dict(os.environ)


def test_nothing_is_different_after_the_end(tmp_path: Path, server: AnsweringServer) -> None:
    """Every class, the import system and the environment hold the same objects as before."""
    before = face()
    with start_recording(plan_in(tmp_path)):
        assert face() != before
        call(server, "/kb")
    assert face() == before
    call(server, "/bytes/1")
    assert ends(tmp_path) == ["/kb"]


def test_nothing_is_different_after_a_begin_that_failed(tmp_path: Path) -> None:
    """The next one may work."""
    (tmp_path / "logs").write_text("no folder")
    before, threads = face(), threading.active_count()
    with pytest.raises(LogFolderError):
        start_recording(plan_in(tmp_path))
    assert face() == before
    assert active_recording() is None
    assert threading.active_count() == threads


def test_an_environment_that_was_set_is_set_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that somebody started may have inherited the names."""
    monkeypatch.setenv("MESHML_LOGS", "/somewhere")
    monkeypatch.delenv("MESHML_SIDECAR_ID", raising=False)
    with start_recording(plan_in(tmp_path)) as recording:
        assert os.environ["MESHML_LOGS"] == str(tmp_path / "logs")
        assert os.environ["MESHML_SIDECAR_ID"] == recording.sidecar_id
    assert os.environ["MESHML_LOGS"] == "/somewhere"
    assert "MESHML_SIDECAR_ID" not in os.environ


def test_who_begins_a_second_recording_gets_the_first(
    tmp_path: Path, server: AnsweringServer
) -> None:
    """One call is recorded once, wherever the second wanted to write."""
    first = start_recording(plan_in(tmp_path))
    assert start_recording(plan_in(tmp_path / "other")) is first
    call(server, "/kb")
    stop_recording()
    assert ends(tmp_path) == ["/kb"]
    assert not (tmp_path / "other").exists()


def test_a_block_ends_what_it_began(tmp_path: Path) -> None:
    """Nested blocks and further begins inside of it end nothing, and keep nothing going."""
    with start_recording(plan_in(tmp_path)) as outer:
        with start_recording(plan_in(tmp_path)) as inner:
            assert inner is outer
        assert outer.is_on
        start_recording(plan_in(tmp_path))
        assert outer.is_on
    assert not outer.is_on


def test_a_block_does_not_end_what_went_on_before(tmp_path: Path) -> None:
    """The cell of a notebook that records already."""
    recording = start_recording(plan_in(tmp_path))
    with start_recording(plan_in(tmp_path)):
        pass
    assert recording.is_on
    recording.stop()
    assert not recording.is_on


def test_a_block_that_fails_ends_with_its_own_error(tmp_path: Path) -> None:
    """And recording is over."""
    with pytest.raises(KeyError, match="mine"), start_recording(plan_in(tmp_path)):
        raise KeyError("mine")
    assert active_recording() is None


def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    """Also when somebody began another meanwhile."""
    first = start_recording(plan_in(tmp_path))
    first.stop()
    first.stop()
    second = start_recording(plan_in(tmp_path))
    first.stop()
    assert second.is_on
    assert first.sidecar_id != second.sidecar_id


def test_another_thread_may_end_it(tmp_path: Path, server: AnsweringServer) -> None:
    """And everything is written."""
    recording = start_recording(plan_in(tmp_path))
    call(server, "/kb")
    thread = threading.Thread(target=recording.stop)
    thread.start()
    thread.join(timeout=10)
    assert not recording.is_on
    assert ends(tmp_path) == ["/kb"]


def test_each_recording_has_a_folder_of_its_own(tmp_path: Path, server: AnsweringServer) -> None:
    """A second one goes on where the first one ended, in another folder of the same process."""
    for number in (1, 2):
        with start_recording(plan_in(tmp_path)):
            call(server, f"/bytes/{number}")
    found = records(tmp_path / "logs")
    shares = sorted(paths(some, "DownstreamEnd") for some in found.values())
    assert shares == [["/bytes/1"], ["/bytes/2"]]
    assert living(StateFolder(root=tmp_path)) == ()


def test_many_recordings_leave_nothing_open(tmp_path: Path, server: AnsweringServer) -> None:
    """No thread, no file, no hook."""
    with start_recording(plan_in(tmp_path)):
        call(server, "/kb")
    before = threading.active_count(), open_files(), face()
    for _ in range(50):
        with start_recording(plan_in(tmp_path)):
            call(server, "/kb")
    assert (threading.active_count(), open_files(), face()) == before
    assert len(ends(tmp_path)) == 51
    assert list((tmp_path / "run").iterdir()) == []


def test_a_lazy_recording_opens_its_folder_with_the_first_call(
    tmp_path: Path, server: AnsweringServer
) -> None:
    """A process that calls nothing leaves nothing."""
    with start_recording(plan_in(tmp_path), is_lazy=True):
        pass
    assert not (tmp_path / "logs").exists()
    with start_recording(plan_in(tmp_path), is_lazy=True):
        call(server, "/kb")
    assert ends(tmp_path) == ["/kb"]


def test_a_lazy_recording_that_cannot_write_lets_the_program_call(
    tmp_path: Path, server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, takes nothing more, and ends as ever."""
    (tmp_path / "logs").write_text("no folder")
    before = face()
    recording = start_recording(plan_in(tmp_path), is_lazy=True)
    for _ in range(3):
        call(server, "/kb")
    recording.stop()
    assert server.count("/kb") == 3
    assert len(caplog.records) == 1
    assert len(recording.recorder.queue) == 0
    assert face() == before


def test_asking_a_recording_that_is_over_does_nothing(
    tmp_path: Path, server: AnsweringServer
) -> None:
    """Its files stay finished."""
    recording = start_recording(plan_in(tmp_path))
    call(server, "/kb")
    recording.stop()
    before = all_records(tmp_path / "logs")
    recording.flush()
    recording.close_file()
    assert all_records(tmp_path / "logs") == before


def test_its_text_says_what_is_recorded_and_where(tmp_path: Path) -> None:
    """For the one line in a notebook."""
    recording = start_recording(plan_in(tmp_path))
    text = repr(recording)
    assert "'train'" in text
    assert "http.client" in text
    assert recording.sidecar_id in text
    recording.stop()
    assert "not recording" in repr(recording)


def test_threads_may_begin_and_end_it_at_will(tmp_path: Path, server: AnsweringServer) -> None:
    """Whoever comes first begins it, the last block ends it, and nothing is left of it."""
    before, troubles = face(), []

    def record_often() -> None:
        try:
            for _ in range(20):
                with start_recording(plan_in(tmp_path)):
                    call(server, "/kb")
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=record_often) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert troubles == []
    assert active_recording() is None
    assert face() == before
    assert server.count("/kb") == 120


def test_a_program_that_is_started_leaves_the_recording_alone(
    tmp_path: Path, server: AnsweringServer
) -> None:
    """Between its fork and its begin, Python runs what was asked for there."""
    with start_recording(plan_in(tmp_path)):
        subprocess.run([sys.executable, "-c", ""], check=True, preexec_fn=os.setsid)
        call(server, "/kb")
    assert ends(tmp_path) == ["/kb"]


def test_a_volume_has_the_calls_within_seconds(tmp_path: Path, server: AnsweringServer) -> None:
    """In whole files, while recording goes on; at the end nothing is left on the local disk."""
    with start_recording(plan_in(tmp_path, is_volume=True)) as recording:
        call(server, "/kb")
        waited = await_true(lambda: shipped_ends(tmp_path) == ["/kb"])
        scratch = Path(os.environ["MESHML_LOGS"])
        call(server, "/bytes/1")
    assert waited < 3.5
    assert shipped_ends(tmp_path) == ["/kb", "/bytes/1"]
    assert [one.name for one in (tmp_path / "volume").iterdir()] == [recording.sidecar_id]
    assert not scratch.parent.exists()


def shipped_ends(state: Path) -> list[str]:
    """The paths of the calls whose ends can be read in the volume."""
    return paths(all_records(state / "volume"), "DownstreamEnd")


def test_programs_that_are_started_reach_the_volume_too(
    tmp_path: Path, server: AnsweringServer
) -> None:
    """They find the local folder in their environment; who started them ships what they finish."""
    with start_recording(plan_in(tmp_path, is_volume=True)):
        local = Path(os.environ["MESHML_LOGS"])
        run_recorded("fork_one", local.parent, server.url)
    assert sorted(shipped_ends(tmp_path)) == ["/bytes/1", "/bytes/2", "/bytes/3"]
    assert not local.parent.exists()


def test_a_volume_that_was_lost_costs_no_call(
    tmp_path: Path, server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The program calls on, a warning is logged, and when it is back everything is there."""
    volume, away = tmp_path / "volume", tmp_path / "away"
    with start_recording(plan_in(tmp_path, is_volume=True)) as recording:
        call(server, "/bytes/1")
        volume.rename(away)
        volume.write_text("not a folder")
        call(server, "/bytes/2")
        recording.close_file()
        volume.unlink()
        away.rename(volume)
        call(server, "/bytes/3")
    assert [one.getMessage() for one in caplog.records] == [
        "meshml: the log cannot be kept: NotADirectoryError: Not a directory"
    ]
    assert shipped_ends(tmp_path) == ["/bytes/1", "/bytes/2", "/bytes/3"]
    assert last_sample(all_records(volume))["dropped"] == 0


def test_a_volume_that_stays_lost_leaves_the_calls_on_the_local_disk(
    tmp_path: Path, server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says where they are."""
    recording = start_recording(plan_in(tmp_path, is_volume=True))
    call(server, "/kb")
    scratch = Path(os.environ["MESHML_LOGS"])
    (tmp_path / "volume").rename(tmp_path / "away")
    (tmp_path / "volume").write_text("not a folder")
    recording.stop()
    (said,) = [one.getMessage() for one in caplog.records]
    assert str(scratch) in said
    assert paths(all_records(scratch), "DownstreamEnd") == ["/kb"]
    shutil.rmtree(scratch.parent)


def test_threads_that_call_do_not_notice_its_end(tmp_path: Path, server: AnsweringServer) -> None:
    """Eight of them, while recordings begin and end; each call is told of at most once."""
    over, troubles = threading.Event(), []

    def keep_calling() -> None:
        pool = urllib3.PoolManager()
        try:
            while not over.is_set():
                assert pool.request("GET", f"{server.url}/kb").status == 200
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=keep_calling) for _ in range(8)]
    for thread in threads:
        thread.start()
    recordings: list[Recording] = []
    for _ in range(10):
        recordings.append(start_recording(plan_in(tmp_path)))
        over.wait(0.1)
        recordings[-1].stop()
    over.set()
    for thread in threads:
        thread.join(timeout=30)
    assert troubles == []
    for name, found in records(tmp_path / "logs").items():
        sample = last_sample(found)
        ended, left = paths(found, "DownstreamEnd"), paths(found, "Unfinished")
        assert len(ended) == sample["requests_total"] - sample["requests_active"], name
        assert len(left) == sample["requests_active"], name
        assert len(ended) > 0


def test_no_call_of_eight_threads_is_lost(tmp_path: Path, server: AnsweringServer) -> None:
    """The service counts them."""

    def call_often(number: int) -> None:
        pool = urllib3.PoolManager()
        for _ in range(50):
            pool.request("GET", f"{server.url}/bytes/{number}")

    threads = [threading.Thread(target=call_often, args=(number,)) for number in range(1, 9)]
    with start_recording(plan_in(tmp_path)) as recording:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert recording.calls == server.counts.total() == 400
    assert sorted(ends(tmp_path)) == sorted(f"/bytes/{n}" for n in range(1, 9) for _ in range(50))
