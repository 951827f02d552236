"""Hooks in httpx: one call for each exchange that its transports have with a server.

Redirects, steps of authentication and retries by the program are exchanges of their own. Inside an
exchange httpcore's documented ``trace`` extension tells when it connects, sends, reads and ends; a
program's own trace is told the same. The connections that ``retries=n`` makes belong to one call.
"""

import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from types import ModuleType
from typing import Any

from meshml_dbx.recorder.address import end_text
from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.patches import Method, Patches
from meshml_dbx.recorder.recorder import Recorder

_OURS = "_meshml"
_TRACE = "trace"

Info = Mapping[str, Any]
Trace = Callable[[str, Info], Any]


def hook_httpx(module: ModuleType, patches: Patches, recorder: Recorder) -> None:
    """Record what goes through the transports of httpx.

    They are where every client meets the network, whatever its mounts and proxies; transports
    that answer by themselves (WSGI, ASGI, mocks) call nobody and are not recorded.
    """
    plain, asynchronous = module.HTTPTransport, module.AsyncHTTPTransport
    patches.replace(plain, "handle_request", lambda method: _handle(method, recorder))
    patches.replace(
        asynchronous, "handle_async_request", lambda method: _handle_async(method, recorder)
    )


def _handle(original: Method, recorder: Recorder) -> Method:
    def handle_request(self: Any, request: Any) -> Any:
        exchange = _begin(recorder, request, None) if recorder.is_on else None
        if exchange is None:
            return original(self, request)
        exchange.listen(request)
        try:
            response = original(self, request)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            request.extensions = exchange.before
        exchange.answer(response)
        return response

    return handle_request


def _handle_async(original: Method, recorder: Recorder) -> Method:
    async def handle_async_request(self: Any, request: Any) -> Any:
        exchange = _begin(recorder, request, _nothing_async) if recorder.is_on else None
        if exchange is None:
            return await original(self, request)
        exchange.listen(request)
        try:
            response = await original(self, request)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            request.extensions = exchange.before
        exchange.answer(response)
        return response

    return handle_async_request


async def _nothing_async(_event: str, _info: Info) -> None:
    """The trace of a program that has none, as httpcore wants it of an asynchronous client."""


def _begin(recorder: Recorder, request: Any, nothing: Trace | None) -> "_Exchange | None":
    try:
        url = request.url
        size, part = _asked(request.headers.raw)
        call = recorder.begin(
            request.method,
            url.scheme,
            url.raw_host.decode("ascii"),
            url.port,
            url.raw_path.decode("ascii"),
            part=part,
        )
        call.bytes_in = size
        before = _extensions_of(request)
        return _Exchange(recorder, call, before, before.get(_TRACE) or nothing)
    except Exception as error:
        recorder.warn("a call is not recorded", error)
        return None


def _asked(headers: list[tuple[bytes, bytes]]) -> tuple[int | None, str | None]:
    """The size of a request's body, where it is known, and the range of a thing asked for."""
    size: int | None = 0
    part = None
    for name, value in headers:
        match name.lower():
            case b"content-length" if value.isdigit():
                size = int(value)
            case b"transfer-encoding":
                size = None
            case b"range":
                part = value.decode("latin-1")
    return size, part


def _extensions_of(request: Any) -> Mapping[str, Any]:
    """The program's own; not those of another call for which it sends the same request."""
    found: Mapping[str, Any] = request.extensions
    listening = getattr(found.get(_TRACE), "__self__", None)
    return listening.before if isinstance(listening, _Exchange) else found


class _Link:
    """What we keep on a connection: its number and its two ends."""

    __slots__ = ("address", "number", "peer")

    def __init__(self, number: int, stream: Any) -> None:
        self.number = number
        self.peer = self.address = ""
        with suppress(OSError):  # the other side may be gone already
            self.peer = end_text(stream.get_extra_info("server_addr"))
            self.address = end_text(stream.get_extra_info("client_addr"))


class _Exchange:
    """One request and its answer, as httpcore tells of them."""

    __slots__ = (
        "_began_ns",
        "_link",
        "_recorder",
        "_response",
        "_theirs",
        "_tls_ns",
        "_tls_us",
        "before",
        "call",
    )

    def __init__(
        self, recorder: Recorder, call: OpenCall, before: Mapping[str, Any], theirs: Trace | None
    ) -> None:
        self._recorder = recorder
        self.call = call
        self.before = before
        self._theirs = theirs
        self._began_ns = self._tls_ns = 0
        self._tls_us: int | None = None
        self._link: _Link | None = None
        self._response: weakref.ref[Any] | None = None

    def listen(self, request: Any) -> None:
        """Have httpcore, which takes over what the request has now, tell us of its steps."""
        request.extensions = {**self.before, _TRACE: self.trace}

    def trace(self, event: str, info: Info) -> Any:
        """What httpcore calls at each step, and waits for in an asynchronous client."""
        note = _note_of(event)
        if note is not None:
            try:
                note(self, info)
            except Exception as error:
                self._recorder.warn("a step of a call is not recorded", error)
        return None if self._theirs is None else self._theirs(event, info)

    def connecting(self, _info: Info) -> None:
        """A connection is being opened; another one, perhaps, after one that failed."""
        self._began_ns = time.perf_counter_ns()
        self._link = self._tls_us = None
        self.call.sending_ns = 0

    def connected(self, info: Info) -> None:
        """A connection is there; a handshake or the request follow."""
        self._note_opened()
        self._note_link(info["return_value"])

    def securing(self, _info: Info) -> None:
        """A handshake begins; a call without an answer to it never had a connection."""
        self._tls_ns = time.perf_counter_ns()
        self.call.sending_ns = 0

    def secured(self, info: Info) -> None:
        """The handshake is over; through a proxy over TLS it may be the second."""
        spent_us = (time.perf_counter_ns() - self._tls_ns) // 1000
        self._tls_us = (self._tls_us or 0) + spent_us
        self.connected(info)

    def _note_opened(self) -> None:
        spent_us = (time.perf_counter_ns() - self._began_ns) // 1000
        self.call.note_connected(spent_us - (self._tls_us or 0), self._tls_us)

    def _note_link(self, stream: Any) -> None:
        """A connection has another stream once it is secured, and stays the same."""
        link: _Link | None = self._link or getattr(stream, _OURS, None)
        self._link = link = link or _Link(self._recorder.next_connection(), stream)
        setattr(stream, _OURS, link)
        call = self.call
        call.connection_id, call.upstream_host, call.local_address = (
            link.number,
            link.peer,
            link.address,
        )

    def sending(self, _info: Info) -> None:
        """The request goes out; to a proxy, one that asks for a tunnel may go before."""
        self.call.note_sending()

    def sent(self, _info: Info) -> None:
        """The request is out, or as much of it as the server wanted."""
        self.call.note_sent()

    def fail(self, error: BaseException) -> None:
        """There is no answer."""
        self._recorder.finish(self.call, error)

    def answer(self, response: Any) -> None:
        """Status and headers are here; the body ends when httpcore says so.

        A response that is thrown away unread ends with it.
        """
        try:
            found = response.extensions
            version = found.get("http_version", b"HTTP/1.1").decode("ascii")
            self.call.note_answered(response.status_code, version)
            self._response = weakref.ref(response, lambda _: self._end(None))
            stream = found.get("network_stream")
            if stream is not None:
                self._note_link(stream)
        except Exception as error:
            self._recorder.warn("the answer of a call is not recorded", error)

    def read(self, _info: Info) -> None:
        """The last byte of the body was read."""
        self._end(None)

    def broken(self, info: Info) -> None:
        """Reading the body ended too early; a reader that goes away did nothing wrong."""
        error = info["exception"]
        self._end(None if isinstance(error, GeneratorExit) else error)

    def _end(self, error: BaseException | None) -> None:
        response, self._response = self._response, None
        if response is None:
            return  # a proxy's answer, or the body has ended
        found = response()
        self.call.note_body_ended(None if found is None else found.num_bytes_downloaded)
        self._recorder.finish(self.call, error)


_NOTES: dict[str, Callable[[_Exchange, Info], None]] = {
    "connect_tcp.started": _Exchange.connecting,
    "connect_tcp.complete": _Exchange.connected,
    "connect_unix_socket.started": _Exchange.connecting,
    "connect_unix_socket.complete": _Exchange.connected,
    "start_tls.started": _Exchange.securing,
    "start_tls.complete": _Exchange.secured,
    "send_request_headers.started": _Exchange.sending,
    "send_request_body.complete": _Exchange.sent,
    "send_request_body.failed": _Exchange.sent,
    "receive_response_body.complete": _Exchange.read,
    "receive_response_body.failed": _Exchange.broken,
    "response_closed.started": _Exchange.read,
}
"""By httpcore's names of events, without the part that says who tells."""


@lru_cache(maxsize=256)
def _note_of(event: str) -> Callable[[_Exchange, Info], None] | None:
    return _NOTES.get(event.partition(".")[2])
