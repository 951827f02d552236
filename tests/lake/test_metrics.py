"""A run's waits are written back to MLflow: once, for finished runs, and never at any price."""

from datetime import date
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from meshml_dbx import connect
from meshml_dbx.lake.metrics import write_metrics
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.sketch import bucket_of
from meshml_dbx.traffic.waits import Wait, run_metrics
from tests.lake.conftest import Lab
from tests.lake.writing import NOON, SECOND


def a_wait(service: str, **values: object) -> Wait:
    """A second of waiting for one call of 1,000 ms."""
    usual: dict[str, object] = dict.fromkeys(Wait.__slots__, 0) | {
        "run_id": "r",
        "event_date": date(2026, 11, 22),
        "service": service,
        "calls": 1,
        "wait_us": SECOND,
        "buckets": {bucket_of(SECOND): 1},
    }
    return Wait(**usual | values)  # type: ignore[arg-type]  # its own fields


def test_metrics_are_sums_and_merged_quantiles() -> None:
    """In all, and for each service; the quantile is of the calls, not of the rows."""
    slow = {bucket_of(3 * SECOND): 99}
    found = run_metrics(
        [a_wait("labels", retries=2), a_wait("labels", buckets=slow, calls=99), a_wait("scores")]
    )
    assert (found["mesh/wait_s"], found["mesh/calls"], found["mesh/retries"]) == (3.0, 101.0, 2.0)
    assert found["mesh/labels/wait_s"] == 2.0
    assert found["mesh/p95_ms"] == pytest.approx(3000, rel=0.01)
    assert found["mesh/scores/p95_ms"] == pytest.approx(1000, rel=0.01)


def test_names_are_such_that_mlflow_takes_them() -> None:
    """Ports, slashes and dots alone become another name; two services never share one."""
    found = run_metrics([a_wait(name) for name in ("a:1", "a_1", "A_1", "..", "x/y", "é" * 300)])
    services = {name.split("/")[1] for name in found if name.count("/") == 2}
    assert services == {"A_1", "a_1_2", "a_1_3", "__", "x_y", "_" * 200}


@pytest.mark.spark
def test_finished_runs_get_their_metrics_once(lab: Lab, mlflow_store: Path) -> None:
    """One that lasts gets none; the second time nothing is logged; new calls are the next step."""
    uri = f"sqlite:///{mlflow_store}"
    client = MlflowClient(uri)
    ids = [client.create_run("0", run_name=name).info.run_id for name in ("ended", "lasting")]
    runs = [
        Run(
            run_id=run_id,
            name=run_id,
            experiment_id="0",
            status=status,
            start_time=NOON,
            end_time=end,
            process_id=f"{number}",
            client="churn",
        )
        for number, (run_id, status, end) in enumerate(
            zip(ids, ("FINISHED", "RUNNING"), (NOON + 4 * SECOND, None), strict=True)
        )
    ]
    store_runs(lab.spark, lab.names, runs)
    writers = [lab.writer(sidecar_id=f"churn-{n:08x}", process_id=str(n)) for n in range(2)]
    for writer in writers:
        writer.call(NOON, total_us=SECOND, virtual_service="labels:80")
        writer.close()
    lab.ingest()
    log = connect.RunLog(uri)
    first = write_metrics(lab.spark, lab.names, log)
    assert (first.runs, first.waited_long, first.notices) == ((ids[0],), (ids[0],), ())
    assert write_metrics(lab.spark, lab.names, log).runs == ()
    assert client.get_run(ids[0]).data.metrics["mesh/labels_80/wait_s"] == 1.0
    assert client.get_run(ids[1]).data.metrics == {}
    writers[0].call(NOON + 2 * SECOND, total_us=SECOND)
    writers[0].close()
    lab.ingest()
    assert write_metrics(lab.spark, lab.names, log).runs == (ids[0],)
    history = client.get_metric_history(ids[0], "mesh/wait_s")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 2.0)]


@pytest.mark.spark
def test_a_store_that_is_down_is_a_notice(lab: Lab, tmp_path: Path) -> None:
    """Nothing is raised and nothing marked as written: the next time it is tried again."""
    run = Run(
        run_id="gone",
        name="gone",
        experiment_id="0",
        status="FAILED",
        start_time=NOON,
        end_time=NOON + SECOND,
        process_id="0",
        client="churn",
    )
    store_runs(lab.spark, lab.names, [run])
    writer = lab.writer(process_id="0")
    writer.call(NOON)
    writer.close()
    lab.ingest()
    (tmp_path / "file").touch()
    found = write_metrics(
        lab.spark, lab.names, connect.RunLog(f"sqlite:///{tmp_path}/file/none/mlflow.db")
    )
    assert found.runs == ()
    assert "no metrics for run gone" in found.notices[0]
    assert lab.count("metrics_written") == 0
