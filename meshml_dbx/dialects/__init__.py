"""Text of someone else's mesh becomes a Mesh: App Mesh's definitions in five dialects.

Files go in; the mesh in our own form, with every leaf of the input accounted for, comes out. What
could not be carried over is a finding, never silence.

    paths → sources → located trees → dialects → resources → one document → Mesh
            sources   read            detect, each dialect   assemble       to_mesh
"""

from meshml_dbx.dialects.detect import DIALECTS, Dialect
from meshml_dbx.dialects.found import Kind
from meshml_dbx.dialects.import_files import Imported, ImportedFile, Wanted, import_files
from meshml_dbx.dialects.names_file import NamesFile, read_names
from meshml_dbx.dialects.sources import Source, read_sources

__all__ = [
    "DIALECTS",
    "Dialect",
    "Imported",
    "ImportedFile",
    "Kind",
    "NamesFile",
    "Source",
    "Wanted",
    "import_files",
    "read_names",
    "read_sources",
]
