"""Which route a request takes: one route for each kind of match, and requests that just meet it.

Each route has a path of its own, so that a request meets this one or none.
"""

from collections.abc import Iterator, Mapping

import pytest

from tests.conformance.subject import Request, Spoken, Subject, Transport, need
from tests.conformance.upstreams import ask, http2_program, http_program

NONE = None
HTTP = {
    "prefix": "prefix: /prefix",
    "exact-path": "path: {exact: /exact}",
    "regex-path": 'path: {regex: "/regex/[a-c]+"}',
    "method": "prefix: /method, method: PUT",
    "scheme": "prefix: /scheme, scheme: http",
    "other-scheme": "prefix: /tls, scheme: https",
    "header-exact": "prefix: /h-exact, headers: [{name: x-a, match: {exact: b}}]",
    "header-prefix": "prefix: /h-prefix, headers: [{name: x-a, match: {prefix: b}}]",
    "header-suffix": "prefix: /h-suffix, headers: [{name: x-a, match: {suffix: b}}]",
    "header-regex": 'prefix: /h-regex, headers: [{name: x-a, match: {regex: "b+c?"}}]',
    "header-range": "prefix: /h-range, headers: [{name: x-a, match: {range: {start: 3, end: 5}}}]",
    "header-present": "prefix: /h-present, headers: [{name: x-a}]",
    "not-exact": "prefix: /n-exact, headers: [{name: x-a, invert: true, match: {exact: b}}]",
    "not-prefix": "prefix: /n-prefix, headers: [{name: x-a, invert: true, match: {prefix: b}}]",
    "not-suffix": "prefix: /n-suffix, headers: [{name: x-a, invert: true, match: {suffix: b}}]",
    "not-regex": 'prefix: /n-regex, headers: [{name: x-a, invert: true, match: {regex: "b+"}}]',
    "not-range": (
        "prefix: /n-range, headers: [{name: x-a, invert: true, match: {range: {start: 3, end: 5}}}]"
    ),
    "absent": "prefix: /absent, headers: [{name: x-a, invert: true}]",
    "all-headers": "prefix: /h-all, headers: [{name: x-a}, {name: x-b, match: {exact: c}}]",
    "query-exact": 'prefix: /q-exact, queryParameters: [{name: day, match: {exact: "7"}}]',
    "query-present": "prefix: /q-present, queryParameters: [{name: day}]",
    "all-queries": "prefix: /q-all, queryParameters: [{name: day}, {name: night}]",
    "port": "prefix: /port, port: 8080",
    "short": "prefix: /long",
    "longer": "prefix: /long/er",
    "longest": "path: {exact: /long/er/est}",
}
FIRST = {
    "second": (2, "prefix: /order"),
    "first": (1, "prefix: /order, method: POST"),
    "unranked": (None, "path: {exact: /order/whole}"),
}
GRPC = {
    "of-method": "serviceName: ml.Method, methodName: Best",
    "of-service": "serviceName: ml.Service",
    "metadata-exact": "serviceName: ml.Exact, metadata: [{name: x-a, match: {exact: b}}]",
    "metadata-prefix": "serviceName: ml.Prefix, metadata: [{name: x-a, match: {prefix: b}}]",
    "metadata-suffix": "serviceName: ml.Suffix, metadata: [{name: x-a, match: {suffix: b}}]",
    "metadata-regex": 'serviceName: ml.Regex, metadata: [{name: x-a, match: {regex: "b+"}}]',
    "metadata-range": (
        "serviceName: ml.Range, metadata: [{name: x-a, match: {range: {start: 3, end: 5}}}]"
    ),
    "metadata-present": "serviceName: ml.Present, metadata: [{name: x-a}]",
    "metadata-absent": "serviceName: ml.Absent, metadata: [{name: x-a, invert: true}]",
}
HEAD = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: s.ml.local}
    - virtualService: {virtualServiceName: g.ml.local}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners: [{portMapping: {port: HTTP_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: m
  spec:
    listeners: [{portMapping: {port: GRPC_PORT, protocol: grpc}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: r}}}
- virtualServiceName: g.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: g}}}
virtualRouters:
- virtualRouterName: r
  spec:
    listeners:
    - {portMapping: {port: 80, protocol: http}}
    - {portMapping: {port: 8080, protocol: http}}
  routes: [HTTP_ROUTES]
- virtualRouterName: g
  spec: {listeners: [{portMapping: {port: 9000, protocol: grpc}}]}
  routes: [GRPC_ROUTES]
"""


def routes(field: str, matches: Mapping[str, tuple[int | None, str]], node: str) -> str:
    """The routes of a router, one for each match."""
    action = f"action: {{weightedTargets: [{{virtualNode: {node}, weight: 1}}]}}"
    return ", ".join(
        f"{{routeName: {name}, spec: {{{'' if rank is None else f'priority: {rank}, '}"
        f"{field}: {{match: {{{match}}}, {action}}}}}}}"
        for name, (rank, match) in matches.items()
    )


@pytest.fixture(scope="module")
def job(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transport]:
    """The way of a client into a mesh of all matches."""
    need(subject, "http", "grpc")
    plain = {name: (None, match) for name, match in HTTP.items()}
    calls = {name: (None, match) for name, match in GRPC.items()}
    text = HEAD.replace("HTTP_ROUTES", routes("httpRoute", FIRST | plain, "n"))
    text = text.replace("GRPC_ROUTES", routes("grpcRoute", calls, "m"))
    folder = tmp_path_factory.mktemp("matches")
    with http_program("n") as n, http2_program("m") as m:
        at = {"HTTP": n.port, "GRPC": m.port}
        with subject.at_work(folder, text, at=at) as members:
            yield members["job"]


def taken(job: Transport, *requests: Request) -> list[str | None]:
    """The routes that requests take."""
    return [it.route for it in job.send_all(requests)]


def get(path: str, x_a: str | None = None, method: str = "GET", **headers: str) -> Request:
    """A request of http."""
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    sent |= {} if x_a is None else {"x-a": x_a}
    return ask(f"http://s.ml.local{path}", method=method, headers=sent)


def rpc(method: str, x_a: str | None = None) -> Request:
    """A call of gRPC."""
    protocol: Spoken = "grpc"
    headers = {} if x_a is None else {"x-a": x_a}
    return ask(f"grpc://g.ml.local:9000{method}", protocol=protocol, headers=headers)


# --- paths ------------------------------------------------------------------------------------


def test_prefix(job: Transport) -> None:
    """prefix: what the path begins with, at no particular boundary, as it is written."""
    asked = [get(it) for it in ("/prefix", "/prefix/x", "/prefixed?a=1", "/Prefix", "/x/prefix")]
    assert taken(job, *asked) == ["prefix"] * 3 + [NONE] * 2


def test_exact_path(job: Transport) -> None:
    """path.exact: the whole path; the query is no part of it."""
    asked = [get(it) for it in ("/exact", "/exact?a=1", "/exact/", "/exac", "/EXACT")]
    assert taken(job, *asked) == ["exact-path"] * 2 + [NONE] * 3


def test_regex_path(job: Transport) -> None:
    """path.regex: a regular expression of the whole path, without its query."""
    asked = [get(it) for it in ("/regex/abc", "/regex/a?d", "/regex/abcd", "/x/regex/a")]
    assert taken(job, *asked) == ["regex-path"] * 2 + [NONE] * 2


def test_paths_are_made_normal(job: Transport) -> None:
    """A prefix or path match turns on path normalisation and the merging of slashes."""
    asked = [get(it) for it in ("/x/../exact", "//exact", "/./prefix//y", "/prefix/../x")]
    assert taken(job, *asked) == ["exact-path", "exact-path", "prefix", NONE]


# --- method, scheme, port ---------------------------------------------------------------------


def test_method(job: Transport) -> None:
    """method: the request's own."""
    assert taken(
        job, get("/method", method="PUT"), get("/method"), get("/method", None, "POST")
    ) == [
        "method",
        NONE,
        NONE,
    ]


def test_scheme(job: Transport) -> None:
    """scheme: http or https, as the request has it."""
    assert taken(job, get("/scheme"), get("/tls")) == ["scheme", NONE]
    asked = [ask(f"https://s.ml.local{path}") for path in ("/tls", "/scheme")]
    assert taken(job, *asked) == ["other-scheme", NONE]


def test_port(job: Transport) -> None:
    """match.port: the port of the router at which the request came."""
    asked = [ask(f"http://s.ml.local{it}/port") for it in (":8080", ":80", "")]
    assert taken(job, *asked) == ["port", NONE, NONE]


# --- headers ----------------------------------------------------------------------------------


def by_header(job: Transport, path: str, *values: str | None) -> list[str | None]:
    """The routes that requests with these values of a header take."""
    return taken(job, *(get(path, value) for value in values))


def test_header_exact(job: Transport) -> None:
    """headers.match.exact: the whole value, case included."""
    assert by_header(job, "/h-exact", "b", "bb", "B", None) == ["header-exact"] + [NONE] * 3


def test_header_prefix(job: Transport) -> None:
    """headers.match.prefix: what the value begins with."""
    assert by_header(job, "/h-prefix", "b", "bc", "cb", None) == ["header-prefix"] * 2 + [NONE] * 2


def test_header_suffix(job: Transport) -> None:
    """headers.match.suffix: what the value ends with."""
    assert by_header(job, "/h-suffix", "b", "cb", "bc", None) == ["header-suffix"] * 2 + [NONE] * 2


def test_header_regex(job: Transport) -> None:
    """headers.match.regex: a regular expression of the whole value."""
    assert by_header(job, "/h-regex", "bb", "bc", "abc", "bcc", None) == (
        ["header-regex"] * 2 + [NONE] * 3
    )


def test_header_range(job: Transport) -> None:
    """headers.match.range: a whole number from start up to, but not including, end."""
    values = ("3", "4", "5", "2", "3.5", "x", None)
    assert by_header(job, "/h-range", *values) == ["header-range"] * 2 + [NONE] * 5


def test_header_present(job: Transport) -> None:
    """A header without a match method must be there, whatever its value."""
    assert by_header(job, "/h-present", "b", "c", None) == ["header-present"] * 2 + [NONE]


@pytest.mark.parametrize(
    ("kind", "refused", "accepted"),
    [
        ("exact", "b", "bb"),
        ("prefix", "bc", "cb"),
        ("suffix", "cb", "bc"),
        ("regex", "bb", "bc"),
        ("range", "4", "5"),
    ],
)
def test_header_inverted(job: Transport, kind: str, refused: str, accepted: str) -> None:
    """invert: every value but those that match; without the header there is none to compare."""
    found = by_header(job, f"/n-{kind}", refused, accepted, None)
    assert found == [NONE, f"not-{kind}", NONE]


def test_header_absent(job: Transport) -> None:
    """invert without a match method: the header must not be there."""
    assert by_header(job, "/absent", None, "b") == ["absent", NONE]


def test_headers_must_all_match(job: Transport) -> None:
    """Several headers: all of them."""
    asked = [get("/h-all", "a", x_b="c"), get("/h-all", "a"), get("/h-all", None, x_b="c")]
    assert taken(job, *asked) == ["all-headers", NONE, NONE]


# --- query parameters -------------------------------------------------------------------------


def test_query_exact(job: Transport) -> None:
    """queryParameters.match.exact: the whole value of the parameter."""
    asked = [get(f"/q-exact{it}") for it in ("?day=7", "?a=1&day=7", "?day=77", "?night=7", "")]
    assert taken(job, *asked) == ["query-exact"] * 2 + [NONE] * 3


def test_query_present(job: Transport) -> None:
    """A query parameter without a match must be there, whatever its value."""
    asked = [get(f"/q-present{it}") for it in ("?day=7", "?day=", "?days=7", "")]
    assert taken(job, *asked) == ["query-present"] * 2 + [NONE] * 2


def test_queries_must_all_match(job: Transport) -> None:
    """Several query parameters: all of them."""
    asked = [get(f"/q-all{it}") for it in ("?day=1&night=2", "?day=1", "?night=2")]
    assert taken(job, *asked) == ["all-queries", NONE, NONE]


# --- order ------------------------------------------------------------------------------------


def test_priority(job: Transport) -> None:
    """priority: 0 comes first; routes without one come after those that have one."""
    asked = [get("/order", None, "POST"), get("/order"), get("/order/whole")]
    assert taken(job, *asked) == ["first", "second", "second"]


def test_longest_path_first(job: Transport) -> None:
    """Among routes of one priority the longest path is asked first."""
    asked = [get("/long/er/est"), get("/long/er/x"), get("/long/x")]
    assert taken(job, *asked) == ["longest", "longer", "short"]


def test_no_route(job: Transport) -> None:
    """A request that meets no route is answered by 404 and reaches no node."""
    reply = job.send(get("/nowhere"))
    assert (reply.status, reply.route, reply.target, reply.attempts) == (404, NONE, None, 0)


# --- gRPC -------------------------------------------------------------------------------------


def test_grpc_service(job: Transport) -> None:
    """serviceName: all methods of a service, and no service whose name begins like it."""
    asked = [rpc(it) for it in ("/ml.Service/A", "/ml.Service/B", "/ml.Services/A", "/Service/A")]
    assert taken(job, *asked) == ["of-service"] * 2 + [NONE] * 2


def test_grpc_method(job: Transport) -> None:
    """methodName: this method of the service alone."""
    asked = [rpc(it) for it in ("/ml.Method/Best", "/ml.Method/BestOf", "/ml.Method/best")]
    assert taken(job, *asked) == ["of-method", NONE, NONE]


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        ("exact", "b", "bb"),
        ("prefix", "bc", "cb"),
        ("suffix", "cb", "bc"),
        ("regex", "bb", "bc"),
        ("range", "4", "5"),
        ("present", "x", None),
        ("absent", None, "x"),
    ],
)
def test_grpc_metadata(
    job: Transport, kind: str, accepted: str | None, refused: str | None
) -> None:
    """metadata: the same ways to match as for headers."""
    service = f"/ml.{kind.title()}/Get"
    found = taken(job, rpc(service, accepted), rpc(service, refused))
    assert found == [f"metadata-{kind}", NONE]


def test_grpc_without_a_route(job: Transport) -> None:
    """A call that meets no route ends with UNIMPLEMENTED, as gRPC reads a 404."""
    unimplemented = 12
    assert job.send(rpc("/ml.Nobody/Get")).status == unimplemented


def test_no_call_of_grpc_but_by_grpc(job: Transport) -> None:
    """A grpcRoute takes calls of gRPC alone, not every request with such a path."""
    url = "http://g.ml.local:9000/ml.Service/A"
    assert job.send(ask(url, method="POST")).route is NONE
