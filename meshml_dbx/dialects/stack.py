"""A template with values given to it: what each of its nodes comes to in a stack.

For any node of the template, the node without functions comes out; each name in the template is
worked out once. What only a running stack knows stays a named unknown. ``Stack.value`` does not
raise: a function that cannot be worked out is reported at its place, and its value is missing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from meshml_dbx.dialects.found import Account, Parameters
from meshml_dbx.dialects.intrinsics import (
    FUNCTIONS,
    UNKNOWN,
    Call,
    Unknown,
    UnusableError,
    arguments_of,
    call_of,
    composed,
    is_no_value,
    moved,
)
from meshml_dbx.dialects.template import Template, TemplateResource
from meshml_dbx.dialects.template_conditions import Conditions
from meshml_dbx.dialects.template_parameters import parameter_value, pseudo_value, text_of
from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Series, Table, made
from meshml_dbx.mesh.names import closest

_BLANK = re.compile(r"\$\{(!?)([^${}]*)\}")
_BRACES = re.compile(r"\{\{-?\s*\.?([^{}]+?)\s*-?\}\}")
_DEEPEST = 120  # steps down through values and the functions in them; a function counts for three
_MACROS = ("Fn::Transform", "Fn::ForEach")
_MOST_GUESSES = 20  # a guess looks at every name of the template

# What other resources tell of themselves, where a property of theirs says it.
_TOLD: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("AWS::ECS::Cluster", "Ref"): "ClusterName",
        ("AWS::ECS::Service", "Name"): "ServiceName",
        ("AWS::Route53::RecordSet", "Ref"): "Name",
        ("AWS::S3::Bucket", "Ref"): "BucketName",
        ("AWS::SSM::Parameter", "Ref"): "Name",
        ("AWS::SSM::Parameter", "Value"): "Value",
        ("AWS::ServiceDiscovery::Service", "Name"): "Name",
    }
)


@dataclass(slots=True)
class Exports:
    """What the templates of one import export to each other, by the exports' names.

    >>> Exports().find("ml-mesh") is None
    True
    """

    stacks: "tuple[Stack, ...]" = ()
    named: "dict[str, tuple[Stack, Node]] | None" = None
    asked: set[str] = field(default_factory=set)

    def find(self, name: str) -> Node | None:
        """The value that a template exports under a name; None if none does."""
        if self.named is None:
            self.named = {}
            for stack in self.stacks:
                for key, value in stack.exported():
                    self.named.setdefault(key, (stack, value))
        if name not in self.named:
            return None
        if name in self.asked:
            raise UnusableError(f"the export {name} leads back to itself", "template-cycle")
        self.asked.add(name)
        try:
            stack, value = self.named[name]
            return stack.value(value)
        finally:
            self.asked.discard(name)


@dataclass(slots=True, kw_only=True)
class Stack:
    """Works out one template; ``used`` and ``looked_up`` tell what of it shaped the mesh.

    >>> from meshml_dbx.dialects.read import read_text
    >>> from meshml_dbx.dialects.template import read_template
    >>> template = read_template(read_text("Resources: {}", "app.yaml")[0], account := Account())
    >>> given = Parameters(given={"AWS::Region": "eu-west-1"})
    >>> stack = Stack(template=template, account=account, parameters=given, exports=Exports())
    >>> stack.value(read_text("!Sub 'ml.${AWS::Region}'", "app.yaml")[0]).value
    'ml.eu-west-1'
    """

    template: Template
    account: Account
    parameters: Parameters
    exports: Exports
    conditions: Conditions = field(init=False)
    used: dict[str, Node] = field(default_factory=dict)
    looked_up: dict[str, Mapping[str, Mapping[str, Node]]] = field(default_factory=dict)
    _properties: dict[tuple[str, str], Node | None] = field(default_factory=dict)
    _names: dict[tuple[str, str], Scalar] = field(default_factory=dict)
    _asked: set[tuple[str, str]] = field(default_factory=set)
    _depth: int = 0
    _guesses: int = 0

    def __post_init__(self) -> None:
        """Conditions are worked out with the same values."""
        self.conditions = Conditions(
            declared=self.template.conditions, account=self.account, work_out=self.value
        )

    # --- values -------------------------------------------------------------------------------

    def value(self, node: Node) -> Node | None:
        """The node without functions; None where it is AWS::NoValue, or cannot be worked out."""
        call = call_of(node)
        if call is None and isinstance(node, Scalar):
            return self._without_braces(node)
        cost = 1 if call is None else 3
        self._depth += cost
        try:
            if self._depth > _DEEPEST:
                what = "references lead through too many others to here"
                self.account.leave("template-cycle", node, what)
                return None
            return self._plain(node) if call is None else self._called(call, node)
        finally:
            self._depth -= cost

    def property(self, resource: TemplateResource, name: str) -> Node | None:
        """A property of a resource without functions; None if it has none of that name.

        Raises:
            UnusableError: if working it out leads back to it.
        """
        key = (resource.logical_id, name.lower())
        if key in self._properties:
            return self._properties[key]
        if key in self._asked:
            what = f"{name} of {resource.logical_id} refers to itself, by way of others"
            raise UnusableError(what, "template-cycle")
        self._asked.add(key)
        try:
            node = resource.property(name)
            self._properties[key] = found = None if node is None else self.value(node)
        finally:
            self._asked.discard(key)
        return found

    def name(self, resource: TemplateResource, property_name: str) -> Scalar:
        """A property that names the resource; where it is left out, the logical id stands in."""
        key = (resource.logical_id, property_name)
        if key not in self._names:
            found = self.property(resource, property_name)
            if isinstance(found, Scalar) and found.value is not None:
                self._names[key] = found
            else:
                self._names[key] = self._made_up(resource, property_name, found)
        return self._names[key]

    def exported(self) -> Iterator[tuple[str, Node]]:
        """The names and values that the template exports.

        A name that holds the stack's own, unknown one is left out: another stack has another.
        """
        for entry in self.template.outputs.values():
            body = entry.value if isinstance(entry.value, Table) else None
            export = body.get("Export") if body else None
            name = export.get("Name") if isinstance(export, Table) else None
            value = body.get("Value") if body else None
            condition = body.get("Condition") if body else None
            if name is None or value is None:
                continue
            if isinstance(condition, Scalar) and not self.conditions.holds(condition):
                continue
            text = text_of(self.value(name))
            if text and "${AWS::StackName}" not in text:
                yield text, value

    def unknown(self, name: str, place: Place, *origins: Scalar) -> Scalar:
        """What was given for a name that only a running stack knows, else a named unknown."""
        return composed(self._unknown_text(name, place), place, *origins)

    def _made_up(
        self, resource: TemplateResource, property_name: str, found: Node | None
    ) -> Scalar:
        if isinstance(found, Table | Series):
            what = f"{property_name} of {resource.logical_id} must come to a text"
            self.account.leave("template-shape", found, what)
        self.account.use(found)
        what = f"{resource.logical_id} has no {property_name}: CloudFormation made a name up"
        advice = f"the logical id stands in for it; write {property_name} to choose another"
        self.account.report("template-name", resource.place, what, advice=advice)
        return made(resource.logical_id, resource.place)

    def _unknown_text(self, name: str, place: Place) -> str:
        bare = UNKNOWN.sub(lambda found: found[1], name)
        given = self.parameters.get(bare)
        return self.parameters.missing(bare, place) if given is None else given

    def _without_braces(self, node: Scalar) -> Scalar:
        """The scalar with each ``{{resolve:…}}``, or blank of a generator, as a named unknown."""
        if not isinstance(node.value, str) or "{{" not in node.value:
            return node
        text = _BRACES.sub(lambda found: self._unknown_text(found[1], node.place), node.value)
        return composed(text, node.place, node)

    def _plain(self, node: Node) -> Node:
        if isinstance(node, Scalar):
            return node
        if isinstance(node, Series):
            items = [self.value(item) for item in node.items]
            return Series(place=node.place, items=tuple([it for it in items if it is not None]))
        entries = [self._entry(entry) for entry in node.entries]
        return Table(place=node.place, entries=tuple([it for it in entries if it is not None]))

    def _entry(self, entry: Entry) -> Entry | None:
        if entry.key.startswith("Fn::"):
            code = "template-macro" if entry.key.startswith(_MACROS) else "template-intrinsic"
            what = f"{entry.key} stands beside other fields; it is not worked out"
            self.account.leave(code, entry.value, what)
            return None
        value = self.value(entry.value)
        if value is entry.value:
            return entry
        return None if value is None else Entry(key=entry.key, place=entry.place, value=value)

    def _called(self, call: Call, node: Node) -> Node | None:
        if call.name != "Fn::If":  # whose other branch has a finding of its own
            self.account.use(call.arguments)
        try:
            if call.name in FUNCTIONS:
                return self._followed(call, node.place)
            if call.name in _LOOK_UPS:
                return _LOOK_UPS[call.name](self, call.arguments, node.place)
            raise _no_function(call.name)
        except UnusableError as error:
            self.account.leave(error.code, node, str(error))
            return None

    def _followed(self, call: Call, place: Place) -> Node | None:
        """The value of a function that follows from its arguments."""
        arguments = self.value(call.arguments)
        if arguments is None:
            raise UnusableError(f"{call.name} has nothing to work with")
        found = FUNCTIONS[call.name](arguments, place)
        return (
            self.unknown(found.name, place, *found.origins) if isinstance(found, Unknown) else found
        )

    # --- functions that look up ---------------------------------------------------------------

    def _text(self, node: Node, of: str) -> Scalar:
        found = self.value(node)
        if isinstance(found, Scalar):
            return found
        raise UnusableError(f"{of} must come to a text")

    def _ref(self, node: Node, place: Place) -> Node | None:
        name = self._text(node, "Ref")
        return self._reference(text_of(name), place, name)

    def _get_att(self, node: Node, place: Place) -> Node:
        parts = node.items if isinstance(node, Series) and not node.tag else (node,)
        texts = [self._text(part, "Fn::GetAtt") for part in parts]
        path = ".".join(map(text_of, texts))
        if "." not in path:
            raise UnusableError("Fn::GetAtt takes a resource and its attribute")
        return self._attribute(path, place, *texts)

    def _sub(self, node: Node, place: Place) -> Node:
        usage = "Fn::Sub takes a text, or a list of a text and a table of its variables"
        parts = arguments_of(node, 2, 2, usage) if isinstance(node, Series) else (node, None)
        text, variables = parts
        if not isinstance(text, Scalar) or not isinstance(variables, Table | None):
            raise UnusableError(usage)
        origins, pieces, done = [text], [], 0
        for found in _BLANK.finditer(text_of(text)):
            value = self._blank(found, variables, place)
            origins.append(value)
            pieces += [text_of(text)[done : found.start()], text_of(value)]
            done = found.end()
        filled = composed("".join([*pieces, text_of(text)[done:]]), place, *origins)
        return self._without_braces(filled)

    def _blank(self, found: re.Match[str], variables: Table | None, place: Place) -> Scalar:
        literal, name = found[1], found[2].strip()
        if literal:
            return made(f"${{{name}}}", place)
        own = variables.get(name) if variables else None
        if own is not None:
            value = self.value(own)
        else:
            value = self._attribute(name, place) if "." in name else self._reference(name, place)
        if isinstance(value, Scalar):
            return value
        raise UnusableError(f"${{{name}}} in Fn::Sub must come to a text")

    def _if(self, node: Node, _place: Place) -> Node | None:
        usage = "Fn::If takes a condition's name and two values"
        name, met, unmet = arguments_of(node, 3, 3, usage)
        if not isinstance(name, Scalar) or name.tag:
            raise UnusableError(usage)
        holds = self.conditions.holds(name)
        taken, other = (met, unmet) if holds else (unmet, met)
        if is_no_value(other):
            self.account.use(other)
        else:
            state = "met" if holds else "not met"
            what = f"the condition {text_of(name)} is {state}, so this is not part of the mesh"
            self.account.leave("template-branch", other, what)
        return self.value(taken)

    def _import_value(self, node: Node, place: Place) -> Node:
        name = self._text(node, "Fn::ImportValue")
        given = self.parameters.get(text_of(name))
        exported = self.exports.find(text_of(name)) if given is None else None
        return (
            moved(exported, place, name) if exported else self.unknown(text_of(name), place, name)
        )

    def _find_in_map(self, node: Node, place: Place) -> Node | None:
        usage = "Fn::FindInMap takes a mapping and two of its keys"
        *keys, default = (*arguments_of(node, 3, 4, usage), None)[:4]
        names = [self._text(key, "Fn::FindInMap's key") for key in keys if key]
        mapping, top, second = map(text_of, names)
        found = self._map(mapping).get(top, {}).get(second)
        if found is not None:
            return moved(found, place, *names)
        fallback = default.get("DefaultValue") if isinstance(default, Table) else None
        if fallback is not None:
            return self.value(fallback)
        path = f"{mapping}.{top}.{second}"
        if UNKNOWN.search(path):
            return self.unknown(path, place, *names)
        raise UnusableError(f"no mapping has {path}", "template-reference")

    def _map(self, name: str) -> Mapping[str, Mapping[str, Node]]:
        if name not in self.looked_up:
            entry = self.template.mappings.get(name)
            tops = entry.value.entries if entry and isinstance(entry.value, Table) else ()
            self.looked_up[name] = {
                top.key: {it.key: it.value for it in reversed(top.value.entries)}
                for top in reversed(tops)
                if isinstance(top.value, Table)
            }
        return self.looked_up[name]

    # --- references ---------------------------------------------------------------------------

    def _reference(self, name: str, place: Place, *origins: Scalar) -> Node | None:
        """What a parameter, pseudo parameter or resource comes to where it is referred to."""
        if name == "AWS::NoValue":
            return None
        if name.startswith("AWS::"):
            known = pseudo_value(name, self.parameters)
            return self.unknown(name, place) if known is None else composed(known, place, *origins)
        if name in self.template.parameters:
            return moved(self._parameter(name), place, *origins)
        resource = self.template.resources.get(name)
        if resource is None:
            return self._nothing(name, name, place, *origins)
        if resource.mesh_type:
            return self._arn(resource, place, *origins)
        return self._told(resource, "Ref", name, place, *origins)

    def _attribute(self, path: str, place: Place, *origins: Scalar) -> Node:
        """What an attribute of a resource comes to, such as ``Mesh.MeshName``."""
        name, _, attribute = path.partition(".")
        resource = self.template.resources.get(name)
        if resource is None:
            return self._nothing(name, path, place, *origins)
        if resource.mesh_type is None:
            return self._told(resource, attribute, path, place, *origins)
        if attribute in {"Arn", "Id"}:
            return self._arn(resource, place, *origins)
        if attribute == "Uid":
            return self.unknown(path, place, *origins)
        if attribute in {"MeshName", resource.mesh_type.name, resource.mesh_type.parent}:
            return moved(self.name(resource, attribute), place, *origins)
        if attribute in {"MeshOwner", "ResourceOwner"}:
            return moved(self._owner(resource, attribute, place), place, *origins)
        raise UnusableError(f"{resource.type} has no attribute {attribute}", "template-reference")

    def _owner(self, resource: TemplateResource, attribute: str, place: Place) -> Node:
        owner = self.property(resource, "MeshOwner") if attribute == "MeshOwner" else None
        known = pseudo_value("AWS::AccountId", self.parameters)
        return owner or (
            made(known, place) if known is not None else self.unknown("AWS::AccountId", place)
        )

    def _parameter(self, name: str) -> Node:
        if name not in self.used:
            entry = self.template.parameters[name]
            found = parameter_value(entry, self.parameters, self.account)
            self.used[name] = self._without_braces(found) if isinstance(found, Scalar) else found
        return self.used[name]

    def _arn(self, resource: TemplateResource, place: Place, *origins: Scalar) -> Scalar:
        """The ARN that a mesh's resource would have had."""
        region, account, partition = (
            text_of(self._reference(f"AWS::{it}", place))
            for it in ("Region", "AccountId", "Partition")
        )
        names = [self.name(resource, it) for it in self._naming(resource).values()]
        owner = self.property(resource, "MeshOwner")
        steps = [text_of(name) for name in names]
        if isinstance(owner, Scalar):
            steps[0] += f"@{text_of(owner)}"
        path = "/".join(
            f"{kind}/{name}" for kind, name in zip(self._naming(resource), steps, strict=True)
        )
        text = f"arn:{partition}:appmesh:{region}:{account}:{path}"
        return composed(text, place, *origins, *names)

    def _naming(self, resource: TemplateResource) -> dict[str, str]:
        """The properties that name a mesh's resource, by the kinds of what they name."""
        mesh_type = resource.mesh_type
        steps = {"mesh": "MeshName"}
        if mesh_type and mesh_type.parent_kind and mesh_type.parent:
            steps[mesh_type.parent_kind] = mesh_type.parent
        return steps | ({mesh_type.kind: mesh_type.name} if mesh_type else {})

    def _told(
        self, resource: TemplateResource, what: str, path: str, place: Place, *origins: Scalar
    ) -> Node:
        """What a resource outside the mesh tells, where the template says it."""
        name = _TOLD.get((resource.type, what))
        found = self.property(resource, name) if name else None
        if isinstance(found, Scalar):
            return moved(found, place, *origins)
        return self.unknown(path, place, *origins)

    def _nothing(self, name: str, path: str, place: Place, *origins: Scalar) -> Scalar:
        self._guesses += 1
        known = (*self.template.resources, *self.template.parameters)
        guess = closest(name, known) if self._guesses <= _MOST_GUESSES else None
        asked = f"; did you mean {guess}?" if guess else ""
        what = f"the template has no parameter or resource {name}{asked}"
        self.account.report("template-reference", place, what)
        return self.unknown(path, place, *origins)


def _no_function(name: str) -> UnusableError:
    if name.startswith(_MACROS):
        return UnusableError(f"{name} is a macro; it is not expanded", "template-macro")
    guess = closest(name, (*FUNCTIONS, *_LOOK_UPS))
    asked = f"; did you mean {guess}?" if guess else ""
    return UnusableError(f"{name} is no function that this version knows{asked}")


_LOOK_UPS: Mapping[str, Callable[[Stack, Node, Place], Node | None]] = MappingProxyType(
    {
        "Ref": Stack._ref,
        "Fn::FindInMap": Stack._find_in_map,
        "Fn::GetAtt": Stack._get_att,
        "Fn::If": Stack._if,
        "Fn::ImportValue": Stack._import_value,
        "Fn::Sub": Stack._sub,
    }
)
