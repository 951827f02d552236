"""``meshml hops`` on calls that real programs made through real sidecars."""

import json
import shutil
from pathlib import Path

import pytest

from tests.desk import Desk, make_desk, store_run
from tests.small_mesh import SmallMesh, wait_for

CALLS = """
import sys, urllib.request
for url in sys.argv[1:]:
    urllib.request.urlopen(url).read()
"""
RELAY = "http://relay.small.local"


@pytest.mark.envoy
def test_calls_are_followed_through_real_sidecars(
    serving_mesh: SmallMesh, mlflow_store: Path
) -> None:
    """Past a service that forwards the request id, and past one that forwards nothing."""
    before = set(serving_mesh.sidecars("job"))
    done = serving_mesh.python(CALLS, f"{RELAY}/relay", f"{RELAY}/forward")
    assert done.status == 0, done.err
    (job,) = set(serving_mesh.sidecars("job")) - before
    first, second = serving_mesh.calls(job)
    (labels,) = serving_mesh.sidecars("labels")
    forwarded = {"request_id": second["request_id"]}
    wait_for(lambda: serving_mesh.calls(labels, **forwarded), "the line of the last hop")
    from meshml_dbx.traffic.access_log import micros_of

    begin = micros_of(str(first["start_time"])) - 1_000_000
    run_id = store_run(mlflow_store.parent, "train", begin, 60, str(first["process_id"]))
    store = ("--tracking", f"sqlite:///{mlflow_store}")
    told = json.loads(serving_mesh.meshml("hops", run_id, "--live", "--json", *store).out)
    paths = {
        str(trail["steps"][0]["request_id"]): [
            (it["depth"], it["observer"], it["member"], it["how"]) for it in trail["steps"]
        ]
        for trail in told["calls"]
    }
    hops = [(0, "egress", "job"), (1, "ingress", "relay"), (2, "egress", "relay")]
    hops += [(3, "ingress", "labels")]

    def by(*how: str | None) -> list[tuple[object, ...]]:
        return [(*hop, one) for hop, one in zip(hops, how, strict=True)]

    assert paths == {
        first["request_id"]: by(None, "request", "inferred", "request"),
        second["request_id"]: by(None, "request", "request", "request"),
    }
    steps = told["calls"][0]["steps"]
    spent = sum(step["self_ms"] for step in steps)
    assert spent == pytest.approx(steps[0]["duration_ms"], abs=0.01)
    shown = serving_mesh.meshml(
        "hops", run_id, "--live", "--call", str(first["request_id"]), *store
    )
    assert "job → relay.small.local (relay) GET /relay" in shown.out
    assert "      at labels" in shown.out
    assert "nested in time (inferred)" in shown.out


@pytest.fixture
def desk(empty_mlflow_store: Path, tmp_path: Path) -> Desk:
    """Runs of which only the caller's sidecar wrote a log."""
    shutil.copy(empty_mlflow_store, tmp_path / "mlflow.db")
    return make_desk(tmp_path)


def test_where_nobody_else_told_it_says_so(desk: Desk) -> None:
    """A call to a service without a sidecar is shown alone; one that is not there is an error."""
    store = ("--tracking", desk.store)
    done = desk.meshml("hops", desk.runs["slow"], "--top", "1", *store)
    assert done.status == 0, done.err
    assert "labels.ml.local (labels-v2) GET /v1/labels/{}" in done.out
    assert "no service that was called has told of this call" in done.out
    done = desk.meshml("hops", desk.runs["never"], *store)
    assert (done.status, "has no finished call" in done.out) == (0, True)
    done = desk.meshml("hops", desk.runs["slow"], "--call", "x", *store)
    assert done.status == 3
    assert "has no finished call x" in done.err
    assert "meshml why --evidence" in done.err
