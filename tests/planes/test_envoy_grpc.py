"""gRPC through real sidecars: three ways in, routes by service and method, retries, deadlines."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_servers import GrpcProgram, call_grpc, serving_grpc

pytestmark = pytest.mark.envoy

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: scoring
  spec:
    backends:
    - virtualService: {virtualServiceName: scores.ml.local}
    - virtualService: {virtualServiceName: plain.ml.local}
    backendDefaults: &policy
      clientPolicy:
        tls:
          ports: [ONE_PORT]
          certificate: {sds: {secretName: job}}
          validation: {trust: {sds: {secretName: ml}}}
virtualNodes:
- virtualNodeName: one
  spec: &spec
    listeners:
    - portMapping: {port: ONE_PORT, protocol: grpc}
      timeout: {grpc: {perRequest: {unit: s, value: 0}}}
      healthCheck:
        {protocol: grpc, intervalMillis: 5000, timeoutMillis: 2000,
         healthyThreshold: 2, unhealthyThreshold: 2}
      connectionPool: {grpc: {maxRequests: 2}}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: one}}
        validation: {trust: {sds: {secretName: ml}}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: two
  spec:
    listeners: [{portMapping: {port: TWO_PORT, protocol: grpc}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: scores
  spec: {listeners: [{portMapping: {port: 9000, protocol: grpc}}]}
  routes:
  - routeName: one-method
    spec:
      grpcRoute:
        match: {serviceName: ml.Scores, methodName: Best}
        action: {weightedTargets: [{virtualNode: two, weight: 1}]}
  - routeName: one-service
    spec:
      grpcRoute:
        match: {serviceName: ml.Scores}
        action: {weightedTargets: [{virtualNode: one, weight: 1}]}
        retryPolicy:
          maxRetries: 2
          perRetryTimeout: {unit: s, value: 5}
          grpcRetryEvents: [unavailable, resource-exhausted]
  - routeName: canary
    spec:
      priority: 1
      grpcRoute:
        match: {metadata: [{name: x-cohort, match: {exact: b}}]}
        action: {weightedTargets: [{virtualNode: two, weight: 1}]}
  - routeName: hurried
    spec:
      grpcRoute:
        match: {serviceName: ml.Slow}
        action: {weightedTargets: [{virtualNode: one, weight: 1}]}
        timeout: {perRequest: {unit: ms, value: 400}}
  - routeName: patient
    spec:
      grpcRoute:
        match: {serviceName: ml.Long}
        action: {weightedTargets: [{virtualNode: one, weight: 1}]}
        timeout: {perRequest: {unit: s, value: 0}}
virtualServices:
- virtualServiceName: scores.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: scores}}}
- virtualServiceName: plain.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: http}}}
"""
PLAIN_NODE = """- virtualNodeName: http
  spec:
    listeners: [{portMapping: {port: HTTP_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
"""
SERVICE = "scores.ml.local:9000"


@pytest.fixture(scope="module")
def one() -> Iterator[GrpcProgram]:
    """The program of node ``one``."""
    with serving_grpc("one") as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, one: GrpcProgram) -> Iterator[Lab]:
    """A client and two gRPC nodes."""
    text = MESH.replace("virtualRouters:\n", PLAIN_NODE)
    with (
        serving_grpc("two") as two,
        lab(tmp_path_factory.mktemp("grpc"), text, {"one": one.port, "two": two.port}) as made,
    ):
        yield made


def through(world: Lab, method: str, *, authority: str = SERVICE, **sent: str) -> tuple[str, str]:
    """A call by the port of gRPC."""
    address = f"127.0.0.1:{world['job'].grpc_port}"
    got = call_grpc(address, method, authority=authority, timeout_s=10, **sent)
    return got.status, got.text


# --- ways in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("authority", ["scores.ml.local", SERVICE])
def test_the_port_of_grpc_leads_by_authority(world: Lab, authority: str) -> None:
    """A client dials the local port and names the service as its authority."""
    assert through(world, "/ml.Scores/Get", authority=authority) == ("OK", "one /ml.Scores/Get")


def test_the_socket_of_grpc_is_the_owners_alone(world: Lab) -> None:
    """The same routes behind a Unix socket that nobody else may open."""
    path = world["job"].folder / "grpc.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    short = Path(f"/tmp/{os.getpid()}-grpc.sock")  # noqa: S108  # socket paths are short
    short.symlink_to(path)
    try:
        got = call_grpc(f"unix:{short}", "/ml.Scores/Get", authority=SERVICE)
    finally:
        short.unlink()
    assert (got.status, got.text) == ("OK", "one /ml.Scores/Get")


PROGRAM = """
import grpc, sys
with grpc.insecure_channel("scores.ml.local:9000") as channel:
    print(channel.unary_unary("/ml.Scores/Get")(b"", timeout=10).decode())
"""


def run_program(proxy: str) -> "subprocess.CompletedProcess[str]":
    """A program that knows nothing of the mesh but its proxy variables."""
    environ = {**os.environ, "http_proxy": proxy, "no_proxy": "localhost,127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_client_of_grpc_may_come_through_the_proxy(world: Lab) -> None:
    """What gRPC carries by CONNECT to a service of the mesh is routed call by call, unchanged."""
    done = run_program(world.proxy("job"))
    assert done.stdout.strip() == "one /ml.Scores/Get", done.stderr


def test_through_the_proxy_a_token_is_needed(world: Lab, one: GrpcProgram) -> None:
    """A tunnel without the token is refused before any call."""
    before = len(one.methods())
    done = run_program(world.proxy("job", token="wrong"))  # noqa: S106  # it is
    assert done.returncode != 0
    assert len(one.methods()) == before


def test_the_port_of_grpc_serves_grpc_alone(world: Lab) -> None:
    """No token is asked for there, so it leads to services of http2 and gRPC and nowhere else."""
    for authority in ("plain.ml.local", "nobody.example"):
        status, text = through(world, "/ml.Scores/Get", authority=authority)
        assert (status, "no backend of http2 or gRPC" in text) == ("PERMISSION_DENIED", True)


# --- routes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "sent", "expected", "route"),
    [
        ("/ml.Scores/Get", {}, "one", "one-service"),
        ("/ml.Scores/Best", {}, "two", "one-method"),
        ("/ml.Scores/BestOf", {}, "one", "one-service"),
        ("/ml.Scores/Get", {"x_cohort": "b"}, "two", "canary"),
        ("/ml.Other/Get", {"x_cohort": "b"}, "two", "canary"),
    ],
)
def test_calls_take_their_route(
    world: Lab, method: str, sent: dict[str, str], expected: str, route: str
) -> None:
    """By service, by method, and by metadata, each as gRPC's own paths say."""
    request_id = f"route-{route}-{method}"
    assert through(world, method, x_request_id=request_id, **sent) == ("OK", f"{expected} {method}")
    end = world["job"].end_of(request_id)
    assert (end.route, end.target, end.protocol) == (route, expected, "HTTP/2")


def test_a_call_of_no_route_is_told_so(world: Lab) -> None:
    """gRPC says UNIMPLEMENTED where http says 404."""
    status, text = through(world, "/ml.Nobody/Get")
    assert (status, "scores has no route" in text) == ("UNIMPLEMENTED", True)


def test_a_program_sees_who_calls(world: Lab, one: GrpcProgram) -> None:
    """mTLS carries gRPC: the node's program reads the caller's identity."""
    through(world, "/ml.Scores/Who")
    (call,) = [it for it in one.calls if it.method.endswith("/Who")]
    assert "URI=spiffe://ml/job" in call.metadata["x-forwarded-client-cert"]


# --- policies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "times", "expected", "attempts"),
    [
        ("UNAVAILABLE", "2", "OK", 3),
        ("RESOURCE_EXHAUSTED", "1", "OK", 2),
        ("UNAVAILABLE", "9", "UNAVAILABLE", 3),
        ("INTERNAL", "1", "INTERNAL", 1),
    ],
)
def test_listed_statuses_are_tried_again(
    world: Lab, status: str, times: str, expected: str, attempts: int
) -> None:
    """grpcRetryEvents name gRPC's own statuses; what they leave out is final."""
    request_id = f"retry-{status}-{times}"
    sent = {"x_status": status, "x_times": times, "x_request_id": request_id}
    assert through(world, "/ml.Scores/Get", **sent)[0] == expected
    assert world["job"].end_of(request_id).attempts == attempts


def test_a_route_ends_a_call_that_takes_too_long(world: Lab) -> None:
    """perRequest holds for gRPC."""
    status, _ = through(world, "/ml.Slow/Get", x_wait="3", x_request_id="slow")
    end = world["job"].end_of("slow")
    assert status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert (end.code, end.duration_us in range(350_000, 900_000)) == (200, True)


def test_a_callers_own_deadline_ends_its_call(world: Lab) -> None:
    """grpc-timeout counts where it is shorter than the route's limit."""
    address = f"127.0.0.1:{world['job'].grpc_port}"
    got = call_grpc(
        address, "/ml.Long/Get", authority=SERVICE, timeout_s=0.4, x_wait="3", x_request_id="short"
    )
    assert got.status == "DEADLINE_EXCEEDED"
    assert world["job"].end_of("short").duration_us < 1_500_000


def test_health_is_asked_in_grpcs_own_way(world: Lab, one: GrpcProgram) -> None:
    """The caller's Envoy calls grpc.health.v1.Health/Check of the node's program."""
    found = [it for it in one.calls if it.method == "/grpc.health.v1.Health/Check"]
    assert found != []
    cluster = r"cluster.egress/scores.ml.local/one.health_check.success"
    assert world["job"].stat(cluster) >= 1


def test_envoy_has_nothing_to_complain_about(world: Lab) -> None:
    """No refused resource, no unknown field."""
    for sidecar in world.sidecars.values():
        log = (sidecar.folder / "envoy.log").read_text().splitlines()
        assert [it for it in log if "downstream connections" not in it] == []
