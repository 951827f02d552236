"""A program with a Spark of its own, whose tasks call a service through a recorded function.

spark_child.py classic URL ROOT   a task fails and is tried again; the second worker is killed
spark_child.py connect URL ROOT   a Spark Connect server on this machine
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from meshml_dbx.recorder import RecorderPlan
from meshml_dbx.recorder.spark_tasks import recorded

NEVER_S = 600.0
SETTLE_S = 4.0
"""Until a worker's file is finished at the latest."""


def calling(url: str, *, fails_first: bool) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function for mapInArrow that calls once a row; its first attempt fails at the end."""

    def call(batches: Iterable[Any]) -> Iterator[Any]:
        import os
        import urllib.request

        import pyarrow as pa  # type: ignore[import-untyped]  # ships without types
        from pyspark import TaskContext

        for batch in batches:
            for _ in range(batch.num_rows):
                with urllib.request.urlopen(f"{url}/kb") as answer:  # noqa: S310  # a fixed address
                    answer.read()
            yield pa.record_batch({"pid": [os.getpid()] * batch.num_rows})
        task = TaskContext.get()
        if fails_first and task is not None and task.attemptNumber() == 0:
            raise ValueError("the first attempt fails")

    return call


def classic(url: str, plan: RecorderPlan) -> None:
    """Three calls by an attempt that fails, three by one whose worker is killed afterwards."""
    builder = SparkSession.builder.master("local[2,2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    func = recorded(calling(url, fails_first=True), replace(plan, closes_when_idle_s=NEVER_S))
    tasks = spark.range(0, 3, 1, 1).mapInArrow(func, "pid long").collect()
    for pid in {task.pid for task in tasks}:
        os.kill(pid, signal.SIGKILL)
    spark.stop()


def connect(url: str, plan: RecorderPlan) -> None:
    """Six calls by two tasks, asked for by a client without a SparkContext."""
    spark = SparkSession.builder.remote("local[2]").getOrCreate()
    func = recorded(calling(url, fails_first=False), plan)
    spark.range(0, 6, 1, 2).mapInArrow(func, "pid long").collect()
    time.sleep(SETTLE_S)
    spark.stop()


def main(kind: str, url: str, root: Path) -> None:
    """Run one query, and end as its kind says."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    plan = RecorderPlan(logs=root / "logs", run=root / "run", client="train", process_id="p-1")
    {"classic": classic, "connect": connect}[kind](url, plan)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
