"""CloudWatch log groups through Spark: batch and stream, here and by Spark Connect."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.cloudwatch_source import SCHEMA, SOURCE, cloudwatch_source
from tests.lake.aws_lab import REGION, STREAM, client_at, maker, moto_server, put

pytestmark = pytest.mark.spark

MINUTE = 60_000
CHILD = Path(__file__).with_name("cloudwatch_child.py")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A server of CloudWatch Logs."""
    with moto_server() as url:
        yield url


@pytest.fixture
def options(spark: SparkSession, moto: str) -> Callable[..., dict[str, str]]:
    """The options of a group on that server; the source is registered."""
    spark.dataSource.register(cloudwatch_source(maker()))

    def make(group: str, **other: object) -> dict[str, str]:
        known = {"log_group": group, "region": REGION, "endpoint_url": moto}
        return {**known, **{name: str(value) for name, value in other.items()}}

    return make


def iso(moment_ms: int) -> str:
    """A time as the options take it."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat()


def test_a_span_of_time_is_read_in_slices(
    spark: SparkSession, options: Callable[..., dict[str, str]], moto: str
) -> None:
    """Side by side, in pages, each event once; what is before and behind the span is left out."""
    first = int(time.time() * 1000) - 30 * MINUTE
    put(client_at(moto), "/batch", first, [f"line {number}" for number in range(2000)])
    span = {"start": iso(first + 10), "end": iso(first + 1990)}
    given = options("/batch", **span, slice_s=1, page_size=700)
    rows = spark.read.format(SOURCE).schema(SCHEMA).options(**given).load()
    part, moment = F.spark_partition_id().alias("part"), F.unix_millis("timestamp").alias("ms")
    found = sorted(rows.select("*", part, moment).collect(), key=lambda row: row.ms)
    assert [row.message for row in found] == [f"line {number}" for number in range(10, 1990)]
    assert {(row.log_group, row.log_stream) for row in found} == {("/batch", STREAM)}
    assert len({row.event_id for row in found}) == 1980
    assert [row.ms for row in found] == list(range(first + 10, first + 1990))
    assert {row.part for row in found} == {0, 1}


def test_a_stream_reads_what_is_new_once(
    spark: SparkSession, options: Callable[..., dict[str, str]], moto: str, tmp_path: Path
) -> None:
    """Late events too; in batches of so many slices, and after a restart from its checkpoint."""
    client = client_at(moto)
    first = int(time.time() * 1000) - 20 * MINUTE
    given = options("/stream", start=iso(first), slice_s=300, slices_per_batch=2, lag_s=1)
    events, checkpoint = tmp_path / "events", tmp_path / "checkpoint"
    rounds: list[list[str]] = []
    batches: list[int] = []
    for new, moment in (
        (["a", "b"], first + 12 * MINUTE),
        (["late"], first + 8 * MINUTE),
        (["c"], first + 19 * MINUTE),
    ):
        put(client, "/stream", moment, new)
        time.sleep(1.1)
        stream = spark.readStream.format(SOURCE).schema(SCHEMA).options(**given).load()
        writer = stream.writeStream.format("parquet").option("checkpointLocation", str(checkpoint))
        query = writer.trigger(availableNow=True).start(str(events))
        assert query.awaitTermination(200)
        rounds.append(sorted(row.message for row in spark.read.parquet(str(events)).collect()))
        batches.append(len(list((checkpoint / "commits").glob("[0-9]*"))))
    assert rounds == [["a", "b"], ["a", "b", "late"], ["a", "b", "c", "late"]]
    assert batches == [3, 4, 5]  # at first three, of ten minutes each at most


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"log_group": "/none"}, f"/none in region {REGION}: there is no such group"),
        ({"log_group": ""}, "was given no log group"),
        ({"start": "noon"}, "cannot read start='noon' as a time"),
        ({"slice_s": "-1"}, "was given slice_s='-1'"),
    ],
)
def test_what_cannot_be_read_is_told(
    spark: SparkSession,
    options: Callable[..., dict[str, str]],
    other: dict[str, Any],
    told: str,
) -> None:
    """Before any task starts, in our words."""
    given = {**options("/none"), **other}
    with pytest.raises(PySparkException, match=told):
        spark.read.format(SOURCE).schema(SCHEMA).options(**given).load().collect()


@pytest.mark.skipif(find_spec("grpc_status") is None, reason="pyspark[connect] is not installed")
def test_connect(moto: str, tmp_path: Path) -> None:
    """The same, from a client without a SparkContext: a batch, and a stream into files."""
    first = int(time.time() * 1000) - 10 * MINUTE
    put(client_at(moto), "/connect", first, [f"line {number}" for number in range(300)])
    time.sleep(1.1)
    done = subprocess.run(
        [sys.executable, str(CHILD), moto, iso(first), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=CHILD.parents[2],
    )
    assert done.stdout.splitlines()[-1:] == ["300 300"], done.stderr[-3000:]
