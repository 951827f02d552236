"""What each way out would keep, approximate and drop of a mesh, for every part that it declares.

Goes in: a mesh. Comes out: one row for each part that a rule decides on, on each plane: self-run
Envoy, VPC Lattice, ECS Service Connect. A row stands for everything inside its part, and together
the rows of a plane cover every value of the mesh exactly once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import cast, get_args

from meshml_dbx.mesh.names import entry_keys
from meshml_dbx.mesh.shapes import camel, shape_of
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.fit_envoy import ENVOY
from meshml_dbx.planes.fit_lattice import LATTICE
from meshml_dbx.planes.fit_service_connect import SERVICE_CONNECT
from meshml_dbx.planes.fit_words import Plane, Rules, Ruling, Site, Verdict, World, kept

PLANES: tuple[Plane, ...] = get_args(Plane)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

TITLES: Mapping[Plane, str] = {
    "envoy": "self-run Envoy",
    "lattice": "VPC Lattice",
    "service-connect": "ECS Service Connect",
}
NOTES: Mapping[Plane, str] = {
    "envoy": "App Mesh's own image also sent X-Ray traces and its metrics extension's counts, "
    "switched on by its environment and by no field of a mesh: those end with that image",
    "lattice": "a Databricks job is a plain caller: from a VPC that is associated with the service "
    "network, each request signed with SigV4 (service vpc-lattice-svcs, payload unsigned); a "
    "connection ends after 10 minutes, and WebSocket is not carried",
    "service-connect": "a Databricks job is never inside Service Connect, whose members are ECS "
    "tasks: it is a plain client from outside, by a load balancer or by VPC Lattice",
}
"""What is true of a plane whatever the mesh says."""

_RULES: Mapping[Plane, Rules] = {
    "envoy": ENVOY,
    "lattice": LATTICE,
    "service-connect": SERVICE_CONNECT,
}
_EMPTY = kept("it declares nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What one plane makes of one part of a mesh.

    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> fit(Mesh(mesh=MeshHead(mesh_name="ml")), ("envoy",))[0].path
    'mesh.meshName'
    """

    path: str
    plane: Plane
    verdict: Verdict
    topic: str
    why: str
    advice: str


def fit(mesh: Mesh, planes: Sequence[Plane] = PLANES) -> tuple[Fit, ...]:
    """The rows of these planes, each plane's in the order of the mesh's fields."""
    world = World(mesh)
    rows: list[Fit] = []
    for plane in planes:
        for path, ruling in _rulings(Site(mesh, "", world), _RULES[plane], plane):
            rows.append(
                Fit(
                    path=path,
                    plane=plane,
                    verdict=ruling.verdict,
                    topic=ruling.topic,
                    why=ruling.why,
                    advice=ruling.advice,
                )
            )
    return tuple(rows)


def _rulings(
    site: Site, rules: Rules, plane: str, field_key: tuple[type, str] | None = None
) -> Iterator[tuple[str, Ruling]]:
    ruling = _ruling(site, rules, field_key)
    if ruling:
        yield site.path, ruling
        return
    inside = list(_parts(site))
    if not inside and is_dataclass(site.value):
        yield site.path, _EMPTY
    elif not inside:
        raise LookupError(f"{plane} has no rule for {field_key}, which is at {site.path}")
    for part, key in inside:
        yield from _rulings(part, rules, plane, key)


def _ruling(site: Site, rules: Rules, field_key: tuple[type, str] | None) -> Ruling | None:
    for key in (field_key, type(site.value)):
        rule = rules.get(key) if key else None
        ruling = rule(site) if callable(rule) else rule
        if ruling:
            return ruling
    return None


def _parts(site: Site) -> Iterator[tuple[Site, tuple[type, str] | None]]:
    """What is inside, as far as the mesh says anything: fields of an object, entries of a list."""
    value, around = site.value, (*site.around, site.value)
    if isinstance(value, tuple):
        for key, entry in zip(entry_keys(_names(value)), value, strict=True):
            yield Site(entry, f"{site.path}[{key}]", site.world, around), None
    elif is_dataclass(value):
        for one in fields(value):
            part = getattr(value, one.name)
            if part not in (None, (), {}):
                name = camel(one.name)
                path = f"{site.path}.{name}" if site.path else name
                yield Site(part, path, site.world, around), (type(value), one.name)


def _names(entries: Sequence[object]) -> list[str | None]:
    return [_name(entry) for entry in entries]


def _name(entry: object) -> str | None:
    if not is_dataclass(entry):
        return None
    shape = shape_of(cast("type", type(entry)))
    if shape.name_field is None:
        return None
    return cast("str | None", getattr(entry, shape.attributes[shape.name_field]))


# --- in sum -----------------------------------------------------------------------------------


def count(rows: Sequence[Fit], plane: Plane) -> Mapping[Verdict, int]:
    """How many rows of a plane there are of each verdict."""
    found = Counter(row.verdict for row in rows if row.plane == plane)
    return {verdict: found[verdict] for verdict in VERDICTS}


def topics(rows: Sequence[Fit], plane: Plane, verdict: Verdict) -> Mapping[str, int]:
    """What a verdict is about on a plane, and how often, the most frequent first."""
    found = Counter(row.topic for row in rows if row.plane == plane and row.verdict == verdict)
    return dict(found.most_common())
