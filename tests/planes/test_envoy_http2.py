"""http2 through real sidecars, with TLS between them: its port, its upstreams, its pools."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_servers import Http2Program, call_http2, serving_http2

pytestmark = pytest.mark.envoy

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backends: [{virtualService: {virtualServiceName: features.ml.local}}]
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: job}}
          validation: {trust: {sds: {secretName: ml}}}
virtualNodes:
- virtualNodeName: features
  spec:
    listeners:
    - portMapping: {port: NODE_PORT, protocol: http2}
      healthCheck:
        {protocol: http2, path: /ping, intervalMillis: 5000, timeoutMillis: 2000,
         healthyThreshold: 2, unhealthyThreshold: 2}
      connectionPool: {http2: {maxRequests: 2}}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: features}}
        validation: {trust: {sds: {secretName: ml}}}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: features
  spec: {listeners: [{portMapping: {port: 8080, protocol: http2}}]}
  routes:
  - routeName: by-query
    spec:
      http2Route:
        match: {prefix: /v1, queryParameters: [{name: day, match: {exact: "7"}}]}
        action: {weightedTargets: [{virtualNode: features, weight: 1}]}
  - routeName: all
    spec:
      http2Route:
        match: {prefix: /}
        action: {weightedTargets: [{virtualNode: features, weight: 1}]}
virtualServices:
- virtualServiceName: features.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: features}}}
"""


@pytest.fixture(scope="module")
def program() -> Iterator[Http2Program]:
    """A program that takes 300 ms and speaks http2 alone."""
    with serving_http2(0.3) as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, program: Http2Program) -> Iterator[Lab]:
    """A client and a node of http2."""
    folder = tmp_path_factory.mktemp("http2")
    with lab(folder, MESH, {"features": program.port}) as made:
        yield made


def test_a_client_of_http2_has_a_port(world: Lab) -> None:
    """From end to end it is http2, by the service's name as its authority."""
    got = call_http2(world["job"].grpc_port, "features.ml.local:8080", "/v1/x?day=7")
    assert (got.code, got.body, got.headers["x-spoke"]) == (200, b"/v1/x?day=7", "http2")
    (end,) = world["job"].wait_for(_type="DownstreamEnd", route="by-query")
    assert (end["protocol"], end["target"]) == ("HTTP/2", "features")


def test_a_client_of_http_is_served_too(world: Lab) -> None:
    """What comes by http/1.1 through the proxy reaches the program as http2."""
    got = world.call("job", "http://features.ml.local:8080/v1/plain")
    assert (got.code, got.body) == (200, b"/v1/plain")


def test_a_pool_counts_requests(world: Lab) -> None:
    """maxRequests 2: of five at once three are refused, whatever connections they came on."""
    with ThreadPoolExecutor(5) as pool:
        ports = [world["job"].grpc_port] * 5
        got = list(pool.map(lambda port: call_http2(port, "features.ml.local", "/pool"), ports))
    assert sorted(it.code for it in got) == [200] * 2 + [503] * 3
    refused = [it for it in got if it.code == 503]
    assert {it.headers.get("x-meshml-flags") for it in refused} == {"UO"}


def test_health_is_asked_by_http2(world: Lab, program: Http2Program) -> None:
    """The caller asks for the path that the listener declares."""
    asked = [it for it in program.requests if it[":path"] == "/ping"]
    assert {it[":authority"] for it in asked} == {"localhost"}
    stat = "cluster.egress/features.ml.local/features.health_check.success"
    assert world["job"].stat(stat) >= 1
