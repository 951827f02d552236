"""The matcher beside a real Envoy: both are asked the same, and must answer with the same route.

Envoy gets the routes that its plane renders, each made to answer with its own name, so that a
difference in order or in the meaning of a match shows.
"""

import http.client
import json
import random
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from meshml_dbx.mesh.routing import match_request
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.envoy_routes import egress_routes
from tests.mesh.ml_example import mesh_of

pytestmark = pytest.mark.envoy

ENVOY = Path(sysconfig.get_path("scripts")) / "envoy"
MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    ".HttpConnectionManager"
)
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
MATCHES = {
    "any": "prefix: /",
    "v1": "prefix: /v1",
    "v1-full": "path: {exact: /v1}",
    "labels": "prefix: /v1/labels",
    "posted": "prefix: /v1, method: POST",
    "present": "prefix: /v1, headers: [{name: X-A}]",
    "absent": "prefix: /v2, headers: [{name: x-a, invert: true}]",
    "exact": "prefix: /v3, headers: [{name: x-a, match: {exact: ab}}]",
    "not-exact": "prefix: /v3, headers: [{name: x-a, invert: true, match: {exact: a}}]",
    "begins": "prefix: /v4, headers: [{name: x-a, match: {prefix: a}}]",
    "ends": "prefix: /v4, headers: [{name: x-a, match: {suffix: b}}]",
    "regex": 'prefix: /v5, headers: [{name: x-a, match: {regex: "a|a?b"}}]',
    "not-regex": 'prefix: /v5, headers: [{name: x-a, invert: true, match: {regex: "a.*"}}]',
    "range": "prefix: /v6, headers: [{name: x-a, match: {range: {start: 1, end: 5}}}]",
    "not-range": (
        "prefix: /v6, headers: [{name: x-a, invert: true, match: {range: {start: 1, end: 9}}}]"
    ),
}
PATHS = ["/", "/v1", "/v1?x", "/v1/", "/v1/labels", "/v1/labelsx?y", "/V1", "/v2", "/v3", "/v4"]
PATHS += ["/v5", "/v6", "/v6/a", "/x?/v1"]
VALUES = [None, "a", "A", "ab", "b", "1", "4", "5", "9", "+3", "03", "-1", "3.0"]


def a_route(name: str, match: str, rank: str) -> str:
    """A route as the file writes it."""
    action = "{weightedTargets: [{virtualNode: n, weight: 1}]}"
    http_route = f"{{match: {{{match}}}, action: {action}}}"
    return f"{{routeName: {name}, spec: {{{rank}httpRoute: {http_route}}}}}"


def a_mesh(rng: random.Random) -> Mesh:
    """A mesh whose one router has all the matches, in some order and with some priorities."""
    chosen = rng.sample(sorted(MATCHES.items()), k=rng.randrange(5, len(MATCHES)))
    routes = [a_route(name, match, rng.choice(["", "priority: 0, "])) for name, match in chosen]
    return mesh_of(f"""\
mesh: {{meshName: ml}}
clients:
  - clientName: caller
    role: training
    spec: {{backends: [{{virtualService: {{virtualServiceName: s}}}}]}}
virtualNodes:
  - virtualNodeName: n
    spec:
      listeners: [{{portMapping: {{port: 8080, protocol: http}}}}]
      serviceDiscovery: {{dns: {{hostname: localhost}}}}
virtualRouters:
  - {{virtualRouterName: r, spec: {{}}, routes: [{", ".join(routes)}]}}
virtualServices:
  - {{virtualServiceName: s, spec: {{provider: {{virtualRouter: {{virtualRouterName: r}}}}}}}}
""")


def answering(mesh: Mesh) -> dict[str, object]:
    """The plane's routes of the service, each answering with its name instead of calling on."""
    rendered = json.loads(json.dumps(egress_routes(mesh, "caller", None).body))
    host = next(host for host in rendered["virtual_hosts"] if host["name"] == "s")
    routes = [
        {
            "match": route["match"],
            "direct_response": {"status": 200, "body": {"inline_string": route["name"]}},
        }
        for route in host["routes"]
    ]
    return {"virtual_hosts": [{"name": "s", "domains": host["domains"], "routes": routes}]}


def a_listener(port: int, mesh: Mesh) -> dict[str, object]:
    """A listener that serves the routes of a mesh."""
    manager = {
        "@type": MANAGER,
        "stat_prefix": "s",
        "route_config": answering(mesh),
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Mesh]]:
    """Eight meshes, each served by one real Envoy at the port that is its key."""
    if not ENVOY.exists():
        pytest.skip("no Envoy: pip install 'meshml_dbx[envoy]'")
    rng = random.Random(3)
    served = {port: a_mesh(rng) for port in free_ports(8)}
    configuration = tmp_path_factory.mktemp("envoy") / "envoy.json"
    listeners = [a_listener(port, mesh) for port, mesh in served.items()]
    configuration.write_text(json.dumps({"static_resources": {"listeners": listeners}}))
    command = [str(ENVOY), "-c", str(configuration), "--use-dynamic-base-id", "-l", "error"]
    with subprocess.Popen([*command, "--concurrency", "1"]) as envoy:
        try:
            wait_for(envoy, list(served)[-1])
            yield served
        finally:
            envoy.terminate()


def wait_for(envoy: "subprocess.Popen[bytes]", port: int) -> None:
    """Return as soon as a port accepts."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and envoy.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("Envoy did not start")


def ask_envoy(port: int, method: str, path: str, headers: dict[str, str]) -> str:
    """The name of the route that Envoy takes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers={"host": "s", **headers})
    name = connection.getresponse().read().decode()
    connection.close()
    return name


def test_envoy_and_the_matcher_take_the_same_route(meshes: dict[int, Mesh]) -> None:
    """For every request of the set, in every mesh."""
    differing = []
    for port, method, path, value in product(meshes, ("GET", "POST"), PATHS, VALUES):
        headers = {} if value is None else {"x-a": value}
        met = match_request(
            meshes[port], virtual_service="s", method=method, path=path, headers=headers
        )
        expected = met.route if met else "meshml:no-route"
        taken = ask_envoy(port, method, path, headers)
        if taken != expected:
            differing.append((method, path, value, expected, taken))
    assert differing == []
