"""A virtual gateway rendered for elsewhere: no program, no backends, and yet a way in."""

import pytest
import yaml

from meshml_dbx.planes.render_elsewhere import render_elsewhere
from meshml_dbx.planes.render_terms import TASK_MARK, Form, Placement, Rendering, wiring_of
from tests.planes.envoy_mesh import mesh_of

EDGE = """
mesh: {meshName: ml}
virtualGateways:
- virtualGatewayName: edge
  spec: {listeners: [{portMapping: {port: 8080, protocol: http}}]}
"""
OUTSIDE = {
    "envoy": "It listens at 127.0.0.1",
    "compose": "`ports:`",
    "ecs": "load balancer",
    "kubernetes": "LoadBalancer",
}


def rendered(form: Form) -> dict[str, str]:
    """The files of the gateway."""
    mesh = mesh_of(EDGE)
    sidecar_id = TASK_MARK if form == "ecs" else "edge-0a1b2c3d"
    placement = Placement(form=form, member="edge", sidecar_id=sidecar_id)
    wiring = wiring_of(mesh, placement, {})
    return render_elsewhere(Rendering(mesh=mesh, placement=placement, wiring=wiring))


@pytest.mark.parametrize("form", OUTSIDE)
def test_the_readme_says_who_speaks_through_a_gateway(form: Form) -> None:
    """Whoever reaches its port does, and it is said how those outside reach it."""
    text = rendered(form)["README.md"]
    assert "Whoever reaches its port 8080 calls with this member's identity" in text
    assert ("Nobody" in text, OUTSIDE[form] in text) == (False, True)


@pytest.mark.parametrize("form", OUTSIDE)
def test_a_gateway_asks_for_no_program(form: Form) -> None:
    """Neither the files nor what the README has a person type name an image of one."""
    assert "APP_IMAGE" not in "".join(rendered(form).values())


def test_a_gateways_pod_gets_no_token_of_the_cluster() -> None:
    """Envoy does not ask Kubernetes anything; a node's program might."""
    pod = yaml.safe_load(rendered("kubernetes")["workload.yaml"])["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
