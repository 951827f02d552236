"""Drift: a mesh file held against the ways that calls took; no word where they agree."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from meshml_dbx.diagnosis.drift import Drift, find_drift
from meshml_dbx.diagnosis.weights import FALSE_ALARMS, beyond_chance, chance_of, spreads
from meshml_dbx.mesh.load import LoadedMesh, load_mesh
from meshml_dbx.mesh.names import mesh_version
from meshml_dbx.traffic.usage import Usage
from tests.mesh.ml_example import changed, line_with, load_changed

NODES = {"labels-v1": 70, "labels-v2": 30}


def example() -> LoadedMesh:
    """The example mesh, as loaded."""
    return load_changed("meshName: ml", "meshName: ml")


def used(loaded: LoadedMesh, **over: object) -> Usage:
    """Calls of the example's client through its route, under the file's own version."""
    assert loaded.mesh is not None
    values = {
        "observer": "egress",
        "mesh": "ml",
        "mesh_version": mesh_version(loaded.mesh),
        "client": "churn-training",
        "virtual_service": "labels.ml.local",
        "route": "by-day",
        "target": "labels-v1",
        "upstream_peer": "spiffe://ml/labels-v1",
        "calls": 70,
        "first": 0,
        "last": 9,
    }
    return Usage(**(values | over))  # type: ignore[arg-type]  # its own fields


def as_declared(loaded: LoadedMesh) -> list[Usage]:
    """A hundred calls, spread as the weights say, each peer being who it should be."""
    return [
        used(loaded, target=node, calls=calls, upstream_peer=f"spiffe://ml/{node}")
        for node, calls in NODES.items()
    ]


def drift_of(loaded: LoadedMesh, *usages: Usage, known: frozenset[str] = frozenset()) -> Drift:
    """What differs."""
    assert loaded.mesh is not None
    return find_drift(loaded, loaded.mesh, usages, known_versions=known)


def codes(drift: Drift) -> list[str]:
    """The findings' codes."""
    return [it.code for it in drift.findings]


# --- agreement --------------------------------------------------------------------------------


def test_calls_as_declared_are_no_drift() -> None:
    """Where what happened is what the file says, there is nothing to say."""
    loaded = example()
    drift = drift_of(loaded, *as_declared(loaded))
    assert (drift.findings, drift.calls, drift.compared) == ((), 100, 100)
    assert [(way.target, way.calls) for way in drift.ways] == [("labels-v1", 70), ("labels-v2", 30)]


def test_the_nodes_own_rows_are_not_counted_again() -> None:
    """A call that its caller and its node both saw is one call."""
    loaded = example()
    served = used(
        loaded,
        observer="ingress",
        client=None,
        virtual_node="labels-v1",
        downstream_peer="spiffe://ml/churn-training",
    )
    drift = drift_of(loaded, *as_declared(loaded), served)
    assert (drift.findings, drift.calls) == ((), 100)


EDGE = """virtualGateways:
  - virtualGatewayName: edge
    spec: {listeners: [{portMapping: {port: 8080, protocol: http}}]}
    gatewayRoutes:
      - gatewayRouteName: labels
        spec:
          httpRoute:
            match: {prefix: /}
            action: {target: {virtualService: {virtualServiceName: labels.ml.local}}}
virtualServices:
"""


def test_a_gateway_is_a_caller_like_any_other() -> None:
    """What it called is compared; what no gateway route took is a matter of those outside."""
    loaded = load_mesh(changed("virtualServices:\n", EDGE), source="mesh.yml")
    edge = {"observer": "gateway", "client": None, "virtual_node": "edge"}
    nobody = {"virtual_service": None, "route": "meshml:no-gateway-route", "target": None}
    drift = drift_of(
        loaded,
        *as_declared(loaded),
        used(loaded, **edge, target="labels-v1", calls=500, upstream_peer="spiffe://ml/other"),
        used(loaded, **edge, **nobody, host="no-gateway-route", upstream_peer=None, calls=3),
    )
    assert codes(drift) == ["drift-weights", "drift-weights", "drift-identity"]
    assert (drift.calls, drift.compared) == (603, 603)
    assert ("edge", 500) in {(way.caller, way.calls) for way in drift.ways}


def test_another_meshs_calls_are_none_of_ours() -> None:
    """One lake may hold several meshes."""
    loaded = example()
    other = used(loaded, mesh="other", mesh_version="ffff", virtual_service="x")
    assert drift_of(loaded, *as_declared(loaded), other).findings == ()


# --- who calls whom ---------------------------------------------------------------------------


def test_a_call_to_a_service_that_is_no_backend() -> None:
    """The finding names caller, service and count, at the caller's line."""
    text = changed("virtualServices:", "virtualServices:\n  - {virtualServiceName: other.ml.local}")
    loaded = load_mesh(text, source="mesh.yml")
    stray = used(
        loaded,
        virtual_service=None,
        target=None,
        route="meshml:drop-all",
        host="Other.ml.local:80".lower(),
        calls=3,
    )
    (found,) = drift_of(loaded, *as_declared(loaded), stray).findings
    assert found.code == "drift-undeclared-backend"
    assert (
        found.what == "churn-training called other.ml.local 3 times, which is none of its backends"
    )
    line = line_with(text, "clientName: churn-training")
    assert found.where == f"mesh.yml:{line} clients[churn-training]"


def test_a_call_to_a_host_outside() -> None:
    """A host that the mesh does not know is worth knowing, no more."""
    loaded = example()
    stray = used(loaded, virtual_service=None, target=None, route="x", host="example.org", calls=2)
    (found,) = drift_of(loaded, *as_declared(loaded), stray).findings
    assert (found.code, "example.org 2 times" in found.what) == ("drift-unknown-host", True)


def test_a_backend_that_is_never_called() -> None:
    """A backend is a permission: one that nothing uses is named at its own line."""
    text = changed(
        "backends: [{virtualService: {virtualServiceName: labels.ml.local}}]",
        "backends: [{virtualService: {virtualServiceName: labels.ml.local}}, "
        "{virtualService: {virtualServiceName: spare.ml.local}}]",
    ).replace("virtualServices:", "virtualServices:\n  - {virtualServiceName: spare.ml.local}")
    loaded = load_mesh(text, source="mesh.yml")
    (found,) = drift_of(loaded, *as_declared(loaded)).findings
    assert (found.code, found.what) == (
        "drift-unused-backend",
        "churn-training never called spare.ml.local",
    )
    assert "spec.backends[1]" in found.where


def test_a_silent_caller_is_one_finding() -> None:
    """Of a caller that made no call at all, its backends cannot be judged."""
    text = changed(
        "virtualNodes:", "  - {clientName: idle, role: scoring, spec: SAME}\n\nvirtualNodes:"
    )
    same = "{backends: [{virtualService: {virtualServiceName: labels.ml.local}}]}"
    loaded = load_mesh(text.replace("SAME", same), source="mesh.yml")
    assert codes(drift_of(loaded, *as_declared(loaded))) == ["drift-silent-caller"]


def test_a_route_that_takes_nothing() -> None:
    """Of a router that was called, a route without calls is named; of one that was not, none."""
    route = "{routeName: spare, spec: {httpRoute: {match: {prefix: /}, action: {weightedTargets: "
    route += "[{virtualNode: labels-v1, weight: 1}]}}}}"
    text = changed("      - routeName: by-day", f"      - {route}\n      - routeName: by-day")
    loaded = load_mesh(text, source="mesh.yml")
    assert codes(drift_of(loaded, *as_declared(loaded))) == ["drift-unused-route"]
    only_elsewhere = used(loaded, virtual_service=None, host="x", route="y", target=None)
    assert "drift-unused-route" not in codes(drift_of(loaded, only_elsewhere))


# --- identities -------------------------------------------------------------------------------


def test_a_server_that_shows_another_identity() -> None:
    """The node that answered is named with what it showed and what the file declares."""
    loaded = example()
    calls = as_declared(loaded)
    calls[1] = replace(calls[1], upstream_peer="spiffe://ml/labels-v1")
    (found,) = drift_of(loaded, *calls).findings
    assert (found.code, found.what) == (
        "drift-identity",
        "labels-v2 answered 30 calls as spiffe://ml/labels-v1; declared is spiffe://ml/labels-v2",
    )


def test_a_caller_that_nobody_declared() -> None:
    """A node that served an identity which no declared caller shows is named."""
    loaded = example()
    served = used(
        loaded,
        observer="ingress",
        client=None,
        virtual_node="labels-v1",
        downstream_peer="spiffe://ml/stranger",
        calls=5,
    )
    (found,) = drift_of(loaded, *as_declared(loaded), served).findings
    assert found.what == (
        "labels-v1 answered 5 calls of spiffe://ml/stranger, which declares no backend there"
    )


# --- versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "known", "code"),
    [
        ("0ld", frozenset({"0ld"}), "drift-other-version"),
        ("0ld", frozenset(), "drift-unknown-version"),
        (None, frozenset(), "drift-outside-mesh"),
    ],
)
def test_calls_of_other_versions_are_counted_and_not_compared(
    version: str | None, known: frozenset[str], code: str
) -> None:
    """What an older file allowed says nothing of this one."""
    loaded = example()
    other = used(loaded, mesh_version=version, target="labels-v2", calls=900)
    drift = drift_of(loaded, *as_declared(loaded), other, known=known)
    assert (codes(drift), drift.calls, drift.compared) == ([code], 1000, 100)


def test_a_file_that_nobody_runs() -> None:
    """When no call carries this file's version, that is the first thing to say."""
    loaded = example()
    drift = drift_of(loaded, used(loaded, mesh_version="0ld"), known=frozenset({"0ld"}))
    assert "drift-not-in-use" in codes(drift)
    assert drift.compared == 0


# --- weights ----------------------------------------------------------------------------------


def test_weights_off_beyond_chance() -> None:
    """A canary that gets half of 1,000 calls instead of 30 % is named at the route's targets."""
    loaded = example()
    calls = [replace(it, calls=500) for it in as_declared(loaded)]
    drift = drift_of(loaded, *calls)
    assert codes(drift) == ["drift-weights", "drift-weights"]
    assert "labels-v2 got 50.0% of the 1000 calls of by-day, declared are 30.0%" in (
        drift.findings[1].what
    )
    assert "routes[by-day].spec.httpRoute.action.weightedTargets" in drift.findings[1].where


def test_few_calls_prove_nothing() -> None:
    """Three calls to the same target are chance, however the weights are."""
    loaded = example()
    assert codes(drift_of(loaded, used(loaded, calls=3))) == []


def test_a_target_without_weight_must_get_nothing() -> None:
    """One call to a target of weight 0 is no chance at all."""
    assert chance_of(1, 1000, 0.0) == 0
    assert chance_of(0, 1000, 0.0) == 1


def test_the_bound_is_never_below_the_true_chance() -> None:
    """The bound holds against the exact binomial chance, for every count of small samples."""
    for of, part in ((7, 0.5), (20, 0.3), (40, 0.05)):
        exact = [math.comb(of, k) * part**k * (1 - part) ** (of - k) for k in range(of + 1)]
        for calls in range(of + 1):
            tail = sum(exact[calls:]) if calls / of >= part else sum(exact[: calls + 1])
            assert chance_of(calls, of, part) >= tail


def test_the_promised_error_is_kept() -> None:
    """Of 2,000 meshes that keep their weights, no more are blamed than promised."""
    draw, blamed = random.Random(7), 0
    weights = {"a": 0.7, "b": 0.2, "c": 0.1}
    for _ in range(2000):
        seen = Counter(draw.choices(list(weights), list(weights.values()), k=200))
        blamed += bool(beyond_chance(spreads(weights, seen)))
    assert blamed <= 2000 * FALSE_ALARMS


def test_a_real_shift_is_seen() -> None:
    """Weights of 90/10 kept as 80/20 are seen in 1,000 calls nearly always."""
    draw, seen = random.Random(7), 0
    for _ in range(100):
        calls = Counter(draw.choices(("a", "b"), (0.8, 0.2), k=1000))
        seen += bool(beyond_chance(spreads({"a": 0.9, "b": 0.1}, calls)))
    assert seen >= 95


def test_the_answer_as_json_names_its_test() -> None:
    """A machine reads the findings, the ways, the weights and which test was made."""
    loaded = example()
    told = drift_of(loaded, *as_declared(loaded)).to_json()
    assert told["findings"] == []
    assert "Chernoff" in str(told["test"])
    assert told["weights"] == [
        {
            "route": "by-day",
            "target": node,
            "calls": calls,
            "of": 100,
            "declared": calls / 100,
            "observed": calls / 100,
            "chance": 1.0,
        }
        for node, calls in NODES.items()
    ]
