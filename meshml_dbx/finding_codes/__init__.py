"""The one table of finding codes: for each its number, title, severity and advice.

``meshml check --explain MESH017`` prints an entry with a small file that shows it. Numbers are
promises: they never change their meaning, and a code that goes leaves its number unused.
MESH001 to MESH099 are of the mesh file, from MESH100 of imports, from MESH200 of planes, from
MESH300 of drift.
"""

from meshml_dbx.finding_codes.code import Code, Severity
from meshml_dbx.finding_codes.drift import DRIFT
from meshml_dbx.finding_codes.imports import IMPORTS
from meshml_dbx.finding_codes.mesh_file import MESH_FILE
from meshml_dbx.finding_codes.planes import PLANES

__all__ = ["CODES", "Code", "Severity"]

CODES: dict[str, Code] = {**MESH_FILE, **IMPORTS, **PLANES, **DRIFT}
"""Every code by its name."""
