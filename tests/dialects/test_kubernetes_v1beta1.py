"""Definitions of v1beta1: the controller before 1.0, with routers inside virtual services."""

import pytest

from meshml_dbx.dialects.tree import plain
from tests.dialects.manifests import EXAMPLES, Manifests, read_files, read_texts


def old() -> Manifests:
    """The example of the old controller's kinds."""
    return read_files(EXAMPLES / "kubernetes-v1beta1.yaml")


def test_the_example_is_accounted_for() -> None:
    """Four nodes, two services, and the routers and routes that stood inside them."""
    found = old()
    assert (dict(found.counts()), found.leftovers) == (
        {"mesh": 1, "virtualNode": 4, "virtualService": 2, "virtualRouter": 2, "route": 3},
        (),
    )


def test_nodes_and_routers_are_named_with_a_dash_and_services_as_written() -> None:
    """A service's name was the one in AWS; a dot in another name leads to a namespace."""
    found = old()
    assert (
        found.names("virtualNode"),
        found.names("virtualRouter"),
        found.names("virtualService"),
    ) == (
        ["training-ml", "features-v1-ml", "features-v2-ml", "store-data"],
        ["features-router-ml", "store-data"],
        ["features.ml", "store.data"],
    )


def test_a_service_leads_to_the_router_that_it_holds() -> None:
    """The API knows routers of their own."""
    assert old().spec("virtualService", "features.ml") == {
        "provider": {"virtualRouter": {"virtualRouterName": "features-router-ml"}}
    }


def test_a_route_has_the_api_s_fields() -> None:
    """http is httpRoute, a time-out in milliseconds a duration, a target a name in AWS."""
    found = old()
    one = found.one("route", "canary")
    assert (one.parent and plain(one.parent), found.spec("route", "canary")) == (
        "features-router-ml",
        {
            "priority": 0,
            "httpRoute": {
                "match": {
                    "prefix": "/",
                    "headers": [{"name": "cohort", "match": {"exact": "canary"}}],
                },
                "action": {"weightedTargets": [{"virtualNode": "features-v2-ml", "weight": 1}]},
                "retryPolicy": {
                    "maxRetries": 2,
                    "perRetryTimeout": {"value": 500, "unit": "ms"},
                    "httpRetryEvents": ["server-error"],
                    "tcpRetryEvents": ["connection-error"],
                },
            },
        },
    )


def test_a_target_of_another_namespace_is_named_by_a_dot() -> None:
    """features-v2.ml is the node features-v2 of the namespace ml."""
    spec = old().spec("route", "all")
    assert isinstance(spec, dict)
    targets = spec["httpRoute"]["action"]["weightedTargets"]
    assert [one["virtualNode"] for one in targets] == ["features-v1-ml", "features-v2-ml"]


def test_cloud_map_s_attributes_become_a_list() -> None:
    """They were fields of a table, and the field was called cloudMap."""
    spec = old().spec("virtualNode", "features-v2-ml")
    assert isinstance(spec, dict)
    assert spec["serviceDiscovery"] == {
        "awsCloudMap": {
            "namespaceName": "ml.local",
            "serviceName": "features",
            "attributes": [
                {"key": "version", "value": "v2"},
                {"key": "stage", "value": "canary"},
            ],
        }
    }


def test_a_host_name_is_spelt_as_the_api_spells_it() -> None:
    """The old kind wrote hostName."""
    spec = old().spec("virtualNode", "store-data")
    assert isinstance(spec, dict)
    assert spec["serviceDiscovery"] == {"dns": {"hostname": "store.data.svc.cluster.local"}}


def test_a_router_without_a_listener_gets_its_first_target_s() -> None:
    """The old controller did so, since the API needs one; a finding says it."""
    found = old()
    assert (
        found.spec("virtualRouter", "store-data"),
        found.places("kubernetes-router-listener"),
    ) == (
        {"listeners": [{"portMapping": {"port": 5432, "protocol": "tcp"}}]},
        ["kubernetes-v1beta1.yaml:139 [7].spec"],
    )


SERVICE = """
apiVersion: appmesh.k8s.aws/v1beta1
kind: VirtualService
metadata: {{name: s.ml, namespace: ml}}
spec: {spec}
"""


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("{meshName: m, virtualRouter: r}", "kubernetes-wrong-type"),
        ("{meshName: m, virtualRouter: {name: [r]}}", "kubernetes-wrong-type"),
        ("{meshName: [m]}", "kubernetes-wrong-type"),
        ("{meshName: m, routes: {name: r}}", "kubernetes-wrong-type"),
        ("{meshName: m, routes: [r]}", "kubernetes-wrong-type"),
        ("{meshName: m, routes: [{http: {}}]}", "kubernetes-no-name"),
        ("{meshName: m, provider: {}}", "kubernetes-unknown-field"),
    ],
)
def test_a_mistake_is_a_finding_with_its_place(spec: str, code: str) -> None:
    """Nothing of it goes unsaid, and the rest is still read."""
    found = read_texts(SERVICE.format(spec=spec))
    assert (bool(found.places(code)), found.names("virtualService"), found.leftovers) == (
        True,
        ["s.ml"],
        (),
    )
