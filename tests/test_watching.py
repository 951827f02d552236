"""A watch: rows come while calls are made, calls in flight are seen, all is settled at the end."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
PATIENCE_S = 300.0


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

    def catch_up(self) -> dict[str, int]:
        """Nothing is there the first time."""
        self.asked += 1
        if self.asked == 1:
            raise LogFolderError("the log folder is empty", advice="record a run first")
        return {"ended": 1}

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


@dataclass(slots=True)
class Watched:
    """A watch in a thread of its own, and what it showed, until ``is_over``."""

    session: Session
    is_over: Callable[[WatchView], bool]
    views: list[WatchView] = field(default_factory=list)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.session.watch(self._show, settle_s=5.0)

    def _show(self, view: WatchView) -> bool:
        self.views.append(view)
        return not self.is_over(view)

    def wait_for(self, condition: Callable[[WatchView], bool]) -> WatchView:
        """The first view, seen or to come, of which that holds."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = next(filter(condition, self.views), None)
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"in vain; the last was {self.views[-1:]}")


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
    watched = Watched(Session(settings), lambda view: view.counts.get("ended", 0) >= CALLS)
    flying = LogWriter(logs=settings.logs, sidecar_id="churn-2")
    begun = now_us()
    request_id = flying.started(begun)
    write_live(flying)
    seen = watched.wait_for(lambda view: bool(view.in_flight))
    assert seen.in_flight[0].request_id == request_id
    assert (seen.at - begun) / 1e6 < IN_FLIGHT_S
    with pytest.raises(LakeError, match="another meshml ingest or watch"):
        Session(settings).ingest()
    for part in range(1, 5):
        for _ in range(CALLS // 4):
            writer.call(now_us() - 20_000)
        writer.sample(now_us(), requests_total=CALLS // 4 * part)
        writer.close()
        watched.wait_for(lambda view, part=part: view.counts.get("ended", 0) >= CALLS // 4 * part)  # type: ignore[misc]  # bound
    watched.thread.join(PATIENCE_S)
    assert watched.views[-1].doing == "done"
    assert watched.views[-1].lag_s is not None
    names = TableNames.of(settings.lake)
    calls = spark.table(names.table("calls"))
    assert calls.where(f"sidecar_id = '{writer.sidecar_id}'").count() == CALLS
    (books,) = spark.table(names.table("ledger")).where("counted IS NOT NULL").collect()
    assert (books["counted"], books["rows"], books["lost"]) == (CALLS, CALLS, 0)
    assert Session(settings).ingest().ended == 0
