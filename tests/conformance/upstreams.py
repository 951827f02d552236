"""Programs that do what each call asks of them, try by try, and count what reached them.

A call brings its name in ``x-call`` and its plan in ``x-plan``, one step for each try; after the
last step, and without a plan, the program does its ``usual`` step. Steps are:

- ``503``: this status; ``grpc 14``: this status of gRPC;
- ``wait 1.5``: an answer after so many seconds; ``drip 0.2``: a first piece at once, four more
  after so many seconds each;
- ``reset``: the connection breaks; ``refuse``, ``cancel``: an http2 stream is reset by
  REFUSED_STREAM or by INTERNAL_ERROR.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from itertools import count

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

from tests.conformance.subject import Reply, Request, Spoken, Transport
from tests.planes.envoy_servers import listening

OK = "200"
PIECES = 5
_CALLS = count(1)
_RESETS = {"refuse": ErrorCodes.REFUSED_STREAM, "cancel": ErrorCodes.INTERNAL_ERROR}


def ask(
    url: str,
    *plan: str,
    method: str = "GET",
    protocol: Spoken = "http",
    body: bytes = b"",
    within_s: float = 30.0,
    headers: Mapping[str, str] | None = None,
) -> Request:
    """A request with a name of its own, and what the program is to do with each try of it."""
    marks = {"x-call": str(next(_CALLS)), "x-plan": ",".join(plan)}
    return Request(
        url=url,
        method=method,
        headers={**marks, **(headers or {})},
        body=body,
        protocol=protocol,
        within_s=within_s,
    )


def send_in_turn(transport: Transport, requests: Sequence[Request]) -> list[Reply]:
    """Calls that overlap; each comes when those before it have a connection, or wait for one.

    A call that comes while a connection is being opened for another one counts as waiting, too.
    """
    with ThreadPoolExecutor(len(requests)) as pool:
        sent = []
        for request in requests:
            sent.append(pool.submit(transport.send, request))
            time.sleep(0.1)
        return [it.result() for it in sent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One try that reached a program."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Upstream:
    """A running program: its port and name, what it does usually, and what reached it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.usual = OK
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def tries(self, request: Request) -> int:
        """How often a call reached the program."""
        return len(self.seen_of(request))

    def seen_of(self, request: Request) -> list[Seen]:
        """The tries of a call, as they arrived."""
        name = request.headers["x-call"]
        return [it for it in tuple(self.seen) if it.headers.get("x-call") == name]

    def text(self, path: str) -> bytes:
        """What the program answers."""
        return f"{self.name} {path}".encode()

    @contextmanager
    def serving(self, seen: Seen) -> Iterator[tuple[str, str]]:
        """The step to do with a try, as its word and its value, while it counts as at work."""
        with self._lock:
            before = sum(it.headers.get("x-call") == seen.headers.get("x-call") for it in self.seen)
            plan = [it for it in seen.headers.get("x-plan", "").split(",") if it]
            step = plan[before] if before < len(plan) else self.usual
            self.seen.append(seen)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            word, _, value = step.partition(" ")
            yield word, value
        finally:
            with self._lock:
                self._at_once -= 1


# --- http/1.1 ---------------------------------------------------------------------------------


@contextmanager
def http_program(name: str, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Upstream]:
    """A program of http/1.1."""
    program = Upstream(name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            seen = Seen(method=self.command, path=self.path, headers=headers, body=body)
            with program.serving(seen) as (word, value):
                self.do_step(word, value)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815  # the standard library's names

        def do_step(self, word: str, value: str) -> None:
            if word == "reset":
                self.close_connection = True
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            if word == "wait":
                time.sleep(float(value))
            is_slow = word == "drip"
            self.send_response(int(word) if word.isdigit() else 200)
            text = program.text(self.path)
            self.send_header("content-length", str(len(text) * (PIECES if is_slow else 1)))
            self.end_headers()
            self.wfile.write(text)
            for _ in range(PIECES - 1 if is_slow else 0):
                time.sleep(float(value))
                self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            """Nothing: what came is kept in ``seen``."""

    def serve(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            Handler(peer, ("127.0.0.1", 0), None)  # type: ignore[arg-type]  # no server is asked

    with listening(serve, host=host, port=port) as found:
        program.port = found
        yield program


# --- http2 and gRPC ---------------------------------------------------------------------------


@contextmanager
def http2_program(name: str) -> Iterator[Upstream]:
    """A program of http2 in plain text, which answers calls of gRPC as such."""
    program = Upstream(name)

    def serve(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            _Http2(program, peer).run()

    with listening(serve) as found:
        program.port = found
        yield program


class _Http2:
    """One connection, each stream of which is answered by a thread of its own."""

    def __init__(self, program: Upstream, peer: socket.socket) -> None:
        self._program, self._peer = program, peer
        config = H2Configuration(client_side=False, header_encoding="utf-8")
        self._http2 = H2Connection(config)
        self._lock = threading.Lock()
        self._asked: dict[int, tuple[dict[str, str], bytearray]] = {}

    def run(self) -> None:
        self._http2.initiate_connection()
        self._flush()
        while data := self._peer.recv(65536):
            with self._lock:
                events = self._http2.receive_data(data)
                self._flush()
            for event in events:
                if isinstance(event, RequestReceived):
                    headers = {str(key): str(value) for key, value in event.headers}
                    self._asked[event.stream_id] = headers, bytearray()
                elif isinstance(event, DataReceived):
                    self._asked[event.stream_id][1].extend(event.data or b"")
                elif isinstance(event, StreamEnded):
                    threading.Thread(target=self._answer, args=(event.stream_id,)).start()

    def _flush(self) -> None:
        self._peer.sendall(self._http2.data_to_send())

    def _answer(self, stream: int) -> None:
        headers, body = self._asked.pop(stream)
        seen = Seen(
            method=headers[":method"], path=headers[":path"], headers=headers, body=bytes(body)
        )
        # The caller may have given the stream up.
        with self._program.serving(seen) as (word, value), suppress(OSError, ProtocolError):
            if word == "wait":
                time.sleep(float(value))
            self._do_step(stream, seen, word, value)

    def _do_step(self, stream: int, seen: Seen, word: str, value: str) -> None:
        is_grpc = seen.headers.get("content-type", "").startswith("application/grpc")
        status = word if word.isdigit() else "200"
        kind = [("content-type", "application/grpc")] if is_grpc else []
        with self._lock:
            if word in _RESETS:
                self._http2.reset_stream(stream, _RESETS[word])
            elif word == "grpc" or (is_grpc and status != "200"):
                failed = [("grpc-status", value)] if value else []
                sent = [(":status", status), *kind, *failed]
                self._http2.send_headers(stream, sent, end_stream=True)
            else:
                self._http2.send_headers(stream, [(":status", status), *kind])
                text = self._program.text(seen.path)
                frame = b"\0" + struct.pack(">I", len(text)) if is_grpc else b""
                self._http2.send_data(stream, frame + text, end_stream=not is_grpc)
                if is_grpc:
                    self._http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            self._flush()
