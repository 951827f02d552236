"""The writer: lines of what goes on, counts that add up, and disks that fail without harm."""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshml_dbx.recorder.folder import LogKeeper
from meshml_dbx.recorder.recorder import Recorder
from meshml_dbx.recorder.writer import Writer
from meshml_dbx.sidecar import request_close
from meshml_dbx.traffic.log_folder import StateFolder
from tests.recorder.answering import answering
from tests.recorder.recorder_lab import (
    Record,
    all_records,
    await_true,
    last_sample,
    make_call,
    paths,
    plan_in,
    run_recorded,
)


class Desk:
    """A recorder with its writer, without any library's hooks."""

    def __init__(self, state: Path, *, most_queued: int = 50_000) -> None:
        self.recorder = Recorder(most_queued=most_queued)
        self.recorder.needs_writer = False
        plan = plan_in(state)
        self.keeper = LogKeeper(plan)
        self.writer = Writer(self.recorder, plan, self.keeper)
        self.writer.start()

    def stop(self) -> None:
        """As ``Recording.stop`` does."""
        self.writer.stop(self.recorder.close())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk that is left in order, whatever the test did."""
    made = Desk(tmp_path)
    yield made
    made.stop()


def lines(state: Path) -> list[Record]:
    """All that was written."""
    return all_records(state / "logs")


def test_what_was_called_can_be_read_after_a_flush(tmp_path: Path, desk: Desk) -> None:
    """Without waiting for the writer's next round."""
    make_call(desk.recorder)
    desk.writer.flush()
    assert paths(lines(tmp_path), "DownstreamEnd") == ["/v1"]


def test_what_was_called_is_in_a_finished_file_when_it_is_closed(
    tmp_path: Path, desk: Desk
) -> None:
    """And nothing is left in the live folder."""
    make_call(desk.recorder)
    desk.writer.close_file()
    assert paths(lines(tmp_path), "DownstreamEnd") == ["/v1"]
    assert not desk.keeper.logs.access.exists()


def test_a_long_call_is_told_of_each_second(tmp_path: Path, desk: Desk) -> None:
    """Its duration grows; a short one has a start and an end only."""
    make_call(desk.recorder, "/long", is_over=False)
    make_call(desk.recorder, "/short")
    await_true(lambda: len(paths(lines(tmp_path), "DownstreamPeriodic")) >= 2)
    found = lines(tmp_path)
    going_on = [one for one in found if one["_type"] == "DownstreamPeriodic"]
    lasted = [one["duration_ms"] for one in going_on]
    assert {one["path"] for one in going_on} == {"/long"}
    assert 900 <= lasted[0] < lasted[1] < 4_000
    assert paths(found, "DownstreamStart") == ["/long", "/short"]


def test_samples_come_each_second_while_something_goes_on(tmp_path: Path, desk: Desk) -> None:
    """And hardly any while nothing does."""
    time.sleep(1.5)
    quiet = [one for one in lines(tmp_path) if one["_record"] == "sample"]
    make_call(desk.recorder, is_over=False)
    time.sleep(2.5)
    busy = [one for one in lines(tmp_path) if one["_record"] == "sample"]
    assert len(quiet) == 1
    assert 2 <= len(busy) - len(quiet) <= 4
    assert (busy[-1]["requests_total"], busy[-1]["requests_active"]) == (1, 1)


def test_a_request_to_close_is_answered_soon(tmp_path: Path, desk: Desk) -> None:
    """What was called before it is in finished files."""
    make_call(desk.recorder)
    began = time.monotonic()
    answers = request_close(StateFolder(root=tmp_path))
    assert answers.answered == (desk.keeper.sidecar_id,)
    assert time.monotonic() - began < 1.0
    assert not desk.keeper.logs.access.exists()
    assert paths(lines(tmp_path), "DownstreamEnd") == ["/v1"]


def test_calls_that_nobody_ended_are_told_of_at_the_end(tmp_path: Path, desk: Desk) -> None:
    """They count as active in the last sample, and their ends are not awaited."""
    make_call(desk.recorder, "/done")
    call = desk.recorder.begin("GET", "http", "a.example.com", 80, "/left")
    desk.stop()
    desk.recorder.finish(call)
    make_call(desk.recorder, "/after")
    found = lines(tmp_path)
    assert paths(found, "Unfinished") == ["/left"]
    assert paths(found, "DownstreamEnd") == ["/done"]
    sample = last_sample(found)
    assert (sample["requests_total"], sample["requests_active"], sample["dropped"]) == (2, 1, 0)


def test_a_writer_that_has_stopped_writes_nothing_more(tmp_path: Path, desk: Desk) -> None:
    """Whatever it is asked for, its folder stays as it is."""
    desk.stop()
    before = lines(tmp_path)
    desk.writer.flush()
    desk.writer.close_file()
    desk.writer.stop()
    assert lines(tmp_path) == before


def test_what_the_queue_cannot_hold_is_counted(tmp_path: Path) -> None:
    """Lines of begins are given up first; rows and dropped calls are all that began."""
    desk = Desk(tmp_path, most_queued=100)
    for _ in range(5_000):
        make_call(desk.recorder)
    desk.stop()
    found = lines(tmp_path)
    sample, ends = last_sample(found), paths(found, "DownstreamEnd")
    assert sample["dropped"] > 0
    assert len(ends) + sample["dropped"] == sample["requests_total"] == 5_000
    assert len(paths(found, "DownstreamStart")) < len(ends)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns a thousand times as often, so that races are seen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_every_sample_adds_up(tmp_path: Path, desk: Desk) -> None:
    """What it counts as finished is in the file before it, while others call."""
    over = threading.Event()

    def keep_calling() -> None:
        while not over.is_set():
            make_call(desk.recorder)
            time.sleep(0)

    threads = [threading.Thread(target=keep_calling) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        time.sleep(0.005)
        desk.writer.flush()
    over.set()
    for thread in threads:
        thread.join(timeout=10)
    ended, samples = 0, 0
    for one in lines(tmp_path):
        ended += one["_type"] == "DownstreamEnd"
        if one["_record"] == "sample":
            samples += 1
            assert one["requests_total"] - one["requests_active"] == ended
    assert samples > 20


def test_a_writer_that_cannot_keep_up_still_answers(tmp_path: Path) -> None:
    """While calls come faster than they can be written, files are finished and counts told."""
    desk, over = Desk(tmp_path, most_queued=2_000), threading.Event()

    def keep_calling() -> None:
        while not over.is_set():
            make_call(desk.recorder)

    threads = [threading.Thread(target=keep_calling) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        answers = request_close(StateFolder(root=tmp_path))
        await_true(lambda: [one for one in lines_of_closed(tmp_path) if one["_record"] == "sample"])
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=10)
        desk.stop()
    found = lines(tmp_path)
    sample = last_sample(found)
    assert answers.silent == ()
    assert sample["dropped"] > 0
    assert len(paths(found, "DownstreamEnd")) + sample["dropped"] == sample["requests_total"]


def lines_of_closed(state: Path) -> list[Record]:
    """Those of finished files."""
    files = (state / "logs").glob("*/closed/*.jsonl")
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def test_one_line_that_cannot_be_made_costs_one_call(
    tmp_path: Path, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, said once, and the others are written."""
    make_call(desk.recorder, "/before")
    for _ in range(2):
        broken = desk.recorder.begin("GET", "http", "a.example.com", 80, "/broken")
        broken.sending_ns = "never"  # type: ignore[assignment]  # what no hook should note
        desk.recorder.finish(broken)
    make_call(desk.recorder, "/after")
    desk.stop()
    found = lines(tmp_path)
    assert paths(found, "DownstreamEnd") == ["/before", "/after"]
    assert last_sample(found)["dropped"] == 2
    assert [one.levelno for one in caplog.records] == [logging.WARNING]


def test_a_full_disk_harms_nobody(tmp_path: Path) -> None:
    """Each call is a whole line or counted; a line that broke off stands alone."""
    with answering() as server:
        status, (calls,) = run_recorded("fill_disk", tmp_path, server.url)
        asked = server.counts.total()
    broken, found = _whole_lines(tmp_path)
    ends = paths(found, "DownstreamEnd")
    dropped = last_sample(found)["dropped"]
    assert (status, asked, int(calls)) == (0, 80, 80)
    assert broken == 1
    assert dropped > 0
    assert len(ends) + dropped == 80
    assert ends[-20:] == [f"/bytes/{number}" for number in range(1, 21)]


def _whole_lines(state: Path) -> tuple[int, list[Record]]:
    broken, found = 0, []
    for path in sorted((state / "logs").rglob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                broken += 1
    return broken, found


def test_a_removed_folder_harms_nobody(
    tmp_path: Path, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be finished or written is said once each; recording ends as ever."""
    make_call(desk.recorder)
    desk.writer.flush()
    desk.keeper.logs.folder.rename(tmp_path / "elsewhere")
    desk.writer.close_file()
    for _ in range(3):
        make_call(desk.recorder)
        desk.writer.flush()
    desk.stop()
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == len(set(said)) == 2
    assert not (tmp_path / "run" / desk.keeper.sidecar_id).exists()


def test_calls_may_end_while_others_begin_in_the_same_thread(desk: Desk) -> None:
    """A finaliser or a signal's handler ends one inside of the recorder's lock."""
    with desk.recorder.lock:
        make_call(desk.recorder)
        make_call(desk.recorder, is_over=False)
    assert (desk.recorder.counts.begun, len(desk.recorder.open)) == (2, 1)


def test_finalisers_that_end_calls_hang_nothing(tmp_path: Path, desk: Desk) -> None:
    """Answers that nobody reads end when they are collected, wherever that happens."""

    class Answer:
        """Ends its call when it goes away; part of a cycle, so whenever Python likes."""

        def __init__(self) -> None:
            self.call = desk.recorder.begin("GET", "http", "a.example.com", 80, "/v1")
            self.itself = self

        def __del__(self) -> None:
            desk.recorder.finish(self.call)

    def call_often() -> None:
        for _ in range(2_000):
            Answer()

    threads = [threading.Thread(target=call_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    desk.stop()
    found = lines(tmp_path)
    told = len(paths(found, "DownstreamEnd")) + len(paths(found, "Unfinished"))
    assert told == last_sample(found)["requests_total"] == 8_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Many calls leave no more behind than few."""
    measure(tmp_path, calls=50_000)


@pytest.mark.soak
def test_memory_stays_flat_for_a_million_calls(tmp_path: Path) -> None:
    """The same for a day's work."""
    measure(tmp_path, calls=1_000_000)


def measure(state: Path, *, calls: int) -> None:
    """Resident memory grows by less than 8 MiB, and no call is dropped."""
    with answering() as server:
        status, (grown, dropped) = run_recorded("measure_memory", state, server.url, calls)
    assert status == 0
    assert int(dropped) == 0
    assert int(grown) < 8 << 20


def test_a_warning_holds_no_address(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The text of an error may: it says what it is and where it was met."""
    desk.recorder.begin("GET", "http", "a.example.com", 80, 7)  # type: ignore[arg-type]  # as a broken hook would
    try:
        raise ValueError("http://a.example.com/?token=secret")
    except ValueError as error:
        desk.recorder.warn("a thing", error)
    assert [one.getMessage().split(" in ")[0] for one in caplog.records] == [
        "meshml: a call is not recorded: AttributeError",
        "meshml: a thing: ValueError",
    ]
    assert "secret" not in caplog.text
