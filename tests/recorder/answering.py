"""A real HTTP service in a thread, which answers, stalls and breaks off as its paths say.

Goes in: perhaps a TLS context. Comes out: an address to call, and how often each path was called.

    /kb                  1 KB, the connection kept
    /bytes/N             N bytes
    /chunked/N/PAUSE     N chunks of five bytes, PAUSE seconds between them
    /slow/S              the first byte after S seconds
    /status/N            that status
    /flaky/NAME          503 twice, then 200
    /redirect/PATH       302 to /PATH; PATH /kb when left out
    /length              how many bytes the request had
    /broken              half of the promised body, then the connection is closed
    /reset               half of the promised body, then the connection is reset
    /dropped             closed without an answer
    /never               no answer while the server lives
"""

import builtins
import os
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KB = b"x" * 1024
_FAILURES = 2
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class AnsweringServer(ThreadingHTTPServer):
    """Counts what it is asked for; one thread per connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.scheme = "https" if tls else "http"
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        if tls:
            # The handshake is made by the connection's own thread: a refused one stops nobody.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self) -> str:
        """Where it answers, without a path."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_port}"

    def count(self, path: str) -> int:
        """How often a path was called, whatever the query."""
        with self._lock:
            return self.counts[path]

    def note(self, path: str) -> int:
        """Count a call; how many there were of its path."""
        with self._lock:
            self.counts[path] += 1
            return self.counts[path]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away and handshakes that fail are what tests are about."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: AnsweringServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        number = self.server.note(path)
        body = self.read_body()
        _, kind, *rest = path.split("/")
        if kind == "flaky":
            self.answer(503 if number <= _FAILURES else 200, b"at last")
        elif kind == "length":
            self.answer(200, str(len(body)).encode())
        else:
            _KINDS[kind](self, *rest)

    def read_body(self) -> builtins.bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815  # the base's names

    def answer(self, status: int, body: bytes, *, promised: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(promised or len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def kb(self) -> None:
        self.answer(200, KB)

    def bytes(self, size: str) -> None:
        self.answer(200, b"x" * int(size))

    def status(self, status: str) -> None:
        self.answer(int(status), b"as asked")

    def slow(self, seconds: str) -> None:
        time.sleep(float(seconds))
        self.answer(200, b"at last")

    def chunked(self, chunks: str = "3", pause: str = "0") -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(int(chunks)):
            time.sleep(float(pause) if number else 0)
            self.wfile.write(b"5\r\nhello\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def redirect(self, *path: str) -> None:
        self.send_response(302)
        self.send_header("location", "/" + ("/".join(path) or "kb"))
        self.send_header("content-length", "0")
        self.end_headers()

    def broken(self) -> None:
        self.answer(200, KB, promised=2 * len(KB))
        self.close_connection = True

    def reset(self) -> None:
        self.broken()
        time.sleep(0.1)  # so that what was sent is not lost with the reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        os.close(self.connection.detach())

    def dropped(self) -> None:
        self.close_connection = True

    def never(self) -> None:
        self.server.closing.wait()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing."""


_KINDS: dict[str, Callable[..., None]] = {
    "kb": _Answers.kb,
    "bytes": _Answers.bytes,
    "status": _Answers.status,
    "slow": _Answers.slow,
    "chunked": _Answers.chunked,
    "redirect": _Answers.redirect,
    "broken": _Answers.broken,
    "reset": _Answers.reset,
    "dropped": _Answers.dropped,
    "never": _Answers.never,
}


@contextmanager
def answering(*, tls: ssl.SSLContext | None = None) -> Iterator[AnsweringServer]:
    """A service that answers as long as the block lasts.

    Args:
        tls: its certificate (``small_pki.server_context``); one that requires the client's refuses
            everybody without.
    """
    server = AnsweringServer(tls)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        with suppress(OSError):
            server.server_close()
