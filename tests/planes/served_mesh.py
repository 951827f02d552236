"""Random meshes whose services are all served: what a plan makes most of, hypothesis makes rarely.

``served_mesh`` takes any nodes, listeners, routes and clients, and ties them together: services by
a router with any routes and by a node, called by a client and a node.
"""

from dataclasses import replace

from hypothesis import strategies as st

from meshml_dbx.mesh.spec import (
    Backend,
    Listener,
    Mesh,
    MeshClient,
    MeshHead,
    NodeProvider,
    Provider,
    Route,
    RouteAction,
    RouterListener,
    RouterProvider,
    RouteSpec,
    VirtualNode,
    VirtualRouter,
    VirtualRouterSpec,
    VirtualService,
    VirtualServiceBackend,
    VirtualServiceSpec,
    WeightedTarget,
)
from tests.mesh.any_mesh import any_value

_NODES = 3
_SERVICES = ("routed.ml.local", "straight", "lone.svc.cluster.local")


@st.composite
def served_mesh(draw: st.DrawFn) -> Mesh:
    """A mesh of three services: one of a router, two of nodes."""
    nodes = tuple(_node(draw, f"n{number}") for number in range(_NODES))
    listeners = draw(st.lists(any_value(RouterListener), min_size=1, max_size=4))
    routes = tuple(_route(draw, f"r{number}") for number in range(draw(st.integers(0, 4))))
    router = VirtualRouter(
        virtual_router_name="router",
        spec=VirtualRouterSpec(listeners=tuple(listeners)),
        routes=routes,
    )
    routed = Provider(virtual_router=RouterProvider(virtual_router_name="router"))
    straight = Provider(virtual_node=NodeProvider(virtual_node_name="n0"))
    providers = dict(zip(_SERVICES, (routed, straight, straight), strict=True))
    client = replace(draw(any_value(MeshClient)), client_name="job")
    return Mesh(
        mesh=draw(any_value(MeshHead)),
        tags=draw(st.dictionaries(st.sampled_from(["team", "aws:x"]), st.just("y"))),
        clients=(replace(client, spec=replace(client.spec, backends=_backends())),),
        virtual_nodes=nodes,
        virtual_routers=(router,),
        virtual_services=tuple(
            VirtualService(virtual_service_name=name, spec=VirtualServiceSpec(provider=provider))
            for name, provider in providers.items()
        ),
    )


def _backends() -> tuple[Backend, ...]:
    return tuple(
        Backend(virtual_service=VirtualServiceBackend(virtual_service_name=name))
        for name in _SERVICES[:2]
    )


def _node(draw: st.DrawFn, name: str) -> VirtualNode:
    node = draw(any_value(VirtualNode))
    listeners = tuple(draw(st.lists(any_value(Listener), min_size=1, max_size=3)))
    spec = replace(node.spec, listeners=listeners, backends=_backends(), backend_groups=())
    return replace(node, virtual_node_name=name, spec=spec)


def _route(draw: st.DrawFn, name: str) -> Route:
    route = draw(any_value(Route))
    targets = draw(
        st.lists(
            st.builds(
                WeightedTarget,
                virtual_node=st.sampled_from([f"n{number}" for number in range(_NODES)]),
                weight=st.integers(0, 100),
            ),
            min_size=1,
            max_size=10,
        )
    )
    action = RouteAction(weighted_targets=tuple(targets))
    return replace(route, route_name=name, spec=_with_action(route.spec, action))


def _with_action(spec: RouteSpec, action: RouteAction) -> RouteSpec:
    """The spec with this action, and without a port that no listener is likely to have."""
    kept = {}
    for field in ("http_route", "http2_route", "grpc_route", "tcp_route"):
        route = getattr(spec, field)
        if route is not None:
            match = route.match and replace(route.match, port=None)
            kept[field] = replace(route, action=action, match=match)
    return replace(spec, **kept)
