"""Hooks in ``http.client``: every try of urllib, urllib3, requests, boto3, MLflow and the SDK.

What they all do in the end is a connection's ``putrequest`` and ``getresponse``; between lie
connecting, sending, the wait for the first byte, and after them the body. A try that belongs to a
call of urllib3 is noted on that call, any other is a call of its own.
"""

import http.client
import ssl
import time
from typing import Any

from meshml_dbx.recorder.address import called, end_text
from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.faults import ClosedByProgramError, error_in_library
from meshml_dbx.recorder.patches import Method, Patches
from meshml_dbx.recorder.recorder import Recorder

_OURS, _BODY = "_meshml", "_meshml_body"
_READERS = ("read", "read1", "readinto", "readline")
_HTTP_1_0 = 10
"""How http.client counts."""

RANGE, CONTENT_LENGTH = "range", "content-length"


class Line:
    """What we keep on a connection: its number, the call on it, and where its ends are."""

    __slots__ = ("address", "call", "is_opened", "is_owner", "number", "part", "peer", "recorder")

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.number = recorder.next_connection()
        self.call: OpenCall | None = None
        self.is_owner = False
        self.is_opened = False
        self.part: str | None = None
        self.peer: str | None = None
        self.address: str | None = None

    def let_go(self) -> None:
        """The connection ends or goes on without the answer to its call."""
        call, self.call = self.call, None
        if call is not None and self.is_owner:
            error = error_in_library() or ClosedByProgramError()
            _fail(self.recorder, None, self, call, error)

    def __del__(self) -> None:
        # The program dropped the connection as it was; at its very end there is nothing to note.
        if self.call is not None and self.recorder.is_on:
            self.let_go()


def hook_http_client(patches: Patches, recorder: Recorder) -> None:
    """Record what goes through ``http.client``."""
    plain, secure = http.client.HTTPConnection, http.client.HTTPSConnection
    patches.replace(plain, "request", lambda method: _request(method, recorder))
    patches.replace(plain, "putrequest", lambda method: _putrequest(method, recorder))
    patches.replace(plain, "endheaders", lambda method: _endheaders(method, recorder))
    patches.replace(plain, "send", _send)
    patches.replace(plain, "getresponse", lambda method: _getresponse(method, recorder))
    patches.replace(plain, "close", lambda method: _close(method, recorder))
    for kind in (plain, secure):
        patches.replace(kind, "connect", lambda method: time_connect(method, recorder))
    for name in _READERS:
        patches.replace(http.client.HTTPResponse, name, lambda method: _read(method, recorder))
    patches.replace(http.client.HTTPResponse, "_close_conn", lambda m: _close_conn(m, recorder))
    patches.replace(ssl.SSLContext, "wrap_socket", lambda method: _wrap_socket(method, recorder))


def current_call(recorder: Recorder, connection: Any) -> OpenCall | None:
    """The call of urllib3 that this thread is in, if the connection is one of its pool's.

    Others may be used within it: by a request's body while it is produced.
    """
    local = recorder.local
    call: OpenCall | None = getattr(local, "call", None)
    return call if call is not None and isinstance(connection, local.kind) else None


def time_connect(original: Method, recorder: Recorder) -> Method:
    """A connection's ``connect`` that notes how long it took, on the call that waited for it."""

    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        local = recorder.local
        if not recorder.is_on or getattr(local, "is_connecting", False):
            return original(self, *args, **kwargs)
        local.is_connecting, local.tls_ns = True, None
        began = time.perf_counter_ns()
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            _note_connect(recorder, self, began, error)
            raise
        else:
            _note_connect(recorder, self, began, None)
            return result
        finally:
            local.is_connecting = False

    return connect


def _note_connect(
    recorder: Recorder, connection: Any, began_ns: int, error: BaseException | None
) -> None:
    try:
        spent_us, tls_ns = (time.perf_counter_ns() - began_ns) // 1000, recorder.local.tls_ns
        tls_us = None if tls_ns is None else tls_ns // 1000
        line = _fresh_line(recorder, connection)
        _note_ends(line, connection)
        call = line.call or current_call(recorder, connection)
        if call is None:
            return
        if error is None:
            call.note_connected(spent_us - (tls_us or 0), tls_us)
        else:
            call.error, call.sending_ns = error, 0
    except Exception as trouble:
        recorder.warn("a connection is not recorded", trouble)


def _line_of(recorder: Recorder, connection: Any) -> Line:
    line = getattr(connection, _OURS, None)
    if line is None or line.recorder is not recorder:
        line = Line(recorder)
        setattr(connection, _OURS, line)
    found: Line = line
    return found


def _fresh_line(recorder: Recorder, connection: Any) -> Line:
    """The line of a connection that was just opened, perhaps for a call that is noted already."""
    before = line = _line_of(recorder, connection)
    if before.is_opened or before.peer is not None:
        line = Line(recorder)
        line.is_owner, line.part = before.is_owner, before.part
        line.call, before.call = before.call, None
        setattr(connection, _OURS, line)
    line.is_opened = True
    return line


def _wrap_socket(original: Method, recorder: Recorder) -> Method:
    def wrap_socket(self: Any, *args: Any, **kwargs: Any) -> Any:
        local = recorder.local
        if not getattr(local, "is_connecting", False):
            return original(self, *args, **kwargs)
        began = time.perf_counter_ns()
        try:
            return original(self, *args, **kwargs)
        finally:
            local.tls_ns = time.perf_counter_ns() - began

    return wrap_socket


def _request(original: Method, recorder: Recorder) -> Method:
    """Only to know which range of a thing is asked for."""

    def request(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        headers = args[1] if len(args) > 1 else kwargs.get("headers")
        if headers and recorder.is_on and current_call(recorder, self) is None:
            try:
                _line_of(recorder, self).part = told_by(headers, RANGE)
            except Exception as error:
                recorder.warn("a call's range is not recorded", error)
        return original(self, method, url, *args, **kwargs)

    return request


def _putrequest(original: Method, recorder: Recorder) -> Method:
    def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        result = original(self, method, url, *args, **kwargs)  # what it refuses is no call
        if recorder.is_on:
            _begin_try(recorder, self, method, url)
        return result

    return putrequest


def _begin_try(recorder: Recorder, connection: Any, method: str, url: str) -> None:
    try:
        line = _line_of(recorder, connection)
        if line.call is not None:
            line.let_go()
        call = current_call(recorder, connection)
        line.is_owner = call is None
        line.call = call = call or _own_call(recorder, connection, method, url, line.part)
        line.part = None
        call.note_sending()
    except Exception as error:
        recorder.warn("a call is not recorded", error)


def _own_call(
    recorder: Recorder, connection: Any, method: str, url: str, part: str | None
) -> OpenCall:
    scheme = "https" if isinstance(connection, http.client.HTTPSConnection) else "http"
    tunnel = getattr(connection, "_tunnel_host", None)
    host, port = (tunnel, connection._tunnel_port) if tunnel else (connection.host, connection.port)
    call = recorder.begin(method, *called(scheme, host, port, url), url, part=part)
    call.is_returned = True
    return call


def _endheaders(original: Method, recorder: Recorder) -> Method:
    def endheaders(self: Any, message_body: Any = None, **kwargs: Any) -> Any:
        line: Line | None = getattr(self, _OURS, None)
        if line is None or line.call is None or not recorder.is_on:
            return original(self, message_body, **kwargs)
        call = line.call
        if line.is_owner and (message_body is None or isinstance(message_body, bytes)):
            call.bytes_in = len(message_body or b"")
        try:
            return original(self, message_body, **kwargs)
        except BaseException as error:
            line = _line_of(recorder, self)  # connecting may have made another
            line.call = None
            _fail(recorder, self, line, call, error)
            raise

    return endheaders


def _send(original: Method) -> Method:
    """Only to know why a body that the program sends itself does not arrive."""

    def send(self: Any, data: Any) -> Any:
        try:
            return original(self, data)
        except OSError as error:
            line: Line | None = getattr(self, _OURS, None)
            if line is not None and line.call is not None:
                line.call.error = error
            raise

    return send


def _getresponse(original: Method, recorder: Recorder) -> Method:
    def getresponse(self: Any) -> Any:
        line: Line | None = getattr(self, _OURS, None)
        if line is None or line.call is None or not recorder.is_on:
            return original(self)
        call, line.call = line.call, None  # what it closes now is not closed by the program
        _note_line(line, self, call)
        call.note_sent()
        try:
            response = original(self)
        except BaseException as error:
            _fail(recorder, self, line, call, error)
            raise
        _note_answer(recorder, line, call, response)
        return response

    return getresponse


def _fail(
    recorder: Recorder, connection: Any, line: Line, call: OpenCall, error: BaseException
) -> None:
    """A try without an answer; a call of its own is over with it."""
    _note_line(line, connection, call)
    if line.is_owner:
        recorder.finish(call, call.error or error)
    else:
        call.error = error


def _note_line(line: Line, connection: Any, call: OpenCall) -> None:
    """Which connection the call is on, and where its ends are."""
    call.connection_id = line.number
    if line.peer is None:
        _note_ends(line, connection)
    call.upstream_host, call.local_address = line.peer, line.address


def _note_ends(line: Line, connection: Any) -> None:
    """As early as may be: a socket that was reset cannot say any more whose it was."""
    sock = getattr(connection, "sock", None)
    if sock is not None:
        line.peer, line.address = _ends(sock)


def _ends(sock: Any) -> tuple[str, str]:
    """Both ends, each by itself: of a connection that the other side has reset, ours is known."""
    return _end(sock, "getpeername"), _end(sock, "getsockname")


def _end(sock: Any, side: str) -> str:
    try:
        return end_text(getattr(sock, side)())
    except (OSError, AttributeError, TypeError):
        return ""


def _note_answer(recorder: Recorder, line: Line, call: OpenCall, response: Any) -> None:
    try:
        call.error = None  # a body that the server did not want, but answered
        protocol = "HTTP/1.0" if response.version == _HTTP_1_0 else "HTTP/1.1"
        call.note_answered(response.status, protocol)
        if response.fp is None or (response.length == 0 and not response.chunked):
            _end_body(recorder, call, len(call.tries), 0)
        else:
            whole = None if response.chunked else response.length
            setattr(response, _BODY, (call, len(call.tries), whole))
            if line.is_owner:
                setattr(response, _OURS, call)
    except Exception as error:
        recorder.warn("the end of a call is not recorded", error)
        recorder.finish(call)


def _close_conn(original: Method, recorder: Recorder) -> Method:
    """Where every answer's body ends: with its last byte, when its reader closes it, or drops it.

    A method of http.client's own (since Python 3.3), since no public one is called at all of these;
    and the response is not kept alive for it.
    """

    def close_conn(self: Any) -> Any:
        told: tuple[OpenCall, int, int | None] | None = self.__dict__.pop(_BODY, None)
        if told is not None and recorder.is_on:
            try:
                size, error = _how_it_ended(self, told[2])
                _end_body(recorder, told[0], told[1], size, error)
            except Exception as trouble:
                recorder.warn("the end of a call is not recorded", trouble)
        return original(self)

    return close_conn


def _how_it_ended(response: Any, whole: int | None) -> tuple[int | None, BaseException | None]:
    """How much of a body was read, and what broke it off, if it was not its reader."""
    if whole is None:
        return None, error_in_library()
    left = response.length or 0
    if not left:
        return whole, None
    error = error_in_library()
    if error is None and not response.closed:  # http.client itself found the end, too early
        error = http.client.IncompleteRead(b"", left)
    return whole - left, error


def _end_body(
    recorder: Recorder,
    call: OpenCall,
    tries: int,
    size: int | None,
    error: BaseException | None = None,
) -> None:
    """Of an earlier try only the moment counts; of the last one it may be the call's end."""
    if len(call.tries) != tries or call.body_ended_ns:
        return
    call.note_body_ended(size)
    call.error = error
    if call.is_returned:
        recorder.finish(call)


def _read(original: Method, recorder: Recorder) -> Method:
    """Reading that notes why it fails: http.client closes some broken bodies only later."""

    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except (OSError, http.client.HTTPException) as error:
            call: OpenCall | None = getattr(self, _OURS, None)
            if call is not None:
                _end_body(recorder, call, len(call.tries), None, error)
            raise

    return read


def _close(original: Method, recorder: Recorder) -> Method:
    def close(self: Any) -> Any:
        line: Line | None = getattr(self, _OURS, None)
        is_ended = line is not None and line.call is not None
        # A proxy that refuses is closed while connecting; the reason comes after that.
        if line is not None and is_ended and not getattr(recorder.local, "is_connecting", False):
            line.let_go()
        return original(self)

    return close


def told_by(headers: Any, name: str) -> str | None:
    """What a request's header says; headers are a mapping, or a list of pairs."""
    if isinstance(headers, dict):
        headers = headers.items()
    elif hasattr(headers, "get"):  # of requests, urllib3 or botocore: they ask for no case
        value = headers.get(name)
        return None if value is None else _text(value)
    elif not isinstance(headers, list | tuple):
        return None  # perhaps it can be walked only once
    size = len(name)
    for key, value in headers:
        if len(key) == size and _text(key).lower() == name:
            return _text(value)
    return None


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
