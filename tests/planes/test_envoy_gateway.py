"""A virtual gateway with real callers from outside: hosts, paths, rewrites, TLS, gRPC, its log."""

import http.client
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from meshml_dbx.trust import supply_identity
from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_servers import GrpcProgram, call_grpc, serving_grpc
from tests.planes.envoy_world import Answer, Program, serving
from tests.small_mesh import wait_for

pytestmark = pytest.mark.envoy

MESH = """
mesh: {meshName: ml}
virtualGateways:
- virtualGatewayName: edge
  spec:
    listeners:
    - portMapping: {port: EDGE_PORT, protocol: http}
    - portMapping: {port: SAFE_PORT, protocol: http2}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: edge}}
        validation:
          trust: {sds: {secretName: ml}}
          subjectAlternativeNames: {match: {exact: ["spiffe://ml/partner"]}}
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: edge}}
          validation: {trust: {sds: {secretName: ml}}}
    logging:
      accessLog:
        file:
          path: /dev/stdout
          format: {text: "%ROUTE_NAME% %REQ(:AUTHORITY)% %RESPONSE_CODE%\\n"}
  gatewayRoutes:
  - gatewayRouteName: by-prefix
    spec:
      httpRoute:
        match: {prefix: /labels}
        action: {target: {virtualService: {virtualServiceName: labels.ml.local}}}
  - gatewayRouteName: prefix-kept
    spec:
      httpRoute:
        match: {prefix: /v1/}
        action:
          target: {virtualService: {virtualServiceName: labels.ml.local}}
          rewrite: {prefix: {defaultPrefix: DISABLED}}
  - gatewayRouteName: prefix-changed
    spec:
      httpRoute:
        match: {prefix: /old/}
        action:
          target: {virtualService: {virtualServiceName: labels.ml.local}}
          rewrite: {prefix: {value: /v1/}}
  - gatewayRouteName: whole-path
    spec:
      httpRoute:
        match: {path: {exact: /latest}}
        action:
          target: {virtualService: {virtualServiceName: labels.ml.local}}
          rewrite: {path: {exact: /v1/labels/all}}
  - gatewayRouteName: by-regex
    spec:
      httpRoute:
        match: {path: {regex: "/r[0-9]+"}}
        action: {target: {virtualService: {virtualServiceName: labels.ml.local}}}
  - gatewayRouteName: by-host
    spec:
      priority: 1
      httpRoute:
        match: {prefix: /, hostname: {exact: api.example.com}}
        action:
          target: {virtualService: {virtualServiceName: labels.ml.local}}
          rewrite: {prefix: {defaultPrefix: DISABLED}}
  - gatewayRouteName: host-kept
    spec:
      priority: 2
      httpRoute:
        match: {prefix: /, hostname: {suffix: .kept.example}}
        action:
          target: {virtualService: {virtualServiceName: labels.ml.local}}
          rewrite: {hostname: {defaultTargetHostname: DISABLED}, prefix: {defaultPrefix: DISABLED}}
  - gatewayRouteName: by-header
    spec:
      priority: 0
      httpRoute:
        match:
          prefix: /h
          method: POST
          headers: [{name: x-team, match: {prefix: ml}}]
          queryParameters: [{name: q}]
        action: {target: {virtualService: {virtualServiceName: labels.ml.local}}}
  - gatewayRouteName: by-port
    spec:
      priority: 3
      http2Route:
        match: {prefix: /ported, port: SAFE_PORT}
        action: {target: {virtualService: {virtualServiceName: labels.ml.local}}}
  - gatewayRouteName: calls
    spec:
      grpcRoute:
        match: {serviceName: ml.Scores}
        action: {target: {virtualService: {virtualServiceName: scores.ml.local}}}
virtualNodes:
- virtualNodeName: labels
  spec:
    listeners:
    - portMapping: {port: NODE_PORT, protocol: http}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: labels}}
        validation:
          trust: {sds: {secretName: ml}}
          subjectAlternativeNames: {match: {exact: ["spiffe://ml/edge"]}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: scores
  spec:
    listeners:
    - portMapping: {port: GRPC_PORT, protocol: grpc}
      tls: {mode: STRICT, certificate: {sds: {secretName: scores}}}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: labels
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: all-labels
    spec:
      httpRoute:
        match: {path: {exact: /v1/labels/all}}
        action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
  - routeName: rest
    spec:
      httpRoute:
        match: {prefix: /}
        action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
        timeout: {perRequest: {unit: s, value: 5}}
virtualServices:
- virtualServiceName: labels.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
- virtualServiceName: scores.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: scores}}}
"""


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """The program of the node of labels."""
    with serving() as made:
        yield made


@pytest.fixture(scope="module")
def scores() -> Iterator[GrpcProgram]:
    """The program of the node of scores."""
    with serving_grpc("scores") as made:
        yield made


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, program: Program, scores: GrpcProgram
) -> Iterator[Lab]:
    """A gateway and two nodes."""
    folder = tmp_path_factory.mktemp("gateway")
    with lab(folder, MESH, {"labels": program.port, "scores": scores.port}) as made:
        yield made


def call(
    world: Lab, path: str, method: str = "GET", *, host: str = "edge.example", **headers: str
) -> Answer:
    """A request from outside the mesh."""
    connection = http.client.HTTPConnection("127.0.0.1", world.ports["EDGE"], timeout=10)
    return ask(connection, path, method, host=host, **headers)


def ask(
    connection: http.client.HTTPConnection, path: str, method: str, *, host: str, **headers: str
) -> Answer:
    """One request on a connection that is closed after it."""
    request_id = headers.pop("x_request_id", f"{method}-{host}-{path}")
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, path, headers={"host": host, "x-request-id": request_id, **sent})
    response = connection.getresponse()
    found = {key.lower(): value for key, value in response.getheaders()}
    body = response.read()
    connection.close()
    return Answer(code=response.status, body=body, headers=found, request_id=request_id)


def arrived(program: Program, request_id: str) -> tuple[str, str]:
    """Host and path with which a request reached the program."""
    (request,) = [it for it in program.requests if it.headers["x-request-id"] == request_id]
    return request.headers["host"], request.path


# --- rewrites ---------------------------------------------------------------------------------

SERVICE = "labels.ml.local"


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("edge.example", "/labels/7?x=1", (SERVICE, "/7?x=1")),
        ("edge.example", "/labels", (SERVICE, "/")),
        ("edge.example", "/v1/labels/7", (SERVICE, "/v1/labels/7")),
        ("edge.example", "/old/labels/7", (SERVICE, "/v1/labels/7")),
        ("edge.example", "/latest?x=1", (SERVICE, "/v1/labels/all?x=1")),
        ("edge.example", "/r42", (SERVICE, "/r42")),
        ("edge.example", "//labels//9", (SERVICE, "/9")),
        ("api.example.com", "/labels/8", (SERVICE, "/labels/8")),
        ("API.example.com:8443", "/labels/8", (SERVICE, "/labels/8")),
        ("a.kept.example", "/labels/8", ("a.kept.example", "/labels/8")),
        ("a.kept.example:81", "/labels/8", ("a.kept.example:81", "/labels/8")),
    ],
)
def test_host_and_path_are_rewritten(
    world: Lab, program: Program, host: str, path: str, expected: tuple[str, str]
) -> None:
    """By default the host becomes the service's name and a matched prefix becomes /."""
    got = call(world, path, host=host)
    assert got.code == 200
    assert arrived(program, got.request_id) == expected


@pytest.mark.parametrize(
    ("path", "method", "headers", "code"),
    [
        ("/h/1?q=", "POST", {"x_team": "ml-core"}, 200),
        ("/h/2?q=", "GET", {"x_team": "ml-core"}, 404),
        ("/h/3", "POST", {"x_team": "ml-core"}, 404),
        ("/h/4?q=", "POST", {"x_team": "core"}, 404),
        ("/ported/1", "GET", {}, 404),
        ("/nobody", "GET", {}, 404),
        ("/r42x", "GET", {}, 404),
    ],
)
def test_a_request_needs_all_that_a_route_asks_for(
    world: Lab, path: str, method: str, headers: dict[str, str], code: int
) -> None:
    """Method, header, query parameter and port; whatever meets no route is told so."""
    got = call(world, path, method, **headers)
    assert got.code == code
    if code == 404:
        assert b"virtual gateway edge has no route" in got.body
        assert world["edge"].end_of(got.request_id).route == "meshml:no-gateway-route"


# --- what is written --------------------------------------------------------------------------


def test_a_call_is_recorded_as_the_gateways(world: Lab) -> None:
    """One line with the service, its route and its target, as observer gateway."""
    got = call(world, "/latest", x_request_id="recorded")
    end = world["edge"].end_of(got.request_id)
    told = (end.observer, end.virtual_node, end.client, end.virtual_service, end.route, end.target)
    assert told == ("gateway", "edge", None, "labels.ml.local", "all-labels", "labels")
    assert (end.upstream_peer, end.code) == ("spiffe://ml/labels", 200)
    assert world["edge"].types_of(got.request_id) == ["DownstreamStart", "DownstreamEnd"]


def test_the_declared_log_is_written_too(world: Lab) -> None:
    """One line for each request in the mesh file's own format, with the gateway's route."""
    log = world["edge"].folder / "declared.log"
    before = len(log.read_text().splitlines())
    call(world, "/latest", host="logged.example", x_request_id="declared")
    wait_for(lambda: len(log.read_text().splitlines()) > before, "a line of the declared log")
    assert "whole-path labels.ml.local 200" in log.read_text().splitlines()[before:]


# --- what the program sees --------------------------------------------------------------------


def test_the_program_learns_who_called_and_how(world: Lab, program: Program) -> None:
    """Address and host of the outside caller are in the headers that proxies use."""
    got = call(world, "/labels/x", x_request_id="forwarded", x_meshml_run_id="forged")
    (request,) = [it for it in program.requests if it.headers["x-request-id"] == got.request_id]
    assert request.headers["x-forwarded-host"] == "edge.example"
    assert request.headers["x-forwarded-proto"] == "http"
    assert request.headers["x-forwarded-for"] != ""
    assert request.headers["x-meshml-client"] == "edge"
    assert "x-meshml-run-id" not in request.headers
    assert "URI=spiffe://ml/edge" in request.headers["x-forwarded-client-cert"]


# --- TLS and gRPC -----------------------------------------------------------------------------


def tls(world: Lab, name: str | None) -> ssl.SSLContext:
    """A caller's settings with an identity of the mesh's authority."""
    files = supply_identity(
        world.folder / "trust", mesh_name="ml", name=name or "nobody", now=datetime.now(UTC)
    )
    context = ssl.create_default_context(cafile=str(files.authority))
    context.check_hostname = False
    if name:
        context.load_cert_chain(files.certificate_chain, files.private_key)
    return context


def call_safely(world: Lab, name: str | None, **headers: str) -> Answer:
    """A request by the gateway's TLS."""
    port, context = world.ports["SAFE"], tls(world, name)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    return ask(connection, "/ported/7", "GET", host="edge.example", **headers)


def test_a_listener_with_tls_takes_whom_it_lists(world: Lab, program: Program) -> None:
    """The partner's certificate is accepted, and the route of that port is taken."""
    got = call_safely(world, "partner", x_request_id="safe")
    assert (got.code, arrived(program, "safe")) == (200, (SERVICE, "/7"))


@pytest.mark.parametrize("name", [None, "somebody"])
def test_a_listener_with_tls_refuses_all_others(world: Lab, name: str | None) -> None:
    """Without a certificate, or with another's, there is no call."""
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        call_safely(world, name, x_request_id=f"refused-{name}")


def test_grpc_enters_too(world: Lab, scores: GrpcProgram) -> None:
    """A gateway's gRPC route leads to a service of gRPC, trailers and all."""
    address = f"127.0.0.1:{world.ports['EDGE']}"
    got = call_grpc(address, "/ml.Scores/Get", x_request_id="grpc-in")
    assert (got.status, got.text) == ("OK", "scores /ml.Scores/Get")
    assert call_grpc(address, "/ml.Nobody/Get").status == "UNIMPLEMENTED"
    assert world["edge"].end_of("grpc-in").target == "scores"
    assert scores.methods() == ["/ml.Scores/Get"]


def test_envoy_has_nothing_to_complain_about(world: Lab) -> None:
    """No refused resource, no unknown field."""
    log = (world["edge"].folder / "envoy.log").read_text().splitlines()
    assert [it for it in log if "downstream connections" not in it] == []
