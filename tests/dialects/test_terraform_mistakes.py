"""Terraform files with mistakes: a finding with its line, no crash, no hang."""

import random
import time

import pytest

from meshml_dbx.dialects.hcl import read_hcl
from meshml_dbx.dialects.tree import UnreadableError
from tests.dialects.terraform_files import EXAMPLES, MESH, codes_of, imported, mesh_of, named


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n\na = 1 2\n", 3),
        ("a = ", 1),
        ('resource "x" "y" {\n  a = 1\n', 2),
        ('a = "x', 1),
        ("\na = [1,,2]", 2),
        ("\na = <<EOT\nx\n", 2),
        ("a = <<EOT\n" + "\n" * 50_000, 1),
        ("a = " + "[" * 3_000 + "]" * 3_000, 1),
        ("a = <<EOT\n${1 +}\nEOT\n", 1),
        ("a = <<EOT\n${x\nEOT\n", 1),
        ("{", 1),
        ('{"format": 1}', 1),
    ],
)
def test_text_that_is_no_hcl_is_refused_with_its_line(text: str, line: int) -> None:
    """A broken file is an error of the import at the line where the parser stopped."""
    with pytest.raises(UnreadableError) as refused:
        read_hcl(text, "main.tf")
    assert refused.value.line == line


def test_a_broken_file_does_not_keep_others_from_being_read() -> None:
    """One file's mistake is one finding; the mesh of the other files is there."""
    found = imported({"a.tf": "resource {", "b.tf": MESH})
    assert codes_of(found) == ["import-unreadable"]
    assert mesh_of(found).mesh.mesh_name == "ml"


def test_a_template_that_is_no_hcl_in_terraforms_json_is_an_error() -> None:
    """A text of Terraform's JSON is a template, and its mistakes are Terraform's."""
    text = '{"resource": {"aws_appmesh_mesh": {"this": {"name": "${1 +}"}}}}'
    assert "terraform-template" in codes_of(imported({"main.tf.json": text}))


@pytest.mark.parametrize(
    "text",
    [
        "resource {\n  name = 1\n}\n",
        'resource "aws_appmesh_mesh" {\n  name = "a"\n}\n',
        'resource "aws_appmesh_mesh" "a" "b" {\n  name = "a"\n}\n',
        "variable {\n  default = 1\n}\n",
        "locals = 1\n",
        'module "m" {\n}\n',
    ],
)
def test_a_block_with_wrong_labels_does_not_end_the_import(text: str) -> None:
    """What Terraform itself would refuse is told, and the mesh beside it is read."""
    found = imported(MESH + text)
    assert found.loaded is not None
    assert codes_of(found)


def test_a_file_of_more_characters_than_are_read_is_refused() -> None:
    """A file that would take minutes is refused at once."""
    with pytest.raises(UnreadableError, match="split the file"):
        read_hcl("#" + "x" * 5_000_000, "main.tf")


def test_a_long_file_keeps_its_lines_and_its_oddities() -> None:
    """A file is read in pieces; lines count on, and a brace inside a heredoc ends no block."""
    odd = "locals {\n  json = <<EOT\n{\n}\nEOT\n}\n"
    text = f"{odd}# {'x' * 60_000}\n" + odd.replace("json", "more") + MESH.replace("ml", "a/b")
    found = imported(text)
    assert found.loaded is not None
    line = text[: text.index("a/b")].count("\n") + 1
    assert [it.where for it in found.loaded.findings] == [
        f"main.tf:{line} aws_appmesh_mesh.this.name"
    ]


def test_a_block_that_is_written_twice_is_an_error() -> None:
    """Where App Mesh takes one, the second is named and the first kept."""
    text = MESH.replace("}\n", "  spec {\n  }\n  spec {\n  }\n}\n")
    text = text.replace(
        "spec {\n  }", 'spec {\n    egress_filter {\n      type = "ALLOW_ALL"\n    }\n  }'
    )
    found = imported(text)
    assert codes_of(found) == ["terraform-block"]
    assert mesh_of(found).mesh.spec.egress_filter.type == "ALLOW_ALL"


@pytest.mark.parametrize(
    "text",
    [
        named(
            "local.x29",
            more='locals {\n  x0 = "aaaaaaaaaa"\n'
            + "".join(f'  x{n + 1} = "${{local.x{n}}}${{local.x{n}}}"\n' for n in range(29))
            + "}\n",
        ),
        named(
            "local.x29[0]",
            more="locals {\n  x0 = [1]\n"
            + "".join(f"  x{n + 1} = [local.x{n}, local.x{n}]\n" for n in range(29))
            + "}\n",
        ),
        named(
            "local.x29[0]",
            more="locals {\n  x0 = [1]\n"
            + "".join(f"  x{n + 1} = concat(local.x{n}, local.x{n})\n" for n in range(29))
            + "}\n",
        ),
        named('"a"').replace("name", "count = 999999999\n  name"),
        named("1" + " + 1" * 3_000),
        named("!" * 200 + "true"),
    ],
    ids=["texts", "lists", "concat", "count", "sum", "nots"],
)
def test_what_would_grow_without_end_is_bounded(text: str) -> None:
    """Doubling texts and lists, endless counts and deep sums take no time and are said."""
    begin = time.monotonic()
    found = imported(text)
    assert time.monotonic() - begin < 5
    bounded = {"terraform-expression", "terraform-repeat", "import-unreadable"}
    assert bounded & set(codes_of(found)) or found.mesh is None


@pytest.mark.parametrize("example", ["whole/mesh.tf", "variables/mesh.tf", "show/plan.json"])
def test_mutated_examples_are_read_or_refused(example: str) -> None:
    """Cut, doubled and overwritten copies of the examples never raise, and take no time."""
    text = (EXAMPLES / example).read_text()
    dice = random.Random(2612)
    for _ in range(40):
        begin, end = sorted(dice.sample(range(len(text)), 2))
        end = min(end, begin + 60)
        piece = dice.choice(
            ["", text[begin:end] * 2, "}", "{", '"', "${", "= null\n", "[", "<<EOT\n"]
        )
        start = time.monotonic()
        imported({example: text[:begin] + piece + text[end:]})
        assert time.monotonic() - start < 5


def test_a_file_of_many_resources_is_read_in_time_that_grows_with_its_length() -> None:
    """Four times the routes take about four times as long, not sixteen times."""
    route = """
resource "aws_appmesh_route" "r%d" {
  name                = "route-%d"
  mesh_name           = aws_appmesh_mesh.this.name
  virtual_router_name = "router"
  spec {
    tcp_route {
      action {
        weighted_target {
          virtual_node = "node"
          weight       = 1
        }
      }
    }
  }
}
"""

    def seconds(number: int) -> float:
        text = MESH + "".join(route % (index, index) for index in range(number))
        begin = time.process_time()
        assert imported(text).definitions["route"] == number
        return time.process_time() - begin

    seconds(10)
    assert seconds(400) < 8 * seconds(100)
