"""The words of ``fit``: a ruling on a part of a mesh, and what a rule is told of that part.

A rule is a ruling, or a function that looks at the part and its surroundings; it rules, or leaves
it to the rules of what is inside.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from meshml_dbx.mesh.names import Index, index
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.lattice_doors import MOST_LISTENERS, Door, Doors
from meshml_dbx.planes.lattice_doors import Rule as LatticeRule

Plane = Literal["envoy", "lattice", "service-connect"]
Verdict = Literal["kept", "approximated", "dropped"]

_Near = TypeVar("_Near")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a plane makes of a part of a mesh, why, and what to do where it is dropped.

    ``topic`` names what is lost in a word, for a summary.
    """

    verdict: Verdict
    why: str
    topic: str = ""
    advice: str = ""


def kept(why: str = "") -> Ruling:
    """It does on the plane what it does in App Mesh."""
    return Ruling(verdict="kept", why=why)


def approximated(topic: str, why: str, advice: str = "") -> Ruling:
    """It does something near."""
    return Ruling(verdict="approximated", topic=topic, why=why, advice=advice)


def dropped(topic: str, why: str, advice: str) -> Ruling:
    """It does nothing; the advice says how to go on without."""
    return Ruling(verdict="dropped", topic=topic, why=why, advice=advice)


class World:
    """What rules ask about the whole mesh; each answer is made once."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.doors = Doors(mesh)
        self._rules: dict[str, Mapping[int, tuple[LatticeRule, int]]] = {}

    @property
    def names(self) -> Index:
        """Everything by its name."""
        return index(self.mesh)

    @cached_property
    def router_services(self) -> Mapping[str, tuple[str, ...]]:
        """The virtual services that each router provides."""
        found: dict[str, list[str]] = {}
        for service in self.mesh.virtual_services:
            provider = service.spec.provider
            if provider and provider.virtual_router:
                router = provider.virtual_router.virtual_router_name
                found.setdefault(router, []).append(service.virtual_service_name)
        return {router: tuple(names) for router, names in found.items()}

    @cached_property
    def reached(self) -> Set[tuple[str, int]]:
        """The nodes and ports that the doors of some virtual service lead to."""
        return {
            (share.virtual_node, share.listener.port_mapping.port)
            for service in self.mesh.virtual_services
            for door in self.service_doors(service.virtual_service_name)
            for share in door.targets
            if share.listener
        }

    def service_doors(self, name: str) -> tuple[Door, ...]:
        """The doors of a virtual service that VPC Lattice would have."""
        service = self.names.services.get(name)
        return _usable(self.doors.of_service(service)) if service else ()

    def rules_of(self, router: str) -> Mapping[int, tuple[LatticeRule, int]]:
        """Each route's rule by the route object's id, and its place among those that are made."""
        if router not in self._rules:
            found: dict[int, tuple[LatticeRule, int]] = {}
            for door in _usable(self.doors.of_router(router)):
                made = 0
                for rule in door.rules:
                    found.setdefault(id(rule.route), (rule, made))
                    made += not rule.gaps
            self._rules[router] = found
        return self._rules[router]


def _usable(doors: tuple[Door, ...]) -> tuple[Door, ...]:
    """The doors that a Lattice service can have: two for requests, the others for connections."""
    requests = [door for door in doors if door.protocol != "TCP"][:MOST_LISTENERS]
    return (*requests, *(door for door in doors if door.protocol == "TCP"))


@dataclass(frozen=True, slots=True)
class Site:
    """A part of a mesh, where it stands and what is around it, from the mesh inwards."""

    value: object
    path: str
    world: World
    around: tuple[object, ...] = field(default=())

    def near(self, kind: type[_Near]) -> _Near | None:
        """The innermost thing of a kind around this part, or itself."""
        for one in (self.value, *reversed(self.around)):
            if isinstance(one, kind):
                return one
        return None


Rule = Ruling | Callable[[Site], Ruling | None]
Rules = Mapping[type | tuple[type, str], Rule]
"""Rules by a class of ``spec``, or by a class and a field of it."""
