"""What a cluster decides about its definitions: names in AWS, meshes, gateways, references.

The documents of all files go in. The controller's webhook filled these in when a definition was
applied; here they follow from the same rules: selectors against labels, and names from the object's
name and namespace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshml_dbx.dialects.found import Account
from meshml_dbx.dialects.kubernetes_documents import Document, Manifests, once
from meshml_dbx.dialects.tree import Node, Scalar, Series, Table, made, plain

_OWN_NAME = "kubernetes.io/metadata.name"  # every namespace carries its name as this label


def selects(selector: Node | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes an object: none takes nothing, an empty one everything.

    >>> selects(None, {"mesh": "churn"})
    False
    """
    if not isinstance(selector, Table):
        return False
    wanted = selector.get("matchLabels")
    if isinstance(wanted, Table) and not all(
        labels.get(entry.key) == str(plain(entry.value)) for entry in wanted.entries
    ):
        return False
    expressions = selector.get("matchExpressions")
    items = expressions.items if isinstance(expressions, Series) else ()
    return all(_holds(item, labels) for item in items)


def _holds(expression: Node, labels: Mapping[str, str]) -> bool:
    read = plain(expression)
    if not isinstance(read, dict):
        return False
    value = labels.get(str(read.get("key")))
    values = read.get("values")
    among = value in [str(one) for one in values] if isinstance(values, list) else False
    match read.get("operator"):
        case "In":
            return among
        case "NotIn":
            return not among
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def name_in_aws(document: Document) -> Scalar:
    """What a definition was called in App Mesh: by its awsName, else by its version's rule."""
    given = document.spec.get("awsName") if document.version != "v1beta1" else None
    if isinstance(given, Scalar) and given.value not in {None, ""}:
        return given
    kind, namespace, name = document.key
    value = _rule(document.version, kind, namespace, name)
    if value == name:
        return document.name
    origins = [one for one in (document.name, document.written_namespace) if one]
    return made(value, document.name.place, *origins)


def _rule(version: str, kind: str, namespace: str, name: str) -> str:
    if kind == "Mesh":
        return name
    if version == "v1beta1":
        return name if kind == "VirtualService" else dashed(name, namespace)
    return f"{name}.{namespace}" if kind == "VirtualService" else f"{name}_{namespace}"


def dashed(name: str, namespace: str) -> str:
    """The name in AWS of a node or router of v1beta1; ``a.b`` is ``a`` of the namespace ``b``.

    >>> dashed("labels", "ml"), dashed("labels.data", "ml")
    ('labels-ml', 'labels-data')
    """
    return name.replace(".", "-") if "." in name else f"{name}-{namespace}"


@dataclass(slots=True, kw_only=True)
class Cluster:
    """Everything that is defined, by name; of a definition that is applied twice, the last.

    >>> cluster = Cluster.of(Manifests(documents=(), labels={}), Account())
    >>> cluster.name_of("VirtualNode", "ml", "labels")
    'labels_ml'
    """

    account: Account
    labels: Mapping[str, Mapping[str, str]]  # by namespace
    latest: Mapping[tuple[str, str, str], Document]
    meshes: Sequence[Document]
    gateways: Sequence[Document]
    services: Mapping[str, Sequence[Document]]  # by namespace
    _mesh_of: dict[str, Scalar | None] = field(default_factory=dict)  # by namespace
    _gateways_of: dict[str, Sequence[Document]] = field(default_factory=dict)  # by namespace
    _wishes_for_all: set[tuple[str, str]] = field(default_factory=set)  # mesh, namespace

    @classmethod
    def of(cls, manifests: Manifests, account: Account) -> "Cluster":
        """The cluster after all of its documents were applied, in their order."""
        latest = {one.key: one for one in manifests.documents}
        services: dict[str, list[Document]] = {}
        for one in latest.values():
            if one.kind == "VirtualService":
                services.setdefault(one.namespace, []).append(one)
        return cls(
            account=account,
            labels=manifests.labels,
            latest=latest,
            meshes=[one for one in latest.values() if one.kind == "Mesh"],
            gateways=[one for one in latest.values() if one.kind == "VirtualGateway"],
            services=services,
        )

    # --- references ---------------------------------------------------------------------------

    def referenced(self, kind: str, reference: Table, asking: Document) -> Scalar | None:
        """The name in AWS of what a reference means; by rule if no document defines it."""
        own = {entry.key: entry.value for entry in once(reference, self.account)}
        name, namespace = own.pop("name", None), own.pop("namespace", None)
        if not (isinstance(name, Scalar) and isinstance(name.value, str) and name.value):
            what = f"a reference to a {kind} needs the field name"
            self.account.leave("kubernetes-wrong-type", reference, what)
            return None
        for key, value in own.items():
            if key != "uid":  # beside gateways and meshes, as the webhook wrote them
                what = f"a reference to a {kind} has no field {key}"
                self.account.leave("kubernetes-unknown-field", value, what)
        if isinstance(namespace, (Table, Series)):
            what = f"the namespace of a reference to a {kind} must be text"
            self.account.leave("kubernetes-wrong-type", namespace, what)
        self.account.use(namespace)
        written = namespace if isinstance(namespace, Scalar) and namespace.value else None
        inside = str(written.value) if written else asking.namespace
        in_aws = self.name_of(kind, inside, name.value)
        return made(in_aws, name.place, *([name, written] if written else [name]))

    def name_of(self, kind: str, namespace: str, name: str) -> str:
        """The name in AWS of an object, whether a document defines it or not."""
        found = self.latest.get((kind, namespace, name))
        return str(name_in_aws(found).value) if found else _rule("v1beta2", kind, namespace, name)

    def is_first_wish_for_all(self, mesh: Scalar | None, namespace: str) -> bool:
        """Whether no node of the mesh asked for all services of a namespace before."""
        wish = (str(mesh.value) if mesh else "", namespace)
        is_first = wish not in self._wishes_for_all
        self._wishes_for_all.add(wish)
        return is_first

    # --- meshes -------------------------------------------------------------------------------

    def mesh_of(self, document: Document) -> Scalar | None:
        """The name of the mesh that a definition belongs to; a finding where none is clear."""
        reference = document.spec.get("meshRef")
        if isinstance(reference, Table):
            name = reference.get("name")
            if isinstance(name, Scalar) and isinstance(name.value, str):
                return made(self.name_of("Mesh", "", name.value), name.place, name)
        namespace = document.namespace
        if namespace not in self._mesh_of:
            self._mesh_of[namespace] = self._choose_mesh(document)
        return self._mesh_of[namespace]

    def _choose_mesh(self, document: Document) -> Scalar | None:
        chosen = self._selecting(self.meshes, document)
        if len(chosen) == 1:
            return name_in_aws(chosen[0])
        if not self.meshes:  # the name may be given with the import, which else says it is missing
            return None
        what = f"{_who_take(chosen, 'mesh')} the namespace {document.namespace}"
        self.account.report("kubernetes-mesh-unclear", document.name.place, what)
        return None

    def _selecting(self, known: Sequence[Document], document: Document) -> Sequence[Document]:
        """The meshes or gateways that take a document's namespace; the only one takes all."""
        labels = {_OWN_NAME: document.namespace, **self.labels.get(document.namespace, {})}
        chosen = [one for one in known if selects(one.spec.get("namespaceSelector"), labels)]
        if chosen or len(known) != 1:
            return chosen
        if document.namespace in self.labels and known[0].version != "v1beta1":
            what = (
                f"{known[0]} does not select the namespace {document.namespace}; "
                "it is taken to, as there is no other"
            )
            self.account.report("kubernetes-not-selected", document.name.place, what)
        return known

    # --- gateways -----------------------------------------------------------------------------

    def gateway_of(self, document: Document) -> Scalar | None:
        """The name of the gateway that a gateway route belongs to; a finding if none is clear."""
        reference = document.spec.get("virtualGatewayRef")
        if isinstance(reference, Table):
            return self.referenced("VirtualGateway", reference, document)
        chosen = [
            one
            for one in self._gateways(document)
            if _takes(one, document) and self._are_of_one_mesh(one, document)
        ]
        if len(chosen) == 1:
            return name_in_aws(chosen[0])
        if not self.gateways:  # the import says of every route that its gateway is missing
            return None
        what = f"{_who_take(chosen, 'gateway')} {document}"
        self.account.report("kubernetes-gateway-unclear", document.name.place, what)
        return None

    def _are_of_one_mesh(self, one: Document, other: Document) -> bool:
        mesh, other_mesh = self.mesh_of(one), self.mesh_of(other)
        return (mesh.value if mesh else None) == (other_mesh.value if other_mesh else None)

    def _gateways(self, document: Document) -> Sequence[Document]:
        """The gateways that take gateway routes of the document's namespace."""
        if document.namespace not in self._gateways_of:
            chosen = self._selecting(self.gateways, document)
            self._gateways_of[document.namespace] = chosen
        return self._gateways_of[document.namespace]


def _takes(gateway: Document, document: Document) -> bool:
    selector = gateway.spec.get("gatewayRouteSelector")
    return selector is None or selects(selector, document.labels)


def _who_take(documents: Sequence[Document], kind: str) -> str:
    names = " and ".join(str(one) for one in documents)
    return f"{names} take" if names else f"no {kind} takes"
