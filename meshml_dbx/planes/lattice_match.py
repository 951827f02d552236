"""A route's match as VPC Lattice can express it, or every part of it that Lattice cannot.

Lattice knows a method, a path in full or by prefix, and up to five headers by value or prefix. What
it cannot express is never widened: the parts are named, and the rule is left out.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshml_dbx.mesh.spec import (
    GrpcRouteMatch,
    HeaderMatch,
    HttpRouteMatch,
    PathMatch,
    Route,
)

MOST_HEADERS, LONGEST_HEADER, LONGEST_PATH = 5, 200, 200
_PATH = re.compile(r"/[a-zA-Z0-9@:%_+.~#?&/=-]*")


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a match that Lattice has no words for: the field's path in the match, and why.

    >>> Gap("scheme", "a rule cannot ask for the scheme").field
    'scheme'
    """

    field: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expressed:
    """A match in the words of CreateRule, or its gaps.

    >>> Expressed(match={}, gaps=(Gap("scheme", "no"),)).is_whole
    False
    """

    match: dict[str, object]
    gaps: tuple[Gap, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not self.gaps


def express(route: Route) -> Expressed:
    """The match of an http, http2 or gRPC route; a port is a listener's matter, not a rule's."""
    if route.spec.http:
        return _of_http(route.spec.http.match)
    if route.spec.grpc_route:
        return _of_grpc(route.spec.grpc_route.match)
    return Expressed(match={}, gaps=(Gap("", "rules are for requests, not for tcp connections"),))


def _of_http(match: HttpRouteMatch) -> Expressed:
    path = _path_match(match.prefix, match.path)
    body: dict[str, object] = {"pathMatch": {"match": path, "caseSensitive": True}}
    if match.method:
        body["method"] = match.method
    if match.headers:
        body["headerMatches"] = [_header_match(header) for header in match.headers]
    gaps = [*_path_gaps(match.prefix, match.path), *_header_gaps("headers", match.headers)]
    if match.scheme:
        gaps.append(Gap("scheme", "a rule cannot ask for the scheme"))
    gaps += [
        Gap(f"queryParameters[{index}]", "a rule cannot ask for query parameters")
        for index in range(len(match.query_parameters))
    ]
    return Expressed(match={"httpMatch": body}, gaps=tuple(gaps))


def _of_grpc(match: GrpcRouteMatch) -> Expressed:
    prefix, exact = f"/{match.service_name}/" if match.service_name else "/", None
    if match.method_name:
        exact = f"{prefix}{match.method_name}"
    path = {"exact": exact} if exact else {"prefix": prefix}
    body: dict[str, object] = {"pathMatch": {"match": path, "caseSensitive": True}}
    if match.metadata:
        body["headerMatches"] = [_header_match(header) for header in match.metadata]
    field = "methodName" if exact else "serviceName"
    gaps = (*_text_gaps(field, exact or prefix), *_header_gaps("metadata", match.metadata))
    return Expressed(match={"httpMatch": body}, gaps=gaps)


# --- paths ------------------------------------------------------------------------------------


def _path_match(prefix: str | None, path: PathMatch | None) -> dict[str, object]:
    return {"exact": path.exact} if path else {"prefix": prefix or "/"}


def _path_gaps(prefix: str | None, path: PathMatch | None) -> Iterator[Gap]:
    if path and path.regex is not None:
        yield Gap("path", "a rule cannot match a path by a regular expression")
    elif path and path.exact:
        yield from _text_gaps("path", path.exact)
    elif prefix:
        yield from _text_gaps("prefix", prefix)


def _text_gaps(field: str, text: str) -> Iterator[Gap]:
    if len(text) > LONGEST_PATH:
        yield Gap(field, f"a rule's path has at most {LONGEST_PATH} characters")
    if not _PATH.fullmatch(text):
        yield Gap(field, "a rule's path holds only letters, digits and @:%_+.~#?&/=-")


# --- headers ----------------------------------------------------------------------------------


def _header_match(header: HeaderMatch) -> dict[str, object]:
    method = header.match
    found = {"exact": method.exact} if method and method.exact else {}
    if method and method.prefix:
        found = {"prefix": method.prefix}
    return {"name": header.name, "match": found, "caseSensitive": True}


def _header_gaps(field: str, headers: Sequence[HeaderMatch]) -> Iterator[Gap]:
    for index, header in enumerate(headers):
        why = _header_gap(header)
        if why:
            yield Gap(f"{field}[{index}]", why)
        elif index >= MOST_HEADERS:
            yield Gap(f"{field}[{index}]", f"a rule asks for at most {MOST_HEADERS} headers")


def _header_gap(header: HeaderMatch) -> str:
    method = header.match
    if header.invert:
        return "a rule cannot ask for the opposite of a header match"
    if method is None:
        return "a rule cannot ask for the mere presence of a header"
    for word in ("suffix", "regex", "range"):
        if getattr(method, word) is not None:
            return f"a rule compares headers by value or prefix, not by {word}"
    if len(method.exact or method.prefix or "") > LONGEST_HEADER:
        return f"a rule's header value has at most {LONGEST_HEADER} characters"
    return ""
