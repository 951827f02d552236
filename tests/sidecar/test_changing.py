"""Changing a living sidecar: no call lost on the way, nothing changed where Envoy refuses."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from meshml_dbx.sidecar import Change, SidecarPlan, WantedChange, request_change
from meshml_dbx.sidecar.transaction import steps_of
from meshml_dbx.traffic.log_folder import CHANGE_ANSWER, CHANGE_REQUEST
from tests.sidecar.sidecar_lab import (
    Supervisor,
    address,
    at_work,
    call,
    logs_of,
    make_plan,
    port_of,
    records,
    supervisor,
    upstream,
)

pytestmark = pytest.mark.envoy


def listing(*names: str) -> str:
    """A file of clusters by name."""
    return json.dumps({"resources": [{"name": name} for name in names]})


def edited(files: Mapping[str, str], name: str, **changes: object) -> dict[str, str]:
    """The files with fields of the first resource of one of them changed."""
    body = json.loads(files[name])
    body["resources"][0].update(changes)
    return {**files, name: json.dumps(body)}


def with_route(files: Mapping[str, str], **action: object) -> dict[str, str]:
    """The files with one more route, asked first, for paths that begin with /new."""
    body = json.loads(files["xds/rds.json"])
    route = {"match": {"prefix": "/new"}, **action}
    body["resources"][0]["virtual_hosts"][0]["routes"].insert(0, route)
    return {**files, "xds/rds.json": json.dumps(body)}


def with_cluster(files: Mapping[str, str], name: str, port: int) -> dict[str, str]:
    """The files with one more cluster, at a port of this machine."""
    body = json.loads(files["xds/cds.json"])
    endpoint = {"endpoint": {"address": address(port)}}
    loads = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    body["resources"].append({**body["resources"][0], "name": name, "load_assignment": loads})
    return {**files, "xds/cds.json": json.dumps(body)}


def ask(found: Supervisor, files: Mapping[str, str], version: str = "v2") -> Change:
    """Ask the sidecar to serve these files."""
    wanted = WantedChange(
        mesh_version=version,
        files=files,
        mesh_source="mesh.yml",
        mesh_document="mesh: {meshName: ml}\n",
        listens=found.plan.listens,
    )
    return request_change(found.folder, wanted, timeout_s=60)


@dataclass(slots=True)
class Calls:
    """How many calls ended how, over connections that are kept."""

    port: int
    outcomes: Counter[object] = field(default_factory=Counter)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Call until it is over; whatever is no answer of 200 is a failure."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.is_over.is_set():
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                self.outcomes[response.status] += 1
            except (OSError, HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                connection.close()
        connection.close()


@contextmanager
def calling(port: int, threads: int = 4) -> Iterator[Calls]:
    """Calls without end while the block runs."""
    made = Calls(port)
    with at_work(made.run, made.is_over, threads=threads):
        yield made


# --- the order, without Envoy -----------------------------------------------------------------


def test_what_is_added_comes_first_and_what_is_removed_goes_last() -> None:
    """Clusters of both, then routes, then listeners, then the clusters that are left."""
    before = {"xds/cds.json": listing("a"), "xds/rds.json": "1", "xds/lds.json": "1"}
    after = {"xds/cds.json": listing("b"), "xds/rds.json": "2", "xds/lds.json": "2"}
    steps = steps_of(before, after | {"xds/sds-x.json": "{}"})
    assert [step.kind for step in steps] == ["sds", "cds", "rds", "lds", "cds"]
    names = [it["name"] for it in json.loads(steps[1].files["xds/cds.json"])["resources"]]
    assert names == ["b", "a"]
    assert steps[-1].files == {"xds/cds.json": listing("b")}


def test_what_is_the_same_is_not_written() -> None:
    """A change of routes alone is one step, and no change is none."""
    before = {"xds/cds.json": listing("a"), "xds/rds.json": "1", "xds/lds.json": "1"}
    assert steps_of(before, before) == ()
    assert [it.kind for it in steps_of(before, before | {"xds/rds.json": "2"})] == ["rds"]


# --- with Envoy -------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[SidecarPlan]:
    """A sidecar in front of a server that answers at once."""
    with upstream() as server:
        yield make_plan(tmp_path, server.port)


def test_no_call_fails_while_the_mesh_changes(tmp_path: Path, plan: SidecarPlan) -> None:
    """Clusters, routes and listener change and change back under load: every answer is a 200."""
    with supervisor(tmp_path, plan) as found, upstream() as second:
        port, files = port_of(plan), plan.files
        both = with_cluster(files, "second", second.port)
        moved = edited(both, "xds/cds.json", connect_timeout="2s")
        body = json.loads(with_route(moved, route={"cluster": "second"})["xds/rds.json"])
        body["resources"][0]["virtual_hosts"][0]["routes"][-1]["route"]["cluster"] = "second"
        routed = {**moved, "xds/rds.json": json.dumps(body)}
        listened = edited(routed, "xds/lds.json", per_connection_buffer_limit_bytes=65536)
        with calling(port) as calls:
            for round_ in range(3):
                for number, wanted in enumerate((both, moved, routed, listened, files)):
                    change = ask(found, wanted, f"v{round_}.{number}")
                    assert change.applied, change.reason
                    time.sleep(0.1)
        assert set(calls.outcomes) == {200}, calls.outcomes
        assert calls.outcomes[200] > 200


def test_a_refused_change_leaves_everything_as_it_was(tmp_path: Path, plan: SidecarPlan) -> None:
    """Envoy refuses a later file: what it had accepted before is taken back, no call fails."""
    with supervisor(tmp_path, plan) as found, upstream() as second:
        more = with_cluster(plan.files, "second", second.port)
        good = with_route(more, direct_response={"status": 204})
        bad = edited(good, "xds/lds.json", per_connection_buffer_limit_bytes=-1)
        with calling(port_of(plan)) as calls:
            change = ask(found, bad)
        assert (change.applied, change.undone) == (False, True)
        assert change.reason.startswith("Envoy refused xds/lds.json: ")
        assert set(calls.outcomes) == {200}, calls.outcomes
        assert call(port_of(plan), "/new") == 200  # the route of the refused change would say 204
        assert ask(found, good).applied
        assert call(port_of(plan), "/new") == 204


def test_an_unknown_field_is_refused(tmp_path: Path, plan: SidecarPlan) -> None:
    """Envoy is told to refuse what it does not know, which it would else drop with a warning."""
    with supervisor(tmp_path, plan) as found:
        change = ask(found, edited(plan.files, "xds/rds.json", no_such_field=1))
        assert not change.applied
        assert "no_such_field" in change.reason


def test_an_empty_mesh_is_refused_before_it_is_written(tmp_path: Path, plan: SidecarPlan) -> None:
    """Envoy would close every port without a word."""
    with supervisor(tmp_path, plan) as found:
        empty = {**plan.files, "xds/lds.json": json.dumps({"resources": []})}
        assert ask(found, empty).reason == "there would be no listener left"
        assert call(port_of(plan)) == 200


def test_another_bootstrap_needs_a_restart(tmp_path: Path, plan: SidecarPlan) -> None:
    """What Envoy reads only at its start is refused, with the reason."""
    with supervisor(tmp_path, plan) as found:
        change = ask(found, {**plan.files, "bootstrap.json": "{}"})
        assert change.reason == "bootstrap.json differs, which an Envoy reads only at its start"


def test_the_log_knows_which_mesh_was_served_when(tmp_path: Path, plan: SidecarPlan) -> None:
    """After a change the new mesh's document is in the log; after a refusal it is not."""
    with supervisor(tmp_path, plan) as found:
        assert ask(found, with_route(plan.files, direct_response={"status": 204}), "v2").applied
        assert not ask(found, edited(plan.files, "xds/rds.json", nonsense=1), "v3").applied
        found.stop()
    declared = records(logs_of(tmp_path, plan), "mesh", "declared")
    assert [line["mesh_version"] for line in declared] == ["v1", "v2"]


def test_each_of_many_who_ask_at_once_gets_an_answer_of_his_own(
    tmp_path: Path, plan: SidecarPlan
) -> None:
    """Whoever is told that a change was taken over finds that mesh in the log: none is lost."""
    versions = [f"v{number}" for number in range(2, 8)]
    wanted = [
        with_route(plan.files, direct_response={"status": 200 + number})
        for number in range(len(versions))
    ]
    with supervisor(tmp_path, plan) as found, ThreadPoolExecutor(len(versions)) as pool:
        changes = list(pool.map(partial(ask, found), wanted, versions))
        found.stop()
    declared = records(logs_of(tmp_path, plan), "mesh", "declared")
    assert [change.reason for change in changes] == [""] * len(versions)
    assert sorted(str(line["mesh_version"]) for line in declared) == ["v1", *versions]


def test_the_answer_to_a_killed_reload_is_nobody_elses(tmp_path: Path, plan: SidecarPlan) -> None:
    """An asker who was killed leaves a request; the next one is not told what became of that."""
    with supervisor(tmp_path, plan) as found:
        os.kill(found.process.pid, signal.SIGSTOP)  # the other answer is to be there first
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(
                ask, found, with_route(plan.files, direct_response={"status": 204})
            )
            while not (found.folder / CHANGE_REQUEST).exists():
                time.sleep(0.02)
            (found.folder / CHANGE_ANSWER).write_text(
                json.dumps(
                    {"applied": False, "files": [], "reason": "of another", "request_id": "x"}
                )
            )
            time.sleep(0.2)
            os.kill(found.process.pid, signal.SIGCONT)
            assert waiting.result(timeout=60).reason == ""
        assert call(port_of(plan), "/new") == 204


def test_nonsense_in_a_request_does_not_end_the_sidecar(tmp_path: Path, plan: SidecarPlan) -> None:
    """A request that is none is answered with a reason, and calls go on."""
    with supervisor(tmp_path, plan) as found:
        (found.folder / CHANGE_REQUEST).write_text("not JSON")
        deadline = time.monotonic() + 10
        while (found.folder / CHANGE_REQUEST).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert call(port_of(plan)) == 200
        assert found.process.poll() is None


def test_the_request_is_the_owners_alone(tmp_path: Path, plan: SidecarPlan) -> None:
    """It holds what the proxy's files hold: nobody else may read it, and a dead sidecar is said."""
    with supervisor(tmp_path, plan) as found:
        folder = found.folder
        found.kill()
    wanted = WantedChange(mesh_version="v2", files=plan.files)
    change = request_change(folder, wanted, timeout_s=10)
    assert change.reason == "the sidecar ended meanwhile"
    assert (folder / CHANGE_REQUEST).stat().st_mode & 0o777 == 0o600
