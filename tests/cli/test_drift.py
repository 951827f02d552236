"""``meshml drift`` on calls that real programs made through real sidecars."""

import json

import pytest

from tests.small_mesh import LABELS, SmallMesh

pytestmark = pytest.mark.envoy

CALLS = """
import sys, urllib.request, urllib.error
for url in sys.argv[1:]:
    try:
        urllib.request.urlopen(url).read()
    except urllib.error.HTTPError:
        pass
"""


def test_what_strays_from_the_file_is_named(mesh: SmallMesh) -> None:
    """A backend that was never called, a foreign host and a silent node, straight from the logs."""
    with mesh.serve("labels"):
        mesh.python(CALLS, *[LABELS] * 5, "http://elsewhere.small.local/x")
    done = mesh.meshml("drift", "--live", "--json")
    told = json.loads(done.out)
    assert done.status == 0, done.err
    assert sorted((it["code"], it["what"]) for it in told["findings"]) == [
        ("drift-silent-caller", "relay made no call: its 1 backends cannot be judged"),
        (
            "drift-unknown-host",
            "job called elsewhere.small.local 1 times, which the mesh does not know",
        ),
        ("drift-unused-backend", "job never called relay.small.local"),
        ("drift-unused-route", "route rest took none of the calls of labels"),
    ]
    assert (told["calls"], told["compared"]) == (6, 6)
    assert [(it["target"], it["calls"]) for it in told["ways"]] == [("labels", 5), (None, 1)]


def test_a_file_that_changed_since_says_so(mesh: SmallMesh) -> None:
    """Calls of the file as it was are counted, not compared; the table and the exit status tell."""
    with mesh.serve("labels"):
        mesh.python(CALLS, LABELS)
    mesh.change("prefix: /v1/labels", "prefix: /v2/labels")
    done = mesh.meshml("drift", "--live")
    assert done.status == 1
    assert "drift-other-version]" in done.out
    assert "drift-not-in-use]" in done.out
    assert "0 of 1 calls compared" in done.out


def test_without_a_log_folder_it_says_what_to_do(mesh: SmallMesh) -> None:
    """Nothing recorded yet is an error of ours with the next step, not an empty answer."""
    done = mesh.meshml("drift", "--live")
    assert done.status == 3
    assert "record a run first" in done.err
