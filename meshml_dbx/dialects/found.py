"""What a dialect finds in its files: resources in our own shape, and what it had to leave.

One ``Resource`` is one create request of the App Mesh API, its spec in ``mesh.yml``'s field names,
with the names that tie it to others. ``Account`` collects findings and settles which scalars of the
input are accounted for. ``Parameters`` holds what was given for the input's blanks. A dialect is
one function, a ``Reader``: the trees of all its documents in, resources out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
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
    Table), ``role`` …. ``replaces``: an update, which takes the place of what was read before.
    """

    kind: Kind
    place: Place
    name: Scalar | None
    mesh: Scalar | None = None
    parent: Scalar | None = None
    spec: Table | None = None
    fields: tuple[tuple[str, Node], ...] = ()
    replaces: bool = False


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
        for source in sources_of(scalar) if scalar.origins else (scalar,):
            self.settled.add(id(source))
            self._kept.append(source)


@dataclass(slots=True)
class Parameters:
    """Values for the blanks of the input, as given; it remembers what was asked for in vain.

    ``account`` is the AWS account that the input was written for, ``AWS::AccountId`` to a template.

    >>> Parameters(given={"ENV": "dev"}).get("ENV")
    'dev'
    """

    given: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    used: set[str] = field(default_factory=set)
    unknown: dict[str, list[Place]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """The value given for a name; asking notes that the input knows the name."""
        self.used.add(name)
        if name == "AWS::AccountId" and name not in self.given:
            return self.account
        return self.given.get(name)

    def missing(self, name: str, place: Place) -> str:
        """The named unknown, ``${NAME}``, that stands in the mesh until its value is given.

        The import reports each name that reaches the mesh once, with the places that need it.
        """
        plain_name = re.sub(r"[^A-Za-z0-9_:.-]", "-", name)
        plain_name = plain_name if re.match(r"[A-Za-z_]", plain_name) else f"_{plain_name}"
        self.unknown.setdefault(plain_name, []).append(place)
        return f"${{{plain_name}}}"

    def unused(self) -> tuple[str, ...]:
        """Names that were given and that nothing in the input asked for."""
        return tuple(name for name in self.given if name not in self.used)


Reader = Callable[[Sequence[Table], Account, Parameters], tuple[Resource, ...]]
"""A dialect: all documents of all its files in, in the order given, as located trees.

``place.source`` of a tree names its file. What is wrong with a document goes to the account, with
a code of severity error where the definition cannot be read; a reader never raises.
"""
