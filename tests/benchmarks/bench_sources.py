"""Speed of the readers of other people's logs: CloudWatch and Firehose into lines, as ratios.

Run with ``pytest -m benchmark tests/benchmarks/bench_sources.py -s``. Plain boto3 is the loop that
people write: a paginator, or an object's bytes gunzipped and decoded one document at a time, and a
list of messages, with and without ``json.loads`` of each. CPU-seconds are of the reading process;
pages come from a server in another.
"""

import gzip
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshml_dbx.lake.cloudwatch import LogQuery, read_pages
from meshml_dbx.lake.firehose import LogBatches, log_events
from meshml_dbx.lake.follow import next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.spool import spool
from tests.lake.aws_lab import client_at

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

EVENTS = 200_000
NOON = 1_795_348_800_000
GROUP = "/ml/envoy"
QUERY = LogQuery(log_group=GROUP, start_ms=NOON, end_ms=NOON + EVENTS)
Reading = Callable[[], int]

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import loads
from pathlib import Path
pages = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_POST(self):
        request = loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = pages[int(request.get("nextToken", 0))]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def text_line(chance: random.Random, number: int) -> str:
    """A line of Envoy's default format."""
    call = uuid.UUID(int=chance.getrandbits(128))
    return (
        f'[2026-11-22T12:00:{number % 60:02d}.{chance.randrange(1000):03d}Z] "GET /v1/labels/'
        f'{chance.randrange(10**6)} HTTP/1.1" 200 - 0 {chance.randrange(10**5)} '
        f'{chance.randrange(500)} {chance.randrange(500)} "-" "python-requests/2.32.3" "{call}" '
        f'"labels.ml.local" "10.0.{chance.randrange(256)}.{chance.randrange(256)}:8080"'
    )


def json_line(chance: random.Random, number: int) -> str:
    """A line of a JSON format of twenty-six fields."""
    fields = {f"field_{at}": chance.randrange(10**6) for at in range(16)}
    names = {f"name_{at}": f"value-{chance.randrange(10**4)}" for at in range(9)}
    return json.dumps({"text": text_line(chance, number)[:60], **fields, **names})


LINES = {"text": text_line, "json": json_line}


def events_of(kind: str, *, page: int) -> Iterator[list[dict[str, Any]]]:
    """Events as the API writes them, so many a page."""
    chance = random.Random(7)
    for first in range(0, EVENTS, page):
        yield [
            {
                "eventId": f"{number:056d}",
                "ingestionTime": NOON + number + 900,
                "logStreamName": "envoy/task/0123456789abcdef",
                "message": LINES[kind](chance, number),
                "timestamp": NOON + number,
            }
            for number in range(first, first + page)
        ]


def say(line: str) -> None:
    """A line for whoever runs this with -s."""
    sys.stdout.write(f"{line}\n")


def measured(name: str, read: Reading) -> float:
    """The CPU-seconds of one reading, the best of two; all events have to be there."""
    best = float("inf")
    for _ in range(2):
        begun = time.process_time()
        assert read() == EVENTS
        best = min(best, time.process_time() - begun)
    say(f"  {name:38} {best:6.2f} CPU-s  {EVENTS / best / 1000:7.0f} k events per CPU-s")
    return best


def compare(title: str, ours: Reading, plain: Reading, parsing: Reading) -> None:
    """Print how much quicker ours is."""
    say(f"\n{title}, {EVENTS:,} events")
    fast = measured("meshml, lines", ours)
    slow = measured("plain loop, messages", plain)
    slowest = measured("plain loop, json.loads of each message", parsing)
    say(f"  ratio: {slow / fast:.1f} to messages, {slowest / fast:.1f} to parsed messages")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_cloudwatch(kind: str, tmp_path: Path) -> None:
    """Pages of 1 MB, as the API has them."""
    size = 2500 if kind == "text" else 1000
    pages = list(events_of(kind, page=size))
    for number, page in enumerate(pages):
        more = {"nextToken": str(number + 1)} if number + 1 < len(pages) else {}
        body = json.dumps({"events": page, "searchedLogStreams": [], **more})
        (tmp_path / f"{number:05d}").write_text(body)
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    client = client_at(f"http://127.0.0.1:{int(server.stdout.readline())}")

    def ours() -> int:
        lines = (
            "\n".join([event["message"] for event in page]).encode()
            for page in read_pages(client, QUERY)
        )
        return sum(page.count(b"\n") + 1 for page in lines)

    def plain() -> int:
        found = []
        for page in client.get_paginator("filter_log_events").paginate(**QUERY.request()):
            for event in page["events"]:
                found.append(event["message"])  # noqa: PERF401  # as people write it
        return len(found)

    def parsing() -> int:
        found = []
        for page in client.get_paginator("filter_log_events").paginate(**QUERY.request()):
            for event in page["events"]:
                message = event["message"]
                found.append(json.loads(message) if kind == "json" else message.split('"'))
        return len(found)

    try:
        compare(f"CloudWatch, {kind}", ours, plain, parsing)
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("kind", ["text", "json"])
def test_firehose(kind: str) -> None:
    """One object of gzip members, a document of a thousand events each."""
    members = []
    for page in events_of(kind, page=1000):
        events = [
            {"id": one["eventId"], "timestamp": one["timestamp"], "message": one["message"]}
            for one in page
        ]
        whole = {"messageType": "DATA_MESSAGE", "logGroup": GROUP, "logStream": "s"}
        document = json.dumps({**whole, "logEvents": events}, separators=(",", ":"))
        members.append(gzip.compress(document.encode()))
    data = b"".join(members)

    def plain_messages() -> Iterator[str]:
        text = gzip.decompress(data).decode()
        decoder, at = json.JSONDecoder(), 0
        while at < len(text):
            document, at = decoder.raw_decode(text, at)
            if document["messageType"] == "DATA_MESSAGE":
                for event in document["logEvents"]:
                    yield event["message"]

    def ours() -> int:
        return sum(batch.lines().count(b"\n") for batch in LogBatches(data))

    def plain() -> int:
        return len(list(plain_messages()))

    def parsing() -> int:
        return len([json.loads(m) if kind == "json" else m.split('"') for m in plain_messages()])

    compare(f"Firehose, {kind}, {len(data) / 1e6:.0f} MB", ours, plain, parsing)
    measured("meshml, log_events", lambda: sum(1 for _ in log_events(data)))
    measured("gunzip alone", lambda: len(gzip.decompress(data)) and EVENTS)


def test_following(tmp_path: Path) -> None:
    """A log of a gigabyte, plain and gzip, found and copied; a second look at a thousand files."""
    chance = random.Random(7)
    part = "".join(f"{text_line(chance, number)}\n" for number in range(40_000)).encode()
    log = tmp_path / "logs" / "a.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        for _ in range((1 << 30) // len(part)):
            file.write(part)
    size = log.stat().st_size
    say(f"\nFollowing, {size / 1e9:.2f} GB")
    for name in ("plain", "gzip"):
        if name == "gzip":
            subprocess.run(["gzip", "-1", str(log)], check=True)
        begun = time.process_time()
        found = next_segments([log.parent], FollowState(), now=time.time(), settle_s=60)
        planned = time.process_time()
        (segment,) = found.segments
        assert spool(segment, tmp_path / f"spool-{name}") is not None
        copied = time.process_time()
        say(f"  {name}: found in {planned - begun:.2f}, copied in {copied - planned:.2f} CPU-s")
    many = tmp_path / "many"
    many.mkdir()
    for number in range(1000):
        (many / f"{number}.log").write_bytes(f"{number}\n".encode() + part[:2000])
    state = next_segments([many], FollowState(), now=time.time(), settle_s=60).state
    for name in ("first", "second"):
        begun = time.process_time()
        state = next_segments([many], state, now=time.time(), settle_s=60).state
        say(f"  a look at 1,000 files, {name}: {time.process_time() - begun:.3f} CPU-s")
