"""What a route asks of a request, compiled: each condition decides, and says in words what it saw.

A match goes in, its conditions come out, in the order of a person's reading: host, path, method,
scheme, headers, query. A route takes a request when all of them are met. What is printed of a
decision is read off the same conditions that made it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshml_dbx.mesh.regexes import RegexError, compile_regex
from meshml_dbx.mesh.requests import Facts
from meshml_dbx.mesh.spec import (
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HeaderMatch,
    HeaderMatchMethod,
    HostnameMatch,
    HttpGatewayRouteMatch,
    HttpRouteMatch,
    QueryParameterMatch,
)

RequestMatch = HttpRouteMatch | HttpGatewayRouteMatch | GrpcRouteMatch | GrpcGatewayRouteMatch

_LEAST, _MOST = -(2**63), 2**63 - 1
_WHOLE = re.compile(r"[+-]?[0-9]+")
_PORT = re.compile(r":[0-9]+$")


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a route asks: where it is written, what it wants, how it is decided.

    ``field`` is the path below the route's match; ``seen`` says what a request has of it.
    """

    field: str
    wanted: str
    meets: Callable[[Facts], bool]
    seen: Callable[[Facts], str]


def conditions_of(match: RequestMatch) -> tuple[Condition, ...]:
    """Everything that a match asks; nothing where it takes every request."""
    if isinstance(match, GrpcRouteMatch | GrpcGatewayRouteMatch):
        return tuple(_grpc_conditions(match))
    return tuple(_http_conditions(match))


def _http_conditions(match: HttpRouteMatch | HttpGatewayRouteMatch) -> Iterator[Condition]:
    if isinstance(match, HttpGatewayRouteMatch) and match.hostname:
        yield _host(match.hostname)
    if match.path and match.path.regex is not None:
        meets = _regex(match.path.regex)
        wanted = f"path in full like regex {match.path.regex!r}"
        yield Condition("path.regex", wanted, lambda it: meets(it.path), _path_seen)
    elif match.path:
        yield _exact_path("path.exact", match.path.exact or "")
    elif match.prefix not in {None, "/"}:
        yield _prefix("prefix", match.prefix or "")
    if match.method:
        method: str = match.method
        wanted = f"method {method}"
        yield Condition(
            "method", wanted, lambda it: it.method == method, lambda it: f"method is {it.method}"
        )
    if isinstance(match, HttpRouteMatch) and match.scheme:
        scheme: str = match.scheme
        wanted = f"scheme {scheme}"
        yield Condition(
            "scheme", wanted, lambda it: it.scheme == scheme, lambda it: f"scheme is {it.scheme}"
        )
    for index, header in enumerate(match.headers):
        yield _header(f"headers[{index}]", "header", header)
    for index, parameter in enumerate(match.query_parameters):
        yield _parameter(f"queryParameters[{index}]", parameter)


def _grpc_conditions(match: GrpcRouteMatch | GrpcGatewayRouteMatch) -> Iterator[Condition]:
    yield Condition(
        "",
        "a gRPC call (content-type application/grpc)",
        lambda it: it.is_grpc,
        lambda it: f"content-type is {_shown(it.header('content-type'))}",
    )
    if isinstance(match, GrpcGatewayRouteMatch) and match.hostname:
        yield _host(match.hostname)
    method = match.method_name if isinstance(match, GrpcRouteMatch) else None
    if match.service_name and method:
        yield _exact_path("methodName", f"/{match.service_name}/{method}")
    elif match.service_name:
        yield _prefix("serviceName", f"/{match.service_name}/")
    for index, header in enumerate(match.metadata):
        yield _header(f"metadata[{index}]", "metadata", header)


# --- one by one -------------------------------------------------------------------------------


def _path_seen(facts: Facts) -> str:
    return f"path is {facts.path}"


def _exact_path(field: str, path: str) -> Condition:
    return Condition(field, f"path exactly {path}", lambda it: it.path == path, _path_seen)


def _prefix(field: str, prefix: str) -> Condition:
    return Condition(
        field, f"path that starts with {prefix}", lambda it: it.path.startswith(prefix), _path_seen
    )


def _host(hostname: HostnameMatch) -> Condition:
    def seen(facts: Facts) -> str:
        return f"host is {facts.authority}"

    if hostname.exact is not None:
        exact = hostname.exact.lower()
        return Condition(
            "hostname.exact", f"host exactly {exact}", lambda it: exact in _hosts(it), seen
        )
    end = (hostname.suffix or "").lower()
    return Condition(
        "hostname.suffix",
        f"host that ends with {end}",
        lambda it: any(host.endswith(end) for host in _hosts(it)),
        seen,
    )


def _hosts(facts: Facts) -> tuple[str, str]:
    """The authority as called, and without its port."""
    authority = facts.authority.lower()
    return authority, _PORT.sub("", authority)


def _header(field: str, kind: str, header: HeaderMatch) -> Condition:
    name, invert, method = header.name.lower(), header.invert, header.match

    def seen(facts: Facts) -> str:
        return f"{kind} {header.name} is {_shown(facts.header(name))}"

    if method is None:
        wanted = "it absent" if invert else "it present"
        return Condition(field, wanted, lambda it: (it.header(name) is not None) != invert, seen)
    words, accepts = _value_rule(method)
    wanted = f"present, and not {words}" if invert else words

    def meets(facts: Facts) -> bool:
        """One value of several is enough; inverted, none may be; absent meets neither."""
        values = facts.header(name)
        return values is not None and any(map(accepts, values)) != invert

    return Condition(f"{field}.match", wanted, meets, seen)


def _parameter(field: str, parameter: QueryParameterMatch) -> Condition:
    name, exact = parameter.name, parameter.match.exact if parameter.match else None

    def seen(facts: Facts) -> str:
        value = facts.parameter(name)
        return f"query parameter {name} is {'absent' if value is None else repr(value)}"

    if exact is None:
        return Condition(field, "it present", lambda it: it.parameter(name) is not None, seen)
    wanted = f"exact {exact!r}"
    return Condition(f"{field}.match", wanted, lambda it: it.parameter(name) == exact, seen)


# --- values -----------------------------------------------------------------------------------


def header_meets(header: HeaderMatch, value: str | None) -> bool:
    """Whether a header's one value, None if it is absent, meets a match."""
    if header.match is None:
        return (value is not None) != header.invert
    return value is not None and _value_rule(header.match)[1](value) != header.invert


def _value_rule(method: HeaderMatchMethod) -> tuple[str, Callable[[str], bool]]:
    """A rule in words, and whether a value meets it."""
    if method.range:
        start, end = method.range.start, method.range.end
        words = f"a whole number from {start} up to, but not including, {end}"
        return words, lambda value: _is_between(value, start, end)
    if method.regex is not None:
        return f"in full like regex {method.regex!r}", _regex(method.regex)
    if method.exact is not None:
        exact = method.exact
        return f"exact {exact!r}", lambda value: value == exact
    if method.prefix is not None:
        prefix = method.prefix
        return f"with prefix {prefix!r}", lambda value: value.startswith(prefix)
    suffix = method.suffix or ""
    return f"with suffix {suffix!r}", lambda value: value.endswith(suffix)


def _is_between(value: str, start: int, end: int) -> bool:
    bare = value.strip(" \t\n\v\f\r")
    if not _WHOLE.fullmatch(bare) or len(bare.lstrip("+-0")) > len(str(_MOST)):
        return False
    number = int(bare)
    return _LEAST <= number <= _MOST and start <= number < end


def _regex(text: str) -> Callable[[str], bool]:
    """Whether a value meets an expression; one that Envoy refuses is met by nothing."""
    try:
        return compile_regex(text).meets
    except RegexError:
        return lambda _: False


def _shown(values: tuple[str, ...] | None) -> str:
    if values is None:
        return "absent"
    return " and ".join(repr(value) for value in values)
