"""Each fault of the demo, made for real and named by the answer, from the logs and the lake."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from meshml_dbx.demo.faults import FAULTS, Fault
from meshml_dbx.demo.world import (
    World,
    break_world,
    build_world,
    empty_world,
    finish_training,
    living_services,
    mend_world,
    start_training,
)
from meshml_dbx.diagnosis import Diagnosis
from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A world in which every fault was played once, after one healthy run."""

    world: World
    session: Session
    healthy: str
    runs: dict[str, str]

    def why(self, fault: str, *, live: bool) -> Diagnosis:
        """The answer for a fault's run, compared with the healthy one."""
        return self.session.why(self.runs[fault], live=live, baseline=self.healthy)


def play(world: World, session: Session, faults: list[str]) -> Played:
    """One healthy run, then one for each fault, each mended afterwards."""
    runs: dict[str, str] = {}
    with living_services(world) as services:
        healthy = finish_training(world, start_training(world))
        for name in faults:
            break_world(world, FAULTS[name], services)
            runs[name] = finish_training(world, start_training(world))
            mend_world(world, FAULTS[name], services)
    return Played(world=world, session=session, healthy=healthy, runs=runs)


def make_world(folder: Path) -> tuple[World, Session]:
    """A demo's world and a session on its state."""
    empty_world(folder)
    world = build_world(folder)
    return world, Session(read_settings({}, state=folder))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All faults, played once for the whole module."""
    world, session = make_world(tmp_path_factory.mktemp("demo") / "state")
    return play(world, session, list(FAULTS))


def named(answer: Diagnosis) -> tuple[str, str]:
    """Cause and virtual service of the first thing that is blamed."""
    if not answer.blamed:
        return "none", ""
    return answer.blamed[0].cause, answer.blamed[0].virtual_service


def expected(fault: Fault) -> tuple[str, str]:
    """What the answer must name."""
    return fault.cause, fault.virtual_service


@pytest.mark.parametrize("fault", FAULTS)
def test_the_log_folder_names_the_fault(played: Played, fault: str) -> None:
    """The injected cause is what `why --live` names; where nothing is wrong, nothing is blamed."""
    assert named(played.why(fault, live=True)) == expected(FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_between_program_and_evidence(played: Played, fault: str) -> None:
    """Calls that the program counted, the proxy counted and the evidence has are the same."""
    ledger = played.why(fault, live=True).ledger
    assert (ledger.sent, ledger.lost, ledger.quarantined) == (ledger.rows, 0, 0)
    assert ledger.proxied == ledger.sent


def test_only_the_slow_version_is_blamed(played: Played) -> None:
    """The healthy version on the same route is not taken along."""
    assert [one.target for one in played.why("slow-route", live=True).blamed] == ["labels-v2"]


@pytest.mark.spark
def test_the_lake_gives_the_same_evidence_as_the_log_folder(played: Played) -> None:
    """Two makers, one evidence: call for call, and so the same answer."""
    played.session.ingest()
    for fault in FAULTS:
        live, lake = played.why(fault, live=True), played.why(fault, live=False)
        assert lake.evidence.calls == live.evidence.calls
        assert named(lake) == expected(FAULTS[fault])
        assert lake.ledger == live.ledger


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_named_ten_times_out_of_ten(tmp_path: Path, fault: str) -> None:
    """Naming the cause is no luck."""
    world, session = make_world(tmp_path / "state")
    answers = []
    with living_services(world) as services:
        healthy = finish_training(world, start_training(world))
        for _ in range(10):
            break_world(world, FAULTS[fault], services)
            run = finish_training(world, start_training(world))
            mend_world(world, FAULTS[fault], services)
            answers.append(named(session.why(run, live=True, baseline=healthy)))
    assert answers == [expected(FAULTS[fault])] * 10
