"""Lines that others wrote: Spark reads each as the reader of one line does, or says why not."""

import json
import os
import random
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession

from meshml_dbx.lake.foreign import REASON, RECORD, parse_foreign, parse_patiently
from meshml_dbx.lake.tables import TABLES
from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.detect_format import detect_format
from meshml_dbx.traffic.known_formats import KNOWN, known_format
from meshml_dbx.traffic.log_format import LogFormat, json_format, text_format
from meshml_dbx.traffic.log_line import LogLine, read_line
from meshml_dbx.traffic.log_source import LogSource
from meshml_dbx.traffic.scrub import is_secret_name, scrub_addresses, scrub_text, split_query

pytestmark = pytest.mark.spark

CORPUS = Path(__file__).parents[3] / "shared" / "corpora" / "access-logs"
SOURCE = LogSource(source_id="edge")
Told = tuple[str, dict[str, object], dict[str, str]]
MADE = {"pattern", "duration_us", "event_date", "format", "more", "line_key", "sidecar_id", "batch"}
TABLE_OF = {
    "call": "calls",
    "attempt": "attempts",
    "connection": "connections",
    "progress": "calls",
}
FREE = ("authority", "details", "upstream_failure", "failure", "downstream_subject")
DEFAULT = known_format("envoy-default")

LINES = [
    '[2026-03-04T09:15:02.114Z] "POST /v1/score HTTP/1.1" 200 - 1874 322 41 39 "-" '
    '"python-requests/2.32.3" "5f0c1f5e" "scorer.ml:8080" "10.0.12.31:8080"',
    '[2026-03-04T09:15:09.001Z] "GET /f/u-882?token=abc&day=1 HTTP/1.1" 503 URX,UF 0 146 9 - '
    '"203.0.113.9" "trainer/1.4" "c1d0" "features.ml" "10.0.13.8:9090"',
    '[2026-03-04T09:15:13.100Z] "POST /v1/score HTTP/1.1" 0 DC 1048576 0 873 - "-" "tr" "0aa4" '
    '"scorer.ml" "127.0.0.1:8080"',
    '[2026-03-04T09:15:14.200Z] "- - HTTP/1.1" 400 DPE 0 11 0 - "-" "-" "-" "-" "-"',
    '[2026-03-04T09:15:20.000Z] "- - -" 0 - 480 1140 60012 - "-" "-" "-" "-" "10.0.20.5:5432"',
    '[2026-03-04T09:15:02.114Z] "GET /a b HTTP/2" 200 - 0 1 2 - "-" "a "b" c" "r" "h" "tcp://1:2"',
    '[2026-03-04T09:15:02.114Z] "GET / HTTP/2" 200 - 0 1 2 - "-" "a\\"b" "r" "h" "10.0.0.1:2"',
    '[2026-03-04T09:15:02.114Z] "GET / HTTP/2" 200 - 0 1 2 - "" "" "" "" ""',
    '[2026-03-04T09:15:02.114Z] "GET / HTTP/2" abc - 0 1 2 - "-" "a" "r" "h" "10.0.0.1:2"',
    '[2026-13-04T09:15:02.114Z] "GET / HTTP/2" 200 - 0 1 2 - "-" "a" "r" "h" "10.0.0.1:2"',
    '[2026-03-04T09:15:02.114Z]  "GET / HTTP/2" 200 - 0 1 2 - "-" "a" "r" "h" "10.0.0.1:2"',
    '[2026-03-04T09:15:02.114Z] "GET / HTTP/2" "200" - 0 1 2 - "-" "a" "r" "h" "10.0.0.1:2"',
    '[2026-03-04T09:15:02.114Z] "GET / HTTP/2" 99999999999999999999 - 0 1 2 - "-" "a" "r" "h" "-"',
    '[2026-03-04T09:15:02+01:00] "GET / HTTP/2" 200 - 0 1 2 - "-" "ann@corp.ml" "r" "h" "-"',
    "[2021-03-12 15:31:30.492][1][warning][runtime] [source/common/x.cc:31] Unable to use",
    "",
    "   ",
    "x",
]


def read_in_spark(
    spark: SparkSession, lines: Iterable[str], log_format: LogFormat, *, patiently: bool = False
) -> dict[str, Row]:
    """Each line with the row that Spark makes of it."""
    frame = spark.createDataFrame([(line,) for line in dict.fromkeys(lines)], "value STRING")
    parse = parse_patiently if patiently else parse_foreign
    return {row["value"]: row for row in parse(frame, log_format, SOURCE).collect()}


def told(row: Row) -> Told | None:
    """What a row says: its record, columns and ``more``; None where it gives a reason."""
    if row[REASON] is not None:
        return None
    table = dict(TABLES[TABLE_OF[row[RECORD]]])
    values = {name: row[name] for name in table if name not in MADE and row[name] is not None}
    if "start_time" in values:
        values["start_time"] = micros(values["start_time"])
    return row[RECORD], values, dict(row["more"] or {})


def micros(moment: object) -> int:
    """A moment as Spark hands it over, in the zone of this machine."""
    assert isinstance(moment, datetime)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return seconds * 1_000_000 + moment.microsecond


def expected(
    log_format: LogFormat, line: str
) -> tuple[str, dict[str, object], dict[str, str]] | None:
    """What the reader of one line says, without what never reaches a table."""
    try:
        found = read_line(log_format, line)
    except BadLineError:
        return None
    if found.values.get("start_time") is None:
        return None
    held = found.values.items()
    values: dict[str, object] = {n: v for n, v in held if v is not None and n != "type"}
    return found.record, *scrubbed(found, values)


def scrubbed(found: LogLine, values: dict[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Columns and ``more`` after the rules of what is kept."""
    more = {
        name: "{removed}" if is_secret_name(name) else scrub_text(text)
        for name, text in found.more.items()
    }
    if "forwarded_for" in found.more:
        more["forwarded_for"] = scrub_addresses(found.more["forwarded_for"])
    for name in FREE:
        if name in values:
            values[name] = scrub_text(str(values[name]))
    if "path" in values:
        path, query = split_query(str(values["path"]))
        values["path"] = scrub_text(path)
        if query is not None:
            more["query"] = query
    return values, more


def check(spark: SparkSession, lines: list[str], log_format: LogFormat) -> None:
    """Compare both readers on these lines, the quick way, where there is one, and the patient."""
    for patiently in (False, True) if log_format.split else (True,):
        rows = read_in_spark(spark, lines, log_format, patiently=patiently)
        for line in lines:
            row, wanted = told(rows[line]), expected(log_format, line)
            if row is None and wanted is not None and not patiently:
                continue  # the quick way leaves it to the patient one
            assert row == wanted, (line, rows[line][REASON])


def test_default_lines_are_read_alike(spark: SparkSession) -> None:
    """Good lines, odd ones and bad ones: Spark's columns are the reader's, and so are refusals."""
    check(spark, LINES, DEFAULT)


ENVOY_JSON = [
    {"start_time": "2026-03-04T09:15:02.114Z", "method": "GET", "path": "/a?b=1", "status": 200},
    {"start_time": "2026-03-04T09:15:02.114Z", "method": "GET", "path": "/a", "duration": "1e+05"},
    {"start_time": "2026-03-04T09:15:02.114Z", "method": "-", "duration": 100000.0, "code": "0"},
    {"start_time": "2026-03-04T09:15:02.114Z", "method": "GET", "duration": 1.5, "code": 200},
    {"start_time": "2026-03-04T09:15:02.114Z", "method": "GET", "duration": True, "code": 200},
    {
        "start_time": "2026-03-04T09:15:02Z",
        "method": "GET",
        "path": "/a",
        "k8s": {"pod": "x"},
    },
    {
        "start_time": "2026-03-04T09:15:02Z",
        "method": "GET",
        "path": "/a",
        "cookie": "sid=x",
    },
    {"start_time": "2026-03-04T09:15:02Z", "method": "GET", "path": "/a", "request_id": None},
    {"start_time": "2026-03-04T09:15:02Z", "flags": "UF,URX", "method": "GET", "team": "churn"},
    {"start_time": "2026-03-04T09:15:02Z", "response_flags_long": "UpstreamOverflow", "path": "/"},
    {"start_time": "yesterday", "method": "GET", "path": "/a"},
    {"method": "GET", "path": "/a"},
    {"start_time": "2026-03-04T09:15:02Z"},
    {},
]
BROKEN_JSON = [
    '{"start_time":"2026-03-04T09:15:02Z","method":"GET","path":"/a"',
    '{"start_time":"2026-03-04T09:15:02Z","method":"GET","path":"/a"}{"method":"GET"}',
    '[{"start_time":"2026-03-04T09:15:02Z","method":"GET","path":"/a"}]',
    '{"start_time":"2026-03-04T09:15:02Z","method":"GET","path":"/a}{b"}',
    "null",
    "7",
]
OWN_FORMATS = [
    text_format(
        "%START_TIME(%s.%6f)% %RESPONSE_CODE% %REQ(X-TEAM)% "
        "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)%",
        name="epoch",
    ),
    text_format("%START_TIME(%Y/%m/%d %H:%M:%S)%|%REQ(:METHOD)%|%PATH%|%RESPONSE_FLAGS_LONG%"),
    text_format("%ACCESS_LOG_TYPE% %START_TIME% %REQ(:METHOD)% %BYTES_SENT% %REQ(COOKIE)%"),
    json_format(
        {
            "at": "%START_TIME%",
            "http": {"method": "%REQ(:METHOD)%", "code": "%RESPONSE_CODE%"},
            "took": "%DURATION%",
            "who": "%REQ(USER-AGENT)% of %REQ(X-TEAM)%",
        }
    ),
]
OWN_LINES = [
    "1772615702.114000 200 churn 1234567",
    "1772615702.114000 200 a b 1234567",
    "1772615702.1 200 churn 1234567",
    "1772615702.114000 x churn 1234567",
    "2026/03/04 09:15:02|GET|/a?b=c|UpstreamOverflow,UpstreamConnectionFailure",
    "2026/13/04 09:15:02|GET|/a|-",
    "DownstreamPeriodic 2026-03-04T09:15:02.114Z GET 10 sid=1; b=2",
    "DownstreamEnd 2026-03-04T09:15:02.114Z GET 10 -",
    "UpstreamEnd 2026-03-04T09:15:02.114Z GET 10 -",
    "TcpConnectionEnd 2026-03-04T09:15:02.114Z - 10 -",
    '{"at":"2026-03-04T09:15:02.114Z","http":{"method":"GET","code":200},"took":3,"who":"a of b"}',
    '{"at":"2026-03-04T09:15:02.114Z","http":{"method":"GET","code":200},"took":3,"who":"a","x":1}',
    '{"at":"2026-03-04T09:15:02.114Z","http":{"method":"GET"},"took":3}',
    '{"at":"2026-03-04T09:15:02.114Z","http":{"method":"GET"},"took":3,"x":1}',
]


def test_json_lines_are_read_alike(spark: SparkSession) -> None:
    """Numbers in three styles, keys that nobody knows, broken objects: as the reader has it."""
    lines = [json.dumps(one, separators=(",", ":")) for one in ENVOY_JSON]
    check(spark, [*lines, *BROKEN_JSON], known_format("envoy-json"))


def test_own_formats_are_read_alike(spark: SparkSession) -> None:
    """Any format string or JSON template makes a reader, and Spark's is the same."""
    for log_format in OWN_FORMATS:
        check(spark, OWN_LINES, log_format)


def test_damaged_lines_are_read_alike(spark: SparkSession) -> None:
    """A thousand lines with something cut out, put in or doubled: read alike or refused alike."""
    seed = int(os.environ.get("MESHML_TEST_SEED", "20261130"))
    made = random.Random(seed)
    lines = [damaged(made, made.choice(LINES[:8])) for _ in range(1000)]
    check(spark, lines, DEFAULT)


def damaged(made: random.Random, line: str) -> str:
    """The line with one piece cut out, put in or doubled."""
    at = made.randrange(len(line) + 1)
    piece = made.choice(
        ['"', " ", "-", "\\", "\t", "{", "é", "0", '" "', "HTTP/1.1", "[", "%", ","]
    )
    cut = made.randrange(4)
    return made.choice([line[:at] + line[at + cut :], line[:at] + piece + line[at:], line[:at]])


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published samples are not here")
def test_published_lines_are_read_alike(spark: SparkSession) -> None:
    """Every published line of every format, by its own format."""
    by_format: dict[LogFormat, list[str]] = {}
    for path in sorted(CORPUS.glob("*.log")):
        lines = path.read_text(encoding="utf-8").splitlines()
        log_format = detect_format(lines, KNOWN)
        if log_format is not None:
            by_format.setdefault(log_format, []).extend(lines)
    for log_format, lines in by_format.items():
        check(spark, lines, log_format)
    assert sum(map(len, by_format.values())) >= 38
