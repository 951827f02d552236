"""The fields of a definition in the words of ``mesh.yml``, and those that a cluster drops.

A spec as Kubernetes writes it goes in; out comes the same tree with references resolved to names
and fields renamed. The cluster's API prunes what its kinds do not have without a word: here each
such field is named.
"""

from dataclasses import is_dataclass, replace
from functools import cache
from operator import is_
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from meshml_dbx.dialects.found import Account
from meshml_dbx.dialects.kubernetes_cluster import Cluster
from meshml_dbx.dialects.kubernetes_documents import Document
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, made
from meshml_dbx.mesh.names import closest
from meshml_dbx.mesh.shapes import shape_of

_RENAMED = {
    "certificateARN": "certificateArn",
    "certificateAuthorityARNs": "certificateAuthorityArns",
}
_REFERENCES = {
    "virtualNodeRef": ("VirtualNode", "virtualNodeName"),
    "virtualRouterRef": ("VirtualRouter", "virtualRouterName"),
    "virtualServiceRef": ("VirtualService", "virtualServiceName"),
}
_ARNS = {
    "virtualNodeARN": ("virtualNode", "virtualNodeName"),
    "virtualRouterARN": ("virtualRouter", "virtualRouterName"),
    "virtualServiceARN": ("virtualService", "virtualServiceName"),
}
_NAMES = {"virtualNode", *(field for _, field in _REFERENCES.values())}
_MEANT = {  # what the API writes otherwise than Kubernetes
    **{ours: theirs for theirs, ours in _RENAMED.items()},
    **{field: reference for reference, (_, field) in _REFERENCES.items()},
}


class Reshaping:
    """Rewrites the fields of one definition of v1beta2; what is of the wrong type stays as it is.

    ``mesh.load`` reports wrong types, since the values keep their own places.
    """

    def __init__(self, document: Document, cluster: Cluster) -> None:
        self._document = document
        self._cluster = cluster
        self._account = cluster.account

    def node(self, node: Node, inside: str = "") -> Node:
        """A value below the field ``inside``, with its fields renamed and its references named."""
        if isinstance(node, Scalar):
            return node
        if isinstance(node, Series):
            return with_items(node, tuple(self.node(item, inside) for item in node.items))
        entries = [self._entry(entry, inside) for entry in node.entries]
        return with_entries(node, self._one_name([one for one in entries if one]))

    def _entry(self, entry: Entry, inside: str) -> Entry | None:
        if entry.key in _REFERENCES:
            kind, field = _REFERENCES[entry.key]
            return _renamed(entry, _target(field, inside), self._reference(kind, entry))
        if entry.key in _ARNS:
            kind, field = _ARNS[entry.key]
            return _renamed(entry, _target(field, inside), self._last_of_arn(kind, entry))
        if entry.key == "virtualNode" and inside == "weightedTargets":
            leave_unknown(entry, self._account, "virtualNodeRef")
            return None
        if entry.key in _MEANT:
            leave_unknown(entry, self._account, _MEANT[entry.key])
            return None
        return _renamed(
            entry, _RENAMED.get(entry.key, entry.key), self.node(entry.value, entry.key)
        )

    def _reference(self, kind: str, entry: Entry) -> Node | None:
        if isinstance(entry.value, Table):
            return self._cluster.referenced(kind, entry.value, self._document)
        what = f"{entry.key} must be a table with name and namespace"
        self._account.leave("kubernetes-wrong-type", entry.value, what)
        return None

    def _last_of_arn(self, kind: str, entry: Entry) -> Node | None:
        """The name at the end of an ARN; what is none, such as an unknown, stays as it is."""
        if not (isinstance(entry.value, Scalar) and "/" in str(entry.value.value)):
            return entry.value
        text = str(entry.value.value)
        path, _, name = text.rpartition("/")
        if not path.endswith(f"/{kind}"):
            what = f"{entry.key} is {text}, which is no ARN of a {kind}"
            self._account.leave("kubernetes-wrong-type", entry.value, what)
            return None
        return made(name, entry.value.place, entry.value)

    def _one_name(self, entries: list[Entry]) -> tuple[Entry, ...]:
        """The entries without the second of two that name the same thing, as Ref and ARN do."""
        first: dict[str, Entry] = {}
        kept: list[Entry] = []
        for entry in entries:
            twin = first.setdefault(entry.key, entry)
            if entry.key in _NAMES and twin.place.path != entry.place.path:
                what = f"{entry.place.path} stands beside {twin.place.path}: give one of them"
                self._account.leave("exactly-one", entry.place, what)
                self._account.use(entry.value)
            else:
                kept.append(entry)
        return tuple(kept)


def _target(field: str, inside: str) -> str:
    is_target = field == "virtualNodeName" and inside == "weightedTargets"
    return "virtualNode" if is_target else field


def _renamed(entry: Entry, key: str, value: Node | None) -> Entry | None:
    return Entry(key=key, place=entry.place, value=value) if value is not None else None


# --- fields that the kinds do not have --------------------------------------------------------


def known_only(table: Table, cls: type, account: Account) -> Table:
    """The table without the fields that the API's class does not know; each gets its finding."""
    found = _known(table, cls, account)
    return found if isinstance(found, Table) else table


def _known(node: Node, hint: object, account: Account) -> Node:
    hint = _plain_hint(hint)
    if isinstance(node, Series) and get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return with_items(node, tuple(_known(one, item, account) for one in node.items))
    if not (isinstance(node, Table) and isinstance(hint, type) and is_dataclass(hint)):
        return node
    hints = shape_of(hint).hints
    entries = []
    for entry in node.entries:
        if entry.key in hints:
            value = _known(entry.value, hints[entry.key], account)
            kept = entry if value is entry.value else replace(entry, value=value)
            entries.append(kept)
        else:
            leave_unknown(entry, account, closest(entry.key, hints))
    return with_entries(node, tuple(entries))


@cache
def _plain_hint(hint: object) -> object:
    """The type itself, without what it may be beside it (None) and the ranges that bind it."""
    while get_origin(hint) in {Annotated, Union, UnionType}:
        hint = next(one for one in get_args(hint) if one is not type(None))
    return hint


def with_items(node: Series, items: tuple[Node, ...]) -> Series:
    """The list with these items; the same list if they are its own."""
    same = all(map(is_, items, node.items))  # an item is never dropped
    return node if same else replace(node, items=items)


def with_entries(node: Table, entries: tuple[Entry, ...]) -> Table:
    """The table with these fields; the same table if they are its own."""
    same = len(entries) == len(node.entries) and all(map(is_, entries, node.entries))
    return node if same else replace(node, entries=entries)


def leave_unknown(entry: Entry, account: Account, meant: str | None = None) -> None:
    """Report a field that a cluster drops when the definition is applied."""
    asked = f"; did you mean {meant}?" if meant else ""
    what = f"a cluster drops the field {entry.key}, which App Mesh's kinds do not have here{asked}"
    account.leave("kubernetes-unknown-field", entry.place, what)
    account.use(entry.value)
