"""What an ingest reads of a tracking store: all once, then what may have changed, and no more."""

import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meshml_dbx.connect import read_changed_runs, read_runs
from meshml_dbx.connect.paged_store import OLDEST_FIRST, Page, Raw, open_client
from meshml_dbx.connect.run_changes import Asked, RunsRead, read_changes_of_pages
from meshml_dbx.connect.sqlite_store import RUNS_OF_A_FILE
from meshml_dbx.connect.tracking import EVERY
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_mark import CLOCKS_APART_US, RunMark

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECOND, DAY = 1_000_000, 86_400_000_000
NOW = 1_795_348_800 * SECOND
LONG_AGO = NOW - 90 * DAY


def ms(moment: int) -> int:
    """A moment as MLflow has it."""
    return moment // 1000


@dataclass(frozen=True, slots=True)
class Store:
    """A store of MLflow's own, with runs of long ago and of today."""

    path: Path
    client: "MlflowClient"
    experiment: str

    @property
    def uri(self) -> str:
        """Its address."""
        return f"sqlite:///{self.path}"

    def run(self, name: str, start: int, end: int | None, **tags: str) -> str:
        """A run; its id is returned."""
        made = self.client.create_run(
            self.experiment, start_time=ms(start), run_name=name, tags=tags
        )
        if end is not None:
            self.client.set_terminated(made.info.run_id, end_time=ms(end))
        return str(made.info.run_id)

    def read(self, mark: RunMark | None = None, *unsettled: str, now: int = NOW) -> RunsRead:
        """What has changed since the mark, as ingest asks for it."""
        return read_changed_runs(self.uri, mark=mark, unsettled=unsettled, environ={}, now=now)


@pytest.fixture
def store(mlflow_store: Path) -> Store:
    """An empty store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{mlflow_store}")
    return Store(mlflow_store, client, client.create_experiment("churn"))


def changed_of_pages(store: Store, mark: RunMark, *unsettled: str) -> dict[str, Run]:
    """The same by MLflow's client, page by page, when only two older runs are looked at."""
    asked = Asked(store=store.uri, now=NOW + DAY, mark=mark, unsettled=unsettled)
    read = read_changes_of_pages(open_client(store.uri), asked, sweep=2)
    return {run.run_id: run for run in read.runs}


def test_what_changed_is_read_again(store: Store) -> None:
    """New, ended, resumed, renamed, tagged, deleted, restored; by the file and by MLflow's client.

    Made with a start of long ago, tagged and restored runs are only found by looking at all again.
    """
    ids = {
        "still": store.run("still", LONG_AGO, None),
        "ends": store.run("ends", LONG_AGO + SECOND, None),
        "resumed": store.run("resumed", LONG_AGO + 2 * SECOND, LONG_AGO + 9 * SECOND),
        "deleted": store.run("deleted", LONG_AGO + 3 * SECOND, LONG_AGO + 9 * SECOND),
        "restored": store.run("restored", LONG_AGO + 4 * SECOND, LONG_AGO + 9 * SECOND),
        "tagged": store.run("tagged", LONG_AGO + 5 * SECOND, LONG_AGO + 9 * SECOND),
    }
    store.client.delete_run(ids["restored"])
    first = store.read()
    before = {run.run_id: run for run in first.runs}
    assert before.keys() == set(ids.values())
    assert [run.name for run in first.runs if run.deleted] == ["restored"]
    assert (first.mark.whole_at, first.notices) == (NOW, ())

    store.client.set_terminated(ids["ends"], end_time=ms(LONG_AGO + 20 * SECOND))
    store.client.update_run(ids["resumed"], status="RUNNING")
    store.client.delete_run(ids["deleted"])
    store.client.restore_run(ids["restored"])
    store.client.set_tag(ids["tagged"], "model_version", "7")
    ids["new"] = store.run("new", NOW, None, **{"meshml.task_run_id": "71"})
    ids["late"] = store.run("late", LONG_AGO - DAY, LONG_AGO)
    unsettled = (ids["restored"], ids["ends"], ids["still"])
    second = store.read(first.mark, *unsettled, now=NOW + DAY)
    after = {run.run_id: run for run in second.runs}
    assert after.keys() == set(ids.values())
    assert before[ids["still"]] == after[ids["still"]]
    assert after[ids["ends"]].end_time == LONG_AGO + 20 * SECOND + 999
    assert (after[ids["resumed"]].end_time, after[ids["resumed"]].status) == (None, "RUNNING")
    assert [run.name for run in second.runs if run.deleted] == ["deleted"]
    assert (after[ids["tagged"]].model_version, after[ids["new"]].task_run_id) == ("7", "71")

    by_client = changed_of_pages(store, first.mark, *unsettled)
    assert {ids[key] for key in ("new", "ends", "resumed", "restored", "still")} <= by_client.keys()
    assert all(after[run_id] == run for run_id, run in by_client.items())


def test_a_deleted_experiment_takes_its_runs_along(store: Store) -> None:
    """They are told as deleted, by both ways, and are still there for what they were."""
    run_id = store.run("one", NOW, NOW + SECOND)
    mark = store.read().mark
    store.client.delete_experiment(store.experiment)
    for found in (store.read(mark).runs, changed_of_pages(store, mark).values()):
        assert [(run.run_id, run.deleted) for run in found] == [(run_id, True)]


def test_a_clock_that_is_a_time_zone_off_loses_no_run(store: Store) -> None:
    """A run that says that it began, and ended, long before the last read is read all the same."""
    mark = replace(store.read().mark, swept_to=NOW + DAY, round_at=NOW)
    behind = store.run("behind", NOW - 13 * 3600 * SECOND, NOW - 12 * 3600 * SECOND)
    ahead = store.run("ahead", NOW + 13 * 3600 * SECOND, None)
    older = store.run("older", NOW - CLOCKS_APART_US - SECOND, NOW - CLOCKS_APART_US - SECOND)
    assert {run.run_id for run in store.read(mark).runs} == {behind, ahead}
    assert older in {run.run_id for run in store.read(replace(mark, swept_to=0)).runs}


# --- many runs ------------------------------------------------------------------------------------


def fill(path: Path, count: int, *, alike: int = 1) -> None:
    """Runs that are a minute apart, or so many of one start, as rows with the usual tags."""
    with sqlite3.connect(path) as store:
        rows = [
            (f"{n:032x}", "FINISHED", ms(LONG_AGO) + n // alike * 60_000, "active", 0)
            for n in range(count)
        ]
        store.executemany(
            "INSERT INTO runs (run_uuid, status, start_time, end_time, lifecycle_stage,"
            " experiment_id) VALUES (?1, ?2, ?3, ?3 + 30000, ?4, ?5)",
            rows,
        )
        tags = ("meshml.client", "meshml.process_id", "mlflow.user", "team", "mlflow.source.name")
        store.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
            ((key, f"{key}-{n}", f"{n:032x}") for n in range(count) for key in tags),
        )


def swept(store_uri: str, count: int, mark: RunMark) -> tuple[int, RunMark]:
    """How many reads it takes until each run was looked at again, and the mark after them."""
    seen: set[str] = set()
    reads = 0
    while reads == 0 or mark.swept_to:
        read = read_changed_runs(store_uri, mark=mark, environ={}, now=NOW + reads)
        assert bool(read.notices) == bool(read.mark.swept_to)
        seen |= {run.run_id for run in read.runs}
        mark, reads = read.mark, reads + 1
    assert len(seen) == count
    return reads, mark


@pytest.mark.parametrize("alike", [1, 25_000], ids=["a minute apart", "of one start"])
def test_every_run_is_looked_at_again_in_turn(mlflow_store: Path, alike: int) -> None:
    """A part by each read, nothing left out, also where thousands have the same start."""
    fill(mlflow_store, 25_000, alike=alike)
    uri = f"sqlite:///{mlflow_store}"
    first = read_changed_runs(uri, environ={}, now=NOW - 90 * DAY)
    mark = replace(first.mark, read_at=NOW)
    reads, whole = swept(uri, 25_000, mark)
    assert reads == (3 if alike == 1 else 1)
    assert (mark.whole_at, whole.whole_at) == (NOW - 90 * DAY, NOW)


def test_a_run_is_found_beside_however_many_newer_ones(mlflow_store: Path) -> None:
    """A name is looked for among the newest; who lasted at a time is known of all."""
    fill(mlflow_store, RUNS_OF_A_FILE + 500)
    uri = f"sqlite:///{mlflow_store}"
    assert len(read_runs(uri, environ={})) == RUNS_OF_A_FILE
    beside = read_runs(uri, since=LONG_AGO, until=LONG_AGO + SECOND, limit=EVERY, environ={})
    assert [run.run_id for run in beside] == [f"{0:032x}"]
    assert len(read_runs(uri, limit=EVERY, environ={})) == RUNS_OF_A_FILE + 500


@dataclass(frozen=True, slots=True)
class Vanishing:
    """A server from whose store a run is removed for good while its pages are read."""

    starts: list[int]

    def experiments(self, token: str | None, *, view: str) -> Page:
        """The one experiment."""
        assert (token, view) == (None, "ALL")
        return [{"experiment_id": "0", "name": "churn"}], None

    def runs(
        self,
        experiments: list[str],
        where: str,
        size: int,
        token: str | None,
        *,
        order: str,
        view: str,
    ) -> Page:
        """Pages of two; the token is an offset, as MLflow's is."""
        assert (experiments, order, view, size >= 2) == (["0"], OLDEST_FIRST, "ALL", True)
        since = int(where.rpartition(">= ")[2])
        found = [start for start in sorted(self.starts) if start >= since]
        offset = int(token or 0)
        page = [self._info(start) for start in found[offset : offset + 2]]
        self.starts.remove(min(self.starts))
        return page, str(offset + 2) if offset + 2 < len(found) else None

    def run(self, run_id: str) -> None:
        """Nobody asks."""

    def _info(self, start: int) -> Raw:
        info = {"run_id": f"r{start}", "experiment_id": "0", "status": "FINISHED"}
        return {"info": {**info, "start_time": start, "lifecycle_stage": "active"}}


def test_a_run_that_goes_while_pages_are_read_hides_no_other() -> None:
    """Offsets would skip one run for each that went; pages go by the last start instead."""
    read = read_changes_of_pages(Vanishing(list(range(1, 41))), Asked(store="s", now=NOW))
    assert {run.run_id for run in read.runs} == {f"r{start}" for start in range(1, 41)}


@pytest.fixture(scope="module")
def large(
    empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A store of 100,000 runs."""
    path = Path(shutil.copy(empty_mlflow_store, tmp_path_factory.mktemp("large") / "mlflow.db"))
    fill(path, 100_000)
    yield f"sqlite:///{path}", path
    path.unlink()


def test_a_hundred_thousand_runs(large: tuple[str, Path]) -> None:
    """All are read the first time; the next takes a fifth of that at most and finds the new one."""
    uri, path = large
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    first = read_changed_runs(uri, environ={}, now=NOW)
    first_s = time.process_time() - begin
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with sqlite3.connect(path) as store:
        store.execute(
            "INSERT INTO runs (run_uuid, status, start_time, lifecycle_stage, experiment_id)"
            " VALUES ('new', 'RUNNING', ?, 'active', 0)",
            (ms(NOW),),
        )
    begin = time.process_time()
    later = read_changed_runs(uri, mark=first.mark, environ={}, now=NOW + DAY)
    later_s = time.process_time() - begin
    assert len(first.runs) == 100_000
    assert "new" in {run.run_id for run in later.runs}
    assert later_s < first_s / 5 + 0.1
    assert grown_mb < 400
