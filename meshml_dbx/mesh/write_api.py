"""A mesh becomes the create requests of App Mesh's API, in the order in which they could be sent.

What the API has no words for, such as our clients, is named instead. Backend groups, which only
Kubernetes' controller knew, are written as the backends that they stand for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from meshml_dbx.findings import Finding, finding
from meshml_dbx.mesh.spec import Backend, Mesh, VirtualNode, VirtualServiceBackend
from meshml_dbx.mesh.write import plain_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One call of the API: ``aws appmesh <operation> --cli-input-json <body>``.

    >>> ApiRequest(operation="create-mesh", body={"meshName": "ml"}).file_name(1)
    '001-create-mesh-ml.json'
    """

    operation: str
    body: Mapping[str, object]

    def file_name(self, number: int) -> str:
        """A name for a file that holds the body; the number keeps the order."""
        names = [str(value) for key, value in self.body.items() if key.endswith("Name")]
        return f"{number:03}-{self.operation}-{names[-1]}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiForm:
    """A mesh in the API's words: its requests, and what they cannot say."""

    requests: tuple[ApiRequest, ...]
    findings: tuple[Finding, ...]


def mesh_to_api(mesh: Mesh) -> ApiForm:
    """The requests that would create this mesh in App Mesh.

    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> [one.operation for one in mesh_to_api(Mesh(mesh=MeshHead(mesh_name="ml"))).requests]
    ['create-mesh']
    """
    return ApiForm(requests=tuple(_requests(mesh)), findings=tuple(_left_out(mesh)))


def _requests(mesh: Mesh) -> Iterator[ApiRequest]:
    name = mesh.mesh.mesh_name
    spec = plain_fields(mesh.mesh.spec)
    yield ApiRequest(
        operation="create-mesh", body={"meshName": name, "spec": spec, **_tags(mesh.tags)}
    )
    groups = {one.backend_group_name: one.spec.virtual_services for one in mesh.backend_groups}
    for node in mesh.virtual_nodes:
        yield _request("virtual-node", name, _without_ours(node, groups))
    for router in mesh.virtual_routers:
        yield _request("virtual-router", name, router)
        parent = {"virtualRouterName": router.virtual_router_name}
        yield from (_request("route", name, route, parent) for route in router.routes)
    for service in mesh.virtual_services:
        yield _request("virtual-service", name, service)
    for gateway in mesh.virtual_gateways:
        yield _request("virtual-gateway", name, gateway)
        parent = {"virtualGatewayName": gateway.virtual_gateway_name}
        yield from (_request("gateway-route", name, one, parent) for one in gateway.gateway_routes)


def _request(
    kind: str, mesh_name: str, entry: object, parent: Mapping[str, str] | None = None
) -> ApiRequest:
    fields = plain_fields(entry)
    fields.pop("routes", None)
    fields.pop("gatewayRoutes", None)
    tags = fields.pop("tags", {})
    body = {"meshName": mesh_name, **(parent or {}), **fields}
    return ApiRequest(operation=f"create-{kind}", body=body | _tags(tags))


def _tags(tags: object) -> dict[str, object]:
    if not isinstance(tags, dict) or not tags:
        return {}
    return {"tags": [{"key": key, "value": value} for key, value in tags.items()]}


def _without_ours(node: VirtualNode, groups: Mapping[str, tuple[str, ...]]) -> VirtualNode:
    """The node in App Mesh's own fields, with the services of its groups among its backends."""
    listed = {one.virtual_service.virtual_service_name for one in node.spec.backends}
    grouped = dict.fromkeys(
        one for name in node.spec.backend_groups for one in groups.get(name, ())
    )
    added = tuple(
        Backend(virtual_service=VirtualServiceBackend(virtual_service_name=service))
        for service in grouped
        if service not in listed
    )
    spec = replace(node.spec, backends=node.spec.backends + added, backend_groups=())
    return replace(node, spec=spec, databricks=None, data_source=None)


def _left_out(mesh: Mesh) -> Iterator[Finding]:
    if mesh.mesh.mesh_owner:
        yield _unspoken("mesh.meshOwner", "create-mesh takes no owner: it is whoever sends it")
    if mesh.injected_defaults != "none":
        what = "App Mesh injects its policies by itself; there is no field to turn them on"
        yield _unspoken("injectedDefaults", what)
    for client in mesh.clients:
        what = "App Mesh knows no clients"
        yield _unspoken(f"clients[{client.client_name}]", what)
    for group in mesh.backend_groups:
        what = "App Mesh knows no groups; their services are written as backends of each node"
        yield _unspoken(f"backendGroups[{group.backend_group_name}]", what)
    for node in mesh.virtual_nodes:
        field = "databricks" if node.databricks else "dataSource"
        if node.is_external:
            what = "App Mesh does not tell nodes that run elsewhere from others"
            yield _unspoken(f"virtualNodes[{node.virtual_node_name}].{field}", what)


def _unspoken(path: str, what: str) -> Finding:
    return finding("api-not-expressible", where=path, what=what)
