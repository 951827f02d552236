"""The query that a culprit carries, run by a real Spark on rows of the lake's shape."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from meshml_dbx.diagnosis import Diagnosis, diagnose
from meshml_dbx.traffic.call import Call, Connection
from tests.diagnosis.hand_made import (
    BEGIN,
    SECOND,
    SIDECAR,
    call,
    compared,
    program,
    run_of,
    slow_route,
)

NASTY = 'it\'s\\ a "name" -- ;\n%_{}'
RUN = "run's id\\"

SPARK = """
import json, sys
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
texts = ("run_id observer sidecar_id request_id virtual_service authority route target pattern "
         "flags origin_flags upstream_host upstream_local_address upstream_failure").split()
numbers = "start_time code attempts duration_us first_byte_us".split()
schema = ", ".join([f"{one} string" for one in texts] + [f"{one} long" for one in numbers])
tables, queries = json.load(sys.stdin)
schemas = {
    "connections": "downstream_address string, failure string, start_time long",
    "calls_by_run": "run_id string, observer string, sidecar_id string, request_id string, "
                    "start_time long",
}
for table, rows in tables.items():
    frame = spark.createDataFrame([tuple(row) for row in rows], schemas.get(table, schema))
    frame.createOrReplaceTempView("raw")
    kept = [name for name in frame.columns if name != "start_time"]
    spark.sql(f"SELECT {', '.join(kept)}, timestamp_micros(start_time) AS start_time FROM raw"
              ).createOrReplaceTempView(table)
print(json.dumps([[row.request_id for row in spark.sql(one).collect()] for one in queries]))
"""

TEXTS = (
    "request_id",
    "virtual_service",
    "authority",
    "route",
    "target",
    "pattern",
    "flags",
    "origin_flags",
    "upstream_host",
    "upstream_local_address",
    "upstream_failure",
)


def lake_row(one: Call) -> list[object]:
    """A call as the lake holds it."""
    texts = [getattr(one, name) for name in TEXTS]
    times = [one.start_time, one.code, one.attempts, one.duration_us, one.first_byte_us]
    return [None, "egress", SIDECAR, *texts, *times]


def owned(one: Call) -> list[object]:
    """A call as a row of the run that owns it."""
    return [RUN, "egress", SIDECAR, one.request_id, one.start_time]


def made() -> tuple[list[Call], Call, Connection]:
    """A run with a slow target of awkward names, a refused one, a stuck call and one in flight."""

    def change(target: str, number: int) -> dict[str, object] | None:
        if target == "v2":
            return {"ms": 950, "virtual_service": NASTY, "route": NASTY, "target": "v2'"}
        if target == "features":
            return {"ms": 4, "code": 503, "flags": "UC", "first_byte_us": None}
        return {"ms": 20_000} if (target, number) == ("records", 7) else None

    calls = program(change)
    refused = next(one for one in calls if one.flags == "UC")
    line = Connection(
        start_time=refused.start_time,
        observer="ingress",
        sidecar_id="features-1",
        downstream_address=refused.upstream_local_address,
        failure="TLS_error:PEER_DID_NOT_RETURN_A_CERTIFICATE",
    )
    flying = call(
        calls[-1].end_time - BEGIN,
        0,
        type="Unfinished",
        code=0,
        total_us=None,
        duration_ms=9000,
        request_id=NASTY,
        virtual_service="scoring.ml.local",
        route="score",
        target="scoring",
        pattern="POST /v1/score",
    )
    return calls, flying, line


def answered() -> tuple[Diagnosis, list[Call], Call, Connection]:
    """The diagnosis of that run."""
    calls, flying, line = made()
    run = run_of(calls, run_id=RUN, end_time=flying.end_time + SECOND)
    healthy = compared(program(slow_route)).baseline[0]
    usual = replace(
        healthy,
        calls=type(healthy.calls).of(
            [
                replace(one, virtual_service=NASTY, route=NASTY, target="v2'")
                if one.target == "v2"
                else one
                for one in program(seed=2)
            ]
        ),
    )
    known = compared(calls, run=run, in_flight=(flying,), connections=(line,), baseline=(usual,))
    return diagnose(known), calls, flying, line


@pytest.mark.spark
def test_each_culprit_s_query_gives_its_calls() -> None:
    """Spark reads the statement, whatever is in the names, and finds the rows of that culprit."""
    answer, calls, flying, line = answered()
    foreign = replace(next(one for one in calls if one.flags == "UC"), request_id="another run's")
    tables = {
        "calls": [lake_row(one) for one in [*calls, foreign]],
        "calls_by_run": [owned(one) for one in calls],
        "unfinished_calls": [lake_row(flying)],
        "connections": [[line.downstream_address, line.failure, line.start_time]],
    }

    done = subprocess.run(
        [sys.executable, "-c", SPARK],
        input=json.dumps([tables, [one.sql for one in answer.blamed]]),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = [len(set(ids)) for ids in json.loads(done.stdout)]
    assert found == [one.calls for one in answer.blamed] == [33, 1, 1, 60]


def test_a_foreign_name_cannot_end_the_literal() -> None:
    """Quotes, backslashes and line ends of names stay inside the statement's texts."""
    answer, *_ = answered()
    slow = next(one for one in answer.blamed if one.cause == "slow_upstream")

    assert "c.virtual_service = 'it\\'s\\\\ a \"name\" -- ;\\n%_{}'" in slow.sql
    assert "r.run_id = 'run\\'s id\\\\'" in slow.sql
