"""Who is refused, and where that can be read: the caller sees a 503, the reason is elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshml_dbx.planes import IdentityPaths
from meshml_dbx.traffic.call import Call
from tests.free_ports import free_port
from tests.planes.envoy_mesh import labels_mesh
from tests.planes.envoy_world import (
    Caller,
    World,
    identities,
    labels_world,
    running,
    serving,
)

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A node that serves churn-training alone."""
    with labels_world(tmp_path_factory.mktemp("identity")) as made:
        yield made


def shown_by(
    paths: Mapping[str, IdentityPaths], other: Mapping[str, IdentityPaths], name: str
) -> dict[str, IdentityPaths]:
    """The same trust, with another certificate."""
    shown = other[name]
    changed = replace(
        paths[name], certificate_chain=shown.certificate_chain, private_key=shown.private_key
    )
    return {**paths, name: changed}


def foreign(world: World, folder: Path) -> dict[str, IdentityPaths]:
    """The right name from an authority that nobody knows."""
    mine = identities(world.mesh, "churn-training", world.store)
    theirs = identities(world.mesh, "churn-training", folder / "other")
    return shown_by(mine, theirs, "churn-training")


def call_as(
    world: World,
    folder: Path,
    member: str,
    paths: Mapping[str, IdentityPaths],
    url: str = "http://direct.ml.local/",
) -> Call:
    """One call by a member with these files, as its own sidecar saw it."""
    with (
        running(folder / "caller", world.mesh, member, paths=paths) as sidecar,
        closing(Caller(sidecar.egress_port)) as caller,
    ):
        return sidecar.end_of(caller.call(url).request_id)


def refusal_of(world: World, end: Call) -> str:
    """The reason that the called node's connection line gives for this call."""
    connection = world.v1.connection_from(end.upstream_local_address)
    assert connection.downstream_address == end.upstream_local_address
    return connection.failure or ""


def test_a_caller_without_a_certificate_is_refused(world: World, tmp_path: Path) -> None:
    """The caller sees 503 UC; the node's connection line says that no certificate came."""
    paths = identities(world.mesh, "nameless", world.store)
    end = call_as(world, tmp_path, "nameless", paths)
    assert (end.code, end.flags, end.upstream_failure) == (503, "UC", None)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in refusal_of(world, end)


def test_a_caller_of_another_name_is_refused(world: World, tmp_path: Path) -> None:
    """An identity of the mesh that the node's list leaves out is not served."""
    paths = identities(world.mesh, "stranger", world.store)
    end = call_as(world, tmp_path, "stranger", paths)
    assert (end.code, end.flags, end.upstream_failure) == (503, "UC", None)
    assert "SAN_matcher" in refusal_of(world, end)


@pytest.mark.parametrize(("member", "code"), [("stranger", 200), ("nameless", 503)])
def test_without_a_list_of_names_the_authority_decides(
    world: World, tmp_path: Path, member: str, code: int
) -> None:
    """A node that lists no names serves every identity of the mesh, and nobody without one."""
    paths = identities(world.mesh, member, world.store)
    end = call_as(world, tmp_path, member, paths, url="http://labels.ml.local/v1/labels/all")
    assert (end.target, end.code) == ("labels-v2", code)


def test_a_caller_of_a_foreign_authority_is_refused(world: World, tmp_path: Path) -> None:
    """The right name is worth nothing when another authority wrote it."""
    end = call_as(world, tmp_path, "churn-training", foreign(world, tmp_path))
    assert (end.code, end.flags, end.upstream_failure) == (503, "UC", None)
    assert "CERTIFICATE_VERIFY_FAILED" in refusal_of(world, end)


def test_a_caller_whose_certificate_expired_is_refused(tmp_path: Path) -> None:
    """An identity is not served after its last day."""
    mesh = labels_mesh((free_port(), free_port(), free_port()))
    then = datetime.now(UTC) - timedelta(days=7.1)
    old = identities(mesh, "churn-training", tmp_path / "trust", now=then)
    served = identities(mesh, "labels-v1", tmp_path / "trust")
    with (
        serving() as program,
        running(tmp_path / "v1", mesh, "labels-v1", paths=served, app_port=program.port) as v1,
        running(tmp_path / "c", mesh, "churn-training", paths=old) as client,
        closing(Caller(client.egress_port)) as caller,
    ):
        end = client.end_of(caller.call("http://direct.ml.local/").request_id)
        connection = v1.connection_from(end.upstream_local_address)
    assert (end.code, end.flags) == (503, "UC")
    assert "certificate_has_expired" in (connection.failure or "").lower()


def test_a_caller_without_a_policy_is_refused(world: World, tmp_path: Path) -> None:
    """A caller that shows nothing speaks TLS where the node insists, and is refused there."""
    end = call_as(world, tmp_path, "careless", {})
    assert (end.code, end.flags) == (503, "UC")
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in refusal_of(world, end)


def test_a_caller_that_speaks_plain_text_is_refused(world: World) -> None:
    """STRICT means that nobody is served without TLS."""
    port = world.mesh.virtual_nodes[0].spec.listeners[0].port_mapping.port
    with closing(Caller(port, token=None)) as caller, pytest.raises(ConnectionError):
        caller.call("/")


def test_a_server_of_another_name_is_refused(world: World, tmp_path: Path) -> None:
    """A caller that expects somebody else does not speak, and its own line says why."""
    paths = identities(world.mesh, "suspicious", world.store)
    end = call_as(world, tmp_path, "suspicious", paths)
    assert (end.code, end.flags) == (503, "UF")
    assert "SAN_matcher" in (end.upstream_failure or "")


def test_a_node_cannot_stand_in_for_another(tmp_path: Path) -> None:
    """Without a list of names the server must be the node that the mesh says it is."""
    mesh, store = labels_mesh((free_port(), free_port(), free_port())), tmp_path / "trust"
    mine, other = identities(mesh, "labels-v1", store), identities(mesh, "labels-v2", store)
    posing = shown_by(mine, {"labels-v1": other["labels-v2"]}, "labels-v1")
    paths = identities(mesh, "churn-training", store)
    with (
        serving() as program,
        running(tmp_path / "v1", mesh, "labels-v1", paths=posing, app_port=program.port),
        running(tmp_path / "c", mesh, "churn-training", paths=paths) as client,
        closing(Caller(client.egress_port)) as caller,
    ):
        end = client.end_of(caller.call("http://direct.ml.local/").request_id)
    assert (end.code, end.flags) == (503, "UF")
    assert "spiffe://ml/labels-v2" in (end.upstream_failure or "")
    assert program.requests == []


def test_a_permissive_node_serves_with_and_without_tls(tmp_path: Path) -> None:
    """PERMISSIVE: a caller with an identity is known, one that speaks plain text is served too."""
    ports = (free_port(), free_port(), free_port())
    mesh, store = labels_mesh(ports, v2_mode="PERMISSIVE"), tmp_path / "trust"
    with (
        serving() as program,
        running(
            tmp_path / "v2",
            mesh,
            "labels-v2",
            paths=identities(mesh, "labels-v2", store),
            app_port=program.port,
        ) as v2,
    ):
        peers = []
        for member in ("churn-training", "careless"):
            with (
                running(
                    tmp_path / member, mesh, member, paths=identities(mesh, member, store)
                ) as client,
                closing(Caller(client.egress_port)) as caller,
            ):
                got = caller.call("http://labels.ml.local/v1/labels/all")
                peers.append((got.code, v2.end_of(got.request_id).downstream_peer))
    assert peers == [(200, "spiffe://ml/churn-training"), (200, None)]
