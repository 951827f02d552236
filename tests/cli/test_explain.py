"""``meshml explain`` as a user types it."""

import json

import pytest

from meshml_dbx.mesh.load import read_mesh
from tests.small_mesh import SmallMesh


def test_the_winner_comes_first_then_how_it_came_about(mesh: SmallMesh) -> None:
    """A sentence, the rules, the policies, the targets; status 0."""
    done = mesh.meshml("explain", *called(mesh))
    first, *others = done.out.splitlines()
    assert (done.status, done.err) == (0, "")
    assert " takes route " in first
    assert [it for it in ("asked in this order:", "targets:") if it not in others] == []


def test_json_has_the_same(mesh: SmallMesh) -> None:
    """One object, and nothing else on standard output."""
    told = json.loads(mesh.meshml("explain", *called(mesh), "--json").out)
    assert (told["outcome"], told["considered"][-1]["taken"]) == ("route", True)


def test_what_nobody_takes_fails_a_script(mesh: SmallMesh) -> None:
    """Status 1, with what to do."""
    client = called(mesh)[1]
    done = mesh.meshml("explain", "--client", client, "http://nowhere.example")
    assert (done.status, "next: " in done.out) == (1, True)


@pytest.mark.parametrize(
    "words", [(), ("--tcp", "a:1", "http://a"), ("--client", "a", "--node", "b", "http://a")]
)
def test_wrong_use_is_told(mesh: SmallMesh, words: tuple[str, ...]) -> None:
    """Status 2: an address or a connection, and one caller."""
    assert mesh.meshml("explain", *words).status == 2


def called(mesh: SmallMesh) -> tuple[str, ...]:
    """A call of the small mesh's own client that a route takes."""
    found = read_mesh(mesh.file).mesh
    assert found is not None
    client = found.clients[0].client_name
    host = found.clients[0].spec.backends[0].virtual_service.virtual_service_name
    return ("--client", client, "GET", f"http://{host}/")
