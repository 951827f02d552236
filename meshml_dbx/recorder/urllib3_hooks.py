"""Hooks in urllib3, 1.26 and 2.x: one call of a pool, with its tries, redirects and back-off.

``urlopen`` calls itself for each new try and for each redirect on the same host; what it is called
with says which. Its tries are seen in ``http.client``, below it.
"""

import http.client
from types import ModuleType
from typing import Any

from meshml_dbx.recorder.address import called
from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.http_client_hooks import CONTENT_LENGTH, RANGE, time_connect, told_by
from meshml_dbx.recorder.patches import Method, Patches
from meshml_dbx.recorder.recorder import Recorder

_BODY, _HEADERS, _RETRIES = ("body", 0), ("headers", 1), ("retries", 2)
"""What follows method and address, in urllib3's order."""

Given = tuple[tuple[Any, ...], dict[str, Any]]


def hook_urllib3(module: ModuleType, patches: Patches, recorder: Recorder) -> None:
    """Record what goes through the pools of urllib3."""
    pool = module.connectionpool.HTTPConnectionPool
    patches.replace(pool, "urlopen", lambda method: _urlopen(method, recorder))
    for kind in (module.connection.HTTPConnection, module.connection.HTTPSConnection):
        if "connect" in vars(kind):
            patches.replace(kind, "connect", lambda method: time_connect(method, recorder))


def _urlopen(original: Method, recorder: Recorder) -> Method:
    def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        call = _begin(recorder, self, method, url, (args, kwargs)) if recorder.is_on else None
        if call is None:
            return original(self, method, url, *args, **kwargs)
        local = recorder.local
        outer = getattr(local, "call", None)
        before = (outer, local.kind, local.pool) if outer else (None, None, None)
        local.call, local.kind, local.pool = call, _kind_of(self), self
        try:
            response = original(self, method, url, *args, **kwargs)
        except BaseException as error:
            recorder.finish(call, error)
            raise
        finally:
            local.call, local.kind, local.pool = before
        _return(recorder, call, response)
        return response

    return urlopen


def _begin(recorder: Recorder, pool: Any, method: str, url: str, given: Given) -> OpenCall | None:
    """A call that begins, None when it is another try of the one that this thread is in."""
    try:
        outer: OpenCall | None = getattr(recorder.local, "call", None)
        is_same = outer is not None and recorder.local.pool is pool
        if outer and is_same and _is_next_try(recorder, outer, _given(given, _RETRIES)):
            return None
        headers, body = _given(given, _HEADERS), _given(given, _BODY)
        headers = pool.headers if headers is None else headers
        whose = called(pool.scheme, pool.host, pool.port, url)
        part = told_by(headers, RANGE) if headers else None
        call = recorder.begin(method, *whose, url, part=part)
        call.bytes_in = _size_of(body, headers)
    except Exception as error:
        recorder.warn("a call is not recorded", error)
        return None
    return call


def _given(given: Given, which: tuple[str, int]) -> Any:
    name, place = which
    args, kwargs = given
    return args[place] if len(args) > place else kwargs.get(name)


def _size_of(body: Any, headers: Any) -> int | None:
    if body is None:
        return 0
    if isinstance(body, bytes | bytearray):
        return len(body)
    if isinstance(body, str):
        return len(body.encode("utf-8", "replace"))
    told = told_by(headers, CONTENT_LENGTH) if headers else None
    return int(told) if told and told.isdigit() else None


def _kind_of(pool: Any) -> type:
    kind = getattr(pool, "ConnectionCls", None)
    return kind if isinstance(kind, type) else http.client.HTTPConnection


def _is_next_try(recorder: Recorder, outer: OpenCall, retries: Any) -> bool:
    """Whether urllib3 called itself to try again.

    After a redirect the call that led there is over, and this one is another.
    """
    history: tuple[Any, ...] = getattr(retries, "history", ())
    if len(history) <= len(outer.tries):
        return False  # somebody else's call, made while a body was produced
    if history[-1].redirect_location:
        recorder.finish(outer)
        return False
    outer.begin_next_try()
    return True


def _return(recorder: Recorder, call: OpenCall, response: Any) -> None:
    """The answer goes to the program; the call is over when its body is, which may be now."""
    call.is_returned = True
    if not call.answered_ns:  # through a connection of another kind
        status = getattr(response, "status", None)
        call.code = status if isinstance(status, int) else 0
    if call.body_ended_ns or not call.answered_ns:
        recorder.finish(call)
