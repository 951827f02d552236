"""Names of the log folder: fixed, told apart, and read back as they were given."""

import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from meshml_dbx.traffic.log_folder import CLOSED_NAME, SidecarLogs, StateFolder, closed_name

NOON = datetime(2026, 11, 23, 12, 0, 0, 7, tzinfo=UTC)


def read_back(name: str) -> tuple[datetime, int]:
    """Time and number of a closed file's name."""
    found = CLOSED_NAME.match(name)
    assert found is not None
    moment = datetime.strptime(found["time"], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return moment, int(found["number"])


@pytest.mark.parametrize("number", [0, 1, 17, 10**9])
def test_a_closed_name_comes_back(number: int) -> None:
    """Time to the microsecond, and the number."""
    assert read_back(closed_name(NOON, number)) == (NOON, number)


def test_a_closed_name_is_in_utc_whatever_the_clock() -> None:
    """Two sidecars in two zones name the same moment alike."""
    there = NOON.astimezone(timezone(timedelta(hours=-8)))
    assert closed_name(there, 4) == closed_name(NOON, 4)


def test_closed_names_sort_as_their_times_do() -> None:
    """A listing by name is a listing by time."""
    chance = random.Random(3)
    moments = sorted(NOON + timedelta(microseconds=chance.randrange(10**13)) for _ in range(500))
    names = [closed_name(moment, 0) for moment in moments]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        *("access.jsonl", "closing-4.jsonl", "stages-17.jsonl", "events.jsonl", ""),
        *("20261123T120000.000007Z-4.jsonl.tmp", "20261123T120000.000007Z.jsonl"),
        *("20261123T120000Z-4.jsonl", "x20261123T120000.000007Z-4.jsonl"),
        "20261123T120000.000007Z--4.jsonl",
        "20261123T120000.000007Z-4.jsonl\n",
    ],
)
def test_other_names_are_no_closed_files(name: str) -> None:
    """What is not finished, or not ours, is never taken for a finished file."""
    assert CLOSED_NAME.match(name) is None


def test_the_folders_are_the_promised_ones() -> None:
    """Other programs read them, so a name, once given, stays."""
    state = StateFolder(root=Path("s"))
    logs = SidecarLogs(root=state.logs, sidecar_id="churn-1")
    paths = [state.trust, state.run, state.logs, state.lake, state.checkpoints, state.reports]
    assert [path.as_posix() for path in paths] == [
        *("s/trust", "s/run", "s/logs", "s/lake", "s/checkpoints", "s/reports")
    ]
    assert [p.as_posix() for p in (logs.access, logs.events, logs.stages(17), logs.closed)] == [
        "s/logs/churn-1/live/access.jsonl",
        "s/logs/churn-1/live/events.jsonl",
        "s/logs/churn-1/live/stages-17.jsonl",
        "s/logs/churn-1/closed",
    ]
