"""The demo's training program without a sidecar: it records itself, and the answer is the same.

Everything is as in the demo but the program's own side: it speaks mutual TLS with the services'
sidecars and tries again by urllib3, under ``meshml record``.
"""

from pathlib import Path

import pytest

from meshml_dbx.demo.faults import FAULTS
from meshml_dbx.demo.world import (
    break_world,
    finish_training,
    living_services,
    mend_world,
    start_training,
    write_direct,
)
from tests.demo.test_faults import Played, expected, make_world, named

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All faults, played once, with a training program that records itself."""
    world, session = make_world(tmp_path_factory.mktemp("demo") / "state")
    runs: dict[str, str] = {}
    with living_services(world) as services:
        direct = write_direct(world)
        healthy = finish_training(world, start_training(world, direct=direct))
        for name, fault in FAULTS.items():
            break_world(world, fault, services)
            runs[name] = finish_training(world, start_training(world, direct=direct))
            mend_world(world, fault, services)
    return Played(world=world, session=session, healthy=healthy, runs=runs)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_process_itself_names_the_fault(recorded: Played, fault: str) -> None:
    """What the program recorded of its own calls names the cause that a sidecar's log names."""
    answer = recorded.why(fault, live=True)
    assert named(answer) == expected(FAULTS[fault]), answer.text


@pytest.mark.parametrize("fault", FAULTS)
def test_no_call_is_missing(recorded: Played, fault: str) -> None:
    """What the program counted is what it recorded; MLflow's store is a file, and no call."""
    ledger = recorded.why(fault, live=True).ledger
    assert ledger.sent == ledger.rows == ledger.proxied
    assert ledger.lost == 0


def test_services_have_their_names_from_the_mesh_file(recorded: Played, tmp_path: Path) -> None:
    """Calls to a node's own address carry its virtual service and its name."""
    culprit = recorded.why("slow-route", live=True).blamed[0]
    assert culprit.target == FAULTS["slow-route"].node
