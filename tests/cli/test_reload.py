"""``meshml reload``: living sidecars take another mesh file over amid calls."""

import json
import re
import sys
import time

import pytest

from tests.small_mesh import LABELS, Running, SmallMesh, wait_for

pytestmark = pytest.mark.envoy

CALLS = """
import collections, pathlib, sys, time, urllib.request, urllib.error
url, stop = sys.argv[1], pathlib.Path(sys.argv[2])
seen = collections.Counter()
print("calling", flush=True)
while not stop.exists():
    try:
        seen[urllib.request.urlopen(url).status] += 1
    except Exception as error:
        seen[str(error)] += 1
print(dict(seen), flush=True)
"""
FRESH = """    routes:
      - routeName: fresh
        spec:
          priority: 0
          httpRoute:
            match: {prefix: /v1/labels/7}
            action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
"""
DB_NODE = """virtualNodes:
  - virtualNodeName: db
    spec:
      listeners: [{portMapping: {port: 5432, protocol: tcp}}]
      serviceDiscovery: {dns: {hostname: localhost}}
"""
DB_SERVICE = """virtualServices:
  - virtualServiceName: db.small.local
    spec: {provider: {virtualNode: {virtualNodeName: db}}}
"""
TIMEOUT = (
    "          tls:\n            mode: STRICT\n            certificate: {sds: {secretName: labels}}"
)


def reload_(mesh: SmallMesh, *names: str) -> dict[str, str]:
    """The outcome of each member's sidecar."""
    done = mesh.meshml("reload", "--json", "--quiet", *names)
    found = {it["member"]: it["outcome"] for it in json.loads(done.out)}
    assert done.status == int("refused" in found.values()), done.err
    return found


def finished(mesh: SmallMesh, running: Running) -> str:
    """What the calling program saw."""
    (mesh.folder / "stop").touch()
    return running.finish().out.strip()


def calling(mesh: SmallMesh) -> tuple[str, ...]:
    """The command of a client that calls until it is told to stop."""
    program = (sys.executable, "-c", CALLS, LABELS, str(mesh.folder / "stop"))
    return ("run", "--client", "job", "--", *program)


def test_no_call_fails_while_the_mesh_changes(mesh: SmallMesh) -> None:
    """A new route and a new listener time-out come into force amid calls, all answered."""
    with mesh.serve("labels"), mesh.start(*calling(mesh)) as client:
        assert client.read_line() == "calling"
        (job,) = mesh.sidecars("job")
        for number in range(3):
            mesh.change("    routes:\n", FRESH) if number == 0 else mesh.change(
                f"weight: {number}", f"weight: {number + 1}"
            )
            assert reload_(mesh) == {"labels": "changed", "job": "changed"}
            time.sleep(0.3)
        mesh.change(
            TIMEOUT,
            f"          timeout: {{http: {{perRequest: {{unit: s, value: 9}}}}}}\n{TIMEOUT}",
        )
        assert reload_(mesh) == {"labels": "changed", "job": "changed"}
        wait_for(lambda: mesh.calls(job, route="fresh"), "a call takes the new route")
        assert reload_(mesh) == {"labels": "unchanged", "job": "unchanged"}
        seen = finished(mesh, client)
    assert seen.startswith("{200: "), seen
    assert "," not in seen, seen
    declared = mesh.lines(job, _record="mesh")
    assert len({line["mesh_version"] for line in declared}) == 5


def test_a_file_with_errors_is_not_asked_of_anyone(mesh: SmallMesh) -> None:
    """The check comes first; what runs goes on as it was."""
    with mesh.serve("labels"):
        mesh.change("virtualNode: labels, weight: 1", "virtualNode: nobody, weight: 1")
        done = mesh.meshml("reload")
        assert (done.status, "there is no virtual node nobody" in done.err) == (1, True)


def test_what_envoy_refuses_is_undone(mesh: SmallMesh) -> None:
    """An operator that only Envoy can judge: the sidecar says why and serves what it served."""
    log = '      logging: {accessLog: {file: {path: /dev/stdout, format: {text: "%NOPE%"}}}}\n'
    discovery = "      serviceDiscovery: {dns: {hostname: localhost}}\n"
    with mesh.serve("labels"):
        mesh.change(discovery, discovery + log)
        done = mesh.meshml("reload", "--quiet")
        assert done.status == 1
        assert "refused" in done.out
        assert "NOPE" in done.out
        called = mesh.python("import sys, urllib.request as r; r.urlopen(sys.argv[1])", LABELS)
        assert called.status == 0, called.err


def test_what_a_program_cannot_know_needs_a_restart(mesh: SmallMesh) -> None:
    """A node's new port has no program behind it: refused, with what to do."""
    more = "        - portMapping: {port: 39999, protocol: http}\n"
    with mesh.serve("labels"):
        text = mesh.file.read_text().replace("      listeners:\n", "      listeners:\n" + more, 1)
        mesh.file.write_text(
            text.replace(
                "virtualNode: labels, weight: 1", "virtualNode: labels, weight: 1, port: 39999"
            )
        )
        done = mesh.meshml("reload", "--quiet")
        assert done.status == 1
        assert "start its sidecar anew" in " ".join(done.out.split())


def test_a_local_port_that_the_program_was_not_told_is_told_here(mesh: SmallMesh) -> None:
    """A new TCP service is reached by a port that stands in no variable of a running program."""
    with mesh.serve("labels"), mesh.start(*calling(mesh)) as client:
        assert client.read_line() == "calling"
        backend = "        - {virtualService: {virtualServiceName: db.small.local}}\n"
        mesh.change("      backends:\n", f"      backends:\n{backend}")
        mesh.change("virtualNodes:\n", DB_NODE)
        mesh.change("virtualServices:\n", DB_SERVICE)
        done = mesh.meshml("reload", "--json", "--quiet")
        told = {it["member"]: (it["outcome"], it["reason"]) for it in json.loads(done.out)}
        finished(mesh, client)
    assert told["labels"] == ("changed", "")
    outcome, reason = told["job"]
    assert outcome == "changed"
    assert re.fullmatch(
        r"its program was not told of db\.small\.local:5432 at 127\.0\.0\.1:\d+: "
        "start it anew, or tell it",
        reason,
    )


def test_nobody_of_that_name(mesh: SmallMesh) -> None:
    """With nothing alive there is nothing to do; a name that nobody has is an error."""
    assert mesh.meshml("reload").out.strip() == "no sidecar of this mesh lives here"
    done = mesh.meshml("reload", "labels")
    assert (done.status, "no living sidecar" in done.err) == (3, True)
