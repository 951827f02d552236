"""How much of a node is used at a time, and which of its endpoints: pools, outliers, discovery.

Pools hold at the called node, towards its program; outliers are left out by each caller.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.subject import Reply, Request, Spoken, Subject, Transport, need
from tests.conformance.upstreams import OK, Upstream, ask, http2_program, http_program, send_in_turn
from tests.planes.envoy_servers import TcpProgram, serving_tcp

# --- pools ------------------------------------------------------------------------------------

POOLS: Mapping[str, tuple[Spoken, str]] = {
    "http": ("http", "{http: {maxConnections: 2, maxPendingRequests: 1}}"),
    "waiting": ("http", "{http: {maxConnections: 2}}"),
    "http2": ("http2", "{http2: {maxRequests: 2}}"),
    "grpc": ("grpc", "{grpc: {maxRequests: 2}}"),
    "tcp": ("tcp", "{tcp: {maxConnections: 2}}"),
}
AT_ONCE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """A client, the programs of http, http2 and gRPC by their nodes, and that of tcp."""

    job: Transport
    programs: Mapping[str, Upstream]
    tcp: TcpProgram


@pytest.fixture(scope="module")
def pools(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pools]:
    """A node for each kind of pool."""
    need(subject, "http", "http2", "grpc", "tcp")
    backends = [f"{{virtualService: {{virtualServiceName: {name}.ml.local}}}}" for name in POOLS]
    text = (
        "mesh: {meshName: ml}\nclients:\n- clientName: job\n  role: training\n"
        f"  spec: {{backends: [{', '.join(backends)}]}}\nvirtualNodes:"
    )
    for name, (protocol, pool) in POOLS.items():
        text += f"""
- virtualNodeName: {name}
  spec:
    listeners:
    - portMapping: {{port: {name.upper()}_PORT, protocol: {protocol}}}
      connectionPool: {pool}
    serviceDiscovery: {{dns: {{hostname: localhost}}}}"""
    text += "\nvirtualServices:"
    for name in POOLS:
        provider = f"{{provider: {{virtualNode: {{virtualNodeName: {name}}}}}}}"
        text += f"\n- {{virtualServiceName: {name}.ml.local, spec: {provider}}}"
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context((http_program if it == "http" else http2_program)(name))
            for name, (it, _) in POOLS.items()
            if it != "tcp"
        }
        tcp = stack.enter_context(serving_tcp(b"hello", stays_s=0.8))
        behind = {**{name: it.port for name, it in programs.items()}, "tcp": tcp.port}
        folder = tmp_path_factory.mktemp("pools")
        members = stack.enter_context(subject.at_work(folder, text, behind=behind))
        yield Pools(job=members["job"], programs=programs, tcp=tcp)


def call_at_once(pools: Pools, name: str) -> list[Reply]:
    """Several calls at a time, each of which takes a while."""
    protocol = POOLS[name][0]
    url = f"{protocol}://{name}.ml.local/ml.Scores/Get"
    asked = [ask(url, "wait 1.2", protocol=protocol) for _ in range(AT_ONCE)]
    return send_in_turn(pools.job, asked)


def test_http_pool(pools: Pools) -> None:
    """maxConnections at a time, maxPendingRequests waiting for them, the others 503 at once."""
    found = call_at_once(pools, "http")
    refused = [it for it in found if it.status != 200]
    assert sorted(it.status for it in found) == [200] * 3 + [503] * 3
    assert {it.flags for it in refused} == {"UO"}
    assert pools.programs["http"].most_at_once == 2
    assert max(it.elapsed_s for it in refused) < 0.6


def test_http_pool_without_a_limit_of_waiting(pools: Pools) -> None:
    """maxPendingRequests is 2147483647 where it is not given: all others wait."""
    found = call_at_once(pools, "waiting")
    assert [it.status for it in found] == [200] * AT_ONCE
    assert pools.programs["waiting"].most_at_once == 2


@pytest.mark.parametrize(("protocol", "ok"), [("http2", 200), ("grpc", 0)])
def test_request_pool(pools: Pools, protocol: str, ok: int) -> None:
    """maxRequests of http2 and gRPC: so many requests at a time, on whatever connections."""
    found = call_at_once(pools, protocol)
    unavailable = 503 if protocol == "http2" else 14
    assert sorted(it.status for it in found) == sorted([ok] * 2 + [unavailable] * 4)
    assert pools.programs[protocol].most_at_once == 2


def test_tcp_pool(pools: Pools) -> None:
    """maxConnections of tcp: the next connection is ended before it reaches the program."""
    asked = [Request(url="tcp://tcp.ml.local", protocol="tcp")] * 4
    found = pools.job.send_all(asked, at_once=4)
    assert sorted(it.body for it in found) == [b"", b"", b"hello", b"hello"]
    assert len(pools.tcp.met) == 2


# --- outliers ---------------------------------------------------------------------------------

FAILURES, EJECTED_S, INTERVAL_S = 3, 2.5, 0.2
NODES = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec: {backends: [{virtualService: {virtualServiceName: s.ml.local}}]}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners:
    - portMapping: {port: NODE_PORT, protocol: http}
      OUTLIERS
    serviceDiscovery: {dns: {hostname: n.test, responseType: RESPONSE}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
"""
OUTLIERS = f"""outlierDetection:
        maxServerErrors: {FAILURES}
        interval: {{unit: ms, value: {int(INTERVAL_S * 1000)}}}
        baseEjectionDuration: {{unit: ms, value: {int(EJECTED_S * 1000)}}}
        maxEjectionPercent: PERCENT"""


UNTIL_EJECTED = (FAILURES, FAILURES + 1)
"""How many calls an endpoint gets: the next may be on its way before its ejection is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A client, and the programs at the two addresses of one node."""

    job: Transport
    one: Upstream
    two: Upstream

    def counted(self, count: int) -> tuple[list[int], int, int]:
        """The statuses of so many calls, and how many reached either program."""
        before = len(self.one.seen), len(self.two.seen)
        asked = [ask("http://s.ml.local/x") for _ in range(count)]
        found = [it.status for it in self.job.send_all(asked)]
        return found, len(self.one.seen) - before[0], len(self.two.seen) - before[1]


@contextmanager
def pair(
    subject: Subject, folder: Path, *, percent: int | None = None, response: str = "ENDPOINTS"
) -> Iterator[Pair]:
    """A node of two endpoints, with outlier detection where a percentage is given."""
    need(subject, "http", "outliers")
    outliers = "" if percent is None else OUTLIERS.replace("PERCENT", str(percent))
    text = NODES.replace("OUTLIERS", outliers).replace("RESPONSE", response)
    with (
        http_program("one") as one,
        http_program("two", host="127.0.0.2", port=one.port) as two,
        subject.at_work(
            folder,
            text,
            at={"NODE": one.port},
            hosts={"n.test": ["127.0.0.1", "127.0.0.2"]},
        ) as members,
    ):
        yield Pair(job=members["job"], one=one, two=two)


def test_outlier_ejection_and_return(subject: Subject, tmp_path: Path) -> None:
    """After maxServerErrors 5xx in a row all calls go to the other; then it is called again."""
    with pair(subject, tmp_path / "mesh", percent=50) as made:
        made.one.usual = "500"
        found, one, two = made.counted(16)
        begun = time.monotonic()
        assert one in UNTIL_EJECTED
        assert (sorted(found), two) == ([200] * two + [500] * one, 16 - one)
        made.one.usual = OK
        assert made.counted(10) == ([200] * 10, 0, 10)
        assert time.monotonic() - begun < EJECTED_S
        time.sleep(begun + EJECTED_S + 3 * INTERVAL_S - time.monotonic())
        found, one, two = made.counted(10)
        assert (found, one, two) == ([200] * 10, 5, 5)


def test_outliers_fail_in_a_row(subject: Subject, tmp_path: Path) -> None:
    """A success in between begins the count anew, and 4xx are no server errors."""
    with pair(subject, tmp_path / "mesh", percent=100) as made:
        for step in ("500", "500", OK, "503", "503", "404", "429", "500", "500", OK):
            made.one.usual = step
            assert made.counted(2)[1:] == (1, 1), step


def test_one_outlier_may_always_be_ejected(subject: Subject, tmp_path: Path) -> None:
    """maxEjectionPercent: one endpoint goes even at 1 percent, and no other with it."""
    with pair(subject, tmp_path / "mesh", percent=1) as made:
        made.one.usual = made.two.usual = "500"
        found, one, two = made.counted(16)
        assert found == [500] * 16
        assert min(one, two) in UNTIL_EJECTED


def test_all_may_be_ejected(subject: Subject, tmp_path: Path) -> None:
    """maxEjectionPercent 100: when all endpoints have failed, calls end at once with 503."""
    with pair(subject, tmp_path / "mesh", percent=100) as made:
        made.one.usual = made.two.usual = "500"
        found, one, two = made.counted(10)
        assert found == [500] * (one + two) + [503] * (10 - one - two)
        assert {one, two} <= set(UNTIL_EJECTED)


# --- endpoints --------------------------------------------------------------------------------


def test_dns_endpoints(subject: Subject, tmp_path: Path) -> None:
    """responseType ENDPOINTS: each address of the host name is an endpoint of its own."""
    with pair(subject, tmp_path / "mesh") as made:
        assert made.counted(10) == ([200] * 10, 5, 5)


def test_dns_load_balancer(subject: Subject, tmp_path: Path) -> None:
    """responseType LOADBALANCER: the addresses are one endpoint, which cannot be half ejected."""
    with pair(subject, tmp_path / "mesh", response="LOADBALANCER") as made:
        found, one, two = made.counted(10)
        assert (found, sorted((one, two))) == ([200] * 10, [0, 10])
