"""What exceptions say of a call, in Envoy's flags; none of them was made up by a message."""

import asyncio
import errno
import http.client
import socket
import ssl
import zlib
from collections.abc import Callable

import pytest
import urllib3
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    EmptyPoolError,
    LocationParseError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    ResponseError,
    SSLError,
)

from meshml_dbx.recorder.faults import ClosedByProgramError, error_in_library, fault_of, name_of

MESSAGE = "https://me:pw@host/?token=s3cret"
POOL = HTTPConnectionPool("host")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """An exception as it is caught, with its cause."""
    try:
        raise error from cause
    except BaseException as caught:  # of any class
        return caught


@pytest.mark.parametrize(
    ("error", "flags"),
    [
        (ConnectionResetError(errno.ECONNRESET, MESSAGE), "UC"),
        (BrokenPipeError(errno.EPIPE, MESSAGE), "UC"),
        (http.client.RemoteDisconnected(MESSAGE), "UC"),
        (http.client.IncompleteRead(b"s3cret", 7), "UC"),
        (http.client.BadStatusLine(MESSAGE), "UPE"),
        (http.client.LineTooLong(MESSAGE), "UPE"),
        (TimeoutError(MESSAGE), "UT"),
        (ssl.SSLEOFError(8, MESSAGE), "UC"),
        (ssl.SSLZeroReturnError(6, MESSAGE), "UC"),
        (ProtocolError(MESSAGE, ConnectionResetError(MESSAGE)), "UC"),
        (ReadTimeoutError(POOL, MESSAGE, MESSAGE), "UT"),
        (raised(ReadTimeoutError(POOL, MESSAGE, MESSAGE), TimeoutError(MESSAGE)), "UT"),
        (MaxRetryError(POOL, MESSAGE, ResponseError(MESSAGE)), "URX"),
        (MaxRetryError(POOL, MESSAGE, ProtocolError(MESSAGE, BrokenPipeError(MESSAGE))), "UC"),
        (EmptyPoolError(POOL, MESSAGE), "UO"),
        (raised(DecodeError(MESSAGE), zlib.error(MESSAGE)), "UPE"),
        (KeyboardInterrupt(), "DC"),
        (GeneratorExit(), "DC"),
        (asyncio.CancelledError(), "DC"),
        (ClosedByProgramError(), "DC"),
        (KeyError(MESSAGE), "DC"),
        (LocationParseError(MESSAGE), "DC"),
        (FileNotFoundError(errno.ENOENT, MESSAGE, "/home/me/s3cret"), "DC"),
        (OSError(MESSAGE), "UC"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_once_connected_a_fault_has_its_flag(error: BaseException, flags: str) -> None:
    """Who ended the call, and how; nothing of any message."""
    fault = fault_of(error)
    assert fault.flags == flags
    assert [word for word in ("s3cret", "pw", "host") if word in repr(fault)] == []


@pytest.mark.parametrize(
    ("error", "flags"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, MESSAGE), "UF"),
        (TimeoutError(MESSAGE), "UF"),
        (socket.gaierror(socket.EAI_NONAME, MESSAGE), "DF"),
        (OSError(errno.ENETUNREACH, MESSAGE), "UF"),
        (OSError(errno.EHOSTUNREACH, MESSAGE), "UF"),
        (OSError("Tunnel connection failed: 407 s3cret"), "UF"),
        (ssl.SSLEOFError(8, MESSAGE), "UF"),
        (NewConnectionError(POOL, MESSAGE), "UF"),  # type: ignore[arg-type]  # a pool will do
        (ConnectTimeoutError(POOL, MESSAGE), "UF"),
        (MaxRetryError(POOL, MESSAGE, ConnectTimeoutError(MESSAGE)), "UF"),
        (ProxyError(MESSAGE, OSError(MESSAGE)), "UF"),
        (raised(NewConnectionError(POOL, MESSAGE), socket.gaierror(MESSAGE)), "DF"),  # type: ignore[arg-type]  # as above
        (MaxRetryError(POOL, MESSAGE, SSLError(ssl.SSLError(1, MESSAGE))), "UF"),
        (ConnectionResetError(MESSAGE), "UC"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_before_a_connection_a_fault_has_its_flag(error: BaseException, flags: str) -> None:
    """Names are told from connecting, and a time-out is no silence of a service."""
    fault = fault_of(error, is_connected=False)
    assert fault.flags == flags
    assert [word for word in ("s3cret", "pw", "host") if word in repr(fault)] == []


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (TimeoutError(), "TimeoutError"),
        (http.client.BadStatusLine("x"), "http.client.BadStatusLine"),
        (MaxRetryError(POOL, "/", ResponseError("x")), "urllib3.exceptions.ResponseError"),
        (ProtocolError("x", BrokenPipeError()), "urllib3.exceptions.ProtocolError"),
    ],
)
def test_details_are_the_class_that_the_program_would_catch(
    error: BaseException, details: str
) -> None:
    """As it is imported; of urllib3's last word on tries, what the last try met."""
    assert fault_of(error).details == details


def test_the_reason_of_tls_is_openssls() -> None:
    """An alert has its name; certificates have the check that failed, up to anybody's name."""
    alert = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
    assert fault_of(alert).tls_failure == "TLS_error:TLSV1_ALERT_UNKNOWN_CA"
    check = ssl.SSLCertVerificationError(1, "x")
    check.verify_message = "Hostname mismatch, certificate is not valid for 'secret.corp'."
    expected = "Hostname_mismatch,_certificate_is_not_valid_for"
    failure = fault_of(check, is_connected=False).tls_failure
    assert failure == f"TLS_error:CERTIFICATE_VERIFY_FAILED:{expected}"


def test_what_was_handled_already_is_no_cause() -> None:
    """A program's own mistake, made while it handles a lost connection, stays its own."""
    lost = ConnectionResetError()
    try:
        raise lost
    except ConnectionResetError:
        mistake = raised(KeyError("x"))
    assert fault_of(mistake).flags == "UC"
    assert fault_of(mistake, handled=id(lost)).flags == "DC"


def test_causes_that_go_in_circles_end() -> None:
    """Exceptions may be each other's causes; nothing hangs."""
    one, other = KeyError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert fault_of(one).flags == "DC"


def test_strange_exceptions_are_told_too() -> None:
    """Attributes of other classes that happen to have the names that are looked at."""

    class OddError(Exception):
        reason = 7
        args = (None, b"x", ValueError())

    assert fault_of(OddError()).flags == "DC"
    assert name_of(OddError()).endswith("OddError")


def _outcome(program: Callable[[], object]) -> BaseException | None:
    """What counts as a library's error while the program handles its own."""
    try:
        program()
    except Exception:
        return error_in_library()
    raise AssertionError("the program was to fail")


def test_only_what_a_library_handles_is_a_librarys_error() -> None:
    """The program's own handler says nothing of the call that it makes in it."""
    assert error_in_library() is None
    assert _outcome(lambda: int("x")) is None
    assert _outcome(lambda: socket.create_connection(("127.0.0.1", 0), 1)) is None


_OF_THE_PROGRAM = {
    "BodyNotHttplibCompatible",
    "ClosedPoolError",
    "FullPoolError",
    "HTTPError",
    "HeaderParsingError",
    "HostChangedError",
    "InvalidHeader",
    "LocationParseError",
    "LocationValueError",
    "PoolError",
    "ProxySchemeUnknown",
    "RequestError",
    "ResponseNotChunked",
    "URLSchemeUnknown",
    "UnrewindableBodyError",
}


def test_every_exception_of_urllib3_is_the_networks_or_the_programs() -> None:
    """A class that a new version brings is found here, and not in somebody's log."""
    kinds = {
        kind
        for kind in vars(urllib3.exceptions).values()
        if isinstance(kind, type) and issubclass(kind, urllib3.exceptions.HTTPError)
    }
    own = {kind.__name__ for kind in kinds if fault_of(kind.__new__(kind)).flags == "DC"}
    assert own | {"FullPoolError"} == _OF_THE_PROGRAM  # which 1.26 has not
