"""The lines of a call: what each of them says, and what can be said of texts that are none."""

import json
import time
from pathlib import Path

import orjson
import pytest

from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.lines import LineMaker
from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.recorder.recorder import END, Recorder
from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    FIELDS,
    attempt_of,
    call_of,
    micros_of,
    time_text,
)
from tests.recorder.recorder_lab import Record

MOST_US = 80.0
"""What a call may cost before the test says no; on a quiet machine it is a quarter of that."""


@pytest.fixture
def maker() -> LineMaker:
    """Makes lines of a recorder."""
    plan = RecorderPlan(logs=Path("logs"), client="train", process_id="p1", environment="local")
    return LineMaker(plan, "train-1a2b3c4d")


@pytest.fixture
def call() -> OpenCall:
    """A call that has just begun."""
    recorder = Recorder()
    return recorder.begin("GET", "https", "labels.example.com", 443, "/v1/x?token=secret")


def told(line: bytes) -> Record:
    """The one record of a line."""
    assert line.endswith(b"}\n")
    found: Record = json.loads(line)
    return found


def test_the_end_line_has_every_field_of_a_call(maker: LineMaker, call: OpenCall) -> None:
    """As a sidecar's; what is not known is null."""
    call.note_sending()
    call.note_sent()
    call.note_answered(200, "HTTP/1.1")
    call.note_body_ended(1024)
    call.end(None)
    found = told(maker.end(call))
    assert set(found) == {"_record", *(field.json_key() for field in FIELDS)}
    assert list(found)[:1] == ["_record"]
    read = call_of(found)
    assert (read.code, read.bytes_out, read.path) == (200, 1024, "/v1/x")
    assert read.total_us is not None
    assert read.first_byte_us is not None


def test_all_lines_of_a_call_agree_on_its_begin(maker: LineMaker, call: OpenCall) -> None:
    """Readers join them by what each says of the begin."""
    start, now = told(maker.start(call)), time.perf_counter_ns()
    going_on, left = told(maker.periodic(call, now)), told(maker.unfinished(call, now))
    call.end(TimeoutError())
    end = told(maker.end(call))
    types = [one["_type"] for one in (start, going_on, left, end)]
    assert types == ["DownstreamStart", "DownstreamPeriodic", "Unfinished", "DownstreamEnd"]
    for key in ("request_id", "start_time", "resource", "thread", "virtual_service", "observer"):
        assert len({one[key] for one in (start, going_on, left, end)}) == 1


def test_tries_have_lines_of_their_own(maker: LineMaker, call: OpenCall) -> None:
    """Each with its number, before the line of the call."""
    call.note_answered(503, "HTTP/1.1")
    call.begin_next_try()
    call.note_answered(200, "HTTP/1.1")
    call.end(None)
    *tries, whole = [json.loads(line) for line in maker.end(call).splitlines()]
    keys = {"_record", *(field.json_key() for field in ATTEMPT_FIELDS)}
    assert [(one.attempt, one.code) for one in map(attempt_of, tries)] == [(1, 503), (2, 200)]
    assert all(set(one) == keys for one in tries)
    assert (whole["attempts"], whole["code"]) == (2, 200)


def test_no_line_holds_a_query(maker: LineMaker, call: OpenCall) -> None:
    """Its values may be secrets."""
    lines = maker.start(call) + maker.periodic(call, 0)
    call.end(None)
    assert b"secret" not in lines + maker.end(call)


def test_texts_that_are_no_unicode_are_written_with_marks(maker: LineMaker) -> None:
    """Half of a surrogate pair, as file names have them, is no reason to lose a call."""
    call = OpenCall(1, "GET", "a.example.com", "/caf\udce9")
    call.bytes_out = 7
    call.end(None)
    assert orjson.loads(maker.start(call))["path"] == "/caf?"
    found = orjson.loads(maker.end(call))
    assert (found["path"], found["bytes_out"]) == ("/caf?", 7)


@pytest.mark.parametrize("micros", [0, 1, 999_999, 1795410522566797, 1795410522000007])
def test_a_time_is_read_as_it_was_written(micros: int) -> None:
    """To the microsecond."""
    assert micros_of(time_text(micros)) == micros


def test_a_call_costs_microseconds(maker: LineMaker) -> None:
    """Begin, marks, end and both lines: CPU of this process, whatever else runs here."""
    recorder = Recorder(most_queued=1_000_000)
    calls = 5_000
    began = time.process_time_ns()
    for number in range(calls):
        one = recorder.begin("GET", "https", "a.example.com", 443, f"/v1/{number % 50}?id={number}")
        one.note_sending()
        one.note_sent()
        one.note_answered(200, "HTTP/1.1")
        one.note_body_ended(1024)
        recorder.finish(one)
    for kind, one in recorder.queue:
        assert maker.end(one) if kind == END else maker.start(one)
    assert (time.process_time_ns() - began) / calls / 1_000 < MOST_US
