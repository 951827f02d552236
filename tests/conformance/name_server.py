"""A name server that tells the addresses of a few host names, as a service discovery does.

Goes in: host names and their IPv4 addresses. Comes out: the port where it answers by UDP.
"""

import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_HEADER = struct.Struct(">HHHHHH")
_ANSWER, _NO_SUCH_NAME = 0x8400, 0x8403
_POINTER_TO_QUESTION, _INTERNET, _TTL_S = 0xC00C, 1, 60
_A = 1


@contextmanager
def telling(hosts: Mapping[str, Sequence[str]]) -> Iterator[int]:
    """A running name server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.2)
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(server, hosts, ended), daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def _serve(
    server: socket.socket, hosts: Mapping[str, Sequence[str]], ended: threading.Event
) -> None:
    while not ended.is_set():
        try:
            question, peer = server.recvfrom(4096)
        except TimeoutError:
            continue
        server.sendto(_answer(question, hosts), peer)


def _answer(message: bytes, hosts: Mapping[str, Sequence[str]]) -> bytes:
    name, end = _name_of(message)
    (kind,) = struct.unpack_from(">H", message, end)
    found = hosts.get(name.lower())
    addresses = (found or ()) if kind == _A else ()
    flags = _NO_SUCH_NAME if found is None else _ANSWER
    records = b"".join(
        struct.pack(">HHHIH", _POINTER_TO_QUESTION, _A, _INTERNET, _TTL_S, 4)
        + socket.inet_aton(address)
        for address in addresses
    )
    (number,) = struct.unpack_from(">H", message)
    head = _HEADER.pack(number, flags, 1, len(addresses), 0, 0)
    return head + message[_HEADER.size : end + 4] + records


def _name_of(message: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    labels, at = [], _HEADER.size
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1
