"""A notebook that records itself and asks why: with a run, without one, and with executors."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recorder.answering import AnsweringServer, answering
from tests.test_in_process import lines_in, run_python

NOTEBOOK = """
import json, sys
for name in ("pyspark", "delta", "aiohttp", "httpx", "envoy"):  # a base install has none of them
    sys.modules[name] = None
from concurrent.futures import ThreadPoolExecutor
import mlflow, requests
import meshml_dbx

url, told = sys.argv[1], {}
with mlflow.start_run() as run:
    requests.get(url + "/kb")
    meshml_dbx.record("churn")
    requests.get(url + "/kb")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(requests.get, [url + "/kb"] * 6))
    answer = meshml_dbx.why()
    told["during"] = [answer.run_id, len(answer.evidence.calls), answer.status]
requests.get(url + "/kb")
answer = meshml_dbx.why()
told["after"] = [answer.run_id, len(answer.evidence.calls), answer.status]
told["joined_by"] = sorted(answer.evidence.calls.texts["join_method"].names)
told["is_shown"] = url.partition("//")[2] in answer._repr_html_()
told["run_id"] = run.info.run_id
told["tags"] = mlflow.get_run(run.info.run_id).data.tags
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def service() -> Iterator[AnsweringServer]:
    """One service for all notebooks."""
    with answering() as server:
        yield server


def test_a_notebook_asks_why_in_the_next_cell(mlflow_store: Path, service: AnsweringServer) -> None:
    """Recorded from within a run: it is tagged, other threads' calls are its own, and the answer
    knows every call that was over, while the run goes on and after it. No extra is needed.
    """
    uri = f"sqlite:///{mlflow_store}"
    done = run_python(mlflow_store.parent, NOTEBOOK, service.url, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    run_id = told["run_id"]
    assert told["during"] == [run_id, 7, "RUNNING"]
    assert told["after"] == [run_id, 7, "FINISHED"]
    (begin,) = lines_in(mlflow_store.parent / ".meshml", _record="program", _type="begin")
    assert told["tags"]["meshml.process_id"] == begin["process_id"]
    assert told["tags"]["meshml.client"] == "churn"
    assert (told["joined_by"], told["is_shown"]) == (["header", "process"], True)


BROKEN_STORE = """
import logging, sqlite3, sys
import mlflow, meshml_dbx

with mlflow.start_run():
    with sqlite3.connect(sys.argv[1]) as connection:
        connection.execute("alter table tags rename to gone")
    recording = meshml_dbx.record()
    print(recording)
    with sqlite3.connect(sys.argv[1]) as connection:
        connection.execute("alter table gone rename to tags")
"""


def test_a_store_that_takes_no_tags_is_noted(mlflow_store: Path) -> None:
    """The recording goes on, and says how its calls will be joined."""
    uri = f"sqlite:///{mlflow_store}"
    done = run_python(mlflow_store.parent, BROKEN_STORE, str(mlflow_store), MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert "warning: the active run could not be tagged (" in done.stdout
    assert "recording the calls of" in done.stdout


NO_RUN = """
import sys, urllib.request
import meshml_dbx

meshml_dbx.record()
urllib.request.urlopen(sys.argv[1]).read()
if len(sys.argv) > 2:
    import mlflow
try:
    meshml_dbx.why()
except meshml_dbx.MeshMLError as error:
    print(error)
"""


@pytest.mark.parametrize("words", [(), ("mlflow",)])
def test_without_any_run_the_user_learns_how_to_make_one(
    tmp_path: Path, service: AnsweringServer, words: tuple[str, ...]
) -> None:
    """An answer is about a run: who never made one is told so, in the line to write."""
    done = run_python(tmp_path, NO_RUN, service.url + "/kb", *words)
    assert done.returncode == 0, done.stderr
    assert "with mlflow.start_run():" in done.stdout


EXECUTORS = """
import meshml_dbx, sys
meshml_dbx.record(state=sys.argv[1])
print(meshml_dbx.recorded(len)("four"))
"""


@pytest.mark.parametrize(("version", "warnings"), [("17.3", 1), (None, 0)])
def test_executors_that_cannot_reach_the_folder_are_told(
    tmp_path: Path, version: str | None, warnings: int
) -> None:
    """On Databricks the driver's disk is no other machine's; the function works all the same."""
    variables = {"DATABRICKS_RUNTIME_VERSION": version} if version else {}
    done = run_python(tmp_path, EXECUTORS, str(tmp_path / "state"), **variables)
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
    assert done.stderr.count("name a folder in a volume") == warnings
