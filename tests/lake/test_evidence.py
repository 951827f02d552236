"""Evidence from the lake holds what the run's lines say, and is the log folder's own."""

import random
from dataclasses import dataclass, replace

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.errors import UnknownRunError
from meshml_dbx.lake.evidence import has_run, read_evidence
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.tables import TableNames, open_lake
from meshml_dbx.recording import evidence as recording
from meshml_dbx.traffic.evidence import DROPPED_TEXT, Evidence
from meshml_dbx.traffic.ownership import Run
from tests.lake.conftest import Lab
from tests.lake.test_join import a_run
from tests.lake.writing import NOON, SECOND, LogWriter

pytestmark = pytest.mark.spark

READ_AT = NOON + 3600 * SECOND


def write_run(writer: LogWriter, begin: int, calls: int = 12) -> None:
    """What a run of a minute leaves: stages, calls, retries, a tunnel, a stuck call, samples."""
    chance = random.Random(begin)
    at = NOON + begin * SECOND
    writer.program("begin", at, program="train.py")
    writer.mesh(at)
    writer.stage("begin", at + SECOND, f"load-{begin}", stage="load")
    for number in range(calls):
        moment = at + (number + 1) * 3 * SECOND
        retried = number % 5 == 4
        request_id = writer.call(
            moment,
            total_us=chance.randrange(1000, 90_000),
            attempts=2 if retried else 1,
            stage="told" if number == 3 else None,
            target=chance.choice(("labels-v1", "labels-v2", None)),
        )
        for attempt in range(2 if retried else 1):
            writer.attempt(moment + attempt, request_id, attempt=attempt + 1)
    writer.stage("end", at + 20 * SECOND, f"load-{begin}", stage="load", sent=calls)
    writer.connection(at + 5 * SECOND, failure="TLS_error: certificate expired")
    writer.connection(at + 5 * SECOND)
    writer.call(at + 6 * SECOND, method="CONNECT", path=None, authority="pypi.example:443")
    writer.unfinished(at + 50 * SECOND, duration_ms=9000)
    writer.sample(at + 2 * SECOND, requests_total=1, cpu_us=100_000)
    writer.sample(at + 59 * SECOND, type_="last", requests_total=calls + 1, cpu_us=2_000_000)
    writer.program("end", at + 60 * SECOND, cpu_us=2_000_000, exit_code=0)


@pytest.fixture(scope="module")
def told(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lab, tuple[Run, ...]]:
    """Two runs of one client, each in a process and behind a sidecar of its own."""
    root = tmp_path_factory.mktemp("evidence")
    lab = Lab(spark=spark, root=root, names=open_lake(spark, TableNames.of(root / "lake")))
    runs = []
    for number, begin in enumerate((0, 100)):
        process = f"{number}2222222-2222-2222-2222-222222222222"
        writer = lab.writer(sidecar_id=f"churn-{number:08x}", process_id=process)
        write_run(writer, begin)
        writer.close()
        run = a_run(f"run{number}", begin, begin + 60, process_id=process, client="churn")
        runs.append(run)
    store_runs(lab.spark, lab.names, runs)
    lab.ingest()
    return lab, tuple(runs)


def from_lake(lab: Lab, run_id: str, baseline: str | None = None) -> Evidence:
    """The lake's evidence of a run that it knows."""
    found = read_evidence(lab.spark, lab.names, run_id, read_at=READ_AT, baseline=baseline)
    assert found is not None
    return found


def test_both_makers_agree(told: tuple[Lab, tuple[Run, ...]]) -> None:
    """The lake and the log folder give equal evidence of the same run, field by field."""
    lab, runs = told
    lake = from_lake(lab, "run1")
    folder = recording.read_evidence(lab.logs, runs[1], runs, read_at=READ_AT)
    for name in Evidence.__slots__:
        assert getattr(lake, name) == getattr(folder, name), name


def test_what_evidence_holds(told: tuple[Lab, tuple[Run, ...]]) -> None:
    """Calls, retried attempts, refusals, open calls, tunnels, stages, CPU, ledger and baseline."""
    lab, _ = told
    found = from_lake(lab, "run1")
    assert len(found.calls) == 12
    assert {a.attempt for a in found.attempts} == {1, 2}
    assert len(found.attempts) == 4
    assert [c.failure for c in found.connections] == ["TLS_error: certificate expired"]
    assert (len(found.in_flight), len(found.tunnels), len(found.stages)) == (1, 1, 1)
    assert found.cpu_s == pytest.approx(2.0)
    assert (found.ledger.sent, found.ledger.rows, found.ledger.lost) == (12, 12, 0)
    assert found.mesh_documents == {"a1b2": ("mesh.yml", "mesh: {}")}
    assert [past.run.run_id for past in found.baseline] == ["run0"]
    assert (found.baseline_kind, found.not_seen) == ("recent", ())
    assert [found.calls.texts["stage"][row] for row in (0, 3, 11)] == ["load", "told", None]


def test_runs_that_are_asked_for(told: tuple[Lab, tuple[Run, ...]]) -> None:
    """An unknown run has no evidence, an unknown baseline is an error, a named one is used."""
    lab, _ = told
    assert (has_run(lab.spark, lab.names, "run1"), has_run(lab.spark, lab.names, "x")) == (
        True,
        False,
    )
    assert read_evidence(lab.spark, lab.names, "x", read_at=READ_AT) is None
    with pytest.raises(UnknownRunError, match="the baseline x"):
        from_lake(lab, "run0", baseline="x")
    assert from_lake(lab, "run0", baseline="run1").baseline_kind == "named"


def test_a_run_without_calls(told: tuple[Lab, tuple[Run, ...]]) -> None:
    """A run in whose time nothing was recorded has empty evidence that says so."""
    lab, runs = told
    empty = replace(
        runs[0], run_id="empty", start_time=NOON - 9, end_time=NOON - 5, process_id=None
    )
    store_runs(lab.spark, lab.names, [empty])
    found = from_lake(lab, "empty")
    assert (len(found.calls), found.cpu_s, found.ledger.proxied) == (0, None, None)
    assert found.not_seen[0] == "no call of the run was recorded"


RECORDED = "44444444-4444-4444-4444-444444444444"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Runs that recorded themselves, without a mesh, and the lake that their lines went to."""

    lab: Lab
    runs: tuple[Run, ...]

    def both(self, run_id: str) -> tuple[Evidence, Evidence]:
        """The evidence of a run from the lake and from the log folder, equal in every field."""
        lake = from_lake(self.lab, run_id)
        (run,) = (one for one in self.runs if one.run_id == run_id)
        folder = recording.read_evidence(self.lab.logs, run, self.runs, read_at=READ_AT)
        for name in Evidence.__slots__:
            assert getattr(lake, name) == getattr(folder, name), name
        return lake, folder


def record_driver(writer: LogWriter, at: int) -> None:
    """What a program's own recorder leaves: a stage, calls made again, a try, a stuck call."""
    writer.program("begin", at, program="train.py")
    writer.stage("begin", at + SECOND, "load", stage="load", run_id="own")
    for number in range(6):
        moment = at + (2 + number) * SECOND
        request_id = writer.call(
            moment,
            attempt=1 + number % 3,
            attempts=3 if number == 4 else 1,
            run_id="own" if number < 3 else None,
            authority="data.s3.amazonaws.com",
            virtual_service="S3 bucket data",
            resource=2**63 - 1 if number % 2 else None,
            connect_us=None if number else 900,
            upstream_failure="TLS_error:CERTIFICATE_VERIFY_FAILED" if number == 5 else None,
        )
        for attempt in range(3 if number == 4 else 0):
            writer.attempt(moment + attempt, request_id, attempt=attempt + 1)
    writer.stage("end", at + 30 * SECOND, "load", stage="load", sent=20)
    writer.unfinished(at + 40 * SECOND, duration_ms=9000)
    writer.sample(at + SECOND, requests_total=1, requests_active=1, cpu_us=100_000)
    writer.sample(at + 50 * SECOND, type_="last", requests_total=10, requests_active=1, dropped=2)
    writer.program("end", at + 50 * SECOND, cpu_us=2_000_000)


def record_executor(writer: LogWriter, at: int, partition: int) -> None:
    """What a recorder on an executor leaves: calls of a Spark task, and a kill."""
    writer.program("begin", at, cpu_us=70_000_000)
    for number in range(3):
        writer.call(
            at + number * SECOND,
            thread=None,
            spark_stage=7,
            spark_partition=partition,
            spark_attempt=number,
        )
    writer.sample(at + 3 * SECOND, requests_total=5, cpu_us=71_500_000)


@pytest.fixture(scope="module")
def recorded(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run of a driver and two executors, one beside it in the same process, one untagged."""
    root = tmp_path_factory.mktemp("recorded")
    lab = Lab(spark=spark, root=root, names=open_lake(spark, TableNames.of(root / "lake")))
    who = {"observer": "client", "process_id": RECORDED}
    driver = lab.writer(sidecar_id="churn-0000000d", **who)
    record_driver(driver, NOON)
    executors = [lab.writer(sidecar_id=f"churn-0000000{number}", **who) for number in (1, 2)]
    for number, executor in enumerate(executors):
        record_executor(executor, NOON + (10 + number) * SECOND, number)
    early = lab.writer(sidecar_id="churn-0000000e", **who)
    early.call(NOON - 20 * SECOND)
    early.sample(NOON - SECOND, type_="last", requests_total=9)
    other = lab.writer(sidecar_id="notebook-0000000f", **{**who, "client": "notebook"})
    other.process_id = f"5{RECORDED[1:]}"
    other.call(NOON + 100 * SECOND)
    for writer in (driver, *executors, early, other):
        writer.close()
    runs = (
        a_run("own", 0, 60, process_id=RECORDED, client="churn"),
        a_run("beside", 0, 60, process_id=RECORDED, client="churn"),
        a_run("untagged", 90, 120, client="notebook"),
    )
    store_runs(lab.spark, lab.names, runs)
    lab.ingest()
    return Recorded(lab=lab, runs=runs)


def test_both_makers_agree_on_recorded_calls(recorded: Recorded) -> None:
    """By process, over all recorders of it: calls, tries, CPU, what was dropped and what killed."""
    lake, _ = recorded.both("own")
    assert lake.calls.texts["join_method"].names == ("header", "process")
    assert lake.calls.texts["observer"].names == ("client",)
    assert set(lake.calls.texts["sidecar_id"].names) == {f"churn-0000000{n}" for n in "12d"}
    assert set(lake.calls.numbers["attempt"]) == {1, 2, 3}
    assert set(lake.calls.numbers["resource"]) >= {-1, 2**63 - 1}
    assert [attempt.attempt for attempt in lake.attempts] == [1, 2, 3]
    (flying,) = lake.in_flight
    assert (flying.thread, flying.observer, flying.stage) == ("MainThread", "client", None)
    assert lake.cpu_s == pytest.approx(2.0 + 2 * 1.5)
    assert (lake.ledger.proxied, lake.ledger.rows, lake.ledger.lost) == (19, 12, 7)
    assert lake.ledger.explained == (
        *(
            f"churn-0000000{n}: the process was killed: up to 200 ms of its log "
            "were still in memory"
            for n in (1, 2)
        ),
        f"churn-0000000d: 2 calls {DROPPED_TEXT}",
    )


def test_both_makers_agree_on_a_run_beside_it(recorded: Recorded) -> None:
    """Of two that began at once the calls that name none are one's; the other has the counters."""
    lake, _ = recorded.both("beside")
    assert (len(lake.calls), lake.ambiguous_calls) == (0, 0)


def test_both_makers_agree_on_a_recorded_run_without_a_tag(recorded: Recorded) -> None:
    """By client and time, as with a proxy."""
    lake, _ = recorded.both("untagged")
    assert lake.calls.texts["join_method"].names == ("window",)
    assert lake.ledger.explained == ("notebook-0000000f: no sample of the recorder's counters",)


def test_the_lake_keeps_what_only_the_process_knows(recorded: Recorded) -> None:
    """Thread and Spark task stand in the table of calls, for whoever asks it."""
    rows = recorded.lab.values(
        "calls", "spark_stage", "spark_partition", "spark_attempt", "thread", "observer"
    )
    tasks = sorted(row for row in rows if row[0] is not None)
    assert tasks == [(7, part, n, None, "client") for part in (0, 1) for n in (0, 1, 2)]
    assert {row[3] for row in rows if row[0] is None} == {"MainThread"}
