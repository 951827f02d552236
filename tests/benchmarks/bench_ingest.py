"""Speed of the lake as ratios: ingest against plain Spark, and how it grows; evidence in seconds.

Run with ``pytest -m benchmark tests/benchmarks/bench_ingest.py -s``. Plain Spark reads the same
JSON with an explicit schema and writes it to Delta with no other work, in the same session.
"""

import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.evidence import read_evidence
from meshml_dbx.lake.ingest import ingest
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.tables import CALL_COLUMNS, TableNames, open_lake
from meshml_dbx.traffic.access_log import END_TYPE, FIELDS, PERIODIC_TYPE, START_TYPE, time_text
from meshml_dbx.traffic.ownership import Run
from tests.lake.writing import NOON, SECOND, LogWriter, line

pytestmark = [pytest.mark.spark, pytest.mark.benchmark, pytest.mark.timeout(7200)]

FILES = 8
SIZES = (250_000, 500_000, 1_000_000)
AIM = 0.6
CALLS_OF_A_RUN = 1_000_000

SAMPLE = '"_record":"sample"'

ENDED: dict[str, object] = {
    "target": "labels-v1",
    "code": 200,
    "details": "via_upstream",
    "attempts": 1,
    "receive_request_us": 12,
    "to_upstream_us": 300,
    "overhead_us": 280,
    "send_us": 20,
    "receive_us": 200,
    "respond_us": 210,
    "pool_ready_ms": 0,
    "connect_us": 150,
    "tls_us": 900,
    "upstream_host": "127.0.0.1:18081",
    "upstream_peer": "spiffe://ml/labels-v1",
    "origin": "upstream",
}
CHANGING: dict[str, object] = {
    "start_time": "@TIME@",
    "request_id": "@ID@",
    "path": "/v1/labels/@PART@",
    "downstream_address": "127.0.0.1:@PORT@",
    "upstream_local_address": "127.0.0.1:@LOCAL@",
}
TIMED: dict[str, object] = {"bytes_out": -1, "duration_ms": -2, "first_byte_us": -3, "total_us": -4}


def templates(writer: LogWriter) -> dict[str, str]:
    """One line of each kind, with marks where calls differ."""
    usual: dict[str, object] = {
        "method": "GET",
        "authority": "labels.ml.local",
        "protocol": "HTTP/1.1",
        "virtual_service": "labels.ml.local",
        "mesh_version": "a1b2c3d4e5f6",
        "route": "by-day",
        "flags": "-",
        "bytes_in": 0,
        "connection_id": 7,
    }
    call = {**writer.literals, **usual, **CHANGING}
    tried = {**call, **ENDED, **TIMED}
    for name in ("protocol", "details", "attempts", "receive_request_us", "overhead_us"):
        tried.pop(name)
    for name in ("respond_us", "total_us"):
        tried.pop(name)
    begun = {**call, "code": 0, "duration_ms": 0, "bytes_out": 0, "upstream_local_address": None}
    seen = {"start_time": "@TIME@", "connection_id": 7, "bytes_in": 1, "bytes_out": 2}
    who = {"sidecar_id": writer.sidecar_id, "process_id": writer.process_id}
    counted = {"time": "@TIME@", "requests_total": 5, "requests_active": 0, "cpu_us": 9}
    return {
        "start": line("call", START_TYPE, **begun),
        "periodic": line("call", PERIODIC_TYPE, **begun),
        "end": line("call", END_TYPE, **{**call, **ENDED, **TIMED}),
        "attempt": line("attempt", "UpstreamEnd", **{**tried, "attempt": 1}),
        "connection": line("connection", "NotSet", **writer.literals, **seen),
        "sample": line("sample", "periodic", **who, **counted),
    }


def write_logs(logs: Path, lines: int) -> None:
    """So many lines in a realistic mix: per call a start, an attempt and an end, some others."""
    for number in range(FILES):
        process = str(uuid.UUID(int=number + 1))
        writer = LogWriter(logs=logs, sidecar_id=f"churn-{number:08x}", process_id=process)
        kinds, chance = templates(writer), random.Random(number)
        made = _lines(kinds, chance)
        mixed = [next(made) for _ in range(lines // FILES)]
        for is_sample in (False, True):  # as sidecars write: the proxy one file, they another
            writer.lines.extend(one for one in mixed if (SAMPLE in one) == is_sample)
            writer.close()


def _lines(kinds: dict[str, str], chance: random.Random) -> Iterator[str]:
    moment = NOON
    while True:
        moment += chance.randrange(200, 2000)
        first = chance.randrange(1000, 50_000)
        marks = {
            "@TIME@": time_text(moment),
            "@ID@": str(uuid.UUID(int=chance.getrandbits(128))),
            "@PART@": f"2026-11-{chance.randrange(30):02d}",
            "@PORT@": str(chance.randrange(30_000, 60_000)),
            "@LOCAL@": str(chance.randrange(30_000, 60_000)),
            ":-1": f":{chance.randrange(10_000)}",
            ":-2": f":{first // 1000 + 1}",
            ":-3": f":{first}",
            ":-4": f":{first + 700}",
        }
        for kind, share in (
            ("start", 1.0),
            ("attempt", 1.0),
            ("end", 1.0),
            ("periodic", 0.05),
            ("connection", 0.03),
            ("sample", 0.002),
        ):
            if chance.random() < share:
                text = kinds[kind]
                for mark, value in marks.items():
                    text = text.replace(mark, value)
                yield text


class Stopwatch:
    """Seconds on the wall, and CPU seconds of the JVM, which other programs do not disturb."""

    def __init__(self) -> None:
        self.jvm = _jvm_of(os.getpid())

    def time(self, work: Callable[[], object]) -> tuple[float, float]:
        """How long the work took: wall and CPU seconds."""
        wall, cpu = time.perf_counter(), self._cpu()
        work()
        return time.perf_counter() - wall, self._cpu() - cpu

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self.jvm}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _jvm_of(parent: int) -> int:
    for path in Path("/proc").glob("[0-9]*/stat"):
        name, fields = path.read_text().rsplit(")", 1)
        if "java" in name and int(fields.split()[1]) == parent:
            return int(path.parent.name)
    raise LookupError("no JVM")


def plain(spark: SparkSession, logs: Path, out: Path) -> Callable[[], None]:
    """Spark alone: the same JSON with an explicit schema into a Delta table."""
    kinds = {"text": "STRING", "number": "BIGINT", "time": "TIMESTAMP"}
    columns = ", ".join(f"`{field.json_key()}` {kinds[field.kind]}" for field in FIELDS)

    def work() -> None:
        lines = spark.read.schema(f"`_record` STRING, {columns}").json(f"{logs}/*/closed/*.jsonl")
        lines.write.format("delta").mode("overwrite").save(str(out))

    return work


def ours(spark: SparkSession, logs: Path, root: Path) -> Callable[[], object]:
    """The whole ingest: all tables, joins, edges, ledger; the tables are there already."""
    names = open_lake(spark, TableNames.of(root / "lake"))
    return lambda: ingest(spark, names, logs=str(logs), checkpoint=str(root / "checkpoint"))


def test_ingest_against_plain_spark(spark: SparkSession, tmp_path: Path) -> None:
    """Ingest keeps at least that share of plain Spark's speed, and grows with its input."""
    watch = Stopwatch()
    ratios: dict[int, float] = {}
    for lines in (50_000, *SIZES):
        logs = tmp_path / f"logs-{lines}"
        write_logs(logs, lines)
        first, second = (tmp_path / f"{lines}-{turn}" for turn in ("a", "b"))
        timings = {
            "plain before": watch.time(plain(spark, logs, first / "plain")),
            "ours after": watch.time(ours(spark, logs, first)),
            "ours before": watch.time(ours(spark, logs, second)),
            "plain after": watch.time(plain(spark, logs, second / "plain")),
        }
        for name, (wall, cpu) in timings.items():
            sys.stderr.write(f"{lines:9,} lines  {name:13} {wall:7.1f} s wall {cpu:7.1f} s CPU\n")
        plain_s, ours_s = (
            [
                sum(timings[f"{who} {turn}"][which] for turn in ("before", "after"))
                for which in (0, 1)
            ]
            for who in ("plain", "ours")
        )
        ratios[lines] = plain_s[1] / ours_s[1]
        sys.stderr.write(
            f"{lines:9,} lines  ratio by wall {plain_s[0] / ours_s[0]:.2f}, "
            f"by CPU {ratios[lines]:.2f} (aim {AIM})\n"
        )
    assert ratios[SIZES[-1]] >= AIM


def test_evidence_of_a_million_calls(spark: SparkSession, tmp_path: Path) -> None:
    """The evidence of a run of a million calls is read in seconds."""
    names = open_lake(spark, TableNames.of(tmp_path / "lake"))
    process = str(uuid.UUID(int=1))
    made: dict[str, object] = {
        "observer": F.lit("egress"),
        "sidecar_id": F.lit("churn-1"),
        "process_id": F.lit(process),
        "client": F.lit("churn"),
        "start_time": F.timestamp_micros(F.lit(NOON) + F.col("id") * 1000),
        "event_date": F.to_date(F.timestamp_micros(F.lit(NOON))),
        "request_id": F.uuid(),
        "duration_us": F.col("id") % 90_000,
        "attempts": F.lit(1),
        "code": F.lit(200),
        "target": F.concat(F.lit("labels-v"), (F.col("id") % 2).cast("STRING")),
        "upstream_local_address": F.concat(F.lit("127.0.0.1:"), (F.col("id") % 30_000)),
    }
    for name in (
        "virtual_service",
        "route",
        "pattern",
        "authority",
        "mesh_version",
        "upstream_host",
    ):
        made[name] = F.lit(f"some-{name}")
    columns = [
        made.get(name, F.lit(None)).cast(kind).alias(name)  # type: ignore[attr-defined]  # columns
        for name, kind in CALL_COLUMNS
    ]
    rows = spark.range(CALLS_OF_A_RUN).select(*columns)
    rows.write.format("delta").mode("append").saveAsTable(names.table("calls"))
    end = NOON + CALLS_OF_A_RUN * 1000
    run = Run(
        run_id="run",
        name="run",
        experiment_id="0",
        status="FINISHED",
        start_time=NOON,
        end_time=end,
        process_id=process,
        client="churn",
    )
    joined, _ = Stopwatch().time(lambda: store_runs(spark, names, [run]))
    sys.stderr.write(f"joining {CALLS_OF_A_RUN:,} calls with their run: {joined:.1f} s\n")
    for turn in ("cold", "warm"):
        began = time.perf_counter()
        found = read_evidence(spark, names, "run", read_at=end + SECOND)
        sys.stderr.write(
            f"evidence of {CALLS_OF_A_RUN:,} calls, {turn}: {time.perf_counter() - began:.1f} s\n"
        )
        assert found is not None
        assert len(found.calls) == CALLS_OF_A_RUN
