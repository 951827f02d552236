"""Our own form, ``mesh.yml``, taken apart into resources, so that it mixes with other dialects."""

from collections.abc import Iterator, Sequence

from meshml_dbx.dialects.found import Account, Kind, Parameters, Resource
from meshml_dbx.dialects.tree import Node, Scalar, Series, Table

ENTRY_LISTS: dict[str, tuple[Kind, str]] = {
    "clients": ("client", "clientName"),
    "virtualNodes": ("virtualNode", "virtualNodeName"),
    "virtualRouters": ("virtualRouter", "virtualRouterName"),
    "virtualServices": ("virtualService", "virtualServiceName"),
    "virtualGateways": ("virtualGateway", "virtualGatewayName"),
    "backendGroups": ("backendGroup", "backendGroupName"),
}
"""The lists of ``mesh.yml`` by field: the kind of their entries and the field of their names."""

NESTED: dict[Kind, tuple[str, Kind, str]] = {
    "virtualRouter": ("routes", "route", "routeName"),
    "virtualGateway": ("gatewayRoutes", "gatewayRoute", "gatewayRouteName"),
}
"""Entries that stand inside others: the field of their list, their kind, the field of their name"""

_WHOLE_MESH = {"tags", "injectedDefaults"}


def read_own(
    trees: Sequence[Table], account: Account, parameters: Parameters
) -> tuple[Resource, ...]:
    """The resources of every ``mesh.yml``; the fields of the whole mesh go with the mesh."""
    del parameters
    return tuple(resource for tree in trees for resource in _resources(tree, account))


def _resources(tree: Table, account: Account) -> Iterator[Resource]:
    mesh = tree.get("mesh")
    name = mesh.get("meshName") if isinstance(mesh, Table) else None
    mesh_name = name if isinstance(name, Scalar) else None
    whole = tuple((entry.key, entry.value) for entry in tree.entries if entry.key in _WHOLE_MESH)
    if isinstance(mesh, Table):
        yield _resource("mesh", mesh, "meshName", further=whole)
    for entry in tree.entries:
        if entry.key in ENTRY_LISTS:
            kind, name_field = ENTRY_LISTS[entry.key]
            yield from _entries(entry.value, kind, name_field, mesh_name, account)
        elif entry.key != "mesh" and entry.key not in _WHOLE_MESH:
            account.leave("unknown-field", entry.value, f'unknown field "{entry.key}"')


def _entries(
    listed: Node, kind: Kind, name_field: str, mesh: Scalar | None, account: Account
) -> Iterator[Resource]:
    if not isinstance(listed, Series):
        if not (isinstance(listed, Scalar) and listed.value is None):
            account.leave("wrong-value", listed, f"this must be a list of {kind} entries")
        return
    for item in listed.items:
        if not isinstance(item, Table):
            account.leave("wrong-value", item, f"this must be a mapping, a {kind}")
            continue
        resource = _resource(kind, item, name_field, mesh=mesh)
        yield resource
        if kind in NESTED:
            yield from _nested(item, kind, resource, account)


def _nested(item: Table, kind: Kind, outer: Resource, account: Account) -> Iterator[Resource]:
    field, inner_kind, name_field = NESTED[kind]
    listed = item.get(field)
    for inner in _entries(listed, inner_kind, name_field, outer.mesh, account) if listed else ():
        yield Resource(
            kind=inner.kind,
            place=inner.place,
            name=inner.name,
            mesh=inner.mesh,
            parent=outer.name,
            spec=inner.spec,
            fields=inner.fields,
        )


def _resource(
    kind: Kind,
    item: Table,
    name_field: str,
    *,
    mesh: Scalar | None = None,
    further: tuple[tuple[str, Node], ...] = (),
) -> Resource:
    name, spec = item.get(name_field), item.get("spec")
    is_name, is_spec = isinstance(name, Scalar), isinstance(spec, Table)
    taken = {NESTED[kind][0]} if kind in NESTED else set()
    taken |= ({name_field} if is_name else set()) | ({"spec"} if is_spec else set())
    rest = tuple((entry.key, entry.value) for entry in item.entries if entry.key not in taken)
    return Resource(
        kind=kind,
        place=item.place,
        name=name if isinstance(name, Scalar) else None,
        mesh=mesh,
        spec=spec if isinstance(spec, Table) else None,
        fields=rest + further,
    )
