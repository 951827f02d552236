"""A line that cannot be read is kept: why, where in which file, and what it looked like."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.lake.tables import TableNames, open_lake
from tests.lake.conftest import Lab
from tests.lake.writing import NOON, LogWriter, encoded

pytestmark = pytest.mark.spark

BLOCK_BYTES = 8 * 1024
"""So small that Spark reads the one file of these tests in many blocks."""

CALL = b'{"_record":"call","_type":"DownstreamEnd"'
TIME = b'"start_time":"2026-11-22T12:00:00.000000Z"'

BAD: dict[str, tuple[bytes, str]] = {
    "binary noise": (b"\x00\xff\r\x80a\xc3", "not JSON"),
    "another's record": (b'{"_record":"poem"}', "no record of ours"),
    "a newer type": (
        b'{"_record":"call","_type":"DownstreamPause"}',
        "unknown type of call line: DownstreamPause",
    ),
    "no time": (CALL + b"}", "not a time: none"),
    "a bad time": (CALL + b',"start_time":"yesterday"}', "not a time: yesterday"),
    "a bad number": (CALL + b"," + TIME + b',"code":"many"}', "not a number: code many"),
    "a number too large": (
        CALL + b"," + TIME + b',"bytes_in":99999999999999999999}',
        "not a number: bytes_in 99999999999999999999",
    ),
    "no number": (CALL + b"," + TIME + b',"code":{}}', "not a number: code {}"),
    "two in a line": ((CALL + b"," + TIME + b"}") * 2, "not JSON"),
    "not UTF-8": (CALL + b"," + TIME + b',"path":"/\xff"}', "not JSON"),
    "an array": (b"[" + CALL + b"," + TIME + b"}]", "no record of ours"),
    "a scalar": (b"17", "no record of ours"),
    "half a line": (b'{"_record":"call","_type":"DownstreamEnd","sta', "not JSON"),
}
"""What a bad line holds, and the reason that quarantine must give; the last has no line's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file with all bad lines between good ones, and what the lake made of it."""

    lab: Lab
    path: Path
    good: int
    offsets: dict[str, int]
    rows: dict[int, tuple[str, str, int]]

    def of(self, name: str) -> tuple[str, str, int]:
        """Reason, text and length that quarantine has for that bad line."""
        return self.rows[self.offsets[name]]


@pytest.fixture(scope="module")
def found(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One ingest of one file, read in many blocks."""
    root = tmp_path_factory.mktemp("quarantine")
    lab = Lab(spark=spark, root=root, names=open_lake(spark, TableNames.of(root / "lake")))
    writer = LogWriter(logs=lab.logs)
    content, offsets, good = b"", {}, 0
    for name, (bad, _) in BAD.items():
        for _ in range(5):
            writer.call(NOON)
        good += len(writer.lines)
        content += encoded(writer.lines) + b"\n"
        writer.lines.clear()
        offsets[name] = len(content)
        content += bad + (b"" if name == "half a line" else b"\n")
    path = writer.close(extra=content)
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(BLOCK_BYTES))
    try:
        lab.ingest()
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    rows = {
        row["byte_offset"]: (row["reason"], row["line"], row["bytes"])
        for row in lab.table("quarantine").collect()
    }
    return Found(lab=lab, path=path, good=good, offsets=offsets, rows=rows)


@pytest.mark.parametrize("name", BAD)
def test_the_reason_is_told(found: Found, name: str) -> None:
    """Each bad line is kept at its byte offset, with its length and what is wrong with it."""
    bad, expected = BAD[name]
    reason, _, length = found.of(name)
    assert (reason, length) == (expected, len(bad))


def test_nothing_else_is_quarantined(found: Found) -> None:
    """Good lines and blank ones beside the bad are not held against them."""
    assert (len(found.rows), found.lab.count("calls")) == (len(BAD), found.good)


def test_the_text_is_printable(found: Found) -> None:
    """Bytes that are no printable ASCII are shown as dots."""
    assert found.of("binary noise")[1] == "....a."


def test_the_file_and_its_sidecar_are_named(found: Found) -> None:
    """A bad line can be found again: its sidecar, and the file below the log folder."""
    file = found.path.relative_to(found.lab.logs).as_posix()
    rows = set(found.lab.values("quarantine", "file", "sidecar_id"))
    assert rows == {(file, "churn-00000001")}
