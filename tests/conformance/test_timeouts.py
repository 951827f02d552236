"""How long a call, a try, and silence may last, on the caller's side and on the called node's.

The programs are slow as each call asks of them; what is measured is when the caller has its answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conformance.subject import Reply, Request, Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http2_program, http_program
from tests.planes.envoy_servers import serving_tcp

CLOSES_WITHIN_S = 1.0
"""How long a proxy keeps a connection on which it gave up an answer that had begun."""

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: s.ml.local}
    - virtualService: {virtualServiceName: g.ml.local}
    - virtualService: {virtualServiceName: t.ml.local}
    - virtualService: {virtualServiceName: direct.ml.local}
    - virtualService: {virtualServiceName: held.ml.local}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners: [{portMapping: {port: PLAIN_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: usual
  spec:
    listeners: [{portMapping: {port: USUAL_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: strict
  spec:
    listeners:
    - portMapping: {port: STRICT_PORT, protocol: http}
      timeout: {http: {perRequest: {unit: ms, value: 400}}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: silent
  spec:
    listeners:
    - portMapping: {port: SILENT_PORT, protocol: http}
      timeout: {http: {idle: {unit: ms, value: 400}}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: patient
  spec:
    listeners:
    - portMapping: {port: PATIENT_PORT, protocol: http}
      timeout: {http: {perRequest: {unit: s, value: 0}}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: g
  spec:
    listeners: [{portMapping: {port: GRPC_PORT, protocol: grpc}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: t
  spec:
    listeners: [{portMapping: {port: TCP_PORT, protocol: tcp}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: held
  spec:
    listeners:
    - portMapping: {port: HELD_PORT, protocol: tcp}
      timeout: {tcp: {idle: {unit: ms, value: 500}}}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: r}}}
- virtualServiceName: g.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: g}}}
- virtualServiceName: t.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: t}}}
- virtualServiceName: direct.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
- virtualServiceName: held.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: held}}}
virtualRouters:
- virtualRouterName: r
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: hurried
    spec:
      httpRoute:
        match: {prefix: /hurried}
        action: {weightedTargets: [{virtualNode: n, weight: 1}]}
        timeout: {perRequest: {unit: ms, value: 400}}
        retryPolicy: &often
          {maxRetries: 9, perRetryTimeout: {unit: s, value: 5}, httpRetryEvents: [server-error]}
  - routeName: each-try
    spec:
      httpRoute:
        match: {prefix: /each-try}
        action: {weightedTargets: [{virtualNode: n, weight: 1}]}
        timeout: {perRequest: {unit: s, value: 5}}
        retryPolicy:
          maxRetries: 3
          perRetryTimeout: {unit: ms, value: 300}
          httpRetryEvents: [server-error]
  - routeName: silence
    spec:
      httpRoute:
        match: {prefix: /silence}
        action: {weightedTargets: [{virtualNode: n, weight: 1}]}
        timeout: {idle: {unit: ms, value: 400}, perRequest: {unit: s, value: 5}}
  - routeName: of-listener
    spec:
      httpRoute:
        match: {prefix: /of-listener}
        action: {weightedTargets: [{virtualNode: strict, weight: 1}]}
  - routeName: silence-of-listener
    spec:
      httpRoute:
        match: {prefix: /listener-silence}
        action: {weightedTargets: [{virtualNode: silent, weight: 1}]}
  - routeName: unlimited
    spec:
      httpRoute:
        match: {prefix: /unlimited}
        action: {weightedTargets: [{virtualNode: patient, weight: 1}]}
        timeout: &none {perRequest: {unit: s, value: 0}}
  - routeName: half-unlimited
    spec:
      httpRoute:
        match: {prefix: /half-unlimited}
        action: {weightedTargets: [{virtualNode: usual, weight: 1}]}
        timeout: *none
  - routeName: by-default
    spec:
      httpRoute:
        match: {prefix: /by-default}
        action: {weightedTargets: [{virtualNode: n, weight: 1}]}
- virtualRouterName: g
  spec: {listeners: [{portMapping: {port: 9000, protocol: grpc}}]}
  routes:
  - routeName: grpc-hurried
    spec:
      grpcRoute:
        match: {serviceName: ml.Hurried}
        action: {weightedTargets: [{virtualNode: g, weight: 1}]}
        timeout: {perRequest: {unit: ms, value: 400}}
  - routeName: grpc-silence
    spec:
      grpcRoute:
        match: {serviceName: ml.Silence}
        action: {weightedTargets: [{virtualNode: g, weight: 1}]}
        timeout: {idle: {unit: ms, value: 400}, perRequest: {unit: s, value: 5}}
  - routeName: grpc-usual
    spec:
      grpcRoute:
        match: {serviceName: ml.Usual}
        action: {weightedTargets: [{virtualNode: g, weight: 1}]}
- virtualRouterName: t
  spec: {listeners: [{portMapping: {port: 5432, protocol: tcp}}]}
  routes:
  - routeName: bytes
    spec:
      tcpRoute:
        action: {weightedTargets: [{virtualNode: t, weight: 1}]}
        timeout: {idle: {unit: ms, value: 500}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A client and the programs that it calls."""

    job: Transport
    http: Upstream
    grpc: Upstream


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One program of http stands alone and behind the sidecars of three nodes."""
    need(subject, "http", "grpc", "tcp")
    nodes = ("usual", "strict", "silent", "patient")
    with (
        http_program("n") as plain,
        http2_program("g") as grpc,
        serving_tcp(b"hello", stays_s=3.0) as tcp,
        subject.at_work(
            tmp_path_factory.mktemp("timeouts"),
            MESH,
            behind={**dict.fromkeys(nodes, plain.port), "held": tcp.port},
            at={"PLAIN": plain.port, "GRPC": grpc.port, "TCP": tcp.port},
        ) as members,
    ):
        yield World(job=members["job"], http=plain, grpc=grpc)


def get(path: str, *plan: str) -> Request:
    """A request of http."""
    return ask(f"http://s.ml.local{path}", *plan)


def took(reply: Reply, least_s: float, most_s: float) -> bool:
    """Whether a call took so long, with room for a busy machine."""
    return least_s - 0.05 <= reply.elapsed_s <= most_s


# --- requests ---------------------------------------------------------------------------------


def test_request_timeout(world: World) -> None:
    """A route's timeout.perRequest: a call that takes longer is answered by 504."""
    slow, quick = world.job.send_all([get("/hurried", "wait 1.5"), get("/hurried", "wait 0.05")])
    assert (slow.status, slow.flags, took(slow, 0.4, 1.2)) == (504, "UT", True)
    assert quick.status == 200


def test_request_timeout_holds_all_tries(world: World) -> None:
    """perRequest is of the whole call: tries after it are cut off."""
    asked = get("/hurried", "503", "503", "wait 1.5")
    reply = world.job.send(asked)
    assert (reply.status, took(reply, 0.4, 1.2), world.http.tries(asked)) == (504, True, 3)


def test_per_try_timeout(world: World) -> None:
    """perRetryTimeout: a try that takes longer ends, and is no server error to be tried again."""
    asked = get("/each-try", "wait 1.5")
    reply = world.job.send(asked)
    assert (reply.status, reply.flags, took(reply, 0.3, 1.1)) == (504, "UT", True)
    assert world.http.tries(asked) == 1


def test_per_try_timeout_is_of_each_try(world: World) -> None:
    """Each try has the whole of it: a call may last longer than one try."""
    asked = get("/each-try", "503", "503", "wait 0.2")
    assert (world.job.send(asked).status, world.http.tries(asked)) == (200, 3)


def test_listener_request_timeout(world: World) -> None:
    """A listener's timeout.perRequest ends a call at the called node, also within its answer."""
    asked = [get("/of-listener", it) for it in ("wait 1.5", "drip 0.25")]
    before, within = world.job.send_all(asked, at_once=2)
    assert (before.status, before.flags, took(before, 0.4, 1.2)) == (504, "UT", True)
    assert within.body == world.http.text("/of-listener") * 2


def test_defaults_of_fifteen_seconds(world: World) -> None:
    """perRequest is 15 s on each side where nothing is declared, and 0 lifts it."""
    paths = ("/by-default", "/half-unlimited", "/unlimited")
    asked = [get(path, "wait 16") for path in paths]
    asked.append(ask("http://direct.ml.local/x", "wait 16"))
    asked.append(ask("grpc://g.ml.local:9000/ml.Usual/Get", "wait 16", protocol="grpc"))
    *found, call = world.job.send_all(asked, at_once=5)
    assert [it.status for it in found] == [504, 504, 200, 504]
    assert [took(it, 15, 15.9) for it in found] == [True, True, False, True]
    assert (call.status != 0, took(call, 15, 15.9)) == (True, True)


# --- silence ----------------------------------------------------------------------------------


def test_idle_timeout(world: World) -> None:
    """A route's timeout.idle: so long may nothing be said, before the answer and within it."""
    asked = [get("/silence", it) for it in ("wait 1.5", "drip 0.8", "drip 0.2")]
    before, within, talking = world.job.send_all(asked, at_once=3)
    text = world.http.text("/silence")
    assert (before.status, before.flags, took(before, 0.4, 1.2)) == (504, "SI", True)
    assert (within.body, took(within, 0.4, 1.2 + CLOSES_WITHIN_S)) == (text, True)
    assert (talking.status, talking.body, took(talking, 0.8, 2)) == (200, text * 5, True)


def test_listener_idle_timeout(world: World) -> None:
    """A listener's timeout.idle: silence of its program ends the call at the called node."""
    asked = [get("/listener-silence", it) for it in ("wait 1.5", "drip 0.2")]
    quiet, talking = world.job.send_all(asked, at_once=2)
    assert (quiet.status, quiet.flags, took(quiet, 0.4, 1.2)) == (504, "SI", True)
    assert (talking.status, took(talking, 0.8, 2)) == (200, True)


# --- gRPC -------------------------------------------------------------------------------------


def rpc(service: str, *plan: str, within_s: float = 10) -> Request:
    """A call of gRPC."""
    url = f"grpc://g.ml.local:9000/ml.{service}/Get"
    return ask(url, *plan, protocol="grpc", within_s=within_s)


def test_grpc_request_timeout(world: World) -> None:
    """A grpcRoute's timeout.perRequest: the caller gets a status that is not OK."""
    slow, quick = world.job.send_all([rpc("Hurried", "wait 1.5"), rpc("Hurried", "wait 0.05")])
    unavailable, deadline_exceeded = 14, 4
    assert slow.status in {unavailable, deadline_exceeded}
    assert (took(slow, 0.4, 1.2), quick.status) == (True, 0)


def test_grpc_idle_timeout(world: World) -> None:
    """A grpcRoute's timeout.idle."""
    reply = world.job.send(rpc("Silence", "wait 1.5"))
    assert (reply.status != 0, took(reply, 0.4, 1.2)) == (True, True)


def test_grpc_deadline(world: World) -> None:
    """A call's own deadline counts where it is shorter than the route's limit."""
    reply = world.job.send(rpc("Usual", "wait 1.5", within_s=0.4))
    deadline_exceeded = 4
    assert (reply.status, took(reply, 0.4, 1.2)) == (deadline_exceeded, True)


# --- connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["route", "listener"])
def test_tcp_idle_timeout(world: World, of: str) -> None:
    """timeout.idle of a tcpRoute, or of a node's listener: a silent connection is ended."""
    address = "t.ml.local:5432" if of == "route" else "held.ml.local"
    reply = world.job.send(Request(url=f"tcp://{address}", protocol="tcp", within_s=5))
    assert (reply.body, took(reply, 0.5, 1.3)) == (b"hello", True)
