"""Rules on matches: routes that an earlier one leaves nothing for, and matches that nothing meets.

The placed mesh goes in; problems come out. Routes of routers and of gateways are brought into one
form first, so that both are judged alike.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from meshml_dbx.mesh.conditions import header_meets
from meshml_dbx.mesh.order import ordered_gateway_routes, ordered_routes
from meshml_dbx.mesh.places import Declared, Problem, placed_gateway_routes, placed_routes
from meshml_dbx.mesh.regexes import RegexError, compile_regex
from meshml_dbx.mesh.spec import (
    GatewayRoute,
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HeaderMatch,
    HttpGatewayRouteMatch,
    HttpRouteMatch,
    QueryParameterMatch,
    Route,
    TcpRouteMatch,
)

_ANYTHING = {".*", "/.*"}
_LITERAL_FIRST = re.compile(r"\w(?![?*{])[^|]*$")
_META = re.compile(r"[\\.*+?()\[\]{}|^$]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a route asks of a request, whatever its kind; a gRPC call's path is its method.

    ``path`` and ``host`` are a kind (prefix, exact, regex, suffix) with its text.

    >>> Asked(place="", name="all", protocol="http", path=("prefix", "/"), port=None).method is None
    True
    """

    place: str
    name: str
    protocol: str
    path: tuple[str, str]
    port: int | None
    method: str | None = None
    scheme: str | None = None
    host: tuple[str, str] | None = None
    headers: tuple[HeaderMatch, ...] = ()
    queries: tuple[QueryParameterMatch, ...] = ()


def asked_by_route(place: str, route: Route) -> Asked:
    """What a router's route asks."""
    return _asked(place, route.route_name, route.spec.protocol, route.spec.route.match)


def asked_by_gateway_route(place: str, route: GatewayRoute) -> Asked:
    """What a gateway's route asks."""
    return _asked(place, route.gateway_route_name, route.spec.protocol, route.spec.route.match)


def _asked(
    place: str,
    name: str,
    protocol: str,
    match: HttpRouteMatch
    | GrpcRouteMatch
    | TcpRouteMatch
    | HttpGatewayRouteMatch
    | GrpcGatewayRouteMatch
    | None,
) -> Asked:
    port = match.port if match else None
    asked = Asked(place=place, name=name, protocol=protocol, path=("prefix", "/"), port=port)
    match match:
        case HttpRouteMatch() | HttpGatewayRouteMatch():
            return _asked_of_http(asked, match)
        case GrpcRouteMatch() | GrpcGatewayRouteMatch():
            return _asked_of_grpc(asked, match)
    return asked


def _asked_of_http(asked: Asked, match: HttpRouteMatch | HttpGatewayRouteMatch) -> Asked:
    path = ("prefix", match.prefix or "/")
    if match.path:
        kind = "exact" if match.path.regex is None else "regex"
        path = (kind, match.path.exact or match.path.regex or "")
    return Asked(
        place=asked.place,
        name=asked.name,
        protocol=asked.protocol,
        path=path,
        port=match.port,
        method=match.method,
        scheme=match.scheme if isinstance(match, HttpRouteMatch) else None,
        host=_host(match) if isinstance(match, HttpGatewayRouteMatch) else None,
        headers=match.headers,
        queries=match.query_parameters,
    )


def _asked_of_grpc(asked: Asked, match: GrpcRouteMatch | GrpcGatewayRouteMatch) -> Asked:
    method = match.method_name if isinstance(match, GrpcRouteMatch) else None
    path = ("prefix", f"/{match.service_name}/" if match.service_name else "/")
    if match.service_name and method:
        path = ("exact", f"/{match.service_name}/{method}")
    return Asked(
        place=asked.place,
        name=asked.name,
        protocol=asked.protocol,
        path=path,
        port=match.port,
        host=_host(match) if isinstance(match, GrpcGatewayRouteMatch) else None,
        headers=match.metadata,
    )


def _host(match: HttpGatewayRouteMatch | GrpcGatewayRouteMatch) -> tuple[str, str] | None:
    if match.hostname is None:
        return None
    if match.hostname.exact is not None:
        return ("exact", match.hostname.exact.lower())
    return ("suffix", (match.hostname.suffix or "").lower())


# --- which route leaves nothing for which ------------------------------------------------------


def find_unreachable_routes(declared: Declared) -> Iterator[Problem]:
    """Routes of routers and gateways that an earlier one takes every request of."""
    for path, router in declared.routers:
        place = {id(route): where for where, route in placed_routes(path, router)}
        yield from _hidden([asked_by_route(place[id(it)], it) for it in ordered_routes(router)])
    for path, gateway in declared.gateways:
        at = {id(rule): where for where, rule in placed_gateway_routes(path, gateway)}
        rules = ordered_gateway_routes(gateway)
        yield from _hidden([asked_by_gateway_route(at[id(it)], it) for it in rules])


def _hidden(ordered: Sequence[Asked]) -> Iterator[Problem]:
    earlier = _Earlier()
    for asked in ordered:
        taker = earlier.taker_of(asked)
        if taker is None:
            earlier.add(asked)
        else:
            what = f"{taker.name} is asked first and takes every request of it"
            yield Problem("unreachable-route", asked.place, what)


_Key = tuple[object, ...]


@dataclass(slots=True)
class _Earlier:
    """The routes asked so far, found by what a wider one must share with a narrower.

    That keeps a router of thousands of routes from being compared each with each.
    """

    routes: dict[_Key, list[Asked]] = field(default_factory=dict)
    path_lengths: set[int] = field(default_factory=set)
    host_lengths: set[int] = field(default_factory=set)
    regexes: list[Asked] = field(default_factory=list)

    def add(self, asked: Asked) -> None:
        """One more route that may hide later ones."""
        kind, text = asked.path
        if kind == "regex":
            self.regexes.append(asked)
        if kind == "prefix":
            self.path_lengths.add(len(text))
        if asked.host and asked.host[0] == "suffix":
            self.host_lengths.add(len(asked.host[1]))
        key = (asked.path, asked.host, _first_condition(asked))
        self.routes.setdefault(key, []).append(asked)

    def taker_of(self, asked: Asked) -> Asked | None:
        """The earlier route that takes every request of this one."""
        conditions = [None, *_conditions(asked)]
        hosts = self._wider_hosts(asked.host)
        for path in self._wider_paths(asked.path):
            for host in hosts:
                for condition in conditions:
                    for wide in self.routes.get((path, host, condition), ()):
                        if _covers(wide, asked):
                            return wide
        return next((wide for wide in self.regexes if _covers(wide, asked)), None)

    def _wider_paths(self, path: tuple[str, str]) -> Iterator[tuple[str, str]]:
        kind, text = path
        yield path
        if kind == "regex":
            yield ("prefix", "/")
            return
        yield from (("prefix", text[:length]) for length in self.path_lengths)

    def _wider_hosts(self, host: tuple[str, str] | None) -> list[tuple[str, str] | None]:
        if host is None:
            return [None]
        text = host[1]
        ends = (("suffix", text[-length:]) for length in self.host_lengths if length)
        return [None, host, *ends]


def _first_condition(asked: Asked) -> _Key | None:
    """What a narrower route must ask as well, if the route asks anything of headers or query."""
    for header in asked.headers:
        if header.match is None and not header.invert:
            return ("present", header.name.lower())
        return ("header", header.name.lower(), header.match, header.invert)
    for query in asked.queries:
        return ("query", query.name, query.match and query.match.exact)
    return None


def _conditions(asked: Asked) -> Iterator[_Key]:
    for header in asked.headers:
        name = header.name.lower()
        yield ("header", name, header.match, header.invert)
        yield ("present", name)
    for query in asked.queries:
        yield ("query", query.name, query.match and query.match.exact)
        yield ("query", query.name, None)


def _covers(wide: Asked, narrow: Asked) -> bool:
    """Whether every request that ``narrow`` takes is taken by ``wide``."""
    return (
        wide.protocol == narrow.protocol
        and wide.port in {None, narrow.port}
        and wide.method in {None, narrow.method}
        and wide.scheme in {None, narrow.scheme}
        and _covers_path(wide.path, narrow.path)
        and _covers_host(wide.host, narrow.host)
        and all(_implied(it, narrow.headers) for it in wide.headers)
        and all(_asked_too(it, narrow.queries) for it in wide.queries)
    )


def _covers_path(wide: tuple[str, str], narrow: tuple[str, str]) -> bool:
    kind, text = wide
    if wide == narrow:
        return True
    match kind:
        case "prefix":
            return text == "/" or (narrow[0] != "regex" and narrow[1].startswith(text))
        case "regex":
            return text in _ANYTHING or (narrow[0] == "exact" and _meets(text, narrow[1]))
    return False


def _meets(regex: str, text: str) -> bool:
    try:
        return compile_regex(regex).meets(text)
    except RegexError:
        return False


def _covers_host(wide: tuple[str, str] | None, narrow: tuple[str, str] | None) -> bool:
    if wide is None or wide == narrow:
        return True
    return narrow is not None and wide[0] == "suffix" and narrow[1].endswith(wide[1])


def _implied(header: HeaderMatch, given: Sequence[HeaderMatch]) -> bool:
    presence = header.match is None and not header.invert
    return any(
        it.name.lower() == header.name.lower()
        and (
            (it.match, it.invert) == (header.match, header.invert)
            # whatever a value is compared with, it has to be there
            or (presence and it.match is not None)
        )
        for it in given
    )


def _asked_too(query: QueryParameterMatch, given: Sequence[QueryParameterMatch]) -> bool:
    wanted = query.match and query.match.exact
    return any(
        it.name == query.name and (wanted is None or (it.match and it.match.exact) == wanted)
        for it in given
    )


# --- matches that nothing meets ----------------------------------------------------------------


def _all_asked(declared: Declared) -> Iterator[tuple[Asked, tuple[int, ...]]]:
    """Every route with the ports on which it could be asked."""
    for path, router, route in declared.routes:
        ports = tuple(it.port_mapping.port for it in router.spec.listeners)
        yield asked_by_route(f"{path}.spec.{route.spec.field}.match", route), ports
    for path, gateway, rule in declared.gateway_routes:
        ports = tuple(it.port_mapping.port for it in gateway.spec.listeners)
        yield asked_by_gateway_route(f"{path}.spec.{rule.spec.field}.match", rule), ports


def find_impossible_matches(declared: Declared) -> Iterator[Problem]:
    """Matches that contradict themselves, or ask for a port or a path that there is not."""
    for asked, ports in _all_asked(declared):
        if asked.port is not None and ports and asked.port not in ports:
            there = ", ".join(str(port) for port in ports)
            what = f"{asked.name} takes port {asked.port} alone, and calls come to {there}"
            yield Problem("impossible-match", f"{asked.place}.port", what)
        if asked.path[0] == "regex" and _LITERAL_FIRST.match(asked.path[1]):
            what = f"{asked.name} takes paths by {asked.path[1]}, and every path starts with /"
            yield Problem("impossible-match", f"{asked.place}.path.regex", what)
        for one, other in combinations(asked.headers, 2):
            if one.name.lower() == other.name.lower() and _contradict(one, other):
                what = f"{asked.name} asks two things of {one.name} that no one value meets"
                yield Problem("impossible-match", _fields_place(asked), what)
        for first, second in combinations(asked.queries, 2):
            values = [it.match.exact for it in (first, second) if it.match and it.match.exact]
            if first.name == second.name and len(set(values)) > 1:
                what = f"{asked.name} wants {first.name} to be {values[0]} and {values[1]}"
                yield Problem("impossible-match", f"{asked.place}.queryParameters", what)


def _fields_place(asked: Asked) -> str:
    return f"{asked.place}.{'metadata' if asked.protocol == 'grpc' else 'headers'}"


def _contradict(one: HeaderMatch, other: HeaderMatch) -> bool:
    """Whether no one value, and no absence, meets both; where it is not plain, it is no."""
    absent = [it.match is None and it.invert for it in (one, other)]
    if any(absent):
        return absent != [True, True]  # all else wants the header to be there
    if one.match == other.match:
        return one.invert != other.invert
    for this, that in ((one, other), (other, one)):
        if this.match and this.match.exact is not None and not this.invert:
            return not header_meets(that, this.match.exact)
    if one.match is None or other.match is None or one.invert or other.invert:
        return False
    if one.match.range and other.match.range:
        low = max(one.match.range.start, other.match.range.start)
        return low >= min(one.match.range.end, other.match.range.end)
    return _apart(one.match.prefix, other.match.prefix) or _apart(
        _reversed(one.match.suffix), _reversed(other.match.suffix)
    )


def _apart(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    return not one.startswith(other) and not other.startswith(one)


def _reversed(text: str | None) -> str | None:
    return None if text is None else text[::-1]


# --- values ------------------------------------------------------------------------------------


def find_wrong_values(declared: Declared) -> Iterator[Problem]:
    """Ranges without a number, and regular expressions that Envoy would refuse."""
    for asked, _ in _all_asked(declared):
        if asked.path[0] == "regex":
            yield from _refused_regex(f"{asked.place}.path.regex", "the path", asked.path[1])
        for index, header in enumerate(asked.headers):
            place = f"{_fields_place(asked)}[{index}].match"
            method = header.match
            if method and method.range and method.range.end <= method.range.start:
                what = f"range of {header.name} is empty: end is not part of it and must be greater"
                yield Problem("wrong-value", f"{place}.range", what)
            if method and method.regex is not None:
                yield from _refused_regex(f"{place}.regex", header.name, method.regex)


def _refused_regex(place: str, subject: str, regex: str) -> Iterator[Problem]:
    if "${" in regex:
        return
    try:
        compile_regex(regex)
    except RegexError as error:
        yield Problem("wrong-value", place, f"regex of {subject} {error}")


def find_partial_regexes(declared: Declared) -> Iterator[Problem]:
    """Regular expressions of paths that look as if a part of the path were enough."""
    for asked, _ in _all_asked(declared):
        kind, regex = asked.path
        if kind != "regex" or "${" in regex:
            continue
        place = f"{asked.place}.path.regex"
        if not _META.search(regex):
            what = f"{asked.name} takes the path {regex} alone: the expression has no pattern in it"
            yield Problem("partial-regex", place, what)
        elif regex.startswith("^") and not regex.endswith(("$", "*", "+", ")")):
            what = f"{asked.name} takes paths that meet the whole of {regex}, not its beginning"
            yield Problem("partial-regex", place, what)
