"""An application before and after: its App Mesh definitions, planned, beside what AWS made of it.

The samples of AWS hold one application in both forms; the second is no translation of the first
(paths, canary weights and health checks were changed by hand), so only what stayed is compared.
"""

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from meshml_dbx.planes.lattice import LatticePlan, desired
from meshml_dbx.session import Session

CORPUS = Path(__file__).parents[3] / "shared" / "corpora" / "appmesh" / "23-migration-pair"
BEFORE = ("mesh.yaml", "meshed_app.yaml", "canary.yaml", "virtual_gateway.yaml")

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")


@pytest.fixture(scope="module")
def planned() -> LatticePlan:
    """The plan of the application as App Mesh had it, with its canary."""
    imported = Session().import_mesh([str(CORPUS / "appmesh" / name) for name in BEFORE])
    assert imported.mesh is not None
    return desired(imported.mesh)


def after(kind: str) -> list[Any]:
    """The Kubernetes objects of a kind on AWS's side."""
    found = []
    for path in sorted((CORPUS / "lattice").glob("*.yaml")):
        documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        found += [one for one in documents if one and one.get("kind") == kind]
    return found


def bodies(planned: LatticePlan, kind: str) -> list[Any]:
    """The bodies of a kind."""
    return [it.resource.body for it in planned.plan.steps if it.resource.kind == kind]


def test_each_route_of_aws_is_a_service_of_the_plan(planned: LatticePlan) -> None:
    """The same three services, by the first part of their names."""
    routes = {one["metadata"]["name"].removesuffix("-httproute") for one in after("HTTPRoute")}
    tags = [body["tags"]["meshml:virtual-service"] for body in bodies(planned, "service")]
    assert {name.partition(".")[0] for name in tags} == routes


def test_listeners_have_the_ports_and_protocols_of_awss_gateway(planned: LatticePlan) -> None:
    """Each route's section of the gateway is a listener of the plan."""
    used = {one["spec"]["parentRefs"][0]["sectionName"] for one in after("HTTPRoute")}
    (gateway,) = after("Gateway")
    sections = [it for it in gateway["spec"]["listeners"] if it["name"] in used]
    made = {(it["port"], it["protocol"]) for it in bodies(planned, "listener")}
    assert made == {(it["port"], it["protocol"]) for it in sections}


def test_target_groups_speak_what_awss_policies_say(planned: LatticePlan) -> None:
    """Port, protocol and version of each group, and that its health is asked by HTTP."""
    policies = {
        (
            one["spec"]["healthCheck"]["port"],
            one["spec"]["protocol"],
            one["spec"]["protocolVersion"],
        )
        for one in after("TargetGroupPolicy")
    }
    configs = [body["config"] for body in bodies(planned, "target-group")]
    assert {(it["port"], it["protocol"], it["protocolVersion"]) for it in configs} == policies
    checked = [it["port"] for it in configs if it["healthCheck"]["enabled"]]
    assert sorted(checked) == [3000, 3000, 5000]


def test_the_canary_keeps_its_own_weights(planned: LatticePlan) -> None:
    """App Mesh's file says 90 and 10, which AWS's side had set to 50 and 50."""
    weights = [
        [group["weight"] for group in body["action"]["forward"]["targetGroups"]]
        for body in bodies(planned, "rule")
    ]
    assert sorted(weights, key=len)[-1] == [90, 10]


def test_the_gateway_is_left_to_a_load_balancer_as_aws_left_it(planned: LatticePlan) -> None:
    """AWS put a network load balancer before the pods; the plan says that one is needed."""
    (service,) = [one for one in after("Service") if one["metadata"]["name"].endswith("-lb")]
    assert cast("dict[str, Any]", service)["spec"]["type"] == "LoadBalancer"
    assert "lattice-gateway-left-out" in {it.code for it in planned.problems}
