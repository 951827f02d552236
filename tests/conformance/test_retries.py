"""Which failures are tried again, and how often: counted at the program that failed.

A call's plan says what the program does with each try; each route has one retry policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.subject import Reply, Request, Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http2_program, http_program
from tests.free_ports import free_port

SERVER_ERRORS = (500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511)
OTHER_ERRORS = (400, 404, 409, 429, 509, 512, 599)
EVENTS = {
    "server-error": "httpRetryEvents: [server-error]",
    "gateway-error": "httpRetryEvents: [gateway-error]",
    "client-error": "httpRetryEvents: [client-error]",
    "two-events": "httpRetryEvents: [client-error, gateway-error]",
    "every-event": (
        "httpRetryEvents: [server-error, gateway-error, client-error, stream-error], "
        "tcpRetryEvents: [connection-error]"
    ),
}
GRPC_STATUSES = {
    "cancelled": 1,
    "deadline-exceeded": 4,
    "internal": 13,
    "resource-exhausted": 8,
    "unavailable": 14,
}
HEAD = """
mesh: {meshName: ml}
INJECTED
clients:
- clientName: job
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: s.ml.local}
    - virtualService: {virtualServiceName: h.ml.local}
    - virtualService: {virtualServiceName: g.ml.local}
    - virtualService: {virtualServiceName: direct.ml.local}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners: [{portMapping: {port: HTTP_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: half
  spec:
    listeners: [{portMapping: {port: HALF_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: half.test, responseType: ENDPOINTS}}
- virtualNodeName: gone
  spec:
    listeners: [{portMapping: {port: GONE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: h
  spec:
    listeners: [{portMapping: {port: HTTP2_PORT, protocol: http2}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: g
  spec:
    listeners: [{portMapping: {port: GRPC_PORT, protocol: grpc}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: r}}}
- virtualServiceName: h.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: h}}}
- virtualServiceName: g.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: g}}}
- virtualServiceName: direct.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
virtualRouters:
- virtualRouterName: r
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes: [HTTP_ROUTES]
- virtualRouterName: h
  spec: {listeners: [{portMapping: {port: 80, protocol: http2}}]}
  routes: [HTTP2_ROUTES]
- virtualRouterName: g
  spec: {listeners: [{portMapping: {port: 9000, protocol: grpc}}]}
  routes: [GRPC_ROUTES]
"""


def policy(events: str, *, most: int = 2, each_ms: int = 5000) -> str:
    """A retry policy."""
    limits = f"maxRetries: {most}, perRetryTimeout: {{unit: ms, value: {each_ms}}}"
    return f"retryPolicy: {{{limits}, {events}}}"


def route(name: str, match: str, node: str, *policies: str, field: str = "httpRoute") -> str:
    """A route to one node."""
    action = f"action: {{weightedTargets: [{{virtualNode: {node}, weight: 1}}]}}"
    parts = ", ".join((f"match: {{{match}}}", action, *policies))
    return f"{{routeName: {name}, spec: {{{field}: {{{parts}}}}}}}"


def mesh_text(injected: str) -> str:
    """The mesh of all policies."""
    connection = "tcpRetryEvents: [connection-error]"
    plain = [route(name, f"prefix: /{name}", "n", policy(it)) for name, it in EVENTS.items()]
    plain += [
        route("connection-error", "prefix: /connection-error", "n", policy(connection)),
        route("half", "prefix: /half", "half", policy(connection)),
        route("gone", "prefix: /gone", "gone", policy(connection)),
        route("gone-once", "prefix: /once", "gone", policy(EVENTS["server-error"])),
        route("never", "prefix: /never", "n", policy(EVENTS["server-error"], most=0)),
        route("often", "prefix: /often", "n", policy(EVENTS["server-error"], most=6)),
        route("silent", "prefix: /silent", "n"),
    ]
    stream = "httpRetryEvents: [stream-error]"
    streams = [
        route("stream-error", "prefix: /stream-error", "h", policy(stream), field="http2Route"),
        route("other", "prefix: /", "h", policy(EVENTS["server-error"]), field="http2Route"),
    ]
    calls = [
        route(name, f"serviceName: ml.{name}", "g", policy(events), field="grpcRoute")
        for name, events in {
            **{it: f"grpcRetryEvents: [{it}]" for it in GRPC_STATUSES},
            "all": f"grpcRetryEvents: [{', '.join(GRPC_STATUSES)}]",
            "http": EVENTS["gateway-error"],
        }.items()
    ]
    calls.append(route("quiet", "serviceName: ml.quiet", "g", field="grpcRoute"))
    text = HEAD.replace("INJECTED", f"injectedDefaults: {injected}" if injected else "")
    text = text.replace("HTTP2_ROUTES", ", ".join(streams))
    return text.replace("HTTP_ROUTES", ", ".join(plain)).replace("GRPC_ROUTES", ", ".join(calls))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A client, and the programs behind its routes."""

    job: Transport
    http: Upstream
    half: Upstream
    http2: Upstream
    grpc: Upstream

    def tries(self, request: Request) -> tuple[int, int]:
        """The status that a call ends with, and how often it reached a program."""
        return self.all_tries([request])[0]

    def all_tries(self, requests: list[Request]) -> list[tuple[int, int]]:
        """The same of several calls."""
        replies = self.job.send_all(requests, at_once=4)
        programs = (self.http, self.half, self.http2, self.grpc)
        counted = [sum(program.tries(it) for program in programs) for it in requests]
        self.agree(replies, counted)
        return [(reply.status, count) for reply, count in zip(replies, counted, strict=True)]

    def agree(self, replies: tuple[Reply, ...], counted: list[int]) -> None:
        """The transport tells of as many attempts as reached the programs."""
        assert [it.attempts for it in replies] == counted


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A mesh in which nothing is injected."""
    yield from worlds(subject, tmp_path_factory.mktemp("retries"), "")


@pytest.fixture(scope="module", params=["modern", "legacy"])
def injected(
    request: pytest.FixtureRequest, subject: Subject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, World]]:
    """The same mesh with what App Mesh injected, for new accounts and for old ones."""
    folder = tmp_path_factory.mktemp(request.param)
    for made in worlds(subject, folder, request.param):
        yield request.param, made


def worlds(subject: Subject, folder: Path, injected: str) -> Iterator[World]:
    """The world while it is at work; of the two addresses of ``half.test`` one refuses."""
    need(subject, "http", "http2", "grpc")
    with (
        http_program("n") as plain,
        http_program("half") as half,
        http2_program("h") as http2,
        http2_program("g") as grpc,
    ):
        at = {
            "HTTP": plain.port,
            "HALF": half.port,
            "GONE": free_port(),
            "HTTP2": http2.port,
            "GRPC": grpc.port,
        }
        hosts = {"half.test": ["127.0.0.1", "127.0.0.2"]}
        with subject.at_work(folder, mesh_text(injected), at=at, hosts=hosts) as members:
            yield World(job=members["job"], http=plain, half=half, http2=http2, grpc=grpc)


def get(name: str, *plan: object, method: str = "GET", body: bytes = b"") -> Request:
    """A request of http by a route."""
    return ask(f"http://s.ml.local/{name}", *map(str, plan), method=method, body=body)


# --- events of http ---------------------------------------------------------------------------


def test_server_error(world: World) -> None:
    """server-error: 500 to 508 without 509, 510 and 511."""
    found = world.all_tries([get("server-error", code) for code in SERVER_ERRORS])
    assert found == [(200, 2)] * len(SERVER_ERRORS)
    others = world.all_tries([get("server-error", code) for code in OTHER_ERRORS])
    assert others == [(code, 1) for code in OTHER_ERRORS]


def test_gateway_error(world: World) -> None:
    """gateway-error: 502, 503 and 504; 500 is not tried again."""
    again = world.all_tries([get("gateway-error", code) for code in (502, 503, 504)])
    final = world.all_tries([get("gateway-error", code) for code in (500, 501, 505)])
    assert again == [(200, 2)] * 3
    assert final == [(500, 1), (501, 1), (505, 1)]


def test_client_error(world: World) -> None:
    """client-error: 409 alone."""
    found = world.all_tries([get("client-error", code) for code in (409, 404, 400, 429, 503)])
    assert found == [(200, 2), (404, 1), (400, 1), (429, 1), (503, 1)]


def test_stream_error(world: World) -> None:
    """stream-error: an http2 stream that the program refused, and no other reset."""
    url = "http://h.ml.local/stream-error"
    refused = ask(url, "refuse", "refuse", protocol="http2")
    cancelled = ask(url, "cancel", protocol="http2")
    failed = ask(url, "503", protocol="http2")
    assert world.all_tries([refused, cancelled, failed]) == [(200, 3), (503, 1), (503, 1)]


def test_a_refused_stream_is_no_server_error(world: World) -> None:
    """Without stream-error a stream that was refused is not tried again."""
    assert world.tries(ask("http://h.ml.local/x", "refuse", protocol="http2")) == (503, 1)


def test_several_events(world: World) -> None:
    """Each of the events listed is tried again, in whatever order they come."""
    found = world.all_tries([get("two-events", 409, 503), get("two-events", 500)])
    assert found == [(200, 3), (500, 1)]


# --- events of connections --------------------------------------------------------------------


def test_connection_error(world: World) -> None:
    """connection-error: where nobody listens the call is tried again, at another endpoint."""
    asked = [get("half") for _ in range(8)]
    replies = world.job.send_all(asked)
    assert [it.status for it in replies] == [200] * len(asked)
    assert [world.half.tries(it) for it in asked] == [1] * len(asked)
    assert 2 in {it.attempts for it in replies}


def test_connection_error_ends(world: World) -> None:
    """After maxRetries the call ends with 503; without the event it is not tried again."""
    tried, once = world.job.send_all([get("gone"), get("once")])
    assert (tried.status, tried.attempts, tried.flags) == (503, 3, "UF,URX")
    assert (once.status, once.attempts, once.flags) == (503, 1, "UF")


def test_no_event_covers_a_reset(world: World) -> None:
    """An explicit policy does not retry a connection that breaks after the request was sent."""
    names = (*EVENTS, "connection-error", "silent")
    found = world.all_tries([get(name, "reset") for name in names])
    assert found == [(503, 1)] * len(names)


# --- events of gRPC ---------------------------------------------------------------------------


@pytest.mark.parametrize("event", GRPC_STATUSES)
def test_grpc_events(world: World, event: str) -> None:
    """grpcRetryEvents: a status of gRPC each; no other status is tried again."""
    url = f"grpc://g.ml.local:9000/ml.{event}/Get"
    statuses = (*GRPC_STATUSES.values(), 2, 5)
    found = world.all_tries([ask(url, f"grpc {it}", protocol="grpc") for it in statuses])
    own = GRPC_STATUSES[event]
    assert found == [(0, 2) if status == own else (status, 1) for status in statuses]


def test_all_grpc_events(world: World) -> None:
    """Several events: a call may fail by another at each try."""
    url = "grpc://g.ml.local:9000/ml.all/Get"
    assert world.tries(ask(url, "grpc 14", "grpc 8", protocol="grpc")) == (0, 3)
    assert world.tries(ask(url, *["grpc 13"] * 9, protocol="grpc")) == (13, 3)


def test_http_events_of_a_grpc_route(world: World) -> None:
    """A grpcRoute may list events of http: they mean the status of http, not that of gRPC."""
    url = "grpc://g.ml.local:9000/ml.http/Get"
    asked = [ask(url, it, protocol="grpc") for it in ("503", "grpc 14")]
    assert world.all_tries(asked) == [(0, 2), (14, 1)]


# --- how often --------------------------------------------------------------------------------


def test_max_retries(world: World) -> None:
    """maxRetries: so many tries after the first; the last answer is the call's."""
    found = world.all_tries(
        [get("often", *[503] * 6), get("often", *[503] * 9), get("often", 500, 502)]
    )
    assert found == [(200, 7), (503, 7), (200, 3)]


def test_max_retries_zero(world: World) -> None:
    """maxRetries 0: the events are named, and nothing is tried again."""
    assert world.tries(get("never", 503)) == (503, 1)


def test_a_body_is_sent_again(world: World) -> None:
    """Any method is tried again, and each try carries the whole request."""
    asked = get("often", 503, 503, method="POST", body=b"abc" * 1000)
    assert world.tries(asked) == (200, 3)
    seen = world.http.seen_of(asked)
    assert [(it.method, it.body) for it in seen] == [("POST", b"abc" * 1000)] * 3


def test_no_policy(world: World) -> None:
    """Without a policy, and with nothing injected, nothing is tried again."""
    asked = [get("silent", it) for it in (500, 503, 409)]
    asked += [ask("http://direct.ml.local/x", "503")]
    asked += [ask("grpc://g.ml.local:9000/ml.quiet/Get", "grpc 14", protocol="grpc")]
    assert world.all_tries(asked) == [(500, 1), (503, 1), (409, 1), (503, 1), (14, 1)]


# --- what was injected ------------------------------------------------------------------------


def test_injected_retries(injected: tuple[str, World]) -> None:
    """Accounts from July 2020 on: 2 retries on 503 and a reset, with a router and without one."""
    name, world = injected
    asked = [get("silent", 503, 503), get("silent", "reset"), get("silent", 500)]
    asked += [ask("http://direct.ml.local/x", "503", "503"), get("silent", *[503] * 9)]
    modern = [(200, 3), (200, 2), (500, 1), (200, 3), (503, 3)]
    legacy = [(503, 1), (503, 1), (500, 1), (503, 1), (503, 1)]
    assert world.all_tries(asked) == (modern if name == "modern" else legacy)


def test_injected_retries_of_grpc(injected: tuple[str, World]) -> None:
    """Of gRPC the status unavailable, and no other."""
    name, world = injected
    url = "grpc://g.ml.local:9000/ml.quiet/Get"
    asked = [ask(url, f"grpc {status}", protocol="grpc") for status in (14, 13)]
    assert world.all_tries(asked) == [(0, 2) if name == "modern" else (14, 1), (13, 1)]


def test_a_policy_replaces_what_was_injected(injected: tuple[str, World]) -> None:
    """A route with a policy has that policy alone."""
    _, world = injected
    found = world.all_tries([get("client-error", 503), get("client-error", "reset")])
    assert found == [(503, 1), (503, 1)]
