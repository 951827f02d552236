"""Every line of a closed file ends in exactly one place, once, however often ingest is run."""

import json
from pathlib import Path

import pytest
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.tables import BATCH, FOREIGN, TABLES
from meshml_dbx.traffic.access_log import call_of
from meshml_dbx.traffic.call import Call
from tests.lake.conftest import Lab
from tests.lake.writing import NOON, SECOND, LogWriter, encoded

pytestmark = pytest.mark.spark

KEPT = ("calls", "tunnels", "unfinished_calls", "attempts", "connections", "run_stages")


def one_of_each(writer: LogWriter, count: int = 1) -> None:
    """Lines of every kind, so many calls among them."""
    writer.program("begin", NOON)
    writer.mesh(NOON)
    for number in range(count):
        writer.started(NOON + number * SECOND, request_id=f"r{number}")
        writer.call(NOON + number * SECOND, request_id=f"r{number}")
    writer.attempt(NOON, "r0")
    writer.connection(NOON, failure="TLS_error:|268435581:SSL routines")
    writer.stage("begin", NOON, "training")
    writer.stage("end", NOON + 9 * SECOND, "training", sent=count)
    writer.call(NOON, method="CONNECT", authority="pypi.example:443", path=None)
    writer.unfinished(NOON, request_id="stuck")
    writer.sample(NOON + SECOND, requests_total=count + 1, cpu_us=5)


def test_each_kind_goes_to_its_table(lab: Lab) -> None:
    """A line of each kind is one row of its table, and none is in quarantine."""
    writer = lab.writer()
    one_of_each(writer, count=3)
    lines, size = len(writer.lines), len(encoded(writer.lines))
    writer.close()
    report = lab.ingest()
    found = {name: lab.count(name) for name in (*KEPT, "samples", "programs", "mesh_versions")}
    assert found == {
        "calls": 3,
        "tunnels": 1,
        "unfinished_calls": 1,
        "attempts": 1,
        "connections": 1,
        "run_stages": 2,
        "samples": 1,
        "programs": 1,
        "mesh_versions": 1,
    }
    assert (report.lines, report.bytes, report.progress) == (lines, size, 3)
    assert (report.quarantined, lab.count("quarantine")) == (0, 0)


def test_a_row_has_the_values_of_the_word(lab: Lab) -> None:
    """A row of calls is what the words' own parser makes of the line, column by column."""
    writer = lab.writer()
    writer.call(NOON, path="/v1/labels/17?x", flags="UF,URX", pool_ready_ms=4, run_id="-")
    writer.call(NOON + 1, total_us=None, duration_ms=7, code=None)
    words = [call_of(json.loads(line)) for line in writer.lines]
    writer.close()
    lab.ingest()
    rows = lab.table("calls").orderBy("start_time")
    of_others = [name for name, _ in (*FOREIGN, *BATCH)]
    columns = [n for n in rows.columns if n not in ("duration_us", "event_date", *of_others)]
    times = rows.withColumn("start_time", F.unix_micros("start_time"))
    found = [Call(type="DownstreamEnd", **row.asDict()) for row in times.select(columns).collect()]
    assert found == words
    assert [tuple(row) for row in rows.select(of_others).collect()] == [(None, None, None, 1)] * 2
    assert [row["duration_us"] for row in rows.collect()] == [word.duration_us for word in words]
    assert [str(row["event_date"]) for row in rows.collect()] == ["2026-11-22", "2026-11-22"]


def test_the_second_run_does_nothing(lab: Lab) -> None:
    """Ingesting again without new files changes no table."""
    writer = lab.writer()
    one_of_each(writer)
    writer.close()
    lab.ingest()
    before = {name: lab.values(name, *lab.table(name).columns) for name in TABLES}
    report = lab.ingest()
    after = {name: lab.values(name, *lab.table(name).columns) for name in TABLES}
    assert (report.lines, after) == (0, before)


def test_files_that_come_later_are_taken_then(lab: Lab) -> None:
    """Files of a known and of a new sidecar that close between two ingests are added once."""
    first, second = lab.writer(), lab.writer(sidecar_id="churn-00000002")
    first.call(NOON, request_id="a")
    first.close()
    lab.ingest()
    first.call(NOON + 1, request_id="b")
    first.close()
    second.call(NOON + 2, request_id="c")
    second.close()
    assert lab.ingest().files == 2
    assert lab.values("calls", "request_id") == [("a",), ("b",), ("c",)]


def test_a_new_checkpoint_doubles_nothing(lab: Lab) -> None:
    """A file is taken in once per lake: with a checkpoint of another name, it is known still."""
    writer = lab.writer()
    one_of_each(writer, count=2)
    writer.close()
    lab.ingest()
    writer.call(NOON + 5, request_id="later")
    writer.close()
    assert lab.ingest(checkpoint="another").files == 1
    assert lab.count("calls") == 3


def test_several_batches_take_in_everything(lab: Lab) -> None:
    """With fewer files to a batch than there are, all are taken in, each in one batch."""
    for number in range(5):
        writer = lab.writer(sidecar_id=f"churn-{number:08x}")
        writer.call(NOON + number, request_id=f"r{number}")
        writer.mesh(NOON)
        writer.close()
    report = lab.ingest(files_per_batch=2)
    begun = lab.table("log_files").where("state = 'begun'")
    assert (report.files, lab.count("calls"), lab.count("mesh_versions")) == (5, 5, 1)
    assert begun.select("batch").distinct().count() == 3


def test_an_old_file_of_a_dead_sidecar_is_taken(lab: Lab) -> None:
    """A file whose lines are weeks older than what was read before is not passed over."""
    import os

    writer, dead = lab.writer(), lab.writer(sidecar_id="churn-0000dead")
    writer.call(NOON, request_id="young")
    writer.close()
    lab.ingest()
    dead.call(NOON - 30 * 86_400 * SECOND, request_id="old")
    path = dead.close()
    os.utime(path, (1_000_000_000, 1_000_000_000))
    lab.ingest()
    assert lab.values("calls", "request_id") == [("old",), ("young",)]


def test_a_folder_of_any_name_is_read(lab: Lab) -> None:
    """A log folder whose name has blanks, brackets, signs and letters beyond ASCII is read."""
    logs = lab.root / "my [logs] {a,b} 100%20 é"
    writer = LogWriter(logs=logs)
    writer.call(NOON)
    writer.close(extra=b"noise\n")
    from meshml_dbx.lake.ingest import ingest

    ingest(lab.spark, lab.names, logs=str(logs), checkpoint=str(lab.root / "checkpoint"))
    assert (lab.count("calls"), lab.count("quarantine")) == (1, 1)


def test_an_empty_log_folder_is_no_error(lab: Lab) -> None:
    """Where nothing was closed yet, nothing is taken in and nothing is started."""
    assert lab.ingest().files == 0
    assert not (lab.root / "checkpoint").exists()


def test_keys_in_another_order_are_read(lab: Lab) -> None:
    """A line that another writer made, with its keys in another order, is known for what it is."""
    writer = lab.writer()
    writer.call(NOON, request_id="first")
    values = json.loads(writer.lines[0])
    turned = dict(sorted({**values, "request_id": "turned"}.items(), reverse=True))
    writer.lines.append(json.dumps(turned))
    writer.close()
    lab.ingest()
    assert lab.values("calls", "request_id") == [("first",), ("turned",)]


def test_numbers_written_otherwise_are_read(lab: Lab) -> None:
    """A number in a string, with an exponent or a fraction, or a dash, is what it stands for."""
    writer = lab.writer()
    for number, value in enumerate(("7", 1e5, 7.9, "-", None, "1e+05")):
        writer.call(NOON, request_id=f"r{number}", bytes_in=value, total_us=value)
    words = [call_of(json.loads(line)) for line in writer.lines]
    writer.close()
    report = lab.ingest()
    expected = sorted((w.request_id, w.bytes_in, w.duration_us) for w in words)
    assert lab.values("calls", "request_id", "bytes_in", "duration_us") == expected
    assert report.quarantined == 0


def test_every_line_ends_in_one_place(lab: Lab, tmp_path: Path) -> None:
    """Lines of a file, good, bad and in between, add up to rows, progress and quarantine."""
    writer = lab.writer()
    one_of_each(writer, count=4)
    good = len(writer.lines)
    bad = (
        b"\x00\xff\xfe noise } \r more\n"
        b'{"_record":"call","_type":"DownstreamEnd","start_time":"never"}\n'
        b'{"_record":"call","_type":"DownstreamWhatever"}\n'
        b'{"_record":"poem"}\n'
        b"[1,2]\n\n  \r\n17\nnull\n"
        b'{"_record":"call","_type":"Dow'
    )
    writer.close(extra=bad)
    report = lab.ingest()
    rows = sum(lab.count(name) for name in (*KEPT, "samples", "programs", "mesh_versions"))
    assert report.lines == good + 8
    assert rows + report.progress + lab.count("quarantine") == report.lines
