"""Every kind of match of an http route, asked of a real Envoy with requests that just meet it."""

from collections.abc import Iterator

import pytest

from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_world import serving

pytestmark = pytest.mark.envoy

HEAD = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: training
  spec: {backends: [{virtualService: {virtualServiceName: s.ml.local}}]}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners: [{portMapping: {port: NODE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: r}}}
virtualRouters:
- virtualRouterName: r
  spec:
    listeners:
    - {portMapping: {port: 80, protocol: http}}
    - {portMapping: {port: 8080, protocol: http}}
  routes:
"""
MATCHES = {
    "regex": 'path: {regex: "/r/[a-c]+"}',
    "whole": "path: {exact: /w}",
    "prefix": "prefix: /p",
    "no-path": "headers: [{name: x-any-path}]",
    "query": 'prefix: /q, queryParameters: [{name: day, match: {exact: "7"}}]',
    "query-present": "prefix: /q, queryParameters: [{name: day}]",
    "scheme": "prefix: /s, scheme: http",
    "scheme-https": "prefix: /t, scheme: https",
    "method": "prefix: /m, method: PUT",
    "suffix": "prefix: /h, headers: [{name: x-a, match: {suffix: z}}]",
    "range": "prefix: /h, headers: [{name: x-n, match: {range: {start: 3, end: 5}}}]",
    "absent": "prefix: /i, headers: [{name: x-a, invert: true}]",
    "port": "prefix: /o, port: 8080",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One route for each match."""
    action = "action: {weightedTargets: [{virtualNode: n, weight: 1}]}"
    routes = [
        f"  - {{routeName: {name}, spec: {{httpRoute: {{match: {{{match}}}, {action}}}}}}}\n"
        for name, match in MATCHES.items()
    ]
    with serving() as program:
        folder = tmp_path_factory.mktemp("matches")
        with lab(folder, HEAD + "".join(routes), {"n": program.port}) as made:
            yield made


NONE = "meshml:no-route"


@pytest.mark.parametrize(
    ("method", "path", "headers", "route"),
    [
        ("GET", "/r/abc", {}, "regex"),
        ("GET", "/r/abc?x", {}, "regex"),
        ("GET", "/r/abcd", {}, NONE),
        ("GET", "/w", {}, "whole"),
        ("GET", "/w/", {}, NONE),
        ("GET", "/px", {}, "prefix"),
        ("GET", "//x/..//p", {}, "prefix"),
        ("GET", "/else", {"x_any_path": "1"}, "no-path"),
        ("GET", "/q?day=7", {}, "query"),
        ("GET", "/q?day=8", {}, "query-present"),
        ("GET", "/q?night=7", {}, NONE),
        ("GET", "/s", {}, "scheme"),
        ("GET", "/t", {}, NONE),
        ("PUT", "/m", {}, "method"),
        ("POST", "/m", {}, NONE),
        ("GET", "/h", {"x_a": "xyz"}, "suffix"),
        ("GET", "/h", {"x_n": "3"}, "range"),
        ("GET", "/h", {"x_n": "5"}, NONE),
        ("GET", "/i", {}, "absent"),
        ("GET", "/i", {"x_a": "b"}, NONE),
        ("GET", "/o", {}, NONE),
    ],
)
def test_a_request_takes_the_route_that_it_meets(
    world: Lab, method: str, path: str, headers: dict[str, str], route: str
) -> None:
    """What is asked for must all be there; paths are made normal first."""
    assert world.route_of("job", f"http://s.ml.local{path}", method, **headers) == route


def test_a_port_is_the_one_that_was_called(world: Lab) -> None:
    """match.port is a port of the router, which the caller names behind the service."""
    assert world.route_of("job", "http://s.ml.local:8080/o") == "port"
    assert world.route_of("job", "http://s.ml.local:80/o") == NONE
