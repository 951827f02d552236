"""The documents of a cluster: what each one is, what it is called, and which namespaces there are.

Located trees go in. Out come the definitions of App Mesh with their names, lists taken apart, and
the labels by which meshes and gateways choose namespaces. Every object that is no part of a mesh is
named in a finding of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshml_dbx.dialects.found import Account
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, plain

GROUP = "appmesh.k8s.aws"
KINDS = {
    "v1beta1": ("Mesh", "VirtualNode", "VirtualService"),
    "v1beta2": (
        "Mesh",
        "VirtualNode",
        "VirtualService",
        "VirtualRouter",
        "VirtualGateway",
        "GatewayRoute",
        "BackendGroup",
    ),
}
_CLUSTER_WIDE = {"Mesh"}  # kinds that stand in no namespace
_PARTS = {"apiVersion", "kind", "metadata", "spec", "status"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One definition of App Mesh as a cluster holds it; ``spec`` has each field once.

    ``namespace`` is the text that counts, ``written_namespace`` the value if the document has one.
    """

    kind: str
    version: str
    table: Table
    name: Scalar
    namespace: str
    written_namespace: Scalar | None
    labels: Mapping[str, str]
    spec: Table

    @property
    def key(self) -> tuple[str, str, str]:
        """What a cluster knows the object by."""
        return self.kind, self.namespace, str(self.name.value)

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """All that the files say of a cluster: definitions of App Mesh, and namespaces' labels.

    >>> Manifests(documents=(), labels={"ml": {"mesh": "churn"}}).labels["ml"]
    {'mesh': 'churn'}
    """

    documents: tuple[Document, ...]
    labels: Mapping[str, Mapping[str, str]]


def read_manifests(trees: Sequence[Table], account: Account) -> Manifests:
    """The definitions of App Mesh among the documents; all others are named and left."""
    documents: list[Document] = []
    labels: dict[str, Mapping[str, str]] = {}
    for one in (found for tree in trees for found in _objects(tree, account)):
        if one.api_version.partition("/")[0] == GROUP:
            document = _document(one, account) if _is_known(one, account) else None
            documents += [document] if document else []
        else:
            if one.kind == "Namespace":
                labels[_name_of(one.table)] = labels_of(one.table.get("metadata"))
            _leave_object(one, account)
    _note_default_namespace(documents, account)
    return Manifests(documents=tuple(documents), labels=labels)


def labels_of(metadata: Node | None) -> dict[str, str]:
    """The labels of an object's metadata; what is no text is passed over."""
    labels = metadata.get("labels") if isinstance(metadata, Table) else None
    if not isinstance(labels, Table):
        return {}
    return {one.key: str(plain(one.value)) for one in labels.entries}


# --- objects and lists ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    api_version: str
    kind: str
    table: Table


def _objects(
    tree: Table, account: Account, api_version: str = "", kind: str = ""
) -> Iterator[_Object]:
    """The objects of a tree: itself, or the items of a list, whose kind they may leave out."""
    api_version = _text(tree.get("apiVersion")) or api_version
    kind = _text(tree.get("kind")) or kind
    items = tree.get("items")
    if not (kind.endswith("List") and isinstance(items, Series)):
        yield _Object(api_version=api_version, kind=kind, table=tree)
        return
    for entry in once(tree, account):
        if entry.key in {"apiVersion", "kind"}:
            account.use(entry.value)
        elif entry.key != "items":
            what = f"{entry.key} of a {kind} serves the cluster alone"
            account.leave("kubernetes-metadata", entry.value, what)
    for item in items.items:
        if isinstance(item, Table):
            inner = "" if kind == "List" else kind.removesuffix("List")
            yield from _objects(item, account, api_version if inner else "", inner)
        else:
            account.leave("kubernetes-wrong-type", item, f"an item of a {kind} must be an object")


def once(table: Table, account: Account) -> Iterator[Entry]:
    """Each field of a table the first time it is written; a second time becomes a finding."""
    first: dict[str, int] = {}
    for entry in table.entries:
        if entry.key not in first:
            first[entry.key] = entry.place.line
            yield entry
        else:
            what = f"{entry.key} is written twice, first on line {first[entry.key]}"
            account.leave("duplicate-field", entry.place, what)
            account.use(entry.value)


def _text(node: Node | None) -> str:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""


def _name_of(table: Table) -> str:
    metadata = table.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Table) else None
    return str(name.value) if isinstance(name, Scalar) else ""


def _leave_object(one: _Object, account: Account) -> None:
    fields = {"apiVersion": one.api_version, "kind": one.kind}
    missing = [name for name, value in fields.items() if not value]
    if missing:
        what = f"the document has no {' and no '.join(missing)}"
        account.leave("kubernetes-unknown-kind", one.table, what)
    else:
        what = f"{one.kind} {_name_of(one.table)}".rstrip() + " is no part of a mesh"
        account.leave("kubernetes-object", one.table, what)


# --- definitions of App Mesh ------------------------------------------------------------------


def _is_known(one: _Object, account: Account) -> bool:
    version = one.api_version.partition("/")[2]
    if one.kind in KINDS.get(version, ()):
        return True
    if version in KINDS:
        what = f"{one.api_version} has no kind {one.kind or '(none is given)'}"
    else:
        what = f"{one.api_version} is no version of App Mesh's kinds"
    account.leave("kubernetes-unknown-kind", one.table, what)
    return False


def _document(one: _Object, account: Account) -> Document | None:
    parts = {entry.key: entry.value for entry in once(one.table, account)}
    metadata = parts.get("metadata", Table(place=one.table.place, entries=()))
    spec = parts.get("spec", Table(place=one.table.place, entries=()))
    if not isinstance(metadata, Table):
        account.leave("kubernetes-wrong-type", one.table, f"{one.kind}: metadata must be a table")
        return None
    known = {entry.key: entry.value for entry in once(metadata, account)}
    name, namespace = known.get("name"), known.get("namespace")
    problem = _name_problem(name, namespace)
    if not isinstance(name, Scalar) or problem:
        account.leave("kubernetes-no-name", one.table, f"{one.kind}: {problem}")
        return None
    account.use(parts.get("apiVersion"), parts.get("kind"), name)
    if one.kind in _CLUSTER_WIDE:
        namespace = None
    document = Document(
        kind=one.kind,
        version=one.api_version.partition("/")[2],
        table=one.table,
        name=name,
        namespace=_namespace(one.kind, namespace),
        written_namespace=namespace if isinstance(namespace, Scalar) else None,
        labels=labels_of(metadata),
        spec=_spec(spec, account),
    )
    _leave_rest(document, parts, known, account)
    return document


def _name_problem(name: Node | None, namespace: Node | None) -> str:
    if name is None or (isinstance(name, Scalar) and name.value in {None, ""}):
        return "metadata has no name"
    if not (isinstance(name, Scalar) and isinstance(name.value, str)):
        return f"metadata.name is {_shown(name)}; it must be text"
    if namespace is None or (isinstance(namespace, Scalar) and namespace.value is None):
        return ""
    if not (isinstance(namespace, Scalar) and isinstance(namespace.value, str)):
        return f"metadata.namespace is {_shown(namespace)}; it must be text"
    return ""


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return str(node.value)
    return "a table" if isinstance(node, Table) else "a list"


def _namespace(kind: str, namespace: Node | None) -> str:
    if kind in _CLUSTER_WIDE:
        return ""
    return _text(namespace) or "default"


def _spec(spec: Node, account: Account) -> Table:
    if isinstance(spec, Table):
        return Table(place=spec.place, entries=tuple(once(spec, account)))
    if isinstance(spec, Scalar) and spec.value is None:
        account.use(spec)
    else:
        what = f"spec is {_shown(spec)}; it must be a table"
        account.leave("kubernetes-wrong-type", spec, what)
    return Table(place=spec.place, entries=())


def _leave_rest(
    document: Document,
    parts: Mapping[str, Node],
    metadata: Mapping[str, Node],
    account: Account,
) -> None:
    account.use(document.written_namespace)
    kept = {"name"} if document.kind in _CLUSTER_WIDE else {"name", "namespace"}
    others = [key for key in metadata if key not in kept]
    if others:
        what = f"{document}: {', '.join(others)} of its metadata serve the cluster alone"
        account.leave("kubernetes-metadata", metadata[others[0]].place, what)
        account.use(*(metadata[key] for key in others))
    aws_name = document.spec.get("awsName")
    if document.version != "v1beta1" and isinstance(aws_name, Scalar) and aws_name.value:
        what = f"{document}: App Mesh knew it as {aws_name.value}"
        account.leave("kubernetes-metadata", document.name, what)
    if "status" in parts:
        what = f"{document}: its status is what the cluster reported"
        account.leave("kubernetes-metadata", parts["status"], what)
    for key in parts.keys() - _PARTS:
        what = f"{document}: a cluster drops the field {key}, which its kind does not have"
        account.leave("kubernetes-unknown-field", parts[key], what)


def _note_default_namespace(documents: Sequence[Document], account: Account) -> None:
    without = [
        one for one in documents if one.kind not in _CLUSTER_WIDE and not one.written_namespace
    ]
    if without:
        first = f"{without[0].kind} {without[0].name.value}"
        who = f"{first} and {len(without) - 1} more are" if len(without) > 1 else f"{first} is"
        what = f"{who} taken to be in namespace default"
        account.report("kubernetes-default-namespace", without[0].name.place, what)
