"""CloudFormation templates, in YAML or JSON, become resources of a mesh.

Every ``AWS::AppMesh::…`` resource is worked out with the values that were given and put into the
mesh file's names. The rest of a template is left, one finding for each section and each resource.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from meshml_dbx.dialects.found import Account, Kind, Parameters, Resource
from meshml_dbx.dialects.intrinsics import UnusableError, composed
from meshml_dbx.dialects.stack import Exports, Stack
from meshml_dbx.dialects.template import (
    APP_MESH,
    MESH_TYPES,
    MeshType,
    TemplateResource,
    by_name,
    read_template,
)
from meshml_dbx.dialects.template_fields import camel_case, shaped
from meshml_dbx.dialects.template_parameters import text_of
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table
from meshml_dbx.mesh.names import closest
from meshml_dbx.mesh.spec import (
    GatewayRouteSpec,
    MeshSpec,
    RouteSpec,
    VirtualGatewaySpec,
    VirtualNodeSpec,
    VirtualRouterSpec,
    VirtualServiceSpec,
)

_SPECS: Mapping[Kind, type] = MappingProxyType(
    {
        "mesh": MeshSpec,
        "virtualNode": VirtualNodeSpec,
        "virtualService": VirtualServiceSpec,
        "virtualRouter": VirtualRouterSpec,
        "route": RouteSpec,
        "virtualGateway": VirtualGatewaySpec,
        "gatewayRoute": GatewayRouteSpec,
    }
)
_SHAPING = {"Type", "Condition", "Properties"}
_EXPANDED_BY_AWS = (
    "AWS::CodeDeploy",
    "AWS::LanguageExtensions",
    "AWS::SecretsManager",
    "AWS::Serverless",
)
_NESTED = "AWS::CloudFormation::Stack"
_VERSION = "2010-09-09"
_MOST_LISTED = 8


def read_cloudformation(
    trees: Sequence[Table], account: Account, parameters: Parameters
) -> tuple[Resource, ...]:
    """The mesh's resources of some templates, which may import each other's exports."""
    exports = Exports()
    stacks = tuple(
        Stack(
            template=read_template(tree, account),
            account=account,
            parameters=parameters,
            exports=exports,
        )
        for tree in trees
    )
    exports.stacks = stacks
    found = tuple(resource for stack in stacks for resource in _resources(stack))
    for stack in stacks:
        _leave_sections(stack)
    return found


# --- resources --------------------------------------------------------------------------------


def _resources(stack: Stack) -> Iterator[Resource]:
    for resource in stack.template.resources.values():
        if resource.mesh_type is None:
            _leave_resource(stack, resource)
        elif _is_made(stack, resource):
            yield from _carried(stack, resource, resource.mesh_type)


def _leave_resource(stack: Stack, resource: TemplateResource) -> None:
    if resource.type == _NESTED or resource.type.endswith("::MODULE"):
        what = f"{resource.logical_id} has a template of its own ({resource.type}); it is not read"
        advice = "import the file of that template too, if it defines a part of the mesh"
        stack.account.leave("template-part", resource.place, what, advice=advice)
    elif not resource.type.lower().startswith(APP_MESH.lower()):
        what = f"{resource.logical_id} ({resource.type}) is no part of a mesh"
        stack.account.leave("template-part", resource.place, what)
    else:
        guess = closest(resource.type, MESH_TYPES)
        asked = f"; did you mean {guess}?" if guess else ""
        what = f"App Mesh has no type {resource.type}{asked}"
        stack.account.leave("template-type", resource.place, what)
    stack.account.use(resource.body)


def _is_made(stack: Stack, resource: TemplateResource) -> bool:
    entry = resource.attributes.get("Condition")
    if entry is None:
        return True
    if isinstance(entry.value, Scalar):
        if stack.conditions.holds(entry.value):
            return True
        what = f"{resource.logical_id} is not made: its condition {entry.value.value} is not met"
        stack.account.leave("template-branch", resource.place, what)
        stack.account.use(resource.body)
        return False
    what = f"the Condition of {resource.logical_id} must be a condition's name"
    stack.account.leave("template-shape", entry.value, what)
    return True


def _carried(stack: Stack, resource: TemplateResource, mesh_type: MeshType) -> Iterator[Resource]:
    """The resource as the mesh file writes it; none if it leads back to itself."""
    for name, entry in resource.attributes.items():
        if name in _SHAPING - {"Properties"}:
            stack.account.use(entry.value)
        elif name not in _SHAPING:
            what = f"{name} of {resource.logical_id} is CloudFormation's own"
            stack.account.leave("template-part", entry.value, what)
    try:
        yield Resource(
            kind=mesh_type.kind,
            place=resource.place,
            name=_name(stack, resource, mesh_type.name),
            mesh=_name(stack, resource, "MeshName") if mesh_type.kind != "mesh" else None,
            parent=_name(stack, resource, mesh_type.parent) if mesh_type.parent else None,
            spec=_spec(stack, resource, _SPECS[mesh_type.kind]),
            fields=tuple(_further_fields(stack, resource, mesh_type)),
        )
    except UnusableError as error:
        stack.account.leave(error.code, resource.place, str(error))
        stack.account.use(resource.body)


def _name(stack: Stack, resource: TemplateResource, property_name: str) -> Scalar:
    """A naming property as text; of an ARN, which names nothing, the last part."""
    found = shaped(stack.name(resource, property_name), str)
    text = text_of(found)
    if not isinstance(found, Scalar) or not text.startswith("arn:"):
        return found if isinstance(found, Scalar) else stack.name(resource, property_name)
    what = f"{property_name} of {resource.logical_id} is an ARN ({text}), not a name"
    stack.account.report("template-arn", found.place, what)
    return composed(text.rsplit("/", 1)[-1], found.place, found)


def _spec(stack: Stack, resource: TemplateResource, wanted: type) -> Table | None:
    found = stack.property(resource, "Spec")
    if found is None or (isinstance(found, Scalar) and found.value is None):
        stack.account.use(found)
        return None
    renamed = shaped(found, wanted)
    if isinstance(renamed, Table):
        return renamed
    what = f"the Spec of {resource.logical_id} must hold named fields"
    stack.account.leave("template-shape", found, what)
    return None


def _further_fields(
    stack: Stack, resource: TemplateResource, mesh_type: MeshType
) -> Iterator[tuple[str, Node]]:
    """Properties beside names and spec; what no type has is passed on, so that it is reported."""
    names = ("MeshName", "Spec", mesh_type.name, mesh_type.parent or "Spec")
    settled = {name.lower() for name in names}
    for entry in resource.properties.values():
        if entry.key.lower() in settled:
            continue
        value = stack.property(resource, entry.key)
        if value is None:
            continue
        if entry.key.lower() == "tags":
            yield from _tags(stack, value)
        else:
            own = {"meshowner": "meshOwner"}.get(entry.key.lower())
            yield own or camel_case(entry.key), shaped(value, str if own else None)


def _tags(stack: Stack, node: Node) -> Iterator[tuple[str, Node]]:
    """The list of keys and values as a table."""
    entries = []
    for item in node.items if isinstance(node, Series) else (node,):
        fields = by_name(item, stack.account, folded=True) if isinstance(item, Table) else {}
        key, value = fields.get("key"), fields.get("value")
        if key is None or value is None or not isinstance(key.value, Scalar):
            stack.account.leave("template-shape", item, "a tag has a Key and a Value")
            continue
        stack.account.use(key.value)
        text = shaped(value.value, str)
        entries.append(Entry(key=text_of(key.value), place=key.place, value=text))
    if entries:
        yield "tags", Table(place=node.place, entries=tuple(entries))


# --- the rest of a template -------------------------------------------------------------------


def _leave_sections(stack: Stack) -> None:
    for name in stack.template.parameters:
        stack.parameters.get(name)  # a value given for it was no mistake, though no mesh needs it
    told = {
        "Parameters": _of_names("parameters", stack.used, stack.template.parameters),
        "Conditions": _of_names("conditions", stack.conditions.told, stack.template.conditions),
        "Mappings": _of_names("mappings", stack.looked_up, stack.template.mappings),
    }
    for name, entry in stack.template.sections.items():
        if name == "AWSTemplateFormatVersion":
            _check_version(stack, entry.value)
        elif name == "Transform":
            _leave_transform(stack, entry)
        elif name != "Resources":
            what = told.get(name, f"the template's {name} is no part of a mesh")
            stack.account.leave("template-part", entry.value, what)
    if not stack.template.resources:
        what = "the template has no Resources"
        stack.account.report("template-shape", stack.template.place, what)


def _check_version(stack: Stack, version: Node) -> None:
    stack.account.use(version)
    if text_of(version) != _VERSION:
        what = f"CloudFormation knows the version {_VERSION} alone, not {text_of(version)}"
        stack.account.report("template-shape", version.place, what)


def _of_names(what: str, used: Iterable[str], declared: Mapping[str, Entry]) -> str:
    shaping = [name for name in used if name in declared]
    if not shaping:
        return f"none of the template's {what} shapes the mesh"
    shown = ", ".join(shaping[:_MOST_LISTED])
    more = f" and {len(shaping) - _MOST_LISTED} more" if len(shaping) > _MOST_LISTED else ""
    return f"a mesh has no {what}: {shown}{more} are worked out, the rest is left"


def _leave_transform(stack: Stack, entry: Entry) -> None:
    items = entry.value.items if isinstance(entry.value, Series) else (entry.value,)
    names = [text_of(it.get("Name") if isinstance(it, Table) else it) for it in items]
    own = [name for name in names if not name.startswith(_EXPANDED_BY_AWS)]
    if own:
        what = f"the macro {', '.join(own)} may change any part of the template; it is not expanded"
        stack.account.leave("template-macro", entry.value, what)
    else:
        what = f"the template's Transform is not run: {', '.join(names)}"
        stack.account.leave("template-part", entry.value, what)
