"""Reading mesh.yml: text in, the Mesh and everything that is wrong with its form out.

``read_mesh`` takes a path, ``load_mesh`` a text, and ``load_tree`` a tree that other files were
turned into, whose findings name those files. All three walk the same classes of ``spec``.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import cast

import yaml

from meshml_dbx.errors import MeshMLError
from meshml_dbx.findings import Finding, finding
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.mesh.walk import Walk, Where, nearest
from meshml_dbx.mesh.yaml_text import RefusedTextError, compose_text, is_null

__all__ = ["LoadedMesh", "Where", "load_mesh", "load_tree", "read_mesh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedMesh:
    """A mesh as read: the mesh, unless its form is broken, and where all of it stands.

    >>> loaded = load_mesh("mesh: {meshName: ml}", source="mesh.yml")
    >>> loaded.where("mesh.meshName")
    'mesh.yml:1 mesh.meshName'
    """

    mesh: Mesh | None
    findings: tuple[Finding, ...]
    source: str
    text: str = field(repr=False)
    directory: Path | None
    lines: Mapping[str, int] = field(repr=False)
    places: Mapping[str, object] = field(default_factory=dict, repr=False)
    order: Mapping[str, int] = field(default_factory=dict, repr=False)

    def line_of(self, path: str) -> int | None:
        """The line, from 1, on which an element is written; None if the file does not write it."""
        return self.lines.get(path)

    def line_near(self, path: str) -> int:
        """The line of an element or, if it is not written, of what is written around it."""
        return self.lines.get(nearest(path, self.lines), 1)

    def rank_of(self, path: str) -> int:
        """Where an element stands among the others: by line, or as met in a tree of many files."""
        order = self.order or self.lines
        return order.get(nearest(path, order), 0)

    def where(self, path: str) -> str:
        """Source, line and path of an element, as findings show it; its original's in a tree."""
        if self.places:
            return str(self.places.get(nearest(path, self.places), self.source))
        return f"{self.source}:{self.line_near(path)} {path}".rstrip()


def read_mesh(path: Path) -> LoadedMesh:
    """The mesh file at a path; raises MeshMLError only when the file itself cannot be had."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MeshMLError(
            f"could not read the mesh file {path}: {error.strerror}", advice=_advice(path)
        ) from error
    try:
        return load_mesh(raw.decode("utf-8-sig"), source=str(path), directory=path.parent)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        text = raw.decode("utf-8", errors="replace")
        broken = finding(
            "mesh-file-not-yaml", where=f"{path}:{line}", what="this is not UTF-8 text"
        )
        return _unreadable(broken, source=str(path), text=text, directory=path.parent)


def load_mesh(text: str, *, source: str, directory: Path | None = None) -> LoadedMesh:
    """The mesh that a text declares; ``source`` names it in findings."""
    with collector_paused():
        return _load(text, source=source, directory=directory)


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for garbage meanwhile: a tree of a million nodes grows, and none of it is garbage.

    Else Python looks through all of it again and again; that was two thirds of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _age_everything()
            gc.enable()


def _age_everything() -> None:
    """Count what there is now as old, or else the next few objects cost a look through all."""
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()


def _load(text: str, *, source: str, directory: Path | None) -> LoadedMesh:
    try:
        root = compose_text(text)
    except RefusedTextError as error:
        broken = finding("mesh-file-not-yaml", where=f"{source}:{error.line}", what=str(error))
        return _unreadable(broken, source=source, text=text, directory=directory)
    if root is None or is_null(root):
        empty = finding("mesh-file-empty", where=f"{source}:1", what="nothing is declared")
        return _unreadable(empty, source=source, text=text, directory=directory)
    return _walked(Walk(source), root, text=text, directory=directory)


def load_tree(
    root: yaml.Node,
    *,
    source: str,
    where: Where,
    text: str = "",
    directory: Path | None = None,
) -> LoadedMesh:
    """The mesh that a tree in ``mesh.yml``'s form declares, made of what other files write.

    ``where`` tells of a node, a key or a value, where its original stands ("app.yaml:7 Mesh.Spec")
    and None for a node that was only made to hold others: a finding there, of the form or of a
    later check, then names what stands around it, and ``source`` if nothing does. The nodes need no
    marks.

    >>> root = yaml.compose("mesh: {meshName: '${M}'}")
    >>> loaded = load_tree(root, source="app", where=lambda node: "app.json:9 Name")
    >>> loaded.findings[0].where
    'app.json:9 Name'
    """
    return _walked(Walk(source, where), root, text=text, directory=directory)


def _walked(walk: Walk, root: yaml.Node, *, text: str, directory: Path | None) -> LoadedMesh:
    value = walk.read(Mesh, root, "", root)
    broken = walk.is_broken()
    return LoadedMesh(
        mesh=None if broken else cast("Mesh", value),
        findings=walk.findings(),
        source=walk.source,
        text=text,
        directory=directory,
        lines=MappingProxyType(walk.lines),
        places=MappingProxyType(walk.places),
        order=MappingProxyType(walk.order),
    )


def _advice(path: Path) -> str:
    if path.is_dir() and (path / "mesh.yml").is_file():
        return f"name the file: --mesh {path / 'mesh.yml'}"
    if path.exists():
        return "name a file that you may read with --mesh"
    return "name the file with --mesh, or start from the example in the README"


def _unreadable(found: Finding, *, source: str, text: str, directory: Path | None) -> LoadedMesh:
    return LoadedMesh(
        mesh=None,
        findings=(found,),
        source=source,
        text=text,
        directory=directory,
        lines=MappingProxyType({}),
    )
