"""Hooks in urllib3, 1.26 and 2.x: one call of a pool, with its tries, redirects and back-off.

``urlopen`` calls itself for each new try and for each redirect on the same host; what it is called
with says which. Its tries are seen in ``http.client``, below it.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.http_client_hooks import current_call, range_of, time_connect
from meshml_dbx.recorder.patches import Method, Patches
from meshml_dbx.recorder.recorder import Recorder

_FIRST = ("body", "headers", "retries")
"""What follows method and address, in urllib3's order."""

Arguments = Mapping[str, Any]


def hook_urllib3(module: ModuleType, patches: Patches, recorder: Recorder) -> None:
    """Record what goes through the pools of urllib3."""
    pool = module.connectionpool.HTTPConnectionPool
    patches.replace(pool, "urlopen", lambda method: _urlopen(method, recorder))
    for kind in (module.connection.HTTPConnection, module.connection.HTTPSConnection):
        if "connect" in vars(kind):
            patches.replace(kind, "connect", lambda method: time_connect(method, recorder))


def _urlopen(original: Method, recorder: Recorder) -> Method:
    def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        if not recorder.is_on:
            return original(self, method, url, *args, **kwargs)
        asked = {**kwargs, **dict(zip(_FIRST, args, strict=False))}
        outer = current_call(recorder)
        if outer is not None and _is_next_try(recorder, outer, asked):
            return original(self, method, url, *args, **kwargs)
        call = _begin(recorder, self, method, url, asked)
        recorder.local.call = call
        try:
            response = original(self, method, url, *args, **kwargs)
        except BaseException as error:
            recorder.finish(call, error)
            raise
        finally:
            recorder.local.call = outer
        _return(recorder, call)
        return response

    return urlopen


def _is_next_try(recorder: Recorder, outer: OpenCall, asked: Arguments) -> bool:
    """Whether urllib3 called itself to try again.

    After a redirect the call that led there is over, and this one is another.
    """
    history: tuple[Any, ...] = getattr(asked.get("retries"), "history", ())
    if len(history) <= len(outer.tries):
        return False  # somebody else's call, made while a body was produced
    if history[-1].redirect_location:
        recorder.finish(outer)
        return False
    outer.begin_next_try()
    return True


def _begin(recorder: Recorder, pool: Any, method: str, url: str, asked: Arguments) -> OpenCall:
    try:
        headers = asked.get("headers")
        part = range_of(pool.headers if headers is None else headers)
    except Exception as error:
        recorder.warn("a call's range is not recorded", error)
        part = None
    call = recorder.begin(method, pool.scheme, pool.host, pool.port, url, part=part)
    body = asked.get("body")
    if isinstance(body, bytes | str):
        call.bytes_in = len(body)
    return call


def _return(recorder: Recorder, call: OpenCall) -> None:
    """The answer goes to the program; the call is over when its body is, which may be now."""
    call.is_returned = True
    if call.body_ended_ns or not call.answered_ns:
        recorder.finish(call)
