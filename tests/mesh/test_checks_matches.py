"""Routes that no request can take: what is said of them holds for every request there could be.

The matcher is the witness: it is proven against Envoy elsewhere.
"""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.checks_matches import find_impossible_matches, find_unreachable_routes
from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.matcher import compile_routes
from meshml_dbx.mesh.places import Declared, Problem
from meshml_dbx.mesh.requests import Request
from tests.mesh.made_meshes import GATEWAY as GATEWAY_NAME
from tests.mesh.made_meshes import MEMBER
from tests.mesh.made_requests import Trial, gateway_trials, trials

PORT = 8088

ROUTER = """\
mesh: {meshName: ml}
clients:
  - clientName: churn
    role: training
    spec: {backends: [{virtualService: {virtualServiceName: labels.ml}}]}
virtualNodes:
  - virtualNodeName: labels
    spec:
      listeners: [{portMapping: {port: 8080, protocol: PROTOCOL}}]
      serviceDiscovery: {dns: {hostname: labels.example.com}}
virtualServices:
  - virtualServiceName: labels.ml
    spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
virtualRouters:
  - virtualRouterName: labels
    spec: {listeners: [{portMapping: {port: 80, protocol: PROTOCOL}}]}
    routes:
"""
GATEWAY = """\
mesh: {meshName: ml}
virtualNodes:
  - virtualNodeName: labels
    spec:
      listeners: [{portMapping: {port: 8080, protocol: http}}]
      serviceDiscovery: {dns: {hostname: labels.example.com}}
virtualServices:
  - virtualServiceName: labels.ml
    spec: {provider: {virtualNode: {virtualNodeName: labels}}}
virtualGateways:
  - virtualGatewayName: front
    spec: {listeners: [{portMapping: {port: 8088, protocol: http}}]}
    gatewayRoutes:
"""


def router_with(*matches: str, kind: str = "httpRoute") -> str:
    """A mesh file whose router has a route of each match, asked in this order."""
    protocol = kind.removesuffix("Route")
    routes = (
        f"      - routeName: r{number}\n        spec:\n          priority: {number}\n"
        f"          {kind}: {{match: {match}, "
        "action: {weightedTargets: [{virtualNode: labels, weight: 1}]}}\n"
        for number, match in enumerate(matches)
    )
    return ROUTER.replace("PROTOCOL", protocol) + "".join(routes)


def gateway_with(*matches: str) -> str:
    """A mesh file whose gateway has a route of each match, asked in this order."""
    routes = (
        f"      - gatewayRouteName: r{number}\n        spec:\n          priority: {number}\n"
        f"          httpRoute: {{match: {match}, "
        "action: {target: {virtualService: {virtualServiceName: labels.ml}}}}\n"
        for number, match in enumerate(matches)
    )
    return GATEWAY + "".join(routes)


def codes_of(text: str) -> list[str]:
    """The codes of a text's findings, plain text aside."""
    found = check_mesh(load_mesh(text, source="mesh.yml"))
    return [one.code for one in found if one.code != "plaintext"]


# --- every request ----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(trials(12))
def test_a_route_that_is_called_unreachable_takes_no_request(trial: Trial) -> None:
    """Whatever is asked, an earlier route, or none, answers."""
    hidden = _places(find_unreachable_routes(Declared.of(trial.mesh)))
    assert hidden.isdisjoint(_taken(trial, trial.requests))


@settings(max_examples=100, deadline=None)
@given(trials(12))
def test_a_match_that_is_called_impossible_is_met_by_no_request(trial: Trial) -> None:
    """Whatever is asked, as long as each header is there once."""
    found = find_impossible_matches(Declared.of(trial.mesh))
    never = {place.partition(".spec.")[0] for place in _places(found)}
    plain = [it for it in trial.requests if _has_each_header_once(it)]
    assert never.isdisjoint(_taken(trial, plain))


@settings(max_examples=100, deadline=None)
@given(gateway_trials(PORT, 12))
def test_a_gateway_route_of_which_that_is_said_takes_none_either(trial: Trial) -> None:
    """Unreachable or impossible: gateways are judged as routers are."""
    declared = Declared.of(trial.mesh)
    never = _places(find_unreachable_routes(declared)) | {
        place.partition(".spec.")[0] for place in _places(find_impossible_matches(declared))
    }
    routes = compile_routes(trial.mesh, GATEWAY_NAME)
    plain = [it for it in trial.requests if _has_each_header_once(it)]
    rules = (routes.decide(request).gateway_rule for request in plain)
    assert never.isdisjoint({rule.place for rule in rules if rule})


def _places(problems: Iterator[Problem]) -> set[str]:
    return {problem.path for problem in problems}


def _taken(trial: Trial, requests: list[Request] | tuple[Request, ...]) -> set[str]:
    routes = compile_routes(trial.mesh, MEMBER)
    rules = (routes.decide(request).rule for request in requests)
    return {rule.place for rule in rules if rule}


def _has_each_header_once(request: Request) -> bool:
    return max(Counter(name.lower() for name, _ in request.headers).values(), default=0) <= 1


# --- which route hides which ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{}", "{prefix: /v1, method: GET}"),
        ("{prefix: /}", '{path: {regex: "/v[12]/.*"}}'),
        ('{path: {regex: ".*"}}', "{prefix: /v1}"),
        ('{path: {regex: "/v[12]/.*"}}', "{path: {exact: /v1/a}}"),
        ("{prefix: /v1, port: 80}", "{prefix: /v1/a, port: 80}"),
        ("{prefix: /, scheme: http}", "{prefix: /, scheme: http, method: GET}"),
        (
            "{prefix: /, queryParameters: [{name: a}]}",
            "{queryParameters: [{name: a, match: {exact: x}}]}",
        ),
        (
            "{headers: [{name: a}], queryParameters: [{name: b}]}",
            "{headers: [{name: b}, {name: A, match: {prefix: x}}], queryParameters: [{name: b}]}",
        ),
    ],
)
def test_a_route_that_asks_less_hides_one_that_asks_more(first: str, second: str) -> None:
    """Path, method, scheme, port, headers and query all count."""
    assert codes_of(router_with(first, second)) == ["unreachable-route"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{prefix: /v1}", '{path: {regex: "/v[12]/.*"}}'),
        ('{path: {regex: "/v[12]/.*"}}', '{path: {regex: "/v1/.*"}}'),
        ("{prefix: /, port: 80}", "{prefix: /}"),
        ("{prefix: /, scheme: https}", "{prefix: /, scheme: http}"),
        ("{prefix: /, queryParameters: [{name: a}]}", "{prefix: /}"),
        (
            "{queryParameters: [{name: a, match: {exact: x}}]}",
            "{queryParameters: [{name: a, match: {exact: y}}]}",
        ),
        ("{queryParameters: [{name: a}]}", "{queryParameters: [{name: A}]}"),
    ],
)
def test_a_route_that_leaves_something_hides_nothing(first: str, second: str) -> None:
    """Where some request could get past the first, nothing is said."""
    assert codes_of(router_with(first, second)) == []


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ("{serviceName: a.B}", "{serviceName: a.B, methodName: C}", 1),
        ("{}", "{serviceName: a.B}", 1),
        ("{serviceName: a.B, methodName: C}", "{serviceName: a.B}", 0),
        ("{serviceName: a.B}", "{serviceName: a.Bc}", 0),
        (
            "{metadata: [{name: a}]}",
            "{serviceName: a.B, metadata: [{name: a, match: {exact: x}}]}",
            1,
        ),
    ],
)
def test_grpc_routes_hide_one_another_by_service_and_method(
    first: str, second: str, hidden: int
) -> None:
    """A service is all its methods."""
    found = codes_of(router_with(first, second, kind="grpcRoute"))
    assert found == ["unreachable-route"] * hidden


def test_tcp_routes_hide_one_another_by_port() -> None:
    """There is nothing else to tell connections by."""
    assert codes_of(router_with("{}", "{port: 80}", kind="tcpRoute")) == ["unreachable-route"]
    assert codes_of(router_with("{port: 80}", "{}", kind="tcpRoute")) == []


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ("{prefix: /}", "{prefix: /, hostname: {exact: a.example.com}}", 1),
        ("{hostname: {suffix: .example.com}}", "{hostname: {exact: A.EXAMPLE.com}}", 1),
        ("{hostname: {suffix: .com}}", "{hostname: {suffix: .example.com}}", 1),
        ("{hostname: {exact: a.example.com}}", "{prefix: /}", 0),
        ("{hostname: {exact: a.example.com}}", "{hostname: {exact: b.example.com}}", 0),
        ("{prefix: /a/, hostname: {suffix: .com}}", "{hostname: {exact: a.com}}", 0),
    ],
)
def test_gateway_routes_hide_one_another_by_host_as_well(
    first: str, second: str, hidden: int
) -> None:
    """A gateway is called by many names."""
    assert codes_of(gateway_with(first, second)) == ["unreachable-route"] * hidden


def test_many_routes_of_one_router_are_compared_in_a_moment() -> None:
    """Not each with each: that would be half a million pairs."""
    cohorts = (
        f"{{prefix: /, headers: [{{name: a, match: {{exact: x{at}}}}}]}}" for at in range(990)
    )
    paths = (f"{{prefix: /v{at}/}}" for at in range(10, 20))
    loaded = load_mesh(router_with(*cohorts, *paths), source="mesh.yml")
    assert loaded.mesh is not None
    declared = Declared.of(loaded.mesh)
    began = time.process_time()
    assert list(find_unreachable_routes(declared)) == []
    assert time.process_time() - began < 1


# --- what contradicts itself ------------------------------------------------------------------


@pytest.mark.parametrize(
    "match",
    [
        "{headers: [{name: a, match: {exact: x}}, {name: A, match: {exact: y}}]}",
        "{headers: [{name: a}, {name: a, invert: true}]}",
        "{headers: [{name: a, match: {exact: x}}, {name: a, invert: true}]}",
        "{headers: [{name: a, match: {exact: x}}, {name: a, invert: true, match: {exact: x}}]}",
        "{headers: [{name: a, match: {prefix: x}}, {name: a, match: {prefix: y}}]}",
        "{headers: [{name: a, match: {suffix: x}}, {name: a, match: {suffix: yz}}]}",
        "{headers: [{name: a, match: {range: {start: 1, end: 5}}}, "
        "{name: a, match: {range: {start: 5, end: 9}}}]}",
        '{headers: [{name: a, match: {regex: "x+"}}, {name: a, match: {exact: y}}]}',
        "{queryParameters: [{name: a, match: {exact: x}}, {name: a, match: {exact: y}}]}",
        "{port: 81}",
        '{path: {regex: "v1/.*"}}',
    ],
)
def test_a_match_that_nothing_meets_is_found(match: str) -> None:
    """Such a route waits for ever."""
    assert codes_of(router_with(match)) == ["impossible-match"]


@pytest.mark.parametrize(
    "match",
    [
        "{headers: [{name: a, match: {prefix: x}}, {name: a, match: {suffix: y}}]}",
        "{headers: [{name: a, match: {prefix: x}}, {name: a, match: {prefix: xy}}]}",
        "{headers: [{name: a, match: {prefix: x}}, {name: a, invert: true, match: {exact: xy}}]}",
        "{headers: [{name: a}, {name: a, match: {exact: x}}]}",
        "{headers: [{name: a, invert: true}, {name: a, invert: true}]}",
        "{headers: [{name: a, match: {exact: x}}, {name: b, match: {exact: y}}]}",
        "{queryParameters: [{name: a}, {name: a, match: {exact: y}}]}",
        "{port: 80}",
        '{path: {regex: "v?/.*"}}',
        '{path: {regex: "v1|/.*"}}',
    ],
)
def test_a_match_that_something_meets_is_no_finding(match: str) -> None:
    """Narrow is not impossible."""
    assert codes_of(router_with(match)) == []


def test_a_gateway_route_for_a_port_that_the_gateway_lacks_is_found() -> None:
    """Nobody comes that way."""
    assert codes_of(gateway_with("{prefix: /, port: 9}")) == ["impossible-match"]


# --- expressions ------------------------------------------------------------------------------


@pytest.mark.parametrize("regex", ["^/v1", "/v1", "^/v[12]/x"])
def test_an_expression_that_seems_meant_for_a_part_is_said(regex: str) -> None:
    """It must meet the whole path."""
    assert codes_of(router_with(f'{{path: {{regex: "{regex}"}}}}')) == ["partial-regex"]


@pytest.mark.parametrize("regex", ["^/v1/.*$", "/v[12]/.*", "^/v1/(a|b)", "/v1/.+", "^/v1.*"])
def test_an_expression_that_reaches_the_end_is_not(regex: str) -> None:
    """Nothing is said of what was thought through."""
    assert codes_of(router_with(f'{{path: {{regex: "{regex}"}}}}')) == []


@pytest.mark.parametrize(
    "match", ["{path: {regex: '/(a'}}", "{headers: [{name: a, match: {regex: '('}}]}"]
)
def test_expressions_of_gateways_are_read_too(match: str) -> None:
    """Envoy would refuse the whole listener."""
    assert codes_of(gateway_with(match)) == ["wrong-value"]
