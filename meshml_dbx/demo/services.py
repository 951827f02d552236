"""The demo's four services: plain HTTP programs that know nothing of the mesh in front of them.

    python -m meshml_dbx.demo.services records|labels|features|scoring --data data.json

Each listens on ``PORT`` of 127.0.0.1. ``--fault`` makes one misbehave the way real services do:
``slow`` answers late, ``overloaded`` sheds each key's first two tries, ``stuck`` leaves one caller
waiting. Nothing here writes a log line of the mesh's: the proxies do.
"""

import argparse
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from meshml_dbx.demo.data import PAGE_SIZE, RECORD_COLUMNS, ROWS_A_DAY, ROWS_A_GROUP

USUAL_S = {"records": 0.020, "labels": 0.020, "features": 0.015, "scoring": 0.010}
SLOW_S = 0.900
SHED_S = 0.080
STUCK_S = 14.0
STUCK_CALL = 40
SHED_TRIES = 2

Answer = tuple[int, object]


class Service:
    """One service: the data it holds, the model it was given, and how it misbehaves."""

    def __init__(self, name: str, data: dict[str, list[Any]], fault: str | None) -> None:
        self.name = name
        self.measurements = data["measurements"]
        self.labels = data["labels"]
        self.fault = fault
        self.model: dict[str, Any] = {}
        self.tries: Counter[str] = Counter()
        self.lock = threading.Lock()

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Status and JSON value of one request."""
        url = urlsplit(target)
        if url.path == "/healthz":
            return 200, {"service": self.name}
        handler = HANDLERS.get((self.name, method))
        if handler is None:
            return 405, {"error": f"{self.name} has no {method}"}
        time.sleep(USUAL_S[self.name])
        if (refusal := self.misbehave(method, url.path)) is not None:
            return refusal
        try:
            return handler(self, url.path.rsplit("/", 1)[-1], parse_qs(url.query), body)
        except (IndexError, KeyError, ValueError) as error:
            return 404, {"error": f"{type(error).__name__}: {error}"}

    def misbehave(self, method: str, path: str) -> Answer | None:
        """Do what the fault says; an answer when it is to be given instead of the real one."""
        with self.lock:
            self.tries[path] += 1
            self.tries[method] += 1
            tries, calls = self.tries[path], self.tries[method]
        if self.fault == "slow":
            time.sleep(SLOW_S)
        if self.fault == "stuck" and method == "POST" and calls == STUCK_CALL:
            time.sleep(STUCK_S)
        if self.fault == "overloaded" and tries <= SHED_TRIES:
            time.sleep(SHED_S)
            return 503, {"error": "overloaded, try again"}
        return None


def get_records(service: Service, _: str, query: dict[str, list[str]], __: bytes) -> Answer:
    """A page of rows with the first measurements."""
    start = (int(query["page"][0]) - 1) * PAGE_SIZE
    rows = service.measurements[start : start + PAGE_SIZE]
    return 200, {"rows": [row[:RECORD_COLUMNS] for row in rows]}


def get_labels(service: Service, last: str, _: dict[str, list[str]], __: bytes) -> Answer:
    """The labels of one day."""
    start = int(last) * ROWS_A_DAY
    return 200, {"labels": service.labels[start : start + ROWS_A_DAY]}


def get_features(service: Service, last: str, _: dict[str, list[str]], __: bytes) -> Answer:
    """The remaining measurements of one group of rows."""
    start = int(last) * ROWS_A_GROUP
    rows = service.measurements[start : start + ROWS_A_GROUP]
    return 200, {"features": [row[RECORD_COLUMNS:] for row in rows]}


def put_model(service: Service, _: str, __: dict[str, list[str]], body: bytes) -> Answer:
    """Take the trained model: mean, scale, coefficients, intercept."""
    service.model = json.loads(body)
    return 200, {"measurements": len(service.model["coefficients"])}


def post_score(service: Service, _: str, __: dict[str, list[str]], body: bytes) -> Answer:
    """The probability that the trained model gives one row."""
    model, row = service.model, json.loads(body)["row"]
    parts = zip(row, model["mean"], model["scale"], model["coefficients"], strict=True)
    logit = model["intercept"] + sum((x - mean) / scale * c for x, mean, scale, c in parts)
    return 200, {"probability": 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))}


Handler = Callable[[Service, str, dict[str, list[str]], bytes], Answer]
HANDLERS: dict[tuple[str, str], Handler] = {
    ("records", "GET"): get_records,
    ("labels", "GET"): get_labels,
    ("features", "GET"): get_features,
    ("scoring", "PUT"): put_model,
    ("scoring", "POST"): post_score,
}


def serve(service: Service, port: int) -> None:
    """Answer requests until the process is ended."""

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one write an answer

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, value = service.answer(self.command, self.path, body)
            payload = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PUT = reply  # noqa: N815  # the names that the base looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Say nothing: the proxies keep the log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    Server(("127.0.0.1", port), Requests).serve_forever()


def main() -> None:
    """Run one service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(USUAL_S))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fault", choices=("slow", "overloaded", "stuck"))
    given = parser.parse_args()
    data = json.loads(given.data.read_text(encoding="utf-8"))
    serve(Service(given.name, data, given.fault), int(os.environ["PORT"]))


if __name__ == "__main__":
    main()
