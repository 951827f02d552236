"""What the tests of Terraform share: texts that are imported as if they were files of a folder."""

from pathlib import Path

from meshml_dbx.dialects.import_files import Imported, Wanted, import_files
from meshml_dbx.dialects.sources import Source, read_sources
from meshml_dbx.mesh.spec import Mesh

EXAMPLES = Path(__file__).parent / "examples" / "terraform"
MESH = """
resource "aws_appmesh_mesh" "this" {
  name = "ml"
}
"""


def imported(files: dict[str, str] | str, **parameters: str) -> Imported:
    """What an import makes of these files, with these parameters."""
    texts = {"main.tf": files} if isinstance(files, str) else files
    sources = [Source(name=name, raw=text.encode(), named=True) for name, text in texts.items()]
    return import_files(sources, Wanted(parameters=parameters))


def imported_example(*paths: str) -> Imported:
    """What an import makes of these files of the examples."""
    return import_files(read_sources([str(EXAMPLES / path) for path in paths]), Wanted())


def mesh_of(found: Imported) -> Mesh:
    """The mesh that an import found."""
    assert found.mesh is not None, [str(it) for it in found.findings]
    return found.mesh


def codes_of(found: Imported) -> list[str]:
    """The codes of an import's findings, without what every import of App Mesh's says."""
    return [it.code for it in found.findings if it.code != "import-injected-defaults"]


def where(found: Imported, code: str) -> list[str]:
    """The places of the findings of one code."""
    return [it.where for it in found.findings if it.code == code]


def named(expression: str, *, more: str = "") -> str:
    """A mesh whose name is an expression."""
    return f'resource "aws_appmesh_mesh" "this" {{\n  name = {expression}\n}}\n{more}'
