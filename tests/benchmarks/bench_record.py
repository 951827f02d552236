"""What recording costs each library: the same calls, recorded and not, from one process.

    pytest tests/benchmarks/bench_record.py -m benchmark -s

GET of 1 KB on a connection that is kept, against a server in another process. Rounds alternate;
what counts is the quickest round of either, as others on the machine only add. CPU is the whole
process's, so the writer's thread and what it still writes after the last call are in it.
"""

import asyncio
import gc
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshml_dbx.recorder import RecorderPlan, Recording, start_recording
from tests.free_ports import free_port

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
ROUNDS, CALLS = 25, 600
MOST_US = 50.0
THREADS, SHARE = 8, 2_000
MANY = 1_000_000
MOST_GROWTH = 1.15
"""How much larger the process may be after the last fifth of a million calls than before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One round: CPU of the process and median duration, in us per call."""

    cpu_us: float
    p50_us: float


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    """The small service of the other benchmarks, in a process of its own."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(HERE / "bench_service.py")],
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "serving\n"
        yield "127.0.0.1", port
        process.terminate()


def by_http_client(host: str, port: int) -> Callable[[], None]:
    """One call of http.client."""
    connection = http.client.HTTPConnection(host, port)

    def call() -> None:
        connection.request("GET", "/")
        assert len(connection.getresponse().read()) == 1024

    return call


def by_urllib3(host: str, port: int) -> Callable[[], None]:
    """One call of urllib3."""
    urllib3 = pytest.importorskip("urllib3")
    pool = urllib3.PoolManager()

    def call() -> None:
        assert len(pool.request("GET", f"http://{host}:{port}/").data) == 1024

    return call


def by_requests(host: str, port: int) -> Callable[[], None]:
    """One call of requests."""
    session = pytest.importorskip("requests").Session()
    session.trust_env = False

    def call() -> None:
        assert len(session.get(f"http://{host}:{port}/").content) == 1024

    return call


def by_httpx(host: str, port: int) -> Callable[[], None]:
    """One call of httpx."""
    client = pytest.importorskip("httpx").Client(trust_env=False)

    def call() -> None:
        assert len(client.get(f"http://{host}:{port}/").content) == 1024

    return call


def by_aiohttp(host: str, port: int) -> Callable[[], None]:
    """One call of aiohttp, in a loop that stays."""
    aiohttp = pytest.importorskip("aiohttp")
    loop = asyncio.new_event_loop()

    async def make() -> Any:
        return aiohttp.ClientSession()

    session = loop.run_until_complete(make())

    async def get() -> None:
        async with session.get(f"http://{host}:{port}/") as answer:
            assert len(await answer.read()) == 1024

    return lambda: loop.run_until_complete(get())


LIBRARIES = {
    "http.client": by_http_client,
    "urllib3": by_urllib3,
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
}


def plan_in(folder: Path) -> RecorderPlan:
    """A recording in a folder of its own."""
    return RecorderPlan(
        logs=folder / "logs", run=folder / "run", client="bench", process_id="bench"
    )


def measure(call: Callable[[], None], count: int, recording: Recording | None) -> Cost:
    """So many calls, one after the other, all lines written at the end."""
    taken = []
    gc.collect()
    cpu = time.process_time()
    for _ in range(count):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    if recording is not None:
        recording.flush()
    cpu = time.process_time() - cpu
    return Cost(cpu_us=cpu / count * 1e6, p50_us=statistics.median(taken) * 1e6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_recorded_call_costs_little(
    server: tuple[str, int], tmp_path: Path, library: str
) -> None:
    """At most 50 us of CPU more for each call, the writer's included."""
    call = LIBRARIES[library](*server)
    for _ in range(200):
        call()
    pairs = []
    for number in range(ROUNDS):
        bare = measure(call, CALLS, None)
        with start_recording(plan_in(tmp_path / str(number))) as recording:
            call()
            pairs.append((bare, measure(call, CALLS, recording)))
    floor, recorded = (min(one.cpu_us for one in side) for side in zip(*pairs, strict=True))
    added, ratio = recorded - floor, recorded / floor
    slower = min(told.p50_us for _, told in pairs) - min(bare.p50_us for bare, _ in pairs)
    cost = f"CPU {floor:.0f} + {added:.0f} us a call (x{ratio:.2f}), p50 + {slower:.0f} us"
    print(f"\n{library}: {cost}")  # noqa: T201  # the figure
    assert added <= MOST_US


def test_no_call_of_many_threads_is_lost(server: tuple[str, int], tmp_path: Path) -> None:
    """What eight threads called is what is recorded, one end each."""
    calls = [by_urllib3(*server) for _ in range(THREADS)]
    with start_recording(plan_in(tmp_path)) as recording:
        workers = [
            threading.Thread(target=lambda call=call: [call() for _ in range(SHARE)])
            for call in calls
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert recording.calls == THREADS * SHARE
    ends = [line for line in lines_in(tmp_path) if line.get("_type") == "DownstreamEnd"]
    assert len({line["request_id"] for line in ends}) == len(ends) == THREADS * SHARE


def lines_in(folder: Path) -> Iterator[dict[str, object]]:
    """Every line of a log folder."""
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open("rb") as stream:
            yield from map(json.loads, stream)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """After a million calls the process is hardly larger than after the first fifth of them."""
    sizes = []
    with start_recording(plan_in(tmp_path)) as recording:
        recorder = recording.recorder
        for number in range(MANY):
            call = recorder.begin("GET", "https", "api.example.com", 443, f"/v1/{number}")
            call.note_answered(200, "HTTP/1.1")
            recorder.finish(call)
            if number % 10_000 == 0:
                recording.flush()
            if number % (MANY // 5) == MANY // 5 - 1:
                sizes.append(resident_kb())
    print(f"\nresident after each 200,000 calls: {sizes} kB")  # noqa: T201  # the figure
    assert sizes[-1] <= MOST_GROWTH * sizes[0]


def resident_kb() -> int:
    """How much memory this process has, in kB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
