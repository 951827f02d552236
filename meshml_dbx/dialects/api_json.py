"""The App Mesh API's JSON: bodies of create and update calls, and what describe answers.

The field names are ``mesh.yml``'s own, so specs pass through. What a command line said beside the
body, names and jq variables, can be given as a file of names; else the file's name is the
resource's. ``clientToken``, metadata and status are no part of a definition and are named as left.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from meshml_dbx.dialects.found import Account, Kind, Parameters, Resource
from meshml_dbx.dialects.names_file import NamesFile, Use
from meshml_dbx.dialects.parameters import fill_table
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, made

KINDS: dict[Kind, tuple[str, str | None]] = {
    "mesh": ("meshName", None),
    "virtualNode": ("virtualNodeName", None),
    "virtualService": ("virtualServiceName", None),
    "route": ("routeName", "virtualRouterName"),
    "virtualRouter": ("virtualRouterName", None),
    "gatewayRoute": ("gatewayRouteName", "virtualGatewayName"),
    "virtualGateway": ("virtualGatewayName", None),
}
"""The kinds of the API: the field of the resource's name, and that of its router or gateway."""

NAME_FIELDS = {name for names in KINDS.values() for name in names if name}
DESCRIBED: dict[str, Kind] = {kind: kind for kind in KINDS}
"""What describe calls put around a resource, by its field."""

_OBSERVED = {"metadata", "status", "clientToken"}
_ROUTES = ("httpRoute", "http2Route", "grpcRoute", "tcpRoute")
_TOLD_BY_NAME: tuple[Kind, ...] = ("route", "gatewayRoute", "virtualNode", "virtualService")
_TOLD_BY_STEM: tuple[tuple[Kind, set[str]], ...] = (
    ("gatewayRoute", {"gwroute", "gatewayroute", "gr"}),
    ("route", {"route"}),
    ("virtualGateway", {"vg", "vgw", "virtualgateway"}),
    ("virtualNode", {"vn", "virtualnode"}),
    ("virtualRouter", {"vr", "virtualrouter"}),
    ("virtualService", {"vs", "virtualservice"}),
    ("virtualGateway", {"gateway"}),
    ("virtualNode", {"node"}),
    ("virtualRouter", {"router"}),
    ("virtualService", {"service"}),
    ("mesh", {"mesh"}),
)


def read_api_json(
    trees: Sequence[Table], account: Account, parameters: Parameters, names: NamesFile | None = None
) -> tuple[Resource, ...]:
    """The resource of every request; several where the file of names says that it was used so."""
    reader = _Reader(account, parameters, names)
    return tuple(resource for tree in trees for resource in reader.read(tree))


def kind_of_name(file_name: str) -> Kind | None:
    """The kind that a file's name tells: ``colorteller-vn-timeout20s.json`` is a node's."""
    words = set(re.split(r"[^a-z]+", PurePath(file_name).name.split(".")[0].lower()))
    return next((kind for kind, told in _TOLD_BY_STEM if told & words), None)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one request."""

    account: Account
    parameters: Parameters
    names: NamesFile | None

    def read(self, body: Table) -> list[Resource]:
        described, kind = _described(body)
        if described is not body:
            self._leave_rest(body, described)
        uses = self.names.uses_of(body.place.source) if self.names else None
        if uses == ():
            what = "the file of names says that nothing uses this request"
            self.account.leave("api-not-used", body, what)
            return []
        read = (self._use(described, kind, use) for use in uses or (None,))
        return [resource for resource in read if resource]

    def _leave_rest(self, body: Table, described: Table) -> None:
        for entry in body.entries:
            if entry.value is not described:
                what = f"{entry.key} stands beside what was described"
                self.account.leave("api-observed", entry.value, what)

    def _use(self, body: Table, kind: Kind | None, use: Use | None) -> Resource | None:
        own = self.parameters
        if use:
            own = replace(own, given={**use.arguments, **own.given})
        filled = fill_table(body, own)
        kind = kind or (use.kind if use else None) or _kind_of(filled)
        if kind is None:
            what = "neither the shape nor the file's name tells what kind of resource this is"
            self.account.leave("api-unknown-kind", body, what)
            return None
        return self._resource(filled, kind, use)

    def _resource(self, body: Table, kind: Kind, use: Use | None) -> Resource:
        name_field, parent_field = KINDS[kind]
        told = use.names if use else {}
        name = _name(body, name_field) or told.get(name_field)
        if name is None and kind != "mesh":
            name = self._name_of_file(body)
        taken = {name_field, parent_field, "meshName", "spec", "tags"} | _OBSERVED
        rest = [(entry.key, entry.value) for entry in body.entries if entry.key not in taken]
        spec = body.get("spec")
        if spec is not None and not isinstance(spec, Table):
            rest.append(("spec", spec))
        return Resource(
            kind=kind,
            place=body.place,
            name=name,
            mesh=None if kind == "mesh" else _name(body, "meshName") or told.get("meshName"),
            parent=(_name(body, parent_field) or told.get(parent_field)) if parent_field else None,
            spec=spec if isinstance(spec, Table) else None,
            fields=(*rest, *self._owner(body), *self._tags(body)),
            replaces=bool(use and use.replaces),
        )

    def _name_of_file(self, body: Table) -> Scalar:
        stem = PurePath(body.place.source).name.split(".")[0]
        what = f'this request has no name; it is called "{stem}", as its file'
        self.account.report("api-name-from-file", body.place, what)
        return made(stem, body.place)

    def _tags(self, body: Table) -> Iterator[tuple[str, Node]]:
        """The API's list of keys and values as the map that ``mesh.yml`` has."""
        tags = body.get("tags")
        pairs = [_pair(item) for item in tags.items] if isinstance(tags, Series) else None
        if tags is not None and (pairs is None or not all(pairs)):
            yield "tags", tags  # load says that it is not a map
        elif tags is not None and pairs is not None:
            self.account.use(*(pair[0] for pair in pairs if pair))
            entries = (
                Entry(key=str(key.value), place=key.place, value=value)
                for key, value in (pair for pair in pairs if pair)
            )
            yield "tags", Table(place=tags.place, entries=tuple(entries))

    def _owner(self, body: Table) -> Iterator[tuple[str, Node]]:
        """The owner of a shared mesh, which describe tells in the metadata; the rest is left."""
        metadata = body.get("metadata")
        if isinstance(metadata, Table):
            owner, resource_owner = _name(metadata, "meshOwner"), _name(metadata, "resourceOwner")
            shared = owner and resource_owner and owner.value != resource_owner.value
            if owner and shared and "meshOwner" not in body:
                yield "meshOwner", owner
        for entry in body.entries:
            if entry.key in _OBSERVED:
                what = f"{entry.key} is what the API keeps of a resource, not part of it"
                self.account.leave("api-observed", entry.value, what)


def _described(body: Table) -> tuple[Table, Kind | None]:
    """What a describe call's answer wraps, and its kind; else the body as it is."""
    for entry in body.entries:
        if entry.key in DESCRIBED and isinstance(entry.value, Table):
            return entry.value, DESCRIBED[entry.key]
    return body, None


def _kind_of(body: Table) -> Kind | None:
    keys = set(body.keys())
    for kind in _TOLD_BY_NAME:
        if KINDS[kind][0] in keys:
            return kind
    return _kind_of_spec(body.get("spec")) or _kind_of_names(body, keys)


def _kind_of_spec(spec: Node | None) -> Kind | None:
    if not isinstance(spec, Table):
        return None
    for entry in spec.entries:
        if entry.key in _ROUTES:
            action = entry.value.get("action") if isinstance(entry.value, Table) else None
            leads_in = isinstance(action, Table) and "target" in action
            return "gatewayRoute" if leads_in else "route"
    keys = set(spec.keys())
    if "provider" in keys:
        return "virtualService"
    discovery = spec.get("serviceDiscovery")
    if "egressFilter" in keys or (isinstance(discovery, Table) and discovery.get("ipPreference")):
        return "mesh"
    return "virtualNode" if keys & {"serviceDiscovery", "backends"} else None


def _kind_of_names(body: Table, keys: set[str]) -> Kind | None:
    if "virtualRouterName" in keys:
        return "virtualRouter"
    if "virtualGatewayName" in keys:
        return "virtualGateway"
    spec = body.get("spec")
    is_empty = spec is None or (isinstance(spec, Table) and not spec.entries)
    if "meshName" in keys and is_empty:
        return "mesh"
    return kind_of_name(body.place.source) or ("mesh" if is_empty else None)


def _name(body: Table, field: str) -> Scalar | None:
    found = body.get(field)
    return found if isinstance(found, Scalar) and found.value is not None else None


def _pair(item: Node) -> tuple[Scalar, Node] | None:
    if not isinstance(item, Table) or sorted(item.keys()) not in (["key"], ["key", "value"]):
        return None
    key = item.get("key")
    value = item.get("value") or made("", item.place)
    return (key, value) if isinstance(key, Scalar) else None
