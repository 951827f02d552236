"""Requests that hypothesis makes for a made mesh: most are made to meet one of its routes, nearly.

From a route's match come a path, headers and a query that meet it, then perhaps one is changed. The
others are made of the pieces that routes are made of, and of what every comparison of text has to
get right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from meshml_dbx.mesh.conditions import RequestMatch
from meshml_dbx.mesh.requests import Headers, Request
from meshml_dbx.mesh.spec import (
    GrpcGatewayRouteMatch,
    GrpcRouteMatch,
    HeaderMatch,
    HttpGatewayRouteMatch,
    HttpRouteMatch,
    Mesh,
    TcpRouteMatch,
)
from tests.mesh.made_meshes import (
    PREFIXES,
    SERVICE,
    VALUES,
    a_gateway,
    gateway_routes,
    meshes,
)

QUERIES = ["", "?", "?a=1", "?a", "?a=", "?b=2&a=1", "?a=1&a=2", "?A=1", "?a=%31", "?a=b=c"]
QUERIES += ["?&a=1", "?c;a=1", "?x/../b"]
TAILS = ["", "/", "a", "/a", "/a/b", "/..", "/./a", "//a", "/%61", "%2Fa", "/%2e%2e/v1", ".", "/b"]
TAILS += ["/a/../../v1", r"\a", "|", "/..x", "/...", "/%zz", "//", "/a//b/"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A mesh and what is asked of it."""

    mesh: Mesh
    requests: tuple[Request, ...]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request that comes near the routes of a made mesh."""
    authority = draw(
        st.sampled_from(
            [SERVICE] * 20
            + [SERVICE.upper(), f"{SERVICE}:80", f"{SERVICE}:8080", f"{SERVICE}:9", f"{SERVICE}."]
            + ["other.local", "S3.us-east-1.amazonaws.com", "fixed:80", "amazonaws.com"]
        )
    )
    path = draw(st.sampled_from(PREFIXES)) + draw(st.sampled_from(TAILS))
    headers = [
        (
            draw(st.sampled_from(["x-a", "X-B", "x-c", "cookie", "accept"])),
            draw(st.sampled_from(VALUES)),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    grpc = draw(st.sampled_from([None, None, "application/grpc", "application/grpc+x", "text/x"]))
    if grpc:
        headers.append(("content-type", grpc))
        path = draw(st.sampled_from([path, "/v1/a", "/v1/Get", "/pkg.Labels/Get", "/pkg.Labels"]))
    return Request(
        authority=authority,
        method=draw(st.sampled_from(["GET", "GET", "POST", "PUT"])),
        path=path + draw(st.sampled_from(QUERIES)),
        headers=tuple(headers),
        scheme=draw(st.sampled_from(["http", "http", "http", "https"])),
        protocol=draw(st.sampled_from(["http", "http", "http", "http", "grpc"])),
    )


# --- near a route -----------------------------------------------------------------------------


@st.composite
def near(draw: st.DrawFn, match: RequestMatch) -> Request:
    """A request that meets a match, or misses it by one thing."""
    other = draw(requests())
    request = replace(
        other,
        authority=SERVICE if draw(st.integers(0, 4)) else other.authority,
        path=draw(paths_near(match)) + draw(queries_near(match)),
        headers=draw(headers_near(match)),
        protocol=other.protocol,
    )
    if isinstance(match, HttpRouteMatch | HttpGatewayRouteMatch):
        request = replace(request, method=match.method or other.method)
    if isinstance(match, HttpRouteMatch):
        request = replace(request, scheme=match.scheme or other.scheme)
    missed = draw(st.sampled_from([None, None, None, "method", "scheme", "path", "headers"]))
    return request if missed is None else replace(request, **{missed: getattr(other, missed)})


def paths_near(match: RequestMatch) -> st.SearchStrategy[str]:
    """Paths of a match with something after them; for an expression, what it may mean."""
    tails = st.sampled_from(["", "", *TAILS])
    if isinstance(match, GrpcRouteMatch | GrpcGatewayRouteMatch):
        method = match.method_name if isinstance(match, GrpcRouteMatch) else None
        return st.just(f"/{match.service_name or 'x'}/{method or 'Any'}")
    if match.path and match.path.regex is not None:
        text = st.text("ab1v/.", max_size=5)
        return text.map(lambda it: f"/{it}")
    begun = (match.path.exact if match.path else match.prefix) or "/"
    return tails.map(lambda it: begun + it)


def queries_near(match: RequestMatch) -> st.SearchStrategy[str]:
    """A query with what a match asks for, mostly."""
    if isinstance(match, GrpcRouteMatch | GrpcGatewayRouteMatch) or not match.query_parameters:
        return st.sampled_from(QUERIES)
    parts = [f"{it.name}={it.match.exact if it.match else 'x'}" for it in match.query_parameters]
    shuffled = st.permutations([*parts, "a=1", "b=%31"]).map("&".join)
    return st.one_of(st.just("?" + "&".join(parts)), shuffled.map(lambda it: f"?{it}"))


@st.composite
def headers_near(draw: st.DrawFn, match: RequestMatch) -> Headers:
    """Headers that a match asks for, some of them twice, and the type of a gRPC call."""
    if isinstance(match, GrpcRouteMatch | GrpcGatewayRouteMatch):
        rules, kind = match.metadata, [("content-type", "application/grpc")]
    else:
        rules, kind = match.headers, []
    sent = [
        (rule.name.swapcase(), draw(values_near(rule)))
        for rule in rules
        if not rule.name.startswith(":") and rule.name != "host"
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 0])))
    ]
    return (*sent, *kind)


def values_near(rule: HeaderMatch) -> st.SearchStrategy[str]:
    """Values that a rule takes, and their neighbours."""
    method, known = rule.match, st.sampled_from(VALUES)
    if method is None:
        return known
    if method.range:
        ends = (method.range.start, method.range.end)
        near = [str(end + step) for end in ends for step in (-1, 0, 1)]
        return st.sampled_from([*near, f"+{ends[0]}", f"0{ends[0]}", f"{ends[0]}.0", "x"])
    if method.regex is not None:
        return st.one_of(known, st.text("ab1v/.A", max_size=4))
    text = method.exact or method.prefix or method.suffix or ""
    return st.one_of(st.sampled_from([text, text, f"{text}x", f"x{text}", text.upper()]), known)


@st.composite
def trials(draw: st.DrawFn, asked: int) -> Trial:
    """A mesh with so many requests of its caller."""
    mesh = draw(meshes())
    matches = [route.spec.route.match for route in mesh.virtual_routers[0].routes]
    made = [draw(some_request(matches)) for _ in range(asked)]
    return Trial(mesh, tuple(made))


def some_request(
    matches: Sequence[RequestMatch | TcpRouteMatch | None],
) -> st.SearchStrategy[Request]:
    """A request near one of the matches, or one that knows nothing of them."""
    known = [it for it in matches if it is not None and not isinstance(it, TcpRouteMatch)]
    close = st.sampled_from(known).flatmap(near)
    return st.one_of(close, close, close, requests())


@st.composite
def gateway_trials(draw: st.DrawFn, port: int, asked: int) -> Trial:
    """A mesh behind a gateway, and requests to the gateway from outside."""
    plain = draw(meshes())
    mesh: Mesh = replace(plain, virtual_gateways=(a_gateway(port, draw(gateway_routes(port))),))
    ways_in = [it.spec.route.match for it in mesh.virtual_gateways[0].gateway_routes]
    matches = [it.spec.route.match for it in mesh.virtual_routers[0].routes]
    hosts = ["api.example.com", "API.EXAMPLE.COM", f"api.example.com:{port}", "other.local", "x"]
    made = []
    for _ in range(asked):
        request = draw(some_request([*ways_in, *ways_in, *matches]))
        host = draw(st.sampled_from(hosts))
        made.append(replace(request, authority=host, scheme="http", protocol="http"))
    return Trial(mesh, tuple(made))
