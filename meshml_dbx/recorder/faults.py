"""What an exception of an HTTP library says of a call, in Envoy's response flags.

Goes in: an exception. Comes out: flags, the class's name, and the reason of a TLS failure. Never
a message: it may hold an address with a token in it.
"""

import asyncio
import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
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
    asyncio.CancelledError,
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
    ("ResponseError", "URX"),
    ("RetryError", "URX"),
    ("EmptyPoolError", "UO"),
    ("PoolTimeout", "UO"),
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
    ("ProtocolError", "UC"),
    ("ClientOSError", "UC"),
)
"""By a part of the class's name, for libraries that may not be installed; the first one counts."""

_UNREACHABLE = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a call has no whole answer: Envoy's flag, the exception's class, a TLS reason."""

    flags: str
    details: str
    tls_failure: str | None = None


def fault_of(error: BaseException, *, is_connected: bool = True) -> Fault:
    """The fault that an exception tells of; the cause of a chain that tells most decides.

    Args:
        is_connected: whether a connection was there: without one, a time-out is a failure to
            connect and not the service's silence.

    >>> fault_of(ConnectionResetError()).flags
    'UC'
    >>> fault_of(TimeoutError(), is_connected=False).flags
    'UF'
    """
    chain = list(_causes(error))
    flags = next((flag for one in chain if (flag := _flag(one, is_connected))), None)
    inner = getattr(error, "reason", None)  # of urllib3's MaxRetryError: what the last try met
    reasons = (_tls_reason(one) for one in chain)
    return Fault(
        flags=flags or ("UPE" if is_connected else "UF"),
        details=name_of(inner if isinstance(inner, BaseException) else error),
        tls_failure=next((reason for reason in reasons if reason), None),
    )


def name_of(error: BaseException) -> str:
    """The class of an exception with its module, as it is imported; built-in ones bare.

    >>> name_of(http.client.RemoteDisconnected())
    'http.client.RemoteDisconnected'
    """
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The innermost first: what the operating system said is surer than how a library calls it."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and len(chain) < MOST_CAUSES and one not in chain:
        chain.append(one)
        inner = getattr(one, "reason", None) or next(
            (arg for arg in one.args if isinstance(arg, BaseException)), None
        )
        one = inner if isinstance(inner, BaseException) else one.__cause__ or one.__context__
    return reversed(chain)


def _flag(error: BaseException, is_connected: bool) -> str | None:  # noqa: FBT001  # of the same fault
    if isinstance(error, _CANCELLED):
        return "DC"
    if not is_connected and isinstance(error, TimeoutError):
        return "UF"
    found = next((flag for kind, flag in _BY_CLASS if isinstance(error, kind)), None)
    if found or (isinstance(error, OSError) and error.errno in _UNREACHABLE):
        return found or "UF"
    if isinstance(error, TimeoutError):
        return "UT"
    name = type(error).__name__
    return next((flag for part, flag in _BY_NAME if part in name), None)


def _tls_reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's own words for the check that failed, such as "certificate has expired".
        return f"TLS_error:CERTIFICATE_VERIFY_FAILED:{_first_words(error.verify_message)}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS_error:{error.reason}"
    return None


def _first_words(text: str) -> str:
    """Up to the first name in it: of a host, which may be anyone's."""
    return str(text).partition("'")[0].strip().rstrip(".,:").replace(" ", "_")
