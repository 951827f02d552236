"""The waits of all runs, by Spark, are the numbers that the diagnosis computes of one run."""

import random

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.diagnosis.breakdown import PARTS, break_down
from meshml_dbx.diagnosis.table import run_span, table_of
from meshml_dbx.diagnosis.waits import split_waits
from meshml_dbx.lake.evidence import read_evidence
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.tables import TableNames, open_lake
from meshml_dbx.traffic.evidence import Evidence
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.waits import PART_NAMES
from tests.lake.conftest import Lab
from tests.lake.test_join import a_run
from tests.lake.writing import NOON, SECOND, LogWriter

pytestmark = pytest.mark.spark

READ_AT = NOON + 3600 * SECOND
PROXIED, RECORDED = (f"{n}3333333-3333-3333-3333-333333333333" for n in range(2))
COUNTED = ("calls", "unfinished", "retries", "duration_us", *(f"{part}_us" for part in PART_NAMES))
PLACE = ("stage", "service", "virtual_service", "route", "target", "pattern")

Key = tuple[object, ...]
Figures = dict[Key, dict[str, int]]


def write_calls(writer: LogWriter, chance: random.Random, count: int) -> None:
    """Calls that overlap, are tried again, fail in every way, open connections, break off."""
    for number in range(count):
        start = NOON + chance.randrange(-SECOND, 60 * SECOND)
        total = chance.choice((0, 1, chance.randrange(2_000_000), chance.randrange(20_000)))
        attempts = chance.choice((1, 1, 1, 2, 3))
        answered = chance.random() < 0.7
        request_id = writer.call(
            start,
            total_us=total,
            duration_ms=total // 1000,
            attempts=attempts,
            attempt=writer.number_of_try(chance.choice((1, 2))),
            stage=chance.choice((None, None, "told")),
            virtual_service=chance.choice(("labels.ml.local", None)),
            route=chance.choice(("by-day", None)),
            target=chance.choice(("labels-v1", "labels-v2", None)),
            path=chance.choice(("/v1/labels", "/v1/scores", None)),
            code=200 if answered else chance.choice((0, None, 404, 407, 503)),
            details=chance.choice((None, "direct_response", "via_upstream")),
            flags=chance.choice(("-", None, "UF", "UO", "DF,URX", "UT", "DC", "NR", "UC, DC")),
            first_byte_us=chance.choice((None, total // 2)),
            receive_us=chance.choice((None, total // 5)),
            send_us=chance.choice((None, 30)),
            to_upstream_us=chance.choice((None, total // 9)),
            pool_ready_ms=chance.choice((None, 0, 1, 7)),
            connect_us=chance.choice((None, 400)),
            tls_us=chance.choice((None, 900, 1_000_000)),
            upstream_connection_id=chance.choice((None, 0, *range(1, 9))),
            upstream_host=chance.choice((None, "127.0.0.1:1")),
            connection_id=number % 3,
        )
        for attempt in range(1, attempts + 1) if chance.random() < 0.6 else ():
            moment = start + chance.randrange(-10, max(total, 1) + 10)
            writer.attempt(
                moment, request_id, attempt=attempt, connection_id=chance.choice((number % 3, 99))
            )


@pytest.fixture(scope="module")
def told(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lab, tuple[Run, ...]]:
    """A run behind a proxy and one that recorded itself, side by side, with tunnels and a kill."""
    root = tmp_path_factory.mktemp("waits")
    lab = Lab(spark=spark, root=root, names=open_lake(spark, TableNames.of(root / "lake")))
    chance, runs = random.Random(5), []
    for number, (process, observer) in enumerate(((PROXIED, "egress"), (RECORDED, "client"))):
        writer = lab.writer(sidecar_id=f"churn-{number:08x}", process_id=process, observer=observer)
        writer.program("begin", NOON)
        writer.stage("begin", NOON + SECOND, f"load-{number}", stage="load")
        write_calls(writer, chance, 400)
        writer.stage("end", NOON + 20 * SECOND, f"load-{number}", stage="load")
        writer.call(NOON + 6 * SECOND, method="CONNECT", path=None, authority="pypi.example:443")
        writer.unfinished(NOON + 50 * SECOND, duration_ms=9000, attempts=2, target="labels-v3")
        writer.close()
        runs.append(a_run(f"run{number}", 0, 58, process_id=process, client="churn"))
    store_runs(lab.spark, lab.names, runs)
    lab.ingest()
    return lab, tuple(runs)


def evidence_of(lab: Lab, run_id: str) -> Evidence:
    """What the diagnosis reads of a run."""
    found = read_evidence(lab.spark, lab.names, run_id, read_at=READ_AT)
    assert found is not None
    return found


def by_diagnosis(evidence: Evidence) -> tuple[Figures, int]:
    """Counts, parts and wait of each stage and place, and the whole wait, by the diagnosis."""
    table = table_of(evidence.calls, evidence.in_flight, span=run_span(evidence))
    parts = break_down(table, evidence.attempts)
    waits = split_waits(table.start, table.end)
    figures: Figures = {}
    for row in range(len(table)):
        service = table.text("virtual_service", row)
        key = (
            table.text("stage", row),
            service or table.text("authority", row) or "unknown",
            service,
            *(table.text(name, row) for name in ("route", "target", "pattern")),
        )
        one = figures.setdefault(key, dict.fromkeys(("wait_us", "errors", *COUNTED), 0))
        one["calls"] += 1
        one["unfinished"] += int(table.open[row])
        one["errors"] += int(table.failed[row])
        one["retries"] += int(table.retries[row])
        one["duration_us"] += int(table.duration[row])
        one["wait_us"] += int(waits.parts_us[row])
        for part in PART_NAMES:
            one[f"{part}_us"] += int(parts[part][row])
    return figures, waits.total_us


def in_lake(lab: Lab, run_id: str) -> Figures:
    """The same of the table."""
    rows = lab.table("waits").where(f"run_id = '{run_id}'").collect()
    return {tuple(row[name] for name in PLACE): row.asDict() for row in rows}


def test_the_parts_have_their_names() -> None:
    """The lake and the diagnosis split a call's time into the same parts, in the same order."""
    assert tuple(PARTS) == PART_NAMES


@pytest.mark.parametrize("run_id", ["run0", "run1"])
def test_the_lake_has_the_numbers_of_the_diagnosis(
    told: tuple[Lab, tuple[Run, ...]], run_id: str
) -> None:
    """Counts and parts are equal; so is the wait in all, and by place but for rounding."""
    lab, _ = told
    expected, total = by_diagnosis(evidence_of(lab, run_id))
    found = in_lake(lab, run_id)
    assert found.keys() == expected.keys()
    for key, figures in expected.items():
        exact = ("errors", *COUNTED)
        assert {n: found[key][n] for n in exact} == {n: figures[n] for n in exact}, key
        assert abs(found[key]["wait_us"] - figures["wait_us"]) <= figures["calls"] + 1
    assert sum(row["wait_us"] for row in found.values()) == total
