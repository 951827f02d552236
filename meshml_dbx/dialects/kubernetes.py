"""Definitions of the App Mesh controller for Kubernetes become resources.

The trees of all documents of all files go in, since selectors and references cross them; resources
come out, with the names that the controller gave in AWS. A definition that is applied again takes
the place of the earlier one, as it does in a cluster.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshml_dbx.dialects.found import Account, Parameters, Resource
from meshml_dbx.dialects.kubernetes_cluster import Cluster
from meshml_dbx.dialects.kubernetes_documents import Document, read_manifests
from meshml_dbx.dialects.kubernetes_v1beta1 import read_v1beta1
from meshml_dbx.dialects.kubernetes_v1beta2 import read_v1beta2
from meshml_dbx.dialects.tree import Table, plain

_VERSIONS: dict[str, Callable[[Document, Cluster], Sequence[Resource]]] = {
    "v1beta1": read_v1beta1,
    "v1beta2": read_v1beta2,
}


def read_kubernetes(
    trees: Sequence[Table],
    account: Account,
    _parameters: Parameters,  # blanks in texts are filled before a dialect sees them
) -> tuple[Resource, ...]:
    """The resources that Kubernetes manifests define."""
    manifests = read_manifests(trees, account)
    cluster = Cluster.of(manifests, account)
    applied: dict[tuple[str, str, str], tuple[Document, list[Resource]]] = {}
    found: list[list[Resource]] = []
    for document in manifests.documents:
        new = list(_VERSIONS[document.version](document, cluster))
        if document.key in applied:
            new = _replacing(*applied[document.key], document, new, account)
        applied[document.key] = (document, new)
        found.append(new)
    return tuple(one for resources in found for one in resources)


def _replacing(
    earlier: Document, old: list[Resource], later: Document, new: list[Resource], account: Account
) -> list[Resource]:
    """The resources of a definition that is applied again; old routes that it lacks are dropped."""
    if plain(earlier.spec) != plain(later.spec):
        what = f"{later} takes the place of the one at {earlier.table.place}, which differs"
        account.report("kubernetes-applied-again", later.name.place, what)
    before, after = {_key(one) for one in old}, {_key(one) for one in new}
    for gone in [one for one in old if one.kind == "route" and _key(one) not in after]:
        old.remove(gone)
        account.use(gone.name, gone.spec)
    return [replace(one, replaces=True) if _key(one) in before else one for one in new]


def _key(resource: Resource) -> tuple[str, str]:
    return resource.kind, str(resource.name.value) if resource.name else ""
