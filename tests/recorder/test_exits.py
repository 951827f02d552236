"""How processes end while calls wait: by themselves, by an error, by a signal."""

import signal
from pathlib import Path

import pytest

from meshml_dbx.sidecar import adopt, living
from meshml_dbx.traffic.log_folder import StateFolder
from tests.recorder.answering import answering
from tests.recorder.recorder_lab import all_records, paths, records, run_recorded, running


@pytest.mark.parametrize(
    ("program", "status"),
    [("return_while_calling", 0), ("exit_while_calling", 3), ("fail_while_calling", 1)],
)
def test_a_process_that_ends_tells_of_calls_that_wait(
    tmp_path: Path, program: str, status: int
) -> None:
    """Start and Unfinished line of the call, then the last sample and the program's end."""
    with answering() as server:
        assert run_recorded(program, tmp_path, server.url)[0] == status
    found = all_records(tmp_path / "logs")
    assert paths(found, "DownstreamStart") == paths(found, "Unfinished") == ["/never"]
    assert [(one["_record"], one["_type"]) for one in found[-2:]] == [
        ("sample", "last"),
        ("program", "end"),
    ]
    assert found[-2]["requests_total"] == found[-2]["requests_active"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_process_left_is_adopted(tmp_path: Path, number: signal.Signals) -> None:
    """Its call has a start line, and after adoption the file is closed and says the rest."""
    state = StateFolder(root=tmp_path)
    with answering() as server, running("wait_while_calling", tmp_path, server.url) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(living(state)) == 1
        process.send_signal(number)
        assert process.wait(timeout=10) == -number
    before = all_records(tmp_path / "logs")
    (adopted,) = adopt(state, tmp_path / "logs")
    found = all_records(tmp_path / "logs")
    assert paths(before, "DownstreamStart") == ["/never"]
    assert paths(before, "Unfinished") == []
    assert adopted.unfinished == 1
    assert paths(found, "Unfinished") == ["/never"]
    assert [one["_type"] for one in found if one["_record"] == "program"].count("end") == 1
    assert not list((tmp_path / "logs").glob("*/live/*.jsonl"))
    assert adopt(state, tmp_path / "logs") == ()


def test_a_process_that_leaves_at_once_is_adopted_too(tmp_path: Path) -> None:
    """``os._exit`` runs no handler: what was written stays, the rest is adoption's."""
    with answering() as server:
        run_recorded("leave_while_calling", tmp_path, server.url)
    (adopted,) = adopt(StateFolder(root=tmp_path), tmp_path / "logs")
    assert adopted.unfinished == 1


def test_threads_that_outlast_the_main_one_are_recorded(tmp_path: Path) -> None:
    """Python waits for them, and recording ends after them."""
    with answering() as server:
        run_recorded("outlast_main", tmp_path, server.url)
    (found,) = records(tmp_path / "logs").values()
    assert paths(found, "DownstreamEnd") == [f"/bytes/{number}" for number in range(1, 6)]
    assert found[-1]["_type"] == "end"
