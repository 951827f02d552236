"""A CloudFormation template by its sections: what each name in it stands for.

A located tree goes in; its parameters, mappings, conditions, resources and outputs, each by name,
come out. Of a name that is written twice, the first is kept and the second reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from meshml_dbx.dialects.found import Account, Kind
from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Table

APP_MESH = "AWS::AppMesh::"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshType:
    """One type of App Mesh resource: our kind for it, and the properties that name it.

    >>> MESH_TYPES["AWS::AppMesh::Route"].parent
    'VirtualRouterName'
    """

    kind: Kind
    name: str
    parent: str | None = None
    parent_kind: Kind | None = None


MESH_TYPES: Mapping[str, MeshType] = MappingProxyType(
    {
        f"{APP_MESH}Mesh": MeshType(kind="mesh", name="MeshName"),
        f"{APP_MESH}VirtualNode": MeshType(kind="virtualNode", name="VirtualNodeName"),
        f"{APP_MESH}VirtualService": MeshType(kind="virtualService", name="VirtualServiceName"),
        f"{APP_MESH}VirtualRouter": MeshType(kind="virtualRouter", name="VirtualRouterName"),
        f"{APP_MESH}VirtualGateway": MeshType(kind="virtualGateway", name="VirtualGatewayName"),
        f"{APP_MESH}Route": MeshType(
            kind="route",
            name="RouteName",
            parent="VirtualRouterName",
            parent_kind="virtualRouter",
        ),
        f"{APP_MESH}GatewayRoute": MeshType(
            kind="gatewayRoute",
            name="GatewayRouteName",
            parent="VirtualGatewayName",
            parent_kind="virtualGateway",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateResource:
    """One entry of ``Resources``; its attributes and properties by name.

    Properties are found whatever the case of their name, as CloudFormation took them.
    """

    logical_id: str
    place: Place
    body: Table
    type: str
    attributes: Mapping[str, Entry]
    properties: Mapping[str, Entry]

    @property
    def mesh_type(self) -> MeshType | None:
        """What it is in a mesh; None of what is no part of one."""
        return MESH_TYPES.get(self.type)

    def property(self, name: str) -> Node | None:
        """The value of a property as the template writes it."""
        found = self.properties.get(name.lower())
        return found.value if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template: its sections by name, and the names in those that others refer to.

    >>> from meshml_dbx.dialects.read import read_text
    >>> text = "Resources: {Mesh: {Type: 'AWS::AppMesh::Mesh'}}"
    >>> read_template(read_text(text, "app.yaml")[0], Account()).resources["Mesh"].type
    'AWS::AppMesh::Mesh'
    """

    place: Place
    sections: Mapping[str, Entry]
    parameters: Mapping[str, Entry]
    mappings: Mapping[str, Entry]
    conditions: Mapping[str, Entry]
    outputs: Mapping[str, Entry]
    resources: Mapping[str, TemplateResource]


def read_template(tree: Table, account: Account) -> Template:
    """The template of a tree; what has not a template's shape is reported and left."""
    sections = by_name(tree, account)
    named = {
        name: _section(sections, name, account)
        for name in ("Parameters", "Mappings", "Conditions", "Outputs", "Resources")
    }
    resources = (_resource(entry, account) for entry in named["Resources"].values())
    return Template(
        place=tree.place,
        sections=sections,
        parameters=named["Parameters"],
        mappings=named["Mappings"],
        conditions=named["Conditions"],
        outputs=named["Outputs"],
        resources={one.logical_id: one for one in resources if one},
    )


def by_name(table: Table, account: Account, *, folded: bool = False) -> dict[str, Entry]:
    """The fields of a table by name, or by name in lower case; a second one is reported."""
    found: dict[str, Entry] = {}
    for entry in table.entries:
        key = entry.key.lower() if folded else entry.key
        first = found.setdefault(key, entry)
        if first is not entry:
            what = f"{entry.key} is written twice, first on line {first.place.line}"
            account.leave("duplicate-field", entry.place, what)
            account.use(entry.value)
    return found


def _section(sections: Mapping[str, Entry], name: str, account: Account) -> dict[str, Entry]:
    entry = sections.get(name)
    if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
        account.use(entry.value if entry else None)
        return {}
    if isinstance(entry.value, Table):
        return by_name(entry.value, account)
    account.leave("template-shape", entry.value, f"{name} must hold named entries")
    return {}


def _resource(entry: Entry, account: Account) -> TemplateResource | None:
    if entry.key.startswith("Fn::"):
        what = f"{entry.key} makes resources by a macro; it is not expanded"
        account.leave("template-macro", entry.place, what)
        account.use(entry.value)
        return None
    kind = entry.value.get("Type") if isinstance(entry.value, Table) else None
    if not isinstance(entry.value, Table) or not isinstance(kind, Scalar):
        account.leave(
            "template-shape", entry.place, f"{entry.key} needs a Type, such as {APP_MESH}Mesh"
        )
        account.use(entry.value)
        return None
    attributes = by_name(entry.value, account)
    return TemplateResource(
        logical_id=entry.key,
        place=entry.place,
        body=entry.value,
        type=str(kind.value),
        attributes=attributes,
        properties=_properties(entry.key, attributes, account),
    )


def _properties(
    logical_id: str, attributes: Mapping[str, Entry], account: Account
) -> dict[str, Entry]:
    entry = attributes.get("Properties")
    if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
        account.use(entry.value if entry else None)
        return {}
    if isinstance(entry.value, Table) and not entry.value.tag:
        return by_name(entry.value, account, folded=True)
    account.leave("template-shape", entry.value, f"the Properties of {logical_id} must be named")
    return {}
