"""A plain HTTP service as users have them: it knows nothing of meshes, proxies or identities.

small_service.py [IDLE_S]     listens on PORT; closes connections that are idle for IDLE_S seconds
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    """Answers a label, any status, so many bytes, or what another service says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def do_GET(self) -> None:
        """Answer as the path says."""
        _, kind, *rest = self.path.partition("?")[0].split("/")
        if kind == "status":
            self.answer(int(rest[0]), b"as asked")
        elif kind == "bytes":
            self.answer(200, b"x" * int(rest[0]))
        elif kind == "slow":
            time.sleep(float(rest[0]))
            self.answer(200, b"at last")
        elif kind == "relay":
            self.answer(*fetch("http://labels.small.local/v1/labels/7"))
        elif kind == "forward":
            own = {"x-request-id": self.headers["x-request-id"]}
            self.answer(*fetch("http://labels.small.local/v1/labels/7", own))
        else:
            self.answer(200, json.dumps({"path": self.path, "port": os.environ["PORT"]}).encode())

    def answer(self, status: int, body: bytes) -> None:
        """Send one response in one write."""
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """One thread per connection."""

    daemon_threads = True
    request_queue_size = 128


def fetch(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of a call through whatever proxy this process was given."""
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310  # a fixed address
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def main() -> None:
    """Serve until killed."""
    if len(sys.argv) > 1:
        Service.timeout = float(sys.argv[1])
    with Server(("127.0.0.1", int(os.environ["PORT"])), Service) as server:
        print("serving", flush=True)  # noqa: T201  # its parent waits for this line
        server.serve_forever()


if __name__ == "__main__":
    main()
