"""What App Mesh injected without being asked, named in the mesh file and at work in Envoy."""

import json
from collections.abc import Iterator

import pytest

from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_world import Reply, Request, serving

pytestmark = pytest.mark.envoy

MESH = """
mesh: {meshName: ml}
INJECTED
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: direct.ml.local}
    - virtualService: {virtualServiceName: routed.ml.local}
virtualNodes:
- virtualNodeName: labels
  spec:
    listeners: [{portMapping: {port: NODE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: routed
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: own
    spec:
      httpRoute:
        match: {prefix: /own}
        action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
        retryPolicy:
          maxRetries: 4
          perRetryTimeout: {unit: s, value: 2}
          httpRetryEvents: [server-error]
  - routeName: silent
    spec:
      httpRoute:
        match: {prefix: /}
        action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
virtualServices:
- virtualServiceName: direct.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: labels}}}
- virtualServiceName: routed.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: routed}}}
"""


def answer(request: Request) -> Reply:
    """The status that the caller asks for, as often as it asks."""
    number = int(request.headers.get("x-envoy-attempt-count", "1"))
    fails = number <= int(request.headers.get("x-times", "99"))
    return Reply(code=int(request.headers["x-code"]) if fails else 200)


@pytest.fixture(scope="module", params=["none", "modern", "legacy"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Lab]]:
    """The same mesh under each of the three."""
    name = request.param
    text = MESH.replace("INJECTED", "" if name == "none" else f"injectedDefaults: {name}")
    with serving(answer) as program:
        folder = tmp_path_factory.mktemp(name)
        with lab(folder, text, {"labels": program.port}) as made:
            yield name, made


ATTEMPTS = {"none": 1, "modern": 3, "legacy": 1}


@pytest.mark.parametrize("url", ["http://direct.ml.local/", "http://routed.ml.local/x"])
def test_a_503_is_tried_again_where_that_was_injected(world: tuple[str, Lab], url: str) -> None:
    """Two retries of a route without a policy, and of a node that provides a service itself."""
    name, made = world
    got = made.call("job", url, x_code="503")
    end = made["job"].end_of(got.request_id)
    assert (got.code, end.attempts) == (503, ATTEMPTS[name])
    assert made.call("job", url, x_code="503", x_times="2").code == (
        200 if name == "modern" else 503
    )


def test_another_failure_is_not_tried_again(world: tuple[str, Lab]) -> None:
    """Of answers 503 alone was injected."""
    _, made = world
    got = made.call("job", "http://routed.ml.local/x", x_code="500")
    assert made["job"].end_of(got.request_id).attempts == 1


def test_a_policy_of_the_routes_own_replaces_what_was_injected(world: tuple[str, Lab]) -> None:
    """It is all that holds."""
    _, made = world
    got = made.call("job", "http://routed.ml.local/own", x_code="500")
    assert made["job"].end_of(got.request_id).attempts == 5


def test_what_was_injected_can_be_seen(world: tuple[str, Lab]) -> None:
    """The route says so in its metadata, and the limits stand in the caller's clusters."""
    name, made = world
    hosts = json.loads((made["job"].folder / "xds/rds.json").read_text())["resources"][0]
    routes = {it["name"]: it for host in hosts["virtual_hosts"] for it in host["routes"]}
    seen = routes["silent"]["metadata"]["filter_metadata"]["meshml"].get("injected_defaults")
    assert seen == (None if name == "none" else name)
    own = routes["own"]["metadata"]["filter_metadata"]["meshml"]
    assert "injected_defaults" not in own
    clusters = json.loads((made["job"].folder / "xds/cds.json").read_text())["resources"]
    (limits,) = clusters[0]["circuit_breakers"]["thresholds"]
    assert (limits["max_requests"], limits["max_retries"]) == (
        (1024, 3) if name == "legacy" else (2147483647, 2147483647)
    )
