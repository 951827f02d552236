"""Public definitions for Kubernetes: counts as counted by hand, and every value accounted for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshml_dbx.dialects.tree import Node, Series, Table, plain
from tests.dialects.manifests import CORPORA, Manifests, read_files, shown

pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not at hand")

FOLDERS = (
    "18-k8s-http-ingress",
    "19-k8s-mtls-sds",
    "20-k8s-policies/connection-pools",
    "20-k8s-policies/outlier-detection",
    "20-k8s-policies/timeout-policy",
    "21-k8s-log-format",
    "22-k8s-cloudmap",
    "23-migration-pair",
)
KINDS = {
    "mesh": "Mesh",
    "virtualNode": "VirtualNode",
    "virtualService": "VirtualService",
    "virtualRouter": "VirtualRouter",
    "route": "Route",
    "virtualGateway": "VirtualGateway",
    "gatewayRoute": "GatewayRoute",
}


def read_folder(folder: str) -> Manifests:
    """Every manifest below a folder."""
    return read_files(*(path for path in sorted((CORPORA / folder).rglob("*.yaml*"))))


def counted(folder: str) -> dict[str, int]:
    """The numbers of ``counts.json`` for the files below a folder."""
    top, _, inner = folder.partition("/")
    files = json.loads((CORPORA / "counts.json").read_text(encoding="utf-8"))["folders"][top][
        "files"
    ]
    under = [of_file for name, of_file in files.items() if Path(name).is_relative_to(inner)]
    sums = {kind: sum(one.get(name, 0) for one in under) for kind, name in KINDS.items()}
    return {kind: number for kind, number in sums.items() if number}


def references(node: Node | None, key: str = "") -> Iterator[tuple[str, object]]:
    """Every field of a spec that names another resource, with the name."""
    if isinstance(node, Table):
        for entry in node.entries:
            yield from references(entry.value, entry.key)
    elif isinstance(node, Series):
        for item in node.items:
            yield from references(item, key)
    elif node is not None and key in {
        "virtualNode",
        "virtualNodeName",
        "virtualRouterName",
        "virtualServiceName",
    }:
        yield key, plain(node)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_definitions_of_each_kind_are_as_counted(folder: str) -> None:
    """``counts.json`` was counted apart from this reader."""
    assert dict(read_folder(folder).counts()) == counted(folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_value_is_in_a_resource_or_named_in_a_finding(folder: str) -> None:
    """No leaf of a manifest goes unaccounted."""
    assert read_folder(folder).leftovers == ()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_reference_leads_to_a_definition(folder: str) -> None:
    """What is named is defined, across documents and files, as it was in the cluster."""
    found = read_folder(folder)
    known = {
        "virtualNode": found.names("virtualNode"),
        "virtualNodeName": found.names("virtualNode"),
        "virtualRouterName": found.names("virtualRouter"),
        "virtualServiceName": found.names("virtualService"),
    }
    named = [pair for one in found.resources for pair in references(one.spec)]
    assert [pair for pair in named if pair[1] not in known[pair[0]]] == []
    assert named


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_definition_is_in_the_one_mesh_of_its_folder(folder: str) -> None:
    """Selectors and labels tell the mesh, placeholders and all."""
    found = read_folder(folder)
    meshes = {shown(one.mesh) for one in found.resources if one.kind != "mesh"}
    assert meshes == set(found.names("mesh"))


def test_gateway_routes_of_other_files_find_their_gateway() -> None:
    """Seven files hold a route each; the gateway stands in an eighth."""
    found = read_folder("18-k8s-http-ingress")
    parents = {shown(one.parent) for one in found.resources if one.kind == "gatewayRoute"}
    assert parents == {"ingress-gw_${APP_NAMESPACE}"}


def test_priority_zero_is_not_none() -> None:
    """One gateway route asks to be first; the others ask for nothing."""
    found = read_folder("18-k8s-http-ingress")
    asked = {
        shown(one.name): shown(one.spec.get("priority"))
        for one in found.resources
        if one.kind == "gatewayRoute" and one.spec and one.spec.get("priority")
    }
    assert asked == {"path-match_${APP_NAMESPACE}": 0}


def test_the_mode_that_a_client_policy_does_not_have_is_named() -> None:
    """It stands beside enforce; a cluster drops it."""
    assert read_folder("19-k8s-mtls-sds").places("kubernetes-unknown-field") == [
        "manifest.yaml.template:47 [2].spec.backendDefaults.clientPolicy.tls.mode"
    ]


def test_the_canary_is_applied_before_what_it_was_meant_to_change() -> None:
    """In the order of file names the plain router comes last and wins, which is worth a warning."""
    found = read_folder("23-migration-pair")
    assert found.whats("kubernetes-applied-again") == [
        "VirtualRouter prodcatalog-ns/proddetail-router takes the place of the one at "
        "canary.yaml:26 [1], which differs"
    ]
