"""Plain TCP through real sidecars: a local port for each service, weights, idle time, pools."""

import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from meshml_dbx.traffic.access_log import connection_of
from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_servers import TcpProgram, serving_tcp

pytestmark = pytest.mark.envoy

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: db.ml.local}
    - virtualService: {virtualServiceName: direct.ml.local}
    - virtualService: {virtualServiceName: closed.ml.local}
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: job}}
          validation: {trust: {sds: {secretName: ml}}}
- clientName: plain
  role: training
  spec: {backends: [{virtualService: {virtualServiceName: lenient.ml.local}}]}
- clientName: stranger
  role: training
  spec:
    backends: [{virtualService: {virtualServiceName: direct.ml.local}}]
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: stranger}}
          validation: {trust: {sds: {secretName: ml}}}
virtualNodes:
- virtualNodeName: one
  spec:
    listeners:
    - portMapping: {port: ONE_PORT, protocol: tcp}
      healthCheck:
        {protocol: tcp, intervalMillis: 5000, timeoutMillis: 2000,
         healthyThreshold: 2, unhealthyThreshold: 2}
      timeout: {tcp: {idle: {unit: s, value: 1}}}
      connectionPool: {tcp: {maxConnections: 3}}
      tls: &tls
        mode: STRICT
        certificate: {sds: {secretName: one}}
        validation:
          trust: {sds: {secretName: ml}}
          subjectAlternativeNames: {match: {exact: ["spiffe://ml/job"]}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: two
  spec:
    listeners: [{portMapping: {port: TWO_PORT, protocol: tcp}, tls: *tls}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: lenient
  spec:
    listeners:
    - portMapping: {port: LENIENT_PORT, protocol: tcp}
      tls: {mode: PERMISSIVE, certificate: {sds: {secretName: lenient}}}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: db
  spec:
    listeners:
    - {portMapping: {port: 5432, protocol: tcp}}
    - {portMapping: {port: 6432, protocol: tcp}}
  routes:
  - routeName: pooled
    spec:
      tcpRoute:
        match: {port: 6432}
        action: {weightedTargets: [{virtualNode: two, weight: 1}]}
        timeout: {idle: {unit: ms, value: 500}}
  - routeName: spread
    spec:
      priority: 7
      tcpRoute:
        match: {port: 5432}
        action:
          weightedTargets:
          - {virtualNode: one, weight: 0}
          - {virtualNode: two, weight: 8}
          - {virtualNode: one, port: ONE_PORT, weight: 2}
- virtualRouterName: closed
  spec: {listeners: [{portMapping: {port: 5432, protocol: tcp}}]}
  routes:
  - routeName: nobody
    spec: {tcpRoute: {action: {weightedTargets: [{virtualNode: one, weight: 0}]}}}
virtualServices:
- virtualServiceName: db.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: db}}}
- virtualServiceName: lenient.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: lenient}}}
- virtualServiceName: closed.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: closed}}}
- virtualServiceName: direct.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: one}}}
"""


@pytest.fixture(scope="module")
def one() -> Iterator[TcpProgram]:
    """A database that speaks first."""
    with serving_tcp(b"one\n") as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, one: TcpProgram) -> Iterator[Lab]:
    """Three clients and three databases."""
    with (
        serving_tcp(b"two\n") as two,
        serving_tcp(b"lenient\n") as lenient,
        lab(
            tmp_path_factory.mktemp("tcp"),
            MESH,
            {"one": one.port, "two": two.port, "lenient": lenient.port},
        ) as made,
    ):
        yield made


def connect(world: Lab, address: str, member: str = "job") -> socket.socket:
    """A connection to a service's local port."""
    port = world[member].tcp_ports[address]
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def greeting(world: Lab, address: str, member: str = "job") -> bytes:
    """The first that a service says; nothing if it hangs up."""
    with connect(world, address, member) as peer:
        try:
            return peer.recv(100)
        except ConnectionResetError:
            return b""


def direct(world: Lab) -> str:
    """The address of the service that a node provides by itself."""
    return f"direct.ml.local:{world.ports['ONE']}"


# --- ways -------------------------------------------------------------------------------------


def test_each_service_has_a_local_port_for_each_of_its_ports(world: Lab) -> None:
    """A connection carries no name, so the port says which service is meant."""
    expected = {"db.ml.local:5432", "db.ml.local:6432", "closed.ml.local:5432", direct(world)}
    assert set(world["job"].tcp_ports) == expected


def test_bytes_go_both_ways_under_mutual_tls(world: Lab, one: TcpProgram) -> None:
    """The server may speak first, and what the program says arrives as it was said."""
    with connect(world, direct(world)) as peer:
        assert peer.recv(100) == b"one\n"
        peer.sendall(b"select 1")
        assert peer.recv(100) == b"select 1"
    assert b"select 1" in one.heard


def test_a_connection_is_recorded_where_it_led(world: Lab) -> None:
    """Service, node, host and bytes, as observer egress; it is no call."""
    with connect(world, direct(world)) as peer:
        peer.recv(100)
        own = "{}:{}".format(*peer.getsockname())
    (line,) = world["job"].wait_for(_record="connection", downstream_address=own)
    seen = connection_of(line)
    told = (seen.observer, seen.client, seen.virtual_service, seen.target, seen.upstream_host)
    host = f"127.0.0.1:{world.ports['ONE']}"
    assert told == ("egress", "job", "direct.ml.local", "one", host)
    assert (seen.bytes_out, seen.flags, line["_type"]) == (4, None, "TcpConnectionEnd")
    assert [it for it in world["job"].lines() if it["_record"] == "call"] == []


def test_weights_share_the_connections(world: Lab) -> None:
    """Eight of ten go to the target of weight 8, none by a target of weight 0."""
    got = Counter(greeting(world, "db.ml.local:5432") for _ in range(100))
    assert set(got) == {b"one\n", b"two\n"}
    assert 60 < got[b"two\n"] < 95


def test_a_route_may_ask_for_a_port(world: Lab) -> None:
    """match.port: the other port of the router has a route of its own."""
    assert {greeting(world, "db.ml.local:6432") for _ in range(10)} == {b"two\n"}


def test_a_service_that_leads_to_nobody_hangs_up(world: Lab) -> None:
    """All weights are zero: the connection ends at once, and its record says why."""
    assert greeting(world, "closed.ml.local:5432") == b""
    (line, *_) = world["job"].wait_for(_record="connection", virtual_service="closed.ml.local")
    assert connection_of(line).flags == "UH"


def test_a_server_may_speak_first_where_tls_is_no_must(world: Lab) -> None:
    """PERMISSIVE waits a second for a hello of TLS, then takes the caller for a plain one."""
    address = f"lenient.ml.local:{world.ports['LENIENT']}"
    begun = time.monotonic()
    assert greeting(world, address, "plain") == b"lenient\n"
    assert time.monotonic() - begun < 3


# --- policies ---------------------------------------------------------------------------------


def test_a_stranger_is_refused(world: Lab, one: TcpProgram) -> None:
    """An identity that the node's list leaves out gets nothing, not even a call of the program."""
    before = len(one.met)
    assert greeting(world, direct(world), "stranger") == b""
    assert len(one.met) == before
    found = [it for it in world["one"].lines() if "SAN_matcher" in str(it.get("failure"))]
    assert [it["observer"] for it in found] == ["ingress"] * len(found) != []


def test_a_silent_connection_is_ended(world: Lab) -> None:
    """The route's idle time holds at the caller, the listener's at the node."""
    for address, least, most in (("db.ml.local:6432", 0.4, 1.0), (direct(world), 0.9, 1.8)):
        with connect(world, address) as peer:
            peer.recv(100)
            begun = time.monotonic()
            assert peer.recv(100) == b""
            assert least < time.monotonic() - begun < most


def test_a_pool_turns_away_what_exceeds_it(world: Lab) -> None:
    """Three connections at a time reach the program, and the fourth is ended."""
    peers = [connect(world, direct(world)) for _ in range(5)]
    try:
        got = sorted(peer.recv(100) for peer in peers)
    finally:
        for peer in peers:
            peer.close()
    assert got == [b"", b"", b"one\n", b"one\n", b"one\n"]
    cluster = f"cluster.ingress/one/{world.ports['ONE']}"
    assert world["one"].stat(f"{cluster}.upstream_cx_overflow") >= 1


def test_health_is_a_connection_that_opens(world: Lab) -> None:
    """A tcp health check succeeds over the caller's own TLS."""
    assert world["job"].stat("cluster.egress/db.ml.local/one/tcp.health_check.success") >= 1
