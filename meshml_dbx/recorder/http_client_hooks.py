"""Hooks in ``http.client``: every try of urllib, urllib3, requests, boto3, MLflow and the SDK.

What they all do in the end is a connection's ``putrequest`` and ``getresponse``; between lie
connecting, sending, the wait for the first byte, and after them the body. A try that belongs to a
call of urllib3 is noted on that call, any other is a call of its own.
"""

import http.client
import ssl
import sys
import time
import weakref
from typing import Any
from urllib.parse import urlsplit

from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.faults import ClosedByProgramError
from meshml_dbx.recorder.patches import Method, Patches
from meshml_dbx.recorder.recorder import Recorder

_OURS = "_meshml"
RANGE = "range"


class Line:
    """What we keep on a connection: its number, the call on it, and how it was opened."""

    __slots__ = ("address", "call", "is_owner", "number", "opened", "part", "peer")

    def __init__(self, number: int) -> None:
        self.number = number
        self.call: OpenCall | None = None
        self.is_owner = False
        self.opened: tuple[int, int | None] | None = None
        self.part: str | None = None
        self.peer: str | None = None
        self.address: str | None = None


def hook_http_client(patches: Patches, recorder: Recorder) -> None:
    """Record what goes through ``http.client``."""
    plain, secure = http.client.HTTPConnection, http.client.HTTPSConnection
    patches.replace(plain, "request", lambda method: _request(method, recorder))
    patches.replace(plain, "putrequest", lambda method: _putrequest(method, recorder))
    patches.replace(plain, "endheaders", lambda method: _endheaders(method, recorder))
    patches.replace(plain, "getresponse", lambda method: _getresponse(method, recorder))
    patches.replace(plain, "close", lambda method: _close(method, recorder))
    for kind in (plain, secure):
        patches.replace(kind, "connect", lambda method: time_connect(method, recorder))
    patches.replace(ssl.SSLContext, "wrap_socket", lambda method: _wrap_socket(method, recorder))


def time_connect(original: Method, recorder: Recorder) -> Method:
    """A connection's ``connect`` that notes how long it took, on the call that waited for it."""

    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        local = recorder.local
        if not recorder.is_on or getattr(local, "is_connecting", False):
            return original(self, *args, **kwargs)
        local.is_connecting, local.tls_ns = True, None
        began = time.perf_counter_ns()
        try:
            return original(self, *args, **kwargs)
        finally:
            local.is_connecting = False
            _note_connect(recorder, self, time.perf_counter_ns() - began, local)

    return connect


def current_call(recorder: Recorder) -> OpenCall | None:
    """The call of urllib3 that this thread is in, if it is in one."""
    return getattr(recorder.local, "call", None)


def _line_of(recorder: Recorder, connection: Any) -> Line:
    line = getattr(connection, _OURS, None)
    if line is None:
        line = Line(recorder.next_connection())
        setattr(connection, _OURS, line)
    found: Line = line
    return found


def _note_connect(recorder: Recorder, connection: Any, spent_ns: int, local: Any) -> None:
    try:
        line = _fresh_line(recorder, connection)
        tls_us = None if local.tls_ns is None else local.tls_ns // 1000
        line.opened = (spent_ns // 1000 - (tls_us or 0), tls_us)
        call, error = line.call or current_call(recorder), sys.exc_info()[1]
        if call is not None and error is None:
            call.note_connected(*line.opened)
        elif call is not None:
            call.error, call.sending_ns = error, 0
    except Exception as error:
        recorder.warn("a connection is not recorded", error)


def _fresh_line(recorder: Recorder, connection: Any) -> Line:
    """The line of a connection that was just opened, perhaps for a call that is noted already."""
    before: Line | None = getattr(connection, _OURS, None)
    if before is not None and before.opened is None and before.peer is None:
        return before
    line = Line(recorder.next_connection())
    if before is not None:
        line.call, line.is_owner, line.part = before.call, before.is_owner, before.part
    setattr(connection, _OURS, line)
    return line


def _wrap_socket(original: Method, recorder: Recorder) -> Method:
    def wrap_socket(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(recorder.local, "is_connecting", False):
            return original(self, *args, **kwargs)
        began = time.perf_counter_ns()
        try:
            return original(self, *args, **kwargs)
        finally:
            recorder.local.tls_ns = time.perf_counter_ns() - began

    return wrap_socket


def _request(original: Method, recorder: Recorder) -> Method:
    """Only to know which range of a thing is asked for."""

    def request(
        self: Any, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any
    ) -> Any:
        given = {} if headers is None else headers
        if recorder.is_on and current_call(recorder) is None:
            try:
                _line_of(recorder, self).part = range_of(given)
            except Exception as error:
                recorder.warn("a call's range is not recorded", error)
        return original(self, method, url, body, given, **kwargs)

    return request


def _putrequest(original: Method, recorder: Recorder) -> Method:
    def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        if recorder.is_on:
            _begin_try(recorder, self, method, url)
        return original(self, method, url, *args, **kwargs)

    return putrequest


def _begin_try(recorder: Recorder, connection: Any, method: str, url: str) -> None:
    try:
        line = _line_of(recorder, connection)
        if line.call is not None and line.is_owner:
            recorder.finish(line.call)  # its answer was left unread, and the connection goes on
        call = current_call(recorder)
        line.is_owner = call is None
        line.call = call or _own_call(recorder, connection, method, url, line.part)
        line.part = None
        line.call.note_sending()
    except Exception as error:
        recorder.warn("a call is not recorded", error)


def _own_call(
    recorder: Recorder, connection: Any, method: str, url: str, part: str | None
) -> OpenCall:
    secure = isinstance(connection, http.client.HTTPSConnection)
    scheme = "https" if secure else "http"
    host, port = connection.host, connection.port
    if "://" in url:  # to a proxy: the whole address
        scheme, host, port = _split(url)
    elif getattr(connection, "_tunnel_host", None):
        host, port = connection._tunnel_host, connection._tunnel_port
    call = recorder.begin(method, scheme, host, port, url, part=part)
    call.is_returned = True
    return call


def _split(url: str) -> tuple[str, str, int | None]:
    found = urlsplit(url)
    return found.scheme, found.hostname or "", found.port


def _endheaders(original: Method, recorder: Recorder) -> Method:
    def endheaders(self: Any, message_body: Any = None, **kwargs: Any) -> Any:
        line: Line | None = getattr(self, _OURS, None)
        if line is None or line.call is None or not recorder.is_on:
            return original(self, message_body, **kwargs)
        if isinstance(message_body, bytes):
            line.call.bytes_in = len(message_body)
        call = line.call
        try:
            return original(self, message_body, **kwargs)
        except BaseException as error:
            line = _line_of(recorder, self)  # connecting may have made another
            line.call = None
            _fail(recorder, self, line, call, error)
            raise

    return endheaders


def _getresponse(original: Method, recorder: Recorder) -> Method:
    def getresponse(self: Any) -> Any:
        line: Line | None = getattr(self, _OURS, None)
        if line is None or line.call is None or not recorder.is_on:
            return original(self)
        call, line.call = line.call, None  # what it closes now is not closed by the program
        call.note_sent()
        try:
            response = original(self)
        except BaseException as error:
            _fail(recorder, self, line, call, error)
            raise
        _note_answer(recorder, self, line, call, response)
        return response

    return getresponse


def _fail(
    recorder: Recorder, connection: Any, line: Line, call: OpenCall, error: BaseException
) -> None:
    """A try without an answer; a call of its own is over with it."""
    call.error = error
    _note_line(line, connection, call)
    if line.is_owner:
        recorder.finish(call, error)


def _note_line(line: Line, connection: Any, call: OpenCall) -> None:
    """Which connection the call is on; who opened it says how long that took."""
    call.connection_id = line.number
    if line.peer is None and getattr(connection, "sock", None) is not None:
        line.peer, line.address = _ends(connection.sock)
    call.upstream_host, call.local_address = line.peer, line.address


def _ends(sock: Any) -> tuple[str, str]:
    try:
        return _shown(sock.getpeername()), _shown(sock.getsockname())
    except (OSError, AttributeError, TypeError):
        return "", ""


def _shown(name: Any) -> str:
    if not isinstance(name, tuple):  # a Unix socket's path
        return ""
    host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
    return f"{host}:{name[1]}"


def _note_answer(
    recorder: Recorder, connection: Any, line: Line, call: OpenCall, response: Any
) -> None:
    try:
        _note_line(line, connection, call)
        call.note_answered(response.status, "HTTP/1.0" if response.version == 10 else "HTTP/1.1")  # noqa: PLR2004  # as http.client counts
        tries = len(call.tries)
        body = response.fp
        if body is None or (response.length == 0 and not response.chunked):
            _end_body(recorder, call, tries, 0)
        else:
            _watch_body(recorder, call, tries, response, body)
    except Exception as error:
        recorder.warn("the end of a call is not recorded", error)


def _watch_body(recorder: Recorder, call: OpenCall, tries: int, response: Any, body: Any) -> None:
    """Notice when the body is closed: http.client does so with its last byte, or its reader does.

    No strong references: a response that nobody reads must go away as early as without us.
    """
    whole = None if response.chunked else response.length
    told, held = weakref.ref(response), weakref.ref(body)

    def close() -> None:
        found = told()
        left = getattr(found, "length", None) or 0
        _end_body(recorder, call, tries, None if whole is None else whole - left)
        owner = held()
        if owner is not None:
            type(owner).close(owner)

    body.close = close


def _end_body(recorder: Recorder, call: OpenCall, tries: int, size: int | None) -> None:
    """Of an earlier try only the moment counts; of the last one it may be the call's end."""
    if len(call.tries) != tries or call.body_ended_ns:
        return
    call.note_body_ended(size)
    if call.is_returned:
        recorder.finish(call)


def _close(original: Method, recorder: Recorder) -> Method:
    def close(self: Any) -> Any:
        line: Line | None = getattr(self, _OURS, None)
        if line is not None and line.call is not None and line.is_owner:
            call, line.call = line.call, None
            _fail(recorder, self, line, call, sys.exc_info()[1] or ClosedByProgramError())
        return original(self)

    return close


def range_of(headers: Any) -> str | None:
    """The range that request headers ask for; headers may be a mapping or pairs."""
    pairs = headers.items() if hasattr(headers, "items") else headers
    for name, value in pairs:
        text = name.decode("latin-1") if isinstance(name, bytes) else str(name)
        if text.lower() == RANGE:
            return str(value)
    return None
