"""The MLflow plugin in a real MLflow: which runs carry the tags, and what loading it costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROCESS = "33333333-3333-3333-3333-333333333333"
TAGS = {"meshml.process_id": PROCESS, "meshml.client": "churn-training"}

PROGRAM = """
import json
import mlflow
import numpy
from sklearn.linear_model import LogisticRegression
from meshml_dbx import headers, stage

client = mlflow.MlflowClient()
tags = {}

def note(name, run_id):
    found = client.get_run(run_id).data.tags
    tags[name] = {key: value for key, value in found.items() if key.startswith("meshml.")}

with mlflow.start_run() as run:
    note("start_run", run.info.run_id)
    with mlflow.start_run(nested=True) as nested:
        note("nested", nested.info.run_id)
        with stage("training"):
            tags["headers"] = {"run": nested.info.run_id, **headers()}
mlflow.sklearn.autolog(log_models=False)
LogisticRegression().fit(numpy.array([[0.0], [1.0]]), [0, 1])
note("autolog", mlflow.last_active_run().info.run_id)
note("create_run", client.create_run("0").info.run_id)
print(json.dumps(tags))
"""


def run_python(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python program with no variables of ours but these."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MESHML_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning:mlflow", "-c", text],
        cwd=folder,
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def tags_of_runs(store: Path, **variables: str) -> dict[str, dict[str, str]]:
    """Our tags on the runs that a program starts in each of MLflow's ways."""
    uri = f"sqlite:///{store}"
    done = run_python(PROGRAM, store.parent, MLFLOW_TRACKING_URI=uri, **variables)
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_runs_started_under_meshml_run_name_their_process(mlflow_store: Path) -> None:
    """start_run, nested runs and autolog carry the tags; runs made by the client do not."""
    variables = {"MESHML_PROCESS_ID": PROCESS, "MESHML_CLIENT": "churn-training"}
    job = {"MESHML_JOB_RUN_ID": "77", "MESHML_TASK_RUN_ID": "78"}
    found = tags_of_runs(mlflow_store, **variables, **job)
    headers = found.pop("headers")
    tags = {**TAGS, "meshml.job_run_id": "77", "meshml.task_run_id": "78"}
    assert found == {"start_run": tags, "nested": tags, "autolog": tags, "create_run": {}}
    assert headers["x-meshml-run-id"] == headers["run"]
    assert headers["x-meshml-stage"] == "training"


def test_runs_started_elsewhere_carry_nothing_of_ours(mlflow_store: Path) -> None:
    """Being installed changes no run that meshml has nothing to do with."""
    found = tags_of_runs(mlflow_store)
    del found["headers"]
    assert found == {"start_run": {}, "nested": {}, "autolog": {}, "create_run": {}}


def test_loading_the_plugin_loads_nothing_heavy(tmp_path: Path) -> None:
    """MLflow loads it in every program of the environment, so it must weigh nothing there."""
    done = run_python(
        "import sys\nimport meshml_dbx.plugins.mlflow_plugin\n"
        "heavy = {'mlflow', 'orjson', 'numpy', 'click', 'rich', 'yaml', 'cryptography', 'json'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(sorted(n for n in sys.modules if n.startswith('meshml_dbx')))\n",
        tmp_path,
    )
    heavy, ours = done.stdout.splitlines()
    assert heavy == "[]"
    assert ours == str(
        [
            "meshml_dbx",
            "meshml_dbx.plugins",
            "meshml_dbx.plugins.mlflow_plugin",
            "meshml_dbx.traffic",
            "meshml_dbx.traffic.context",
        ]
    )
