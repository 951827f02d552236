"""Small meshes for tests of VPC Lattice's plan, and what is asked of the plan of one."""

import json
from typing import Any

from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.lattice import LatticePlan
from meshml_dbx.planes.plan import Resource
from tests.mesh.ml_example import mesh_of

SERVICES = """
virtualServices:
  - virtualServiceName: labels.ml.local
    spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
clients:
  - clientName: training
    role: training
    databricks: {servicePrincipal: 5a1c}
    spec: {backends: [{virtualService: {virtualServiceName: labels.ml.local}}]}
"""
NODES = """
virtualNodes:
  - virtualNodeName: labels-v1
    spec:
      listeners: [{portMapping: {port: 18081, protocol: http}}]
      serviceDiscovery: {dns: {hostname: one.example.com}}
  - virtualNodeName: labels-v2
    spec:
      listeners: [{portMapping: {port: 18082, protocol: http}}]
      serviceDiscovery: {dns: {hostname: two.example.com}}
  - virtualNodeName: judge
    databricks: {servingEndpoint: judge}
    spec:
      listeners: [{portMapping: {port: 443, protocol: http}}]
      serviceDiscovery: {dns: {hostname: adb.example.com}}
"""
BOTH = "[{virtualNode: labels-v1, weight: 70}, {virtualNode: labels-v2, weight: 30}]"
ONE = "[{virtualNode: labels-v1, weight: 1}]"


def routed(*routes: str, protocol: str = "http") -> Mesh:
    """A mesh with one router of these routes, each a name, a match and targets."""
    written = "".join(f"      - {route}\n" for route in routes)
    return mesh_of(
        "mesh: {meshName: ml, meshOwner: '111122223333'}\n"
        f"{NODES}{SERVICES}"
        "virtualRouters:\n"
        "  - virtualRouterName: labels\n"
        f"    spec: {{listeners: [{{portMapping: {{port: 80, protocol: {protocol}}}}}]}}\n"
        f"    routes:\n{written}"
    )


def http(name: str, match: str, targets: str = ONE, *, priority: int | None = None) -> str:
    """A route's text."""
    action = f"action: {{weightedTargets: {targets}}}"
    rank = f"priority: {priority}, " if priority is not None else ""
    return f"{{routeName: {name}, spec: {{{rank}httpRoute: {{match: {match}, {action}}}}}}}"


def of_kind(made: LatticePlan, kind: str) -> list[Resource]:
    """The resources of a kind, in the plan's order."""
    return [step.resource for step in made.plan.steps if step.resource.kind == kind]


def only(made: LatticePlan, kind: str) -> dict[str, Any]:
    """The body of the only resource of a kind."""
    (found,) = of_kind(made, kind)
    return dict(found.body)


def policy_of(made: LatticePlan, kind: str, start: str) -> list[Any]:
    """The statements of the policy whose name starts so."""
    (found,) = [it for it in of_kind(made, kind) if it.name.startswith(start)]
    text = found.body["policy" if kind == "auth-policy" else "PolicyDocument"]
    return list(json.loads(str(text))["Statement"])


def codes(made: LatticePlan) -> list[tuple[str, str]]:
    """The problems' codes and paths."""
    return [(it.code, it.path) for it in made.problems]
