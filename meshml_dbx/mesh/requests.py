"""A request as a proxy sees it when it looks for a route.

A request goes in as a program makes it; what matches are compared with comes out. The rules are
those measured on Envoy 1.40: which headers it hides, adds or joins, how it makes a path normal,
how it takes a query apart.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call: method, authority and path as sent, and the headers in their order.

    >>> Request(authority="labels.ml.local", path="/v1?day=1").method
    'GET'
    """

    authority: str
    method: str = "GET"
    path: str = "/"
    headers: Headers = ()
    scheme: Literal["http", "https"] = "http"
    protocol: Literal["http", "http2", "grpc"] = "http"


# A proxy ends these hop by hop, or does not believe them of a caller.
_HIDDEN = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
    | {"x-envoy-internal", "x-envoy-expected-rq-timeout-ms", "x-envoy-max-retries"}
    | {"x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-forwarded-client-cert"}
)
# Envoy keeps one value of these, to which another line of the same name is appended.
_JOINED = frozenset(
    {"accept", "accept-encoding", "authorization", "cache-control", "origin", "referer"}
    | {"user-agent", "content-type", "content-encoding", "via", "expect", "pragma"}
    | {"if-match", "if-none-match", "if-modified-since", "grpc-timeout", "grpc-accept-encoding"}
    | {"access-control-request-method", "access-control-request-headers"}
    | {"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"}
    | {"x-request-id", "x-client-trace-id", "x-envoy-original-path"}
    | {"x-envoy-external-address", "x-envoy-downstream-service-cluster"}
)
_GIVEN_ID = ("an id that the proxy gives",)


class Facts:
    """What the matches of routes are compared with, each part taken apart once.

    >>> facts = Facts(Request(authority="a", path="/v1/x?day=1", headers=(("X-A", "1"),)))
    >>> facts.path, facts.header("x-a"), facts.parameter("day")
    ('/v1/x', ('1',), '1')
    """

    __slots__ = (
        "_headers",
        "_parameters",
        "_query",
        "_sent",
        "authority",
        "method",
        "path",
        "scheme",
    )

    def __init__(self, request: Request, *, normal_paths: bool = False) -> None:
        path, mark, query = request.path.partition("?")
        self.path = normal_path(path) if normal_paths else path
        self.method = request.method
        self.authority = request.authority
        self._query = mark + query
        self.scheme = request.scheme
        self._sent = request.headers
        self._headers: dict[str, tuple[str, ...]] | None = None
        self._parameters: dict[str, str] | None = None

    def header(self, name: str) -> tuple[str, ...] | None:
        """The values of a header by its name in small letters; None where it is absent."""
        headers = self._gathered()
        if name in headers:
            return headers[name]
        if name.startswith(":") or name in {"host", "x-request-id"}:
            return self._pseudo_header(name)
        return None

    def _gathered(self) -> dict[str, tuple[str, ...]]:
        if self._headers is None:
            self._headers = _gathered(self._sent)
            self._headers.setdefault("x-forwarded-proto", (self.scheme,))
        return self._headers

    def _pseudo_header(self, name: str) -> tuple[str, ...] | None:
        known = {
            ":method": self.method,
            ":path": self.path + self._query,
            ":scheme": self.scheme,
            ":authority": self.authority,
            "host": self.authority,
        }
        if name == "x-request-id":
            return _GIVEN_ID
        return (known[name],) if name in known else None

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter, as written: nothing in a query is decoded."""
        if self._parameters is None:
            self._parameters = {}
            for part in self._query[1:].split("&") if len(self._query) > 1 else ():
                key, _, value = part.partition("=")
                self._parameters.setdefault(key, value)
        return self._parameters.get(name)

    @property
    def is_grpc(self) -> bool:
        """Whether the content type says that this is a gRPC call."""
        kind = (self.header("content-type") or ("",))[0]
        return kind == "application/grpc" or kind.startswith("application/grpc+")


def _gathered(headers: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers:
        key, bare = name.lower(), value.strip(" \t")
        if key in _HIDDEN or (key == "te" and bare.lower() != "trailers"):
            continue
        before = found.get(key, ())
        if before and key in _JOINED:
            found[key] = (",".join(value for value in (before[0], bare) if value),)
        else:
            found[key] = (*before, bare)
    return found


# --- paths ------------------------------------------------------------------------------------

_ESCAPED = {char: f"%{ord(char):02X}" for char in '"<>^`{|}'}
_PLAIN_CODE = re.compile(r"%(2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
_UNUSUAL = re.compile(r"[%\\\"<>^`{|}]|/\.|//")
_ODD = re.compile(r"[\"<>^`{|}]")


def normal_path(path: str) -> str:
    """A path without its query as Envoy makes it normal: unescaped where that changes nothing,
    without steps and doubled slashes.

    >>> normal_path("/a/%2e%2e/v%31//x")
    '/v1/x'
    """
    if not _UNUSUAL.search(path):
        return path
    plain = _PLAIN_CODE.sub(lambda found: chr(int(found[1], 16)), path.replace("\\", "/"))
    walked = _walked(_ODD.sub(lambda found: _ESCAPED[found[0]], plain))
    return _merged(walked) if "//" in walked else walked


def _walked(path: str) -> str:
    if "/." not in path:
        return path
    kept: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    ends_open = parts[-1] in {".", ".."}
    return "/" + "/".join([*kept, ""] if ends_open and kept else kept)


def _merged(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    return f"/{'/'.join(parts)}{'/' if path.endswith('/') else ''}"


def header_pairs(headers: Mapping[str, str]) -> Headers:
    """Headers of a mapping, in its order."""
    return tuple(headers.items())
