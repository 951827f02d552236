"""Definitions of ``appmesh.k8s.aws/v1beta1`` become resources: the controller before 1.0.

A virtual service held its router and routes then, every definition named its mesh, and nodes and
routers got names with a dash in AWS. One document and the cluster it stands in go in; its resources
come out.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshml_dbx.dialects.found import Account, Resource
from meshml_dbx.dialects.kubernetes_cluster import Cluster, dashed, name_in_aws
from meshml_dbx.dialects.kubernetes_documents import Document, once
from meshml_dbx.dialects.kubernetes_fields import (
    known_only,
    leave_unknown,
    with_entries,
    with_items,
)
from meshml_dbx.dialects.kubernetes_v1beta2 import items_of, name_of_route
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, made, table
from meshml_dbx.mesh.spec import MeshSpec, RouteSpec, VirtualNodeSpec, VirtualRouterSpec

_RENAMED = {
    "hostName": "hostname",
    "cloudMap": "awsCloudMap",
    "certificateARN": "certificateArn",
    "certificateAuthorityARNs": "certificateAuthorityArns",
}
_ROUTES = {"http": "httpRoute", "http2": "http2Route", "grpc": "grpcRoute", "tcp": "tcpRoute"}


def read_v1beta1(document: Document, cluster: Cluster) -> Sequence[Resource]:
    """The resources of a definition."""
    return _READERS[document.kind](document, cluster)


# --- kinds ------------------------------------------------------------------------------------


def _mesh(document: Document, cluster: Cluster) -> Sequence[Resource]:
    unused = document.spec.get("serviceDiscoveryType")
    if unused is not None:
        what = f"{document}: its controller made no use of serviceDiscoveryType"
        cluster.account.leave("kubernetes-metadata", unused, what)
    own = _without(document.spec, "serviceDiscoveryType")
    spec = known_only(own, MeshSpec, cluster.account)
    return [
        Resource(kind="mesh", place=document.table.place, name=name_in_aws(document), spec=spec)
    ]


def _node(document: Document, cluster: Cluster) -> Sequence[Resource]:
    spec = _without(document.spec, "meshName")
    return [
        Resource(
            kind="virtualNode",
            place=document.table.place,
            name=name_in_aws(document),
            mesh=_mesh_name(document, cluster),
            spec=_spec(spec, VirtualNodeSpec, document, cluster.account),
        )
    ]


def _service(document: Document, cluster: Cluster) -> Sequence[Resource]:
    mesh = _mesh_name(document, cluster)
    routes = items_of(document.spec.get("routes"), cluster.account)
    router = _router(document, routes, mesh, cluster)
    named = table(document.spec.place, virtualRouterName=router.name)
    provider = table(document.spec.place, virtualRouter=named)
    for entry in _without(document.spec, "meshName", "virtualRouter", "routes").entries:
        leave_unknown(entry, cluster.account)
    service = Resource(
        kind="virtualService",
        place=document.table.place,
        name=document.name,
        mesh=mesh,
        spec=table(document.spec.place, provider=provider),
    )
    found = [_route(item, router, document, cluster) for item in routes]
    return [service, router, *found]


def _router(
    document: Document, routes: Sequence[Table], mesh: Scalar | None, cluster: Cluster
) -> Resource:
    own = _own_router(document, cluster.account)
    name = own.get("name")
    if isinstance(name, (Table, Series)):
        what = f"{document}: the name of its router must be text"
        cluster.account.leave("kubernetes-wrong-type", name, what)
    cluster.account.use(name)
    is_named = isinstance(name, Scalar) and bool(str(name.value or "").strip())
    origin = name if isinstance(name, Scalar) and is_named else document.name
    in_aws = dashed(str(origin.value).strip(), document.namespace)
    origins = [one for one in (origin, document.written_namespace) if one]
    spec = _with_listener(_without(own, "name"), document, routes, cluster)
    return Resource(
        kind="virtualRouter",
        place=own.place,
        name=made(in_aws, origin.place, *origins),
        mesh=mesh,
        spec=_spec(spec, VirtualRouterSpec, document, cluster.account),
    )


def _own_router(document: Document, account: Account) -> Table:
    """What a service says of its router; nothing if it says nothing."""
    given = document.spec.get("virtualRouter")
    if isinstance(given, Table):
        return replace(given, entries=tuple(once(given, account)))
    if isinstance(given, Scalar) and given.value is None:
        account.use(given)
    elif given is not None:
        account.leave("kubernetes-wrong-type", given, f"{document}: virtualRouter must be a table")
    return Table(place=document.spec.place, entries=())


def _with_listener(
    spec: Table, document: Document, routes: Sequence[Table], cluster: Cluster
) -> Table:
    listeners = spec.get("listeners")
    if isinstance(listeners, Series) and listeners.items:
        return spec
    found = _listener_of_target(document, routes, cluster)
    if not found:
        return spec
    cluster.account.use(listeners)
    return replace(spec, entries=_without(spec, "listeners").entries + found)


def _listener_of_target(
    document: Document, routes: Sequence[Table], cluster: Cluster
) -> tuple[Entry, ...]:
    """The listener that the controller gave a router without one: that of its first target."""
    name = _first_target(routes)
    node = cluster.latest.get(("VirtualNode", document.namespace, name))
    listeners = node.spec.get("listeners") if node else None
    first = listeners.items[0] if isinstance(listeners, Series) and listeners.items else None
    mapping = first.get("portMapping") if isinstance(first, Table) else None
    if mapping is None:
        return ()
    what = f"the router of {document} has no listener; it gets the one of VirtualNode {name}"
    cluster.account.report("kubernetes-router-listener", document.spec.place, what)
    listener = table(mapping.place, portMapping=mapping)
    series = Series(place=mapping.place, items=(listener,))
    return (Entry(key="listeners", place=mapping.place, value=series),)


def _first_target(routes: Sequence[Table]) -> str:
    for kind in _ROUTES:
        route = routes[0].get(kind) if routes else None
        action = route.get("action") if isinstance(route, Table) else None
        targets = action.get("weightedTargets") if isinstance(action, Table) else None
        items = targets.items if isinstance(targets, Series) else ()
        name = items[0].get("virtualNodeName") if items and isinstance(items[0], Table) else None
        if isinstance(name, Scalar):
            return str(name.value)
    return ""


def _route(item: Table, router: Resource, document: Document, cluster: Cluster) -> Resource:
    name, entries = name_of_route(item, document, cluster.account)
    renamed = tuple(replace(entry, key=_ROUTES.get(entry.key, entry.key)) for entry in entries)
    spec = replace(item, entries=renamed)
    return Resource(
        kind="route",
        place=item.place,
        name=name,
        mesh=router.mesh,
        parent=router.name,
        spec=_spec(spec, RouteSpec, document, cluster.account),
    )


def _mesh_name(document: Document, cluster: Cluster) -> Scalar | None:
    name = document.spec.get("meshName")
    if isinstance(name, Scalar) and name.value not in {None, ""}:
        return name
    if name is not None:
        what = f"{document}: meshName must be a name"
        cluster.account.leave("kubernetes-wrong-type", name, what)
    return cluster.mesh_of(document)


# --- fields -----------------------------------------------------------------------------------


def _spec(spec: Table, cls: type, document: Document, account: Account) -> Table:
    reshaped = _reshaped(spec, document)
    known = reshaped if isinstance(reshaped, Table) else spec
    return known_only(known, cls, account)


def _reshaped(node: Node, document: Document, inside: str = "") -> Node:
    if isinstance(node, Scalar):
        return node
    if isinstance(node, Series):
        return with_items(node, tuple(_reshaped(item, document, inside) for item in node.items))
    return with_entries(node, tuple(_entry(one, document, inside) for one in node.entries))


def _entry(entry: Entry, document: Document, inside: str) -> Entry:
    value = entry.value
    if entry.key == "virtualNodeName" and inside == "weightedTargets":
        return replace(entry, key="virtualNode", value=_target(value, document))
    if entry.key == "perRetryTimeoutMillis":
        duration = table(value.place, value=value, unit=made("ms", value.place))
        return replace(entry, key="perRetryTimeout", value=duration)
    if entry.key == "attributes" and inside == "cloudMap" and isinstance(value, Table):
        return replace(entry, value=_listed(value))
    key, reshaped = _RENAMED.get(entry.key, entry.key), _reshaped(value, document, entry.key)
    is_same = key == entry.key and reshaped is value
    return entry if is_same else replace(entry, key=key, value=reshaped)


def _target(name: Node, document: Document) -> Node:
    if not (isinstance(name, Scalar) and isinstance(name.value, str)):
        return name
    return made(dashed(name.value, document.namespace), name.place, name)


def _listed(attributes: Table) -> Series:
    """Cloud Map's attributes as the API lists them; here they were fields of a table."""
    items = (
        table(entry.place, key=made(entry.key, entry.place), value=entry.value)
        for entry in attributes.entries
    )
    return Series(place=attributes.place, items=tuple(items))


def _without(own: Table, *keys: str) -> Table:
    return replace(own, entries=tuple(one for one in own.entries if one.key not in keys))


_READERS: dict[str, Callable[[Document, Cluster], Sequence[Resource]]] = {
    "Mesh": _mesh,
    "VirtualNode": _node,
    "VirtualService": _service,
}
