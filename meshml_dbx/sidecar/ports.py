"""Ports on this machine: one that is free now, or a clear refusal of one that is taken."""

import errno
import socket
from collections.abc import Collection
from contextlib import suppress
from hashlib import sha256

from meshml_dbx.errors import MeshMLError, PortTakenError

_FIRST_STEADY_PORT, _STEADY_PORTS = 20_000, 10_000


def free_port(bind: str = "127.0.0.1", *, taken: Collection[int] = ()) -> int:
    """A port that nobody listens on at this address; nobody else is kept from taking it.

    The system may give one port twice to who asks twice: pass what it gave before as taken.
    """
    while True:
        with _socket_for(bind) as probe:
            probe.bind((bind, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


def steady_port(name: str, *, taken: Collection[int] = ()) -> int:
    """A port of this machine that is the same each time for a name, unless somebody has it.

    It lies below those that systems give to outgoing connections.
    """
    begin = int.from_bytes(sha256(name.encode(errors="surrogatepass")).digest()[:4])
    for step in range(_STEADY_PORTS):
        port = _FIRST_STEADY_PORT + (begin + step) % _STEADY_PORTS
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in taken:
                return port
    return free_port()


def require_free(bind: str, port: int) -> None:
    """Refuse a port that is in use.

    Asked before Envoy starts: two Envoys whose listeners reuse ports share one without a word.

    Raises:
        PortTakenError: when something listens there.
        MeshMLError: when this machine has no such address, or the user may not use the port.
    """
    try:
        with _socket_for(bind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bind, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_taken(bind, port) from error
        message = f"cannot listen on {bind}:{port}: {error.strerror or error}"
        raise MeshMLError(message, advice="choose another port or --bind address") from error


def port_taken(bind: str, port: int) -> PortTakenError:
    """The error for a port in use."""
    message = f"port {port} on {bind} is taken by another process"
    return PortTakenError(message, advice=f"stop it (ss -ltnp 'sport = :{port}') or choose a port")


def _socket_for(bind: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET)
