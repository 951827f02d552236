"""The values of an ``aws_appmesh_*`` resource become a Resource, whatever form they are from."""

from collections import Counter
from dataclasses import dataclass, field

from meshml_dbx.dialects.found import Kind, Resource
from meshml_dbx.dialects.terraform_fields import Fields, camel
from meshml_dbx.dialects.tree import Node, Place, Scalar, Table, plain
from meshml_dbx.mesh.spec import (
    GatewayRouteSpec,
    MeshSpec,
    RouteSpec,
    VirtualGatewaySpec,
    VirtualNodeSpec,
    VirtualRouterSpec,
    VirtualServiceSpec,
)

MESH_TYPE = "aws_appmesh_mesh"
_COMPUTED = {"arn", "created_date", "id", "last_updated_date", "region", "resource_owner"}
_PARENTS = {"route": "virtual_router_name", "gatewayRoute": "virtual_gateway_name"}
KINDS: dict[str, tuple[Kind, type]] = {
    MESH_TYPE: ("mesh", MeshSpec),
    "aws_appmesh_virtual_node": ("virtualNode", VirtualNodeSpec),
    "aws_appmesh_virtual_service": ("virtualService", VirtualServiceSpec),
    "aws_appmesh_virtual_router": ("virtualRouter", VirtualRouterSpec),
    "aws_appmesh_route": ("route", RouteSpec),
    "aws_appmesh_virtual_gateway": ("virtualGateway", VirtualGatewaySpec),
    "aws_appmesh_gateway_route": ("gatewayRoute", GatewayRouteSpec),
}


@dataclass(slots=True, kw_only=True)
class Resources:
    """Makes resources; it counts what AWS computed, to be reported once for each file."""

    fields: Fields
    computed: dict[str, Counter[str]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def resource(self, resource_type: str, place: Place, values: Table) -> Resource:
        """The create request that a resource's values are."""
        kind, cls = KINDS[resource_type]
        parent = _PARENTS.get(kind, "")
        further = []
        for entry in values.entries:
            if entry.key in _COMPUTED:
                self._count(entry.key, entry.value)
            elif entry.key not in {"name", "mesh_name", parent, "spec", "tags"}:
                value = self._further(entry.key, entry.value, values)
                if value is not None:
                    further.append((camel(entry.key), value))
        tags = self.fields.tags(values.get("tags"))
        spec = values.get("spec")
        return Resource(
            kind=kind,
            place=place,
            name=self._name(values, "name"),
            mesh=self._name(values, "mesh_name"),
            parent=self._name(values, parent) if parent else None,
            spec=self.fields.record(cls, spec) if spec else None,
            fields=(*further, ("tags", tags)) if tags else tuple(further),
        )

    def report(self) -> None:
        """Name what AWS computed, once for each file."""
        for source, counted in sorted(self.computed.items()):
            names = ", ".join(f"{name} ({counted[name]})" for name in sorted(counted))
            what = f"AWS computes these, the mesh has none of them: {names}"
            self.fields.account.report("terraform-computed", self.places[source], what)

    def _name(self, values: Table, key: str) -> Scalar | None:
        node = values.get(key)
        found = self.fields.scalar(str, "", node) if node else None
        return found if isinstance(found, Scalar) else None

    def _further(self, key: str, node: Node, values: Table) -> Node | None:
        if key == "tags_all" and self.fields.shown:
            self._all_tags(node, values.get("tags"))
            return None
        owner = values.get("resource_owner")
        if key == "mesh_owner" and owner is not None and plain(owner) == plain(node):
            self._count(key, node)
            return None
        return self.fields.scalar(str, "", node)

    def _all_tags(self, node: Node, tags: Node | None) -> None:
        """Tags that the provider's default_tags add are no part of the resource's own block."""
        own = set(tags.keys()) if isinstance(tags, Table) else set()
        others = (
            [it.key for it in node.entries if it.key not in own] if isinstance(node, Table) else []
        )
        if others:
            what = f"tags of the provider's default_tags are left out: {', '.join(others)}"
            self.fields.account.leave("terraform-left", node, what)
        self.fields.account.use(node)

    def _count(self, key: str, node: Node) -> None:
        source = node.place.source
        self.fields.account.use(node)
        self.computed.setdefault(source, Counter())[key] += 1
        self.places.setdefault(source, node.place)
