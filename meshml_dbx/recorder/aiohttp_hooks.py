"""Hooks in aiohttp: one call for each request that goes to a connection.

Every hop of a redirect, every try again and every request of a middleware asks the connector for a
connection (``connect``) and reads an answer from it (``start``): these two public methods see them
all, in sessions that were there before us too. Time spent on connecting comes from aiohttp's own
tracing, by a trace that is added to the one request and not to the session.
"""

import ssl
import sys
import time
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from meshml_dbx.recorder.address import end_text
from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.faults import ClosedByProgramError
from meshml_dbx.recorder.patches import Method, Patches
from meshml_dbx.recorder.recorder import Recorder

_OURS = "_meshml"
_SCHEMES = {"ws": "http", "wss": "https"}
_SWITCHED = 101

_current: ContextVar["_Request | None"] = ContextVar("meshml_aiohttp_request", default=None)


def hook_aiohttp(module: ModuleType, patches: Patches, recorder: Recorder) -> None:
    """Record what goes through the connectors of aiohttp.

    ``ClientSession._request`` is private, but all verbs meet there, and only there a time-out of
    the whole call differs from a cancelled task: below it, both are the same exception.
    ``wrap_bio`` is where asyncio begins a handshake, of which aiohttp's tracing does not tell.
    """
    tracer = _Tracer(module)
    patches.replace(module.ClientSession, "_request", lambda method: _request(method, recorder))
    patches.replace(
        module.BaseConnector, "connect", lambda method: _connect(method, recorder, tracer)
    )
    patches.replace(module.ClientResponse, "start", lambda method: _start(method, recorder))
    patches.replace(ssl.SSLContext, "wrap_bio", _wrap_bio)


class _Tracer:
    """Adds our trace to one request, and knows which exceptions are aiohttp's."""

    def __init__(self, module: ModuleType) -> None:
        self.closed_by_program: type[BaseException] = module.ClientConnectionError
        self.faults: tuple[type[BaseException], ...] = (
            module.client.asyncio.CancelledError,
            TimeoutError,
            module.ClientConnectionError,
            module.ClientPayloadError,
        )
        self._trace = module.tracing.Trace
        self._config = module.TraceConfig()
        self._config.on_connection_create_start.append(_note_connecting)
        self._config.on_connection_create_end.append(_note_connected)
        self._config.on_request_chunk_sent.append(_note_chunk)
        self._config.freeze()

    def added_to(self, traces: list[Any], request: "_Request", req: Any) -> list[Any]:
        """The traces of a connector's work for a request with ours, which go with that request.

        Only a body is worth being told of after that: it says when the request was out.
        """
        if request.is_traced:
            return traces
        ours = self._trace(None, self._config, request)
        if not req.body:
            return [*traces, ours]
        request.is_traced = True
        traces.append(ours)
        return traces


async def _note_connecting(_session: Any, request: "_Request", _params: Any) -> None:
    request.connecting_ns = time.perf_counter_ns()


async def _note_connected(_session: Any, request: "_Request", _params: Any) -> None:
    request.connected_ns = time.perf_counter_ns()


async def _note_chunk(_session: Any, request: "_Request", _params: Any) -> None:
    if request.call is not None and not request.call.answered_ns:
        request.call.note_sent()


class _Request:
    """What the program asked for: one call or, with redirects, several in a row."""

    __slots__ = (
        "call",
        "connected_ns",
        "connecting_ns",
        "error",
        "is_traced",
        "recorder",
        "tls_ns",
    )

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.call: OpenCall | None = None
        self.error: BaseException | None = None
        self.is_traced = False
        self.connecting_ns = self.connected_ns = self.tls_ns = 0

    def begin(self, request: Any) -> OpenCall:
        """A call begins; one that failed before it was tried again."""
        if self.error is not None:
            self.fail(self.error)
        self.connecting_ns = self.connected_ns = self.tls_ns = 0
        url, headers = request.url, request.headers
        self.call = call = self.recorder.begin(
            request.method,
            _SCHEMES.get(url.scheme, url.scheme),
            url.raw_host or "",
            url.port,
            url.raw_path_qs,
            part=headers.get("Range"),
        )
        size = headers.get("Content-Length", "0")
        if size.isdigit() and "Transfer-Encoding" not in headers:  # else nobody knows yet
            call.bytes_in = int(size)
        return call

    def note_ready(self, call: OpenCall) -> None:
        """There is a connection; opened for this call, it says how long that took."""
        if not self.connected_ns:
            call.note_sending()
            return
        tls_us = (self.connected_ns - self.tls_ns) // 1000 if self.tls_ns else None
        spent_us = (self.connected_ns - self.connecting_ns) // 1000
        call.note_connected(spent_us - (tls_us or 0), tls_us)

    def fail(self, error: BaseException) -> None:
        """There is no answer; what went wrong after one is told where its body ends."""
        self.error = None
        if self.call is not None and not self.call.answered_ns:
            self.recorder.finish(self.call, error)


def _request(original: Method, recorder: Recorder) -> Method:
    async def _request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not recorder.is_on:
            return await original(self, *args, **kwargs)
        outer, request = _current.get(), _Request(recorder)
        _current.set(request)
        try:
            return await original(self, *args, **kwargs)
        except BaseException as error:
            request.fail(error)
            raise
        finally:
            _current.set(outer)

    return _request


def _connect(original: Method, recorder: Recorder, tracer: _Tracer) -> Method:
    async def connect(self: Any, req: Any, traces: list[Any], timeout: Any) -> Any:
        request = _current.get() or _Request(recorder)
        call = _begin(request, req) if recorder.is_on else None
        if call is None:
            return await original(self, req, traces=traces, timeout=timeout)
        traces = tracer.added_to(traces, request, req)
        try:
            connection = await original(self, req, traces=traces, timeout=timeout)
        except BaseException as error:
            request.error = error
            if request is not _current.get():
                request.fail(error)  # nobody above us will know better
            raise
        _watch(request, call, connection, tracer)
        return connection

    return connect


def _begin(request: _Request, req: Any) -> OpenCall | None:
    try:
        return request.begin(req)
    except Exception as error:
        request.recorder.warn("a call is not recorded", error)
        return None


def _watch(request: _Request, call: OpenCall, connection: Any, tracer: _Tracer) -> None:
    try:
        request.note_ready(call)
        exchange = _Exchange(request, call, tracer)
        exchange.note_link(connection)
        connection.add_callback(exchange.release)
        setattr(connection, _OURS, exchange)
    except Exception as error:
        request.recorder.warn("a connection is not recorded", error)


def _start(original: Method, recorder: Recorder) -> Method:
    async def start(self: Any, connection: Any) -> Any:
        exchange: _Exchange | None = getattr(connection, _OURS, None)
        if exchange is None:
            return await original(self, connection)
        exchange.wait()
        try:
            response = await original(self, connection)
        except BaseException as error:
            recorder.finish(exchange.call, error)
            raise
        exchange.answer(self)
        return response

    return start


def _wrap_bio(original: Method) -> Method:
    def wrap_bio(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = _current.get()
        if request is not None:
            request.tls_ns = time.perf_counter_ns()
        return original(self, *args, **kwargs)

    return wrap_bio


class _Link:
    """What we keep on a connection while it lives: its number and its two ends."""

    __slots__ = ("address", "number", "peer")

    def __init__(self, number: int, transport: Any) -> None:
        self.number = number
        self.peer = end_text(transport.get_extra_info("peername"))
        self.address = end_text(transport.get_extra_info("sockname"))


class _Exchange:
    """A call that has its connection, until that is given back."""

    __slots__ = ("_content", "_is_waiting", "_recorder", "_tracer", "call")

    def __init__(self, request: _Request, call: OpenCall, tracer: _Tracer) -> None:
        self.call = call
        self._recorder = request.recorder
        self._tracer = tracer
        self._content: Any = None
        self._is_waiting = False

    def note_link(self, connection: Any) -> None:
        """Which connection the call is on; aiohttp has another object of it for each call."""
        protocol = connection.protocol
        link: _Link | None = getattr(protocol, _OURS, None)
        if link is None:
            link = _Link(self._recorder.next_connection(), connection.transport)
            setattr(protocol, _OURS, link)
        call = self.call
        call.connection_id, call.upstream_host, call.local_address = (
            link.number,
            link.peer,
            link.address,
        )

    def wait(self) -> None:
        """The request is out, or a large one is on its way; the wait for an answer begins."""
        self._is_waiting = True
        if not self.call.sent_ns:
            self.call.note_sent()

    def answer(self, response: Any) -> None:
        """Status and headers are here; the end of the body may be too."""
        self._is_waiting = False
        try:
            protocol = "HTTP/1.0" if response.version.minor == 0 else "HTTP/1.1"
            self.call.note_answered(response.status, protocol)
            self._content = response.content
            if response.status == _SWITCHED:
                self.end()  # what follows is not HTTP
            else:
                response.content.on_eof(self.end)
        except Exception as error:
            self._recorder.warn("the answer of a call is not recorded", error)

    def end(self) -> None:
        """The last byte of the body is here."""
        self._end(None)

    def release(self) -> None:
        """The connection is given back or closed: by the last byte, a fault, or the program."""
        content = self._content
        if self._is_waiting:
            return  # a short answer is whole before it is handed out
        if content is None:
            self._recorder.finish(self.call, self._fault_in_hand() or ClosedByProgramError())
        else:
            self._end(None if content.is_eof() else self._fault())

    def _end(self, error: BaseException | None) -> None:
        content, self._content = self._content, None
        if content is not None and not self.call.body_ended_ns:
            self.call.note_body_ended(_size(content))
            self._recorder.finish(self.call, error)

    def _fault(self) -> BaseException | None:
        """What ended the body early; None where its reader went away."""
        error: BaseException | None = self._content.exception()
        if error is not None and type(error) is not self._tracer.closed_by_program:
            return error
        return self._fault_in_hand()

    def _fault_in_hand(self) -> BaseException | None:
        """What is being handled now, unless the program did so when it called."""
        error = sys.exc_info()[1]
        is_ours = isinstance(error, self._tracer.faults) and id(error) != self.call.handled
        return error if is_ours else None


def _size(content: Any) -> int:
    """How many bytes of a body came, as they came; older versions know only what they unpacked."""
    unpacked = getattr(content, "total_bytes", 0)  # some say nothing of an empty body
    size: int = getattr(content, "total_raw_bytes", unpacked)
    return size
