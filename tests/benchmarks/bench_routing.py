"""How fast the matcher decides, as a ratio to the least that any router has to do.

The floor is one look-up of a dictionary by host and one match of a compiled expression of Python's
``re`` on the path, for the same requests in the same run. 1,000 services with 3 routes each.
"""

import re
import statistics
import time
from collections.abc import Callable

import pytest

from meshml_dbx.mesh.matcher import compile_routes
from meshml_dbx.mesh.requests import Request
from meshml_dbx.mesh.spec import Mesh
from tests.mesh.ml_example import mesh_of

pytestmark = pytest.mark.benchmark

SERVICES, ROUNDS = 1_000, 9
AT_MOST_TIMES_THE_FLOOR = 80
ROUTES = (
    "prefix: /v1, headers: [{name: x-cohort, match: {exact: b}}]",
    'path: {regex: "/v1/[0-9]+"}',
    "prefix: /v1",
)


def a_mesh() -> Mesh:
    """A client of a thousand services."""
    action = "action: {weightedTargets: [{virtualNode: n, weight: 1}]}"
    routes = ", ".join(
        f"{{routeName: r{number}, spec: {{httpRoute: {{match: {{{match}}}, {action}}}}}}}"
        for number, match in enumerate(ROUTES)
    )
    names = [f"s{number}.ml.local" for number in range(SERVICES)]
    backends = ", ".join(f"{{virtualService: {{virtualServiceName: {name}}}}}" for name in names)
    routers = "".join(
        f"  - {{virtualRouterName: {name}, spec: {{}}, routes: [{routes}]}}\n" for name in names
    )
    services = "".join(
        f"  - virtualServiceName: {name}\n"
        f"    spec: {{provider: {{virtualRouter: {{virtualRouterName: {name}}}}}}}\n"
        for name in names
    )
    return mesh_of(
        f"mesh: {{meshName: ml}}\n"
        f"clients:\n  - clientName: c\n    role: training\n    spec: {{backends: [{backends}]}}\n"
        f"virtualNodes: [{{virtualNodeName: n, spec: {{}}}}]\n"
        f"virtualRouters:\n{routers}virtualServices:\n{services}"
    )


def asked() -> list[Request]:
    """Requests to every service: each meets another of its routes."""
    made = []
    for number in range(SERVICES):
        headers = (("x-cohort", "b"), ("accept", "*/*"), ("user-agent", "bench"))
        path = ("/v1/labels?day=1", "/v1/17", "/v1/labels/17/x", "/v2")[number % 4]
        made.append(
            Request(authority=f"s{number}.ml.local", path=path, headers=headers[number % 2 :])
        )
    return made


def per_request(decide: Callable[[Request], object], requests: list[Request]) -> float:
    """The median of the microseconds of CPU that one decision takes."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for request in requests:
            decide(request)
        taken.append((time.process_time() - began) / len(requests) * 1e6)
    return statistics.median(taken)


def test_a_decision_costs_a_bounded_number_of_look_ups() -> None:
    """However many services there are, and with every header, path and query taken apart."""
    requests, mesh = asked(), a_mesh()
    began = time.perf_counter()
    rules = compile_routes(mesh, "c")
    compiled_s = time.perf_counter() - began
    path = re.compile(r"/v1/[0-9]+")
    table = {request.authority: path for request in requests}
    floor = per_request(lambda it: table[it.authority].fullmatch(it.path), requests)
    ours = per_request(rules.decide, requests)
    print(  # noqa: T201  # what a benchmark is for
        f"\ncompiled in {compiled_s:.3f} s; {ours:.2f} us a decision ({1e6 / ours:,.0f} a second), "
        f"floor {floor:.2f} us, ratio {ours / floor:.1f}"
    )
    assert ours / floor < AT_MOST_TIMES_THE_FLOOR
