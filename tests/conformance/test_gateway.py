"""A virtual gateway: which gateway route a request from outside takes, and what it becomes.

Counted and read at the program: each gateway route leads to a service of its own, whose node
answers by its name.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.conformance.subject import Reply, Request, Spoken, Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http2_program, http_program, send_in_turn
from tests.free_ports import free_port

KEPT = "rewrite: {prefix: {defaultPrefix: DISABLED}}"
NO_HOST = "rewrite: {hostname: {defaultTargetHostname: DISABLED}}"
ROUTES = {
    "by-prefix": ("match: {prefix: /prefix}", ""),
    "prefix-kept": ("match: {prefix: /kept}", KEPT),
    "prefix-changed": ("match: {prefix: /old/}", "rewrite: {prefix: {value: /new/}}"),
    "by-path": ("match: {path: {exact: /exact}}", ""),
    "path-changed": ("match: {path: {exact: /latest}}", "rewrite: {path: {exact: /v1/all}}"),
    "by-regex": ('match: {path: {regex: "/r[0-9]+"}}', ""),
    "by-host": ("match: {prefix: /hosts, hostname: {exact: api.example.com}}", KEPT),
    "by-suffix": ("match: {prefix: /hosts, hostname: {suffix: .example.org}}", KEPT),
    "host-kept": ("match: {path: {exact: /host-kept}}", NO_HOST),
    "by-method": ("match: {prefix: /method, method: POST}", KEPT),
    "by-header": ("match: {prefix: /header, headers: [{name: x-team, match: {prefix: ml}}]}", KEPT),
    "no-header": ("match: {prefix: /no-header, headers: [{name: x-team, invert: true}]}", KEPT),
    "by-query": (
        'match: {prefix: /query, queryParameters: [{name: q, match: {exact: "1"}}]}',
        KEPT,
    ),
    "by-port": ("match: {prefix: /port, port: SECOND_PORT}", KEPT),
    "longer": ("match: {prefix: /long/er}", KEPT),
    "short": ("match: {prefix: /long}", KEPT),
}
RANKED = {
    "last": (9, "match: {prefix: /ranked/longer}"),
    "first": (0, "match: {prefix: /ranked}"),
}
CALLS = {
    "grpc-service": "match: {serviceName: ml.Scores}",
    "grpc-metadata": "match: {serviceName: ml.Marked, metadata: [{name: x-a, match: {exact: b}}]}",
    "grpc-host": "match: {serviceName: ml.Hosts, hostname: {exact: grpc.example.com}}",
}
SERVICE = "s.ml.local"
HEAD = """
mesh: {meshName: ml}
virtualGateways:
- virtualGatewayName: edge
  spec:
    listeners:
    - portMapping: {port: FIRST_PORT, protocol: http}
      connectionPool: {http: {maxConnections: 2, maxPendingRequests: 1}}
    - portMapping: {port: SECOND_PORT, protocol: http}
    - portMapping: {port: THIRD_PORT, protocol: grpc}
      connectionPool: {grpc: {maxRequests: 2}}
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: edge}}
          validation: {trust: {sds: {secretName: ml}}}
  gatewayRoutes: [GATEWAY_ROUTES]
virtualNodes:
- virtualNodeName: n
  spec:
    listeners:
    - portMapping: {port: NODE_PORT, protocol: http}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: n}}
        validation:
          trust: {sds: {secretName: ml}}
          subjectAlternativeNames: {match: {exact: ["spiffe://ml/edge"]}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: other
  spec:
    listeners:
    - portMapping: {port: OTHER_PORT, protocol: http}
      tls: {mode: STRICT, certificate: {sds: {secretName: other}}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: g
  spec:
    listeners:
    - portMapping: {port: GRPC_PORT, protocol: grpc}
      tls: {mode: STRICT, certificate: {sds: {secretName: g}}}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: r
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: rewritten
    spec:
      httpRoute:
        match: {path: {exact: /v1/all}}
        action: {weightedTargets: [{virtualNode: n, weight: 1}]}
  - routeName: rest
    spec:
      httpRoute:
        match: {prefix: /}
        action: {weightedTargets: [{virtualNode: n, weight: 1}]}
        retryPolicy:
          maxRetries: 1
          perRetryTimeout: {unit: s, value: 2}
          httpRetryEvents: [gateway-error]
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: r}}}
- virtualServiceName: other.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: other}}}
- virtualServiceName: g.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: g}}}
"""


def gateway_route(
    name: str, match: str, rewrite: str, service: str, *, field: str = "httpRoute", rank: str = ""
) -> str:
    """A gateway route to a service."""
    target = f"target: {{virtualService: {{virtualServiceName: {service}}}}}"
    action = f"action: {{{target}, {rewrite}}}" if rewrite else f"action: {{{target}}}"
    return f"{{gatewayRouteName: {name}, spec: {{{rank}{field}: {{{match}, {action}}}}}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A gateway, and the programs behind its services."""

    edge: Transport
    n: Upstream
    other: Upstream
    grpc: Upstream
    second: int

    def arrived(self, request: Request) -> tuple[str, str]:
        """Host and path with which a request reached the program."""
        assert self.edge.send(request).status == 200
        (seen,) = self.n.seen_of(request)
        return seen.headers["host"], seen.path

    def statuses(self, *requests: Request) -> list[int]:
        """The status of each request."""
        return [it.status for it in self.edge.send_all(requests)]


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway of three listeners before three nodes."""
    need(subject, "gateway", "tls", "http", "grpc")
    second = free_port()
    routes = [gateway_route(name, *parts, SERVICE) for name, parts in ROUTES.items()]
    routes += [
        gateway_route(name, match, KEPT, service, rank=f"priority: {rank}, ")
        for (name, (rank, match)), service in zip(
            RANKED.items(), (SERVICE, "other.ml.local"), strict=True
        )
    ]
    routes += [
        gateway_route(name, match, "", "g.ml.local", field="grpcRoute")
        for name, match in CALLS.items()
    ]
    text = HEAD.replace("GATEWAY_ROUTES", ", ".join(routes))
    with ExitStack() as stack:
        n, other = (stack.enter_context(http_program(name)) for name in ("n", "other"))
        grpc = stack.enter_context(http2_program("g"))
        members = stack.enter_context(
            subject.at_work(
                tmp_path_factory.mktemp("gateway"),
                text,
                behind={"n": n.port, "other": other.port, "g": grpc.port},
                at={"SECOND": second},
            )
        )
        yield World(edge=members["edge"], n=n, other=other, grpc=grpc, second=second)


def get(path: str, *plan: str, host: str = "edge.example", **headers: str) -> Request:
    """A request from outside the mesh."""
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return ask(f"http://{host}{path}", *plan, headers=sent)


# --- rewrites ---------------------------------------------------------------------------------


def test_default_rewrites(world: World) -> None:
    """By default a matched prefix becomes / and the host becomes the virtual service's name."""
    assert world.arrived(get("/prefix/x?y=1")) == (SERVICE, "/x?y=1")
    assert world.arrived(get("/prefix")) == (SERVICE, "/")


def test_default_prefix_disabled(world: World) -> None:
    """defaultPrefix DISABLED: the path stays as it came."""
    assert world.arrived(get("/kept/x?y=1")) == (SERVICE, "/kept/x?y=1")


def test_prefix_value(world: World) -> None:
    """prefix.value takes the place of the matched prefix."""
    assert world.arrived(get("/old/x?y=1")) == (SERVICE, "/new/x?y=1")


def test_exact_path(world: World) -> None:
    """path.exact: the whole path, which stays as it came where no rewrite is declared."""
    assert world.arrived(get("/exact?y=1")) == (SERVICE, "/exact?y=1")
    assert world.statuses(get("/exact/x"), get("/exac")) == [404, 404]


def test_path_rewrite(world: World) -> None:
    """rewrite.path.exact: the whole path is replaced, and the router sees the new one."""
    asked = get("/latest?y=1")
    assert world.arrived(asked) == (SERVICE, "/v1/all?y=1")
    assert world.edge.send(get("/latest")).route == "rewritten"


def test_default_hostname_disabled(world: World) -> None:
    """defaultTargetHostname DISABLED: the host stays as the caller named it."""
    assert world.arrived(get("/host-kept", host="a.example")) == ("a.example", "/host-kept")


# --- matches ----------------------------------------------------------------------------------


def test_regex_path(world: World) -> None:
    """path.regex: a regular expression of the whole path."""
    assert world.statuses(get("/r42"), get("/r42x"), get("/r")) == [200, 404, 404]


def test_hostname(world: World) -> None:
    """hostname: the exact name, or what it ends with, with any port."""
    hosts = ("api.example.com", "api.example.com:81", "x.example.org", "a.b.example.org")
    others = ("example.com", "x.api.example.com", "example.org", "x.example.organ")
    assert world.statuses(*(get("/hosts", host=it) for it in hosts)) == [200] * 4
    assert world.statuses(*(get("/hosts", host=it) for it in others)) == [404] * 4


def test_method(world: World) -> None:
    """method: the request's own."""
    post = ask("http://edge.example/method", method="POST")
    assert world.statuses(post, get("/method")) == [200, 404]


def test_header(world: World) -> None:
    """headers: as for routes, inverted too."""
    asked = [get("/header", x_team="ml-core"), get("/header", x_team="core"), get("/header")]
    assert world.statuses(*asked) == [200, 404, 404]
    assert world.statuses(get("/no-header"), get("/no-header", x_team="a")) == [200, 404]


def test_query(world: World) -> None:
    """queryParameters: as for routes."""
    asked = [get(f"/query{it}") for it in ("?q=1", "?q=2", "")]
    assert world.statuses(*asked) == [200, 404, 404]


def test_port(world: World) -> None:
    """match.port: the listener of the gateway at which the request came."""
    asked = [get("/port", host=f"edge.example:{world.second}"), get("/port")]
    assert world.statuses(*asked) == [200, 404]


def test_priority(world: World) -> None:
    """priority: the least comes first, however long the prefixes."""
    assert world.edge.send(get("/ranked/longer")).body == b"other /ranked/longer"


def test_no_gateway_route(world: World) -> None:
    """A request that meets no gateway route is answered by 404, whatever services there are."""
    reply = world.edge.send(get("/nowhere", host=SERVICE))
    assert (reply.status, reply.route, reply.attempts) == (404, None, 0)


# --- into the mesh ----------------------------------------------------------------------------


def test_routes_behind_a_gateway(world: World) -> None:
    """A gateway obeys the service's own route: its retries, its target; it has its own identity."""
    asked = get("/kept/x", "503")
    reply: Reply = world.edge.send(asked)
    first, second = world.n.seen_of(asked)
    assert (reply.status, reply.attempts, reply.route, reply.target) == (200, 2, "rest", "n")
    assert "URI=spiffe://ml/edge" in first.headers["x-forwarded-client-cert"]
    assert second.path == "/kept/x"


def test_pool(world: World) -> None:
    """connectionPool of a gateway: so many connections to a node, so many waiting, else 503."""
    found = send_in_turn(world.edge, [get("/kept/pool", "wait 1.2") for _ in range(5)])
    assert sorted(it.status for it in found) == [200] * 3 + [503] * 2
    assert {it.flags for it in found if it.status != 200} == {"UO"}
    assert world.n.most_at_once == 2


def test_each_protocol_has_its_own_pool(world: World) -> None:
    """connectionPool of a gateway's grpc listener: so many calls at a time, whatever http has."""
    url = "grpc://edge.example/ml.Scores/Get"
    asked = [ask(url, "wait 1.2", protocol="grpc") for _ in range(5)]
    found = send_in_turn(world.edge, asked)
    unavailable = 14
    assert sorted(it.status for it in found) == [0] * 2 + [unavailable] * 3
    assert world.grpc.most_at_once == 2


@pytest.mark.parametrize(
    ("service", "host", "x_a", "status"),
    [
        ("ml.Scores", "edge.example", "b", 0),
        ("ml.Marked", "edge.example", "b", 0),
        ("ml.Marked", "edge.example", "c", 12),
        ("ml.Hosts", "grpc.example.com", "b", 0),
        ("ml.Hosts", "other.example.com", "b", 12),
        ("ml.Nobody", "edge.example", "b", 12),
    ],
)
def test_grpc(world: World, service: str, host: str, x_a: str, status: int) -> None:
    """grpcRoute of a gateway: service, metadata and hostname; else UNIMPLEMENTED."""
    protocol: Spoken = "grpc"
    asked = ask(f"grpc://{host}/{service}/Get", protocol=protocol, headers={"x-a": x_a})
    assert world.edge.send(asked).status == status
    assert world.grpc.tries(asked) == (1 if status == 0 else 0)
