"""How much quicker calls find their runs than by a join on time that Spark is left to plan.

Run with ``pytest -m benchmark tests/benchmarks/bench_join.py -s``. Both joins read the same calls
and the same 3,000 runs and give the same rows; ours includes the cutting of segments and of bins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.join import own_calls, owners_during
from meshml_dbx.lake.read_runs import run_frame
from meshml_dbx.lake.spans import LAST_MOMENT, Span
from meshml_dbx.traffic.ownership import Run
from tests.benchmarks.bench_ingest import Stopwatch
from tests.lake.writing import NOON, SECOND

pytestmark = [pytest.mark.spark, pytest.mark.benchmark, pytest.mark.timeout(7200)]

SIZES = (250_000, 500_000, 1_000_000)
RUNS, CLIENTS = 3_000, 4
NIGHT, LENGTH = 3_600, 3_000
"""Every client's runs begin an hour apart, and the longest of them last fifty minutes."""
FLOOR, AIM = 5.0, 8.0
ROUNDS = 3


def made_runs(clients: int) -> list[Run]:
    """Runs of minutes up to nearly an hour, one after the other, and one of a year."""
    spread = [
        Run(
            run_id=f"{n:032x}",
            name=f"nightly-{n}",
            experiment_id="0",
            status="FINISHED",
            start_time=(start := NOON + n // clients * NIGHT * SECOND),
            end_time=start + (60 + n * 7919 % (LENGTH - 60)) * SECOND,
            client=f"client-{n % clients}",
        )
        for n in range(RUNS - 1)
    ]
    year = Run(
        run_id="y" * 32,
        name="year",
        experiment_id="0",
        status="FINISHED",
        start_time=NOON,
        end_time=NOON + 365 * 86_400 * SECOND,
        client="client-of-a-year",
    )
    return [*spread, year]


def made_calls(spark: SparkSession, folder: Path, count: int, clients: int) -> DataFrame:
    """Calls of all clients over the time of the runs, from a file, as ingest would have them."""
    length = RUNS // clients * NIGHT
    rows = spark.range(count).select(
        F.expr("concat('request-', id)").alias("request_id"),
        F.expr(
            f"timestamp_micros({NOON} + CAST(pmod(xxhash64(id), {length * SECOND}) AS BIGINT))"
        ).alias("start_time"),
        F.expr(
            "if(id % 50 = 0, 'client-of-a-year',"
            f" concat('client-', pmod(xxhash64(id, 1), {clients})))"
        ).alias("client"),
        F.expr("concat('process-', id % 1000)").alias("process_id"),
        F.lit(None).cast("STRING").alias("run_id"),
    )
    path = str(folder / f"calls-{count}-{clients}")
    rows.write.mode("overwrite").parquet(path)
    return spark.read.parquet(path)


def by_inequality(calls: DataFrame, runs: list[Run]) -> DataFrame:
    """The join as one writes it down: the same client, and begun while the run lasted."""
    ends = run_frame(calls.sparkSession, runs).select(
        F.col("run_id").alias("owner"),
        F.col("client").alias("whose"),
        F.col("start_time").alias("begun"),
        F.col("end_time").alias("ended"),
    )
    on = F.expr("client = whose AND start_time >= begun AND start_time < ended")
    return calls.join(F.broadcast(ends), on).select("request_id", "owner")


def ours(calls: DataFrame, runs: list[Run]) -> DataFrame:
    """The whole rule: header, process, job and window."""
    clients = {run.client for run in runs if run.client}
    owners = owners_during(Span(start=0, end=LAST_MOMENT), runs, clients)
    return own_calls(calls, owners).select("request_id", "owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The quickest of some rounds, in seconds."""

    wall: float
    cpu: float


def measured(make: Callable[[], DataFrame]) -> Figures:
    """How long it takes until all rows are there and thrown away."""
    watch = Stopwatch()
    rounds = [
        watch.time(lambda: make().write.format("noop").mode("overwrite").save())
        for _ in range(ROUNDS)
    ]
    return Figures(wall=min(wall for wall, _ in rounds), cpu=min(cpu for _, cpu in rounds))


def fingerprint(rows: DataFrame) -> tuple[int, int]:
    """How many rows, and a hash of all of them in any order."""
    (row,) = rows.select(
        F.count("*").alias("rows"), F.expr("bit_xor(xxhash64(request_id, owner))").alias("hash")
    ).collect()
    return int(row["rows"]), int(row["hash"])


@pytest.mark.parametrize("clients", [CLIENTS, 1])
def test_calls_find_their_runs(spark: SparkSession, tmp_path: Path, clients: int) -> None:
    """The same rows, and at the largest size five times as fast; eight is the aim."""
    runs = made_runs(clients)
    ratio = 0.0
    for size in SIZES:
        calls = made_calls(spark, tmp_path, size, clients)
        expected = fingerprint(by_inequality(calls, runs))
        assert fingerprint(ours(calls, runs)) == expected
        theirs = measured(lambda calls=calls: by_inequality(calls, runs))  # type: ignore[misc]  # a default
        mine = measured(lambda calls=calls: ours(calls, runs))  # type: ignore[misc]  # a default
        ratio = theirs.wall / mine.wall
        print(  # noqa: T201  # the figures are what the benchmark is for
            f"{size:9,} calls x {RUNS:,} runs, {clients} clients: ours {mine.wall:.2f} s "
            f"(cpu {mine.cpu:.2f}), plain {theirs.wall:.2f} s (cpu {theirs.cpu:.2f}): "
            f"{ratio:.1f} times, by cpu {theirs.cpu / mine.cpu:.1f}; {expected[0]:,} rows"
        )
    assert ratio >= FLOOR
