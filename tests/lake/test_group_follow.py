"""A log group becomes closed files: each event in one of them, whatever is killed in between.

Moto shows events at once and knows no prefix of streams, so late events and prefixes are tested
against a scripted server.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.group_follow import HOUR_MS, SLICE_MS, GroupState, follow_group
from meshml_dbx.lake.places import GroupPlace
from tests.lake.aws_lab import Answer, client_at, event, moto_server, put, refusal, scripted_logs

MINUTE = 60_000
NOON = 1_795_348_800_000


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A server of CloudWatch Logs."""
    with moto_server() as url:
        yield url


class Desk:
    """A folder in which a group is followed."""

    def __init__(self, root: Path, client: Any, group: str, prefix: str = "") -> None:
        self.closed = root / "closed"
        self.closed.mkdir()
        self.state = root / "state.json"
        self.said: list[str] = []
        self.client = client
        self.place = GroupPlace(group=group, stream_prefix=prefix)

    def follow(self, now_ms: int, since_ms: int | None = None) -> list[str]:
        """The lines of the files that this reading brought."""
        files = follow_group(
            self.client,
            self.place,
            state_file=self.state,
            closed=self.closed,
            since_ms=since_ms,
            now_ms=now_ms,
            say=self.said.append,
        )
        return [line for path in files for line in path.read_text().splitlines()]

    def lines(self) -> list[str]:
        """All lines of all files."""
        return sorted(
            line for path in self.closed.glob("*.log") for line in path.read_text().splitlines()
        )


def test_reading_goes_on_where_it_stopped(moto: str, tmp_path: Path) -> None:
    """The last hour at first, then what is new; further back where that is asked for, once."""
    client, now = client_at(moto), int(time.time() * 1000)
    desk = Desk(tmp_path, client, "/follow/on")
    put(client, "/follow/on", now - 50 * HOUR_MS, ["two days"])
    put(client, "/follow/on", now - 2 * HOUR_MS, ["two hours"])
    put(client, "/follow/on", now - MINUTE, ["now", "two\nlines", "end\n"])
    assert desk.follow(now) == ["now", "two", "lines", "end"]
    assert desk.follow(now + 1000) == []
    put(client, "/follow/on", now, ["later"])
    assert desk.follow(now + 2000) == ["later"]
    assert desk.follow(now + 3000, since_ms=now - 72 * HOUR_MS) == ["two days", "two hours"]
    assert desk.follow(now + 4000, since_ms=now - 72 * HOUR_MS) == []
    assert desk.follow(now + 5000, since_ms=now - HOUR_MS) == []
    assert not list(desk.closed.glob(".*"))


def test_spans_leave_no_event_out() -> None:
    """A long way back is cut into spans that end where the tail begins."""
    state = GroupState().since(NOON - 100 * HOUR_MS, NOON)
    assert state.gaps == ((NOON - 100 * HOUR_MS, NOON - SLICE_MS),)
    assert (state.tail_from_ms, state.from_ms) == (NOON - SLICE_MS, NOON - 100 * HOUR_MS)
    first = NOON - 100 * HOUR_MS
    half = state.after(first, first + SLICE_MS)
    assert half.gaps == ((first + SLICE_MS, NOON - SLICE_MS),)
    assert half.after(first + SLICE_MS, NOON - SLICE_MS).gaps == ()
    more = half.since(first - HOUR_MS, NOON)
    assert more.gaps[0] == (first - HOUR_MS, first)
    assert (
        GroupState.of(json.loads(json.dumps({"gaps": more.gaps, "from_ms": 5}))).gaps == more.gaps
    )


class Events:
    """A group whose events are known, that answers by time and prefix and counts its requests."""

    def __init__(self, *moments: int) -> None:
        self.events = [event(number, moment) for number, moment in enumerate(moments)]
        self.requests: list[dict[str, Any]] = []
        self.refused_from = 10**6

    def answer(self, request: dict[str, Any]) -> Answer:
        self.requests.append(request)
        if len(self.requests) > self.refused_from:
            return refusal("AccessDeniedException")
        start, end = request["startTime"], request["endTime"]
        found = [one for one in self.events if start <= one["timestamp"] <= end]
        return 200, {"events": found}


def test_a_reading_that_broke_off_loses_nothing(tmp_path: Path) -> None:
    """Spans that were read stay read, and the rest comes the next time."""
    moments = [NOON - hours * HOUR_MS for hours in (100, 94, 50, 20, 10, 1)]
    group = Events(*moments)
    group.refused_from = 5
    with scripted_logs(group.answer) as url:
        desk = Desk(tmp_path, client_at(url, tries=1), "/g", prefix="task/")
        with pytest.raises(LakeError, match="access is denied"):
            desk.follow(NOON, since_ms=NOON - 101 * HOUR_MS)
        before = desk.lines()
        group.refused_from = 10**6
        desk.follow(NOON + MINUTE)
    assert before == ["line 0", "line 1"]
    assert desk.lines() == [f"line {number}" for number in range(6)]
    assert {one["logStreamNamePrefix"] for one in group.requests} == {"task/"}


def test_a_kill_around_the_naming_of_a_file(tmp_path: Path) -> None:
    """Before it has its name, its events are read again; after, they are not."""
    with scripted_logs(Events(NOON - MINUTE, NOON - 2).answer) as url:
        desk = Desk(tmp_path, client_at(url), "/g")
        desk.follow(NOON)
        (file,) = desk.closed.glob("*.log")
        done = json.loads(desk.state.read_text())
        begun = GroupState().since(None, NOON)
        killed = {
            "version": 1,
            "from_ms": begun.from_ms,
            "tail_from_ms": begun.tail_from_ms,
            "pending": {"name": file.name, "next": done},
        }
        desk.state.write_text(json.dumps(killed))
        assert desk.follow(NOON + 1000) == ["line 0", "line 1"]  # told again: it may be new to us
        assert desk.lines() == ["line 0", "line 1"]
        file.rename(desk.closed / f".{file.name}.part")
        desk.state.write_text(json.dumps(killed))
        assert desk.follow(NOON + 1000) == ["line 0", "line 1"]
        assert desk.lines() == ["line 0", "line 1"]


def test_an_event_of_the_near_future_is_not_lost(tmp_path: Path) -> None:
    """One that was taken in long before the time it bears, by a host whose clock is ahead."""
    ahead = {**event(0, NOON - MINUTE), "ingestionTime": NOON - 2 * HOUR_MS}
    with scripted_logs(lambda _: (200, {"events": [ahead]})) as url:
        desk = Desk(tmp_path, client_at(url), "/g")
        assert desk.follow(NOON) == ["line 0"]
        assert desk.follow(NOON + 1000) == []


def test_a_state_that_is_none_is_refused(tmp_path: Path) -> None:
    """It is named; nothing is read."""
    with scripted_logs(Events().answer) as url:
        desk = Desk(tmp_path, client_at(url), "/g")
        desk.state.write_text("{")
        with pytest.raises(LakeError, match=r"state\.json"):
            desk.follow(NOON)
        desk.state.write_text('{"version": 2}')
        with pytest.raises(LakeError, match="version 2, this one knows 1"):
            desk.follow(NOON)
