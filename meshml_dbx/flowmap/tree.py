"""The picture as one narrow tree, top down: for a telephone or a small cell.

Goes in: a ``FlowMap``. Comes out: a ``Drawing``: clients, below them their virtual services, below
those each route → target. Pure.
"""

from collections.abc import Sequence
from itertools import groupby

from meshml_dbx.flowmap.drawing import (
    HEADER_HEIGHT,
    THINNEST_LINK,
    THINNEST_MARKED,
    Box,
    Curve,
    Drawing,
    box_of,
)
from meshml_dbx.flowmap.graph import FlowMap, Numbers, Path, side_by_side
from meshml_dbx.flowmap.words import left_out_text, name_of, story_of, trouble_parts, wait_text

WIDTH = 360.0
ROW_GAP, INDENT = 8.0, 18.0
LINK_SPREAD = 8.0
MOST_PATHS = 16


def lay_out_tree(flow: FlowMap, *, at_most: int = MOST_PATHS) -> Drawing:
    """One tree, top down: clients, their virtual services, and below each route → target."""
    kept = _first_paths(flow.paths, at_most)
    numbers = {stop.place: stop.numbers for stop in flow.stops}
    rows = _Rows(spread=_spread(kept))
    for client, of_client in groupby(side_by_side(kept), key=lambda path: path.places[0]):
        trunk = rows.add(0, name_of(client), numbers[client])
        for service, group in groupby(of_client, key=lambda path: path.places[1]):
            of_service = list(group)
            marked = any(path.marked for path in of_service if path.places[-1] == service)
            branch = rows.add(1, name_of(service), numbers[service], below=trunk, marked=marked)
            for path in of_service:
                if path.places[-1] == service:
                    continue
                name = f"{name_of(path.places[2])} → {name_of(path.places[3])}"
                rows.add(2, name, path.numbers, below=branch, marked=path.marked)
    left_out = flow.left_out + len(flow.paths) - len(kept)
    return Drawing(
        width=WIDTH,
        height=max(rows.bottom, HEADER_HEIGHT) + (22 if left_out else 0),
        boxes=tuple(rows.boxes),
        curves=tuple(sorted(rows.curves, key=lambda curve: curve.marked)),
        note=left_out_text(left_out),
    )


def _first_paths(paths: Sequence[Path], at_most: int) -> list[Path]:
    return [path for index, path in enumerate(paths) if index < at_most or path.marked]


def _spread(paths: Sequence[Path]) -> float:
    return LINK_SPREAD / max(1, *(path.numbers.calls for path in paths), 1)


class _Rows:
    """The tree's boxes and curves while rows are added one below the other."""

    def __init__(self, *, spread: float) -> None:
        self.spread = spread
        self.bottom = 2.0
        self.boxes: list[Box] = []
        self.curves: list[Curve] = []

    def add(
        self,
        depth: int,
        name: str,
        numbers: Numbers,
        *,
        below: Box | None = None,
        marked: bool = False,
    ) -> Box:
        """A row at that depth, tied to the box that it hangs below."""
        box = _row_box(depth, name, numbers, y=self.bottom, marked=marked)
        self.boxes.append(box)
        self.bottom += box.height + ROW_GAP
        if below is not None:
            self.curves += self._elbow(below, box, numbers)
        return box

    def _elbow(self, parent: Box, box: Box, numbers: Numbers) -> list[Curve]:
        """A thin rail down, and a branch as wide as the calls are many."""
        x, y = parent.x + INDENT / 2, box.y + box.height / 2
        thinnest = THINNEST_MARKED if box.marked else THINNEST_LINK
        branch = Curve(
            path=f"M{x:g} {y:g}H{box.x:g}",
            width=round(min(LINK_SPREAD, max(thinnest, self.spread * numbers.calls)), 2),
            title=box.title,
            marked=box.marked,
            waiting=not numbers.calls,
        )
        rail = f"M{x:g} {parent.y + parent.height:g}V{y:g}"
        return [Curve(path=rail, width=THINNEST_LINK), branch]


def _row_box(depth: int, name: str, numbers: Numbers, *, y: float, marked: bool) -> Box:
    x = 1 + depth * INDENT
    parts = [wait_text(numbers), *trouble_parts(numbers)]
    return box_of(
        name,
        x=x,
        y=y,
        width=WIDTH - x - 1,
        details=[["culprit", *parts] if marked else parts],
        title=story_of(name, numbers),
        marked=marked,
    )
