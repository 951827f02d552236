"""The desk of a person with a slow run: an MLflow store, a log folder, and a shell to type in.

Goes in: a folder and an empty MLflow store. Comes out: four runs (healthy, slow, one that hangs,
and one that was never recorded), the logs of the first three as their sidecars would have left
them, and the outcome of each ``meshml`` command that is typed there.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.log_writing import SECOND, T0, Writer, line_of
from tests.small_mesh import Done

CLIENT = "churn-training"
EXPERIMENT = "churn"
CALLS = 120
DEADLINE_S = 500.0

HEALTHY_MS, SLOW_MS = 40, 240
"""How long labels-v2 takes for a call in the healthy and in the slow run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A folder with an MLflow store and a state folder; ``runs`` are ids by what they do."""

    folder: Path
    runs: Mapping[str, str]

    @property
    def store(self) -> str:
        """The address of the MLflow store."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def logs(self) -> Path:
        """The log folder."""
        return self.folder / ".meshml" / "logs"

    def meshml(self, *arguments: str, cwd: Path | None = None, **variables: str) -> Done:
        """A command, typed in this folder and run to its end."""
        return self.python("-m", "meshml_dbx", *arguments, cwd=cwd, **variables)

    def shell(self, line: str, **variables: str) -> Done:
        """A line as it was printed, pasted into a shell that has ``meshml`` on its path."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return self._finish(["sh", "-c", line], self.folder, {"PATH": path, **variables})

    def python(self, *arguments: str, cwd: Path | None = None, **variables: str) -> Done:
        """A Python program, run in this folder to its end."""
        return self._finish([sys.executable, *arguments], cwd or self.folder, variables)

    def _finish(self, command: list[str], cwd: Path, variables: Mapping[str, str]) -> Done:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**plain_environment(), **variables},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def plain_environment() -> dict[str, str]:
    """What a shell has that knows nothing of meshes, runs or proxies."""
    ours = ("MESHML_", "MLFLOW_", "SPARK_", "PYSPARK_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and not name.upper().endswith("_PROXY")
    }


def make_desk(folder: Path) -> Desk:
    """Runs and logs in a folder that has an empty ``mlflow.db``."""
    logs = folder / ".meshml" / "logs"
    healthy, slow = T0 - 300 * SECOND, T0
    write_log(logs, "0a1b2c3d", healthy, HEALTHY_MS)
    write_log(logs, "4e5f6a7b", slow, SLOW_MS)
    write_hanging_log(logs, "8c9d0e1f", T0 - 900 * SECOND)
    runs = {
        "hangs": store_run(folder, "hangs", T0 - 900 * SECOND, None, process_of("8c9d0e1f")),
        "never": store_run(folder, "nightly", T0 - 600 * SECOND, 60, process_of("ffffffff")),
        "healthy": store_run(folder, CLIENT, healthy, 30, process_of("0a1b2c3d")),
        "slow": store_run(folder, CLIENT, slow, 60, process_of("4e5f6a7b")),
    }
    return Desk(folder=folder, runs=runs)


def process_of(sidecar: str) -> str:
    """The process whose sidecar ends in these letters."""
    return f"{sidecar}-0000-4000-8000-000000000001"


def write_log(logs: Path, sidecar: str, begin: int, v2_ms: int, *, calls: int = CALLS) -> Writer:
    """The closed file of one training program: every third call goes to labels-v2."""
    writer = Writer(logs=logs, sidecar_id=f"{CLIENT}-{sidecar}", process_id=process_of(sidecar))
    first = (begin - T0) // 1000
    span = {"mesh_version": "v1", "observer": "egress", "client": CLIENT, "program": "train.py"}
    own = {"sidecar_id": writer.sidecar_id, "process_id": writer.process_id, "mesh": "ml"}
    lines = [
        line_of("program", "begin", time=begin - SECOND, **own, **span),
        writer.mesh("v1", "mesh:\n  meshName: ml\n", time=begin - SECOND),
        writer.stage("begin", "a", begin, run_id=None),
    ]
    at_ms = first + 10
    for number in range(calls):
        ms = v2_ms if number % 3 == 0 else HEALTHY_MS
        lines.append(call_line(writer, at_ms, number, ms))
        at_ms += ms + 10
    end = T0 + at_ms * 1000
    counters = {"requests_total": calls, "requests_active": 0, "write_failed": 0}
    lines += [
        writer.stage("end", "a", end, sent=calls),
        writer.sample(begin, requests_total=0, requests_active=0, cpu_us=0),
        writer.sample(end, kind="last", **counters, cpu_us=2 * SECOND),
        line_of("program", "end", time=end, exit_code=0, cpu_us=2 * SECOND, **own, **span),
    ]
    writer.close(*lines, at=end)
    return writer


def write_hanging_log(logs: Path, sidecar: str, begin: int) -> None:
    """The live files of a program whose second call does not come back."""
    writer = Writer(logs=logs, sidecar_id=f"{CLIENT}-{sidecar}", process_id=process_of(sidecar))
    first = (begin - T0) // 1000
    stuck = {"request_id": "stuck-000001", "target": "labels-v2", "path": "/v1/labels/1"}
    writer.live(writer.stage("begin", "a", begin), name="stages-17.jsonl")
    writer.live(
        call_line(writer, first + 10, 0, HEALTHY_MS),
        writer.start(first + 100, **stuck),
        writer.call(first + 100, "DownstreamPeriodic", **stuck, duration_ms=8000, total_us=None),
    )


def call_line(writer: Writer, at_ms: int, number: int, ms: int) -> bytes:
    """A finished call that took so long, nearly all of it until the first byte."""
    target = "labels-v2" if number % 3 == 0 else "labels-v1"
    return writer.call(
        at_ms,
        request_id=f"{writer.sidecar_id[-8:]}-{number:06d}",
        path=f"/v1/labels/{number}",
        target=target,
        upstream_host=f"127.0.0.1:1808{target[-1]}",
        upstream_connection_id=int(target[-1]),
        pool_ready_ms=0,
        to_upstream_us=200,
        send_us=20,
        first_byte_us=ms * 1000 - 500,
        receive_us=100,
        duration_ms=ms,
        total_us=ms * 1000,
    )


def store_run(folder: Path, name: str, begin: int, seconds: int | None, process_id: str) -> str:
    """Put a run into the folder's MLflow store as the plugin tags it; its id."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    known = client.get_experiment_by_name(EXPERIMENT)
    place = (folder / "artifacts").as_uri()
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, place)
    tags = {"meshml.process_id": process_id, "meshml.client": CLIENT}
    run = client.create_run(experiment, start_time=begin // 1000, run_name=name, tags=tags)
    run_id = str(run.info.run_id)
    if seconds is not None:
        client.set_terminated(run_id, end_time=begin // 1000 + seconds * 1000)
    return run_id
