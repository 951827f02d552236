"""A watch: rows come while calls are made, calls in flight are seen, all is settled at the end."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.errors import LakeError, LogFolderError
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.recording.in_flight import InFlight
from meshml_dbx.session import Session
from meshml_dbx.settings import Settings, read_settings
from meshml_dbx.watching import Rounds, WatchView, watch
from tests.lake.writing import LogWriter

CALLS = 40
IN_FLIGHT_S = 2.0


def now_us() -> int:
    """This moment, as log lines have it."""
    return time.time_ns() // 1000


def write_live(writer: LogWriter) -> None:
    """Put the writer's lines at the end of the file that its sidecar is writing."""
    folder = writer.logs / writer.sidecar_id / "live"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "access.jsonl").open("a") as file:
        file.writelines(f"{one}\n" for one in writer.lines)
    writer.lines.clear()


def test_calls_in_flight_are_seen_and_go(tmp_path: Path) -> None:
    """A start shows up and its end takes it away; files that were closed before are no matter."""
    old, writer = LogWriter(logs=tmp_path), LogWriter(logs=tmp_path, sidecar_id="churn-2")
    old.started(now_us())
    old.close()
    flying = InFlight(logs=tmp_path)
    assert flying.look() == ()
    first = writer.started(now_us())
    second = writer.started(now_us(), virtual_service="features.ml.local")
    write_live(writer)
    seen = flying.look()
    assert [(call.request_id, call.virtual_service) for call in seen] == [
        (first, "labels.ml.local"),
        (second, "features.ml.local"),
    ]
    writer.call(seen[0].start_time, request_id=first)
    writer.lines.append("no line of ours")
    write_live(writer)
    assert [call.request_id for call in flying.look()] == [second]
    live = tmp_path / "churn-2" / "live"
    (live / "access.jsonl").unlink()
    live.rmdir()
    assert flying.look() == ()


class Refusing:
    """A lake that nobody has written to yet, and then one that cannot be written."""

    def __init__(self) -> None:
        self.asked = 0

    def catch_up(self) -> None:
        """Nothing is there the first time."""
        self.asked += 1
        if self.asked == 1:
            raise LogFolderError("the log folder is empty", advice="record a run first")

    def take(self) -> dict[str, int]:
        """The disk is full."""
        raise LakeError("no space left on device", advice="make room")

    def settle(self) -> None:
        """Nothing to do."""


def test_an_error_ends_the_watch_and_an_empty_folder_does_not() -> None:
    """It waits for a first recording; what the lake refuses is raised where the user sees it."""
    lake, said = Refusing(), list[str]()

    def show(view: WatchView) -> bool:
        said.append(view.doing)
        return True

    with pytest.raises(LakeError, match="no space left"):
        watch(Rounds(lake=lake), lambda: (), show)
    assert lake.asked == 2
    assert "waiting for a first recording" in said


def settings_of(folder: Path, store: Path) -> Settings:
    """The settings of a project in a folder."""
    return read_settings({}, state=folder, tracking=f"sqlite:///{store}")


def watch_until(
    session: Session, is_over: Callable[[WatchView], bool], views: list[WatchView]
) -> threading.Thread:
    """A watch in a thread of its own."""

    def show(view: WatchView) -> bool:
        views.append(view)
        return not is_over(view)

    thread = threading.Thread(target=session.watch, args=(show,), kwargs={"settle_s": 5.0})
    thread.start()
    return thread


@pytest.mark.spark
def test_rows_come_while_calls_are_made(
    spark: SparkSession, mlflow_store: Path, tmp_path: Path
) -> None:
    """From an empty folder on: calls in flight within two seconds, rows, and what is made of them.

    Another ingest is refused meanwhile, and finds nothing left to do afterwards.
    """
    settings = settings_of(tmp_path, mlflow_store)
    settings.logs.mkdir()
    writer = LogWriter(logs=settings.logs)
    views: list[WatchView] = []
    thread = watch_until(
        Session(settings), lambda view: view.counts.get("ended", 0) >= CALLS, views
    )
    flying = LogWriter(logs=settings.logs, sidecar_id="churn-2")
    begun = now_us()
    request_id = flying.started(begun)
    write_live(flying)
    for part in range(4):
        for _ in range(CALLS // 4):
            writer.call(now_us() - 20_000)
        writer.sample(now_us(), requests_total=CALLS // 4 * (part + 1))
        writer.close()
        time.sleep(1)
    with pytest.raises(LakeError, match="another meshml ingest or watch"):
        Session(settings).ingest()
    thread.join(timeout=300)
    assert not thread.is_alive()
    first = next(view for view in views if view.in_flight)
    assert first.in_flight[0].request_id == request_id
    assert (first.at - begun) / 1e6 < IN_FLIGHT_S
    names = TableNames.of(settings.lake)
    calls = spark.table(names.table("calls"))
    assert calls.where(f"sidecar_id = '{writer.sidecar_id}'").count() == CALLS
    (books,) = spark.table(names.table("ledger")).where("counted IS NOT NULL").collect()
    assert (books["counted"], books["rows"], books["lost"]) == (CALLS, CALLS, 0)
    assert Session(settings).ingest().ended == 0
