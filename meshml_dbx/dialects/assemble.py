"""Resources from any number of files become one document in ``mesh.yml``'s shape.

Updates take the place of what was created, equal definitions fall together, routes go under their
router and gateway routes under their gateway. Of several meshes in the input one must be picked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshml_dbx.dialects.found import Account, Kind, Resource
from meshml_dbx.dialects.own import ENTRY_LISTS, NESTED
from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Series, Table, made, plain
from meshml_dbx.mesh.spec import InjectedDefaults

_OUTER: dict[Kind, Kind] = {inner: outer for outer, (_, inner, _) in NESTED.items()}
_NAME_FIELDS: dict[Kind, str] = {
    "mesh": "meshName",
    **dict(ENTRY_LISTS.values()),
    **{inner: name_field for _, inner, name_field in NESTED.values()},
}
_WHOLE_MESH = ("injectedDefaults", "tags")

Key = tuple[Kind, str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user said of the mesh as a whole.

    >>> Wishes().mesh_name is None
    True
    """

    mesh_name: str | None = None
    injected_defaults: InjectedDefaults | None = None


def assemble(resources: Sequence[Resource], account: Account, wishes: Wishes) -> Table | None:
    """One document of all resources of one mesh; None, with a finding, if there is no such mesh."""
    if not resources:
        return None
    name = _pick_mesh(resources, account, wishes)
    if name is None:
        return None
    place = resources[0].place
    own = list(_of_mesh(resources, str(name.value), account))
    kept = _merge(_with_parents(own), account)
    return _Document(name=name, place=place, account=account, kept=kept).table(wishes)


# --- which mesh -------------------------------------------------------------------------------


def _pick_mesh(resources: Sequence[Resource], account: Account, wishes: Wishes) -> Scalar | None:
    names = _mesh_names(resources)
    if wishes.mesh_name is not None:
        return _wished(wishes.mesh_name, names, resources, account)
    if len(names) > 1:
        listed = ", ".join(f"{name} ({scalar.place})" for name, scalar in names.items())
        what = f"the input defines {len(names)} meshes: {listed}"
        account.report("import-several-meshes", next(iter(names.values())).place, what)
        return None
    if not names:
        what = "nothing in the input says what the mesh is called"
        account.report("import-no-mesh-name", resources[0].place, what)
        return None
    return next(iter(names.values()))


def _wished(
    wish: str, names: Mapping[str, Scalar], resources: Sequence[Resource], account: Account
) -> Scalar | None:
    if wish in names:
        return names[wish]
    unnamed = [one for one in resources if _mesh_of(one) is None]
    if names and not unnamed:
        listed = ", ".join(names)
        what = f"no mesh in the input is called {wish}; there is {listed}"
        account.report("import-several-meshes", resources[0].place, what)
        return None
    return made(wish, unnamed[0].place)


def _mesh_names(resources: Iterable[Resource]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for resource in resources:
        name = _mesh_of(resource)
        if name is not None:
            found.setdefault(str(name.value), name)
    return found


def _mesh_of(resource: Resource) -> Scalar | None:
    return resource.name if resource.kind == "mesh" else resource.mesh


def _of_mesh(resources: Iterable[Resource], name: str, account: Account) -> Iterator[Resource]:
    """The resources of one mesh; what does not name its mesh belongs to it."""
    others: dict[str, list[Resource]] = {}
    for resource in resources:
        mesh = _mesh_of(resource)
        if mesh is None or str(mesh.value) == name:
            account.use(resource.mesh)
            yield resource
        else:
            others.setdefault(str(mesh.value), []).append(resource)
            _settle(resource, account)
    for other, left in others.items():
        what = f"{len(left)} definitions of the mesh {other} are left out"
        account.report("import-other-mesh", left[0].place, what)


def _settle(resource: Resource, account: Account) -> None:
    account.use(resource.name, resource.mesh, resource.parent, resource.spec)
    account.use(*(value for _, value in resource.fields))


# --- parents ----------------------------------------------------------------------------------


def _with_parents(resources: Sequence[Resource]) -> list[Resource]:
    """The same, where a route that names no router belongs to the only one that there is."""
    only = {inner: _only_name(resources, outer) for inner, outer in _OUTER.items()}
    return [
        replace(one, parent=only[one.kind]) if one.kind in only and one.parent is None else one
        for one in resources
    ]


def _only_name(resources: Iterable[Resource], kind: Kind) -> Scalar | None:
    names = {_text(one.name): one.name for one in resources if one.kind == kind and one.name}
    return next(iter(names.values())) if len(names) == 1 else None


# --- several definitions of one name ----------------------------------------------------------


def _merge(resources: Sequence[Resource], account: Account) -> dict[Key, Resource]:
    """One resource for each name, in the order of the input; updates come after all creations."""
    kept: dict[Key, Resource] = {}
    nameless = 0
    for resource in sorted(resources, key=lambda one: one.replaces):
        if resource.name is None and resource.kind != "mesh":
            nameless += 1  # load says that it needs a name
            kept[resource.kind, None, f"\0{nameless}"] = resource
            continue
        key = _key(resource)
        earlier = kept.get(key)
        kept[key] = resource if earlier is None else _one_of(earlier, resource, account)
    return kept


def _key(resource: Resource) -> Key:
    parent = str(resource.parent.value) if resource.parent else None
    name = str(resource.name.value) if resource.name and resource.kind != "mesh" else ""
    return resource.kind, parent, name


def _one_of(earlier: Resource, later: Resource, account: Account) -> Resource:
    name = f"{later.kind} {later.name.value}" if later.name else later.kind
    if _content(earlier) == _content(later):
        what = f"{name} is defined as it is at {earlier.place}"
        account.report("import-defined-equal", later.place, what)
        _settle_all_but_whole(later, account)
        return replace(earlier, fields=_fields_kept(later, earlier))
    if later.replaces:
        what = f"the definition of {name} at {later.place} takes the place of this one"
        account.report("import-replaced", earlier.place, what)
        _settle(earlier, account)
        return replace(later, fields=_fields_kept(earlier, later))
    what = f"{name} is defined here and, otherwise, at {earlier.place}"
    account.report("import-defined-twice", later.place, what)
    _settle(later, account)
    return earlier


def _settle_all_but_whole(resource: Resource, account: Account) -> None:
    """What one definition of a mesh says of the whole mesh is kept, or else left over."""
    own = tuple(pair for pair in resource.fields if pair[0] not in _WHOLE_MESH)
    _settle(replace(resource, fields=own if resource.kind == "mesh" else resource.fields), account)


def _content(resource: Resource) -> tuple[object, object]:
    spec = plain(resource.spec) if resource.spec else {}
    ignored = _WHOLE_MESH if resource.kind == "mesh" else ()
    return spec, {key: plain(value) for key, value in resource.fields if key not in ignored}


def _fields_kept(earlier: Resource, later: Resource) -> tuple[tuple[str, Node], ...]:
    """The later one's fields, and those of the earlier that it does not bring itself."""
    own = {key for key, _ in later.fields}
    return (*later.fields, *(pair for pair in earlier.fields if pair[0] not in own))


# --- the document -----------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Document:
    """Writes the document of one mesh."""

    name: Scalar
    place: Place
    account: Account
    kept: Mapping[Key, Resource]
    inner: dict[tuple[Kind, str], list[Table]] = field(default_factory=dict)

    def table(self, wishes: Wishes) -> Table:
        """The whole document; its lists in the order of ``mesh.yml``."""
        head = next((one for key, one in self.kept.items() if key[0] == "mesh"), None)
        fields: dict[str, Node] = {"mesh": self._head(head)}
        whole = dict(head.fields) if head else {}
        fields |= {key: whole[key] for key in _WHOLE_MESH if key in whole}
        if wishes.injected_defaults is not None:
            self.account.use(whole.get("injectedDefaults"))
            fields["injectedDefaults"] = made(wishes.injected_defaults, self.place)
        self._nest()
        for list_field, (kind, _) in ENTRY_LISTS.items():
            entries = [self._entry(one) for one in self._of_kind(kind)]
            entries += self._made_routers() if kind == "virtualRouter" else []
            if entries:
                fields[list_field] = Series(place=entries[0].place, items=tuple(entries))
        return _table(self.place, fields)

    def _head(self, head: Resource | None) -> Table:
        if head is None:
            what = f"no file defines the mesh {self.name.value} itself"
            self.account.report("import-made-mesh", self.name.place, what)
            return _table(self.place, {"meshName": self.name})
        own = [pair for pair in head.fields if pair[0] not in _WHOLE_MESH]
        spec: dict[str, Node] = {"spec": head.spec} if head.spec else {}
        return _table(head.place, {"meshName": head.name or self.name, **spec}, own)

    def _of_kind(self, kind: Kind) -> list[Resource]:
        return [one for key, one in self.kept.items() if key[0] == kind]

    def _nest(self) -> None:
        """Gathers routes by their router, and gateway routes by their gateway."""
        for inner_kind, outer_kind in _OUTER.items():
            known = {_text(one.name) for one in self._of_kind(outer_kind) if one.name}
            for resource in self._of_kind(inner_kind):
                parent = resource.parent
                if parent is None or (
                    outer_kind == "virtualGateway" and _text(parent) not in known
                ):
                    self._no_parent(resource, outer_kind)
                    continue
                self.account.use(resource.parent)
                key = (outer_kind, _text(parent))
                self.inner.setdefault(key, []).append(self._entry(resource))

    def _no_parent(self, resource: Resource, outer_kind: Kind) -> None:
        named = f"{outer_kind} {resource.parent.value}" if resource.parent else outer_kind
        why = "that the input does not define" if resource.parent else "that nothing names"
        name = f" {resource.name.value}" if resource.name else ""
        what = f"the {resource.kind}{name} belongs to a {named} {why}"
        self.account.report("import-no-parent", resource.place, what)
        _settle(resource, self.account)

    def _entry(self, resource: Resource) -> Table:
        fields: dict[str, Node] = {}
        if resource.name is not None:
            fields[_NAME_FIELDS[resource.kind]] = resource.name
        if resource.spec is not None:
            fields["spec"] = resource.spec
        name = _text(resource.name) if resource.name else ""
        inner = self.inner.pop((resource.kind, name), [])
        if inner:
            fields[NESTED[resource.kind][0]] = Series(place=inner[0].place, items=tuple(inner))
        return _table(resource.place, fields, resource.fields)

    def _made_routers(self) -> list[Table]:
        """Routers of routes whose own definition is not in the input."""
        found = []
        for (kind, name), routes in list(self.inner.items()):
            if kind == "virtualRouter":
                place = routes[0].place
                what = f"{len(routes)} routes belong to the virtual router {name}"
                self.account.report("import-made-router", place, what)
                series = Series(place=place, items=tuple(routes))
                spec = Table(place=place, entries=())
                fields: dict[str, Node] = {"virtualRouterName": made(name, place)}
                found.append(_table(place, {**fields, "spec": spec, "routes": series}))
        return found


def _text(scalar: Scalar) -> str:
    return str(scalar.value)


def _table(
    place: Place, fields: Mapping[str, Node], further: Iterable[tuple[str, Node]] = ()
) -> Table:
    pairs = [*fields.items(), *further]
    entries = tuple(Entry(key=key, place=node.place, value=node) for key, node in pairs)
    return Table(place=place, entries=entries)
