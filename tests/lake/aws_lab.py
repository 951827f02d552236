"""AWS for tests: moto's server over HTTP, and a small server of the Logs API that can misbehave.

Where moto 5.2.5 is wrong about CloudWatch Logs: no page of it is empty while others follow, it
never throttles, its token names an event and not a moment, it shows events at once, ignores JSON
patterns, and does not know a prefix of streams from none. So what depends on these is tested
against ``scripted_logs``.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

REGION = "eu-west-1"
GROUP = "/ml/envoy"
STREAM = "task/1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDNOTREAL", "AWS_SECRET_ACCESS_KEY": "not-a-key"}
"""As AWS's own chain finds them; they open nothing."""

Answer = tuple[int, dict[str, Any]]


@contextmanager
def moto_server() -> Iterator[str]:
    """A real server of AWS's protocols; its state is the process's, so groups need own names."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client_at(url: str, service: str = "logs", tries: int = 3) -> Any:
    """A client of that server, with keys that open nothing."""
    boto3 = pytest.importorskip("boto3")
    config = pytest.importorskip("botocore.config").Config(
        retries={"mode": "standard", "total_max_attempts": tries}
    )
    return boto3.session.Session().client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="AKIDNOTREAL",
        aws_secret_access_key="not-a-key",  # noqa: S106  # opens nothing
        config=config,
    )


def maker() -> Callable[..., Any]:
    """A function that makes clients, which is pickled with all it has: workers know no tests."""

    def make(
        region: str | None = None, endpoint_url: str | None = None, profile: str | None = None
    ) -> Any:
        import boto3  # type: ignore[import-untyped]  # ships without types

        return boto3.session.Session().client(
            "logs",
            endpoint_url=endpoint_url,
            region_name=region,
            aws_access_key_id="AKIDNOTREAL",
            aws_secret_access_key="not-a-key",  # noqa: S106  # opens nothing
        )

    return make


def put(client: Any, group: str, first_ms: int, messages: list[str], stream: str = STREAM) -> None:
    """One event a millisecond, in a group and stream that are made when they are not there."""
    for make, names in (
        (client.create_log_group, {"logGroupName": group}),
        (client.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
    ):
        with suppress(client.exceptions.ResourceAlreadyExistsException):
            make(**names)
    events = [
        {"timestamp": first_ms + number, "message": message}
        for number, message in enumerate(messages)
    ]
    for start in range(0, len(events), 1000):
        client.put_log_events(
            logGroupName=group, logStreamName=stream, logEvents=events[start : start + 1000]
        )


def event(number: int, moment: int, *, taken_in: int | None = None) -> dict[str, Any]:
    """An event as FilterLogEvents writes it."""
    return {
        "eventId": f"{number:056d}",
        "timestamp": moment,
        "ingestionTime": moment if taken_in is None else taken_in,
        "logStreamName": STREAM,
        "message": f"line {number}",
    }


def refusal(code: str, message: str = "no") -> Answer:
    """An error as the Logs API writes it."""
    return 400, {"__type": code, "message": message}


@contextmanager
def scripted_logs(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[str]:
    """A server of FilterLogEvents whose answers are made of the request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = answer(request)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
