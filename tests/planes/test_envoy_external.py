"""Upstreams that run outside the mesh: called by their own names, over TLS that somebody signed."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from meshml_dbx.errors import EnvoyError, TrustError
from meshml_dbx.planes import Wiring, render, secrets_of
from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_mesh import mesh_of
from tests.planes.envoy_world import Program, Reply, Request, serving
from tests.small_pki import Authority

MESH = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: scoring
  spec:
    backends:
    - virtualService: {virtualServiceName: scorer.ml.local}
    - virtualService: {virtualServiceName: mixed.ml.local}
    - virtualService: {virtualServiceName: impostor.ml.local}
    - virtualService:
        virtualServiceName: named.ml.local
        clientPolicy: {tls: {validation: {trust: {sds: {secretName: ml}}}}}
virtualNodes:
- virtualNodeName: endpoint
  databricks: {servingEndpoint: churn}
  spec:
    listeners: [{portMapping: {port: SAFE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: impostor
  databricks: {servingEndpoint: churn}
  spec:
    listeners: [{portMapping: {port: SAFE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: 127.0.0.1}}
- virtualNodeName: store
  dataSource: {kind: objectStore}
  spec:
    listeners: [{portMapping: {port: PLAIN_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: inside
  spec:
    listeners: [{portMapping: {port: INSIDE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
- virtualRouterName: scorer
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: scores
    spec:
      httpRoute:
        match: {prefix: /}
        action: {weightedTargets: [{virtualNode: endpoint, weight: 1}]}
- virtualRouterName: mixed
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: half
    spec:
      httpRoute:
        match: {prefix: /}
        action:
          weightedTargets:
          - {virtualNode: store, weight: 1}
          - {virtualNode: inside, weight: 1}
virtualServices:
- virtualServiceName: scorer.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: scorer}}}
- virtualServiceName: mixed.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: mixed}}}
- virtualServiceName: impostor.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: impostor}}}
- virtualServiceName: named.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: endpoint}}}
"""
CONTEXT = {"x_meshml_run_id": "4f1c", "x_meshml_stage": "scoring"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The lab, and the programs outside and inside."""

    lab: Lab
    safe: Program
    plain: Program
    inside: Program


def pose_as_sidecar(request: Request) -> Reply:
    """An answer that claims to come from a sidecar of the mesh."""
    return Reply(headers={"x-meshml-origin": "forged"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A serving endpoint with a certificate, a plain store, and a node of the mesh."""
    folder = tmp_path_factory.mktemp("external")
    authority = Authority(folder / "pki", "public")
    pair = authority.issue("endpoint", "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.chain, pair.key)
    with (
        serving(pose_as_sidecar, tls=tls) as safe,
        serving() as plain,
        serving() as inside,
        lab(
            folder,
            MESH,
            {"inside": inside.port},
            ports={"SAFE": safe.port, "PLAIN": plain.port},
            authorities=str(authority.file),
        ) as made,
    ):
        yield World(lab=made, safe=safe, plain=plain, inside=inside)


@pytest.mark.envoy
def test_a_serving_endpoint_is_called_by_its_own_name(world: World) -> None:
    """Over TLS that the machine's authorities signed, with its own host in the host header."""
    got = world.lab.call("job", "http://scorer.ml.local/serving", **CONTEXT)
    end = world.lab["job"].end_of(got.request_id)
    assert (got.code, end.target, end.virtual_service) == (200, "endpoint", "scorer.ml.local")
    (request,) = [it for it in world.safe.requests if it.path == "/serving"]
    assert request.headers["host"] == f"localhost:{world.safe.port}"


@pytest.mark.envoy
def test_nothing_of_ours_leaves_the_mesh(world: World) -> None:
    """Context stays inside, and an outside answer cannot pose as a sidecar's."""
    got = world.lab.call("job", "http://scorer.ml.local/clean", **CONTEXT)
    (request,) = [it for it in world.safe.requests if it.path == "/clean"]
    assert [it for it in request.headers if it.startswith("x-meshml")] == []
    assert "x-meshml-origin" not in got.headers


@pytest.mark.envoy
def test_each_target_gets_its_own(world: World) -> None:
    """Of one route's targets the outside one is called by its host, the node as it was called."""
    for _ in range(20):
        world.lab.call("job", "http://mixed.ml.local/mixed", **CONTEXT)
    hosts = {it.headers["host"] for it in world.plain.requests if it.path == "/mixed"}
    inside = [it for it in world.inside.requests if it.path == "/mixed"]
    assert hosts == {f"localhost:{world.plain.port}"}
    assert {it.headers["host"] for it in inside} == {"mixed.ml.local"}
    assert {it.headers.get("x-meshml-client") for it in inside} == {"job"}


@pytest.mark.envoy
@pytest.mark.parametrize("service", ["impostor.ml.local", "named.ml.local"])
def test_who_is_not_signed_for_is_not_called(world: World, service: str) -> None:
    """A certificate of another name, or by an authority that the client policy does not trust."""
    before = len(world.safe.requests)
    got = world.lab.call("job", f"http://{service}/")
    end = world.lab["job"].end_of(got.request_id)
    assert (got.code, end.flags) == (503, "UF")
    assert "CERTIFICATE_VERIFY_FAILED" in (end.upstream_failure or "")
    assert len(world.safe.requests) == before


# --- what has no sidecar here -----------------------------------------------------------------


def test_an_outside_upstream_has_no_sidecar() -> None:
    """It is said, with what to start instead."""
    wiring = Wiring(sidecar_id="endpoint-1", access_log="/logs/access.jsonl", app_port=1)
    text = MESH.replace("_PORT", "")
    for number, name in enumerate(("SAFE", "PLAIN", "INSIDE")):
        text = text.replace(f" {name},", f" {18081 + number},")
    with pytest.raises(EnvoyError, match="endpoint runs outside the mesh, so it has no sidecar"):
        render(mesh_of(text), "endpoint", wiring)


ACM = """
mesh: {meshName: ml}
clients:
- clientName: job
  role: scoring
  spec:
    backends: [{virtualService: {virtualServiceName: labels.ml.local}}]
    backendDefaults:
      clientPolicy:
        tls:
          validation:
            trust:
              acm:
                certificateAuthorityArns:
                - "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/a"
virtualNodes:
- virtualNodeName: labels
  spec:
    listeners:
    - portMapping: {port: 18081, protocol: http}
      tls:
        mode: STRICT
        certificate: {acm: {certificateArn: "arn:aws:acm:eu-west-1:123456789012:certificate/b"}}
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: labels.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: labels}}}
"""


@pytest.mark.parametrize(
    ("member", "what"),
    [
        ("labels", "virtual node labels, port 18081: its certificate is in AWS Certificate"),
        ("job", "client job, backend labels.ml.local: it trusts authorities of AWS"),
    ],
)
def test_what_aws_holds_is_refused_by_name(member: str, what: str) -> None:
    """No Envoy of one's own can ask AWS for it: the error says whose and what to do."""
    with pytest.raises(TrustError, match=what) as raised:
        secrets_of(mesh_of(ACM), member)
    assert "sds: {secretName: " in raised.value.advice
