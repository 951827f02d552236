"""Backend groups of Kubernetes: lists of services, and the star that means all of a namespace.

References go in; names in AWS come out. A mesh file has no star, so that a group of its own takes
the star's place, with the services that the files define.
"""

from dataclasses import replace

from meshml_dbx.dialects.found import Resource
from meshml_dbx.dialects.kubernetes_cluster import Cluster, name_in_aws
from meshml_dbx.dialects.kubernetes_documents import Document
from meshml_dbx.dialects.kubernetes_fields import leave_unknown
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, made, table

_EVERY = "*"  # as a backend group's name: every virtual service of the namespace


def group_field(entry: Entry, document: Document, cluster: Cluster) -> Entry | None:
    """A field of a backend group's spec as the mesh file writes it; None if it has no such."""
    if entry.key == "virtualServices":
        leave_unknown(entry, cluster.account, "virtualservices")
        return None
    if entry.key != "virtualservices":
        return entry
    value = entry.value
    if isinstance(value, Series):
        value = _named(value, "VirtualService", document, cluster)
    return replace(entry, key="virtualServices", value=value)


def group_names(
    groups: Series, document: Document, cluster: Cluster
) -> tuple[Series, list[Resource]]:
    """The names of a node's backend groups, and a group for each ``*`` that is met first."""
    names: list[Node] = []
    created: list[Resource] = []
    for item in groups.items:
        name = item.get("name") if isinstance(item, Table) else None
        if isinstance(item, Table) and isinstance(name, Scalar) and name.value == _EVERY:
            written = item.get("namespace")
            inside = written.value if isinstance(written, Scalar) else None
            namespace = str(inside or document.namespace)
            cluster.account.use(item)
            names.append(made(_every_of(namespace), name.place, name))
            created += _every_service(namespace, name, cluster.mesh_of(document), cluster)
        else:
            single = Series(place=groups.place, items=(item,))
            names += _named(single, "BackendGroup", document, cluster).items
    return Series(place=groups.place, items=tuple(names)), created


def _every_of(namespace: str) -> str:
    """The name of the group of all services; no object of a cluster has capitals in its name."""
    return f"ALL_{namespace}"


def _every_service(
    namespace: str, star: Scalar, mesh: Scalar | None, cluster: Cluster
) -> list[Resource]:
    if not cluster.is_first_wish_for_all(mesh, namespace):
        return []
    services = cluster.services.get(namespace, ())
    names = tuple(made(name_in_aws(one).value, star.place) for one in services)
    what = (
        f"the group * becomes {_every_of(namespace)}, which lists the {len(names)} virtual "
        f"services that the files have in {namespace}"
    )
    cluster.account.report("kubernetes-every-service", star.place, what)
    listed = Series(place=star.place, items=names)
    return [
        Resource(
            kind="backendGroup",
            place=star.place,
            name=made(_every_of(namespace), star.place),
            mesh=mesh,
            spec=table(star.place, virtualServices=listed),
        )
    ]


def _named(references: Series, kind: str, document: Document, cluster: Cluster) -> Series:
    """The names in AWS of a list of references."""
    names: list[Node] = []
    for item in references.items:
        if isinstance(item, Table):
            name = cluster.referenced(kind, item, document)
            names += [name] if name else []
        else:
            what = f"a reference to a {kind} must be a table with name and namespace"
            cluster.account.leave("kubernetes-wrong-type", item, what)
    return Series(place=references.place, items=tuple(names))
