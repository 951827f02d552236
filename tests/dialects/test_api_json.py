"""The API's JSON: which resource a body is, what it is called, and what is no part of it."""

import json
from pathlib import Path

import pytest

from meshml_dbx.dialects import Imported, Source, Wanted, import_files, read_names
from meshml_dbx.dialects.api_json import KINDS, kind_of_name, read_api_json
from meshml_dbx.dialects.found import Account, Parameters, Resource
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.tree import Table, plain
from tests.dialects.importing import codes

NODE = {
    "listeners": [{"portMapping": {"port": 80, "protocol": "http"}}],
    "serviceDiscovery": {"dns": {"hostname": "labels.local"}},
}
ROUTE = {"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": []}}}
WAY_IN = {
    "httpRoute": {
        "match": {"prefix": "/"},
        "action": {"target": {"virtualService": {"virtualServiceName": "s"}}},
    }
}


def read(body: object, name: str = "body.json") -> tuple[list[Resource], list[str]]:
    """The resources of a body, and the findings' codes."""
    account = Account()
    trees = [tree for tree in read_text(json.dumps(body), name) if isinstance(tree, Table)]
    found = read_api_json(trees, account, Parameters())
    return list(found), [one.code for one in account.findings]


def several(files: dict[str, object], wanted: Wanted | None = None) -> Imported:
    """An import of several bodies."""
    sources = [
        Source(name=name, raw=json.dumps(body).encode(), named=True) for name, body in files.items()
    ]
    return import_files(sources, wanted or Wanted())


# --- kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"meshName": "m", "virtualNodeName": "n", "spec": {}}, "virtualNode"),
        ({"meshName": "m", "virtualServiceName": "s", "spec": {}}, "virtualService"),
        ({"meshName": "m", "virtualRouterName": "r", "spec": {}}, "virtualRouter"),
        ({"meshName": "m", "virtualGatewayName": "g", "spec": {}}, "virtualGateway"),
        ({"meshName": "m", "virtualRouterName": "r", "routeName": "x", "spec": ROUTE}, "route"),
        ({"virtualRouterName": "r", "spec": ROUTE}, "route"),
        ({"virtualGatewayName": "g", "spec": WAY_IN}, "gatewayRoute"),
        ({"meshName": "m"}, "mesh"),
        ({"meshName": "m", "spec": {"egressFilter": {"type": "DROP_ALL"}}}, "mesh"),
        ({"spec": {"serviceDiscovery": {"ipPreference": "IPv4_ONLY"}}}, "mesh"),
        ({"spec": {"provider": {}}}, "virtualService"),
        ({"spec": NODE}, "virtualNode"),
        ({"spec": {"backends": []}}, "virtualNode"),
        ({"spec": ROUTE}, "route"),
        ({"spec": WAY_IN}, "gatewayRoute"),
        ({"spec": {}}, "mesh"),
    ],
)
def test_the_kind_follows_from_names_and_shape(body: dict[str, object], kind: str) -> None:
    """What a body holds tells what it creates."""
    ((found,), _) = read(body)
    assert found.kind == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("colorteller-vr.json", "virtualRouter"),
        ("tellergateway-vg.json", "virtualGateway"),
        ("updates/gateway-vgw-client-cert.json", "virtualGateway"),
        ("colorteller-white-vn-update.json", "virtualNode"),
        ("colorgateway-vn-timeout20s.json", "virtualNode"),
        ("edge-gateway.json", "virtualGateway"),
        ("mesh.json", "mesh"),
    ],
)
def test_a_spec_of_listeners_alone_is_told_by_the_files_name(name: str, kind: str) -> None:
    """Nodes, routers and gateways may look the same; then the file's name decides."""
    assert kind_of_name(name) == kind


def test_a_body_that_nothing_tells_is_an_error() -> None:
    """Neither the shape nor the file's name: the user is asked for the operation."""
    found, told = read({"spec": {"listeners": []}}, "body.json")
    assert (found, told) == ([], ["api-unknown-kind"])


# --- names ------------------------------------------------------------------------------------


def test_a_body_without_a_name_is_called_as_its_file() -> None:
    """The command line had the name; the file's own is the best guess, and it is said."""
    ((found,), told) = read({"spec": NODE}, "updates/labels-vn.v2.json")
    assert found.name is not None
    assert (found.name.value, told) == ("labels-vn", ["api-name-from-file"])


def test_the_file_of_names_says_what_command_lines_said(tmp_path: Path) -> None:
    """Names, operations and jq variables stand in for those of the calls; updates come last."""
    (tmp_path / "names.json").write_text(
        json.dumps(
            {
                "mesh.json": [{"operation": "create-mesh", "meshName": "ml"}],
                "b.json": [
                    {
                        "operation": "create-virtual-node",
                        "meshName": "ml",
                        "virtualNodeName": name,
                        "args": {"HOST": f"{name}.local"},
                    }
                    for name in ("one", "two")
                ],
                "a.json": [
                    {
                        "operation": "update-virtual-node",
                        "meshName": "ml",
                        "virtualNodeName": "two",
                    }
                ],
                "unused.json": [],
            }
        )
    )
    node = {**NODE, "serviceDiscovery": {"dns": {"hostname": "${HOST}"}}}
    new = {**NODE, "serviceDiscovery": {"dns": {"hostname": "new.local"}}}
    files = {"a.json": {"spec": new}, "b.json": {"spec": node}, "mesh.json": {"spec": {}}}
    wanted = Wanted(names=read_names(tmp_path / "names.json"))
    found = several({**files, "unused.json": {"spec": {"provider": {}}}}, wanted)
    assert found.mesh is not None
    assert found.complete
    hosts = {
        one.virtual_node_name: one.spec.service_discovery and one.spec.service_discovery.hostname
        for one in found.mesh.virtual_nodes
    }
    assert hosts == {"one": "one.local", "two": "new.local"}
    assert [code for code in codes(found) if code in ("import-replaced", "api-not-used")] == [
        "api-not-used",
        "import-replaced",
    ]


# --- what is no part of a definition ----------------------------------------------------------


def test_what_describe_answers_is_the_resource_without_what_was_observed() -> None:
    """Metadata and status are named as left; the owner of a shared mesh is kept."""
    metadata = {
        "arn": "arn:aws:appmesh:eu-west-1:111111111111:mesh/m/virtualNode/n",
        "meshOwner": "111111111111",
        "resourceOwner": "222222222222",
        "version": 3,
    }
    node = {"meshName": "m", "virtualNodeName": "n", "spec": NODE, "metadata": metadata}
    ((found,), told) = read({"virtualNode": {**node, "status": {"status": "ACTIVE"}}})
    assert (found.kind, found.name and found.name.value) == ("virtualNode", "n")
    assert {key: plain(value) for key, value in found.fields} == {"meshOwner": "111111111111"}
    assert told == ["api-observed", "api-observed"]


def test_tags_become_a_map() -> None:
    """The API lists tags as keys and values; a mesh file has them as one map."""
    tags = [{"key": "team", "value": "churn"}, {"key": "stage", "value": "dev"}]
    ((found,), _) = read({"meshName": "m", "virtualNodeName": "n", "spec": NODE, "tags": tags})
    assert {key: plain(value) for key, value in found.fields} == {
        "tags": {"team": "churn", "stage": "dev"}
    }


def test_a_field_that_the_api_does_not_have_is_an_error_at_its_place() -> None:
    """Nothing is dropped: load says of an unknown field where it stands."""
    found = several(
        {"n.json": {"meshName": "m", "virtualNodeName": "n", "spec": NODE, "colour": 1}}
    )
    assert [(one.code, one.where) for one in found.checked] == [
        ("unknown-field", "n.json:1 colour")
    ]


def test_a_list_of_requests_is_as_many() -> None:
    """One file may hold all requests of a mesh."""
    found = several(
        {"all.json": [{"meshName": "m"}, {"meshName": "m", "virtualNodeName": "n", "spec": NODE}]}
    )
    assert dict(found.definitions) == {"mesh": 1, "virtualNode": 1}
    assert found.mesh is not None


def test_every_kind_of_the_api_has_its_names() -> None:
    """The table covers the seven kinds that the API creates."""
    assert len(KINDS) == 7
