"""Supervisors killed at random moments under load, and eight of them at once."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshml_dbx.sidecar import adopt, living, request_close
from meshml_dbx.traffic.log_folder import CLOSED_NAME, SidecarLogs, StateFolder
from tests.sidecar.sidecar_lab import (
    Upstream,
    await_true,
    call,
    ends,
    load,
    logs_of,
    make_plan,
    port_of,
    records,
    supervisor,
)

BUFFERED_S = 0.2
"""Envoy writes its buffer this often; what a kill finds in it is lost."""
SLACK_S = 0.6
"""For a machine that is busy with other things."""


def kill_once(state: Path, server: Upstream, name: str, moment_s: float) -> float:
    """Kill a supervisor under load, adopt what it left, and check it; how much time was lost."""
    plan = make_plan(state, server.port, name=name)
    with supervisor(state, plan) as started, load(port_of(plan)) as calls:
        time.sleep(moment_s)
        if random.random() < 0.5:
            request_close(StateFolder(root=state))
            time.sleep(moment_s / 3)
        killed = time.time()
        started.kill()
    await_true(lambda: not living(StateFolder(root=state)), within_s=2, what="Envoy is dead")
    adopt(StateFolder(root=state), state / "logs")
    logs = logs_of(state, plan)
    check_files(logs)
    found = ends(logs)
    assert max(found.values()) == 1
    lost = [when for path, when in calls.answered.items() if path not in found]
    return killed - min(lost, default=killed)


def check_files(logs: SidecarLogs) -> None:
    """Whole lines but for the last of a file, no number twice, nothing left live."""
    numbers = []
    for path in logs.closed.iterdir():
        name = CLOSED_NAME.match(path.name)
        assert name
        numbers.append(int(name["number"]))
        *whole, rest = path.read_bytes().split(b"\n")
        assert all(line[:1] == b"{" and line[-1:] == b"}" for line in whole)
        if rest:  # half a line: cut off, so that the others can be read as JSON
            path.write_bytes(b"\n".join([*whole, b""]))
    assert len(numbers) == len(set(numbers))
    assert [path.name for path in logs.live.iterdir()] == [".lock"]


def kill_often(state: Path, server: Upstream, rounds: int) -> list[float]:
    """The seconds of answered calls that each kill has lost."""
    moments = [random.uniform(0.2, 2.0) for _ in range(rounds)]
    return [kill_once(state, server, f"lab-{n}", moment) for n, moment in enumerate(moments)]


@pytest.mark.envoy
def test_three_kills_lose_only_what_was_buffered(server: Upstream, state: Path) -> None:
    """An answered call has its end line unless it ended within the flush interval of the kill."""
    assert max(kill_often(state, server, 3)) < BUFFERED_S + SLACK_S


@pytest.mark.envoy
@pytest.mark.soak
def test_twenty_kills_lose_only_what_was_buffered(server: Upstream, state: Path) -> None:
    """The same, twenty times; prints what was lost."""
    lost = sorted(kill_often(state, server, 20))
    print(f"lost per kill: median {lost[10]:.3f} s, most {lost[-1]:.3f} s")  # noqa: T201  # a figure
    assert lost[-1] < BUFFERED_S + SLACK_S


@pytest.mark.envoy
def test_eight_supervisors_at_once(server: Upstream, state: Path) -> None:
    """Started together in one state folder: all serve, all answer one request to close, all end
    in order, and each has its own calls and no others."""
    plans = [make_plan(state, server.port, name=f"lab-{n}") for n in range(8)]
    with ExitStack() as stack:
        together = [supervisor(state, plan) for plan in plans]
        with ThreadPoolExecutor(8) as pool:
            started = list(pool.map(stack.enter_context, together))
        for number, plan in enumerate(plans):
            call(port_of(plan), f"/{number}")
        names = tuple(sorted(plan.sidecar_id for plan in plans))
        assert tuple(one.sidecar_id for one in living(StateFolder(root=state))) == names
        assert sorted(request_close(StateFolder(root=state)).answered) == list(names)
        assert [one.stop() for one in started] == [0] * 8
    for number, plan in enumerate(plans):
        assert ends(logs_of(state, plan)) == {f"/{number}": 1}
        assert records(logs_of(state, plan), "sample", "last")[0]["requests_total"] == 1
    assert list((state / "run").iterdir()) == []
