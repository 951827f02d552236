"""The program whose calls are measured: both ways from one process, with the same client library.

bench_client.py PORT HOST     reads "direct|mesh THREADS COUNT" lines, answers each with one JSON
line: the seconds of every call, the seconds of CPU that the process used, and the failures.
"""

import json
import os
import sys
import threading
import time

import urllib3

TIMEOUT = urllib3.Timeout(10)


def pools(host: str) -> dict[str, urllib3.PoolManager]:
    """The two ways; direct calls go to an address, the mesh's through the proxy we were given."""
    proxy = urllib3.util.parse_url(os.environ["http_proxy"])
    headers = urllib3.make_headers(proxy_basic_auth=proxy.auth)
    size = {"maxsize": 32, "retries": False, "timeout": TIMEOUT}
    through = urllib3.ProxyManager(
        f"http://{proxy.netloc}",
        proxy_headers=headers,
        **size,  # type: ignore[arg-type]  # by name
    )
    return {"direct": urllib3.PoolManager(**size), "mesh": through}  # type: ignore[arg-type]


def call_often(pool: urllib3.PoolManager, url: str, count: int, taken: list[float]) -> None:
    """Call so often, one after the other, and note how long each took; -1 for one that failed."""
    for _ in range(count):
        begun = time.perf_counter()
        answer = pool.request("GET", url)
        good = answer.status == 200 and len(answer.data) == 1024
        taken.append(time.perf_counter() - begun if good else -1.0)


def measure(pool: urllib3.PoolManager, url: str, threads: int, count: int) -> dict[str, object]:
    """So many calls from so many threads on connections that are open already."""
    taken: list[list[float]] = [[] for _ in range(threads)]
    share = count // threads
    workers = [threading.Thread(target=call_often, args=(pool, url, share, mine)) for mine in taken]
    cpu, begun = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
    every = [one for mine in taken for one in mine]
    return {
        "seconds": [one for one in every if one >= 0],
        "cpu_s": cpu,
        "wall_s": wall,
        "failed": sum(one < 0 for one in every) + share * threads - len(every),
    }


def main() -> None:
    """Answer orders until there are no more."""
    _, port, host = sys.argv
    ways = pools(host)
    urls = {"direct": f"http://127.0.0.1:{port}/", "mesh": f"http://{host}/"}
    for line in sys.stdin:
        way, threads, count = line.split()
        result = measure(ways[way], urls[way], int(threads), int(count))
        print(json.dumps(result), flush=True)  # noqa: T201  # the answer


if __name__ == "__main__":
    main()
