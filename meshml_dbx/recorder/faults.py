"""What an exception of an HTTP library says of a call, in Envoy's response flags.

Goes in: an exception. Comes out: flags, the class's name, and the reason of a TLS failure. Never
a message: it may hold an address with a token in it.
"""

import errno
import http.client
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_CAUSES = 8
"""How deep chains of exceptions are followed."""


class ClosedByProgramError(Exception):
    """Stands for a call whose connection the program closed before there was an answer."""


_CANCELLED = (
    ClosedByProgramError,
    KeyboardInterrupt,
    GeneratorExit,
    SystemExit,
)
_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLError, "UF"),
    (ssl.CertificateError, "UF"),
    (socket.gaierror, "DF"),
    (ConnectionRefusedError, "UF"),
    (http.client.RemoteDisconnected, "UC"),
    (http.client.IncompleteRead, "UC"),
    (ConnectionResetError, "UC"),
    (BrokenPipeError, "UC"),
    (http.client.HTTPException, "UPE"),
)
_BY_NAME: tuple[tuple[str, str], ...] = (
    ("NameResolutionError", "DF"),
    ("ClientConnectorDNSError", "DF"),
    ("ConnectTimeout", "UF"),
    ("ConnectionTimeoutError", "UF"),
    ("ClientResponseError", "UPE"),
    ("ResponseError", "URX"),
    ("RetryError", "URX"),
    ("SSLError", "UF"),
    ("ClientConnectorCertificateError", "UF"),
    ("Timeout", "UT"),
    ("NewConnectionError", "UF"),
    ("ClientConnectorError", "UF"),
    ("ConnectError", "UF"),
    ("ProxyError", "UF"),
    ("ServerDisconnectedError", "UC"),
    ("ClientPayloadError", "UC"),
    ("RemoteProtocolError", "UC"),
    ("ReadError", "UC"),
    ("WriteError", "UC"),
    ("LocalProtocolError", "DC"),
    ("ProtocolError", "UC"),
    ("ClientOSError", "UC"),
    ("DecodeError", "UPE"),
    ("DecodingError", "UPE"),
)
"""By a part of the class's name, for libraries that may not be installed; the first one counts."""

_ENDS_OF_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Once connected, these say that the other side went away."""

_TASK_CANCELLED = "CancelledError"
"""asyncio's, by name: importing it takes 50 ms. Inside another one it is how time-outs are made."""

_FULL_POOLS = frozenset(("EmptyPoolError", "PoolTimeout"))
_LIBRARIES = frozenset(("http", "urllib", "urllib3"))
_UNREACHABLE = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a call has no whole answer: Envoy's flag, the exception's class, a TLS reason."""

    flags: str
    details: str
    tls_failure: str | None = None


def fault_of(error: BaseException, *, is_connected: bool = True, handled: int = 0) -> Fault:
    """The fault that an exception tells of; the cause of a chain that tells most decides.

    Args:
        is_connected: whether a connection was there: without one, a time-out is a failure to
            connect and not the service's silence.
        handled: ``id`` of an exception that the program was handling already: no cause of this one.

    >>> fault_of(ConnectionResetError()).flags
    'UC'
    >>> fault_of(TimeoutError(), is_connected=False).flags
    'UF'
    """
    chain = tuple(_causes(error, handled))
    flags = _own_flag(error, chain) or next(
        (flag for one in chain if (flag := _flag(one, is_connected))), None
    )
    inner = getattr(error, "reason", None)  # of urllib3's MaxRetryError: what the last try met
    return Fault(
        flags=flags or "DC",  # no word of a network in it: what the program itself did wrong
        details=name_of(inner if isinstance(inner, BaseException) else error),
        tls_failure=next((reason for one in chain if (reason := _tls_reason(one))), None),
    )


def error_in_library() -> BaseException | None:
    """The exception that an HTTP library is handling now, where it closes what is broken.

    One that the program itself handles, further out, has nothing to do with the call.
    """
    error = sys.exc_info()[1]
    if error is None or error.__traceback__ is None:
        return None
    module = str(error.__traceback__.tb_frame.f_globals.get("__name__"))
    if module.partition(".")[0] not in _LIBRARIES:
        return None
    if isinstance(error, ValueError) and not isinstance(error, OSError | http.client.HTTPException):
        return http.client.IncompleteRead(b"")  # where the size of a chunk should be, nothing was
    return error


def name_of(error: BaseException) -> str:
    """The class of an exception with its module, as it is imported; built-in ones bare.

    >>> name_of(http.client.RemoteDisconnected())
    'http.client.RemoteDisconnected'
    """
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _own_flag(error: BaseException, chain: Sequence[BaseException]) -> str | None:
    """What the program did itself: it cancelled the call, or allows itself no more connections."""
    if isinstance(error, _CANCELLED) or type(error).__name__ == _TASK_CANCELLED:
        return "DC"
    return "UO" if any(type(one).__name__ in _FULL_POOLS for one in chain) else None


def _causes(error: BaseException, handled: int) -> Iterator[BaseException]:
    """The innermost first: what the operating system said is surer than how a library calls it."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and len(chain) < MOST_CAUSES and one not in chain and id(one) != handled:
        chain.append(one)
        inner = getattr(one, "reason", None) or next(
            (arg for arg in one.args if isinstance(arg, BaseException)), None
        )
        one = inner if isinstance(inner, BaseException) else one.__cause__ or one.__context__
    return reversed(chain)


def _flag(error: BaseException, is_connected: bool) -> str | None:  # noqa: FBT001  # of the same fault
    if isinstance(error, TimeoutError):
        return "UT" if is_connected else "UF"
    if isinstance(error, _ENDS_OF_TLS):
        return "UC" if is_connected else "UF"
    found = next((flag for kind, flag in _BY_CLASS if isinstance(error, kind)), None)
    return found or _flag_by_name(error, is_connected)


def _flag_by_name(error: BaseException, is_connected: bool) -> str | None:  # noqa: FBT001  # as above
    name = type(error).__name__
    named = next((flag for part, flag in _BY_NAME if part in name), None)
    if named is None and isinstance(error, OSError):
        # A host out of reach, or a proxy that refuses, which http.client has no class for.
        is_network = type(error) is OSError or error.errno in _UNREACHABLE
        named = ("UC" if is_connected else "UF") if is_network else None
    return named


def _tls_reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's own words for the check that failed, such as "certificate has expired".
        return f"TLS_error:CERTIFICATE_VERIFY_FAILED:{_first_words(error)}"
    if type(error).__name__ == "CertificateError":  # urllib3 1.26 compares names itself
        return "TLS_error:CERTIFICATE_VERIFY_FAILED:Hostname_mismatch"
    if isinstance(error, _ENDS_OF_TLS):
        return None  # closed without a word: by whom and why, only the other side knows
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    return f"TLS_error:{reason}" if reason else None


def _first_words(error: ssl.SSLCertVerificationError) -> str:
    """Up to the first name in it: of a host, which may be anyone's."""
    return (
        str(getattr(error, "verify_message", ""))
        .partition("'")[0]
        .strip()
        .rstrip(".,:")
        .replace(" ", "_")
    )
