"""The hall: which settings a command repeats, where evidence comes from, what is remembered."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

import meshml_dbx
from meshml_dbx.errors import LogFolderError, UnknownRunError
from meshml_dbx.lake_desk import LakeDesk
from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings, store_settings
from tests.desk import CALLS, CLIENT, Desk, make_desk, process_of, store_run
from tests.log_writing import SECOND, T0


@pytest.fixture
def bare_folder(tmp_path: Path) -> Iterator[Path]:
    """A working folder with nothing in it, in which the test stands."""
    with chdir(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def desk(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk that no test changes."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(empty_mlflow_store, folder / "mlflow.db")
    return make_desk(folder)


def session_of(desk: Desk, state: Path | None = None) -> Session:
    """A session at a desk; with another state folder it remembers nothing."""
    where = state or desk.folder / ".meshml"
    return Session(read_settings({}, state=where, logs=desk.logs, tracking=desk.store))


# --- what a command repeats -----------------------------------------------------------------------


def options_of(**given: str | Path) -> list[str]:
    """The options that a command to paste has, for a session with these settings."""
    return shlex.split(Session(read_settings(None, **given)).next_command("why", "last"))[3:]


def test_a_bare_session_repeats_nothing(bare_folder: Path) -> None:
    """Where no option was needed none is shown."""
    assert Session(read_settings()).next_command("why", "4f1c") == "meshml why 4f1c"
    assert options_of(state=".meshml", logs=".meshml/logs", lake=".meshml/lake") == []


@pytest.mark.parametrize("name", ["state", "logs", "lake", "tracking"])
def test_a_setting_that_was_given_is_repeated(bare_folder: Path, name: str) -> None:
    """One option, quoted as a shell needs it; what follows from it is not repeated too."""
    assert options_of(**{name: "my own place"}) == [f"--{name}", "my own place"]


def test_what_the_state_folder_remembers_is_not_repeated(bare_folder: Path) -> None:
    """Its settings file brings it along."""
    store_settings(bare_folder / "other", tracking="http://tracking", lake="main.mesh")
    assert options_of(state=bare_folder / "other") == ["--state", str(bare_folder / "other")]


def test_what_a_variable_says_is_not_repeated_but_what_differs_is(bare_folder: Path) -> None:
    """The shell still has the variable when the line is pasted."""
    os.environ["MESHML_LAKE"] = "main.mesh"
    try:
        assert options_of() == []
        assert options_of(lake="main.mesh") == []
        assert options_of(lake="main.other") == ["--lake", "main.other"]
    finally:
        del os.environ["MESHML_LAKE"]


def test_a_password_is_not_repeated(bare_folder: Path) -> None:
    """A terminal is no place for a secret: the gap shows where it goes."""
    (_, shown) = options_of(tracking="postgresql://ml:s3cr3t@db/mlflow")
    assert shown == "postgresql://ml:***@db/mlflow"


# --- where evidence comes from --------------------------------------------------------------------


def test_what_was_not_ingested_is_read_from_the_log_folder(desk: Desk, tmp_path: Path) -> None:
    """Without Spark, and the person is told."""
    told: list[str] = []
    settings = session_of(desk, tmp_path).settings
    evidence = Session(settings, say=told.append).evidence(desk.runs["slow"])
    assert len(evidence.calls) == CALLS
    assert told == ["reading the log folder"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"elsewhere": ["last"]}', "null"])
def test_a_broken_memory_of_ingests_is_no_memory(desk: Desk, tmp_path: Path, content: str) -> None:
    """Cut short by a kill, or of another lake: the log folder still has the answer."""
    memory = tmp_path / "checkpoints" / "ingested.json"
    memory.parent.mkdir()
    memory.write_text(content.replace("last", desk.runs["slow"]))
    assert len(session_of(desk, tmp_path).evidence(desk.runs["slow"]).calls) == CALLS


def test_only_runs_that_ended_before_the_files_were_closed_are_remembered(
    desk: Desk, tmp_path: Path
) -> None:
    """The last calls of a later one may be in a file that was still open; other lakes stay.

    What an earlier version remembered, ids of runs, still counts.
    """
    session = session_of(desk, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    memory = tmp_path / "checkpoints" / "ingested.json"
    memory.write_text('{"main.other": ["x"]}')
    LakeDesk(session.settings, print).remember_ingested(ended_before=T0)
    known = json.loads(memory.read_text())
    assert known == {"main.other": ["x"], session.settings.lake: T0}
    runs = session.runs()
    ended = [desk.runs[key] for key in ("never", "healthy")]
    assert [run.run_id for run in runs if session._desk.has_ingested(run)] == ended
    memory.write_text(json.dumps({session.settings.lake: [desk.runs["slow"]]}))
    ended = [desk.runs["slow"]]
    assert [run.run_id for run in runs if session._desk.has_ingested(run)] == ended


def test_a_whole_id_finds_a_run_however_old(desk: Desk) -> None:
    """And its neighbours in time are read around it, not from the newest end."""
    evidence = session_of(desk).evidence(desk.runs["hangs"], live=True)
    assert [call.request_id for call in evidence.in_flight] == ["stuck-000001"]


def test_a_named_baseline_may_be_younger_than_the_run(desk: Desk) -> None:
    """Who names it knows why."""
    evidence = session_of(desk).evidence(desk.runs["healthy"], baseline=desk.runs["slow"])
    assert [past.run.run_id for past in evidence.baseline] == [desk.runs["slow"]]


def test_an_unknown_run_or_baseline_is_an_error(desk: Desk) -> None:
    """Of either the message says which name it was."""
    with pytest.raises(UnknownRunError, match="'zzz'"):
        session_of(desk).why("zzz")
    with pytest.raises(UnknownRunError, match="'zzz'"):
        session_of(desk).why("last", baseline="zzz")


def test_an_ingest_without_a_log_folder_starts_nothing(desk: Desk, tmp_path: Path) -> None:
    """The folder is looked for first, and the state folder is not even made."""
    state = tmp_path / "state"
    session = Session(read_settings({}, state=state, tracking=desk.store))
    with pytest.raises(LogFolderError, match="cannot be read"):
        session.ingest()
    assert not state.exists()


# --- in a notebook --------------------------------------------------------------------------------


def test_why_in_a_notebook_is_the_same_answer_with_a_page(desk: Desk) -> None:
    """``meshml_dbx.why`` takes the command line's settings and shows a page of its own."""
    given = {"state": desk.folder / ".meshml", "tracking": desk.store}
    answer = meshml_dbx.why("last", **given)  # type: ignore[arg-type]  # settings by name
    assert answer.to_json() == session_of(desk).why("last").to_json()
    shown = answer._repr_html_()
    assert "labels-v2" in shown
    assert len(shown.encode()) <= 1_000_000
    assert "<script" not in shown


def test_the_frames_have_a_row_for_each_wait_and_call(desk: Desk) -> None:
    """Waits add up to the answer's wait, calls are those of the run."""
    answer = session_of(desk).why(desk.runs["slow"])
    assert answer.waits["wait_s"].sum() == pytest.approx(answer.wait_s)
    assert (len(answer.calls), set(answer.calls["target"])) == (CALLS, {"labels-v1", "labels-v2"})
    first = answer.calls["start_time"].iloc[0]
    assert first.isoformat() == "2026-11-23T05:08:42.010000+00:00"


def test_a_failed_run_is_answered_too(empty_mlflow_store: Path, tmp_path: Path) -> None:
    """A run that broke off has waited all the same."""
    shutil.copy(empty_mlflow_store, tmp_path / "mlflow.db")
    desk = make_desk(tmp_path)
    from mlflow import MlflowClient

    run_id = store_run(tmp_path, CLIENT, T0 + 900 * SECOND, None, process_of("4e5f6a7b"))
    MlflowClient(desk.store).set_terminated(
        run_id, status="FAILED", end_time=(T0 // 1000) + 910_000
    )
    assert session_of(desk).why("last").status == "FAILED"
