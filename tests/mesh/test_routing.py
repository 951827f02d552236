"""The matcher: it decides as Envoy 1.40 was measured to decide, in App Mesh's order."""

import pytest

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh.routing import (
    RouteMatch,
    TargetShare,
    header_meets,
    match_request,
    ordered_routes,
)
from meshml_dbx.mesh.spec import (
    GrpcRoute,
    GrpcRouteMatch,
    HeaderMatch,
    HeaderMatchMethod,
    HttpRoute,
    HttpRouteMatch,
    PathMatch,
    RangeMatch,
    Route,
    RouteAction,
    RouteSpec,
    VirtualRouter,
    VirtualRouterSpec,
    WeightedTarget,
)
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE, changed, example_mesh, mesh_of

SERVICE = "labels.ml.local"
ONE = "action: {weightedTargets: [{virtualNode: labels-v1, weight: 1}]}"
ROUTES = f"""\
    routes:
      - {{routeName: any, spec: {{httpRoute: {{match: {{prefix: /}}, {ONE}}}}}}}
      - routeName: canary
        spec:
          priority: 5
          httpRoute: {{match: {{prefix: /v1, headers: [{{name: X-Canary}}]}}, {ONE}}}
      - {{routeName: post, spec: {{httpRoute: {{match: {{prefix: /v1, method: POST}}, {ONE}}}}}}}
      - {{routeName: health, spec: {{httpRoute: {{match: {{path: {{exact: /health}}}}, {ONE}}}}}}}
"""


def a_route(name: str, match: HttpRouteMatch, priority: int | None = None) -> Route:
    """A route to one target."""
    action = RouteAction(weighted_targets=(WeightedTarget(virtual_node="a", weight=1),))
    http_route = HttpRoute(match=match, action=action)
    return Route(route_name=name, spec=RouteSpec(priority=priority, http_route=http_route))


def order(*routes: Route) -> list[str]:
    """The names of a router's routes in the order in which they are asked."""
    router = VirtualRouter(virtual_router_name="r", spec=VirtualRouterSpec(), routes=routes)
    return [route.route_name for route in ordered_routes(router)]


def match_example(path: str, *, text: str = "") -> RouteMatch | None:
    """What becomes of a GET in the example, or in a variant of it."""
    mesh = mesh_of(text) if text else example_mesh()
    return match_request(mesh, virtual_service=SERVICE, method="GET", path=path, headers={})


# --- order ------------------------------------------------------------------------------------


def test_low_priorities_come_first_and_routes_without_one_last() -> None:
    """Zero is the highest rank; the file's order does not count."""
    slash = HttpRouteMatch(prefix="/")
    routes = [a_route("none", slash), a_route("1000", slash, 1000), a_route("0", slash, 0)]
    assert order(*routes) == ["0", "1000", "none"]


def test_among_equals_the_longer_path_comes_first() -> None:
    """The more specific of two routes of the same rank is asked first."""
    paths = ["/", "/v1/labels", "/v1"]
    routes = [a_route(path, HttpRouteMatch(prefix=path), 1) for path in paths]
    assert order(*routes) == ["/v1/labels", "/v1", "/"]


def test_a_full_path_comes_before_a_prefix_of_the_same_length() -> None:
    """Asked after the prefix, the full path would never be reached."""
    prefix = a_route("prefix", HttpRouteMatch(prefix="/v1"))
    full = a_route("full", HttpRouteMatch(path=PathMatch(exact="/v1")))
    assert order(prefix, full) == ["full", "prefix"]


def test_what_ranks_the_same_stays_as_written() -> None:
    """Sorting is stable."""
    routes = [a_route(name, HttpRouteMatch(prefix=f"/{name}")) for name in ("b", "a", "c")]
    assert order(*routes) == ["b", "a", "c"]


def test_an_expression_comes_after_full_paths_and_before_prefixes() -> None:
    """Whatever its length: a prefix that was asked first would take what it is there for."""
    prefix = a_route("prefix", HttpRouteMatch(prefix="/v1/labels/of/a/long/name"))
    regexes = [
        a_route(name, HttpRouteMatch(path=PathMatch(regex=regex)))
        for name, regex in (("short", "/.*"), ("long", "/v1/[0-9]+"))
    ]
    full = a_route("full", HttpRouteMatch(path=PathMatch(exact="/")))
    assert order(prefix, *regexes, full) == ["full", "short", "long", "prefix"]


def test_a_grpc_method_comes_before_its_service_and_that_before_any_call() -> None:
    """A method is a full path, a service a prefix."""
    action = RouteAction(weighted_targets=(WeightedTarget(virtual_node="a", weight=1),))
    matches = {
        "any": GrpcRouteMatch(),
        "service": GrpcRouteMatch(service_name="v1.Labels"),
        "method": GrpcRouteMatch(service_name="v1.Labels", method_name="Get"),
    }
    routes = [
        Route(route_name=name, spec=RouteSpec(grpc_route=GrpcRoute(match=match, action=action)))
        for name, match in matches.items()
    ]
    assert order(*routes) == ["method", "service", "any"]


# --- a request's way --------------------------------------------------------------------------


def test_a_match_tells_route_shares_retries_and_time_out() -> None:
    """What the diagnosis names is all there."""
    route = example_mesh().virtual_routers[0].routes[0].spec.http
    assert route
    assert match_example("/v1/labels/7?day=1") == RouteMatch(
        virtual_router="labels",
        route="by-day",
        targets=(
            TargetShare(virtual_node="labels-v1", port=None, share=0.7),
            TargetShare(virtual_node="labels-v2", port=None, share=0.3),
        ),
        retry_policy=route.retry_policy,
        timeout_s=5.0,
    )


@pytest.mark.parametrize(
    ("method", "path", "headers", "route"),
    [
        ("GET", "/v1/labels", {}, "any"),
        ("POST", "/v1/labels", {}, "post"),
        ("post", "/v1/labels", {}, "any"),
        ("POST", "/v1/labels", {"x-canary": ""}, "canary"),
        ("GET", "/v2?x=/v1", {"x-canary": "1"}, "any"),
        ("GET", "/health", {}, "health"),
        ("GET", "/health?deep=1", {}, "health"),
        ("GET", "/health/", {}, "any"),
        ("GET", "/V1", {"x-canary": "1"}, "any"),
    ],
)
def test_the_first_route_whose_whole_match_is_met_takes_the_request(
    method: str, path: str, headers: dict[str, str], route: str
) -> None:
    """Path, method and headers all count; the query does not; only header names ignore case."""
    text = EXAMPLE.read_text(encoding="utf-8")
    start, end = text.index("    routes:"), text.index("virtualServices:")
    mesh = mesh_of(text[:start] + ROUTES + text[end:])
    met = match_request(mesh, virtual_service=SERVICE, method=method, path=path, headers=headers)
    assert met is not None
    assert met.route == route


def test_a_request_that_no_route_takes_has_no_match() -> None:
    """Envoy answers it with 404 and the flag NR."""
    assert match_example("/v2") is None


def test_a_service_without_a_provider_takes_nothing() -> None:
    """Nobody is there to answer."""
    text = changed("provider: {virtualRouter: {virtualRouterName: labels}}", "")
    assert match_example("/v1/labels", text=text) is None


def test_a_node_that_provides_its_service_gets_every_call() -> None:
    """Without a router there is no route, but there is a target and App Mesh's time-out."""
    mesh = mesh_of(EVERY_FIELD.read_text(encoding="utf-8"))
    met = match_request(mesh, virtual_service="features", method="GET", path="/x", headers={})
    assert met == RouteMatch(
        virtual_router=None,
        route=None,
        targets=(TargetShare(virtual_node="features", port=None, share=1.0),),
        retry_policy=None,
        timeout_s=15.0,
    )


def test_an_unknown_service_is_an_error() -> None:
    """A name that is not in the mesh is no request without a route."""
    with pytest.raises(UnknownNameError, match=r"no virtual service labels\.ml"):
        match_request(
            example_mesh(), virtual_service="labels.ml", method="GET", path="/", headers={}
        )


def test_weights_that_are_all_zero_share_nothing() -> None:
    """A zero total is never divided by."""
    text = changed("weight: 70", "weight: 0").replace("weight: 30", "weight: 0")
    met = match_example("/v1/labels", text=text)
    assert met is not None
    assert [target.share for target in met.targets] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        ("timeout: {perRequest: {unit: ms, value: 250}}", 0.25),
        ("timeout: {perRequest: {unit: s, value: 0}}", None),
        ("timeout: {idle: {unit: s, value: 1}}", 15.0),
    ],
    ids=["set", "lifted", "unset"],
)
def test_a_time_out_is_set_lifted_or_the_default(timeout: str, seconds: float | None) -> None:
    """Zero is without limit; silence is App Mesh's fifteen seconds."""
    text = changed("timeout: {perRequest: {unit: s, value: 5}}", timeout)
    met = match_example("/v1/labels", text=text)
    assert met is not None
    assert met.timeout_s == seconds


# --- headers ----------------------------------------------------------------------------------

VALUES = (None, "", "a", "A", "ab", "b", "1", "4", "5", "+3", "03", "-1", "3.0")


@pytest.mark.parametrize(
    ("method", "met"),
    [
        (None, {"", "a", "A", "ab", "b", "1", "4", "5", "+3", "03", "-1", "3.0"}),
        (HeaderMatchMethod(exact="a"), {"a"}),
        (HeaderMatchMethod(prefix="a"), {"a", "ab"}),
        (HeaderMatchMethod(suffix="b"), {"ab", "b"}),
        (HeaderMatchMethod(regex="a|ab"), {"a", "ab"}),
        (HeaderMatchMethod(regex="a"), {"a"}),
        (HeaderMatchMethod(range=RangeMatch(start=1, end=5)), {"1", "4", "+3", "03"}),
    ],
    ids=["presence", "exact", "prefix", "suffix", "regex", "regex-full", "range"],
)
def test_a_header_is_met_as_envoy_was_measured_to(
    method: HeaderMatchMethod | None, met: set[str]
) -> None:
    """Case counts, a regex meets the whole value, the end of a range is not part of it."""
    header = HeaderMatch(name="x", match=method)
    assert {value for value in VALUES if header_meets(header, value)} == met


@pytest.mark.parametrize(
    "method",
    [
        HeaderMatchMethod(exact="a"),
        HeaderMatchMethod(regex="a|ab"),
        HeaderMatchMethod(range=RangeMatch(start=1, end=5)),
    ],
    ids=["exact", "regex", "range"],
)
def test_an_inverted_match_takes_the_other_values_but_not_the_absent_header(
    method: HeaderMatchMethod,
) -> None:
    """Envoy compares nothing with a header that is not there, inverted or not."""
    headers = [HeaderMatch(name="x", invert=invert, match=method) for invert in (False, True)]
    plain, inverted = (
        {value for value in VALUES if header_meets(header, value)} for header in headers
    )
    assert (plain | inverted, plain & inverted) == (set(VALUES) - {None}, set())


def test_inverted_presence_is_absence() -> None:
    """Without a method to compare by, invert asks that the header be missing."""
    header = HeaderMatch(name="x", invert=True)
    assert [value for value in VALUES if header_meets(header, value)] == [None]
