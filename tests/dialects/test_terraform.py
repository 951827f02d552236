"""Terraform's files as whole meshes: HCL, its JSON, modules, values, printed states and plans."""

import json

import pytest

from meshml_dbx.findings import Severity
from meshml_dbx.mesh.load import read_mesh
from tests.dialects.terraform_files import (
    EXAMPLES,
    MESH,
    codes_of,
    imported,
    imported_example,
    mesh_of,
    named,
    where,
)

_EXAMPLES = {
    "whole/mesh.yml": ("whole/mesh.tf",),
    "variables/mesh.yml": (
        "variables/mesh.tf",
        "variables/terraform.tfvars",
        "variables/variables.tf",
    ),
    "modules/mesh.yml": (
        "modules/main.tf",
        "modules/mesh/main.tf",
        "modules/service/main.tf.json",
    ),
    "show/state.yml": ("show/state.json",),
    "show/plan.yml": ("show/plan.json",),
}


@pytest.mark.parametrize(("expected", "files"), _EXAMPLES.items())
def test_an_example_is_the_mesh_that_is_written_beside_it(
    expected: str, files: tuple[str, ...]
) -> None:
    """Terraform's form and our own of one mesh are equal when they are read."""
    assert mesh_of(imported_example(*files)) == read_mesh(EXAMPLES / expected).mesh


@pytest.mark.parametrize("files", _EXAMPLES.values())
def test_every_value_of_an_example_is_accounted_for(files: tuple[str, ...]) -> None:
    """No value is neither in the mesh nor named in a finding, and none is an error."""
    findings = imported_example(*files).findings
    assert [str(it) for it in findings if it.code == "import-leftover"] == []
    assert [str(it) for it in findings if it.severity is Severity.ERROR] == []


def test_blocks_of_other_kinds_are_named_once_each() -> None:
    """What Terraform holds beside the mesh is one info each."""
    found = imported_example("whole/mesh.tf")
    assert where(found, "terraform-left") == [
        f"{EXAMPLES}/whole/mesh.tf:3 terraform",
        f"{EXAMPLES}/whole/mesh.tf:30 aws_service_discovery_private_dns_namespace.ml",
    ]


def test_a_finding_of_the_mesh_names_terraforms_line() -> None:
    """A value that the mesh refuses is reported where the Terraform file writes it."""
    text = """resource "aws_appmesh_virtual_router" "r" {
  name      = "r"
  mesh_name = aws_appmesh_mesh.this.name
  spec {
    listener {
      port_mapping {
        port     = 99999
        protocol = "http"
      }
    }
  }
}
"""
    found = imported(text + MESH)
    assert found.loaded is not None
    assert [it.where for it in found.loaded.findings] == [
        "main.tf:7 aws_appmesh_virtual_router.r.spec.listener.port_mapping.port"
    ]


def test_a_field_that_the_api_does_not_know_is_reported_with_its_place() -> None:
    """A misspelt attribute is no silence: the mesh's own reading names it."""
    found = imported(MESH.replace("}\n", '  spec {\n    egress = "x"\n  }\n}\n'))
    assert found.loaded is not None
    assert [(it.code, it.where) for it in found.loaded.findings] == [
        ("unknown-field", "main.tf:5 aws_appmesh_mesh.this.spec.egress")
    ]


# --- values -----------------------------------------------------------------------------------


def test_a_parameter_comes_before_a_file_of_values_and_that_before_the_default() -> None:
    """Values have Terraform's own order, with --param as its -var."""
    variable = 'variable "name" {\n  default = "a"\n}\n'
    files = {"main.tf": named("var.name", more=variable)}
    assert mesh_of(imported(files)).mesh.mesh_name == "a"
    files |= {"terraform.tfvars": 'name = "b"', "x.auto.tfvars": 'name = "c"'}
    assert mesh_of(imported(files)).mesh.mesh_name == "c"
    assert mesh_of(imported(files, name="d")).mesh.mesh_name == "d"


def test_one_named_file_of_values_counts_and_several_do_not() -> None:
    """Of dev.tfvars and prod.tfvars nobody can say which is meant."""
    files = {"main.tf": named('"ml-${var.stage}"'), "dev.tfvars": 'stage = "dev"'}
    assert mesh_of(imported(files)).mesh.mesh_name == "ml-dev"
    files["prod.tfvars"] = 'stage = "prod"'
    found = imported(files)
    assert mesh_of(found).mesh.mesh_name == "ml-${var.stage}"
    assert codes_of(found) == ["terraform-values", "terraform-values", "unresolved-parameter"]


def test_an_unknown_variable_is_given_by_either_of_its_names() -> None:
    """The name that a finding shows can be given as well as the plain one."""
    text = named("var.name")
    assert mesh_of(imported(text)).mesh.mesh_name == "${var.name}"
    assert mesh_of(imported(text, **{"var.name": "x"})).mesh.mesh_name == "x"
    assert mesh_of(imported(text, name="y")).mesh.mesh_name == "y"


def test_values_that_the_mesh_does_not_use_are_named_file_by_file() -> None:
    """A value for something else is one info, not a leftover for each."""
    files = {"main.tf": MESH, "terraform.tfvars": "a = 1\nb = [2, 3]\n"}
    found = imported(files)
    assert codes_of(found) == ["terraform-unused"]
    assert where(found, "terraform-unused") == ["terraform.tfvars:1"]


def test_a_parameter_may_be_a_map() -> None:
    """Lists and maps are given in HCL, as Terraform's -var takes them."""
    found = imported(named('var.names["b"]'), names='{ a = "x", b = "y" }')
    assert mesh_of(found).mesh.mesh_name == "y"


# --- repetition -------------------------------------------------------------------------------


def test_an_unknown_count_is_read_once_and_said() -> None:
    """A resource of unknown number is there once, and the finding says so."""
    text = MESH.replace('name = "ml"', 'count = var.number\n  name  = format("m-%s", count.index)')
    found = imported(text)
    assert mesh_of(found).mesh.mesh_name == "m-${count.index}"
    assert where(found, "terraform-repeat") == ["main.tf:3 aws_appmesh_mesh.this.count"]


def test_a_count_of_zero_creates_nothing() -> None:
    """What is switched off is no part of the mesh, and named."""
    text = MESH + MESH.replace('"this" {', '"other" {\n  count = 0')
    found = imported(text)
    assert found.definitions == {"mesh": 1}
    assert codes_of(found) == ["terraform-not-created"]


def test_an_unknown_dynamic_block_is_an_error_at_its_place() -> None:
    """Blocks of unknown number cannot be left out in silence."""
    text = MESH.replace(
        "}\n",
        """  spec {
    dynamic "egress_filter" {
      for_each = var.filters
      content {
        type = "ALLOW_ALL"
      }
    }
  }
}
""",
    )
    found = imported(text)
    assert not found.complete
    place = "main.tf:5 aws_appmesh_mesh.this.spec.dynamic.egress_filter"
    assert where(found, "terraform-dynamic") == [place]
    assert mesh_of(imported(text, filters="[1]")).mesh.spec.egress_filter.type == "ALLOW_ALL"


def dynamic(over: str, value: str = '"x"') -> str:
    """A virtual node whose backends are a dynamic block over something."""
    return f"""{MESH}
variable "known" {{
  type    = set(string)
  default = ["b", "a"]
}}
resource "aws_appmesh_virtual_node" "front" {{
  name      = "front"
  mesh_name = aws_appmesh_mesh.this.name
  spec {{
    dynamic "backend" {{
      for_each = {over}
      content {{
        virtual_service {{
          virtual_service_name = {value}
        }}
      }}
    }}
  }}
}}
"""


@pytest.mark.parametrize(
    ("over", "names"),
    [
        ('["b", "a"]', ["s0.ml", "s1.ml"]),
        ('toset(["b", "a"])', ["sa.ml", "sb.ml"]),
        ("var.known", ["sb.ml", "sa.ml"]),
        ('{ y = "b", z = "a" }', ["sy.ml", "sz.ml"]),
    ],
)
def test_the_key_of_a_dynamic_block_is_a_lists_index_and_a_sets_item(
    over: str, names: list[str]
) -> None:
    """As Terraform has it: what asks for the first of a list asks for key 0."""
    (front,) = mesh_of(imported(dynamic(over, '"s${backend.key}.ml"'))).virtual_nodes
    assert [it.virtual_service.virtual_service_name for it in front.spec.backends] == names


def test_a_dynamic_block_of_nothing_is_named() -> None:
    """What is switched off is no part of the mesh, and no silence either."""
    found = imported(dynamic('var.known == "" ? ["a"] : []'))
    place = "main.tf:14 aws_appmesh_virtual_node.front.spec.dynamic.backend"
    assert where(found, "terraform-not-created") == [place]
    assert where(imported(dynamic('["a"]')), "terraform-not-created") == []


def test_a_priority_of_zero_is_kept_with_a_warning() -> None:
    """The provider sent none: what ran was another order than what is written."""
    whole = (EXAMPLES / "whole" / "mesh.tf").read_text()
    found = imported(whole.replace("priority = 10", "priority = 0"))
    assert mesh_of(found).virtual_routers[0].routes[0].spec.priority == 0
    assert len(where(found, "terraform-zero")) == 1


# --- modules ----------------------------------------------------------------------------------


def test_a_module_from_elsewhere_is_left_with_a_warning() -> None:
    """A module of a registry is not read, and its outputs stay named unknowns."""
    text = named("module.m.name", more='module "m" {\n  source = "org/mesh/aws"\n}\n')
    found = imported(text)
    assert mesh_of(found).mesh.mesh_name == "${module.m.name}"
    assert codes_of(found) == ["terraform-module", "unresolved-parameter"]


def test_modules_that_call_each_other_come_to_an_end() -> None:
    """Two folders that are each other's modules are no hang."""
    call = 'module "m" {\n  source = "../%s"\n}\n'
    files = {"a/main.tf": MESH + call % "b", "b/main.tf": call % "a"}
    assert "terraform-module" in codes_of(imported(files))


def test_two_folders_are_two_modules() -> None:
    """A name of one folder means nothing in another."""
    files = {"a/main.tf": named("local.name"), "b/main.tf": 'locals {\n  name = "x"\n}\n'}
    assert mesh_of(imported(files)).mesh.mesh_name == "${local.name}"


# --- printed states and plans -----------------------------------------------------------------


def test_a_state_of_an_unknown_format_is_an_error() -> None:
    """A format that may come is refused by its number."""
    text = json.dumps({"format_version": "2.0", "values": {"root_module": {}}})
    assert "terraform-version" in codes_of(imported({"state.json": text}))


def test_what_aws_computed_is_one_finding_for_each_file() -> None:
    """A state of a hundred resources says once what it holds beside the mesh."""
    found = imported_example("show/state.json")
    assert len(where(found, "terraform-computed")) == 1


def test_sensitive_values_are_carried_over_with_a_warning() -> None:
    """Terraform's mark would be lost otherwise."""
    found = imported_example("show/state.json")
    assert len(where(found, "terraform-sensitive")) == 1


def test_an_id_that_a_plan_does_not_know_yet_is_the_meshs_name() -> None:
    """The mesh's id is its name, so a plan's reference to it needs no apply."""
    found = imported_example("show/plan.json")
    assert found.definitions == {"mesh": 1, "virtualService": 1, "virtualNode": 1}
    assert [it.virtual_service_name for it in mesh_of(found).virtual_services] == [
        "scorer.ml.local"
    ]


def test_what_a_plan_does_not_know_can_be_given() -> None:
    """The name in the finding is the name of the parameter."""
    text = (EXAMPLES / "show" / "plan.json").read_text()
    found = imported({"plan.json": text}, **{"var.authority": "arn:x"})
    assert "unresolved-parameter" not in codes_of(found)
