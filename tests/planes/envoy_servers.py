"""Programs that speak more than http/1.1: gRPC, http2 in plain text, and bare connections.

Each comes as a context that gives its port and what reached it. What they answer, a caller asks for
with its own headers, so that one program serves every test.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import grpc  # type: ignore[import-untyped]  # it ships no types
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded, StreamReset

HEALTHY = b"\x08\x01"
"""grpc.health.v1.HealthCheckResponse with status SERVING."""


# --- gRPC -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCall:
    """One call that reached the program."""

    method: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcProgram:
    """A running gRPC server; ``fails`` is how many calls are still to fail, by status."""

    port: int
    calls: list[GrpcCall]

    def methods(self) -> list[str]:
        """The methods that were called, without health checks."""
        return [it.method for it in self.calls if "grpc.health" not in it.method]


@contextmanager
def serving_grpc(name: str = "program") -> Iterator[GrpcProgram]:
    """A server of every method: answers with its own name and the method.

    The metadata ``x-status`` makes a call fail with that status, for as many attempts as
    ``x-times`` says; ``x-wait`` makes it slow.
    """
    seen: list[GrpcCall] = []
    ended = threading.Event()

    class Every(grpc.GenericRpcHandler):  # type: ignore[misc]  # as above
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            metadata = {key: str(value) for key, value in details.invocation_metadata}
            seen.append(GrpcCall(method=details.method, metadata=metadata))
            if "grpc.health" in details.method:
                return grpc.unary_unary_rpc_method_handler(lambda *_: HEALTHY)

            def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                ended.wait(float(metadata.get("x-wait", "0")))
                attempt = int(metadata.get("x-envoy-attempt-count", "1"))
                if "x-status" in metadata and attempt <= int(metadata.get("x-times", "99")):
                    context.abort(grpc.StatusCode[metadata["x-status"]], "as asked")
                return f"{name} {details.method}".encode()

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Every(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield GrpcProgram(port=port, calls=seen)
    finally:
        ended.set()
        server.stop(0).wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcAnswer:
    """What a caller got: a status by name, and the body or the details."""

    status: str
    text: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def call_grpc(
    address: str, method: str, *, authority: str | None = None, timeout_s: float = 10, **sent: str
) -> GrpcAnswer:
    """One call on a channel of its own; underscores in names of metadata are dashes."""
    channel_options: list[tuple[str, object]] = [("grpc.enable_retries", 0)]
    if authority:
        channel_options.append(("grpc.default_authority", authority))
    metadata = [(key.replace("_", "-"), value) for key, value in sent.items()]
    with grpc.insecure_channel(address, options=channel_options) as channel:
        try:
            got, call = channel.unary_unary(method).with_call(
                b"question", timeout=timeout_s, metadata=metadata
            )
        except grpc.RpcError as error:
            return GrpcAnswer(status=error.code().name, text=error.details() or "")
    headers = {key: str(value) for key, value in call.initial_metadata()}
    return GrpcAnswer(status="OK", text=got.decode(), metadata=headers)


# --- http2 ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Program:
    """A running server of http2 in plain text; ``active`` is how many requests it had at most."""

    port: int
    requests: list[Mapping[str, str]]
    connections: list[int]


@contextmanager
def serving_http2(wait_s: float = 0.0) -> Iterator[Http2Program]:
    """A server of http2 without TLS that answers each request with its path."""
    requests: list[Mapping[str, str]] = []
    connections: list[int] = []

    def serve(peer: socket.socket) -> None:
        connections.append(1)
        http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        lock = threading.Lock()
        http2.initiate_connection()
        paths: dict[int, str] = {}

        def answer(stream: int) -> None:
            with lock, suppress(OSError):
                http2.send_headers(stream, [(":status", "200"), ("x-spoke", "http2")])
                http2.send_data(stream, paths[stream].encode(), end_stream=True)
                peer.sendall(http2.data_to_send())

        with peer, suppress(OSError):
            peer.sendall(http2.data_to_send())
            while data := peer.recv(65536):
                with lock:
                    events = http2.receive_data(data)
                    peer.sendall(http2.data_to_send())
                for event in events:
                    if isinstance(event, RequestReceived):
                        headers = {str(key): str(value) for key, value in event.headers}
                        requests.append(headers)
                        paths[event.stream_id] = headers[":path"]
                    elif isinstance(event, StreamEnded):
                        threading.Timer(wait_s, answer, (event.stream_id,)).start()

    with listening(serve) as port:
        yield Http2Program(port=port, requests=requests, connections=connections)


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Answer:
    """What a caller of http2 got; code 0 if the stream was reset."""

    code: int
    body: bytes
    headers: Mapping[str, str]


def call_http2(
    port: int, authority: str, path: str, *, method: str = "GET", **sent: str
) -> Http2Answer:
    """One request of http2 in plain text, on a connection of its own."""
    http2 = H2Connection(H2Configuration(header_encoding="utf-8"))
    http2.initiate_connection()
    ask = [(":method", method), (":path", path), (":scheme", "http"), (":authority", authority)]
    ask += [(key.replace("_", "-"), value) for key, value in sent.items()]
    headers: dict[str, str] = {}
    body = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        http2.send_headers(1, ask, end_stream=True)
        peer.sendall(http2.data_to_send())
        while data := peer.recv(65536):
            for event in http2.receive_data(data):
                if isinstance(event, ResponseReceived):
                    headers = {str(key): str(value) for key, value in event.headers}
                elif isinstance(event, DataReceived):
                    body += event.data or b""
                elif isinstance(event, StreamEnded | StreamReset):
                    code = int(headers.get(":status", "0"))
                    return Http2Answer(code=code, body=body, headers=headers)
            peer.sendall(http2.data_to_send())
    return Http2Answer(code=0, body=body, headers=headers)


# --- bare connections -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProgram:
    """A running server of bare connections: how many came, and what they said."""

    port: int
    heard: list[bytes]
    met: list[int]


@contextmanager
def serving_tcp(greeting: bytes = b"", *, stays_s: float = 0.0) -> Iterator[TcpProgram]:
    """A server that speaks first, as databases do, and then says again what it hears.

    It hangs up so many seconds after its caller has said all.
    """
    ended = threading.Event()
    heard: list[bytes] = []
    met: list[int] = []

    def serve(peer: socket.socket) -> None:
        met.append(1)
        with peer, suppress(OSError):
            peer.sendall(greeting)
            while data := peer.recv(65536):
                heard.append(data)
                peer.sendall(data)
            ended.wait(stays_s)

    with listening(serve) as port:
        yield TcpProgram(port=port, heard=heard, met=met)
        ended.set()


@contextmanager
def listening(
    serve: Callable[[socket.socket], None], *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """A port on which each connection is served by a thread of its own."""
    with socket.create_server((host, port), backlog=128) as server:
        thread = threading.Thread(target=_accept, args=(server, serve), daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _accept(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(peer,), daemon=True).start()
