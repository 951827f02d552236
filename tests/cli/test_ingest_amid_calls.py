"""Ingest while programs go on calling: their sidecars close what they have, and write on."""

import shutil
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.lake import TableNames
from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings
from tests.small_mesh import LABELS, SmallMesh

pytestmark = [pytest.mark.spark, pytest.mark.envoy, pytest.mark.timeout(900)]

CALLING = """
import pathlib, sys, time, urllib.request
calls = 0
while not pathlib.Path(sys.argv[2]).exists():
    urllib.request.urlopen(sys.argv[1]).read()
    calls += 1
    time.sleep(0.05)
print(calls)
"""


def test_ingest_amid_calls(spark: SparkSession, mesh: SmallMesh, empty_mlflow_store: Path) -> None:
    """Twice amid calls and once after them: each call is a row on either side, and only one."""
    store, stop = mesh.folder / "mlflow.db", mesh.folder / "stop"
    shutil.copy(empty_mlflow_store, store)
    settings = read_settings({}, state=mesh.state, tracking=f"sqlite:///{store}")
    session = Session(settings)
    program = (sys.executable, "-c", CALLING, LABELS, str(stop))
    with mesh.serve("labels"):
        with mesh.start("run", "--client", "job", "--", *program) as job:
            assert job.process.poll() is None
            amid = [session.ingest() for _ in range(2)]
            stop.touch()
            done = job.finish()
        session.ingest()
    sent = int(done.out)
    assert done.status == 0
    assert all(report.ended for report in amid)
    names = TableNames.of(settings.lake)
    calls = spark.table(names.table("calls"))
    for observer in ("egress", "ingress"):
        seen = [row["request_id"] for row in calls.where(f"observer = '{observer}'").collect()]
        assert (len(seen), len(set(seen))) == (sent, sent)
    ledger = spark.table(names.table("ledger")).collect()
    assert {(row["rows"], row["lost"]) for row in ledger} == {(sent, 0)}
    assert session.ingest().ended == 0
