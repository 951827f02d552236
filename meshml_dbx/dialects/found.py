"""What a dialect finds in its files: resources in our own shape, and what it had to leave.

One ``Resource`` is one create request of the App Mesh API, its spec in ``mesh.yml``'s field names,
with the names that tie it to others. ``Account`` collects findings and settles which scalars of the
input are accounted for.
"""

from dataclasses import dataclass, field
from typing import Literal

from meshml_dbx.dialects.tree import Node, Place, Scalar, Table, scalars, sources_of
from meshml_dbx.findings import Finding, finding

Kind = Literal[
    "mesh",
    "virtualNode",
    "virtualService",
    "virtualRouter",
    "route",
    "virtualGateway",
    "gatewayRoute",
    "backendGroup",
    "client",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One definition as a dialect read it.

    ``name`` is the resource's own name; ``parent`` the virtual router of a route or the virtual
    gateway of a gateway route; ``mesh`` the mesh it belongs to (of a mesh: None). Each is a Scalar,
    so that it keeps its place. ``spec`` is in the field names of ``mesh.yml``. ``fields`` are
    further fields beside ``spec`` that the entry has in ``mesh.yml``: ``meshOwner``, ``tags`` (a
    Table), ``role`` ….
    """

    kind: Kind
    place: Place
    name: Scalar | None
    mesh: Scalar | None = None
    parent: Scalar | None = None
    spec: Table | None = None
    fields: tuple[tuple[str, Node], ...] = ()


@dataclass(slots=True)
class Account:
    """The findings of an import, and the scalars that are carried over or named in one."""

    findings: list[Finding] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    _kept: list[Scalar] = field(default_factory=list)  # ids stay theirs while the objects live

    def use(self, *nodes: Node | None) -> None:
        """Note that these scalars shaped the mesh without being a value in it, as a kind does."""
        for node in nodes:
            for scalar in scalars(node) if node else ():
                self._settle(scalar)

    def leave(self, code: str, node: Node | Place, what: str, *, advice: str = "") -> None:
        """Report what could not be carried over; everything below it is named by the finding."""
        place = node if isinstance(node, Place) else node.place
        self.findings.append(finding(code, where=str(place), what=what, advice=advice))
        if not isinstance(node, Place):
            self.use(node)

    def report(self, code: str, place: Place, what: str, *, advice: str = "") -> None:
        """Report something worth knowing of what was carried over."""
        self.findings.append(finding(code, where=str(place), what=what, advice=advice))

    def is_settled(self, scalar: Scalar) -> bool:
        """Whether a scalar of the input is accounted for."""
        return id(scalar) in self.settled

    def _settle(self, scalar: Scalar) -> None:
        for source in sources_of(scalar):
            self.settled.add(id(source))
            self._kept.append(source)
