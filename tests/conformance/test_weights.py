"""How the targets of a route share its calls: by their weights, whatever these add up to.

Counted at the programs, and held against the exact bounds of chance: a true share fails once in a
million runs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import pytest

from tests.conformance.binomial import bounds
from tests.conformance.subject import Request, Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http2_program, http_program
from tests.planes.envoy_servers import serving_tcp

ALARM = Fraction(1, 10**6)
CALLS = 1000
SPLITS: Mapping[str, Mapping[str, int]] = {
    "hundred": {"a": 70, "b": 30},
    "canary": {"a": 99, "b": 1},
    "small": {"a": 2, "b": 1},
    "three": {"a": 5, "b": 3, "c": 2},
    "some-zero": {"a": 0, "b": 1, "c": 3},
    "all-zero": {"a": 0, "b": 0},
}
NODE = """
- virtualNodeName: {name}
  spec:
    listeners: [{{portMapping: {{port: {port}_PORT, protocol: {protocol}}}}}]
    serviceDiscovery: {{dns: {{hostname: localhost}}}}"""
HEAD = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: s.ml.local}
    - virtualService: {virtualServiceName: g.ml.local}
    - virtualService: {virtualServiceName: t.ml.local}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: r}}}
- virtualServiceName: g.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: g}}}
- virtualServiceName: t.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: t}}}
virtualRouters:
- virtualRouterName: r
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes: [ROUTES]
- virtualRouterName: g
  spec: {listeners: [{portMapping: {port: 9000, protocol: grpc}}]}
  routes:
  - routeName: calls
    spec: {grpcRoute: {match: {serviceName: ml.Scores}, action: {weightedTargets: GRPC_TARGETS}}}
- virtualRouterName: t
  spec: {listeners: [{portMapping: {port: 5432, protocol: tcp}}]}
  routes:
  - routeName: bytes
    spec: {tcpRoute: {action: {weightedTargets: TCP_TARGETS}}}
virtualNodes:"""


def targets(split: Mapping[str, int]) -> str:
    """The weighted targets of a route."""
    return str([{"virtualNode": name, "weight": weight} for name, weight in split.items()])


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A client and the programs of its targets."""

    job: Transport
    programs: Mapping[str, Upstream]


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three targets of http, two of gRPC, two of bare connections."""
    need(subject, "http", "grpc", "tcp")
    routes = ", ".join(
        f"{{routeName: {name}, spec: {{httpRoute: {{match: {{prefix: /{name}}}, "
        f"action: {{weightedTargets: {targets(split)}}}}}}}}}"
        for name, split in SPLITS.items()
    )
    text = HEAD.replace("[ROUTES]", f"[{routes}]")
    text = text.replace("GRPC_TARGETS", targets({"ga": 3, "gb": 1}))
    text = text.replace("TCP_TARGETS", targets({"ta": 1, "tb": 4}))
    protocols = {"a": "http", "b": "http", "c": "http", "ga": "grpc", "gb": "grpc"}
    for name, protocol in {**protocols, "ta": "tcp", "tb": "tcp"}.items():
        text += NODE.format(name=name, port=name.upper(), protocol=protocol)
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context((http_program if it == "http" else http2_program)(name))
            for name, it in protocols.items()
        }
        at = {name.upper(): it.port for name, it in programs.items()}
        at |= {
            name.upper(): stack.enter_context(serving_tcp(name.encode())).port
            for name in ("ta", "tb")
        }
        folder = tmp_path_factory.mktemp("weights")
        members = stack.enter_context(subject.at_work(folder, text, at=at))
        yield World(job=members["job"], programs=programs)


def out_of_bounds(counted: Mapping[str, int], split: Mapping[str, int], calls: int) -> list[str]:
    """The targets that were called more or less often than chance allows."""
    allowed = {
        name: bounds(calls, Fraction(weight, sum(split.values())), ALARM / len(split))
        for name, weight in split.items()
    }
    found = {name: counted.get(name, 0) for name in split}
    return [
        f"{name} {count} of {calls}, expected {allowed[name]}"
        for name, count in found.items()
        if count not in allowed[name]
    ]


def test_bounds_are_exact() -> None:
    """No narrower range has the chance that is asked for: checked by adding up all chances."""
    calls, share = 40, Fraction(3, 10)
    kept = bounds(calls, share, ALARM)
    chances = [comb(calls, it) * share**it * (1 - share) ** (calls - it) for it in range(calls + 1)]
    assert sum(chances[: kept.start]) <= ALARM / 2 < sum(chances[: kept.start + 1])
    assert sum(chances[kept.stop :]) <= ALARM / 2 < sum(chances[kept.stop - 1 :])


@pytest.mark.parametrize("name", [name for name, split in SPLITS.items() if any(split.values())])
def test_weights_are_shares(world: World, name: str) -> None:
    """weight 0 to 100 is relative to the sum of all weights of the route; 0 gets no call."""
    asked: list[Request] = [ask(f"http://s.ml.local/{name}") for _ in range(CALLS)]
    replies = world.job.send_all(asked, at_once=4)
    counted = {
        target: sum(it.path == f"/{name}" for it in program.seen)
        for target, program in world.programs.items()
    }
    told = Counter(it.target for it in replies)
    assert {it.status for it in replies} == {200}
    assert out_of_bounds(counted, SPLITS[name], CALLS) == []
    assert told == Counter({target: count for target, count in counted.items() if count})


def test_a_route_whose_weights_are_all_zero(world: World) -> None:
    """Weights that sum to nothing: 503 at once, by that route, and no target is called."""
    asked = ask("http://s.ml.local/all-zero")
    reply = world.job.send(asked)
    assert (reply.status, reply.route, reply.target) == (503, "all-zero", None)
    assert [it.tries(asked) for it in world.programs.values()] == [0] * 5


def test_weights_of_grpc(world: World) -> None:
    """A grpcRoute shares its calls in the same way."""
    calls = 300
    asked = [ask("grpc://g.ml.local:9000/ml.Scores/Get", protocol="grpc") for _ in range(calls)]
    replies = world.job.send_all(asked, at_once=4)
    counted = {name: len(world.programs[name].seen) for name in ("ga", "gb")}
    assert {it.status for it in replies} == {0}
    assert sum(counted.values()) == calls
    assert out_of_bounds(counted, {"ga": 3, "gb": 1}, calls) == []


def test_weights_of_connections(world: World) -> None:
    """A tcpRoute shares its connections."""
    calls = 300
    asked = [Request(url="tcp://t.ml.local:5432", protocol="tcp") for _ in range(calls)]
    counted = Counter(it.body.decode() for it in world.job.send_all(asked, at_once=4))
    assert counted.total() == counted["ta"] + counted["tb"] == calls
    assert out_of_bounds(counted, {"ta": 1, "tb": 4}, calls) == []
