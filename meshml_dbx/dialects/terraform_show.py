"""What ``terraform show -json`` prints of a state or a plan: resources with their values.

Modules are nested there, counted resources are written out, and what is known only after the apply
is missing from a plan: such a value is found by the plan's own configuration, or stays a named
unknown. An empty text, list or number stands for what nobody wrote.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from meshml_dbx.dialects.found import Account, Parameters, Resource
from meshml_dbx.dialects.hcl_known import unknown
from meshml_dbx.dialects.terraform_fields import Fields
from meshml_dbx.dialects.terraform_resources import KINDS, MESH_TYPE, Resources
from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Series, Table, made, scalars

_VALUES = ("planned_values", "values")


def is_shown(tree: Table) -> bool:
    """Whether a document is a printed state or plan."""
    return "format_version" in tree


def read_shown(tree: Table, account: Account, parameters: Parameters) -> Iterator[Resource]:
    """The App Mesh resources of a printed state or plan."""
    version = tree.get("format_version")
    major = str(version.value).split(".")[0] if isinstance(version, Scalar) else ""
    if major not in {"0", "1"}:
        what = f"format version {major or 'none'} of terraform show is not known"
        account.leave("terraform-version", tree, what)
        return
    for entry in tree.entries:
        if entry.key not in _VALUES:
            account.use(entry.value)
    others = [it.key for it in tree.entries if it.key not in {*_VALUES, "format_version"}]
    if "planned_values" in tree and others:
        what = f"of a plan only planned_values is the mesh: {', '.join(others)}"
        account.report("terraform-left", tree.place, what)
    values = tree.get("planned_values") or tree.get("values")
    if isinstance(values, Table):
        fields = Fields(account=account, parameters=parameters, shown=True)
        yield from _Shown(tree=tree, made=Resources(fields=fields), account=account).read(values)


@dataclass(slots=True, kw_only=True)
class _Shown:
    tree: Table
    made: Resources
    account: Account
    mesh_names: dict[str, Scalar] = field(default_factory=dict)

    def read(self, values: Table) -> Iterator[Resource]:
        """The resources of every module."""
        for entry in values.entries:
            if entry.key != "root_module":
                self.account.use(entry.value)
        root = values.get("root_module")
        changes = _changes(self.tree)
        found = list(self._resources(root)) if isinstance(root, Table) else []
        for item, _ in found:
            if _text(item, "type") == MESH_TYPE:
                self._note_mesh(item)
        configured = _configured(self.tree.get("configuration"))
        for item, module in found:
            address = _text(item, "address")
            relative = f"{module}|{_text(item, 'type')}.{_text(item, 'name')}"
            yield self._resource(item, changes.get(address), configured.get(relative), module)
        self.made.report()

    def _resources(self, module: Table) -> Iterator[tuple[Table, str]]:
        """Each App Mesh resource with its module; the others are named."""
        for entry in module.entries:
            if entry.key not in {"resources", "child_modules"}:
                self.account.use(entry.value)
        here = _text(module, "address")
        for item in _tables(module.get("resources")):
            if self._is_ours(item):
                yield item, here
        for child in _tables(module.get("child_modules")):
            yield from self._resources(child)

    def _is_ours(self, item: Table) -> bool:
        address, kind = _text(item, "address"), _text(item, "type")
        if kind in KINDS and _text(item, "mode") != "data" and "deposed_key" not in item:
            return True
        self.account.leave("terraform-left", item, f"{address} is no App Mesh resource")
        return False

    def _note_mesh(self, item: Table) -> None:
        values = item.get("values")
        name = values.get("name") if isinstance(values, Table) else None
        if isinstance(name, Scalar):
            self.mesh_names[_text(item, "address")] = name

    def _resource(
        self, item: Table, unknowns: Node | None, config: Node | None, module: str
    ) -> Resource:
        for entry in item.entries:
            if entry.key == "sensitive_values":
                self._sensitive(item, entry.value)
            if entry.key != "values":
                self.account.use(entry.value)
        values = item.get("values")
        values = values if isinstance(values, Table) else Table(place=item.place, entries=())
        address = _text(item, "address")
        if unknowns is not None:
            source = _Unknowns(mesh_names=self.mesh_names, module=module, address=address)
            values = source.filled(values, unknowns, config, "")
        return self.made.resource(_text(item, "type"), item.place, values)

    def _sensitive(self, item: Table, node: Node) -> None:
        if any(it.value is True for it in scalars(node)):
            what = f"{_text(item, 'address')} has values marked sensitive; the mesh shows them"
            self.account.report("terraform-sensitive", node.place, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unknowns:
    """What a plan does not know yet, by the configuration that it was made from."""

    mesh_names: Mapping[str, Scalar]
    module: str
    address: str

    def filled(self, values: Table, unknowns: Node, config: Node | None, path: str) -> Table:
        """The values with a name for each that is known only after the apply."""
        if not isinstance(unknowns, Table):
            return values
        written = {it.key: it for it in values.entries}
        for entry in unknowns.entries:
            inner = config.get(entry.key) if isinstance(config, Table) else None
            here = f"{path}.{entry.key}"
            old = written.get(entry.key)
            if isinstance(entry.value, Scalar):
                if entry.value.value is True and (path or inner is not None):
                    named = self._named(inner, values.place.step(entry.key), here)
                    written[entry.key] = Entry(key=entry.key, place=named.place, value=named)
            elif old is not None:
                value = self._inside(old.value, entry.value, inner, here)
                written[entry.key] = replace(old, value=value)
        return replace(values, entries=tuple(written.values()))

    def _inside(self, value: Node, unknowns: Node, config: Node | None, path: str) -> Node:
        if isinstance(value, Table):
            return self.filled(value, unknowns, config, path)
        if not (isinstance(value, Series) and isinstance(unknowns, Series)):
            return value
        configs = config.items if isinstance(config, Series) else (config,) * len(value.items)
        items: list[Node] = []
        for index, item in enumerate(value.items):
            unknown_item = unknowns.items[index] if index < len(unknowns.items) else None
            inner = configs[index] if index < len(configs) else None
            here = f"{path}.{index}"
            if isinstance(unknown_item, Scalar) and unknown_item.value is True:
                items.append(self._named(inner, item.place, here, *scalars(item)))
            else:
                items.append(
                    self._inside(item, unknown_item, inner, here) if unknown_item else item
                )
        return replace(value, items=tuple(items))

    def _named(self, config: Node | None, place: Place, path: str, *origins: Scalar) -> Scalar:
        """The mesh's name for its id, which is known; else the reference's own name."""
        references = config.get("references") if isinstance(config, Table) else None
        found = [*scalars(references)] if references else []
        first = str(found[0].value) if found else f"{self.address}{path}"
        prefix = f"{self.module}." if self.module else ""
        mesh = self.mesh_names.get(f"{prefix}{first.removesuffix('.id')}")
        if first.endswith(".id") and mesh is not None:
            return made(mesh.value, place, mesh, *origins)
        return unknown(first, place, *origins)


def _changes(tree: Table) -> dict[str, Node]:
    """What each resource's change does not know, by the resource's address."""
    found: dict[str, Node] = {}
    for change in _tables(tree.get("resource_changes")):
        inner = change.get("change")
        after = inner.get("after_unknown") if isinstance(inner, Table) else None
        if after is not None:
            found[_text(change, "address")] = after
    return found


def _configured(node: Node | None) -> dict[str, Node]:
    """The expressions of each resource, by its module and its address in it."""
    root = node.get("root_module") if isinstance(node, Table) else None
    return dict(_expressions(root, "")) if isinstance(root, Table) else {}


def _expressions(module: Table, path: str) -> Iterator[tuple[str, Node]]:
    for item in _tables(module.get("resources")):
        expressions = item.get("expressions")
        if expressions is not None:
            yield f"{path}|{_text(item, 'type')}.{_text(item, 'name')}", expressions
    calls = module.get("module_calls")
    for entry in calls.entries if isinstance(calls, Table) else ():
        inner = entry.value.get("module") if isinstance(entry.value, Table) else None
        if isinstance(inner, Table):
            here = f"{path}.module.{entry.key}" if path else f"module.{entry.key}"
            yield from _expressions(inner, here)


def _tables(node: Node | None) -> list[Table]:
    items = node.items if isinstance(node, Series) else ()
    return [it for it in items if isinstance(it, Table)]


def _text(table: Table, key: str) -> str:
    found = table.get(key)
    return str(found.value) if isinstance(found, Scalar) else ""
