"""Terraform's expressions: each kind as the name of a mesh, known, unknown and wrong."""

import pytest

from tests.dialects.terraform_files import codes_of, imported, mesh_of, named, where

_LOCALS = """
locals {
  one   = "one"
  list  = ["a", "b"]
  map   = { x = "y", n = { deep = "z" } }
  items = [{ id = "p", tags = ["v", "w"] }, { id = "q", tags = ["x"] }]
}
"""


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ('"plain"', "plain"),
        ('"a\\u002db"', "a-b"),
        ('"${local.one}-${local.list[1]}"', "one-b"),
        ("(local.one)", "one"),
        ("local.map.x", "y"),
        ('local.map["n"].deep', "z"),
        ("local.list.0", "a"),
        ("(local.items[*].id)[1]", "q"),
        ("local.items.*.id[1]", "q"),
        ("(local.items[*].tags[0])[1]", "x"),
        ('join("", local.items.*.id)', "pq"),
        ('true ? "yes" : "no"', "yes"),
        ('1 + 2 * 3 == 7 && !(4 > 5) ? "sum" : "none"', "sum"),
        ('7 % 4 >= 3 || false ? "left" : "none"', "left"),
        ('"m${8 / 4 - -1}"', "m3"),
        ('local.one != "one" ? local.missing : "lazy"', "lazy"),
        ('join("-", [for it in local.list : upper(it) if it != "a"])', "B"),
        ('{ for key, it in local.map : key => it if key == "x" }["x"]', "y"),
        ('[for index, it in local.list : "${it}${index}"][1]', "b1"),
        (
            'join("", [for a in local.list : join("", [for b in local.list : "${a}${b}"])])',
            "aaabbabb",
        ),
        ('{ (local.one) = "key" }.one', "key"),
        ("trimspace(<<-EOT\n    here\n  EOT\n  )", "here"),
    ],
)
def test_an_expression_is_worked_out(expression: str, name: str) -> None:
    """Operators, indexes, splats, conditions and loops over known values give their value."""
    found = imported(named(expression, more=_LOCALS))
    assert mesh_of(found).mesh.mesh_name == name
    assert "terraform-expression" not in codes_of(found)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ('format("%s-%03d-%%", "a", 7)', "a-007-%"),
        ('lower("ML")', "ml"),
        ('upper(title("ml"))', "ML"),
        ('replace("a_b", "_", "-")', "a-b"),
        ('concat(local.list, ["c"])[2]', "c"),
        ('merge(local.map, { x = "w" }).x', "w"),
        ('coalesce("", null, "c")', "c"),
        ('tonumber("3") + length(local.map)', "5"),
        ("tostring(80)", "80"),
        ('toset(["b", "a", "b"])[0]', "a"),
        ("element(local.list, 3)", "b"),
        ('lookup(local.map, "none", "else")', "else"),
        ('try(local.map.none, local.list[7], "last")', "last"),
        ('can(local.map.none) ? "a" : "b"', "b"),
        ("keys(local.map)[0]", "n"),
        ('flatten([["a"], [["b"]]])[1]', "b"),
        ('substr("abcdef", 1, 3)', "bcd"),
        ('split(",", "a,b")[1]', "b"),
        ('one([for it in local.list : it if it == "b"])', "b"),
        ('zipmap(["k"], ["v"]).k', "v"),
        ('max(1, 3) == 3 && contains(local.list, "a") ? "in" : "out"', "in"),
        ('concat([["x"], ["y"]]...)[1]', "y"),
        ('compact(["", "k"])[0]', "k"),
    ],
)
def test_a_function_is_worked_out(expression: str, name: str) -> None:
    """The functions that need only their arguments are those of Terraform's documentation."""
    text = named('"ml"').replace("}", f"  tags = {{ it = {expression} }}\n}}")
    found = imported(text + _LOCALS)
    assert mesh_of(found).tags == {"it": name}
    assert "terraform-expression" not in codes_of(found)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("var.name", "${var.name}"),
        ("data.aws_region.here.name", "${data.aws_region.here.name}"),
        ("aws_lb.front[0].dns_name", "${aws_lb.front.0.dns_name}"),
        ("terraform.workspace", "${terraform.workspace}"),
        ('"ml-${var.stage}"', "ml-${var.stage}"),
        ('join("-", ["ml", var.stage])', "ml-${var.stage}"),
        ('format("%s.local", var.stage)', "${var.stage}.local"),
        ("aws_appmesh_mesh.other.arn", "${aws_appmesh_mesh.other.arn}"),
        ("var.services.labels.name", "${var.services.labels.name}"),
    ],
)
def test_what_is_unknown_keeps_its_address(expression: str, name: str) -> None:
    """A reference without a value is a named unknown, in a text too, and asks for its value."""
    found = imported(named(expression))
    assert mesh_of(found).mesh.mesh_name == name
    assert codes_of(found) == ["unresolved-parameter"]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ('file("name.txt")', "the function file is not worked out"),
        ("lower(var.name)", "an argument of the function lower is not known"),
        ('var.on ? "a" : "b"', "its condition is not known"),
        ('"m${var.number + 1}"', "a number in it is not known"),
        ("local.missing", "there is no local.missing"),
        ('"%{ if true }a%{ endif }"', "a template directive, %{…}, is not worked out"),
        ("element([], 1)", "the function element does not take these arguments"),
        ('"m${1 / 0}"', "it divides by zero"),
        ('"m-${[1]}"', "a template takes a text, no list and no map"),
        ('format("%99999d", 1)', "the function format does not take these arguments"),
        ('"${[for a in range(1000) : [for b in range(1000) : a]][0][0]}"', "more than 20,000 rows"),
    ],
)
def test_what_cannot_be_worked_out_is_named_with_its_reason(expression: str, reason: str) -> None:
    """An expression beyond an import is a warning at its line, never a guess."""
    found = imported(named(expression))
    (warning,) = [it for it in found.findings if it.code == "terraform-expression"]
    assert reason in warning.what
    assert warning.where == "main.tf:2 aws_appmesh_mesh.this.name"


def test_what_was_not_worked_out_can_be_given_by_its_name() -> None:
    """The unknown's name is made of the expression's text, and taken by --param."""
    text = named('file("name.txt")')
    assert mesh_of(imported(text)).mesh.mesh_name == "${file-name.txt}"
    assert mesh_of(imported(text, **{"file-name.txt": "ml"})).mesh.mesh_name == "ml"


def test_long_expressions_that_differ_are_different_unknowns() -> None:
    """Two texts that begin alike are not taken for the same value."""
    long = f'file("{"x" * 200}%s")'
    one, other = (mesh_of(imported(named(long % it))).mesh.mesh_name for it in "ab")
    assert one != other


def test_an_attribute_of_another_block_is_what_is_written_there() -> None:
    """Terraform gives a written argument back, so a namespace's name is known without AWS."""
    more = 'resource "aws_service_discovery_http_namespace" "n" {\n  name = "ml"\n}\n'
    found = imported(named("aws_service_discovery_http_namespace.n.name", more=more))
    assert mesh_of(found).mesh.mesh_name == "ml"


def test_one_side_that_settles_a_condition_is_enough() -> None:
    """``false && unknown`` is false, ``unknown || true`` is true."""
    assert mesh_of(imported(named('false && var.x ? "a" : "b"'))).mesh.mesh_name == "b"
    assert mesh_of(imported(named('var.x || true ? "a" : "b"'))).mesh.mesh_name == "a"


def test_a_value_that_is_made_from_itself_is_an_error() -> None:
    """A circle of locals, or of a resource's own attribute, ends in a finding."""
    circle = "locals {\n  a = local.b\n  b = local.a\n}\n"
    assert "terraform-cycle" in codes_of(imported(named("local.a", more=circle)))
    assert "terraform-cycle" in codes_of(imported(named("aws_appmesh_mesh.this.name")))


def test_an_escaped_template_is_a_text() -> None:
    """``$${`` writes a dollar and a brace."""
    found = imported(named('"a"').replace("}", '  tags = { t = "$${x}%%{y}" }\n}'))
    assert mesh_of(found).tags == {"t": "${x}%{y}"}


def test_a_heredoc_keeps_its_last_line_end_and_loses_its_margin() -> None:
    """Terraform's <<- takes off the least indentation and keeps the line's end."""
    text = named('"a"').replace(
        "}", "  tags = { t = <<-EOT\n      a\n        ${local.x}\n    EOT\n  }\n}"
    )
    found = imported(text + 'locals {\n  x = "b"\n}\n')
    assert mesh_of(found).tags == {"t": "a\n  b\n"}


def test_the_place_of_a_value_is_where_the_resource_takes_it() -> None:
    """A refused default is reported at the line that uses it."""
    text = named("var.name", more='variable "name" {\n  default = "no/slash"\n}\n')
    found = imported(text)
    assert found.loaded is not None
    assert [it.where for it in found.loaded.findings] == ["main.tf:2 aws_appmesh_mesh.this.name"]
    assert where(found, "import-leftover") == []
