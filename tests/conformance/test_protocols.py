"""What is spoken: http2 and gRPC from end to end, http/1.1 to a node of http2, bare connections.

Each protocol through two sidecars with mutual TLS between them, as far as the subject has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conformance.subject import Request, Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http2_program, http_program
from tests.planes.envoy_servers import TcpProgram, serving_tcp

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: web.ml.local}
    - virtualService: {virtualServiceName: streams.ml.local}
    - virtualService: {virtualServiceName: calls.ml.local}
    - virtualService: {virtualServiceName: bytes.ml.local}
    - virtualService: {virtualServiceName: many.ml.local}
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: job}}
          validation: {trust: {sds: {secretName: ml}}}
virtualNodes:
- virtualNodeName: web
  spec:
    listeners:
    - portMapping: {port: WEB_PORT, protocol: http}
      tls: &tls
        mode: STRICT
        certificate: {sds: {secretName: node}}
        validation: {trust: {sds: {secretName: ml}}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: streams
  spec:
    listeners: [{portMapping: {port: STREAMS_PORT, protocol: http2}, tls: *tls}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: calls
  spec:
    listeners: [{portMapping: {port: CALLS_PORT, protocol: grpc}, tls: *tls}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: bytes
  spec:
    listeners: [{portMapping: {port: BYTES_PORT, protocol: tcp}, tls: *tls}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: many
  spec:
    listeners:
    - {portMapping: {port: MANYA_PORT, protocol: http}, tls: *tls}
    - {portMapping: {port: MANYB_PORT, protocol: grpc}, tls: *tls}
    - {portMapping: {port: MANYC_PORT, protocol: tcp}, tls: *tls}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: bytes
  spec:
    listeners:
    - {portMapping: {port: 5432, protocol: tcp}}
    - {portMapping: {port: 6432, protocol: tcp}}
  routes:
  - routeName: by-port
    spec:
      tcpRoute:
        match: {port: 6432}
        action: {weightedTargets: [{virtualNode: many, port: MANYC_PORT, weight: 1}]}
  - routeName: any-port
    spec: {tcpRoute: {action: {weightedTargets: [{virtualNode: bytes, weight: 1}]}}}
- virtualRouterName: many
  spec:
    listeners:
    - {portMapping: {port: 80, protocol: http}}
    - {portMapping: {port: 9000, protocol: grpc}}
    - {portMapping: {port: 5432, protocol: tcp}}
  routes:
  - routeName: many-web
    spec:
      httpRoute:
        match: {prefix: /, port: 80}
        action: {weightedTargets: [{virtualNode: many, port: MANYA_PORT, weight: 1}]}
  - routeName: many-calls
    spec:
      grpcRoute:
        match: {port: 9000}
        action: {weightedTargets: [{virtualNode: many, port: MANYB_PORT, weight: 1}]}
  - routeName: many-bytes
    spec:
      tcpRoute:
        action: {weightedTargets: [{virtualNode: many, port: MANYC_PORT, weight: 1}]}
virtualServices:
- virtualServiceName: web.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: web}}}
- virtualServiceName: streams.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: streams}}}
- virtualServiceName: calls.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: calls}}}
- virtualServiceName: bytes.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: bytes}}}
- virtualServiceName: many.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: many}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A client and the programs of its services."""

    job: Transport
    web: Upstream
    streams: Upstream
    calls: Upstream
    bytes: TcpProgram


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A node of each protocol, and one of three."""
    need(subject, "http", "http2", "grpc", "tcp", "tls")
    with (
        http_program("web") as web,
        http2_program("streams") as streams,
        http2_program("calls") as calls,
        serving_tcp(b"bytes ") as tcp,
        serving_tcp(b"many ") as many,
    ):
        behind = {"web": web.port, "streams": streams.port, "calls": calls.port, "bytes": tcp.port}
        three = {"MANYA": web.port, "MANYB": calls.port, "MANYC": many.port}
        with subject.at_work(
            tmp_path_factory.mktemp("protocols"), MESH, behind={**behind, "many": three}
        ) as members:
            yield World(job=members["job"], web=web, streams=streams, calls=calls, bytes=tcp)


def tcp(address: str, said: bytes = b"") -> Request:
    """A connection on which something is said."""
    return Request(url=f"tcp://{address}", protocol="tcp", body=said)


# --- requests ---------------------------------------------------------------------------------


def test_http(world: World) -> None:
    """http: a request with its body there, an answer back; the caller is known by its name."""
    asked = ask("http://web.ml.local/a?b=c", method="POST", body=b"x" * 100_000)
    reply = world.job.send(asked)
    (seen,) = world.web.seen_of(asked)
    assert (reply.status, reply.body, reply.target) == (200, b"web /a?b=c", "web")
    assert (seen.method, seen.path, len(seen.body)) == ("POST", "/a?b=c", 100_000)
    assert "URI=spiffe://ml/job" in seen.headers["x-forwarded-client-cert"]


def test_http2(world: World) -> None:
    """http2: from the caller to the program."""
    asked = ask("http2://streams.ml.local/a?b=c", protocol="http2")
    reply = world.job.send(asked)
    assert (reply.status, reply.body, reply.target) == (200, b"streams /a?b=c", "streams")
    assert world.streams.tries(asked) == 1


def test_http_to_http2(world: World) -> None:
    """A caller of http/1.1 is served by a node of http2, in the protocol of its listener."""
    asked = ask("http://streams.ml.local/x")
    assert world.job.send(asked).body == b"streams /x"
    (seen,) = world.streams.seen_of(asked)
    assert seen.headers[":path"] == "/x"


def test_many_streams_at_once(world: World) -> None:
    """http2 requests do not wait for one another."""
    asked = [ask("http2://streams.ml.local/x", "wait 0.8", protocol="http2") for _ in range(8)]
    replies = world.job.send_all(asked, at_once=8)
    assert [it.status for it in replies] == [200] * 8
    assert world.streams.most_at_once == 8


def test_grpc(world: World) -> None:
    """grpc: the program's message, or its own status."""
    url = "grpc://calls.ml.local/ml.Scores/Get"
    good, bad = world.job.send_all([ask(url, protocol="grpc"), ask(url, "grpc 7", protocol="grpc")])
    permission_denied = 7
    assert (good.status, good.body, good.target) == (0, b"calls /ml.Scores/Get", "calls")
    assert (bad.status, bad.attempts) == (permission_denied, 1)


# --- connections ------------------------------------------------------------------------------


def test_tcp(world: World) -> None:
    """tcp: bytes both ways, and either end may say the last."""
    said = bytes(range(256)) * 2000
    reply = world.job.send(tcp("bytes.ml.local:5432", said))
    assert (reply.body, reply.target) == (b"bytes " + said, "bytes")


def test_tcp_server_first(world: World) -> None:
    """A server may speak first, as those of databases do, also behind TLS."""
    assert world.job.send(tcp("bytes.ml.local:5432")).body == b"bytes "


def test_tcp_port(world: World) -> None:
    """match.port of a tcpRoute: a port of the router, to which the caller connected."""
    replies = world.job.send_all([tcp("bytes.ml.local:6432"), tcp("bytes.ml.local:5432")])
    assert [it.body for it in replies] == [b"many ", b"bytes "]


# --- several listeners ------------------------------------------------------------------------


def test_a_node_of_several_listeners(world: World) -> None:
    """With more than one listener the target's port says which is meant."""
    web, call, connection = world.job.send_all(
        [
            ask("http://many.ml.local/x"),
            ask("grpc://many.ml.local:9000/ml.Scores/Get", protocol="grpc"),
            tcp("many.ml.local:5432"),
        ]
    )
    assert (web.body, web.route) == (b"web /x", "many-web")
    assert (call.body, call.route) == (b"calls /ml.Scores/Get", "many-calls")
    assert (connection.body, connection.target) == (b"many ", "many")
