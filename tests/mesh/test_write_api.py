"""A mesh as the API's create requests: in an order that works, as AWS's own client takes them."""

from collections.abc import Sequence

import pytest
from botocore.session import get_session  # type: ignore[import-untyped]  # it ships no types
from botocore.validate import ParamValidator  # type: ignore[import-untyped]  # nor here
from hypothesis import HealthCheck, given, settings

from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.mesh.write_api import ApiRequest, mesh_to_api
from tests.mesh.any_mesh import any_mesh

MODEL = get_session().get_service_model("appmesh")
any_size = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)
OURS = """
mesh: {meshName: ml, meshOwner: "111111111111"}
injectedDefaults: legacy
clients: [{clientName: job, role: training, spec: {backendGroups: [all]}}]
virtualNodes:
  - virtualNodeName: scorer
    databricks: {servingEndpoint: churn}
    spec:
      listeners: [{portMapping: {port: 443, protocol: http}}]
      backends: [{virtualService: {virtualServiceName: a.local}}]
      backendGroups: [all]
      serviceDiscovery: {dns: {hostname: h.local}}
virtualServices: [{virtualServiceName: a.local}, {virtualServiceName: b.local}]
backendGroups: [{backendGroupName: all, spec: {virtualServices: [a.local, b.local]}}]
"""


def mesh_of(text: str) -> Mesh:
    """The mesh of a text that has one."""
    found = load_mesh(text, source="mesh.yml").mesh
    assert found is not None
    return found


def operation_name(request: ApiRequest) -> str:
    """The API's name of an operation: create-virtual-node is CreateVirtualNode."""
    return "".join(part.capitalize() for part in request.operation.split("-"))


def problems(requests: Sequence[ApiRequest]) -> list[str]:
    """What AWS's own client says of the requests before it sends them."""
    validator = ParamValidator()
    reports = (
        validator.validate(dict(one.body), MODEL.operation_model(operation_name(one)).input_shape)
        for one in requests
    )
    return [report.generate_report() for report in reports if report.has_errors()]


@given(mesh=any_mesh(api_only=True))
@any_size
def test_every_request_is_one_that_awss_client_would_send(mesh: Mesh) -> None:
    """Field names, types, required fields, ranges and unions are the API's."""
    form = mesh_to_api(mesh)
    assert problems(form.requests) == []
    assert form.findings == ()


@given(mesh=any_mesh(api_only=True))
@any_size
def test_what_a_request_names_was_created_before_it(mesh: Mesh) -> None:
    """A route follows its router, a gateway route its gateway, and everything the mesh."""
    seen: set[tuple[str, object]] = set()
    for request in mesh_to_api(mesh).requests:
        for field, kind in (
            ("virtualRouterName", "route"),
            ("virtualGatewayName", "gateway-route"),
        ):
            if request.operation == f"create-{kind}":
                assert (field, request.body[field]) in seen
        seen |= {(key, value) for key, value in request.body.items() if key.endswith("Name")}


def test_backend_groups_are_written_as_backends() -> None:
    """The services of a node's groups join its own backends, each once."""
    (node,) = [one.body for one in mesh_to_api(mesh_of(OURS)).requests if "node" in one.operation]
    spec = node["spec"]
    assert isinstance(spec, dict)
    assert [one["virtualService"]["virtualServiceName"] for one in spec["backends"]] == [
        "a.local",
        "b.local",
    ]
    assert "backendGroups" not in spec


def test_what_the_api_has_no_words_for_is_named() -> None:
    """Clients, marks of nodes that run elsewhere, groups, an owner and injected policies."""
    assert [one.where for one in mesh_to_api(mesh_of(OURS)).findings] == [
        "mesh.meshOwner",
        "injectedDefaults",
        "clients[job]",
        "backendGroups[all]",
        "virtualNodes[scorer].databricks",
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            OURS,
            [
                "001-create-mesh-ml.json",
                "002-create-virtual-node-scorer.json",
                "003-create-virtual-service-a.local.json",
                "004-create-virtual-service-b.local.json",
            ],
        )
    ],
)
def test_files_of_requests_sort_in_the_order_of_their_calls(text: str, names: list[str]) -> None:
    """The number leads the name, so that a folder lists them in the order to send them in."""
    requests = mesh_to_api(mesh_of(text)).requests
    assert [one.file_name(number) for number, one in enumerate(requests, 1)] == names
