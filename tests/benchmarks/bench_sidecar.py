"""What the sidecar pair costs: the same client, the same service, with and without the mesh.

    pytest tests/benchmarks/bench_sidecar.py -m benchmark -s

A client's and a node's sidecar, with mTLS between them and full logs, as ``meshml run`` and
``meshml sidecar`` start them. Rounds alternate; what counts is the median of the rounds' ratios.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.free_ports import free_port
from tests.small_mesh import SmallMesh, end_group, envoys_below, make_mesh

pytestmark = [pytest.mark.benchmark, pytest.mark.envoy, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
HOST = "labels.small.local"
COUNTS = (400, 800, 1600)
ROUNDS = 7
FLUSH_S = 0.3
"""What Envoy still writes after the last answer belongs to the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One way in one round: median time, and CPU of client and Envoys, in us per request."""

    p50_us: float
    client_us: float
    client_envoy_us: float
    node_envoy_us: float

    @property
    def total_us(self) -> float:
        """CPU of all three."""
        return self.client_us + self.client_envoy_us + self.node_envoy_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A client that takes orders, and the Envoys on its way to the service."""

    process: "subprocess.Popen[str]"
    client_envoy: int
    node_envoy: int

    def measure(self, way: str, threads: int, count: int) -> Sample:
        """So many calls on one way."""
        client, node = cpu_us(self.client_envoy), cpu_us(self.node_envoy)
        answer = self.order(way, threads, count)
        time.sleep(FLUSH_S)
        assert answer["failed"] == 0
        return Sample(
            p50_us=statistics.median(answer["seconds"]) * 1e6,
            client_us=answer["cpu_s"] * 1e6 / count,
            client_envoy_us=(cpu_us(self.client_envoy) - client) / count,
            node_envoy_us=(cpu_us(self.node_envoy) - node) / count,
        )

    def order(self, way: str, threads: int, count: int) -> dict[str, Any]:
        """What the client answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{way} {threads} {count}\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


def cpu_us(pid: int) -> float:
    """CPU time of a process so far, in steps of the kernel's clock (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The pair at work, warm on both ways."""
    mesh = make_mesh(tmp_path_factory.mktemp("bench"))
    service = (sys.executable, str(HERE / "bench_service.py"))
    port = str(free_port())
    node = ("sidecar", "--node", "labels", "--app-port", port, "--", *service)
    with mesh.start(*node) as serving:
        assert serving.read_line() == "serving"
        (node_envoy,) = envoys_below(mesh.folder)
        with client(mesh, port) as process:
            made = Bench(process=process, client_envoy=0, node_envoy=node_envoy)
            for way in ("direct", "mesh"):
                made.order(way, 8, 400)
            (client_envoy,) = set(envoys_below(mesh.folder)) - {node_envoy}
            yield Bench(process=process, client_envoy=client_envoy, node_envoy=node_envoy)


@contextmanager
def client(mesh: SmallMesh, port: str) -> Iterator["subprocess.Popen[str]"]:
    """The measured program under ``meshml run``."""
    program = (sys.executable, str(HERE / "bench_client.py"), port, HOST)
    process = subprocess.Popen(
        [sys.executable, "-m", "meshml_dbx", "run", "--quiet", "--client", "job", "--", *program],
        cwd=mesh.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end_group(process)


@pytest.mark.parametrize("threads", [1, 8])
def test_the_pair_costs_what_it_says(bench: Bench, threads: int) -> None:
    """Nothing fails, and the cost of a request does not grow with their number."""
    found: dict[int, list[tuple[Sample, Sample]]] = {count: [] for count in COUNTS}
    for number in range(ROUNDS):
        for count, pairs in found.items():
            ways = ("direct", "mesh") if number % 2 == 0 else ("mesh", "direct")
            measured = {way: bench.measure(way, threads, count) for way in ways}
            pairs.append((measured["direct"], measured["mesh"]))
    sys.stdout.write(f"\n{report(threads, found)}\n")
    mean_us = {
        count: statistics.fmean(mesh.total_us for _, mesh in pairs)
        for count, pairs in found.items()
    }
    assert mean_us[COUNTS[-1]] < 1.5 * mean_us[COUNTS[0]]


def report(threads: int, found: dict[int, list[tuple[Sample, Sample]]]) -> str:
    """A line per number of requests; times in us, CPU in us per request."""
    lines = [
        f"sidecar pair against direct, 1 KB, keep-alive, {threads} thread(s), {ROUNDS} rounds",
        "requests   p50 direct    pair      x   CPU direct  client + envoy + envoy  =  pair      x",
    ]
    return "\n".join([*lines, *(report_line(count, pairs) for count, pairs in found.items())])


def report_line(count: int, pairs: Sequence[tuple[Sample, Sample]]) -> str:
    """Times are medians, CPU is the mean of the rounds, ratios are the median of the rounds'."""
    direct, mesh = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    p50 = [statistics.median(it.p50_us for it in side) for side in (direct, mesh)]
    slower = statistics.median(b.p50_us / a.p50_us for a, b in pairs)
    dearer = statistics.median(b.total_us / a.client_us for a, b in pairs)
    client, first, second = (
        statistics.fmean(values)
        for values in zip(
            *((it.client_us, it.client_envoy_us, it.node_envoy_us) for it in mesh), strict=True
        )
    )
    alone = statistics.fmean(it.client_us for it in direct)
    return (
        f"{count:8d} {p50[0]:12.0f} {p50[1]:7.0f} {slower:6.2f} {alone:12.0f} "
        f"{client:7.0f} {first:7.0f} {second:7.0f} {client + first + second:9.0f} {dearer:6.2f}"
    )
