"""Speed of reading what others write, as ratios: text against JSON, any format against a hand's.

Run with ``pytest -m benchmark tests/benchmarks/bench_foreign.py -s``. All figures are CPU seconds
of the JVM, by the same session, each way twice, one before and one after the other.
"""

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.foreign import is_read, parse_foreign
from meshml_dbx.lake.ingest import ingest
from meshml_dbx.lake.tables import CALL_COLUMNS, TableNames, open_lake
from meshml_dbx.traffic.known_formats import known_format
from meshml_dbx.traffic.log_format import LogFormat, text_format
from meshml_dbx.traffic.log_source import SOURCE_FILE, LogSource
from tests.benchmarks.bench_ingest import Stopwatch

pytestmark = [pytest.mark.spark, pytest.mark.benchmark, pytest.mark.timeout(7200)]

FILES = 8
SIZES = (250_000, 500_000, 1_000_000)
TEXT = (
    '[2026-11-22T12:{m:02}:{s:02}.{ms:03}Z] "GET /v1/labels/{id}?day={d} HTTP/1.1" {code} - {i} '
    '{o} {dur} {up} "-" "trainer/1.4" "{uuid}" "labels.ml.local" "10.0.{a}.{b}:8080"'
)
JSON = (
    '{{"start_time":"2026-11-22T12:{m:02}:{s:02}.{ms:03}Z","method":"GET","path":"/v1/labels/{id}?day={d}",'
    '"protocol":"HTTP/1.1","response_code":{code},"response_flags":"-","bytes_received":{i},'
    '"bytes_sent":{o},"duration":{dur},"upstream_service_time":"{up}","x_forwarded_for":null,'
    '"user_agent":"trainer/1.4","request_id":"{uuid}","authority":"labels.ml.local",'
    '"upstream_host":"10.0.{a}.{b}:8080"}}'
)
OWN_FORMAT = (
    "%START_TIME% %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %REQ(X-REQUEST-ID)% %REQ(:AUTHORITY)% %UPSTREAM_HOST%"
)
OWN = (
    "2026-11-22T12:{m:02}:{s:02}.{ms:03}Z GET /v1/labels/{id}?day={d} HTTP/1.1 {code} - {i} {o} "
    "{dur} {uuid} labels.ml.local 10.0.{a}.{b}:8080"
)
REGEX = (
    r'^\[([^\]]*)\] "(\S+) (\S+) (\S+)" (\d+) (\S+) (\d+) (\d+) (\d+) (\S+) "([^"]*)" "([^"]*)" '
    r'"([^"]*)" "([^"]*)" "([^"]*)"$'
)
NAMES = (
    *("start_time", "method", "path", "protocol", "code", "flags", "bytes_in", "bytes_out"),
    *("duration_ms", "up", "forwarded", "agent", "request_id", "authority", "upstream_host"),
)
OWN_NAMES = tuple(name for name in NAMES if name not in ("up", "forwarded", "agent"))
NUMBERS = ("code", "bytes_in", "bytes_out", "duration_ms")


def made_lines(template: str, lines: int, seed: int) -> Iterator[str]:
    """So many lines of one shape."""
    chance = random.Random(seed)
    for number in range(lines):
        moment = number * 3_600_000 // lines
        yield template.format(
            m=moment // 60_000,
            s=moment // 1000 % 60,
            ms=moment % 1000,
            id=chance.randrange(10**6),
            d=chance.randrange(30),
            code=chance.choice((200, 200, 200, 503)),
            i=chance.randrange(1000),
            o=chance.randrange(100_000),
            dur=chance.randrange(900),
            up=chance.randrange(900),
            uuid=f"{chance.getrandbits(128):032x}",
            a=chance.randrange(256),
            b=chance.randrange(256),
        )


def write_logs(logs: Path, template: str, lines: int, log_format: LogFormat) -> None:
    """A source's files, and the note of its format."""
    closed = logs / "edge" / "closed"
    closed.mkdir(parents=True)
    source = LogSource(source_id="edge", observer="egress", client="churn")
    (logs / "edge" / SOURCE_FILE).write_text(source.with_format(log_format).to_json())
    for number in range(FILES):
        with (closed / f"{number}.log").open("w") as file:
            file.writelines(f"{one}\n" for one in made_lines(template, lines // FILES, number))


def lines_of(spark: SparkSession, logs: Path) -> DataFrame:
    """The lines of a source's files."""
    text = spark.read.text(f"{logs}/*/closed/*.log")
    return text.select("value", F.col("_metadata.file_path").alias("log_file"))


def reading(
    spark: SparkSession, logs: Path, out: Path, log_format: LogFormat
) -> Callable[[], None]:
    """Our reader, with all its columns and rules, into a Delta table."""
    source = LogSource(source_id="edge", observer="egress", client="churn")

    def work() -> None:
        rows = parse_foreign(lines_of(spark, logs), log_format, source).where(is_read())
        columns = [name for name, _ in CALL_COLUMNS if name in rows.columns]
        rows.select(*columns).write.format("delta").mode("overwrite").save(str(out))

    return work


def typed(fields: DataFrame) -> DataFrame:
    """Numbers and times of what a hand-made reader found as text."""
    numbers = {name: F.col(name).cast("BIGINT") for name in NUMBERS}
    moment = F.to_timestamp("start_time")
    return fields.withColumns({**numbers, "start_time": moment})


def by_regexp(spark: SparkSession, logs: Path, out: Path) -> Callable[[], None]:
    """The usual way: ``regexp_extract``, group by group."""

    def work() -> None:
        lines = lines_of(spark, logs)
        groups = [
            F.regexp_extract("value", REGEX, at + 1).alias(name) for at, name in enumerate(NAMES)
        ]
        typed(lines.select(*groups)).write.format("delta").mode("overwrite").save(str(out))

    return work


def by_hand(spark: SparkSession, logs: Path, out: Path) -> Callable[[], None]:
    """Split at blanks, as somebody would who knows this one format."""

    def work() -> None:
        parts = lines_of(spark, logs).select(F.split("value", " ").alias("parts"))
        fields = [F.col("parts")[at].alias(name) for at, name in enumerate(OWN_NAMES)]
        typed(parts.select(*fields)).write.format("delta").mode("overwrite").save(str(out))

    return work


def compare(what: str, ours: Callable[[int], object], peer: Callable[[int], object]) -> float:
    """The peer's CPU seconds for one of ours, of two turns each."""
    watch = Stopwatch()
    spent = {"ours": 0.0, "peer": 0.0}
    for turn, order in enumerate((("ours", "peer"), ("peer", "ours"))):
        for who in order:
            work = ours if who == "ours" else peer
            wall, cpu = watch.time(lambda work=work, turn=turn: work(turn))  # type: ignore[misc]  # bound
            spent[who] += cpu
            sys.stderr.write(f"{what}: {who} {wall:.1f} s wall {cpu:.1f} s CPU\n")
    ratio = spent["peer"] / spent["ours"]
    sys.stderr.write(f"{what}: ratio by CPU {ratio:.2f}\n")
    return ratio


@pytest.mark.parametrize("lines", SIZES)
def test_readers(spark: SparkSession, tmp_path: Path, lines: int) -> None:
    """Text against regexp_extract, and a user's own format against a reader made for it by hand."""
    default, own = known_format("envoy-default"), text_format(OWN_FORMAT)
    write_logs(tmp_path / "text", TEXT, lines, default)
    write_logs(tmp_path / "own", OWN, lines, own)
    out = tmp_path / "out"
    text, regexp = (
        reading(spark, tmp_path / "text", out, default),
        by_regexp(spark, tmp_path / "text", tmp_path / "by-regexp"),
    )
    mine, hand = (
        reading(spark, tmp_path / "own", tmp_path / "own-out", own),
        by_hand(spark, tmp_path / "own", tmp_path / "by-hand"),
    )
    against_regexp = compare(f"{lines:,} default", lambda _: text(), lambda _: regexp())
    against_hand = compare(f"{lines:,} own format", lambda _: mine(), lambda _: hand())
    sys.stderr.write(
        f"{lines:,}: {against_regexp:.2f} (aim 4), {1 / against_hand:.2f} (limit 1.3)\n"
    )


def test_ingest_of_text_and_json(spark: SparkSession, tmp_path: Path) -> None:
    """The whole ingest of the same calls as text and as JSON, and JSON against plain Spark."""
    for lines in SIZES:
        text, json = tmp_path / f"text-{lines}", tmp_path / f"json-{lines}"
        write_logs(text, TEXT, lines, known_format("envoy-default"))
        write_logs(json, JSON, lines, known_format("envoy-json"))

        def whole(logs: Path, turn: int) -> None:
            names = open_lake(spark, TableNames.of(logs / f"lake-{turn}"))
            report = ingest(spark, names, logs=str(logs), checkpoint=str(logs / f"at-{turn}"))
            assert (report.quarantined, report.duplicates) == (0, 0)

        def plain(logs: Path, turn: int) -> None:
            rows = spark.read.schema(PLAIN_SCHEMA).json(f"{logs}/edge/closed/*.log")
            rows.write.format("delta").mode("overwrite").save(str(logs / f"plain-{turn}"))

        compare(
            f"{lines:,} text against JSON",
            lambda turn, text=text, whole=whole: whole(text, turn),  # type: ignore[misc]  # bound
            lambda turn, json=json, whole=whole: whole(json, turn),  # type: ignore[misc]  # bound
        )
        compare(
            f"{lines:,} JSON against plain Spark",
            lambda turn, json=json, whole=whole: whole(json, turn + 2),  # type: ignore[misc]  # bound
            lambda turn, json=json, plain=plain: plain(json, turn),  # type: ignore[misc]  # bound
        )


PLAIN_SCHEMA = (
    "start_time TIMESTAMP, method STRING, path STRING, protocol STRING, response_code BIGINT, "
    "response_flags STRING, bytes_received BIGINT, bytes_sent BIGINT, duration BIGINT, "
    "upstream_service_time STRING, x_forwarded_for STRING, user_agent STRING, request_id STRING, "
    "authority STRING, upstream_host STRING"
)
