"""Meshes that hypothesis makes, chosen so that routes overlap.

Paths, names and values are few and alike: what one route takes by a prefix, another takes in full,
by an expression, by one header more.
"""

from typing import Literal

from hypothesis import strategies as st

from meshml_dbx.mesh.spec import (
    Backend,
    GatewayListener,
    GatewayPortMapping,
    GatewayRoute,
    GatewayRouteSpec,
    GatewayTarget,
    GrpcGatewayAction,
    GrpcGatewayRoute,
    GrpcGatewayRouteMatch,
    GrpcRewrite,
    GrpcRoute,
    GrpcRouteMatch,
    HeaderMatch,
    HeaderMatchMethod,
    HostnameMatch,
    HostnameRewrite,
    HttpGatewayAction,
    HttpGatewayRoute,
    HttpGatewayRouteMatch,
    HttpRewrite,
    HttpRoute,
    HttpRouteMatch,
    Mesh,
    MeshClient,
    MeshClientSpec,
    MeshHead,
    PathMatch,
    PathRewrite,
    PortMapping,
    PrefixRewrite,
    Provider,
    QueryParameterMatch,
    QueryParameterMatchMethod,
    RangeMatch,
    Route,
    RouteAction,
    RouterListener,
    RouterProvider,
    RouteSpec,
    TargetService,
    VirtualGateway,
    VirtualGatewaySpec,
    VirtualNode,
    VirtualNodeSpec,
    VirtualRouter,
    VirtualRouterSpec,
    VirtualService,
    VirtualServiceBackend,
    VirtualServiceSpec,
    WeightedTarget,
)

MEMBER, SERVICE, FIXED = "caller", "s.ml.local", "fixed"
PREFIXES = ["/", "/v1", "/v1/", "/v1/a", "/v1/a/b", "/v", "/V1", "/v1.", "/v1%2Fa", "/~x"]
ATOMS = ["a", "b", "1", "v1", "/", ".", r"\.", r"\d", r"\w", "[a-c]", "[^/]", "[0-9a]", r"\b", "é"]
NAMES = ["x-a", "x-b", "X-C", "cookie", "accept", "host", ":path"]
VALUES = ["a", "b", "ab", "a,b", "A", "1", "4", "5", "-1", "+3", "007", "3.0", "", "a b", "é"]
VALUES += ["9223372036854775807", "9223372036854775808", "v1/a", "aaaa", "k"]


def texts_for_regex() -> st.SearchStrategy[str]:
    """Expressions of a safe grammar: atoms, repetitions, groups, choices, anchors, flags."""
    atom = st.sampled_from(ATOMS)

    def larger(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        repeated = st.builds(
            "(?:{}){}".format, part, st.sampled_from(["*", "+", "?", "{1,3}", "*?"])
        )
        chosen = st.builds("({}|{})".format, part, part)
        joined = st.builds("{}{}".format, part, part)
        return repeated | chosen | joined

    whole = st.recursive(atom, larger, max_leaves=5)
    framed = st.sampled_from(["{}", "^{}$", ".*{}", "{}.*", "(?i){}", "/{}", "/v1{}"])
    return st.builds(lambda frame, text: frame.format(text), framed, whole)


def value_rules() -> st.SearchStrategy[HeaderMatchMethod | None]:
    """How a header's value is compared, or that it only has to be there."""
    text = st.sampled_from([value for value in VALUES if value])
    bounds = st.tuples(st.integers(-2, 6), st.integers(1, 6))
    ranges = bounds.map(lambda it: RangeMatch(start=it[0], end=it[0] + it[1]))
    return st.one_of(
        st.none(),
        text.map(lambda it: HeaderMatchMethod(exact=it)),
        text.map(lambda it: HeaderMatchMethod(prefix=it)),
        text.map(lambda it: HeaderMatchMethod(suffix=it)),
        texts_for_regex().map(lambda it: HeaderMatchMethod(regex=it)),
        ranges.map(lambda it: HeaderMatchMethod(range=it)),
    )


def header_rules() -> st.SearchStrategy[tuple[HeaderMatch, ...]]:
    """Up to two rules of headers."""
    rule = st.builds(
        HeaderMatch, name=st.sampled_from(NAMES), invert=st.booleans(), match=value_rules()
    )
    return st.one_of(st.just(()), st.lists(rule, min_size=1, max_size=2).map(tuple))


def query_rules() -> st.SearchStrategy[tuple[QueryParameterMatch, ...]]:
    """Mostly none, sometimes one rule of a query parameter."""
    exact = st.sampled_from(["1", "2", "", "%31", "b=c"]).map(
        lambda it: QueryParameterMatchMethod(exact=it)
    )
    rule = st.builds(
        QueryParameterMatch, name=st.sampled_from("ab"), match=st.one_of(st.none(), exact)
    )
    return st.one_of(st.just(()), st.just(()), st.lists(rule, max_size=2).map(tuple))


@st.composite
def http_matches(draw: st.DrawFn) -> HttpRouteMatch:
    """A match by prefix, path, expression or nothing, and mostly by something more."""
    kind = draw(st.sampled_from(["prefix", "prefix", "exact", "regex", "any"]))
    path = draw(st.sampled_from([*PREFIXES, "/", "/v1", "/v1"]))
    expression = draw(texts_for_regex()) if kind == "regex" else ""
    by_path = PathMatch(exact=path) if kind == "exact" else PathMatch(regex=expression)
    return HttpRouteMatch(
        prefix=path if kind == "prefix" else None,
        path=by_path if kind in {"exact", "regex"} else None,
        method=draw(st.sampled_from([None, None, None, "GET", "POST"])),
        scheme=draw(st.sampled_from([None, None, None, "http", "https"])),
        headers=draw(header_rules()),
        query_parameters=draw(query_rules()),
        port=draw(st.sampled_from([None, None, None, 80, 8080])),
    )


@st.composite
def grpc_matches(draw: st.DrawFn) -> GrpcRouteMatch:
    """A match of a method, a service, or any call."""
    service = draw(st.sampled_from([None, "v1", "pkg.Labels"]))
    return GrpcRouteMatch(
        service_name=service,
        method_name=draw(st.sampled_from([None, "a", "Get"])) if service else None,
        metadata=draw(header_rules()),
        port=draw(st.sampled_from([None, None, 80])),
    )


ACTION = RouteAction(weighted_targets=(WeightedTarget(virtual_node="n", weight=1),))
RANKS = st.sampled_from([None, None, 0, 1, 1000])


def routes() -> st.SearchStrategy[tuple[Route, ...]]:
    """Up to eight routes of requests, mostly http."""
    http = st.builds(
        lambda match, rank, newer: RouteSpec(
            priority=rank,
            http_route=None if newer else HttpRoute(match=match, action=ACTION),
            http2_route=HttpRoute(match=match, action=ACTION) if newer else None,
        ),
        http_matches(),
        RANKS,
        st.booleans(),
    )
    grpc = st.builds(
        lambda match, rank: RouteSpec(
            priority=rank, grpc_route=GrpcRoute(match=match, action=ACTION)
        ),
        grpc_matches(),
        RANKS,
    )
    specs = st.lists(st.one_of(http, http, http, grpc), min_size=1, max_size=8)
    return specs.map(
        lambda found: tuple(
            Route(route_name=f"r{number}", spec=spec) for number, spec in enumerate(found)
        )
    )


def meshes() -> st.SearchStrategy[Mesh]:
    """A caller, a service with made routes, and one with fixed ones, so that paths are normal."""
    ports = st.sampled_from([(), (80,), (8080,), (80, 8080), (8080, 80)])
    return st.builds(a_mesh, routes(), ports)


def a_mesh(
    made: tuple[Route, ...],
    ports: tuple[int, ...],
    gateways: tuple[VirtualGateway, ...] = (),
) -> Mesh:
    """The mesh of these routes and listeners."""
    any_path = HttpRoute(match=HttpRouteMatch(prefix="/"), action=ACTION)
    any_call = GrpcRoute(match=GrpcRouteMatch(), action=ACTION)
    fixed = (
        Route(route_name="fixed", spec=RouteSpec(http_route=any_path)),
        Route(route_name="fixed-grpc", spec=RouteSpec(priority=1, grpc_route=any_call)),
    )
    listeners = tuple(
        RouterListener(port_mapping=PortMapping(port=port, protocol="http")) for port in ports
    )
    names = (SERVICE, FIXED)
    return Mesh(
        mesh=MeshHead(mesh_name="ml"),
        clients=(
            MeshClient(
                client_name=MEMBER,
                role="training",
                spec=MeshClientSpec(
                    backends=tuple(
                        Backend(virtual_service=VirtualServiceBackend(virtual_service_name=name))
                        for name in names
                    )
                ),
            ),
        ),
        virtual_gateways=gateways,
        virtual_nodes=(VirtualNode(virtual_node_name="n", spec=VirtualNodeSpec()),),
        virtual_routers=tuple(
            VirtualRouter(
                virtual_router_name=name, spec=VirtualRouterSpec(listeners=opened), routes=its
            )
            for name, its, opened in ((SERVICE, made, listeners), (FIXED, fixed, ()))
        ),
        virtual_services=tuple(
            VirtualService(
                virtual_service_name=name,
                spec=VirtualServiceSpec(
                    provider=Provider(virtual_router=RouterProvider(virtual_router_name=name))
                ),
            )
            for name in names
        ),
    )


# --- gateways ---------------------------------------------------------------------------------

GATEWAY = "way-in"


@st.composite
def gateway_routes(draw: st.DrawFn, port: int) -> tuple[GatewayRoute, ...]:
    """Up to six routes of a gateway, with rewrites of every kind."""
    found = draw(st.lists(gateway_specs(port), min_size=1, max_size=6))
    return tuple(
        GatewayRoute(gateway_route_name=f"g{number}", spec=spec)
        for number, spec in enumerate(found)
    )


def hostnames() -> st.SearchStrategy[HostnameMatch | None]:
    """Mostly none, else one that a request may be called by, in full or by its end."""
    exact = st.sampled_from(["api.example.com", "API.example.com", "other.local"])
    suffix = st.sampled_from([".example.com", "example.com", ".LOCAL", "m"])
    return st.one_of(
        st.none(),
        st.none(),
        exact.map(lambda it: HostnameMatch(exact=it)),
        suffix.map(lambda it: HostnameMatch(suffix=it)),
    )


@st.composite
def gateway_specs(draw: st.DrawFn, port: int) -> GatewayRouteSpec:
    """A gateway's route of http or gRPC, to the made service or the fixed one."""
    target = GatewayTarget(
        virtual_service=TargetService(
            virtual_service_name=draw(st.sampled_from([SERVICE, SERVICE, FIXED]))
        ),
        port=draw(st.sampled_from([None, None, None, 80, 8080])),
    )
    switches: list[Literal["ENABLED", "DISABLED"] | None] = [None, "ENABLED", "DISABLED"]
    switch = draw(st.sampled_from(switches))
    hostname = HostnameRewrite(default_target_hostname=switch) if switch else None
    rank, asked = draw(RANKS), draw(st.sampled_from([None, None, port, 9]))
    if draw(st.integers(0, 5)) == 0:
        call = draw(grpc_matches())
        return GatewayRouteSpec(
            priority=rank,
            grpc_route=GrpcGatewayRoute(
                match=GrpcGatewayRouteMatch(
                    service_name=call.service_name,
                    hostname=draw(hostnames()),
                    metadata=call.metadata,
                    port=asked,
                ),
                action=GrpcGatewayAction(target=target, rewrite=GrpcRewrite(hostname=hostname)),
            ),
        )
    match = draw(http_matches())
    return GatewayRouteSpec(
        priority=rank,
        http_route=HttpGatewayRoute(
            match=HttpGatewayRouteMatch(
                prefix=match.prefix,
                path=match.path,
                hostname=draw(hostnames()),
                method=match.method,
                headers=match.headers,
                query_parameters=match.query_parameters,
                port=asked,
            ),
            action=HttpGatewayAction(
                target=target, rewrite=draw(rewrites(hostname, by_prefix=bool(match.prefix)))
            ),
        ),
    )


def rewrites(
    hostname: HostnameRewrite | None, *, by_prefix: bool
) -> st.SearchStrategy[HttpRewrite | None]:
    """No rewrite, or one of the prefix or of the whole path."""
    plain = [None, HttpRewrite(hostname=hostname)]
    whole = HttpRewrite(hostname=hostname, path=PathRewrite(exact="/v1/a"))
    prefixes = [
        HttpRewrite(hostname=hostname, prefix=PrefixRewrite(default_prefix="DISABLED")),
        HttpRewrite(hostname=hostname, prefix=PrefixRewrite(default_prefix="ENABLED")),
        HttpRewrite(hostname=hostname, prefix=PrefixRewrite(value="/v1/")),
    ]
    return st.sampled_from([*plain, whole, *(prefixes if by_prefix else ())])


def a_gateway(port: int, made: tuple[GatewayRoute, ...]) -> VirtualGateway:
    """A gateway with these routes, and one to the fixed service, asked last."""
    to_fixed = HttpGatewayRoute(
        match=HttpGatewayRouteMatch(prefix="/fixed"),
        action=HttpGatewayAction(
            target=GatewayTarget(virtual_service=TargetService(virtual_service_name=FIXED))
        ),
    )
    last = GatewayRoute(
        gateway_route_name="to-fixed", spec=GatewayRouteSpec(priority=1000, http_route=to_fixed)
    )
    listener = GatewayListener(port_mapping=GatewayPortMapping(port=port, protocol="http"))
    return VirtualGateway(
        virtual_gateway_name=GATEWAY,
        spec=VirtualGatewaySpec(listeners=(listener,)),
        gateway_routes=(*made, last),
    )
