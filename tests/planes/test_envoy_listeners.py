"""Nodes of several listeners, and what one declares: TLS for some, limits, health, upgrades."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshml_dbx.trust import supply_identity
from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_servers import GrpcProgram, call_grpc, listening, serving_grpc, serving_tcp
from tests.planes.envoy_world import Program, Reply, Request, serving

pytestmark = pytest.mark.envoy

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backendGroups: [all]
- clientName: safe
  role: training
  spec:
    backends: [{virtualService: {virtualServiceName: many.ml.local}}]
    backendDefaults:
      clientPolicy:
        tls:
          ports: [HTTP_PORT]
          certificate: {sds: {secretName: safe}}
          validation: {trust: {sds: {secretName: ml}}}
backendGroups:
- backendGroupName: all
  spec: {virtualServices: [many.ml.local, routed.ml.local, sockets.ml.local, gone.ml.local]}
virtualNodes:
- virtualNodeName: many
  spec:
    listeners:
    - portMapping: {port: HTTP_PORT, protocol: http}
      tls:
        mode: PERMISSIVE
        certificate: {sds: {secretName: many}}
        validation: {trust: {sds: {secretName: ml}}}
      timeout: {http: {perRequest: {unit: ms, value: 400}}}
    - portMapping: {port: GRPC_PORT, protocol: grpc}
    - portMapping: {port: TCP_PORT, protocol: tcp}
    serviceDiscovery: {dns: {hostname: localhost}}
    logging:
      accessLog:
        file:
          path: /dev/stdout
          format:
            json:
            - {key: code, value: "%RESPONSE_CODE%"}
            - {key: path, value: "%REQ(:PATH)%"}
- virtualNodeName: sockets
  spec:
    listeners: [{portMapping: {port: SOCKETS_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: gone
  spec:
    listeners:
    - portMapping: {port: GONE_PORT, protocol: http}
      healthCheck:
        {protocol: http, path: /ping, intervalMillis: 5000, timeoutMillis: 2000,
         healthyThreshold: 2, unhealthyThreshold: 2}
    serviceDiscovery: {dns: {hostname: localhost, responseType: ENDPOINTS}}
virtualRouters:
- virtualRouterName: routed
  spec:
    listeners:
    - {portMapping: {port: 80, protocol: http}}
    - {portMapping: {port: 9000, protocol: grpc}}
    - {portMapping: {port: 5432, protocol: tcp}}
  routes:
  - routeName: web
    spec:
      httpRoute:
        match: {prefix: /, port: 80}
        action: {weightedTargets: [{virtualNode: many, weight: 1, port: HTTP_PORT}]}
  - routeName: calls
    spec:
      grpcRoute:
        match: {port: 9000}
        action: {weightedTargets: [{virtualNode: many, weight: 1, port: GRPC_PORT}]}
  - routeName: bytes
    spec: {tcpRoute: {action: {weightedTargets: [{virtualNode: many, weight: 1, port: TCP_PORT}]}}}
virtualServices:
- virtualServiceName: many.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: many}}}
- virtualServiceName: routed.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: routed}}}
- virtualServiceName: sockets.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: sockets}}}
- virtualServiceName: gone.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: gone}}}
"""


def answer(request: Request) -> Reply:
    """Slow where the caller asks for it."""
    return Reply(wait_s=float(request.headers.get("x-wait", "0")))


def serve_socket(peer: socket.socket) -> None:
    """Upgrade to a protocol of bytes, and say them again."""
    with peer:
        request = peer.recv(65536)
        accepted = (
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        peer.sendall(accepted if b"upgrade: websocket" in request.lower() else b"")
        while data := peer.recv(65536):
            peer.sendall(data.upper())


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """The http part of the node ``many``."""
    with serving(answer) as made:
        yield made


@pytest.fixture(scope="module")
def calls() -> Iterator[GrpcProgram]:
    """The gRPC part of the node ``many``."""
    with serving_grpc("many") as made:
        yield made


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, program: Program, calls: GrpcProgram
) -> Iterator[Lab]:
    """A node with three programs' ports, one of sockets, and two clients."""
    folder = tmp_path_factory.mktemp("listeners")
    with serving_tcp(b"hello\n") as tcp, listening(serve_socket) as sockets:
        many = {"HTTP": program.port, "GRPC": calls.port, "TCP": tcp.port}
        with lab(folder, MESH, {"many": many, "sockets": sockets}) as made:
            yield made


# --- several listeners ------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["many", "routed"])
def test_each_port_leads_to_its_own_listener(world: Lab, service: str) -> None:
    """http, gRPC and plain TCP of one service, by its node's ports or by its router's."""
    job = world["job"]
    web, calls, tcp = (
        (world.ports["HTTP"], world.ports["GRPC"], world.ports["TCP"])
        if service == "many"
        else (80, 9000, 5432)
    )
    name = f"{service}.ml.local"
    assert world.call("job", f"http://{name}:{web}/web").body == b"ok"
    got = call_grpc(f"127.0.0.1:{job.grpc_port}", "/a.B/C", authority=f"{name}:{calls}")
    assert (got.status, got.text) == ("OK", "many /a.B/C")
    with socket.create_connection(("127.0.0.1", job.tcp_ports[f"{name}:{tcp}"]), 10) as peer:
        assert peer.recv(100) == b"hello\n"


def test_a_bare_name_means_the_port_of_http(world: Lab) -> None:
    """Of several ports 80 is meant where no other is named."""
    got = world.call("job", "http://routed.ml.local/bare")
    assert (got.body, world["job"].end_of(got.request_id).route) == (b"ok", "web")


def test_a_route_of_another_port_is_not_taken(world: Lab) -> None:
    """match.port: a gRPC call at the port of http finds no route of its own."""
    address = f"127.0.0.1:{world['job'].grpc_port}"
    call_grpc(address, "/a.B/C", authority="routed.ml.local:80", x_request_id="crossed")
    assert world["job"].end_of("crossed").route == "web"


# --- TLS for those who come with it -----------------------------------------------------------


def test_permissive_serves_plain_callers(world: Lab) -> None:
    """A caller without a policy comes in plain text and is served."""
    got = world.call("job", f"http://many.ml.local:{world.ports['HTTP']}/plain")
    end = world["job"].end_of(got.request_id)
    assert (got.code, end.upstream_peer) == (200, None)


def test_permissive_serves_callers_with_tls(world: Lab, program: Program) -> None:
    """A caller with a policy comes by mutual TLS, and the program learns who it is."""
    got = world.call("safe", f"http://many.ml.local:{world.ports['HTTP']}/safe")
    end = world["safe"].end_of(got.request_id)
    assert (got.code, end.upstream_peer) == (200, "spiffe://ml/many")
    (request,) = [it for it in program.requests if it.path == "/safe"]
    assert "URI=spiffe://ml/safe" in request.headers["x-forwarded-client-cert"]


def test_permissive_still_asks_those_with_tls_who_they_are(world: Lab) -> None:
    """Whoever comes with TLS must show a certificate where the listener validates."""
    files = supply_identity(
        world.folder / "trust", mesh_name="ml", name="safe", now=datetime.now(UTC)
    )
    context = ssl.create_default_context(cafile=str(files.authority))
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", world.ports["HTTP"]), 10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        first_of(context.wrap_socket(raw))


def first_of(peer: ssl.SSLSocket) -> bytes:
    """The first of an answer; under TLS 1.3 a client learns only here that it is refused."""
    with peer:
        peer.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        got = peer.recv(100)
        if not got:
            raise ConnectionError("it hung up")
        return got


# --- limits -----------------------------------------------------------------------------------


def test_a_listener_ends_a_call_that_takes_too_long(world: Lab) -> None:
    """perRequest of the listener cuts at the node, which says so to the caller."""
    got = world.call("job", f"http://many.ml.local:{world.ports['HTTP']}/slow", x_wait="2")
    end = world["job"].end_of(got.request_id)
    assert (got.code, end.origin, end.origin_flags) == (504, "many", "UT")


def test_an_upgrade_passes_both_sidecars(world: Lab) -> None:
    """A websocket is a connection of bytes once the program has agreed to it."""
    ask = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with socket.create_connection(("127.0.0.1", world.ports["SOCKETS"]), 10) as peer:
        peer.sendall(ask)
        assert b"101 Switching Protocols" in peer.recv(65536)
        peer.sendall(b"ping")
        assert peer.recv(100) == b"PING"


def test_the_declared_log_is_written_in_its_format(world: Lab) -> None:
    """JSON as the mesh file says, once for each call, beside our own."""
    got = world.call("job", f"http://many.ml.local:{world.ports['HTTP']}/logged")
    world["many"].end_of(got.request_id)
    lines = (world["many"].folder / "declared.log").read_text().splitlines()
    assert [it for it in lines if "/logged" in it] == ['{"code":200,"path":"/logged"}']


# --- health -----------------------------------------------------------------------------------


def test_what_fails_its_health_check_is_not_called(world: Lab) -> None:
    """Nobody answers at the node's port: calls end at once with UH, and no connection is tried."""
    got = world.call("job", "http://gone.ml.local/")
    end = world["job"].end_of(got.request_id)
    assert (got.code, end.flags, end.upstream_host) == (503, "UH", None)
    events = (world["job"].folder / "health-events.log").read_text()
    assert '"cluster_name":"egress/gone.ml.local/gone"' in events


def test_what_is_well_again_is_called_again(tmp_path: Path) -> None:
    """The first check that succeeds brings a new endpoint in; the path is the declared one."""
    with serving() as program:
        text = MESH.partition("clients:")[0] + HEALTHY
        with lab(tmp_path, text, ports={"NODE": program.port}) as made:
            assert made.call("job", "http://well.ml.local/").code == 200
        assert "/ping" in [it.path for it in program.requests]


HEALTHY = """
clients:
- clientName: job
  role: training
  spec: {backends: [{virtualService: {virtualServiceName: well.ml.local}}]}
virtualNodes:
- virtualNodeName: well
  spec:
    listeners:
    - portMapping: {port: NODE_PORT, protocol: http}
      healthCheck:
        {protocol: http, path: /ping, intervalMillis: 5000, timeoutMillis: 2000,
         healthyThreshold: 2, unhealthyThreshold: 2}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: well.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: well}}}
"""
