"""Servers below HTTP libraries: one sends what it is told byte for byte, one is a forward proxy.

Goes in: bytes by path, or nothing. Comes out: an address, and what was asked of it.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a server listens, and the requests that it had."""

    port: int
    requests: list[bytes] = field(default_factory=list)

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it answers, without a path."""
        return f"http://{self.authority}"


@contextmanager
def sending(answers: Mapping[str, bytes]) -> Iterator[Wire]:
    """A server that sends these bytes for a path, and closes after HTTP/1.0 or ``close``."""

    def serve(connection: socket.socket, wire: Wire) -> None:
        while request := _read_request(connection):
            wire.requests.append(request)
            answer = answers[request.split(b" ", 2)[1].partition(b"?")[0].decode()]
            connection.sendall(answer)
            if answer.startswith(b"HTTP/1.0") or b"connection: close" in answer:
                return

    with _listening(serve) as wire:
        yield wire


@contextmanager
def proxying(*, password: str | None = None) -> Iterator[Wire]:
    """A forward proxy for both forms, CONNECT and whole addresses.

    Args:
        password: what the ``Proxy-Authorization`` header must hold, else it answers 407.
    """

    def serve(connection: socket.socket, wire: Wire) -> None:
        head = _read_request(connection)
        wire.requests.append(head)
        if password is not None and password.encode() not in head:
            connection.sendall(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")
            return
        method, target, _ = head.split(b" ", 2)
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as other:
                connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                _relay_both_ways(connection, other)
            return
        authority, _, path = target.decode().partition("://")[2].partition("/")
        host, _, port = authority.rpartition("@")[2].partition(":")
        with socket.create_connection((host, int(port))) as other:
            other.sendall(head.replace(target, f"/{path}".encode(), 1))
            _relay_both_ways(connection, other)

    with _listening(serve) as wire:
        yield wire


@contextmanager
def _listening(serve: Callable[[socket.socket, Wire], None]) -> Iterator[Wire]:
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire(listener.getsockname()[1])

    def serve_one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection, wire)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield wire
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _read_request(connection: socket.socket) -> bytes:
    """A request with its body; nothing at the end."""
    data = b""
    while _HEAD_END not in data:
        if not (more := connection.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(_HEAD_END)
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    is_chunked = b"transfer-encoding: chunked" in head.lower()
    while (length and len(body) < int(length[1])) or (
        is_chunked and not body.endswith(b"0\r\n\r\n")
    ):
        body += connection.recv(65536)
    return head + _HEAD_END + body


def _relay_both_ways(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_relay, args=(other, one), daemon=True)
    back.start()
    _relay(one, other)
    back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
