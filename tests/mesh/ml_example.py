"""The example mesh of these tests, and variants of it with one text changed."""

from pathlib import Path

from meshml_dbx.mesh.load import LoadedMesh, load_mesh
from meshml_dbx.mesh.spec import Mesh

EXAMPLE = Path(__file__).parent / "examples" / "ml.yml"
EVERY_FIELD = EXAMPLE.with_name("every-field.yml")


def example_mesh() -> Mesh:
    """The example as a value."""
    return mesh_of(EXAMPLE.read_text(encoding="utf-8"))


def mesh_of(text: str) -> Mesh:
    """The mesh that a text declares; the text must be right."""
    loaded = load_mesh(text, source="mesh.yml")
    assert loaded.mesh is not None, "\n".join(map(str, loaded.findings))
    return loaded.mesh


def changed(old: str, new: str, *, occurrence: int = 1) -> str:
    """The example's text with one occurrence of ``old`` replaced; it must be there."""
    text = EXAMPLE.read_text(encoding="utf-8")
    parts = text.split(old)
    assert len(parts) > occurrence, f"the example holds {old!r} {len(parts) - 1} times"
    return old.join(parts[:occurrence]) + new + old.join(parts[occurrence:])


def load_changed(old: str, new: str, *, occurrence: int = 1) -> LoadedMesh:
    """The example with one occurrence of ``old`` replaced, as loaded."""
    return load_mesh(changed(old, new, occurrence=occurrence), source="mesh.yml")


def line_with(text: str, needle: str, *, occurrence: int = 1) -> int:
    """The line, from 1, on which the needle occurs for that time."""
    lines = [number for number, line in enumerate(text.split("\n"), 1) if needle in line]
    return lines[occurrence - 1]
