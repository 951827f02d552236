"""Kept connections: programs that close theirs early must not make calls fail."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.free_ports import free_port
from tests.planes.envoy_mesh import labels_mesh
from tests.planes.envoy_world import (
    Answer,
    Caller,
    Sidecar,
    identities,
    running,
    serving,
)

pytestmark = pytest.mark.envoy

URL = "http://direct.ml.local/"


def burst(client: Sidecar, size: int) -> list[Answer]:
    """So many calls at once, each by a caller of its own."""

    def one(_: int) -> Answer:
        with closing(Caller(client.egress_port)) as caller:
            return caller.call(URL)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def fails_of_bursts(folder: Path, *, idle_s: float, gaps_s: tuple[float, ...]) -> list[int]:
    """The codes other than 200 when calls come again just as the program closes connections."""
    mesh = labels_mesh((free_port(), free_port(), free_port()))
    store = folder / "trust"
    with (
        serving(idle_s=idle_s) as program,
        running(
            folder / "v1",
            mesh,
            "labels-v1",
            paths=identities(mesh, "labels-v1", store),
            app_port=program.port,
        ),
        running(
            folder / "c",
            mesh,
            "churn-training",
            paths=identities(mesh, "churn-training", store),
        ) as client,
    ):
        codes = [it.code for it in burst(client, 16)]
        for gap_s in gaps_s:
            time.sleep(gap_s)
            codes += [it.code for it in burst(client, 16)]
    return [code for code in codes if code != 200]


def test_a_program_that_closes_idle_connections_makes_no_call_fail(tmp_path: Path) -> None:
    """Calls that come just when the program closes (here after 2 s) all succeed."""
    gaps_s = (1.98, 1.995, 2.0, 2.005)
    assert fails_of_bursts(tmp_path, idle_s=2.0, gaps_s=gaps_s) == []


@pytest.mark.soak
def test_a_trickle_makes_no_call_fail(tmp_path: Path) -> None:
    """The same for the five seconds that common servers wait, many times over."""
    gaps_s = tuple(4.95 + 0.005 * step for step in range(20))
    assert fails_of_bursts(tmp_path, idle_s=5.0, gaps_s=gaps_s) == []


def test_connections_are_reused_while_calls_come(tmp_path: Path) -> None:
    """Close calls share both connections; a pause of 2 s ends the one to the program alone."""
    mesh, store = labels_mesh((free_port(), free_port(), free_port())), tmp_path / "trust"
    with (
        serving() as program,
        running(
            tmp_path / "v1",
            mesh,
            "labels-v1",
            paths=identities(mesh, "labels-v1", store),
            app_port=program.port,
        ) as v1,
        running(
            tmp_path / "c",
            mesh,
            "churn-training",
            paths=identities(mesh, "churn-training", store),
        ) as client,
        closing(Caller(client.egress_port)) as caller,
    ):
        asked = [caller.call(URL).request_id, caller.call(URL).request_id]
        time.sleep(2)
        asked.append(caller.call(URL).request_id)
        peers = {client.end_of(it).upstream_connection_id for it in asked}
        program_side = [v1.end_of(it).upstream_connection_id for it in asked]
    assert len(peers) == 1
    assert program_side[0] == program_side[1] != program_side[2]
