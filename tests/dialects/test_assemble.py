"""Many files, one mesh: what belongs together, what is defined twice, which mesh is meant."""

import json
from pathlib import Path

import pytest

from meshml_dbx.dialects import Imported, Source, Wanted, import_files
from meshml_dbx.findings import Severity
from tests.dialects.importing import codes, imported, imported_text

OWN = """
mesh: {meshName: ml}
virtualNodes:
  - virtualNodeName: labels
    spec:
      listeners: [{portMapping: {port: 80, protocol: http}}]
      serviceDiscovery: {dns: {hostname: labels.local}}
virtualRouters:
  - virtualRouterName: labels
    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
"""
ROUTE = {
    "meshName": "ml",
    "virtualRouterName": "labels",
    "routeName": "all",
    "spec": {
        "httpRoute": {
            "match": {"prefix": "/"},
            "action": {"weightedTargets": [{"virtualNode": "labels", "weight": 1}]},
        }
    },
}


def texts(**files: object) -> list[Source]:
    """Sources of texts, or of what JSON makes of other values; _ in a name is a dot."""
    return [
        Source(
            name=name.replace("_", "."),
            raw=(value if isinstance(value, str) else json.dumps(value)).encode(),
            named=True,
        )
        for name, value in files.items()
    ]


def together(wanted: Wanted | None = None, **files: object) -> Imported:
    """An import of several texts."""
    return import_files(texts(**files), wanted or Wanted())


def errors(found: Imported) -> list[str]:
    """The codes of an import's errors."""
    return [one.code for one in found.findings if one.severity is Severity.ERROR]


def test_dialects_mix_in_one_mesh() -> None:
    """A route from the API's JSON goes under the router of a mesh file."""
    found = together(mesh_yml=OWN, route_json=ROUTE)
    assert found.mesh is not None
    (router,) = found.mesh.virtual_routers
    assert [route.route_name for route in router.routes] == ["all"]
    assert [file.dialects for file in found.files] == [("own",), ("api-json",)]


def test_a_route_without_its_router_makes_one_and_says_so() -> None:
    """The router's listener is not known, so it is a warning."""
    found = together(route_json=ROUTE)
    assert found.mesh is not None
    assert [one.virtual_router_name for one in found.mesh.virtual_routers] == ["labels"]
    assert "import-made-router" in codes(found)
    assert "import-made-mesh" in codes(found)


def test_a_route_that_names_no_router_goes_to_the_only_one() -> None:
    """One router in the mesh leaves no choice; none, or several, is an error."""
    nameless = {key: value for key, value in ROUTE.items() if key != "virtualRouterName"}
    found = together(mesh_yml=OWN, route_json=nameless)
    assert found.mesh is not None
    assert len(found.mesh.virtual_routers[0].routes) == 1
    assert errors(together(route_json=nameless)) == ["import-no-parent"]


def test_a_gateway_route_without_its_gateway_is_an_error() -> None:
    """A gateway cannot be made up: its listeners are not known."""
    body = {
        "meshName": "ml",
        "virtualGatewayName": "edge",
        "gatewayRouteName": "in",
        "spec": {
            "httpRoute": {
                "match": {"prefix": "/"},
                "action": {"target": {"virtualService": {"virtualServiceName": "s"}}},
            }
        },
    }
    found = together(mesh_yml=OWN, route_json=body)
    (told,) = [one for one in found.findings if one.code == "import-no-parent"]
    assert told.where == "route.json:1"
    assert "the gatewayRoute in belongs to a virtualGateway edge" in told.what


# --- two definitions of one name --------------------------------------------------------------


def test_equal_definitions_fall_together() -> None:
    """The same definition in two files is one, and the second is named."""
    found = together(a_yml=OWN, b_yml=OWN)
    assert errors(found) == []
    told = [one.where for one in found.findings if one.code == "import-defined-equal"]
    assert told == ["b.yml:2 mesh", "b.yml:4 virtualNodes[0]", "b.yml:9 virtualRouters[0]"]
    assert found.mesh is not None
    assert len(found.mesh.virtual_nodes) == 1


def test_different_definitions_of_one_name_are_an_error_at_both_places() -> None:
    """Nobody can say which is meant, so both places are named and neither wins."""
    found = together(a_yml=OWN, b_yml=OWN.replace("labels.local", "other.local"))
    (told,) = [one for one in found.findings if one.severity is Severity.ERROR]
    assert (told.code, told.where) == ("import-defined-twice", "b.yml:4 virtualNodes[0]")
    assert "a.yml:4 virtualNodes[0]" in told.what
    assert not found.complete


def test_a_name_may_stand_for_one_thing_of_each_kind() -> None:
    """A node and a router of one name are two things, and so are routes of two routers."""
    found = together(mesh_yml=OWN, route_json=[ROUTE, {**ROUTE, "virtualRouterName": "other"}])
    assert errors(found) == []
    assert found.mesh is not None
    assert [len(one.routes) for one in found.mesh.virtual_routers] == [1, 1]


# --- which mesh -------------------------------------------------------------------------------


def test_several_meshes_are_an_error_until_one_is_picked() -> None:
    """The error says which there are; --mesh-name picks one, the others are named as left out."""
    other = OWN.replace("meshName: ml", "meshName: shop")
    found = together(a_yml=OWN, b_yml=other)
    (told,) = [one for one in found.findings if one.severity is Severity.ERROR]
    assert told.code == "import-several-meshes"
    assert "ml (a.yml:2 mesh.meshName), shop (b.yml:2 mesh.meshName)" in told.what
    assert found.mesh is None
    picked = together(Wanted(mesh_name="shop"), a_yml=OWN, b_yml=other)
    assert picked.mesh is not None
    assert picked.mesh.mesh.mesh_name == "shop"
    assert [one.where for one in picked.findings if one.code == "import-other-mesh"] == [
        "a.yml:2 mesh"
    ]


def test_a_mesh_that_the_input_does_not_have_is_an_error() -> None:
    """A name that is not there says which are."""
    found = together(Wanted(mesh_name="shp"), a_yml=OWN)
    (told,) = [one for one in found.findings if one.severity is Severity.ERROR]
    assert "no mesh in the input is called shp; there is ml" in told.what


def test_a_mesh_without_a_name_takes_the_one_that_is_given() -> None:
    """Bodies of calls do not say it; without it there is no mesh."""
    node = {"spec": {"serviceDiscovery": {"dns": {"hostname": "h"}}}}
    assert errors(together(n_json=node)) == ["import-no-mesh-name"]
    found = together(Wanted(mesh_name="ml"), n_json=node)
    assert found.mesh is not None
    assert found.mesh.mesh.mesh_name == "ml"


# --- injected defaults ------------------------------------------------------------------------


def test_an_import_turns_on_what_app_mesh_injected_and_says_so() -> None:
    """A foreign definition meant App Mesh's own retries too; a mesh file means what it says."""
    foreign = together(route_json=ROUTE)
    assert foreign.mesh is not None
    assert foreign.mesh.injected_defaults == "modern"
    assert "import-injected-defaults" in codes(foreign)
    own = together(mesh_yml=OWN)
    assert own.mesh is not None
    assert (own.mesh.injected_defaults, codes(own)) == ("none", [])


@pytest.mark.parametrize("wish", ["legacy", "none"])
def test_the_user_can_say_what_app_mesh_injected(wish: str) -> None:
    """--injected-defaults wins over what is guessed."""
    wanted = Wanted(injected_defaults="legacy" if wish == "legacy" else "none")
    found = together(wanted, route_json=ROUTE)
    assert found.mesh is not None
    assert found.mesh.injected_defaults == wish


# --- places and sources -----------------------------------------------------------------------


def test_a_mistake_in_a_value_is_reported_where_it_is_written() -> None:
    """Load and check name the original file, line and path, not those of the mesh that is made."""
    body = json.dumps(ROUTE, indent=1).replace('"weight": 1', '"weight": 101')
    found = together(mesh_yml=OWN, route_json=body)
    (told,) = [one for one in found.checked if one.severity is Severity.ERROR]
    line = body[: body.index("101")].count("\n") + 1
    path = "spec.httpRoute.action.weightedTargets[0].weight"
    assert told.where == f"route.json:{line} {path}"


def test_a_folder_is_read_whole_and_what_is_no_definition_is_named(tmp_path: Path) -> None:
    """Files of a folder that define nothing are worth a word, not an error."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mesh.yml").write_text(OWN)
    (tmp_path / "package.json").write_text('{"name": "shop"}')
    (tmp_path / "broken.yaml").write_text("a: b: c")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "mesh.yml").write_text(OWN)
    (tmp_path / "README.md").write_text("words")
    found = imported(tmp_path)
    assert found.mesh is not None
    assert found.complete
    named = [Path(one.where.split(":")[0]).name for one in found.findings]
    assert named == ["broken.yaml", "package.json"]


def test_a_file_that_was_named_must_define_something() -> None:
    """Who names a file expects something of it."""
    found = imported_text('{"name": "shop"}', name="package.json")
    assert errors(found) == ["import-not-a-mesh", "import-nothing-found"]


def test_a_broken_definition_in_a_folder_is_an_error(tmp_path: Path) -> None:
    """A file that speaks of a mesh and cannot be read is not passed over."""
    (tmp_path / "mesh.yml").write_text(OWN)
    (tmp_path / "node.json").write_text('{"virtualNodeName": "n", "spec": {')
    found = imported(tmp_path)
    assert errors(found) == ["import-unreadable"]
    assert not found.complete


def test_a_value_that_no_dialect_took_is_a_leftover() -> None:
    """Of two fields of one name the second has no place in the mesh, and that is said."""
    text = '{"meshName": "ml", "meshName": "other", "spec": {}}'
    found = imported_text(text, name="mesh.json")
    (told,) = [one for one in found.findings if one.code == "import-leftover"]
    assert (told.where, told.what) == (
        "mesh.json:1 meshName",
        "the value 'other' is not in the mesh",
    )


def test_a_route_is_the_same_with_and_without_its_routers_name() -> None:
    """Where there is one router, a body that leaves it out is a second definition, not a route."""
    nameless = {key: value for key, value in ROUTE.items() if key != "virtualRouterName"}
    found = together(mesh_yml=OWN, a_json=ROUTE, b_json=nameless)
    assert found.mesh is not None
    assert len(found.mesh.virtual_routers[0].routes) == 1
    assert codes(found).count("import-defined-equal") == 1


def test_what_a_mesh_file_says_of_the_whole_mesh_holds_for_other_dialects_too() -> None:
    """Tags and injected defaults of a mesh file stay, though the mesh is defined elsewhere too."""
    own = OWN + "injectedDefaults: legacy\ntags: {team: churn}\n"
    found = together(mesh_json={"meshName": "ml"}, mesh_yml=own, route_json=ROUTE)
    assert found.mesh is not None
    assert (found.mesh.injected_defaults, found.mesh.tags) == ("legacy", {"team": "churn"})
    assert errors(found) == []
    assert "import-injected-defaults" not in codes(found)


def test_tags_of_two_definitions_of_a_mesh_do_not_vanish() -> None:
    """Of two different maps of tags one is kept, and the other is named as left over."""
    one, two = (f"mesh: {{meshName: ml}}\ntags: {{team: {name}}}\n" for name in ("a", "b"))
    found = together(one_yml=one, two_yml=two)
    assert found.mesh is not None
    assert found.mesh.tags == {"team": "a"}
    assert [it.where for it in found.findings if it.code == "import-leftover"] == ["two.yml:2 tags"]
