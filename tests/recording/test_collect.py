"""Records out of lines: what is kept of a call at each stage of its life."""

import io
import sys
import tarfile
from importlib.resources import files
from pathlib import Path
from types import FrameType

import orjson
import pytest

from meshml_dbx.recording.collect import Collector, Records, read_records
from meshml_dbx.recording.columns import Joined, columns_of, header_stage, row_of
from meshml_dbx.recording.read import Block
from meshml_dbx.traffic.access_log import call_of
from meshml_dbx.traffic.evidence import CallColumns
from tests.log_writing import SECOND, T0, Writer
from tests.traffic.real_lines import CLIENT_CALL, EGRESS_CALL

ODD: tuple[dict[str, object], ...] = (
    {},
    {"code": "503", "attempts": 1e5, "bytes_in": "-"},
    {"total_us": None, "duration_ms": 7},
    {"total_us": None, "duration_ms": None},
    {"target": "-", "flags": "URX,UF", "stage": "scoring"},
    {"method": None, "path": None, "request_id": None},
    {"code": True, "route": 7},
    {"attempt": None},
    {"attempt": "-"},
    {"attempt": 1e3},
)
OF_CLIENT: tuple[dict[str, object], ...] = (
    {},
    {"resource": None, "thread": None},
    {"spark_stage": 4, "spark_partition": 0, "spark_attempt": 1},
    {"resource": "77", "attempt": 3},
)


def records_of(tmp_path: Path, *lines: bytes) -> Records:
    """What is made of these lines in one closed file."""
    writer = Writer(logs=tmp_path)
    writer.close(*lines)
    return read_records(writer.folder)


@pytest.mark.parametrize(("observer", "odd"), [("egress", ODD), ("client", (*ODD, *OF_CLIENT))])
def test_rows_make_the_same_columns_as_calls(
    tmp_path: Path, observer: str, odd: tuple[dict[str, object], ...]
) -> None:
    """The short way to columns and the way by ``Call`` agree, on odd lines too."""
    writer = Writer(logs=tmp_path, observer=observer)
    values = [orjson.loads(writer.call(99 - n, **over)) for n, over in enumerate(odd)]
    rows = [row_of(value) for value in values]
    short = columns_of(Joined(row, "process", header_stage(row)) for row in rows)
    calls = [call_of(value) for value in values]
    assert short == CallColumns.of(calls, ["process"] * len(calls))


def demo_calls() -> list[dict[str, object]]:
    """The callers' finished calls in the recording of the demo: lines that Envoy wrote."""
    packed = files("meshml_dbx.demo").joinpath("recording.tar.xz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
        logs = [archive.extractfile(one) for one in archive if one.name.endswith(".jsonl")]
        lines = [orjson.loads(line) for log in logs if log for line in log]
    ends = [line for line in lines if line["_type"] == "DownstreamEnd"]
    return [c for c in ends if c["observer"] == "egress" and c["method"] != "CONNECT"]


def test_every_call_of_the_demo_takes_the_short_way() -> None:
    """What a proxy and what a process writes makes a row without a call, which takes longer."""
    lines = [*demo_calls(), dict(EGRESS_CALL), dict(CLIENT_CALL)]
    used = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            used.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        rows = [row_of(values) for values in lines]
    finally:
        sys.setprofile(None)
    assert (used.count("row_of"), used.count("call_of")) == (len(rows), 0)
    assert len(rows) > 800


@pytest.mark.parametrize("value", [{}, "many", 2**70])
@pytest.mark.parametrize("key", ["code", "attempt", "resource", "spark_stage"])
def test_a_bad_number_anywhere_makes_a_bad_line(tmp_path: Path, key: str, value: object) -> None:
    """Also one that evidence has no column for, or that came from a header."""
    writer = Writer(logs=tmp_path, observer="client")
    records = records_of(tmp_path, writer.call(1, **{key: value}))
    assert [bad.reason.split(":")[0] for bad in records.bad_lines] in (
        [["not a number"], ["not a number of 64 bits"]]
    )
    assert records.rows == []


def test_a_line_of_another_version_lacks_fields_and_still_is_a_row(tmp_path: Path) -> None:
    """A field that the writer did not know is unknown, not an error."""
    values = orjson.loads(Writer(logs=tmp_path).call(1))
    del values["tls_us"], values["origin"]
    columns = columns_of([Joined(row_of(values), "process", None)])
    assert (columns.numbers["tls_us"][0], columns.texts["origin"][0]) == (-1, None)


def test_no_call_makes_empty_columns() -> None:
    """A run without calls has every column, with nothing in it."""
    assert columns_of([]) == CallColumns.of([])


def test_a_call_without_an_end_is_in_flight_as_its_last_line_has_it(tmp_path: Path) -> None:
    """Of start and periodic lines the latest counts, and the end takes the call out."""
    writer = Writer(logs=tmp_path)
    periodic = writer.call(1, "DownstreamPeriodic", duration_ms=2000, total_us=None)
    records = records_of(
        tmp_path, writer.start(1), periodic, writer.start(2), writer.call(2), writer.start(3)
    )
    found = [(call.request_id, call.type, call.duration_us) for call in records.in_flight]
    assert found == [
        ("req-00000001", "DownstreamPeriodic", 2_000_000),
        ("req-00000003", "DownstreamStart", 0),
    ]


@pytest.mark.parametrize(
    ("kind", "second", "dropped", "in_flight"),
    [
        ("periodic", 9, 1, 1),
        ("last", 2, 1, 0),
        ("periodic", 9, 0, 2),
        ("last", 2, 0, 2),
        ("periodic", 2, 1, 2),
    ],
)
def test_a_call_whose_end_was_dropped_is_not_in_flight(
    tmp_path: Path, kind: str, second: int, dropped: int, in_flight: int
) -> None:
    """A recorder tells every second of a call in flight; where it dropped ends, silence is one."""
    writer = Writer(logs=tmp_path, observer="client")
    lasting = writer.call(2, "DownstreamPeriodic", duration_ms=second * 1000, total_us=None)
    records = records_of(
        tmp_path,
        writer.start(1),
        lasting,
        writer.call(3, "Unfinished", total_us=None),
        writer.sample(T0 + second * SECOND, kind=kind, dropped=dropped),
    )
    assert [call.type for call in records.in_flight].count("Unfinished") == 1
    assert len(records.in_flight) - 1 == in_flight


def test_an_adopted_call_is_unfinished_unless_its_end_is_somewhere(tmp_path: Path) -> None:
    """Unfinished lines beat start lines, and an end beats both, in any order of files."""
    writer = Writer(logs=tmp_path)
    records = records_of(
        tmp_path,
        writer.call(1, "Unfinished"),
        writer.start(1),
        writer.call(2),
        writer.call(2, "Unfinished"),
    )
    assert [(c.request_id, c.type) for c in records.in_flight] == [("req-00000001", "Unfinished")]


def test_a_call_that_stands_in_two_files_counts_once(tmp_path: Path) -> None:
    """Request id, start, observer and sidecar are the key of a call."""
    writer = Writer(logs=tmp_path)
    records = records_of(tmp_path, writer.call(1), writer.call(1), writer.call(2))
    assert (len(records.rows), records.finished) == (2, 2)


def test_attempts_are_kept_only_of_calls_tried_more_than_once(tmp_path: Path) -> None:
    """Also of one still in flight, and when the call's end comes before its last attempt's."""
    writer = Writer(logs=tmp_path)
    records = records_of(
        tmp_path,
        *(writer.attempt(1, 1), writer.call(1)),
        *(writer.attempt(2, 1), writer.call(2, attempts=2), writer.attempt(2, 2)),
        *(writer.attempt(3, 1), writer.call(3, "DownstreamPeriodic", attempts=2)),
        writer.attempt(4, 1),
    )
    found = sorted((a.request_id, a.attempt) for a in records.attempts)
    assert found == [("req-00000002", 1), ("req-00000002", 2), ("req-00000003", 1)]


def test_a_request_id_that_is_used_again_starts_afresh(tmp_path: Path) -> None:
    """The attempt of a call that went well is not one of a later call with the same id."""
    writer = Writer(logs=tmp_path)
    again = "req-00000001"
    records = records_of(
        tmp_path,
        *(writer.attempt(1, 1), writer.call(1)),
        *(writer.attempt(n, n, request_id=again) for n in (2, 3)),
        writer.call(2, request_id=again, attempts=2),
    )
    assert [attempt.attempt for attempt in records.attempts] == [2, 3]


@pytest.mark.parametrize("first", ["retried", "plain"])
def test_calls_that_share_a_request_id_keep_their_own_attempts(tmp_path: Path, first: str) -> None:
    """Services pass the id on: whichever of two calls in flight ends first, no attempt is lost."""
    writer = Writer(logs=tmp_path)
    shared: dict[str, object] = {"request_id": "shared", "connection_id": 1}
    other = shared | {"connection_id": 2}
    ends = {
        "retried": writer.call(1, attempts=2, **shared),
        "plain": writer.call(2, **other),
    }
    records = records_of(
        tmp_path,
        *(writer.attempt(1, n, **shared) for n in (1, 2)),
        writer.attempt(2, 7, **other),
        ends.pop(first),
        *ends.values(),
    )
    assert [attempt.attempt for attempt in records.attempts] == [1, 2]


def test_a_plain_call_leaves_the_attempts_of_an_earlier_one(tmp_path: Path) -> None:
    """The same id on the same connection: first a call that was tried again, then one that not."""
    writer = Writer(logs=tmp_path)
    shared: dict[str, object] = {"request_id": "shared", "connection_id": 1}
    records = records_of(
        tmp_path,
        *(writer.attempt(1, n, **shared) for n in (1, 2)),
        writer.call(1, attempts=2, **shared),
        *(writer.attempt(100, 1, **shared), writer.call(100, **shared)),
    )
    assert [attempt.attempt for attempt in records.attempts] == [1, 2]


def test_a_tunnel_is_not_a_call(tmp_path: Path) -> None:
    """https through the proxy has its own list, finished or not, and is no row."""
    writer = Writer(logs=tmp_path)
    records = records_of(
        tmp_path, writer.call(1, method="CONNECT"), writer.start(2, method="CONNECT")
    )
    assert [call.type for call in records.tunnels] == ["DownstreamEnd", "DownstreamStart"]
    assert (records.rows, records.in_flight) == ([], [])


def test_the_called_side_is_counted_but_no_row(tmp_path: Path) -> None:
    """Waits are the caller's: an ingress line is only a finished call of its sidecar."""
    writer = Writer(logs=tmp_path, observer="ingress")
    records = records_of(tmp_path, writer.start(1), writer.call(1), writer.start(2))
    assert (records.rows, records.in_flight, records.finished) == ([], [], 1)


def test_only_refused_connections_are_kept(tmp_path: Path) -> None:
    """A connection line without a failure is ordinary."""
    writer = Writer(logs=tmp_path)
    records = records_of(tmp_path, writer.refused(T0), writer.refused(T0, failure=None))
    assert [connection.failure for connection in records.connections] == ["TLS_error: no cert"]


def test_a_stage_is_a_begin_and_perhaps_an_end(tmp_path: Path) -> None:
    """An end gives the count; without one the stage lasts; an end alone is nothing."""
    writer = Writer(logs=tmp_path)
    records = records_of(
        tmp_path,
        writer.stage("end", "a", T0 + 5, sent=112),
        writer.stage("begin", "a", T0),
        writer.stage("begin", "b", T0 + 1),
        writer.stage("end", "c", T0 + 2),
    )
    found = [(stage.stage_id, stage.end_time, stage.sent) for stage in records.stages]
    assert found == [("a", T0 + 5, 112), ("b", None, None)]


@pytest.mark.parametrize("spaced", [False, True], ids=["Envoy's lines", "lines with blanks"])
def test_skimming_finds_what_reading_finds_of_seldom_lines(tmp_path: Path, spaced: bool) -> None:  # noqa: FBT001  # pytest hands parameters over so
    """Skimmed files lose only single calls: counts, refusals, stages and meshes are the same."""
    writer = Writer(logs=tmp_path)
    lines = b"".join(
        (
            *(writer.start(1), writer.call(1), writer.call(2), writer.refused(T0)),
            *(writer.mesh("v1", "mesh: {}"), writer.stage("begin", "a", T0), writer.sample(T0)),
        )
    )
    block = Block(file=tmp_path, offset=0, data=lines.replace(b'":', b'": ') if spaced else lines)
    read, skimmed = Collector(sidecar_id="a-1"), Collector(sidecar_id="a-1")
    read.read(block)
    skimmed.skim(block)
    one, other = read.records(), skimmed.records()
    assert (len(one.rows), len(other.rows)) == (2, 0)
    for name in ("finished", "connections", "meshes", "stages", "samples", "bad_lines"):
        assert getattr(one, name) == getattr(other, name)
