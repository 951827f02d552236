"""Functions that Spark runs: their calls are recorded where they run, told by task, and found."""

import inspect
import json
import pickle
import shutil
import subprocess
import sys
import time
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark import cloudpickle

from meshml_dbx.recorder import RecorderPlan, active_recording, start_recording, stop_recording
from meshml_dbx.recorder.spark_tasks import CLOSES_WHEN_IDLE_S, recorded
from meshml_dbx.recording.evidence import read_evidence
from meshml_dbx.sidecar import adopt
from meshml_dbx.traffic.access_log import END_TYPE
from meshml_dbx.traffic.log_folder import StateFolder
from meshml_dbx.traffic.ownership import Run
from tests.recorder.answering import AnsweringServer, answering

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

CHILD = Path(__file__).with_name("spark_child.py")
RUN_ID = "4f1c9a"
PATIENCE_S = 15.0

Record = dict[str, Any]
Fetch = Callable[[object], str]


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    """A real service that counts what it is asked."""
    with answering() as one:
        yield one


def plan_of(root: Path, run_id: str | None = RUN_ID) -> RecorderPlan:
    """As a driver would make it: the log folder lies in its state folder."""
    state = StateFolder(root=root)
    return RecorderPlan(
        logs=state.logs, run=state.run, client="train", process_id="p-1", run_id=run_id
    )


def fetching(url: str) -> Fetch:
    """A function that calls the service and says which task it did so in."""

    def fetch(number: object) -> str:
        import urllib.request

        from pyspark import TaskContext

        with urllib.request.urlopen(f"{url}/kb?n={number}") as answer:  # noqa: S310  # a fixed address
            answer.read()
        task = TaskContext.get()
        assert task is not None
        return f"{task.stageId()} {task.partitionId()} {task.attemptNumber()}"

    return fetch


def records(root: Path, *, folder: str = "closed") -> list[Record]:
    """The lines of all finished files; of live ones when told so."""
    files = sorted((root / "logs").glob(f"*/{folder}/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def ends(root: Path, *, folder: str = "closed") -> list[Record]:
    """The calls that ended."""
    found = records(root, folder=folder)
    return [one for one in found if one["_record"] == "call" and one["_type"] == END_TYPE]


def wait_for_ends(root: Path, count: int) -> list[Record]:
    """The calls that ended, as soon as finished files hold so many; nobody asks the workers."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := ends(root)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def tasks_of(found: Iterable[Record]) -> Counter[str]:
    """How many calls each task made, by what was recorded."""
    names = ("spark_stage", "spark_partition", "spark_attempt")
    return Counter(" ".join(str(one[name]) for name in names) for one in found)


def tasks_seen(frame: "DataFrame") -> Counter[str]:
    """How many calls each task made, by what the function itself saw."""
    return Counter(task for row in frame.collect() for task in row)


@pytest.mark.spark
def test_a_row_function(spark: "SparkSession", server: AnsweringServer, tmp_path: Path) -> None:
    """Every call of a UDF is recorded once, with the task that the UDF itself saw."""
    from pyspark.sql.functions import udf

    fetch = udf(recorded(fetching(server.url), plan_of(tmp_path)), "string")
    seen = tasks_seen(spark.range(0, 40, 1, 4).select(fetch("id")))
    found = wait_for_ends(tmp_path, 40)
    assert server.count("/kb") == len(found) == 40
    assert tasks_of(found) == seen
    assert len(seen) == 4


@pytest.mark.spark
def test_batches(spark: "SparkSession", server: AnsweringServer, tmp_path: Path) -> None:
    """A generator for mapInPandas, and one for mapInArrow that returns its iterator, are too."""
    fetch = fetching(server.url)

    def in_pandas(batches: "Iterable[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
        import pandas as pd

        for batch in batches:
            yield pd.DataFrame({"task": [fetch(number) for number in batch["id"]]})

    def in_arrow(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa  # type: ignore[import-untyped]  # ships without types

        return (
            pa.record_batch({"task": [fetch(number.as_py()) for number in batch["id"]]})
            for batch in batches
        )

    plan, rows = plan_of(tmp_path), spark.range(0, 40, 1, 4)
    seen = tasks_seen(rows.mapInPandas(recorded(in_pandas, plan), "task string"))
    seen += tasks_seen(rows.mapInArrow(recorded(in_arrow, plan), "task string"))
    found = wait_for_ends(tmp_path, 80)
    assert server.count("/kb") == len(found) == 80
    assert tasks_of(found) == seen
    assert len(seen) == 8


@pytest.mark.spark
def test_typed_functions(spark: "SparkSession", server: AnsweringServer, tmp_path: Path) -> None:
    """Spark finds the kind of a pandas function by the hints and arguments of what is wrapped."""
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    fetch, plan = fetching(server.url), plan_of(tmp_path)

    def of_series(ids: pd.Series) -> pd.Series:
        return ids.map(fetch)

    def of_iterator(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for ids in batches:
            yield ids.map(fetch)

    def of_group(key: Any, rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"task": [fetch(key[0])]})

    rows = spark.range(0, 8, 1, 2)
    first = pandas_udf("string")(recorded(of_series, plan))
    second = pandas_udf("string")(recorded(of_iterator, plan))
    grouped = rows.groupBy((rows.id % 4).alias("k"))
    seen = tasks_seen(rows.select(first("id"))) + tasks_seen(rows.select(second("id")))
    seen += tasks_seen(grouped.applyInPandas(recorded(of_group, plan), "task string"))
    found = wait_for_ends(tmp_path, 20)
    assert server.count("/kb") == len(found) == 20
    assert tasks_of(found) == seen


@pytest.mark.spark
def test_workers_are_used_again(
    spark: "SparkSession", server: AnsweringServer, tmp_path: Path
) -> None:
    """In the same workers, each wrapped function has its own run, and what is not wrapped none."""

    def each(rows: Iterable[Any]) -> None:
        for row in rows:
            fetch(row.id)

    fetch, rows = fetching(server.url), spark.range(0, 6, 1, 2)
    for func in (
        recorded(each, plan_of(tmp_path, "first")),
        each,
        recorded(each, plan_of(tmp_path, "second")),
    ):
        rows.foreachPartition(func)
    found = wait_for_ends(tmp_path, 12)
    assert server.count("/kb") == 18
    assert Counter(one["run_id"] for one in found) == {"first": 6, "second": 6}


@pytest.mark.spark
def test_evidence(spark: "SparkSession", server: AnsweringServer, tmp_path: Path) -> None:
    """What executors call is the run's by its id, beside whatever the driver calls."""
    from pyspark.sql.functions import udf

    began = time.time_ns() // 1000
    fetch = udf(recorded(fetching(server.url), plan_of(tmp_path)), "string")
    tasks_seen(spark.range(0, 10, 1, 2).select(fetch("id")))
    wait_for_ends(tmp_path, 10)
    run = Run(
        run_id=RUN_ID,
        name="churn",
        experiment_id="0",
        status="FINISHED",
        start_time=began,
        end_time=time.time_ns() // 1000,
        process_id="p-1",
    )
    evidence = read_evidence(tmp_path / "logs", run, (run,), read_at=time.time_ns() // 1000)
    calls = evidence.calls
    assert len(calls) == 10
    assert calls.texts["join_method"].names == ("header",)


@pytest.mark.spark
def test_workers_that_end(server: AnsweringServer, tmp_path: Path) -> None:
    """A task that fails is told from its next attempt, and its worker leaves a finished file.

    What a worker had written when it was killed is finished by whoever ingests next.
    """
    root = run_child("classic", server, tmp_path)
    first = ends(root)
    assert [one["spark_attempt"] for one in first] == [0, 0, 0]
    ended = [one["_type"] for one in records(root) if one["_record"] == "program"]
    assert ended == ["begin", "end"]
    adopt(StateFolder(root=root), root / "logs")
    both = ends(root)
    assert sorted(one["spark_attempt"] for one in both) == [0, 0, 0, 1, 1, 1]
    assert server.count("/kb") == 6


@pytest.mark.spark
@pytest.mark.skipif(find_spec("grpc_status") is None, reason="pyspark[connect] is not installed")
def test_connect(server: AnsweringServer, tmp_path: Path) -> None:
    """The same through Spark Connect, where the driver has no SparkContext."""
    found = ends(run_child("connect", server, tmp_path))
    assert len(found) == server.count("/kb") == 6
    assert {one["spark_partition"] for one in found} == {0, 1}


def run_child(kind: str, server: AnsweringServer, root: Path) -> Path:
    """A program with a Spark of its own that calls the service six times."""
    told = subprocess.run(
        [sys.executable, str(CHILD), kind, server.url, str(root)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return root


def typed(count: int, *, name: str = "x") -> list[str]:
    """A function with everything that Spark looks at."""
    return [name] * count


def test_its_face(tmp_path: Path) -> None:
    """Name, signature, arguments and hints are those of the function, whoever asks and how."""
    wrapped = recorded(typed, plan_of(tmp_path))
    assert (wrapped.__name__, wrapped.__doc__) == (typed.__name__, typed.__doc__)
    assert inspect.signature(wrapped) == inspect.signature(typed)
    assert inspect.getfullargspec(wrapped) == inspect.getfullargspec(typed)
    assert typing.get_type_hints(wrapped) == typing.get_type_hints(typed)
    assert inspect.unwrap(wrapped) is typed


def test_other_callables(tmp_path: Path) -> None:
    """Partials, methods and builtins are wrapped too, and keep the arguments that are left."""
    wrapped = recorded(partial(typed, name="y"), plan_of(tmp_path))
    assert wrapped(2) == ["y", "y"]
    assert wrapped.__name__ == "partial"
    assert recorded("abc".upper, plan_of(tmp_path))() == "ABC"
    assert recorded(len, plan_of(tmp_path))([1]) == 1


def test_a_class(tmp_path: Path) -> None:
    """A class is refused when it is wrapped, not by a worker later."""
    with pytest.raises(TypeError, match="wrap what Spark calls"):
        recorded(Counter, plan_of(tmp_path))


def test_on_the_driver(tmp_path: Path) -> None:
    """In the process that wrapped it, it is the plain function and begins no recording."""
    wrapped = recorded(typed, plan_of(tmp_path))
    assert wrapped(1) == ["x"]
    assert active_recording() is None
    assert not (tmp_path / "logs").exists()


def test_on_a_driver_that_records(server: AnsweringServer, tmp_path: Path) -> None:
    """Where the driver records, its own calls are in its own recording, once."""
    plan = plan_of(tmp_path)
    start_recording(plan)
    try:
        recorded(call_once, plan)(f"{server.url}/kb")
    finally:
        stop_recording()
    assert len(ends(tmp_path)) == server.count("/kb") == 1
    assert len(list((tmp_path / "logs").iterdir())) == 1


def call_once(url: str) -> int:
    """A call without any Spark."""
    import urllib.request

    with urllib.request.urlopen(url) as answer:  # noqa: S310  # a fixed address
        return len(answer.read())


CALL_IT = "import pickle, sys; print(pickle.load(sys.stdin.buffer)(sys.argv[1]))"
CALL_IT_IN_A_RECORDING = """
import pickle, sys
from pathlib import Path
from meshml_dbx.recorder import RecorderPlan, start_recording
start_recording(RecorderPlan(logs=Path(sys.argv[2]), client="other", process_id="p-2"))
func = pickle.load(sys.stdin.buffer)
print(func(sys.argv[1]), func.__wrapped__(sys.argv[1]))
"""


def run_sent(
    func: Callable[..., object],
    *arguments: str,
    code: str = CALL_IT,
    options: tuple[str, ...] = (),
    **environ: str,
) -> str:
    """What another Python prints of the function's result, after it was sent there."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        sent: bytes = cloudpickle.dumps(func)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    told = subprocess.run(
        [sys.executable, *options, "-c", code, *arguments],
        input=sent,
        env=environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()
    return (told.stdout + told.stderr).decode()


def test_sent_to_another_process(server: AnsweringServer, tmp_path: Path) -> None:
    """A process without Spark that gets the function records too, without a task."""
    told = run_sent(recorded(call_once, plan_of(tmp_path)), f"{server.url}/kb")
    found = ends(tmp_path)
    assert told == "1024\n"
    assert len(found) == server.count("/kb") == 1
    assert (found[0]["run_id"], found[0]["spark_stage"]) == (RUN_ID, None)


def test_sent_to_a_process_that_records(server: AnsweringServer, tmp_path: Path) -> None:
    """Where a recording goes on already, it is not ended, and only the wrapped call has the run."""
    wrapped = recorded(call_once, plan_of(tmp_path / "unused"))
    logs = str(plan_of(tmp_path).logs)
    told = run_sent(wrapped, f"{server.url}/kb", logs, code=CALL_IT_IN_A_RECORDING)
    assert told == "1024 1024\n"
    assert [(one["client"], one["run_id"]) for one in ends(tmp_path)] == [
        ("other", RUN_ID),
        ("other", None),
    ]
    assert not (tmp_path / "unused").exists()


def test_an_idle_worker(server: AnsweringServer, tmp_path: Path) -> None:
    """Its file is finished soon, with all that it counted, and no other is begun for nothing."""
    start_recording(replace(plan_of(tmp_path), closes_when_idle_s=CLOSES_WHEN_IDLE_S))
    try:
        call_once(f"{server.url}/kb")
        assert len(wait_for_ends(tmp_path, 1)) == 1
        time.sleep(2 * CLOSES_WHEN_IDLE_S)
        found = [one for one in records(tmp_path) if one["_record"] == "sample"]
        assert (found[-1]["requests_total"], found[-1]["requests_active"]) == (1, 0)
        assert records(tmp_path, folder="live") == []
    finally:
        stop_recording()


def test_sent_after_it_was_called(server: AnsweringServer, tmp_path: Path) -> None:
    """Trying it on the driver first changes nothing for the workers."""
    wrapped = recorded(call_once, plan_of(tmp_path))
    before = cloudpickle.dumps(wrapped)
    wrapped(f"{server.url}/kb")
    assert cloudpickle.dumps(wrapped) == before


def test_where_the_package_is_missing(server: AnsweringServer, tmp_path: Path) -> None:
    """A worker without meshml_dbx runs the function, unrecorded, and says so once."""
    packages = tmp_path / "packages"
    shutil.copytree(Path(cloudpickle.__file__).parent, packages / "pyspark" / "cloudpickle")
    wrapped = recorded(call_once, plan_of(tmp_path))
    told = run_sent(wrapped, f"{server.url}/kb", options=("-S",), PYTHONPATH=str(packages))
    assert told.startswith("1024\n")
    assert told.count("calls are not recorded in this worker: ModuleNotFoundError") == 1
    assert not (tmp_path / "logs").exists()


def test_where_nothing_can_be_written(server: AnsweringServer, tmp_path: Path) -> None:
    """A worker that cannot write the log folder runs the function, and says so once."""
    (tmp_path / "file").touch()
    told = run_sent(recorded(call_once, plan_of(tmp_path / "file")), f"{server.url}/kb")
    assert told.startswith("1024\n")
    assert told.count("meshml: ") == 1


def test_the_plan_is_sent_whole(tmp_path: Path) -> None:
    """A plan survives the way to a worker."""
    plan = plan_of(tmp_path)
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301  # our own
