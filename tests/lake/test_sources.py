"""Lines as proxies and processes write them are read at once, without a second, patient reading."""

import io
import json
import tarfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.lake.sources import KINDS, UNKNOWN, parse_lines, parse_slowly, read_lines
from tests.traffic.real_lines import CLIENT_CALL, EGRESS_CALL

pytestmark = pytest.mark.spark


def test_every_line_of_the_demo_is_read_at_once(spark: SparkSession, tmp_path: Path) -> None:
    """What Envoy wrote has nothing that needs patience: not even numbers that it quotes."""
    packed = files("meshml_dbx.demo").joinpath("recording.tar.xz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
        archive.extractall(tmp_path, filter="data")
    lines = read_lines(spark, [str(path) for path in tmp_path.rglob("*.jsonl")]).cache()
    assert lines.where(f"kind = '{UNKNOWN}'").count() == 0
    slow = {
        kind.name: parse_lines(lines.where(f"kind = '{kind.name}'"), kind).where("NOT good").count()
        for kind in KINDS
    }
    assert {name for name, count in slow.items() if count} == set()


@pytest.mark.parametrize(
    ("line", "over", "good", "read"),
    [
        (EGRESS_CALL, {}, True, (1, None)),
        (CLIENT_CALL, {}, True, (1, CLIENT_CALL["resource"])),
        (CLIENT_CALL, {"attempt": 3, "resource": 2**63 - 1}, True, (3, 2**63 - 1)),
        (EGRESS_CALL, {"attempt": None}, True, (None, None)),
        (EGRESS_CALL, {"attempt": "-"}, False, (None, None)),
        (EGRESS_CALL, {"attempt": 1e5}, False, (100_000, None)),
        (CLIENT_CALL, {"resource": "7"}, False, (1, 7)),
    ],
)
def test_a_number_is_read_however_it_is_written(
    spark: SparkSession,
    tmp_path: Path,
    line: Mapping[str, object],
    over: Mapping[str, object],
    *,
    good: bool,
    read: tuple[int | None, int | None],
) -> None:
    """At once where it is as its writer usually has it, else with patience."""
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({**line, **over}, separators=(",", ":")) + "\n")
    kind = next(kind for kind in KINDS if kind.name == "ended")
    lines = read_lines(spark, [str(path)])
    fast = parse_lines(lines, kind).where("good")
    patient = parse_slowly(lines, kind).where("reason IS NULL")
    found = [
        tuple(row) for row in (fast if good else patient).select("attempt", "resource").collect()
    ]
    assert found == [read]
    assert (patient if good else fast).count() == 0
