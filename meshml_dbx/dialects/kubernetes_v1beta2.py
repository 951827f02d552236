"""Definitions of ``appmesh.k8s.aws/v1beta2`` become resources.

One document and the cluster it stands in go in; its resources come out: one, but a virtual router
and its routes. Values keep their own places; names are those that the controller gave in AWS.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshml_dbx.dialects.found import Account, Kind, Resource
from meshml_dbx.dialects.kubernetes_cluster import Cluster, name_in_aws
from meshml_dbx.dialects.kubernetes_documents import Document, once
from meshml_dbx.dialects.kubernetes_fields import Reshaping, known_only, leave_unknown
from meshml_dbx.dialects.kubernetes_groups import group_field, group_names
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table
from meshml_dbx.mesh.spec import (
    BackendGroupSpec,
    GatewayRouteSpec,
    MeshSpec,
    RouteSpec,
    VirtualGatewaySpec,
    VirtualNodeSpec,
    VirtualRouterSpec,
    VirtualServiceSpec,
)

_SELECTORS = {"namespaceSelector", "podSelector", "gatewayRouteSelector"}
_FOR_NAMES = {"awsName": Scalar, "meshRef": Table, "virtualGatewayRef": Table}


def read_v1beta2(document: Document, cluster: Cluster) -> Sequence[Resource]:
    """The resources of a definition."""
    return _READERS[document.kind](document, cluster)


# --- kinds ------------------------------------------------------------------------------------


def _mesh(document: Document, cluster: Cluster) -> Sequence[Resource]:
    own = _own_fields(document, cluster.account)
    owner = tuple(("meshOwner", one.value) for one in own if one.key == "meshOwner")
    others = [one for one in own if one.key != "meshOwner"]
    renamed = [_mesh_field(one, cluster.account) for one in others]
    found = _resource("mesh", MeshSpec, [one for one in renamed if one], document, cluster)
    return [replace(found, fields=owner)]


def _mesh_field(entry: Entry, account: Account) -> Entry | None:
    if entry.key == "serviceDiscovery":
        leave_unknown(entry, account, "meshServiceDiscovery")
        return None
    is_discovery = entry.key == "meshServiceDiscovery"
    return replace(entry, key="serviceDiscovery") if is_discovery else entry


def _node(document: Document, cluster: Cluster) -> Sequence[Resource]:
    created: list[Resource] = []
    entries = []
    for entry in _own_fields(document, cluster.account):
        if entry.key == "backendGroups" and isinstance(entry.value, Series):
            names, created = group_names(entry.value, document, cluster)
            entries.append(replace(entry, value=names))
        else:
            entries.append(entry)
    return [_resource("virtualNode", VirtualNodeSpec, entries, document, cluster), *created]


def _service(document: Document, cluster: Cluster) -> Sequence[Resource]:
    own = _own_fields(document, cluster.account)
    return [_resource("virtualService", VirtualServiceSpec, own, document, cluster)]


def _router(document: Document, cluster: Cluster) -> Sequence[Resource]:
    own = _own_fields(document, cluster.account)
    routes = next((one.value for one in own if one.key == "routes"), None)
    others = [one for one in own if one.key != "routes"]
    router = _resource("virtualRouter", VirtualRouterSpec, others, document, cluster)
    items = items_of(routes, cluster.account)
    return [router, *(_route(item, router, document, cluster) for item in items)]


def _route(item: Table, router: Resource, document: Document, cluster: Cluster) -> Resource:
    name, entries = name_of_route(item, document, cluster.account)
    spec = Table(place=item.place, entries=entries)
    return Resource(
        kind="route",
        place=item.place,
        name=name,
        mesh=router.mesh,
        parent=router.name,
        spec=_spec(spec, RouteSpec, document, cluster),
    )


def _gateway(document: Document, cluster: Cluster) -> Sequence[Resource]:
    own = _own_fields(document, cluster.account)
    return [_resource("virtualGateway", VirtualGatewaySpec, own, document, cluster)]


def _gateway_route(document: Document, cluster: Cluster) -> Sequence[Resource]:
    own = _own_fields(document, cluster.account)
    found = _resource("gatewayRoute", GatewayRouteSpec, own, document, cluster)
    return [replace(found, parent=cluster.gateway_of(document))]


def _group(document: Document, cluster: Cluster) -> Sequence[Resource]:
    own = _own_fields(document, cluster.account)
    renamed = [group_field(entry, document, cluster) for entry in own]
    entries = [one for one in renamed if one]
    return [_resource("backendGroup", BackendGroupSpec, entries, document, cluster)]


def _resource(
    kind: Kind, cls: type, entries: Sequence[Entry], document: Document, cluster: Cluster
) -> Resource:
    """The resource that a whole document is."""
    spec = Table(place=document.spec.place, entries=tuple(entries))
    return Resource(
        kind=kind,
        place=document.table.place,
        name=name_in_aws(document),
        mesh=None if kind == "mesh" else cluster.mesh_of(document),
        spec=_spec(spec, cls, document, cluster),
    )


# --- parts ------------------------------------------------------------------------------------


def _own_fields(document: Document, account: Account) -> list[Entry]:
    """The fields of a spec that are the resource's own; what serves the cluster is left."""
    own = []
    for entry in document.spec.entries:
        if entry.key in _SELECTORS:
            what = (
                f"{document}: {entry.key} tells a cluster what belongs to it; a mesh file does not"
            )
            account.leave("kubernetes-selector", entry.place, what)
            account.use(entry.value)
        elif entry.key not in _FOR_NAMES:
            own.append(entry)
        elif isinstance(entry.value, (_FOR_NAMES[entry.key], Scalar)):
            account.use(entry.value)
        else:
            what = f"{document}: {entry.key} is of the wrong type"
            account.leave("kubernetes-wrong-type", entry.value, what)
    return own


def _spec(spec: Table, cls: type, document: Document, cluster: Cluster) -> Table:
    reshaped = Reshaping(document, cluster).node(spec)
    known = reshaped if isinstance(reshaped, Table) else spec
    return known_only(known, cls, cluster.account)


def items_of(node: Node | None, account: Account) -> list[Table]:
    """The tables of a list of routes; what is none gets its finding."""
    if node is None or (isinstance(node, Scalar) and node.value is None):
        account.use(node)
        return []
    if not isinstance(node, Series):
        account.leave("kubernetes-wrong-type", node, "routes must be a list")
        return []
    tables = []
    for item in node.items:
        if isinstance(item, Table):
            tables.append(item)
        else:
            account.leave("kubernetes-wrong-type", item, "a route must be a table")
    return tables


def name_of_route(
    item: Table, document: Document, account: Account
) -> tuple[Scalar | None, tuple[Entry, ...]]:
    """The name of a route in a list of routes, and the other fields."""
    own = tuple(once(item, account))
    name = next((one.value for one in own if one.key == "name"), None)
    if not isinstance(name, Scalar):
        what = f"a route of {document} needs a name"
        account.leave("kubernetes-no-name", item.place, what)
        account.use(name)
    return name if isinstance(name, Scalar) else None, tuple(
        one for one in own if one.key != "name"
    )


_READERS: dict[str, Callable[[Document, Cluster], Sequence[Resource]]] = {
    "Mesh": _mesh,
    "VirtualNode": _node,
    "VirtualService": _service,
    "VirtualRouter": _router,
    "VirtualGateway": _gateway,
    "GatewayRoute": _gateway_route,
    "BackendGroup": _group,
}
