"""``fit`` as people and programs read it: what decides, one table over the planes, every row.

Goes in: a mesh file as read. Comes out: the report that ``meshml fit`` prints as a table or JSON.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import mesh_version
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.fit import NOTES, PLANES, TITLES, Fit, count, fit, topics
from meshml_dbx.planes.fit_words import Plane

_TOPICS_SHOWN = 5
_STEPS = re.compile(r"[.\[]")
_DOTS = re.compile(r"(?=\.)")
_PLACE_WIDTH = 40  # characters: three planes fit beside it in a terminal of 160
_Told = tuple[str, str, str, str]  # verdict, topic, why, advice


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What some planes make of a mesh file.

    >>> from meshml_dbx.mesh.load import load_mesh
    >>> loaded = load_mesh("mesh: {meshName: ml}", source="mesh.yml")
    >>> fit_report(loaded, loaded.mesh, ("lattice",)).summary()[0]
    'VPC Lattice: 2 kept, 0 approximated, 1 dropped: the egress filter'
    """

    loaded: LoadedMesh
    mesh: Mesh
    planes: tuple[Plane, ...]
    rows: tuple[Fit, ...]

    def summary(self) -> tuple[str, ...]:
        """Two lines for each plane: its counts with what decides, and what is true of it anyway."""
        return tuple(line for plane in self.planes for line in _summary(self.rows, plane))

    def headings(self) -> tuple[str, ...]:
        """The columns of the table: the place in the mesh file, then each plane."""
        return ("where", *(TITLES[plane] for plane in self.planes))

    def grouped_rows(self) -> tuple[tuple[str, ...], ...]:
        """What some plane does not keep: one row for the same reasons, in the file's order."""
        found: dict[tuple[_Told, ...], list[str]] = {}
        for path, fits in self._parts():
            if any(one.verdict != "kept" for one in fits):
                key = tuple((one.verdict, one.topic, one.why, one.advice) for one in fits)
                found.setdefault(key, []).append(path)
        seen: set[tuple[int, _Told]] = set()
        return tuple(
            (self._shown(paths), *(_cell_once(seen, at, told) for at, told in enumerate(key)))
            for key, paths in found.items()
        )

    def every_row(self) -> tuple[tuple[str, ...], ...]:
        """Every part of the mesh, kept ones too, in the file's order."""
        return tuple(
            (
                self._shown([path]),
                *(_cell((one.verdict, one.topic, one.why, one.advice)) for one in fits),
            )
            for path, fits in self._parts()
        )

    def to_json(self) -> dict[str, object]:
        """The report as ``meshml fit --json`` prints it.

        ``planes``: for each its name and title, how many rows there are of each verdict, topics
        with their counts, and a note. ``fits``: every row, what is kept too; its ``path`` covers
        all that is inside it; ``line`` is null where the mesh file does not write it.
        """
        return {
            "mesh": self.mesh.mesh.mesh_name,
            "mesh_version": mesh_version(self.mesh),
            "planes": [_plane_json(self.rows, plane) for plane in self.planes],
            "fits": [
                {
                    "path": row.path,
                    "line": self.loaded.line_of(row.path),
                    "where": self.loaded.where(row.path),
                    "plane": row.plane,
                    "verdict": row.verdict,
                    "topic": row.topic,
                    "why": row.why,
                    "advice": row.advice,
                }
                for row in self.rows
            ],
        }

    def _parts(self) -> list[tuple[str, tuple[Fit, ...]]]:
        """The smallest parts that any plane rules on, each with what all planes make of it."""
        ruled = {(row.plane, row.path): row for row in self.rows}
        paths = dict.fromkeys(row.path for row in self.rows)
        around = {out for path in paths for out in _outwards(path) if out != path}
        smallest = [path for path in paths if path not in around]
        smallest.sort(key=self.loaded.rank_of)
        return [
            (path, tuple(_ruling_on(path, plane, ruled) for plane in self.planes))
            for path in smallest
        ]

    def _shown(self, paths: Sequence[str]) -> str:
        first = paths[0]
        line = self.loaded.line_of(first)
        place = _folded(f"{line}: {first}" if line else f"{first} (by default)")
        return f"{place}\nand {len(paths) - 1} more" if len(paths) > 1 else place


def fit_report(loaded: LoadedMesh, mesh: Mesh, planes: Sequence[str] = ()) -> FitReport:
    """The report on a mesh file, over these planes or all; UnknownNameError for another."""
    for plane in planes:
        if plane not in PLANES:
            raise UnknownNameError(
                f"there is no plane {plane}", advice=f"use one of {', '.join(PLANES)}"
            )
    chosen = tuple(plane for plane in PLANES if not planes or plane in planes)
    return FitReport(loaded=loaded, mesh=mesh, planes=chosen, rows=fit(mesh, chosen))


def _ruling_on(path: str, plane: Plane, ruled: Mapping[tuple[Plane, str], Fit]) -> Fit:
    return next(ruled[plane, out] for out in _outwards(path) if (plane, out) in ruled)


def _outwards(path: str) -> Iterator[str]:
    """A path and the paths around it; what a dot in a name makes of them is nobody's path."""
    yield path
    for step in _STEPS.finditer(path):
        yield path[: step.start()]


def _folded(place: str) -> str:
    """A place over as many lines as its length asks for, none of them broken inside a name."""
    lines = [""]
    for step in _DOTS.split(place):
        if lines[-1].strip() and len(lines[-1]) + len(step) > _PLACE_WIDTH:
            lines.append("  ")
        lines[-1] += step
    return "\n".join(lines)


def _cell_once(seen: set[tuple[int, _Told]], column: int, told: _Told) -> str:
    """A cell that tells its reasons in full where its column has not told them before."""
    verdict, topic, _, _ = told
    if topic and (column, told) in seen:
        return f"{verdict} ({topic}), as above"
    seen.add((column, told))
    return _cell(told)


def _cell(told: _Told) -> str:
    verdict, topic, why, advice = told
    head = f"{verdict} ({topic})" if topic else verdict
    text = f"{head}: {why}" if why else head
    return f"{text}\n→ {advice}" if advice else text


def _summary(rows: Sequence[Fit], plane: Plane) -> tuple[str, str]:
    counts = count(rows, plane)
    counted = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    lost = [_counted(topic, number) for topic, number in topics(rows, plane, "dropped").items()]
    more = f" and {len(lost) - _TOPICS_SHOWN} more" if len(lost) > _TOPICS_SHOWN else ""
    what = f": {', '.join(lost[:_TOPICS_SHOWN])}{more}" if lost else ""
    return f"{TITLES[plane]}: {counted}{what}", f"    {NOTES[plane]}"


def _counted(topic: str, number: int) -> str:
    return topic if number == 1 else f"{topic} ({number})"


def _plane_json(rows: Sequence[Fit], plane: Plane) -> dict[str, object]:
    return {
        "plane": plane,
        "title": TITLES[plane],
        "counts": dict(count(rows, plane)),
        "dropped": dict(topics(rows, plane, "dropped")),
        "approximated": dict(topics(rows, plane, "approximated")),
        "note": NOTES[plane],
    }
